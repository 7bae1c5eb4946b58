"""The commands of `isotach fs`: one file each, or one per small family.

Owns: their arguments and how their results are shown. Never: talks to a server but through the client's public methods.
"""
