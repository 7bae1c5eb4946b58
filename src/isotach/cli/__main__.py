"""`python -m isotach.cli`: the same as `isotach`."""

import sys

from isotach.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
