"""A row that was taught and forgotten leaves no trace in any answer, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import Memory
from recollect.types import METRICS

DIM = 17


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@pytest.mark.parametrize("metric", METRICS)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 300),
    way=st.sampled_from(["remove", "erase", "remove, then compact", "restore"]),
)
def test_forgetting_equals_never_having_taught(metric, seed, rows, way):
    """What is forgotten must not shine through: not in order, not in the last bit."""
    rng = np.random.default_rng(seed)
    keys = rng.normal(size=(rows, DIM)).astype(np.float32)
    labels = rng.choice(["cat", "dog", "owl"], rows).tolist()
    queries = rng.normal(size=(5, DIM)).astype(np.float32)
    taught = Memory.create(":memory:", dim=DIM, metric=metric)
    never = Memory.create(":memory:", dim=DIM, metric=metric)
    half = rows // 2
    first = taught.add(keys[:half], labels[:half])
    gone = first if way == "restore" else rng.choice(rows, rng.integers(1, rows), replace=False)

    if way == "restore":
        taught.remove(first)
        taught.add(keys[half:], labels[half:])
    else:
        taught.search(queries, 3)
        taught.add(keys[half:], labels[half:])
        (taught.erase if way == "erase" else taught.remove)(gone)
    if way == "remove, then compact":
        taught.compact()
    stay = np.setdiff1d(np.arange(rows), gone)
    never.add(keys[stay], [labels[row] for row in stay.tolist()], ids=stay)

    here, there = taught.search(queries, 10), never.search(queries, 10)
    assert here.ids.tobytes() == there.ids.tobytes()
    assert here.similarity.tobytes() == there.similarity.tobytes()
    assert here.values.tolist() == there.values.tolist()
    assert taught.label_counts() == never.label_counts()
