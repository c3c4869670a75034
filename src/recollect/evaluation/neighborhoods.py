"""What the labels and distances of a neighborhood tell, beyond the vote over it.

The statistics are those of Geirhos et al., appendices G, H and M, and of its reference notebooks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import EmptyBatch, InvalidParameter, LengthMismatch
from recollect.types import Doubles, Ids


def accuracy_at_rank(truth: ArrayLike, neighbors: ArrayLike) -> Doubles:
    """Share of queries whose neighbor at each rank has the true label (appendix H).

    Args:
        truth: Labels ``(queries,)``.
        neighbors: Labels ``(queries, k)``, nearest first.

    Returns:
        float64 ``(k,)``.

    Example:
        >>> accuracy_at_rank([0, 1], [[0, 0], [1, 0]]).tolist()
        [1.0, 0.5]
    """
    right, labels = _pair(truth, neighbors)
    return np.asarray((labels == right[:, None]).mean(axis=0))


def fit_to_log_rank(accuracy: ArrayLike) -> tuple[float, float]:
    """Fit ``a ln(rank + 1) + b`` to the accuracy at each rank, rank from 0; returns a and b.

    Example:
        >>> a, b = fit_to_log_rank(0.9 - 0.1 * np.log(np.arange(1, 11)))
        >>> round(a, 6), round(b, 6)
        (-0.1, 0.9)
    """
    heights = np.asarray(accuracy, np.float64)
    if heights.ndim != 1 or len(heights) < 2:
        raise InvalidParameter(
            "a line needs two points",
            expected="the accuracy at two ranks or more",
            got=heights.shape,
            remedy="Ask for more neighbors.",
        )
    slope, offset = np.polyfit(np.log(np.arange(1, len(heights) + 1)), heights, 1)
    return float(slope), float(offset)


def label_entropy(neighbors: ArrayLike) -> Doubles:
    """Entropy of each neighborhood's labels in bits: 0 where all agree (appendix M).

    Args:
        neighbors: Labels ``(queries, k)``.

    Example:
        >>> label_entropy([[0, 0, 1, 1], [2, 2, 2, 2]]).tolist()
        [1.0, 0.0]
    """
    counts = _counts(neighbors)
    shares = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(0.0 - (shares * logs).sum(axis=1))


def accuracy_by_votes(
    truth: ArrayLike, predicted: ArrayLike, neighbors: ArrayLike
) -> tuple[Ids, Doubles]:
    """Accuracy by how many of the neighbors have the label that was answered (appendix M).

    The reference leaves out unanimous neighborhoods; here they are in.

    Args:
        truth: Labels ``(queries,)``.
        predicted: Labels ``(queries,)`` that were answered.
        neighbors: Labels ``(queries, k)``.

    Returns:
        The counts that occur, ascending, int64, and the accuracy of each.

    Example:
        >>> accuracy_by_votes([0, 1], [0, 0], [[0, 0, 1], [0, 0, 0]])
        (array([2, 3]), array([1., 0.]))
    """
    right, labels = _pair(truth, neighbors)
    answered = np.asarray(predicted)
    votes = (labels == answered[:, None]).sum(axis=1)
    counts, place = np.unique(votes, return_inverse=True)
    return counts, np.bincount(place, answered == right) / np.bincount(place)


def _counts(neighbors: ArrayLike) -> NDArray[np.int64]:
    labels = np.asarray(neighbors)
    if labels.ndim != 2 or not labels.size:
        raise EmptyBatch(
            "there are no neighborhoods", expected="labels (queries, k)", got=labels.shape
        )
    _, codes = np.unique(labels, return_inverse=True)
    codes = codes.reshape(labels.shape)
    classes = int(codes.max()) + 1
    cells = codes + classes * np.arange(len(codes))[:, None]
    return np.bincount(cells.ravel(), minlength=classes * len(codes)).reshape(len(codes), classes)


def _pair(
    truth: ArrayLike, neighbors: ArrayLike
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    right, labels = np.asarray(truth), np.asarray(neighbors)
    if not len(right):
        raise EmptyBatch("truth is empty", expected="at least one query", got=0)
    if labels.ndim != 2 or len(labels) != len(right):
        raise LengthMismatch(
            "truth and neighbors differ in length",
            expected=f"labels ({len(right)}, k)",
            got=labels.shape,
            remedy="Pass the labels of the neighbors of each query.",
        )
    return right, labels
