"""The network: the only layer that owns sockets. Drives the pure sessions of `wire`, and retries what is safe."""
