"""How far rows can be trusted, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.errors import InvalidParameter
from recollect.readout.reliability import (
    Reliability,
    Tally,
    apply,
    as_reliability,
    factors,
    factors_of,
    factors_without_own,
    skip,
    tally,
)
from recollect.types import Neighbors


def neighbors(ids, codes):
    ids, codes = np.array(ids), np.array(codes)
    similarity = np.where(ids >= 0, 0.5, -np.inf).astype(np.float32)
    return Neighbors(ids, similarity, codes, (ids >= 0).astype(float), codes)


@pytest.fixture
def near():
    """Rows of labels 0, 0, 1 find row 5 (label 0) three times and row 7 (label 1) once."""
    return neighbors([[5, -1], [5, -1], [5, 7]], [[0, -1], [0, -1], [0, 1]])


@pytest.fixture
def counts(near):
    return tally(near, np.array([0, 0, 1]))


def test_a_row_is_right_for_its_own_label_and_wrong_for_another(counts):
    """Empty places count for nobody."""
    assert counts.ids.tolist() == [5, 7]
    assert counts.right.tolist() == [2.0, 1.0]
    assert counts.wrong.tolist() == [1.0, 0.0]
    assert counts.usual.tolist() == [pytest.approx(2 / 3), 1.0]


def test_counts_of_a_sample_stand_for_all(near):
    """A tenth of the rows was asked, so each count stands for ten."""
    counts = tally(near, np.array([0, 0, 1]), share=0.1)

    assert counts.right.tolist() == pytest.approx([20.0, 10.0])


def test_the_rate_compares_a_row_with_its_class():
    """Right 9 of 10 times where 3 in 4 is usual: (9 + 1.5) / (12 * 0.75); never asked: 1."""
    counts = Tally(np.array([1]), np.array([0]), np.array([9.0]), np.array([1.0]), np.array([0.75]))

    of_rows = factors(counts, Reliability("rate"))

    assert of_rows.tolist() == pytest.approx([10.5 / 9])
    assert factors_of(np.array([1, 2]), counts, of_rows).tolist() == pytest.approx([10.5 / 9, 1.0])


def test_the_rate_does_not_mind_popularity():
    """Ten times as often retrieved, as often wrong: nearly the same; soft cuts it to a ninth."""
    counts = Tally(
        np.array([1, 2]), np.array([0, 0]), np.array([8.0, 80.0]), np.array([2.0, 20.0]),
        np.array([0.8]),
    )  # fmt: skip

    rate = factors(counts, Reliability("rate"))
    soft = factors(counts, Reliability("soft"))

    assert rate.tolist() == pytest.approx([1.0, 1.0])
    assert (soft[1] / soft[0]).item() == pytest.approx(3 / 21)


def test_a_row_that_is_asked_has_no_say_in_who_answers(counts, near):
    """Without what row 2 said of it, row 5 was right twice and never wrong."""
    soft = factors_without_own(counts, near, np.array([0, 0, 1]), Reliability("soft"))

    assert soft[:, 0].tolist() == [0.875, 0.875, 1.0]


def test_hard_rows_are_skipped_and_take_no_rank():
    """At the threshold, not only beyond it."""
    counts = Tally(
        np.array([5, 7]), np.array([0, 0]), np.zeros(2), np.array([3.0, 2.0]), np.array([0.5])
    )
    hard = Reliability("hard", threshold=3)

    left = apply(neighbors([[5, 7]], [[0, 1]]), factors(counts, hard)[None], hard)

    assert left.ids.tolist() == [[-1, 7]]
    assert left.codes.tolist() == [[-1, 1]]


def test_an_empty_place_is_nobody_who_could_be_left():
    """A query whose only neighbor is excluded keeps it."""
    left = skip(neighbors([[5, -1]], [[0, -1]]), np.array([[True, False]]))

    assert left.ids.tolist() == [[5, -1]]


@pytest.mark.parametrize(
    "options",
    [
        {"name": "often"},
        {"name": ["soft"]},
        {"name": "soft", "neighbors": 0},
        {"name": "soft", "neighbors": 101},
        {"name": "soft", "neighbors": 2.5},
        {"name": "hard", "threshold": 0},
        {"name": "soft", "c": 0},
        {"name": "soft", "d": float("nan")},
        {"name": "rate", "strength": float("inf")},
        {"name": "rate", "strength": True},
    ],
)
def test_options_out_of_range_are_refused(options):
    """When made, not when used."""
    with pytest.raises(InvalidParameter):
        Reliability(**options)


def test_a_name_stands_for_its_defaults():
    """The paper's: ten neighbors for soft, a hundred for hard."""
    assert as_reliability("soft") == Reliability("soft", c=1.0, d=1.75)
    assert Reliability("hard").counted == 100
    assert as_reliability(None) is None
