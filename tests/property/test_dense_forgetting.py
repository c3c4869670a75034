"""A sample that was taught and forgotten leaves no trace in any dense answer, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import DenseMemorySegmenter

SIDES = {1: (3, 6), 2: (2, 4), 3: (1, 2)}


def pyramids(rng, count, axes):
    coarse, fine = SIDES[axes]
    # Few distinct numbers, so that many similarities are equal.
    return [
        [rng.integers(-2, 3, (side,) * axes + (3,)).astype(float) for side in (coarse, fine)]
        for _ in range(count)
    ]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 8),
    axes=st.sampled_from([1, 2, 3]),
    way=st.sampled_from(["forget", "erase", "forget, then compact", "taught in another order"]),
    options=st.sampled_from(
        [{}, {"score": "path", "balance": 0.5}, {"kernel": "overlap"}, {"sparse_levels": 1},
         {"precision": "int8"}, {"position": 0.5, "prefilter": 2}]
    ),
)  # fmt: skip
def test_forgetting_equals_never_having_taught(seed, count, axes, way, options):
    """Ties, sparse cells, priors and pre-filters included."""
    rng = np.random.default_rng(seed)
    samples = pyramids(rng, count, axes)
    masks = [rng.integers(0, 4, each[1].shape[:-1]) for each in samples]
    queries = pyramids(rng, 2, axes)
    gone = rng.choice(count, rng.integers(1, count), replace=False)
    stay = np.setdiff1d(np.arange(count), gone)
    head = DenseMemorySegmenter(k=(4, 3), **options)
    never = DenseMemorySegmenter(k=(4, 3), **options)
    never.fit([samples[at] for at in stay], [masks[at] for at in stay], ids=stay)

    order = rng.permutation(count) if way == "taught in another order" else np.arange(count)
    for at in order.tolist():
        head.partial_fit([samples[at]], [masks[at]], ids=[at])
        head.predict(queries[:1])
    if way == "erase":
        head.memory_.erase(gone)
    else:
        head.forget(gone)
    if way == "forget, then compact":
        head.memory_.compact()

    assert head.predict_proba(queries).tobytes() == never.predict_proba(queries).tobytes()
