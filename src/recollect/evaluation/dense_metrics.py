"""How good dense answers are: pure functions of masks and maps; pixels to ignore are left out.

Every function checks that its columns have one shape, at least one pixel that counts, and numbers
in range; otherwise it raises ``LengthMismatch``, ``EmptyBatch`` or ``InvalidParameter``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import EmptyBatch, InvalidParameter, LengthMismatch
from recollect.types import Doubles


class PixelCounts:
    """How often each label was answered as each other label, gathered mask by mask.

    Args:
        labels: The labels that count. What is answered and is none of them is a wrong answer.
        ignore: Value of pixels in the truth that do not count.

    Example:
        >>> counts = PixelCounts([0, 1]).add([[0, 0, 1, 255]], [[0, 1, 1, 1]])
        >>> counts.iou().tolist(), counts.pixel_accuracy()
        ([0.5, 0.5], 0.6666666666666666)
    """

    def __init__(self, labels: ArrayLike, ignore: int = 255) -> None:
        self.labels, self.ignore = np.unique(np.asarray(labels, np.int64)), ignore
        self.counts = np.zeros((len(self.labels), len(self.labels) + 1), np.int64)

    def add(self, truth: ArrayLike, predicted: ArrayLike) -> PixelCounts:
        """Count one mask, or several of one shape.

        Raises:
            LengthMismatch: The shapes differ.
            InvalidParameter: The truth holds a label that does not count and is not ignored.
        """
        right, answered = np.asarray(truth), np.asarray(predicted)
        _same_shape(right, answered)
        counts = right != self.ignore
        rows, known = _codes(self.labels, right[counts])
        if not known.all():
            raise InvalidParameter(
                "the truth holds a label that is not among those to count",
                expected=self.labels.tolist(),
                got=np.setdiff1d(right[counts], self.labels).tolist(),
                remedy="Add it to labels, or set ignore=.",
            )
        columns, found = _codes(self.labels, answered[counts])
        columns[~found] = len(self.labels)
        wide = len(self.labels) + 1
        total = np.bincount(rows * wide + columns, minlength=self.counts.size)
        self.counts += total.reshape(self.counts.shape)
        return self

    def iou(self) -> Doubles:
        """Intersection over union of each label, float64; NaN where it neither is nor is said."""
        hits = np.diag(self.counts[:, :-1]).astype(np.float64)
        union = self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0) - hits
        shares = np.full(len(hits), np.nan)
        np.divide(hits, union, out=shares, where=union > 0)
        return shares

    def mean_iou(self) -> float:
        """Mean of ``iou`` over the labels that are or are said."""
        self._require_some()
        return float(np.nanmean(self.iou()))

    def pixel_accuracy(self) -> float:
        """Share of pixels answered right."""
        self._require_some()
        return float(np.trace(self.counts[:, :-1]) / self.counts.sum())

    def dice(self) -> Doubles:
        """``2 |A and B| / (|A| + |B|)`` of each label, over all pixels counted together."""
        hits = np.diag(self.counts[:, :-1]).astype(np.float64)
        both = self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0)
        shares = np.full(len(hits), np.nan)
        np.divide(2 * hits, both, out=shares, where=both > 0)
        return shares

    def _require_some(self) -> None:
        if not self.counts.any():
            raise EmptyBatch("no pixel counts", remedy="Add a mask that is not all ignored.")


def mean_iou(truth: ArrayLike, predicted: ArrayLike, *, ignore: int = 255) -> float:
    """Mean intersection over union of the labels in the truth.

    Example:
        >>> mean_iou([0, 0, 1, 255], [0, 1, 1, 1])
        0.5
    """
    right = np.asarray(truth)
    labels = np.unique(right[right != ignore])
    return PixelCounts(labels, ignore).add(right, predicted).mean_iou()


def dice_per_sample(
    truth: Iterable[Any], predicted: Iterable[Any], label: int, *, ignore: int = 255
) -> Doubles:
    """Dice of one label in each sample, as for volumes; 1 where it neither is nor is said.

    Example:
        >>> dice_per_sample([[0, 1, 1], [0, 0, 0]], [[0, 1, 0], [0, 0, 0]], 1).round(3).tolist()
        [0.667, 1.0]
    """
    scores = []
    for right, answered in zip(map(np.asarray, truth), map(np.asarray, predicted), strict=True):
        _same_shape(right, answered)
        counts = right != ignore
        is_it, said = (right == label) & counts, (answered == label) & counts
        both = int(is_it.sum()) + int(said.sum())
        scores.append(2 * int((is_it & said).sum()) / both if both else 1.0)
    return np.array(scores)


def rmse(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Root of the mean squared error over pixels whose truth is not NaN.

    Example:
        >>> rmse([1.0, 2.0, np.nan], [1.0, 4.0, 9.0])
        1.4142135623730951
    """
    right, answered = _known(truth, predicted)
    return float(np.sqrt(np.mean((right - answered) ** 2)))


def absolute_relative_error(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean of ``|predicted - truth| / truth``: AbsRel of depth; the truth is above 0.

    Example:
        >>> absolute_relative_error([1.0, 2.0], [1.5, 2.0])
        0.25
    """
    right, answered = _positive(*_known(truth, predicted))
    return float(np.mean(np.abs(answered - right) / right))


def within_factor(truth: ArrayLike, predicted: ArrayLike, factor: float = 1.25) -> float:
    """Share of pixels with ``max(predicted / truth, truth / predicted) < factor``: delta of depth.

    Example:
        >>> within_factor([1.0, 2.0], [1.2, 3.0])
        0.5
    """
    right, answered = _positive(*_known(truth, predicted))
    if not factor > 1.0:
        raise InvalidParameter("factor is out of range", expected="above 1", got=factor)
    safe = np.maximum(answered, np.finfo(np.float64).tiny)
    return float(np.mean(np.maximum(safe / right, right / safe) < factor))


def _codes(
    labels: NDArray[np.int64], values: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    place = np.minimum(np.searchsorted(labels, values), len(labels) - 1)
    return place, labels[place] == values


def _same_shape(right: NDArray[Any], answered: NDArray[Any]) -> None:
    if right.shape != answered.shape:
        raise LengthMismatch(
            "truth and predictions differ in shape", expected=right.shape, got=answered.shape,
            remedy="Ask for predictions of the truth's size.",
        )  # fmt: skip


def _known(truth: ArrayLike, predicted: ArrayLike) -> tuple[Doubles, Doubles]:
    right, answered = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    _same_shape(right, answered)
    counts = ~np.isnan(right)
    if not counts.any():
        raise EmptyBatch("no pixel counts", remedy="Give a truth that is not all NaN.")
    if not np.isfinite(answered[counts]).all():
        raise InvalidParameter(
            "predictions are not finite", expected="a number for each pixel that counts",
            got="NaN or infinity", remedy="Fill in pixels without an answer first.",
        )  # fmt: skip
    return right[counts], answered[counts]


def _positive(right: Doubles, answered: Doubles) -> tuple[Doubles, Doubles]:
    if not (right > 0).all():
        raise InvalidParameter(
            "the truth is out of range", expected="above 0", got=float(right.min()),
            remedy="Set pixels without depth to NaN.",
        )  # fmt: skip
    return right, answered
