"""Tests of the master: services over real stores and sockets."""
