"""The regressor, on two dimensions and round numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import MemoryRegressor
from recollect.errors import (
    DimensionMismatch,
    InputError,
    InvalidParameter,
    LengthMismatch,
    NonFinite,
)

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def test_the_nearest_numbers_are_averaged_by_rank():
    """(1/2 * 10 + 1/3 * 40) / (1/2 + 1/3)."""
    head = MemoryRegressor(k=2).fit([EAST, NORTH], [10.0, 40.0])

    assert head.predict([[1.0, 0.5]]).tolist() == [pytest.approx(22.0, abs=1e-12)]


def test_equal_weights_give_the_plain_mean():
    """Plurality weighs every neighbor alike."""
    head = MemoryRegressor(k=2, weighting="plurality").fit([EAST, NORTH], [10.0, 40.0])

    assert head.predict([[1.0, 0.5]]).tolist() == [25.0]


def test_row_weights_pull_the_mean():
    """Weight 3 against weight 1."""
    head = MemoryRegressor(k=2, weighting="plurality")
    head.fit([EAST, NORTH], [10.0, 50.0], weights=[3, 1])

    assert head.predict([[1.0, 0.5]]).tolist() == [20.0]


def test_vectors_are_averaged_component_by_component():
    """Two targets per row."""
    head = MemoryRegressor(k=2, weighting="plurality").fit([EAST, NORTH], [[1.0, 8.0], [3.0, 0.0]])

    assert head.predict([EAST]).tolist() == [[2.0, 4.0]]
    assert head.memory_.value == "vector"


def test_partial_fit_adds_and_forget_takes_away():
    """As for the classifier."""
    head = MemoryRegressor(k=1).partial_fit([EAST], [1.0]).partial_fit([NORTH], [2.0])
    assert head.predict([NORTH]).tolist() == [2.0]

    assert head.forget([1]).predict([NORTH]).tolist() == [1.0]


def test_the_score_is_r_squared():
    """Perfect where every query is a row."""
    head = MemoryRegressor(k=1).fit([EAST, NORTH], [1.0, 2.0])

    assert head.score([EAST, NORTH], [1.0, 2.0]) == 1.0


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        ([1.0], LengthMismatch),
        ([1.0, np.nan], NonFinite),
        ([1.0, np.inf], NonFinite),
        (["one", "two"], InputError),
        (None, InputError),
        ([[[1.0]], [[2.0]]], InputError),
    ],
)
def test_bad_targets_are_refused(targets, error):
    """One error of the tree, with what to do about it."""
    with pytest.raises(error) as refused:
        MemoryRegressor().fit([EAST, NORTH], targets)

    assert refused.value.remedy


def test_vectors_of_another_width_are_refused():
    """A memory of vectors has one width."""
    head = MemoryRegressor().fit([EAST, NORTH], [[1.0, 2.0], [3.0, 4.0]])

    with pytest.raises(DimensionMismatch):
        head.partial_fit([EAST], [[1.0, 2.0, 3.0]])


def test_an_unknown_weighting_is_refused():
    """The same four rules as for votes."""
    with pytest.raises(InvalidParameter, match="rule"):
        MemoryRegressor(weighting="uniform").fit([EAST], [1.0])


KEYS = st.tuples(st.integers(-4, 4), st.integers(-4, 4)).filter(any)


@settings(deadline=None)
@given(
    st.lists(st.tuples(KEYS, st.floats(-100, 100)), min_size=2, max_size=14),
    st.lists(KEYS, min_size=1, max_size=30),
    st.sampled_from(["rank", "plurality", "softmax", "distance"]),
    st.data(),
)
def test_forgetting_equals_never_having_taught(rows, queries, weighting, draws):
    """Bit for bit, for any rows and any part of them, alone and in a batch."""
    forgotten = draws.draw(st.sets(st.sampled_from(range(len(rows))), max_size=len(rows) - 1))
    kept = [row for row in range(len(rows)) if row not in forgotten]
    keys, numbers = [np.array(column) for column in zip(*rows, strict=True)]
    head = MemoryRegressor(k=4, weighting=weighting).fit(keys, numbers)
    never = MemoryRegressor(k=4, weighting=weighting).fit(keys[kept], numbers[kept], ids=kept)

    head.forget(sorted(forgotten))

    means = head.predict(queries)
    assert means.tobytes() == never.predict(queries).tobytes()
    assert [head.predict([query])[0] for query in queries] == means.tolist()


def test_a_number_of_neighbors_beyond_all_rows_costs_no_memory():
    """A billion neighbors of two rows are two rows, not arrays of a billion places."""
    vast = MemoryRegressor(k=10**15).fit([[1, 0], [0, 1]], [10.0, 2.0])
    wide = MemoryRegressor(k=20).fit([[1, 0], [0, 1]], [10.0, 2.0])

    assert vast.predict([[1, 0.5]]).tobytes() == wide.predict([[1, 0.5]]).tobytes()
    assert vast.explain([[1, 0.5]]) == wide.explain([[1, 0.5]])
