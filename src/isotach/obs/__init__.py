"""Observability: structured logs and metrics.

Owns: the form of log lines, the catalogue of metrics and how both leave the process. Never: decides anything.
"""
