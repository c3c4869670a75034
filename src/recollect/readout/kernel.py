"""Neighbors -> numbers: residuals, the kernel that weighs them, and valid probabilities.

The arithmetic of Yang et al., "ResMem: Learn what you can and memorize the rest" (NeurIPS 2023).
With d the Euclidean distance, w = exp(-d / sigma) over the k nearest rows, scaled to sum to 1, and
r = onehot(label) - softmax(logits / T), a query's scores are softmax(logits / T) + sum(w r). Every
sum runs in rank order, each query by itself, so it has the same bits alone and in any batch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.types import Codes, Doubles

# Residuals read at once: 2 MiB, about a core's second-level cache.
_CELLS = 1 << 18
# Beyond it a correction is no correction, and sums need not be finite.
MOST_STRENGTH = 1e6


def kernel_shares(distances: Doubles, sigma: float, weights: Doubles | None = None) -> Doubles:
    """Weigh neighbors by exp(-distance / sigma), scaled to sum to 1 over those of a query.

    The smallest distance that counts is taken off first: the shares stay as they are, and no
    distance is so large that all of them vanish. sigma towards 0 leaves the nearest row alone,
    infinity weighs all alike.

    Args:
        distances: float64 ``(queries, k)``, 0 or more; infinity where there is no row.
        sigma: Width of the kernel, above 0; infinity is allowed.
        weights: float64 ``(queries, k)``: the rows' own weights; None weighs all alike.

    Returns:
        float64 ``(queries, k)``. A row sums to 1, or is all 0 where no row has a weight above 0.

    Raises:
        InvalidParameter: sigma is not above 0.

    Example:
        >>> kernel_shares(np.array([[0.0, np.log(3.0), np.inf]]), sigma=1.0)
        array([[0.75, 0.25, 0.  ]])
    """
    check_above_zero("sigma", sigma, infinite=True)
    own = np.ones(distances.shape) if weights is None else weights
    counts = np.isfinite(distances) & (own > 0)
    masked = np.where(counts, distances, np.inf)
    nearest = masked.min(axis=1, keepdims=True, initial=np.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        kernel = np.where(counts, np.exp(-(masked - nearest) / sigma), 0.0)
    kernel = np.where(counts, own * kernel, 0.0)
    total = np.cumsum(kernel, axis=1)[:, -1:]
    return np.asarray(np.divide(kernel, total, out=np.zeros_like(kernel), where=total > 0))


def soften(logits: NDArray[Any], temperature: float = 1.0) -> Doubles:
    """Turn logits into probabilities: softmax(logits / temperature).

    Args:
        logits: ``(rows, classes)``, finite; a constant added to a row changes nothing.
        temperature: Above 0.

    Returns:
        float64 ``(rows, classes)``; rows sum to 1.

    Raises:
        InvalidParameter: The temperature is not above 0.

    Example:
        >>> soften(np.array([[np.log(3.0), 0.0]]))
        array([[0.75, 0.25]])
    """
    check_above_zero("temperature", temperature)
    shifted = np.asarray(logits, np.float64)
    shifted = (shifted - shifted.max(axis=1, keepdims=True)) / temperature
    np.exp(shifted, out=shifted)
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def class_residuals(probabilities: Doubles, codes: Codes) -> Doubles:
    """Return what a classifier gets wrong: onehot(code) - probabilities.

    Args:
        probabilities: float64 ``(rows, classes)``.
        codes: int64 ``(rows,)`` in [0, classes).

    Returns:
        float64 ``(rows, classes)`` in [-1, 1]; rows sum to 0.

    Example:
        >>> class_residuals(np.array([[0.75, 0.25]]), np.array([1]))
        array([[-0.75,  0.75]])
    """
    residuals = -probabilities
    residuals[np.arange(len(codes)), codes] += 1.0
    return residuals


def add_dense(
    scores: Doubles, shares: Doubles, residuals: Doubles, places: NDArray[np.intp]
) -> None:
    """Add the weighted residuals of each query's neighbors to its scores, nearest first, in place.

    Args:
        scores: float64 ``(queries, width)``, changed.
        shares: float64 ``(queries, k)``; where 0, nothing is added.
        residuals: float64 ``(rows, width)``, finite.
        places: ``(queries, k)``: which row of ``residuals`` each neighbor is.

    Example:
        >>> scores = np.array([[0.5, 0.5]])
        >>> add_dense(scores, np.array([[1.0]]), np.array([[0.25, -0.25]]), np.array([[0]]))
        >>> scores
        array([[0.75, 0.25]])
    """
    for rank in range(places.shape[1]):
        part = residuals[places[:, rank]]
        part *= shares[:, rank, None]
        scores += part


def add_dense_many(
    scores: Doubles, shares: Doubles, residuals: Doubles, places: NDArray[np.intp]
) -> None:
    """Add residuals in several weighings at once, each as :func:`add_dense` would, in place.

    Each row is read once for all weighings. The sums are those of matrix products: right, but not
    the bits of :func:`add_dense`.

    Args:
        scores: float64 ``(weighings, queries, width)``, changed.
        shares: float64 ``(queries, weighings, k)``.
        residuals: float64 ``(rows, width)``, finite.
        places: ``(queries, k)``: which row of ``residuals`` each neighbor is.

    Example:
        >>> scores = np.zeros((2, 1, 2))
        >>> shares = np.array([[[1.0], [0.5]]])
        >>> add_dense_many(scores, shares, np.array([[0.25, -0.25]]), np.array([[0]]))
        >>> scores.tolist()
        [[[0.25, -0.25]], [[0.125, -0.125]]]
    """
    step = max(1, _CELLS // max(1, places.shape[1] * residuals.shape[1]))
    for start in range(0, len(places), step):
        part = slice(start, start + step)
        scores[:, part] += (shares[part] @ residuals[places[part]]).transpose(1, 0, 2)


def add_sparse(
    scores: Doubles,
    shares: Doubles,
    residuals: Doubles,
    columns: NDArray[np.integer[Any]],
    places: NDArray[np.intp],
) -> None:
    """Add weighted residuals of which only some entries are kept, as :func:`add_dense` does.

    Args:
        scores: float64 ``(queries, width)``, C-contiguous, changed.
        shares: float64 ``(queries, k)``.
        residuals: float64 ``(rows, entries)``.
        columns: ``(rows, entries)``: the column of ``scores`` each entry belongs to.
        places: ``(queries, k)``: which row each neighbor is.

    Example:
        >>> scores = np.array([[0.5, 0.5]])
        >>> residuals, columns = np.array([[0.25]]), np.array([[1]])
        >>> add_sparse(scores, np.array([[1.0]]), residuals, columns, np.array([[0]]))
        >>> scores
        array([[0.5 , 0.75]])
    """
    starts = np.arange(len(scores), dtype=np.int64)[:, None, None] * scores.shape[1]
    cells = (columns[places] + starts).reshape(-1)
    parts = (residuals[places] * shares[:, :, None]).reshape(-1)
    # Entries of one query lie behind each other by rank, so each class adds up in rank order.
    np.add.at(scores.reshape(-1), cells, parts)


def project_to_simplex(scores: Doubles) -> Doubles:
    """Return the nearest valid probabilities of each row, in the Euclidean sense.

    The order of the classes stays as it is, so the largest score stays the largest. After Held,
    Wolfe and Crowder (1974): what is above one threshold stays, less that threshold.

    Args:
        scores: float64 ``(rows, classes)``, finite.

    Returns:
        float64 ``(rows, classes)``, 0 or more; rows sum to 1.

    Example:
        >>> project_to_simplex(np.array([[1.25, 0.25, -0.5]]))
        array([[1., 0., 0.]])
    """
    falling = -np.sort(-scores, axis=1)
    beyond = np.cumsum(falling, axis=1) - 1.0
    ranks = np.arange(1, scores.shape[1] + 1)
    kept = np.count_nonzero(falling * ranks > beyond, axis=1)
    threshold = beyond[np.arange(len(scores)), kept - 1] / kept
    return np.asarray(np.maximum(scores - threshold[:, None], 0.0))


def clip_to_probabilities(scores: Doubles, least: float = 1e-6) -> Doubles:
    """Cut scores off below ``least`` and scale each row to sum to 1: no class is impossible.

    Args:
        scores: float64 ``(rows, classes)``, finite.
        least: Above 0.

    Example:
        >>> clip_to_probabilities(np.array([[0.75, 0.5, -0.25]]), least=0.25).round(3)
        array([[0.5  , 0.333, 0.167]])
    """
    check_above_zero("least", least)
    clipped = np.maximum(scores, least)
    return np.asarray(clipped / clipped.sum(axis=1, keepdims=True))


def check_above_zero(name: str, value: Any, *, infinite: bool = False) -> float:
    """Return a number above 0.

    Raises:
        InvalidParameter: It is none.
    """
    number = _as_float(value)
    if not number > 0 or not (infinite or math.isfinite(number)):
        raise InvalidParameter(
            f"{name} is out of range",
            expected="a number above 0",
            got=_shown(value),
            remedy="Leave it out for the default.",
        )
    return number


def check_strength(value: Any) -> float:
    """Return a number above 0 and at most ``MOST_STRENGTH``: what a correction is multiplied by.

    Raises:
        InvalidParameter: It is none.
    """
    number = _as_float(value)
    if not 0 < number <= MOST_STRENGTH:
        raise InvalidParameter(
            "strength is out of range",
            expected=f"a number above 0, at most {MOST_STRENGTH:,.0f}",
            got=_shown(value),
            remedy="1 is the published form; 0 leaves the base alone.",
        )
    return number


def check_not_negative(name: str, value: Any, remedy: str) -> float:
    """Return a number of 0 or more; infinity is one.

    Raises:
        InvalidParameter: It is none.
    """
    number = _as_float(value)
    if not number >= 0:
        raise InvalidParameter(
            f"{name} is out of range", expected="0 or more", got=_shown(value), remedy=remedy
        )
    return number


def _as_float(value: Any) -> float:
    """A number as Python's float; NaN, which no range holds, for what is none or too large."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return math.nan


def _shown(value: Any) -> str:
    """As Python writes it, cut short; it refuses to write thousands of digits."""
    try:
        told = repr(value)
    except ValueError:
        return "a whole number of thousands of digits"
    return told if len(told) <= 80 else f"{told[:60]}... ({len(told)} characters)"
