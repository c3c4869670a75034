"""A sample that was taught and forgotten leaves no trace in any dense answer, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import DenseMemoryRegressor, DenseMemorySegmenter

SIDES = {1: (3, 6), 2: (2, 4), 3: (1, 2)}
WAYS = ["forget", "erase", "forget, then compact", "taught in another order"]
# More matches than cells are left, several levels of them, and one level alone.
WIDE = (4, 3), (40, 40), (6, 20), 16


def pyramids(rng, count, axes):
    coarse, fine = SIDES[axes]
    # Few distinct numbers, so that many similarities are equal.
    return [
        [rng.integers(-2, 3, (side,) * axes + (3,)).astype(float) for side in (coarse, fine)]
        for _ in range(count)
    ]


def answers(head, queries):
    """All that an answer holds, as bytes."""
    return [
        getattr(answer, name).tobytes()
        for answer in head.answer(queries)
        for name in ("prediction", "confidence", "novelty", "alone", "valid")
    ]


def forgotten_and_never_taught(make, samples, truth, rng, way, weighted):
    """One head that was taught all and forgot some, one that never saw these; what stays."""
    count = len(samples)
    gone = rng.choice(count, rng.integers(1, count), replace=False)
    stay = np.setdiff1d(np.arange(count), gone)
    weights = rng.choice([0.5, 1.0, 3.0], count) if weighted else np.ones(count)
    if weighted == "gone alone":
        weights[stay] = 1.0
    head, never = make(), make()
    never.fit([samples[at] for at in stay], [truth[at] for at in stay], ids=stay,
              weights=weights[stay])  # fmt: skip
    order = rng.permutation(count) if way == "taught in another order" else np.arange(count)
    for at in order.tolist():
        head.partial_fit([samples[at]], [truth[at]], ids=[at], weights=[weights[at]])
        head.predict(samples[:1])
    if way == "erase":
        head.memory_.erase(gone)
    else:
        head.forget(gone)
    if way == "forget, then compact":
        head.memory_.compact()
    return head, never


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 8),
    axes=st.sampled_from([1, 2, 3]),
    way=st.sampled_from(WAYS),
    k=st.sampled_from(WIDE),
    weighted=st.sampled_from([False, True, "gone alone"]),
    options=st.sampled_from(
        [{}, {"score": "path", "balance": 0.5}, {"kernel": "overlap"}, {"sparse_levels": 1},
         {"precision": "int8"}, {"position": 0.5, "prefilter": 2}, {"retrieve": "patch"}]
    ),
)  # fmt: skip
def test_forgetting_equals_never_having_taught(seed, count, axes, way, k, weighted, options):
    """Ties, weights, more matches than cells, sparse cells, priors and pre-filters included."""
    rng = np.random.default_rng(seed)
    samples = pyramids(rng, count, axes)
    masks = [rng.integers(0, 4, each[1].shape[:-1]) for each in samples]
    queries = pyramids(rng, 2, axes)

    head, never = forgotten_and_never_taught(
        lambda: DenseMemorySegmenter(k=k, **options), samples, masks, rng, way, weighted
    )

    assert head.predict_proba(queries).tobytes() == never.predict_proba(queries).tobytes()
    assert answers(head, queries) == answers(never, queries)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 8),
    axes=st.sampled_from([1, 2, 3]),
    way=st.sampled_from(WAYS),
    k=st.sampled_from(WIDE),
    weighted=st.sampled_from([False, True, "gone alone"]),
    reading=st.sampled_from(["mean", "median", "linear"]),
    options=st.sampled_from(
        [{}, {"score": "path"}, {"message_passing": None}, {"position": 0.4, "temperature": 0.1}]
    ),
)
def test_forgotten_numbers_leave_no_trace(seed, count, axes, way, k, weighted, reading, options):
    """Whichever way matches are read: a local fit adds up in the order of its columns."""
    rng = np.random.default_rng(seed)
    samples = pyramids(rng, count, axes)
    targets = [rng.normal(size=each[1].shape[:-1]) for each in samples]
    queries = pyramids(rng, 2, axes)

    head, never = forgotten_and_never_taught(
        lambda: DenseMemoryRegressor(k=k, reading=reading, **options),
        samples, targets, rng, way, weighted,
    )  # fmt: skip

    assert answers(head, queries) == answers(never, queries)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_weight_of_a_forgotten_sample_does_not_change_how_others_are_rounded(weight):
    """Found by fresh eyes: one forgotten row with a weight had all others divided anew."""
    rng = np.random.default_rng(0)
    samples = [[rng.normal(size=(4, 5)), rng.normal(size=(8, 6))] for _ in range(4)]
    masks = [rng.integers(0, 3, 8) for _ in range(3)]
    never = DenseMemorySegmenter().fit(samples[:2], masks[:2])
    head = DenseMemorySegmenter().fit(samples[:3], masks, weights=[1.0, 1.0, weight])
    head.predict(samples[3:])

    head.forget(head.ids_[2:])

    asked = samples[3:]
    assert head.predict_proba(asked).tobytes() == never.predict_proba(asked).tobytes()


def test_the_sums_of_a_wide_search_do_not_depend_on_cells_that_are_gone():
    """Found by fresh eyes: columns for the cells of a forgotten sample changed the last bit."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        samples = [[rng.normal(size=(3, 3)), rng.normal(size=(6, 3))] for _ in range(4)]
        values = [rng.normal(size=6) for _ in range(3)]
        options = {"k": (32, 30), "message_passing": None, "reading": "linear"}
        never = DenseMemoryRegressor(**options).fit(samples[:2], values[:2])
        head = DenseMemoryRegressor(**options).fit(samples[:3], values)
        head.predict(samples[3:])

        head.forget(head.ids_[2:])

        assert head.predict(samples[3:]).tobytes() == never.predict(samples[3:]).tobytes()


def test_diagnosis_after_forgetting_is_that_of_a_memory_that_never_held_it():
    """The search among all cells counts those that live, too."""
    rng = np.random.default_rng(1)
    samples = [[rng.normal(size=(2, 3)), rng.normal(size=(4, 3))] for _ in range(4)]
    masks = [rng.integers(0, 3, 4) for _ in range(3)]
    never = DenseMemorySegmenter(k=50).fit(samples[:2], masks[:2], ids=[1, 2])
    head = DenseMemorySegmenter(k=50).fit(samples[:3], masks, ids=[1, 2, 3])
    head.predict(samples[3:])

    head.forget([3])

    assert repr(head.diagnose(samples[3:])) == repr(never.diagnose(samples[3:]))
