"""All cells of a memory of pyramids as arrays: a cache that follows the rows."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.index.approximate import ApproximateIndex
from recollect.index.exact import ExactIndex
from recollect.index.policy import Approximate
from recollect.readout.grids import Shape, children, neighbors, parents
from recollect.types import Floats, Ids, Mask

SHARED = 1 << 14  # cells from which on the index reads them where they are


class Column:
    """An array that grows at its end; what was read before stays as it is."""

    def __init__(self, dtype: Any, width: int | None = None) -> None:
        shape = (0,) if width is None else (0, width)
        self._kept, self._used = np.empty(shape, dtype), 0

    @property
    def values(self) -> NDArray[Any]:
        """What was appended, as one array."""
        return self._kept[: self._used]

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows; widens with -1 where they are wider than before."""
        if rows.ndim == 2 and rows.shape[1] != self._kept.shape[1]:
            rows = self._same_width(rows)
        needed = self._used + len(rows)
        if needed > len(self._kept):
            room = np.empty((max(needed, 2 * len(self._kept)), *rows.shape[1:]), self._kept.dtype)
            room[: self._used] = self._kept[: self._used]
            self._kept = room
        self._kept[self._used : needed] = rows
        self._used = needed

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all, so that it need not grow step by step."""
        if rows > len(self._kept):
            room = np.empty((rows, *self._kept.shape[1:]), self._kept.dtype)
            room[: self._used] = self._kept[: self._used]
            self._kept = room

    def widen(self, width: int) -> None:
        """Make room for more columns, filled with 0."""
        room = np.zeros((len(self._kept), width), self._kept.dtype)
        room[: self._used, : self._kept.shape[1]] = self._kept[: self._used]
        self._kept = room

    def _same_width(self, rows: NDArray[Any]) -> NDArray[Any]:
        missing = rows.shape[1] - self._kept.shape[1]
        if missing > 0:
            self._kept = np.pad(self._kept, ((0, 0), (0, missing)), constant_values=-1)
            return rows
        return np.pad(rows, ((0, 0), (0, -missing)), constant_values=-1)


class Level:
    """The cells of one level of all samples, in order of sample and then of cell."""

    def __init__(self, width: int, dtype: Any) -> None:
        self.width = width
        self._vectors = Column(dtype, width)
        self._sample, self._node = Column(np.int32), Column(np.int64)
        self._parent = Column(np.int64)
        self._children, self._around = Column(np.int64, 1), Column(np.int64, 1)
        self._starts = [0]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def vectors(self) -> NDArray[Any]:
        """``(cells, width)``, each of length 1 or 0."""
        return self._vectors.values

    @property
    def sample(self) -> NDArray[np.int32]:
        """Position of each cell's sample in the layout."""
        return self._sample.values

    @property
    def node(self) -> Ids:
        """Number of each cell in its sample's grid."""
        return self._node.values

    @property
    def parent(self) -> Ids:
        """Place of each cell's parent on the level above; -1 on the coarsest level."""
        return self._parent.values

    @property
    def children(self) -> Ids:
        """Places of each cell's children on the level below, padded with -1."""
        return self._children.values

    @property
    def around(self) -> Ids:
        """Places of the cells around each cell, -1 beyond the border; empty without overlap."""
        return self._around.values

    def gather(self, places: Ids) -> Floats:
        """Vectors of cells, float32; those of -1 are zero."""
        found = self._vectors.values[np.maximum(places, 0)].astype(np.float32, copy=False)
        found[places < 0] = 0
        return found

    def places_of(self, samples: Ids) -> Ids:
        """Places of all cells of these samples."""
        starts = self._starts
        parts = [np.arange(starts[each], starts[each + 1]) for each in samples.tolist()]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def fan_out(self, kernel: str) -> int:
        """Most candidates that one match leads to."""
        wide = int(self._children.values.shape[1])
        around = int(self._around.values.shape[1])
        return wide * (1 + around) if kernel == "overlap" else wide

    def append(self, vectors: Floats, nodes: Ids, above: Ids) -> None:
        """Add the cells of one more sample, with the places of their parents."""
        self._parent.append(above)
        self._vectors.append(vectors)
        self._sample.append(np.full(len(nodes), len(self._starts) - 1, np.int32))
        self._node.append(nodes)
        self._starts.append(len(self) + len(nodes))

    def reserve(self, times: int) -> None:
        """Make room for so many times the cells that are there."""
        columns = (self._vectors, self._sample, self._node, self._parent, self._children)
        for column in (*columns, self._around):
            column.reserve(times * len(column.values))

    def link(self, below: Ids, around: Ids | None) -> None:
        """Add the links of the cells of the sample just appended: children, neighbors."""
        self._children.append(below)
        if around is not None:
            self._around.append(around)

    def reached(self, matches: Ids, kernel: str) -> Ids:
        """Children of what was matched: ``(rows, matches, most)``, -1 where there is none."""
        below = self._children.values
        if kernel == "overlap":
            around = self._around.values[np.maximum(matches, 0)]
            around = np.where(matches[..., None] >= 0, around, -1)
            matches = np.concatenate([matches[..., None], around], axis=2)
        found = below[np.maximum(matches, 0)]
        found = np.where(matches[..., None] >= 0, found, -1)
        return found.reshape(*found.shape[:2], -1)


