"""Conformance suites: one per interface, run by every implementation of it, real, wrapped or in memory."""
