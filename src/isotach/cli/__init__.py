"""The command line `isotach`: one file per command or small family of commands.

Owns: what people type and what they see. Never: computes; every answer comes from the client, `conf`, `run` or `bench`.
Commands import what they need when they run, so that `--help` and shell completion start at once.
"""
