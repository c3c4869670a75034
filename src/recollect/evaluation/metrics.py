"""How good the answers are: pure functions of arrays, each with a number that says how sure it is.

Every function checks that its columns have one length, at least one row, and numbers in range;
otherwise it raises ``LengthMismatch``, ``EmptyBatch``, ``NonFinite`` or ``InvalidParameter``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import EmptyBatch, InvalidParameter, LengthMismatch, NonFinite
from recollect.types import Doubles, Ids

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each label was answered as each other label.

    Attributes:
        labels: ``(classes,)``, sorted.
        counts: int64 ``(classes, classes)``. ``counts[t, p]`` rows have the true label
            ``labels[t]`` and were answered ``labels[p]``.
    """

    labels: NDArray[Any]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy, in bins of equal width over [0, 1].

    Attributes:
        edges: float64 ``(bins + 1,)``. A bin holds ``edges[b] < confidence <= edges[b + 1]``; a
            confidence of 0 falls into the first.
        counts: int64 ``(bins,)``. Answers in each bin.
        confidence: float64 ``(bins,)``. Mean confidence in the bin; NaN where it is empty.
        accuracy: float64 ``(bins,)``. Share of right answers in the bin; NaN where it is empty.
    """

    edges: Doubles
    counts: NDArray[np.int64]
    confidence: Doubles
    accuracy: Doubles

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap of the bins, weighted by their answers."""
        filled = self.counts > 0
        gap = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.average(gap, weights=self.counts[filled]))


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of right answers, in [0, 1].

    Args:
        truth: Labels ``(rows,)``.
        predicted: Labels ``(rows,)``.

    Example:
        >>> accuracy(["cat", "dog", "dog", "cat"], ["cat", "dog", "cat", "cat"])
        0.75
    """
    return float(np.mean(_hits(truth, predicted)))


def macro_recall(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the true labels of the share of their rows answered right, in [0, 1].

    A label that is answered but never true has no recall and takes no part.

    Example:
        >>> macro_recall(["cat", "cat", "cat", "dog"], ["cat", "cat", "cat", "cat"])
        0.5
    """
    hits = _hits(truth, predicted)
    _, codes = np.unique(_column(truth, "truth"), return_inverse=True)
    return float(np.mean(np.bincount(codes, hits) / np.bincount(codes)))


def standard_error(share: float, rows: int) -> float:
    """Standard error of a share of ``rows`` independent answers: ``sqrt(share (1-share) / rows)``.

    Example:
        >>> standard_error(0.8, 400)
        0.02
    """
    if not 0.0 <= share <= 1.0:
        raise InvalidParameter(
            "a share is out of range",
            expected="a number in [0, 1]",
            got=share,
            remedy="Pass an accuracy as a fraction, not as a percentage.",
        )
    _at_least_one(rows, "rows")
    return float(np.sqrt(share * (1.0 - share) / rows))


def bootstrap_error(
    truth: ArrayLike,
    predicted: ArrayLike,
    metric: Callable[[NDArray[Any], NDArray[Any]], float] = accuracy,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> float:
    """Standard error of any metric: its spread over test sets redrawn with replacement.

    Args:
        truth: Labels ``(rows,)``.
        predicted: Labels ``(rows,)``.
        metric: Takes truth and predictions and returns a number.
        resamples: How many test sets are drawn, at least 2.
        seed: Of the draws; the same seed gives the same error.

    Example:
        >>> truth, predicted = np.repeat([0, 1], 50), np.tile([0, 1], 50)
        >>> 0.04 < bootstrap_error(truth, predicted) < 0.06
        True
    """
    right, answered = _pair(truth, predicted)
    _at_least_one(resamples - 1, "resamples - 1")
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, len(right), len(right)) for _ in range(resamples))
    return float(np.std([metric(right[draw], answered[draw]) for draw in draws], ddof=1))


