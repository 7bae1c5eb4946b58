"""Ordered key-value stores: one small interface, LMDB for real, a sorted dictionary for tests."""
