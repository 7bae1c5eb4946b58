"""The rules of the namespace, as pure functions over a `View`: no clock, no I/O, no loop."""