def paired_difference(truth: ArrayLike, first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Accuracy of ``first`` minus that of ``second`` on the same rows, with its standard error.

    Answers on the same rows are right or wrong together, so this error is smaller than the two
    accuracies' own errors would suggest.

    Example:
        >>> difference, error = paired_difference([0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0])
        >>> difference, round(error, 4)
        (0.25, 0.2165)
    """
    gain = _hits(truth, first).astype(float) - _hits(truth, second)
    return float(gain.mean()), float(gain.std() / np.sqrt(len(gain)))


def confusion_matrix(
    truth: ArrayLike, predicted: ArrayLike, labels: ArrayLike | None = None
) -> Confusion:
    """Count the answers to each true label.

    Args:
        truth: Labels ``(rows,)``.
        predicted: Labels ``(rows,)``.
        labels: The labels to count; every label that occurs must be among them. None takes those
            that occur.

    Raises:
        InvalidParameter: A label occurs that is not among ``labels``.

    Example:
        >>> confusion_matrix(["a", "a", "b"], ["a", "b", "b"]).counts
        array([[1, 1],
               [0, 1]])
    """
    right, answered = _pair(truth, predicted)
    seen = np.union1d(right, answered)
    known = seen if labels is None else np.unique(_column(labels, "labels"))
    if not np.isin(seen, known).all():
        raise InvalidParameter(
            "a label is not among those to count",
            expected=known.tolist(),
            got=np.setdiff1d(seen, known).tolist(),
            remedy="Add it to labels, or leave labels out.",
        )
    counts = np.zeros((len(known), len(known)), np.int64)
    np.add.at(counts, (np.searchsorted(known, right), np.searchsorted(known, answered)), 1)
    return Confusion(known, counts)


def reliability_curve(correct: ArrayLike, confidence: ArrayLike, *, bins: int = 15) -> Reliability:
    """Compare how sure the answers were with how often they were right.

    Args:
        correct: Bool ``(rows,)``. Whether each answer was right.
        confidence: ``(rows,)`` in [0, 1]. For a vote, the winner's share.
        bins: Bins of equal width over [0, 1], at least 1.

    Example:
        >>> curve = reliability_curve([True, False, True, True], [0.6, 0.6, 0.9, 0.9], bins=2)
        >>> curve.counts, round(float(curve.confidence[1]), 2), float(curve.accuracy[1])
        (array([0, 4]), 0.75, 0.75)
    """
    hits, sure = _column(correct, "correct"), _column(confidence, "confidence")
    _same_length(hits, sure, "correct", "confidence")
    hits, sure = hits.astype(bool), _probabilities(sure)
    _at_least_one(bins, "bins")
    edges = np.linspace(0.0, 1.0, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    # An empty bin has no mean; 0 / 0 is the NaN that the attributes promise.
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bin_of, sure, bins) / counts
        mean_accuracy = np.bincount(bin_of, hits, bins) / counts
    return Reliability(edges, counts, mean_confidence, mean_accuracy)


def expected_calibration_error(
    correct: ArrayLike, confidence: ArrayLike, *, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy, in [0, 1]; 0 is perfectly calibrated.

    The answers are put into ``bins`` bins of equal width over [0, 1]; the gap of each bin counts
    by the answers in it (Guo et al., "On Calibration of Modern Neural Networks", 2017, eq. 3).

    Args:
        correct: Bool ``(rows,)``. Whether each answer was right.
        confidence: ``(rows,)`` in [0, 1]. For a vote, the winner's share.
        bins: Bins of equal width over [0, 1], at least 1. The paper uses 15.

    Example:
        >>> expected_calibration_error([True, False], [0.75, 0.75])
        0.25
    """
    return reliability_curve(correct, confidence, bins=bins).error


def accuracy_by_k(truth: ArrayLike, predictions: ArrayLike) -> Doubles:
    """Accuracy at every neighborhood size, from the answers at all of them.

    Args:
        truth: Labels ``(rows,)``.
        predictions: Labels ``(rows, K)``; column ``k - 1`` is the answer of k neighbors.

    Returns:
        float64 ``(K,)`` in [0, 1].

    Example:
        >>> accuracy_by_k([0, 1], [[0, 0, 1], [0, 1, 1]])
        array([0.5, 1. , 0.5])
    """
    right, answered = _column(truth, "truth"), np.asarray(predictions)
    if answered.ndim != 2 or answered.shape[1] < 1:
        raise InvalidParameter(
            "predictions do not hold the answers at every k",
            expected="shape (rows, K)",
            got=answered.shape,
            remedy="Pass one row a query and one column for each k.",
        )
    _same_length(right, answered, "truth", "predictions")
    return np.asarray((answered == right[:, None]).mean(axis=0), np.float64)


def hit_rate_by_k(truth: ArrayLike, neighbors: ArrayLike) -> Doubles:
    """Share of queries whose true label is among the first k neighbors, for every k.

    No vote over these neighbors can be right more often (visual memory, appendix E: hit rate).

    Args:
        truth: Labels ``(rows,)``.
        neighbors: Labels ``(rows, K)`` of the neighbors, nearest first.

    Example:
        >>> hit_rate_by_k([0, 1], [[0, 2, 2], [0, 1, 2]])
        array([0.5, 1. , 1. ])
    """
    right, labels = _column(truth, "truth"), np.asarray(neighbors)
    _same_length(right, labels, "truth", "neighbors")
    met: Ids = np.cumsum(labels == right[:, None], axis=1)
    return np.asarray((met > 0).mean(axis=0), np.float64)


def auroc(known: ArrayLike, novel: ArrayLike) -> float:
    """Probability that a novel query scores higher than a known one; ties count half.

    Args:
        known: Novelty scores ``(n,)`` of queries that belong to the memory's classes.
        novel: Novelty scores ``(m,)`` of queries that do not.

    Example:
        >>> auroc([0.1, 0.2], [0.15, 0.9])
        0.75
    """
    low, high = np.sort(_column(known, "known")), _column(novel, "novel")
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.mean() / (2 * len(low)))


