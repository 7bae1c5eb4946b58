"""Copying between the namespace and local files: the one thing that the command line does rather than asks for.

Owns: what is copied where (`plan`), how bytes go (`copying`), how many at once (`engine`). Never: prints.
"""
