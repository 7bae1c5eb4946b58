"""The soak: many clients against a reference model while processes and stores die. `main` in `run.py`, `make soak`.

Owns: the clients, the model, the faults and the final comparison. Never: imports pytest; it is a program of its own.
"""
