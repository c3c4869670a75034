"""Answer images from exported arrays; copy this file anywhere, it needs NumPy alone.

python standalone.py table.npz images.npy
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def load(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read exported arrays; nothing in them can run."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def predict(arrays: dict[str, NDArray[Any]], images: NDArray[Any]) -> list[Any]:
    """Return the label of each image ``(n, side, side)``.

    The same answers, to the last tie, as the classifier that exported the arrays.
    """
    classes = json.loads(str(arrays["classes"]))
    return [classes[_one(arrays, image)] for image in images]


def _one(arrays: dict[str, NDArray[Any]], image: NDArray[Any]) -> int:
    side, cells, steps, width, bits, k, vote = (int(size) for size in arrays["sizes"])
    sums = np.zeros((side + 1, side + 1))
    sums[1:, 1:] = np.asarray(image, np.float64).cumsum(0).cumsum(1)
    state = np.zeros(width + 2, np.uint8)
    # Arrays that say nothing of it begin in the center.
    state[-2:] = arrays.get("start", np.full(2, side // 2))
    parts, costs = arrays["parts"], arrays["costs"]
    votes = np.zeros(len(json.loads(str(arrays["classes"]))), np.int64)
    for step in range(steps):
        query = np.concatenate([state, _glimpse(arrays, sums, state[-2:].astype(int), cells, bits)])
        part = step if len(parts) > 2 else 0
        rows = slice(parts[part], parts[part + 1])
        distance = np.abs(arrays["keys"][rows].astype(np.int32) - query) @ costs
        order = np.argsort(distance, kind="stable")[:k]
        near = parts[part] + order
        state = arrays["states"][near[0]]
        named = arrays["answers"][near]
        if vote == 2:  # the nearest row of each class, by how much nearer it is than the farthest
            chosen, first = np.unique(named, return_index=True)
            votes[chosen] += distance[order].max() + 1 - distance[order][first]
        elif vote or step == steps - 1:
            np.add.at(votes, named, (1 << 20) // (2 + np.arange(len(near))))
    return int(votes.argmax())


def _glimpse(
    arrays: dict[str, NDArray[Any]], sums: NDArray[np.float64], place: NDArray[np.int64],
    cells: int, bits: int,
) -> NDArray[np.uint8]:  # fmt: skip
    (low, high), levels, codes = arrays["range"], (1 << bits) - 1, []
    for cell in arrays["cells"].tolist():
        edges = np.arange(cells + 1) * cell - cells * cell // 2
        columns, rows = (np.clip(place[axis] + edges, 0, len(sums) - 1) for axis in range(2))
        totals = np.diff(np.diff(sums[np.ix_(rows, columns)], axis=0), axis=1).ravel()
        span = cell * cell * (high - low)
        above = totals - cell * cell * low
        codes.append(np.clip(np.floor((2 * levels * above + span) / (2 * span)), 0, levels))
    return np.concatenate(codes).astype(np.uint8)


def main() -> None:
    """Print one label per image."""
    for label in predict(load(sys.argv[1]), np.load(sys.argv[2], allow_pickle=False)):
        sys.stdout.write(f"{label}\n")


if __name__ == "__main__":
    main()
