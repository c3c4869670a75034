"""One query, from matches to values: read-out, message passing, and where each came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dense_memory.plan import Matches
from recollect.readout.grids import Shape
from recollect.types import Doubles, Floats, Ids, Mask


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read for every finest cell of a query, and all that led to it.

    Attributes:
        matches: Matches of every level, coarsest first.
        weights: float64 ``(cells, k)``: share of each match of the finest level in its cell.
        start: float64 ``(cells, width)``: the read-out, before messages.
        found: Bool ``(cells,)``: cells that have a match with a label.
        values: float64 ``(cells, width)``: after messages.
        valid: Bool ``(cells,)``: cells that have an answer.
        links: int64 ``(cells, links)``, or None without messages.
        link_weights: float64 ``(cells, links)``, or None.
        iterations: Updates made by message passing; 0 without.
        converged: False where message passing was cut short.
    """

    matches: list[Matches]
    weights: Doubles
    start: Doubles
    found: Mask
    values: Doubles
    valid: Mask
    links: Ids | None = None
    link_weights: Doubles | None = None
    iterations: int = 0
    converged: bool = True


@dataclass(frozen=True, slots=True)
class DenseAnswer:
    """The answer to one input, cell by cell.

    Attributes:
        grid: Sides of the finest grid.
        prediction: ``(*grid)`` labels, ``ignore`` where there is no answer; or ``(*grid, width)``
            values, NaN where there is none.
        shares: float64 ``(*grid, classes)`` that sum to 1, or to 0 where there is no answer; None
            for a regressor.
        valid: Bool ``(*grid)``: cells that have an answer.
        confidence: float64 ``(*grid)``: the largest share; for a regressor the weighted standard
            deviation of what the matches hold (smaller is surer).
        novelty: float32 ``(*grid)``: 1 minus the similarity of the best match: how far the cell is
            from all that is in the memory. 2 where there is no match.
        alone: ``(*grid, width)``: shares or values before cells exchanged messages.
        iterations: Updates made by message passing.
        converged: False where message passing was cut short.
    """

    grid: Shape
    prediction: NDArray[Any]
    shares: NDArray[np.float64] | None
    valid: Mask
    confidence: Doubles
    novelty: Floats
    alone: Doubles
    iterations: int
    converged: bool


@dataclass(frozen=True, slots=True)
class CellEvidence:
    """One cell of the memory behind an answer.

    Attributes:
        id: Row id of its sample.
        cell: Its place in the finest grid of the sample.
        patch: Half-open ranges of the pixels it covers, one a axis.
        value: What it holds: label -> share, or its values.
        similarity: Of the cell of the query that it matched best.
        weight: How much it counts in the answer. Weights sum to 1.
        contribution: What it adds to the score of the predicted label, or to the predicted values;
            contributions of all evidence sum to it.
        source: Where the sample came from, if it was recorded.
    """

    id: int
    cell: tuple[int, ...]
    patch: tuple[tuple[int, int], ...]
    value: Any
    similarity: float
    weight: float
    contribution: Any
    source: str | None = None


@dataclass(frozen=True, slots=True)
class DenseExplanation:
    """Why one cell of a query got its answer.

    Attributes:
        cell: The cell asked about.
        prediction: Its label, or its values.
        score: Share of the label, or the values: the sum of the contributions.
        shares: Share of every label that has one, largest first; empty for a regressor.
        evidence: Every cell of the memory that took part, the largest weight first.
        iterations: Updates by which neighbors' matches came in; 0 without messages.
    """

    cell: tuple[int, ...]
    prediction: Any
    score: Any
    shares: dict[int, float]
    evidence: tuple[CellEvidence, ...]
    iterations: int
