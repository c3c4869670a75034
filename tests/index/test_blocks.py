"""Where rows lie: every id is found in its one place, whatever came and went."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.index.exact import ExactIndex


def index_of(*parts):
    index = ExactIndex(2)
    for ids in parts:
        keys = np.stack([np.array(ids) + 1.0, np.ones(len(ids))], axis=1).astype(np.float32)
        index.attach(np.array(ids), keys)
    return index


@pytest.mark.parametrize(
    "parts",
    [
        [[0, 1, 2, 3], [4, 5, 6]],
        [[4, 5, 6], [0, 1, 2, 3]],
        [[10, 11, 12], [3, 4], [20]],
        [[10, 12, 14], [3, 4], [13]],
        [[2, 1, 0], [3, 4]],
        [[0, 4], [1, 2, 3]],
    ],
)
def test_every_id_is_located_and_no_other(parts):
    """Blocks may count up without a gap, or not, in order, or not, within each other, or not."""
    index, known = index_of(*parts), np.concatenate(parts)
    gone = known[::3]
    index.remove(gone)
    wanted = np.arange(-2, 25)

    snapshot = index.snapshot
    slots = snapshot.locate(wanted)

    alive = np.setdiff1d(known, gone)
    assert wanted[slots >= 0].tolist() == alive.tolist()
    assert snapshot.ids(slots[slots >= 0]).tolist() == alive.tolist()
    assert snapshot.gather(slots[slots >= 0])[0][:, 0].tolist() == (alive + 1.0).tolist()


def test_an_index_without_rows_locates_nothing():
    """There is not even a first block."""
    assert ExactIndex(2).snapshot.locate(np.array([0, 5])).tolist() == [-1, -1]


def test_pointers_lead_to_keys_and_sizes():
    """The compiled kernel reads what they name; 0 names nothing."""
    import ctypes

    snapshot = index_of([0, 1, 2], [7, 8]).snapshot

    keys, sizes, dtypes = snapshot.pointers(snapshot.locate(np.array([8, 5, 1])))

    read = [ctypes.cast(at, ctypes.POINTER(ctypes.c_float))[0] for at in keys[[0, 2]].tolist()]
    long = [ctypes.cast(at, ctypes.POINTER(ctypes.c_double))[0] for at in sizes[[0, 2]].tolist()]
    assert read == [9.0, 2.0]
    assert long == [np.sqrt(82.0), np.sqrt(5.0)]
    assert (keys[1], sizes[1]) == (0, 0)
    assert dtypes.tolist() == [0, 0, 0]
