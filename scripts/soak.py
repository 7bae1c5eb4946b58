"""`make soak`: the system tests, over and over, until the time is up or one fails.

Owns: the clock and the loop. Never: tests anything itself.
"""

import argparse
import subprocess
import sys
import time


def main() -> int:
    """Parses the arguments and loops; returns the exit code of the first failing round, else 0."""
    parser = argparse.ArgumentParser(description="Repeats the system tests")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30)")
    parser.add_argument("tests", nargs="*", default=["tests/t5_system"], help="what to repeat (tests/t5_system)")
    options = parser.parse_args()
    end = time.monotonic() + options.minutes * 60
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        code = subprocess.run([sys.executable, "-m", "pytest", "-q", *options.tests], check=False).returncode
        if code != 0:
            print(f"round {rounds} failed")
            return code
    print(f"{rounds} rounds, none failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
