"""Jobs of the master: long work that outlives its caller and the master's own restart.

Owns: nothing here; see `service`. Never: moves file bytes: workers do.
"""
