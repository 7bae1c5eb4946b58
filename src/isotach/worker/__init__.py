"""The worker: serves one node's cache to clients, fills it from under storages, and takes writes in."""
