"""The noise of the tiering benchmark: a process that writes files as fast as it can until it is terminated.

Owns: the loop. Started by `tiering`; prints a line once it writes. Never: measures.
"""

import sys
from itertools import cycle

import isotach
from isotach.base.limits import MIB

_FILE_BYTES = 16 * MIB


def fill(address: str, total_bytes: int) -> None:
    """Rewrites files that make up `total_bytes`, one after the other, round and round."""
    data = memoryview(bytearray(MIB))
    with isotach.connect(address) as fs:
        for number in cycle(range(max(total_bytes // _FILE_BYTES, 1))):
            with fs.open(f"/noise/{number}", "wb", write_type="MUST_CACHE") as target:
                for _ in range(_FILE_BYTES // MIB):
                    target.write(data)
            if number == 0:
                print("writing", flush=True)


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]))
