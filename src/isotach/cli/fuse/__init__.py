"""`isotach fuse`: the namespace as a folder, mounted, unmounted and listed from the command line."""