def false_positive_rate(known: ArrayLike, novel: ArrayLike, *, recall: float = 0.95) -> float:
    """Share of novel queries that pass where this share of the known ones does (FPR95).

    Args:
        known: Novelty scores of queries that belong to the memory's classes.
        novel: Novelty scores of queries that do not.
        recall: Share of the known that must pass, in (0, 1].

    Example:
        >>> false_positive_rate([0.1, 0.2, 0.3, 0.4], [0.25, 0.9], recall=0.75)
        0.5
    """
    low = np.sort(_column(known, "known"))
    if not 0.0 < recall <= 1.0:
        raise InvalidParameter("recall is out of range", expected="in (0, 1]", got=recall)
    threshold = low[int(np.ceil(recall * len(low))) - 1]
    return float(np.mean(_column(novel, "novel") <= threshold))


def _hits(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.bool_]:
    right, answered = _pair(truth, predicted)
    return np.asarray(right == answered, bool)


def _pair(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    right, answered = _column(truth, "truth"), _column(predicted, "predicted")
    _same_length(right, answered, "truth", "predicted")
    return right, answered


def _column(values: ArrayLike, name: str) -> NDArray[Any]:
    column = np.asarray(values)
    if column.ndim != 1:
        raise InvalidParameter(
            f"{name} is not a column", expected="shape (rows,)", got=column.shape
        )
    if not len(column):
        raise EmptyBatch(f"{name} is empty", expected="at least one row", got=0)
    return column


def _same_length(first: NDArray[Any], second: NDArray[Any], name: str, other: str) -> None:
    if len(first) != len(second):
        raise LengthMismatch(
            f"{name} and {other} differ in length",
            expected=f"{len(first)} rows as in {name}",
            got=len(second),
            remedy="Pass one entry for each row, in the same order.",
        )


def _probabilities(values: NDArray[Any]) -> Doubles:
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise NonFinite("a confidence is NaN or infinite", expected="numbers in [0, 1]")
    # Shares that were summed may miss 1 by their rounding, which is no mistake of the caller.
    if numbers.min() < -ROUNDING or numbers.max() > 1.0 + ROUNDING:
        raise InvalidParameter(
            "a confidence is out of range",
            expected="numbers in [0, 1]",
            got=f"{numbers.min():g} to {numbers.max():g}",
            remedy="Divide each score by the sum of the query's scores.",
        )
    return np.clip(numbers, 0.0, 1.0)


def _at_least_one(number: int, name: str) -> None:
    if number < 1:
        raise InvalidParameter(f"{name} is out of range", expected="at least 1", got=number)
