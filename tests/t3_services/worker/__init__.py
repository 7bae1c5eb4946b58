"""Tests of the worker: real sockets, real stores underneath, and a master that only answers what it is told to."""
