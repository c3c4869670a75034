"""Which cells of the memory made an answer, and by how much: contributions that add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recollect.errors import InvalidParameter
from recollect.heads.dense_memory.answers import CellEvidence, DenseExplanation, Reading
from recollect.heads.dense_memory.layout import LabelLayout, Layout
from recollect.heads.dense_memory.settings import Settings, is_whole, several_sides
from recollect.readout.grids import Shape
from recollect.readout.propagation import influence
from recollect.types import Doubles, Ids


def explain(
    layout: Layout,
    reading: Reading,
    grid: Shape,
    place: tuple[int, ...],
    settings: Settings,
) -> DenseExplanation:
    """Follow the answer of one cell back to the cells of the memory."""
    at = int(np.ravel_multi_index(place, grid))
    places, weights, similarity = _evidence(reading, at, settings)
    values = layout.values(places)
    held = layout.scaled(values, settings)
    score = (weights[:, None] * held).sum(axis=0)
    classes = layout.present() if isinstance(layout, LabelLayout) else None
    shares: dict[int, float] = {}
    prediction: Any = score
    parts: Any = weights[:, None] * held
    if classes is not None:
        shares = _largest_first(classes.tolist(), score)
        prediction = int(classes[reading.values[at].argmax()]) if len(places) else None
        best = int(reading.values[at].argmax())
        parts, score = parts[:, best], float(score[best])
    evidence = _described(layout, places, weights, similarity, values, parts)
    return DenseExplanation(
        place, prediction, score, shares, evidence, reading.iterations if reading.links is not None
        else 0,
    )  # fmt: skip


def _evidence(reading: Reading, at: int, settings: Settings) -> tuple[Ids, Doubles, Doubles]:
    """Places, weight and best similarity of all memory cells behind one answer."""
    owed = np.zeros(len(reading.start))
    owed[at] = 1.0
    if reading.links is not None:
        assert reading.link_weights is not None
        assert settings.message_passing is not None
        owed = influence(
            at, reading.links, reading.link_weights, valid=reading.found,
            mode=settings.message_passing, alpha=settings.alpha, iterations=reading.iterations,
        )  # fmt: skip
    finest = reading.matches[-1]
    query, rank = np.nonzero((reading.weights != 0) & (owed != 0)[:, None])
    places, slot = np.unique(finest.cells[query, rank], return_inverse=True)
    shares = owed[query] * reading.weights[query, rank]
    weights = np.bincount(slot, shares, len(places)).astype(np.float64)
    best = np.full(len(places), -np.inf)
    np.maximum.at(best, slot, finest.similarity[query, rank])
    order = np.lexsort((places, -np.abs(weights)))
    return places[order], weights[order], best[order]


def _described(
    layout: Layout, places: Ids, weights: Doubles, similarity: Doubles,
    values: Any, parts: Any,
) -> tuple[CellEvidence, ...]:  # fmt: skip
    assert layout.cells is not None
    finest = layout.cells.levels[-1]
    samples, nodes = finest.sample[places], finest.node[places]
    found = []
    for at, (sample, node) in enumerate(zip(samples.tolist(), nodes.tolist(), strict=True)):
        grid = layout.cells.shapes[sample][-1]
        cell = tuple(int(axis) for axis in np.unravel_index(node, grid))
        part = parts[at]
        found.append(CellEvidence(
            id=layout.cells.ids[sample], cell=cell,
            patch=patch_of(cell, grid, layout.size_of(sample)),
            value=_value(layout, values[at]), similarity=float(similarity[at]),
            weight=float(weights[at]), contribution=float(part) if np.ndim(part) == 0 else part,
            source=layout.sources[sample],
        ))  # fmt: skip
    return tuple(found)


def patch_of(cell: Sequence[int], grid: Shape, size: Shape) -> tuple[tuple[int, int], ...]:
    """Half-open ranges of the pixels of a cell.

    Example:
        >>> patch_of((1,), (2,), (5,))
        ((3, 5),)
    """
    # The pixels p with floor(p * cells / pixels) = c.
    return tuple(
        (-(-at * pixels // cells), -(-(at + 1) * pixels // cells))
        for at, cells, pixels in zip(cell, grid, size, strict=True)
    )


def _value(layout: Layout, values: Any) -> Any:
    if not isinstance(layout, LabelLayout):
        return values
    return _largest_first(layout.present().tolist(), values)


def _largest_first(labels: list[int], shares: Doubles) -> dict[int, float]:
    order = np.argsort(-shares, kind="stable").tolist()
    return {labels[at]: float(shares[at]) for at in order if shares[at] != 0}


def checked_cell(cell: Any, grid: Shape) -> tuple[int, ...]:
    """Return a place in the grid; raises ``InvalidParameter`` where there is none."""
    place = several_sides(cell)
    if (
        not all(map(is_whole, place))
        or len(place) != len(grid)
        or any(not 0 <= axis < side for axis, side in zip(place, grid, strict=True))
    ):
        raise InvalidParameter(
            "there is no such cell", expected=f"a place in the finest grid {grid}",
            got=f"{cell!r:.80}",
            remedy="A pixel p of an axis lies in cell floor(p * cells / pixels).",
        )  # fmt: skip
    return tuple(int(axis) for axis in place)
