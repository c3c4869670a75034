"""Rows in a quarter of their space: int8 codes, and a proof of how far their scores can be off.

A search that reads every row is bound by memory for a few queries and by multiplications for many;
eight-bit codes help with both. Rows and queries are first moved by a center, which all rows share:
embeddings lie in a cone, and what they have in common costs precision and decides nothing. With
y = x - center (cosine: of the normalized row) and p likewise of the query, the score is

    s = a b (c . d) + t,    y = a c + r,   p = b d + o,   c and d whole numbers from -127 to 127

and differs from g, an increasing function of the similarity, by no more than

    e = |r| |p - o| + |y| |o| + roundings          (Cauchy-Schwarz, twice)

where |r| is kept for each row and |o| is known for each query. A query may be taken in two planes,
p = b1 d1 + b2 d2 + o, which makes |o| vanish for twice the arithmetic: free where memory is what
one waits for.

cosine      x, q of length 1. q . x = p . y + center . y + (center . p + center . center):
            t = center . y, and g(c) = c - center . p - center . center.
dot         q of length 1 and not moved. q . x = q . y + q . center:
            t = 0, g(c) = c / |q| - q . center.
euclidean   2p is quantized. -|q - x|^2 = -|p|^2 + 2p . y - |y|^2:
            t = -|y|^2, g(c) = |p|^2 - c^2.

The roundings, with u = 2^-24. Codes and lengths are computed in float64, whose errors are below
2^-29 u. The whole number c . d becomes float32, is multiplied by a, then by b while t is added:
3u |y| |p|, twice that for two planes, and 2u |t| with the rounding of t; forming s - e and s + e
adds u |s| and u e each. All this is within 16 u |y| |p - o| + 8u |t|. The similarity itself is
rounded once: u under cosine, u |x| under dot, 2.1 u c^2 <= 4.2 u (|p|^2 + |y|^2) under Euclidean;
8u (16u |y|^2) stand for it. Bounds are widened by 1e-6 for their own float32 arithmetic, and by
1e-30 for underflow. So every row has one bound of the form

    e = rho * reach + sigma * blur + tau + slack

with rho, sigma, tau of the row, and reach, blur, slack of the query. A group of 16 rows is passed
over where even its largest rho, sigma and tau could not lift a row over the bar.

Rows and queries that ``coarse`` calls irregular take no part. Sums stay below 2^31 for a width up
to 65,536.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.index.coarse import Coarse
from recollect.index.kernel import Kernel, SpaceArrays
from recollect.index.mapped import let_go
from recollect.locks import ProcessLock
from recollect.types import Floats

if TYPE_CHECKING:
    from recollect.index.blocks import Block, Snapshot

WIDEST = 1 << 16
PAIR = 32  # rows are laid out two groups of 16 at a time
SAMPLE = 4096  # rows of which the center is the mean
GROWTH = 4  # the center is chosen again when there are so many times as many rows
TERMS = 5  # of each row: alpha, term, rho, sigma, tau
BOUNDS = 3  # of each group: the largest rho, sigma, tau


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes and bounds of some rows, as ``native/kernel.h`` describes them.

    Attributes:
        codes: uint8, or None where rows are scored by their keys.
        terms: Eight float32 arrays: alpha, term, rho, sigma, tau by row; rho, sigma, tau by group.
        room: Rows there is space for.
    """

    codes: NDArray[np.uint8] | None
    terms: list[Floats]
    room: int

    @classmethod
    def empty(cls, rows: int, dim: int, *, coded: bool) -> Codes:
        """Make space for rows; what is not written to is below every other row."""
        room = -(-rows // PAIR) * PAIR
        codes = _aligned(room * (-(-dim // 4) * 4)) if coded else None
        terms = [np.zeros(room, np.float32) for _ in range(TERMS)]
        terms[1][:] = -np.inf
        return cls(codes, terms + [np.zeros(room // 16, np.float32) for _ in range(BOUNDS)], room)

    def grown(self, rows: int, dim: int) -> Codes:
        """Copy into a larger space."""
        larger = Codes.empty(rows, dim, coded=self.codes is not None)
        for old, new in zip(self.terms, larger.terms, strict=True):
            new[: len(old)] = old
        if self.codes is not None and larger.codes is not None:
            larger.codes[: len(self.codes)] = self.codes
        return larger


class Quantizer:
    """Turns rows into codes, around one center.

    Args:
        kernel: What does it.
        coarse: The metric.
        center: float32 ``(dim,)``.
        rows: Rows there were when the center was chosen.
    """

    coded = True

    def __init__(self, kernel: Kernel, coarse: Coarse, center: Floats, rows: int) -> None:
        self.kernel, self.rows = kernel, rows
        self.space = SpaceArrays(coarse.metric, coarse.dim, center, coarse.weights)

    def fill(self, codes: Codes, block: Block, span: range, threads: int) -> None:
        """Write what belongs to the rows in ``span``."""
        assert codes.codes is not None
        self.kernel.quantize(
            self.space,
            block.keys,
            block.sizes,
            block.regular,
            span,
            codes.codes,
            codes.terms,
            threads,
        )


class Unquantized:
    """Rows that are scored by their keys: float32 arithmetic with the bound of ``Coarse``."""

    coded = False

    def __init__(self, kernel: Kernel, coarse: Coarse) -> None:
        self.kernel, self._coarse = kernel, coarse
        center = np.zeros(coarse.dim, np.float32)
        self.space = SpaceArrays(coarse.metric, coarse.dim, center, coarse.weights)

    def fill(self, codes: Codes, block: Block, span: range, threads: int) -> None:  # noqa: ARG002
        """Write what belongs to the rows in ``span``."""
        rows = slice(span.start, span.stop)
        sizes = block.sizes[rows]
        rho, tau = self._coarse.row_bounds(sizes)
        terms = self._coarse.terms(sizes)
        scaled = terms is not None and self._coarse.metric == "cosine"
        codes.terms[0][rows] = terms if scaled else 1.0
        codes.terms[1][rows] = 0.0 if scaled or terms is None else -terms
        with np.errstate(over="ignore"):  # by irregular rows, which take no part
            codes.terms[2][rows] = rho
            codes.terms[4][rows] = tau
        if block.regular is not None:
            odd = np.flatnonzero(~block.regular[rows]) + span.start
            for term in codes.terms[:TERMS]:
                term[odd] = 0.0  # no number that would spoil the bounds of their group
        groups = slice(span.start // 16, -(-span.stop // 16))
        for at in range(BOUNDS):
            by_group = codes.terms[2 + at].reshape(-1, 16)[groups]
            codes.terms[TERMS + at][groups] = by_group.max(axis=1)


class Shadow:
    """The codes of rows that are appended to one place; made when they are first asked for."""

    def __init__(self) -> None:
        self.lock = ProcessLock()
        self.tensors: Any = None  # the same in torch, for ``tensors.TensorEngine``
        self._maker: Quantizer | Unquantized | None = None
        self._codes: Codes | None = None
        self._count = 0

    @property
    def made(self) -> bool:
        """Whether there are codes, if not yet of every row."""
        return self._count > 0

    def of(self, block: Block, maker: Quantizer | Unquantized, threads: int) -> Codes:
        """Return codes that cover the rows of a block, those of its predecessors included."""
        # A fork may stop this anywhere: what the count covers is in the codes at every moment.
        with self.lock:
            if self._codes is None or self._maker is not maker:
                self._count = 0
                self._codes = Codes.empty(len(block), block.keys.shape[1], coded=maker.coded)
                self._maker = maker
            codes, dim = self._codes, block.keys.shape[1]
            if len(block) > codes.room:
                codes = self._codes = codes.grown(max(len(block), 2 * codes.room), dim)
            if self._count < len(block):
                maker.fill(codes, block, range(self._count, len(block)), threads)
                self._count = len(block)
                let_go(block.keys)
            return codes


def is_stale(rows: int, before: int) -> bool:
    """Tell whether so many rows came that a center may be far from their mean."""
    return rows >= GROWTH * before


def make_quantizer(kernel: Kernel, coarse: Coarse, snapshot: Snapshot) -> Quantizer:
    """Choose the center and make the codes' maker."""
    return Quantizer(kernel, coarse, mean_of_rows(coarse, snapshot), snapshot.slots)


def mean_of_rows(coarse: Coarse, snapshot: Snapshot) -> Floats:
    """Average some of the rows, evenly taken; under cosine they are normalized. ``(dim,)``."""
    center = np.zeros(coarse.dim)
    slots = np.unique(np.linspace(0, snapshot.slots - 1, min(SAMPLE, snapshot.slots)).astype(int))
    count = 0
    for some in _pieces(slots, coarse.dim):
        keys, sizes = snapshot.gather(some)
        regular = coarse.regular_rows(sizes)
        rows = keys[regular].astype(np.float64)
        if coarse.metric == "cosine":
            rows /= sizes[regular, None]
        center += rows.sum(axis=0)
        count += len(rows)
    return (center / max(1, count)).astype(np.float32)


def _pieces(slots: NDArray[np.int64], dim: int) -> Iterator[NDArray[np.int64]]:
    step = max(1, (1 << 20) // dim)
    return (slots[start : start + step] for start in range(0, len(slots), step))


def _aligned(size: int) -> NDArray[Any]:
    """Make an array that starts at a multiple of 64: no load of it crosses two cache lines."""
    raw = np.empty(size + 64, np.uint8)  # unlike zeros, it may lie in huge pages
    raw[:] = 0
    return raw[-raw.ctypes.data % 64 :][:size]
