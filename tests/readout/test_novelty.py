"""Novelty scores, p-values and thresholds with numbers checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.errors import InvalidParameter
from recollect.readout.novelty import check_rate, least_confidence, novelty_scores, p_values
from recollect.types import Neighbors


def at(distances):
    """Neighbors at these Euclidean distances; inf where empty."""
    far = np.array(distances)
    ids = np.where(np.isfinite(far), np.arange(far.shape[1]), -1)
    return Neighbors(ids, -far.astype(np.float32), ids, np.ones(far.shape))


@pytest.mark.parametrize(("score", "value"), [("mean", 4.0), ("median", 2.0), ("nearest", 1.0)])
def test_a_score_sums_up_the_distances(score, value):
    """Of 1, 2 and 9."""
    assert novelty_scores(at([[1.0, 2.0, 9.0]]), "euclidean", score).tolist() == [value]


def test_the_median_of_an_even_number_lies_between():
    """As numpy's."""
    assert novelty_scores(at([[1.0, 2.0, 4.0, 9.0]]), "euclidean", "median").tolist() == [3.0]


@pytest.mark.parametrize("score", ["mean", "median", "nearest"])
def test_empty_places_are_not_far_away(score):
    """A small memory is no reason to find everything novel; an empty one is."""
    scores = novelty_scores(at([[2.0, np.inf], [np.inf, np.inf]]), "euclidean", score)

    assert scores.tolist() == [2.0, np.inf]


def test_the_dot_product_is_measured_from_minus_the_similarity():
    """It has no zero; measured from the nearest row no question would be novel."""
    assert novelty_scores(at([[-7.0, -5.0]]), "dot").tolist() == [-6.0]


def test_a_p_value_counts_the_question_itself():
    """Beyond all of nine known scores: 1 of 10."""
    known = np.arange(9.0)

    assert p_values(np.array([20.0, 8.0, -1.0]), known).tolist() == [0.1, 0.2, 1.0]


def test_a_share_of_at_most_the_rate_is_refused():
    """Of 99 questions drawn like 999 known ones, about one in twenty, whatever they look like."""
    scores = np.random.default_rng(0).exponential(size=(1099,)) ** 3

    refused = p_values(scores[999:], np.sort(scores[:999])) <= 0.05

    assert refused.sum() <= 10


def test_the_threshold_keeps_the_error_rate():
    """The last 100 of 1,000 are wrong: none of the first 900, too many of the first 950."""
    sure = -np.arange(1000.0)
    right = np.arange(1000) < 900

    assert least_confidence(sure, right, 0.05) == -899.0


def test_too_few_answers_promise_nothing():
    """Ten right answers are no proof of one error in twenty."""
    assert least_confidence(np.ones(10), np.ones(10, bool), 0.05) == np.inf
    assert least_confidence(np.ones(0), np.ones(0, bool), 0.05) == np.inf


def test_answers_of_one_confidence_stay_together():
    """A threshold can't part them, so all 100 count, the 50 wrong ones too."""
    right = np.arange(100) < 50

    assert least_confidence(np.ones(100), right, 0.05) == np.inf


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, "0.05", True, float("nan"), None])
def test_a_rate_lies_between_0_and_1(value):
    """Neither everything nor nothing."""
    with pytest.raises(InvalidParameter):
        check_rate(value)


def test_an_unknown_score_is_refused():
    """With those that are known."""
    with pytest.raises(InvalidParameter, match="novelty score"):
        novelty_scores(at([[1.0]]), "euclidean", "max")