class Cells:
    """The cells of all samples: what a query is compared with.

    Args:
        widths: Width of the vectors of each level.
        dtype: How vectors are held; they are computed with in float32.
        kernel: ``"children"``, or ``"overlap"``: the children of the cells around a match too.
        search: How the coarsest level is searched; None: exactly.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        dtype: Any = np.float32,
        kernel: Literal["children", "overlap"] = "children",
        search: Approximate | None = None,
    ) -> None:
        self.kernel = kernel
        self.levels = [Level(width, dtype) for width in widths]
        self.index: ExactIndex | ApproximateIndex = (
            ExactIndex(widths[0], "dot")
            if search is None
            else ApproximateIndex(widths[0], "dot", policy=search)
        )
        self.ids: list[int] = []
        self.alive: list[bool] = []
        self.shapes: list[tuple[Shape, ...]] = []
        self._valid = Column(bool)
        self._indexed = 0
        self._gone = [0] * len(widths)

    @property
    def valid(self) -> Mask:
        """Bool: finest cells that have a label."""
        return self._valid.values

    def living(self, level: int) -> int:
        """Cells of a level, those of samples that were dropped left out.

        How many columns an answer has depends on this alone: sums over more padding, though of
        zeros, may be rounded otherwise.
        """
        return len(self.levels[level]) - self._gone[level]

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return sum(level.vectors.nbytes for level in self.levels)

    def append(
        self,
        id_: int,
        shapes: tuple[Shape, ...],
        vectors: list[Floats],
        kept: list[Ids | None],
        valid: Mask,
    ) -> None:
        """Add a sample, whose id is larger than all before.

        Args:
            id_: Row id.
            shapes: Sides of its whole grids.
            vectors: ``(cells kept, width)`` of each level.
            kept: The cells that are kept on each level, ascending; None means all.
            valid: Which of its finest cells have a label.
        """
        first = [len(level) for level in self.levels]
        nodes = [
            np.arange(len(each)) if cells is None else cells
            for each, cells in zip(vectors, kept, strict=True)
        ]
        for at, (level, each, cells) in enumerate(zip(self.levels, vectors, nodes, strict=True)):
            above = np.full(len(cells), -1)
            if at:
                up = parents(shapes[at], shapes[at - 1])[cells]
                above = _placed(up, nodes[at - 1], shapes[at - 1], first[at - 1])
            level.append(each, cells, above)
        for at in range(len(self.levels) - 1):
            below = children(shapes[at + 1], shapes[at])[nodes[at]]
            linked = _placed(below, nodes[at + 1], shapes[at + 1], first[at + 1])
            if self.kernel == "children":
                self.levels[at].link(linked, None)
                continue
            around = neighbors(shapes[at], 1)[nodes[at]]
            self.levels[at].link(linked, _placed(around, nodes[at], shapes[at], first[at]))
        self._valid.append(valid)
        self.ids.append(id_)
        self.alive.append(True)
        self.shapes.append(shapes)

    def flush(self) -> None:
        """Let the search of the coarsest level know what was appended; needed before it."""
        coarsest = self.levels[0]
        places = np.arange(self._indexed, len(coarsest))
        vectors = coarsest.vectors[self._indexed :]
        if len(self.levels) == 1:
            there = self.valid[places]
            places, vectors = places[there], vectors[there]
        # What was appended stays as it is, so that many cells need not be copied.
        take = self.index.attach if len(places) >= SHARED else self.index.add
        take(places, vectors)
        self._indexed = len(coarsest)

    def reserve(self, samples: int) -> None:
        """Make room for so many samples like the first."""
        for level in self.levels:
            level.reserve(samples)
        self._valid.reserve(samples * len(self.valid))

    def drop(self, positions: list[int]) -> None:
        """Leave samples out of every later answer; their arrays go when the layout is rebuilt."""
        for position in positions:
            places = self.levels[0].places_of(np.array([position]))
            if len(self.levels) == 1:
                places = places[self.valid[places]]
            self.index.remove(places)
            self.alive[position] = False
            for at, level in enumerate(self.levels):
                self._gone[at] += len(level.places_of(np.array([position])))

    def candidates(self, level: int, matches: Ids) -> tuple[Ids, Ids]:
        """Cells that a block of query cells is compared with on a level.

        Args:
            level: From 1.
            matches: int64 ``(parents, k)``: what the query's parents matched.

        Returns:
            Places, ascending, each once, -1 behind them, and the rank of the match that each came
            by (the best one, where there are several), both ``(parents, several)``.
        """
        reached = self.levels[level - 1].reached(matches, self.kernel)
        rows, k, wide = reached.shape
        flat = reached.reshape(rows, k * wide)
        if level == len(self.levels) - 1:
            flat = np.where((flat >= 0) & self.valid[np.maximum(flat, 0)], flat, -1)
        keyed = np.where(flat >= 0, flat, np.iinfo(np.int64).max)
        order = np.argsort(keyed, axis=1, kind="stable")
        ranked = np.take_along_axis(keyed, order, axis=1)
        if self.kernel == "overlap":
            again = np.zeros(ranked.shape, bool)
            again[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
            ranked = np.where(again, np.iinfo(np.int64).max, ranked)
            second = np.argsort(ranked, axis=1, kind="stable")
            ranked = np.take_along_axis(ranked, second, axis=1)
            order = np.take_along_axis(order, second, axis=1)
        there = ranked < np.iinfo(np.int64).max
        several = int(there.sum(axis=1).max(initial=0))
        places = np.where(there, ranked, -1)[:, :several]
        return places, (order // max(wide, 1))[:, :several]


def _placed(cells: Ids, kept: Ids, shape: Shape, first: int) -> Ids:
    """Turn cell numbers of a sample into places in the layout; what is not kept becomes -1."""
    lookup = np.full(int(np.prod(shape)) + 1, -1, np.int64)  # the last serves the -1 of padding
    lookup[kept] = first + np.arange(len(kept))
    placed: Ids = lookup[cells]
    return placed
