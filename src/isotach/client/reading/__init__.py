"""Reading files: from a passed descriptor where there is one, else through the worker's socket.

Owns: opening a version at the best worker, the file objects, whole reads, views. Never: talks to an under storage or
keeps a cache of its own.
"""
