"""How near a key lies to the mean of each class; what varies within classes anyway counts less.

Fisher's linear discriminant with a shrunken within-class scatter (Friedman, "Regularized
discriminant analysis", 1989, with the identity as target): nothing is trained, everything follows
in closed form from counts, sums and products of keys. Those are kept as whole numbers (`KeySums`),
so rows can be added and taken away in any order without a trace in any bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.index.scoring import CHUNK, sum_terms
from recollect.types import Codes, Doubles

SCALE = 2.0**15
"""Keys of length 1 are rounded to multiples of 1 / SCALE, a thousandth of a typical number in a key
of 1,280; a product of two then has 30 bits, and float64 adds 2^23 of them without rounding."""

PIECE = 4096
"""Rows whose products are added in float64 at once; the totals are integers of 64 bits."""

Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class KeySums:
    """What the means and the scatter of rows are computed from, exactly.

    Attributes:
        counts: int64 ``(classes,)``. Rows of each class.
        sums: int64 ``(classes, dim)``. Sum of the rounded keys of each class.
        products: int64 ``(dim, dim)``. Sum of the products of rounded keys.
    """

    counts: Whole
    sums: Whole
    products: Whole

    @classmethod
    def empty(cls, classes: int, dim: int) -> KeySums:
        """Sums of no rows."""
        return cls(
            np.zeros(classes, np.int64),
            np.zeros((classes, dim), np.int64),
            np.zeros((dim, dim), np.int64),
        )

    def plus(self, other: KeySums, sign: int = 1) -> KeySums:
        """Add the sums of other rows, or take them away with sign -1; same classes."""
        return KeySums(
            self.counts + sign * other.counts,
            self.sums + sign * other.sums,
            self.products + sign * other.products,
        )


def sum_keys(keys: NDArray[Any], norms: Doubles, codes: Codes, classes: int) -> KeySums:
    """Sum up the keys of rows.

    Args:
        keys: ``(rows, dim)``, finite, none zero.
        norms: float64 ``(rows,)``. Their lengths.
        codes: int64 ``(rows,)`` in ``[0, classes)``.
        classes: How many classes there are.

    Example:
        >>> sums = sum_keys(np.array([[3.0, 4.0]]), np.array([5.0]), np.array([0]), 1)
        >>> (sums.sums / SCALE).round(3).tolist()
        [[0.6, 0.8]]
    """
    total = KeySums.empty(classes, keys.shape[1])
    total.counts[:] = np.bincount(codes, minlength=classes)
    for start in range(0, len(keys), PIECE):
        part = slice(start, start + PIECE)
        whole = np.rint(_unit(keys[part], norms[part]) * SCALE)
        total.products[:] += (whole.T @ whole).astype(np.int64)
        chosen = np.zeros((classes, len(whole)))
        chosen[codes[part], np.arange(len(whole))] = 1.0
        total.sums[:] += (chosen @ whole).astype(np.int64)
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Discriminant:
    """A linear score for each class: ``directions @ key + offsets``.

    Attributes:
        directions: float64 ``(classes, dim)``.
        offsets: float64 ``(classes,)``; -inf for a class without rows.
    """

    directions: Doubles
    offsets: Doubles


def discriminant(sums: KeySums, shrinkage: float) -> Discriminant:
    """Solve for the directions that tell the class means apart.

    The within-class scatter W is shrunken towards the identity of the same trace,

        A = (1 - shrinkage) W + shrinkage tr(W) / dim I,

    and a key x scores m' A^-1 x - m' A^-1 m / 2 for a class of mean m: minus half its squared
    distance to the mean, but for what is the same for all classes.

    Args:
        sums: Of at least one row.
        shrinkage: From above 0 to 1, where only the distance to the mean counts.

    Example:
        >>> keys = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.6, 0.8]])
        >>> sums = sum_keys(keys, np.ones(4), np.array([0, 0, 1, 1]), 2)
        >>> by = discriminant(sums, 1.0)
        >>> class_scores(keys, np.ones(4), by).argmax(axis=1).tolist()
        [0, 0, 1, 1]
    """
    from scipy.linalg import cho_factor, cho_solve

    dim = sums.sums.shape[1]
    counts = sums.counts.astype(np.float64)
    there = counts > 0
    means = sums.sums / (np.maximum(counts, 1.0)[:, None] * SCALE)
    scatter = sums.products / SCALE**2 - (means * counts[:, None]).T @ means
    scatter /= max(1.0, counts.sum() - np.count_nonzero(there))
    spread = max(float(np.trace(scatter)) / dim, 0.0)
    scatter *= 1.0 - shrinkage
    # What rounding the keys may have left out keeps the scatter of equal rows from being 0.
    scatter[np.diag_indices(dim)] += shrinkage * spread + SCALE**-2
    factor = cho_factor(scatter, lower=True, overwrite_a=True, check_finite=False)
    directions = np.ascontiguousarray(cho_solve(factor, means.T, check_finite=False).T)
    offsets = np.where(there, -0.5 * np.einsum("cd,cd->c", directions, means), -np.inf)
    return Discriminant(directions, offsets)


def class_scores(keys: NDArray[Any], norms: Doubles, by: Discriminant) -> Doubles:
    """Score every class, the same bits for a key alone as in any batch.

    Args:
        keys: ``(queries, dim)``.
        norms: float64 ``(queries,)``. Their lengths.
        by: The directions.

    Returns:
        float64 ``(queries, classes)``.
    """
    unit = _unit(keys, norms)
    scores = np.empty((len(unit), len(by.offsets)))
    step = max(1, CHUNK // max(1, by.directions.size))
    for start in range(0, len(unit), step):
        part = slice(start, start + step)
        scores[part] = sum_terms(unit[part, None, :] * by.directions[None])
    return scores + by.offsets


def class_shares(scores: Doubles, temperature: float) -> Doubles:
    """Turn scores into shares that add up to 1: a softmax; to 0 where no class has rows.

    Args:
        scores: float64 ``(queries, classes)``.
        temperature: Above 0. The scatter of a few thousand keys is known badly, so scores taken at
            their word, temperature 1, are far too sure of themselves.

    Example:
        >>> class_shares(np.array([[0.0, np.log(3.0)]]), 1.0).round(3).tolist()
        [[0.25, 0.75]]
    """
    best = scores.max(axis=1, keepdims=True, initial=-np.inf)
    some = best > -np.inf
    with np.errstate(over="ignore"):  # infinitely far behind weighs 0, as it should
        shares = np.exp((scores - np.where(some, best, 0.0)) / temperature)
    total = np.cumsum(shares, axis=1)[:, -1:]
    return np.asarray(np.divide(shares, total, out=np.zeros(scores.shape), where=some))


def _unit(keys: NDArray[Any], norms: Doubles) -> Doubles:
    return np.asarray(keys.astype(np.float64) / norms[:, None])
