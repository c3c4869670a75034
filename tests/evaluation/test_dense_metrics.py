"""Figures of dense answers on masks of a few pixels."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.errors import EmptyBatch, InvalidParameter, LengthMismatch
from recollect.evaluation.dense_metrics import (
    PixelCounts,
    absolute_relative_error,
    dice_per_sample,
    mean_iou,
    rmse,
    within_factor,
)

NAN = float("nan")


def test_iou_is_intersection_over_union_of_each_label():
    """Truth 0011, answer 0111: 1 of 2 for label 0, 2 of 3 for label 1."""
    counts = PixelCounts([0, 1]).add([0, 0, 1, 1], [0, 1, 1, 1])

    assert counts.iou() == pytest.approx([1 / 2, 2 / 3])
    assert counts.mean_iou() == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert counts.pixel_accuracy() == 0.75
    assert counts.dice() == pytest.approx([2 / 3, 4 / 5])


def test_ignored_pixels_count_nowhere():
    """Neither as a hit nor as a false alarm."""
    assert mean_iou([0, 255, 255], [0, 0, 1]) == 1.0


def test_an_answer_that_is_no_label_is_a_wrong_answer():
    """255 where the truth is 1: label 1 loses a pixel, label 0 wins none."""
    counts = PixelCounts([0, 1]).add([0, 1], [0, 255])

    assert counts.iou().tolist() == [1.0, 0.0]
    assert counts.pixel_accuracy() == 0.5


def test_a_label_that_neither_is_nor_is_said_takes_no_part():
    """It has no intersection and no union."""
    counts = PixelCounts([0, 1, 2]).add([0, 1], [0, 1])

    assert np.isnan(counts.iou()[2])
    assert counts.mean_iou() == 1.0


def test_masks_are_gathered_one_by_one():
    """The mean is over all pixels of a label, not over masks."""
    counts = PixelCounts([0, 1]).add([0, 0], [0, 0]).add([[1]], [[0]])

    assert counts.iou() == pytest.approx([2 / 3, 0.0])


def test_dice_of_a_sample_without_the_label_is_one_if_it_is_not_said():
    """Both are empty: they agree."""
    assert dice_per_sample([[0, 0], [0, 1]], [[0, 0], [1, 0]], 1).tolist() == [1.0, 0.0]


def test_errors_of_depth():
    """Truth 1 and 4, answers 2 and 4: squared error 1 over 2, relative error 1 over 2."""
    truth, answer = [1.0, 4.0, NAN], [2.0, 4.0, 7.0]

    assert rmse(truth, answer) == pytest.approx(np.sqrt(0.5))
    assert absolute_relative_error(truth, answer) == 0.5
    assert within_factor(truth, answer) == 0.5


def test_the_factor_is_a_limit_that_must_not_be_reached():
    """Exactly 1.25 times is too far."""
    assert within_factor([4.0], [5.0]) == 0.0
    assert within_factor([4.0], [4.9]) == 1.0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: PixelCounts([0]).add([0, 0], [0]), LengthMismatch),
        (lambda: PixelCounts([0]).add([3], [0]), InvalidParameter),
        (lambda: PixelCounts([0]).add([255], [0]).mean_iou(), EmptyBatch),
        (lambda: rmse([NAN], [1.0]), EmptyBatch),
        (lambda: rmse([1.0], [NAN]), InvalidParameter),
        (lambda: rmse([1.0], [1.0, 2.0]), LengthMismatch),
        (lambda: absolute_relative_error([0.0], [1.0]), InvalidParameter),
        (lambda: within_factor([1.0], [1.0], 1.0), InvalidParameter),
    ],
)
def test_columns_that_cannot_be_compared_are_refused(call, error):
    """One error, of this library."""
    with pytest.raises(error):
        call()
