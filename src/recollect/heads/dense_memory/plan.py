"""How to search a memory of pyramids, and what a search finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recollect.types import Floats, Ids

Kernel = Literal["children", "overlap"]
Score = Literal["level", "path"]


@dataclass(frozen=True, slots=True)
class Matches:
    """What the cells of one level of a query matched, best first, ties by sample and cell.

    Attributes:
        cells: int64 ``(cells, k)``: places in the cell layout; -1 where fewer were found.
        similarity: float32 ``(cells, k)``; -inf where none.
        score: float32 ``(cells, k)``: what they are ranked by: the similarity, or the weighted mean
            of the similarities along the path.
    """

    cells: Ids
    similarity: Floats
    score: Floats


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search.

    Attributes:
        ks: Matches kept on each level.
        score: ``"level"`` ranks by the similarity on the level alone, ``"path"`` by the weighted
            mean of the similarities from the coarsest level on.
        weights: Weight of each level in a path.
        block_bytes: Bytes of candidates gathered at once.
    """

    ks: tuple[int, ...]
    score: Score = "level"
    weights: tuple[float, ...] = ()
    block_bytes: int = 32 << 20
