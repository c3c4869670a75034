"""The one similarity that decides: each pair computed by itself, in float64, in one fixed order.

A matrix product sums a pair's terms in an order that depends on the shape of the batch, so its
last bits do too. Here every step is elementwise: the terms of a pair are folded in half until
eight or fewer are left, and those are added left to right. Elementwise IEEE arithmetic has no room
for another order, so a pair gets the same bits alone, in any batch, at any alignment, on any
machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.index.standard import standard_arithmetic
from recollect.types import Doubles, Floats, Metric

LARGEST = float(np.finfo(np.float32).max)
TAIL = 8  # terms left to add one by one; a narrower fold costs more calls than it saves
CHUNK = 1 << 18  # float64 terms worked on at a time: 2 MiB, about a core's second-level cache


def sum_terms(terms: Doubles) -> Doubles:
    """Sum along the last axis in one fixed order. Overwrites its argument.

    Args:
        terms: float64 ``(..., width)``, width at least 1.

    Returns:
        float64 ``(...)``. Each sum depends on its own terms only.

    Example:
        >>> sum_terms(np.array([[1.0, 2.0, 4.0], [0.5, 0.25, 0.25]]))
        array([7., 1.])
    """
    width = terms.shape[-1]
    while width > TAIL:
        half = width // 2
        terms[..., :half] += terms[..., width - half : width]
        width -= half
    total = terms[..., 0].copy()
    for column in range(1, width):
        total += terms[..., column]
    return total


@standard_arithmetic()
def measure(
    rows: NDArray[Any], *, metric: Metric = "cosine", weights: Doubles | None = None
) -> Doubles:
    """Measure the length of each row; a chunk of rows at a time.

    Args:
        rows: float32, float16 or uint8 ``(n, dim)``.
        metric: Manhattan asks for the weighted sum of magnitudes, all others for the Euclidean
            norm.
        weights: float64 ``(dim,)``, for Manhattan only; None weighs all alike.

    Returns:
        float64 ``(n,)``. NaN or infinite exactly where a row is not finite.

    Example:
        >>> measure(np.array([[3.0, 4.0]], np.float32))
        array([5.])
    """
    lengths = np.empty(len(rows))
    step = max(1, CHUNK // max(1, rows.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(rows), step):
            terms = rows[start : start + step].astype(np.float64)
            if metric == "manhattan":
                np.abs(terms, out=terms)
                terms *= 1.0 if weights is None else weights
                lengths[start : start + step] = sum_terms(terms)
            else:
                np.multiply(terms, terms, out=terms)
                lengths[start : start + step] = np.sqrt(sum_terms(terms))
    return lengths


@standard_arithmetic()
def similarity(
    metric: Metric,
    queries: NDArray[Any],
    rows: NDArray[Any],
    *,
    query_sizes: Doubles,
    row_sizes: Doubles,
    weights: Doubles | None = None,
) -> Floats:
    """Compute the similarity of pairs of vectors, larger is nearer.

    Args:
        metric: ``"cosine"`` is clipped to [-1, 1]; ``"euclidean"`` and ``"manhattan"`` are minus
            the distance.
        queries: float32 ``(..., dim)``, broadcast against ``rows``.
        rows: float32, float16 or uint8 ``(..., dim)``.
        query_sizes: float64 ``(...)``, what ``measure`` gives; read for cosine only.
        row_sizes: float64 ``(...)``, likewise.
        weights: float64 ``(dim,)``, for Manhattan only.

    Returns:
        float32 ``(...)``: the float64 result rounded once. What float32 cannot hold becomes the
        largest finite number of its sign, as infinity stands for "no row".

    Example:
        >>> pair = np.array([[1.0, 0.0]], np.float32), np.array([[1.0, 1.0]], np.float32)
        >>> sizes = {"query_sizes": measure(pair[0]), "row_sizes": measure(pair[1])}
        >>> similarity("cosine", *pair, **sizes)
        array([0.70710677], dtype=float32)
        >>> similarity("euclidean", *pair, **sizes)
        array([-1.], dtype=float32)
    """
    if metric in {"cosine", "dot"}:
        # The product of two float32 is exact in float64, so only the additions round.
        terms = np.multiply(queries, rows, dtype=np.float64)
        scores = sum_terms(terms)
        if metric == "cosine":
            scores /= query_sizes * row_sizes
            np.clip(scores, -1.0, 1.0, out=scores)
    else:
        terms = np.subtract(queries, rows, dtype=np.float64)
        if metric == "euclidean":
            np.multiply(terms, terms, out=terms)
            scores = np.sqrt(sum_terms(terms))
        else:
            np.abs(terms, out=terms)
            if weights is not None:
                terms *= weights
            scores = sum_terms(terms)
        np.negative(scores, out=scores)
    np.clip(scores, -LARGEST, LARGEST, out=scores)
    scores += 0.0  # minus zero becomes zero
    return scores.astype(np.float32)
