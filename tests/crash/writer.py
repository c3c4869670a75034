"""A process that writes until it is killed: ``python -m crash.writer FOLDER SEED``.

It prints ``b`` when a write begins and ``a`` when the call has returned.
"""

from __future__ import annotations

import os
import sys

import numpy as np
from crash.history import apply_to_memory, draw

from recollect import Memory


def main(folder: str, seed: str) -> None:
    rng = np.random.default_rng(int(seed))
    with Memory.open(folder, timeout=10) as memory:
        while True:
            banned = [row.id for row in memory.no_return()]
            write = draw(
                rng, memory.ids.tolist(), memory.version, memory.versions()[0].version, banned
            )
            os.write(1, b"b")
            apply_to_memory(write, memory)
            os.write(1, b"a")


if __name__ == "__main__":
    main(*sys.argv[1:])
