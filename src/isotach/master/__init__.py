"""The master: one writer over the namespace, its mounts, workers and policies. Never imports worker or client."""
