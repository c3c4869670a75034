"""The first pass: fast float32 scores, and a proof of how far they can be from the truth.

Every metric is turned into a *coarse score* s, larger is nearer, together with a bound e such that

    |s - g(c)| <= e,        c: the similarity of ``scoring.similarity``, g: increasing

where g may depend on the query but not on the row. Let t be the k-th largest s - e. At least k rows
have g(c) >= t, so a row with s + e < t is beaten by k rows and can be left out; ties included,
because a row that ties with the k-th has g(c) >= t as well. What remains is scored again, pair by
pair, so the bound costs time when it is loose and never an answer.

The bounds. Let u = 2^-24 and gamma(n) = n u / (1 - n u). Whatever the order of its additions, with
or without fused multiply-add, a float32 dot product errs by at most gamma(dim) |a| |b| (Higham,
Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); so BLAS may block and thread
as it likes. Writing |x| for the size of a row and |q| for that of a query:

cosine      s = (x . q') / |x| with q' = q / |q| rounded, g(c) = c. The product errs by gamma(dim),
            the roundings of q', of 1/|x|, of its product and of c by u each: gamma(dim + 4). Rows
            whose norm is 1 to within 2^-20 are not divided, which adds 2^-20.
dot         s = x . q', g(c) = c / |q|: gamma(dim + 4) |x|.
euclidean   s = x . 2q - |x|^2, g(c) = |q|^2 - c^2. The product errs by gamma(dim) 2|q||x|, the
            rounding of |x|^2 and the subtraction by u (2|q||x| + 2|x|^2), the rounding of c moves
            c^2 by at most 2.1 u (|q| + |x|)^2: gamma(dim + 6) (2|q||x| + |x|^2) + 4 u |q|^2.
manhattan   s = -sum w |x - q| with weights scaled to at most 1; the size is the weighted sum of
            magnitudes. Subtraction, weight and rounding of c add u each:
            gamma(dim + 4) (|x| + |q|).

All use gamma(dim + 16): the rest covers the few roundings made in forming s - e and s + e. A floor
of 1e-30 covers underflow, also where subnormal numbers are flushed to zero. Nothing overflows, and
no rounded c is saturated, while sizes are at most 1e15; cosine also asks for rows of at least
1e-15, so that 1/|x| is a normal float32. Other rows and queries are *irregular*: they skip the
first pass and are scored pair by pair.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.index import scoring
from recollect.types import Doubles, Floats, Mask, Metric

UNIT = 2.0**-24  # the largest relative error of one float32 rounding
NEARLY_ONE = 2.0**-20  # norms this close to 1 count as 1: rows that were normalized in float32
FLOOR = 1e-30
LARGEST_SIZE = 1e15
SMALLEST_SIZE = 1e-15
# A weight below 2^-40 of the largest counts as that when a row is measured, so that the bound
# covers a weight that float32 flushes to zero.
SMALLEST_WEIGHT = 2.0**-40
# From this width on, one dot product a row reads memory faster than BLAS' matrix times vector.
WIDE = 64
# Up to this many queries, one dot product a pair beats a matrix product.
FEW = 3
# OpenBLAS keeps a matrix product of at most this many multiplications on the calling core.
SMALL_PRODUCT = 1 << 18
# Small products of at least this many rows, spread over our own threads, beat one large product: a
# BLAS that spreads it waits for the slowest core at every step.
SMALL_ROWS = 12
DIFFERENCES = 1 << 16  # terms of the Manhattan pass worked on at a time: 256 KiB


class Coarse:
    """The first pass of one metric, and its error bound.

    Args:
        metric: One of ``types.METRICS``.
        dim: Width of a key.
        weights: float64 ``(dim,)``, finite and not negative, for Manhattan; None weighs all alike.
    """

    def __init__(self, metric: Metric, dim: int, weights: Doubles | None = None) -> None:
        self.metric, self.dim, self.weights = metric, dim, weights
        weights = np.ones(dim) if weights is None else weights
        self._heaviest = float(weights.max()) or 1.0
        self._weights = (weights / -self._heaviest).astype(np.float32)  # minus: larger is nearer
        self._measuring = np.maximum(weights / self._heaviest, SMALLEST_WEIGHT)
        steps = dim + 16
        self._gamma = steps * UNIT / (1.0 - steps * UNIT)

    def measure(self, rows: NDArray[Any]) -> Doubles:
        """Measure rows or queries: float64 ``(n,)``, not finite exactly where a row is not."""
        return scoring.measure(rows, metric=self.metric, weights=self._measuring)

    def regular_rows(self, sizes: Doubles) -> Mask:
        """Tell which rows the bound covers, by their sizes. Bool ``(n,)``."""
        regular = self._small_enough(sizes)
        if self.metric == "cosine":
            regular &= sizes >= SMALLEST_SIZE
        return regular

    def regular_queries(self, sizes: Doubles) -> Mask:
        """Tell which queries the bound covers, by their sizes. Bool ``(n,)``."""
        if self.metric == "cosine":
            return np.ones(len(sizes), bool)  # scaled in float64, so any size does
        regular = self._small_enough(sizes)
        if self.metric == "dot":
            regular &= sizes >= SMALLEST_SIZE
        return regular

    def _small_enough(self, sizes: Doubles) -> Mask:
        limit = LARGEST_SIZE
        if self.metric == "manhattan":
            limit = min(limit, LARGEST_SIZE * LARGEST_SIZE / self._heaviest)
        return sizes <= limit

    def terms(self, sizes: Doubles) -> Floats | None:
        """Derive what each row adds to its score besides the product.

        Returns:
            float32 ``(n,)``: for cosine the factor ``1 / |x|``, for Euclidean ``|x|^2``. None where
            the product needs nothing. Irregular rows get some number.
        """
        with np.errstate(over="ignore", divide="ignore"):
            if self.metric == "cosine" and np.any(np.abs(sizes - 1.0) > NEARLY_ONE):
                return (1.0 / sizes).astype(np.float32)
            if self.metric == "euclidean":
                return (sizes * sizes).astype(np.float32)
        return None

    def prepare(self, queries: Floats, sizes: Doubles) -> Floats:
        """Scale regular queries for the product: float32 ``(dim, queries)``, one per column."""
        columns = self.scaled(queries, sizes).T
        return np.ascontiguousarray(columns) if self._small_rows(len(queries)) else columns

    def scaled(self, queries: Floats, sizes: Doubles) -> Floats:
        """Scale regular queries for the product: float32 ``(queries, dim)``."""
        if self.metric in {"cosine", "dot"}:
            return (queries / sizes[:, None]).astype(np.float32)
        return queries * np.float32(2.0) if self.metric == "euclidean" else queries

    def gain(self, sizes: Doubles) -> Doubles:
        """Return the slope of g for each query, where g is a straight line; float64 ``(n,)``."""
        if self.metric == "dot":
            return 1.0 / sizes
        return np.full(len(sizes), 1.0 / self._heaviest if self.metric == "manhattan" else 1.0)

    @property
    def falling_weights(self) -> Floats:
        """What each dimension's difference is multiplied by: float32 ``(dim,)``, all <= 0."""
        return self._weights

    @property
    def measuring_weights(self) -> Doubles:
        """What ``measure`` multiplies magnitudes by: float64 ``(dim,)``."""
        return self._measuring

    @property
    def uniform(self) -> bool:
        """Whether the bound is the same for all rows and queries."""
        return self.metric == "cosine"

    def bound(self, row_sizes: Doubles | None, query_sizes: Doubles) -> Doubles | float:
        """Bound the error of the scores of regular rows and queries; the arguments broadcast.

        Args:
            row_sizes: What ``measure`` gave; may be None if the bound is ``uniform``.
            query_sizes: Likewise.
        """
        if row_sizes is None or self.uniform:
            return self._gamma + NEARLY_ONE
        rho, tau = self.row_bounds(row_sizes)
        reach, slack = self.query_bounds(query_sizes)
        return rho * reach + tau + slack

    def row_bounds(self, sizes: Doubles) -> tuple[Doubles, Doubles]:
        """Return rho and tau of rows, float64 ``(n,)``; a bound is rho * reach + tau + slack."""
        nothing = np.zeros_like(sizes)
        if self.uniform:
            return nothing, nothing + (self._gamma + NEARLY_ONE)
        with np.errstate(over="ignore"):
            if self.metric == "euclidean":
                return self._gamma * sizes, self._gamma * sizes * sizes + FLOOR
            floor = FLOOR + (2.0**-149 / self._heaviest if self.metric == "manhattan" else 0.0)
            return nothing, self._gamma * sizes + floor

    def query_bounds(self, sizes: Doubles) -> tuple[Doubles, Doubles]:
        """Return reach and slack of queries, float64 ``(n,)``; see ``row_bounds``."""
        nothing = np.zeros_like(sizes)
        if self.metric == "euclidean":
            return 2.0 * sizes, 4.0 * UNIT * sizes * sizes
        return nothing, self._gamma * sizes if self.metric == "manhattan" else nothing

    def goal(self, similarity: Doubles, query_sizes: Doubles) -> Doubles:
        """Turn similarities c into g(c): a row of similarity c or more scores g(c) - bound or more.

        Args:
            similarity: float64 ``(queries,)``; ``-inf`` stays what every row reaches.
            query_sizes: Of regular queries, likewise.
        """
        with np.errstate(invalid="ignore"):
            if self.metric == "cosine":
                return similarity
            if self.metric == "dot":
                return similarity / query_sizes
            if self.metric == "manhattan":
                return similarity / self._heaviest
            squares = query_sizes * query_sizes - similarity * similarity
        return np.where(np.isneginf(similarity), -np.inf, squares)

    def by_rows(self, queries: int) -> bool:
        """Tell whether ``score`` keeps to one core, so that threads should share the rows."""
        dots = queries <= FEW and self.dim >= WIDE
        return self.metric == "manhattan" or dots or self._small_rows(queries) > 0

    def _small_rows(self, queries: int) -> int:
        """Return how many rows go into one small product; 0 where large products are better."""
        rows = SMALL_PRODUCT // (self.dim * max(1, queries))
        return rows if queries > FEW and rows >= SMALL_ROWS else 0

    def score(
        self, rows: NDArray[Any], terms: Floats | None, prepared: Floats, out: Floats
    ) -> None:
        """Write the coarse scores of ``rows`` for all prepared queries.

        Args:
            rows: float32, float16 or uint8 ``(n, dim)``, C-contiguous.
            terms: What ``terms`` gave for these rows.
            prepared: float32 ``(dim, queries)``, what ``prepare`` gave.
            out: float32 ``(n, queries)``; C-contiguous but for Manhattan.
        """
        # Irregular rows may overflow here; their scores are overwritten.
        with np.errstate(all="ignore"):
            if rows.dtype != np.float32:
                rows = rows.astype(np.float32)
            if self.metric == "manhattan":
                self._distances(rows, prepared, out)
            else:
                self._products(rows, prepared, out)
            if terms is not None and self.metric == "cosine":
                np.multiply(out, terms[:, None], out=out)
            elif terms is not None:
                np.subtract(out, terms[:, None], out=out)

    def pairs(self, rows: Floats, terms: Floats | None, scaled: Floats) -> Floats:
        """Return the coarse score of each row and its own query: float32 ``(n,)``.

        Args:
            rows: float32 ``(n, dim)``, regular.
            terms: What ``terms`` gave for them.
            scaled: float32 ``(n, dim)``, rows of what ``scaled`` gave. Not for Manhattan.
        """
        products = np.vecdot(rows, scaled)
        if terms is None:
            return np.asarray(products)
        return np.asarray(products * terms if self.metric == "cosine" else products - terms)

    def _products(self, rows: Floats, prepared: Floats, out: Floats) -> None:
        queries = prepared.shape[1]
        small = self._small_rows(queries)
        if small:
            whole = len(rows) - len(rows) % small
            stack = out[:whole].reshape(-1, small, queries)
            np.matmul(rows[:whole].reshape(-1, small, self.dim), prepared, out=stack)
            np.dot(rows[whole:], prepared, out=out[whole:])
        elif queries <= FEW and self.dim >= WIDE:
            np.vecdot(rows[:, None], prepared.T, out=out)
        else:
            np.dot(rows, prepared, out=out)

    def _distances(self, rows: Floats, prepared: Floats, out: Floats) -> None:
        step = max(1, DIFFERENCES // self.dim)
        scratch = np.empty((min(step, len(rows)), self.dim), np.float32)
        columns = np.ascontiguousarray(prepared.T)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            terms = scratch[: len(part)]
            for query, vector in enumerate(columns):
                np.subtract(part, vector, out=terms)
                np.abs(terms, out=terms)
                out[start : start + step, query] = np.vecdot(terms, self._weights)
