"""What the kernel wants of a mount: the device, backing files, notifications, mounting and unmounting, what it can do."""
