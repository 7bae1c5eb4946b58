"""Tests of the block store, each against real folders and a real index: what it keeps, drops and finds again."""
