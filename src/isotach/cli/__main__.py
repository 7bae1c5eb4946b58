"""`python -m isotach.cli`: the same as `isotach`, for processes that start another of themselves.

Owns: nothing. Never: does anything but call `main.run`.
"""

import sys

from isotach.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
