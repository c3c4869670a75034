"""The compiled step from coarse to fine, ``native/refine.c``, and reading, ``native/holding.c``."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.index.libraries import find_library
from recollect.index.scope import default_cores
from recollect.types import Doubles, Floats, Ids, Mask

WORTH = 1 << 22  # products of numbers from which on another thread pays
PARTS = 4  # for each thread, so that a slow one holds up little

_WHOLE = ctypes.c_int64
_AT = ctypes.c_void_p


class Step(ctypes.Structure):
    """One call of ``refine_some``; the fields are explained in ``native/refine.c``."""

    _fields_ = (
        *((name, _WHOLE) for name in ("parents", "children", "above", "fan", "around", "width")),
        *((name, _WHOLE) for name in ("k", "half")),
        *((name, _AT) for name in ("vectors", "valid", "links", "beside", "queries", "below")),
        *((name, _AT) for name in ("matches", "path")),
        ("carried", ctypes.c_double),
        *((name, ctypes.c_float) for name in ("own", "error")),
        *((name, _AT) for name in ("places", "similarity", "score")),
    )


@cache
def find_refining() -> Any:
    """Load the library, once; None where it was not built, or with ``RECOLLECT_KERNEL=off``."""
    return find_library("refine")


@cache
def find_holding() -> Any:
    """The same for reading what matches hold."""
    return find_library("holding")


def refine_compiled(
    vectors: NDArray[Any],
    *,
    valid: Mask | None,
    links: Ids,
    beside: Ids | None,
    queries: Floats,
    below: Ids,
    matches: Ids,
    path: Floats | None,
    shares: tuple[float, float],
    error: float,
    out: tuple[Ids, Floats, Floats],
) -> None:
    """Find the best candidates of query cells: children of the cells that their parents matched.

    Args:
        vectors: float32 or float16 ``(cells, width)`` of the memory, of length 1 or less.
        valid: bool ``(cells,)``: cells that take part; None means all.
        links: int64 ``(cells above, most children)``: children of each cell above, -1 for none.
        beside: int64 ``(cells above, several)``: cells whose children are candidates too, -1 for
            none; or None.
        queries: float32 ``(query cells, width)``.
        below: int64 ``(parents, children)``: the query cells of each parent, -1 for none.
        matches: int64 ``(parents, k above)``: what each parent matched, -1 for none.
        path: float32 ``(parents, k above)``: scores that are carried on, or None.
        shares: Of what is carried, and of the similarity, in a score.
        error: How far a float32 product may be off.
        out: Places, similarity and score, ``(query cells, k)``, which hold what says "none".

    Raises:
        MemoryError: There is no room for the candidates of one parent.
    """
    held = [
        np.ascontiguousarray(each) if each is not None else None
        for each in (vectors, valid, links, beside, queries, below, matches, path)
    ]
    step = Step(
        *below.shape, matches.shape[1], links.shape[1], 0 if beside is None else beside.shape[1],
        vectors.shape[1], out[0].shape[1], int(vectors.dtype == np.float16),
        *(None if each is None else each.ctypes.data for each in held),
        shares[0], shares[1], error, *(each.ctypes.data for each in out),
    )  # fmt: skip
    candidates = step.above * step.fan * (1 + step.around)
    work = below.size * candidates * step.width
    _spread(find_refining().refine_some, step, len(below), work)


class Holding(ctypes.Structure):
    """One call of ``holding_mean``; the fields are explained in ``native/holding.c``."""

    _fields_ = (
        *((name, _WHOLE) for name in ("cells", "k", "wide", "classes")),
        *((name, _AT) for name in ("counts", "columns", "raised", "places", "weights")),
        *((name, _AT) for name in ("factors", "mean")),
    )


def mean_of_shares(
    counts: NDArray[np.uint32],
    columns: Ids,
    raised: Doubles | None,
    places: Ids,
    weights: Doubles,
) -> tuple[Doubles, Doubles]:
    """Mean of what the matches of cells hold: shares of classes, those of rare ones raised.

    Args:
        counts: ``(cells of the memory, wide)``.
        columns: int64 ``(classes,)``: columns of ``counts``.
        raised: float64 ``(classes,)``: what a share is multiplied with before the shares of a
            match are made to sum to 1; a match then weighs as much more. None raises none.
        places: int64 ``(cells, k)``.
        weights: float64 ``(cells, k)``; rows sum to 1, or to 0.

    Returns:
        Means, float64 ``(cells, classes)``, and the weights, ``(cells, k)``, as they were used.
    """
    held = [np.ascontiguousarray(each) for each in (counts, columns, places)]
    mean = np.zeros((len(places), len(columns)))
    factors = np.zeros(weights.shape)
    if raised is not None:
        _read(held, raised, weights, factors, None)
        weights = weights * factors
        total = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    _read(held, raised, np.ascontiguousarray(weights), None, mean)
    return mean, weights


def _read(
    held: list[NDArray[Any]], raised: Doubles | None, weights: Doubles, factors: Doubles | None,
    mean: Doubles | None,
) -> None:  # fmt: skip
    counts, columns, places = held
    asked = Holding(
        *places.shape, counts.shape[1], len(columns), counts.ctypes.data, columns.ctypes.data,
        None if raised is None else raised.ctypes.data, places.ctypes.data, weights.ctypes.data,
        None if factors is None else factors.ctypes.data,
        None if mean is None else mean.ctypes.data,
    )  # fmt: skip
    _spread(find_holding().holding_mean, asked, len(places), 4 * places.size * len(columns))


def _spread(function: Any, asked: ctypes.Structure, count: int, work: int) -> None:
    """Call a function of the library for some of the cells at a time, on several threads."""
    threads = min(default_cores(), 1 + work // WORTH)
    bounds = np.linspace(0, count, 1 + (PARTS * threads if threads > 1 else 1)).astype(int)

    def some(span: tuple[int, int]) -> int:
        """Answer a stretch of them; anything but 0 says that there was no room."""
        failed: int = function(ctypes.byref(asked), _WHOLE(span[0]), _WHOLE(span[1]))
        return failed

    spans = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    if threads == 1:
        failed = [some(span) for span in spans]
    else:
        with ThreadPoolExecutor(threads) as pool:
            failed = list(pool.map(some, spans))
    if any(failed):
        raise MemoryError("no room for the candidates of one cell")
