"""Matches of cells -> values, and message passing between the cells of a query.

Pure functions of arrays, after PARMESAN (Winter et al., arXiv 2403.11743).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.readout.grids import Shape, neighbors
from recollect.types import Doubles, Ids, Mask

Mode = Literal["anchored", "step"]

# Weights that sum to one half only up to rounding count as one half.
ROUNDING = 1e-12


def match_weights(similarity: NDArray[Any], temperature: float) -> Doubles:
    """Weigh the matches of each cell by ``softmax(similarity / temperature)``.

    Args:
        similarity: ``(cells, k)``; -inf where there is no match.
        temperature: Above 0; infinity weighs all matches alike.

    Returns:
        float64 ``(cells, k)``. A row sums to 1, or to 0 if it has no match.

    Example:
        >>> match_weights(np.array([[0.5, 0.5, -np.inf], [-np.inf] * 3]), 0.02)
        array([[0.5, 0.5, 0. ],
               [0. , 0. , 0. ]])
    """
    found = similarity > -np.inf
    if similarity.size and found.all():
        behind = similarity.astype(np.float64)
        behind -= behind.max(axis=1, keepdims=True)
    else:
        score = np.where(found, similarity, 0.0).astype(np.float64)
        top = np.where(found, score, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        behind = np.where(found, score - np.where(np.isfinite(top), top, 0.0), -np.inf)
    # Divided last: at the smallest temperatures only what is behind may leave the range, to -inf.
    with np.errstate(over="ignore", invalid="ignore"):  # what was not found is set below
        weights = np.exp(np.divide(behind, temperature, out=behind), out=behind)
    weights[~found] = 0.0
    total = weights.sum(axis=1, keepdims=True)
    np.divide(weights, total, out=weights, where=total > 0)
    return weights


def weighted_mean(values: NDArray[Any], weights: Doubles) -> Doubles:
    """Mean of the matches' values, ``sum_j w_j Y_j``.

    Args:
        values: ``(cells, k, width)``; not read where the weight is 0.
        weights: ``(cells, k)``; rows sum to 1, or to 0.

    Returns:
        float64 ``(cells, width)``; zeros where all weights are 0.

    Example:
        >>> weighted_mean(np.array([[[1.0], [3.0]]]), np.array([[0.25, 0.75]]))
        array([[2.5]])
    """
    total = np.zeros((len(values), values.shape[2]))
    for match in range(values.shape[1]):
        weight = weights[:, match, None]
        total += np.where(weight != 0, values[:, match], 0.0) * weight
    return total


def median_weights(values: NDArray[Any], weights: Doubles) -> Doubles:
    """Weights that read the median of the matches' values: where half of the weight is reached.

    Where exactly half is reached, the two values around it count alike.

    Args:
        values: ``(cells, k)``.
        weights: ``(cells, k)``; rows sum to 1, or to 0.

    Returns:
        float64 ``(cells, k)``; rows sum to 1, or to 0.

    Example:
        >>> median_weights(np.array([[1.0, 9.0, 2.0]]), np.array([[0.25, 0.25, 0.5]])).tolist()
        [[0.0, 0.0, 1.0]]
    """
    rows, last = np.arange(len(values)), values.shape[1] - 1
    order = np.argsort(np.where(weights > 0, values, np.inf), axis=1, kind="stable")
    reached = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    half = 0.5 * reached[:, -1:]
    chosen = np.zeros(weights.shape)
    for counted in (reached < half * (1 - ROUNDING), reached <= half * (1 + ROUNDING)):
        place = order[rows, np.minimum(counted.sum(axis=1), last)]
        chosen[rows, place] += 0.5
    chosen[reached[:, -1] == 0] = 0.0
    return chosen


def message_graph(
    features: NDArray[Any], shape: Shape, *, radius: int = 1, k: int = 4, temperature: float = 0.1
) -> tuple[Ids, Doubles]:
    """Link every cell of a query with the most similar cells around it (PARMESAN, transduction).

    Args:
        features: ``(cells, width)``, in raster order; compared by cosine, a zero vector by 0.
        shape: Sides of the grid.
        radius: Chebyshev radius within which cells are linked, at least 1.
        k: Links kept of each cell, at least 1; ties go to the lower cell.
        temperature: Of the softmax over the links kept, above 0.

    Returns:
        int64 ``(cells, k)``, most similar first, padded with -1, and the weights of the links,
        float64 ``(cells, k)``, 0 where padded; rows sum to 1 where there is a link.

    Example:
        >>> idx, weights = message_graph(np.ones((3, 1)), (3,), k=2)
        >>> idx.tolist(), weights.tolist()
        ([[1, -1], [0, 2], [1, -1]], [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    """
    unit = unit_rows(features.astype(np.float64, copy=False)).reshape(*shape, -1)
    around = neighbors(shape, radius)
    similarity = np.full(around.shape, -np.inf)
    grid = similarity.reshape(*shape, -1)
    # Places around a cell come in pairs, opposite each other: each product serves both cells.
    for column, step in enumerate(_steps(len(shape), radius)):
        here, there = _overlap(shape, step)
        products = np.einsum("...d,...d->...", unit[here], unit[there])
        grid[here][..., column] = products
        grid[there][..., -1 - column] = products
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(similarity, order, axis=1)
    linked = np.where(kept > -np.inf, np.take_along_axis(around, order, axis=1), -1)
    weights = match_weights(kept, temperature)
    missing = k - linked.shape[1]
    if missing > 0:
        linked = np.pad(linked, ((0, 0), (0, missing)), constant_values=-1)
        weights = np.pad(weights, ((0, 0), (0, missing)))
    return linked, weights


def _steps(axes: int, radius: int) -> list[tuple[int, ...]]:
    """The first half of the steps to the cells around a cell, in the order of ``neighbors``."""
    every = list(product(range(-radius, radius + 1), repeat=axes))
    return every[: len(every) // 2]


def _overlap(shape: Shape, step: tuple[int, ...]) -> tuple[Any, Any]:
    """Slices of the cells that have a cell a step away, and of those cells."""
    here = tuple(
        slice(max(0, -by), max(0, n - max(0, by))) for n, by in zip(shape, step, strict=True)
    )
    there = tuple(
        slice(max(0, by), max(0, n - max(0, -by))) for n, by in zip(shape, step, strict=True)
    )
    return here, there


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Scale rows ``(..., width)`` to length 1; a row of zeros stays as it is.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    # Scaled first, so that no square leaves the range of the dtype.
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0.0)
    scaled = rows / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.sum(scaled * scaled, axis=-1, keepdims=True))
    result: NDArray[Any] = scaled / np.where(length > 0, length, 1)
    return result


@dataclass(frozen=True, slots=True)
class Propagated:
    """What message passing made of the states of a query's cells.

    Attributes:
        values: float64 ``(cells, width)``.
        valid: Bool ``(cells,)``. Cells with a state of their own, and those that neighbors filled.
        iterations: Updates that were made.
        converged: False where the limit came before the tolerance was met.
    """

    values: Doubles
    valid: Mask
    iterations: int
    converged: bool


def propagate(
    start: Doubles,
    links: Ids,
    weights: Doubles,
    *,
    valid: Mask | None = None,
    mode: Mode = "anchored",
    alpha: float = 0.5,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
) -> Propagated:
    """Let the cells of a query exchange their states until they agree.

    ``"anchored"`` repeats ``y <- (1 - alpha) y0 + alpha A y``, a contraction by alpha with one
    fixed point; ``"step"`` repeats ``y <- (1 - alpha) y + alpha A y``, which left to converge
    smooths everything away and is meant for few iterations. A cell without a state sends nothing
    and takes the mean of its neighbors.

    Args:
        start: ``(cells, width)``: the read-out.
        links: int64 ``(cells, k)``, -1 where there is none.
        weights: ``(cells, k)``.
        valid: Bool ``(cells,)``: cells that have a state; None means all.
        mode: ``"anchored"`` or ``"step"``.
        alpha: Share that comes from the neighbors, in [0, 1).
        tolerance: Stop when no number changes by this much.
        max_iterations: Stop after this many updates in any case.

    Example:
        >>> links, even = np.array([[1], [0]]), np.ones((2, 1))
        >>> done = propagate(np.array([[1.0], [0.0]]), links, even, tolerance=1e-9)
        >>> done.values.round(6).tolist(), done.converged
        ([[0.666667], [0.333333]], True)
    """
    cells = len(start)
    has_state = np.ones(cells, bool) if valid is None else valid
    # A cell that hears from nobody keeps what it has.
    matrix, heard = _row_stochastic(links, weights, has_state)
    anchor = np.where(has_state[:, None], start, 0.0)
    own = np.where(has_state, np.where(heard, 1.0 - alpha, 1.0), 0.0)[:, None]
    share = np.where(has_state, np.where(heard, alpha, 0.0), 1.0)[:, None]
    state, change, done = anchor, np.inf, 0
    held = own * anchor
    # Laid out once: few columns at a time are slow to spread.
    share = np.broadcast_to(share, held.shape).copy()
    moved = np.empty(held.shape)
    while done < max_iterations and change >= tolerance and change > 0:
        following = matrix @ state
        following *= share
        following += held if mode == "anchored" else own * state
        np.subtract(following, state, out=moved)
        change = float(max(moved.max(initial=0.0), -moved.min(initial=0.0)))
        state, done = following, done + 1
    return Propagated(state, has_state | heard, done, change < tolerance or change == 0)


def _row_stochastic(links: Ids, weights: Doubles, senders: Mask) -> tuple[Any, Mask]:
    """Weights as a sparse matrix over cells that have a state; and which cells hear from any."""
    from scipy.sparse import csr_array

    heard = np.where((links >= 0) & senders[links], weights, 0.0)
    total = heard.sum(axis=1, keepdims=True)
    heard = np.divide(heard, total, out=np.zeros_like(heard), where=total > 0)
    cells, k = links.shape
    pointers = np.arange(0, cells * k + 1, k)
    matrix = csr_array((heard.ravel(), np.maximum(links, 0).ravel(), pointers), (cells, cells))
    return matrix, total[:, 0] > 0


def influence(
    cell: int,
    links: Ids,
    weights: Doubles,
    *,
    valid: Mask,
    mode: Mode,
    alpha: float,
    iterations: int,
) -> Doubles:
    """How much the starting state of every cell counts in one cell's state in the end.

    ``propagate`` is linear: ``influence(...) @ start`` is its answer for the cell, up to rounding.

    Args:
        cell: Which cell.
        links: As for ``propagate``.
        weights: As for ``propagate``.
        valid: As for ``propagate``.
        mode: As for ``propagate``.
        alpha: As for ``propagate``.
        iterations: Updates that ``propagate`` made.

    Returns:
        float64 ``(cells,)``.

    Example:
        >>> links, even, here = np.array([[1], [0]]), np.ones((2, 1)), np.ones(2, bool)
        >>> influence(0, links, even, valid=here, mode="step", alpha=0.25, iterations=1).tolist()
        [0.75, 0.25]
    """
    matrix, heard = _row_stochastic(links, weights, valid)
    own = np.where(valid, np.where(heard, 1.0 - alpha, 1.0), 0.0)
    share = np.where(valid, np.where(heard, alpha, 0.0), 1.0)
    # Walk the updates backwards: what the cell's state in the end owes to the state before.
    owed, total = np.zeros(len(links)), np.zeros(len(links))
    owed[cell] = 1.0
    for _ in range(iterations):
        before = matrix.T @ (share * owed)
        if mode == "anchored":
            total += own * owed
            owed = before
        else:
            owed = own * owed + before
    return np.where(valid, total + owed, 0.0)


def linear_weights(
    query: NDArray[Any], matched: NDArray[Any], weights: Doubles, *, ridge: float = 0.1
) -> Doubles:
    """Weights that read a local linear fit through the matches instead of their mean.

    The prediction of a ridge regression, weighted by ``weights``, from the matches' features to
    their values is linear in the values; these are its coefficients. They sum to 1 and may be
    negative. Cells whose matches are all alike keep their weights.

    Args:
        query: ``(cells, width)``.
        matched: ``(cells, k, width)``, floats; in float32 the products err by its rounding, which
            is small beside ``ridge`` for vectors of length 1.
        weights: ``(cells, k)``; rows sum to 1, or to 0.
        ridge: Times the mean squared distance of the matches from their center.

    Returns:
        float64 ``(cells, k)``.

    Example:
        >>> at = np.array([[[0.0], [2.0]]])
        >>> linear_weights(np.array([[2.0]]), at, np.array([[0.5, 0.5]]), ridge=1.0).round(3)
        array([[0.25, 0.75]])
    """
    # All that counts are products of matches with each other and with the query, so that nothing
    # of their width is laid out again; around the center they follow from those around 0.
    products = (matched @ matched.transpose(0, 2, 1)).astype(np.float64)
    asked = (matched @ query[..., None])[..., 0].astype(np.float64)
    size = np.trace(products, axis1=1, axis2=2)
    pull = (products @ weights[..., None])[..., 0]
    middle = (pull * weights).sum(axis=1, keepdims=True)
    gram = products - pull[:, :, None] - pull[:, None, :] + middle[..., None]
    towards = asked - pull - (asked * weights).sum(axis=1, keepdims=True) + middle
    root = np.sqrt(weights)
    gram *= root[:, :, None] * root[:, None, :]
    spread = np.trace(gram, axis1=1, axis2=2)
    # What is left by rounding where all matches are alike is no spread.
    noise = 4 * matched.shape[2] * np.finfo(matched.dtype).eps * size
    apart = spread > noise
    spread = np.where(apart, spread, 1.0)
    gram[~apart], towards[~apart] = 0.0, 0.0
    eye = np.eye(weights.shape[1])
    # A trace of rounding keeps the system solvable where matches repeat each other.
    damped = gram + (spread * max(ridge, ROUNDING))[:, None, None] * eye
    moved = root * np.linalg.solve(damped, (root * towards)[..., None])[..., 0]
    fitted: Doubles = weights + moved - weights * moved.sum(axis=1, keepdims=True)
    return fitted
