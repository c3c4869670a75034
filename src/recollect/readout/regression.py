"""Neighbors -> numbers: the weighted mean of what the nearest rows hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.types import Doubles


def weighted_parts(values: NDArray[Any], shares: Doubles) -> Doubles:
    """Multiply the value of each neighbor by its share: what each row adds to the mean.

    Args:
        values: ``(queries, k)`` numbers or ``(queries, k, width)`` vectors; what stands at a share
            of 0 is not read, so NaN marks empty places.
        shares: float64 ``(queries, k)``, as ``voting.vote_shares`` gives them.

    Returns:
        float64, the shape of ``values``.

    Example:
        >>> weighted_parts(np.array([[10.0, 2.0, np.nan]]), np.array([[0.75, 0.25, 0.0]]))
        array([[7.5, 0.5, 0. ]])
    """
    wide = shares if values.ndim == 2 else shares[:, :, None]
    parts = np.zeros(values.shape)
    np.multiply(values, wide, out=parts, where=np.broadcast_to(wide > 0, values.shape))
    return parts


def weighted_mean(values: NDArray[Any], shares: Doubles) -> Doubles:
    """Add the parts of each query in rank order, so they sum to the answer to the last bit.

    Args:
        values: ``(queries, k)`` numbers or ``(queries, k, width)`` vectors.
        shares: float64 ``(queries, k)``; a row sums to 1.

    Returns:
        float64 ``(queries,)`` or ``(queries, width)``.

    Example:
        >>> weighted_mean(np.array([[10.0, 2.0]]), np.array([[0.75, 0.25]]))
        array([8.])
    """
    return np.asarray(np.cumsum(weighted_parts(values, shares), axis=1)[:, -1])


def means_all_k(values: NDArray[Any], weights: Doubles) -> Doubles:
    """Compute the weighted mean for every neighborhood size 1..k in one pass.

    Args:
        values: ``(queries, k)`` numbers or ``(queries, k, width)`` vectors.
        weights: float64 ``(queries, k)``, non-negative, as ``voting.weigh`` gives them.

    Returns:
        float64, the shape of ``values``: column j is the mean over the first j + 1 neighbors; its
        last bits may differ from ``weighted_mean``, which divides before it adds. While all
        weights are 0 it is the nearest neighbor's value.

    Example:
        >>> means_all_k(np.array([[10.0, 2.0]]), np.array([[3.0, 1.0]]))
        array([[10.,  8.]])
    """
    total = np.cumsum(weights, axis=1)
    sums = np.cumsum(weighted_parts(values, weights), axis=1)
    if values.ndim == 3:
        total = total[:, :, None]
    voted = np.broadcast_to(total > 0, values.shape)
    nearest = np.broadcast_to(values[:, :1], values.shape).astype(np.float64)
    return np.divide(sums, total, out=nearest, where=voted)
