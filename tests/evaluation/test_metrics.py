"""Metrics by numbers that a reader can check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import errors
from recollect.evaluation import metrics


def test_accuracy_is_the_share_of_right_answers():
    """The figure every table reports."""
    assert metrics.accuracy([1, 2, 3, 4], [1, 2, 3, 9]) == 0.75


def test_macro_recall_counts_every_class_alike():
    """A memory that knows only the common class must not look good."""
    truth = ["common"] * 8 + ["rare"] * 2
    predicted = ["common"] * 9 + ["rare"]

    assert metrics.macro_recall(truth, predicted) == 0.75


def test_macro_recall_ignores_a_label_that_is_never_true():
    """A wrong answer counts against its true label once, not twice."""
    assert metrics.macro_recall([0, 0, 1, 1], [0, 7, 1, 1]) == 0.75


def test_standard_error_of_four_in_five_over_400_rows_is_two_points():
    """sqrt(0.8 * 0.2 / 400) = 0.02."""
    assert metrics.standard_error(0.8, 400) == pytest.approx(0.02)


def test_the_bootstrap_agrees_with_the_binomial_error_on_accuracy():
    """Two roads to one number: sqrt(0.5 * 0.5 / 100) = 0.05."""
    truth = np.zeros(100, int)
    predicted = np.repeat([0, 1], 50)

    assert metrics.bootstrap_error(truth, predicted, seed=3) == pytest.approx(0.05, abs=0.004)


def test_the_bootstrap_gives_the_same_error_for_the_same_seed():
    """A report that is run twice must read the same."""
    truth, predicted = np.arange(20) % 3, np.arange(20) % 2
    first = metrics.bootstrap_error(truth, predicted, metrics.macro_recall, resamples=50, seed=1)
    again = metrics.bootstrap_error(truth, predicted, metrics.macro_recall, resamples=50, seed=1)

    assert first == again


def test_two_methods_that_err_on_the_same_rows_differ_by_nothing():
    """Errors shared by both say nothing about their difference."""
    truth, answers = [0, 0, 1, 1], [0, 1, 1, 0]

    assert metrics.paired_difference(truth, answers, answers) == (0.0, 0.0)


def test_confusion_counts_rows_by_truth_and_columns_by_answer():
    """Rows and columns are easily swapped; one lopsided example tells them apart."""
    table = metrics.confusion_matrix(["a", "a", "a", "b"], ["a", "b", "b", "b"])

    assert table.labels.tolist() == ["a", "b"]
    assert table.counts.tolist() == [[1, 2], [0, 1]]


def test_confusion_keeps_a_class_that_did_not_occur():
    """Two test sets are comparable only if their tables have the same classes."""
    table = metrics.confusion_matrix([1], [1], labels=[0, 1, 2])

    assert table.counts.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_confusion_refuses_a_label_that_is_not_among_those_to_count():
    """Dropping it silently would leave rows uncounted."""
    with pytest.raises(errors.InvalidParameter, match="3"):
        metrics.confusion_matrix([1, 3], [1, 1], labels=[0, 1, 2])


def test_a_reliability_bin_includes_its_upper_edge():
    """Bins are (low, high], so that certainty and a clean half have one home each."""
    curve = metrics.reliability_curve([True, True, False, True], [0.0, 0.5, 0.51, 1.0], bins=2)

    assert curve.counts.tolist() == [2, 2]
    assert curve.accuracy.tolist() == [1.0, 0.5]
    assert curve.confidence.tolist() == [0.25, 0.755]


def test_an_empty_reliability_bin_is_nan_and_does_not_count():
    """No answers are no evidence of bad calibration."""
    curve = metrics.reliability_curve([True, False], [0.75, 0.75], bins=4)

    assert np.isnan(curve.accuracy[[0, 1, 3]]).all()
    assert curve.error == 0.25


def test_calibration_error_weighs_the_bins_by_their_answers():
    """Three answers off by 0.1 and one by 0.5: (3 * 0.1 + 0.5) / 4 = 0.2."""
    correct, confidence = [True, True, True, False], [0.9, 0.9, 0.9, 0.5]

    error = metrics.expected_calibration_error(correct, confidence, bins=10)

    assert error == pytest.approx(0.2)


def test_answers_at_every_k_give_accuracy_at_every_k():
    """One search, all neighborhood sizes."""
    curve = metrics.accuracy_by_k(["a", "b"], [["a", "a"], ["a", "b"]])

    assert curve.tolist() == [0.5, 1.0]


def test_the_hit_rate_never_falls_with_k():
    """A label once among the neighbors stays among them."""
    rates = metrics.hit_rate_by_k([0, 1, 2], [[0, 1, 1], [0, 0, 1], [0, 0, 0]])

    assert rates.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])


def test_columns_of_different_length_are_refused():
    """Broadcasting one answer over many rows would give a plausible, wrong number."""
    with pytest.raises(errors.LengthMismatch, match="expected 3 rows as in truth, got 1"):
        metrics.accuracy([1, 2, 3], [1])


def test_nothing_to_score_is_refused():
    """The mean of nothing is NaN, which would travel far before it is noticed."""
    with pytest.raises(errors.EmptyBatch):
        metrics.accuracy([], [])


def test_a_confidence_in_percent_is_refused():
    """Percentages would all fall into the last bin."""
    with pytest.raises(errors.InvalidParameter, match="out of range"):
        metrics.expected_calibration_error([True, False], [90.0, 60.0])


def test_a_share_that_exceeds_one_by_rounding_is_certainty():
    """Twenty shares of a unanimous vote may sum to the number after 1."""
    curve = metrics.reliability_curve([True], [np.nextafter(1.0, 2.0)], bins=2)

    assert curve.counts.tolist() == [0, 1]
    assert curve.error == 0.0


def test_a_confidence_that_is_not_a_number_is_refused():
    """NaN belongs to no bin."""
    with pytest.raises(errors.NonFinite):
        metrics.reliability_curve([True, False], [np.nan, 0.5])


def test_an_accuracy_in_percent_has_no_standard_error():
    """The square root of a negative number is not an error bar."""
    with pytest.raises(errors.InvalidParameter, match="a share is out of range"):
        metrics.standard_error(80.0, 400)


def test_predictions_of_one_k_only_are_no_curve():
    """A column where a table belongs is a common slip."""
    with pytest.raises(errors.InvalidParameter, match="every k"):
        metrics.accuracy_by_k([0, 1], [0, 1])
