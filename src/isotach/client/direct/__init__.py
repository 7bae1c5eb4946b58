"""Hot reads without a call: a trusted process of the server's host looks into the server's own files.

Owns: the conditions under which that is sound. Never: writes anything there, or fails: whatever it cannot answer for
certain goes the ordinary way, through the servers.
"""
