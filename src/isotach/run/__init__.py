"""Composition: the mains of every process, and the standalone cluster. The only readers of environment and argv."""
