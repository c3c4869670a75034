"""The cells of a memory's rows as arrays, kept in step with the memory: never the truth itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dense_memory.cells import Cells, Column
from recollect.heads.dense_memory.masks import cell_counts, cell_means
from recollect.heads.dense_memory.pyramids import Pyramid, StoredLevel, unpack
from recollect.heads.dense_memory.search import Kernel
from recollect.heads.dense_memory.settings import Settings
from recollect.memory.memory import Memory
from recollect.readout.grids import Shape
from recollect.readout.propagation import unit_rows
from recollect.types import Doubles, Floats, Ids, Mask

READ_AT_ONCE = 32  # rows read from the memory at a time
FOLLOWED = frozenset({"add", "remove", "compact"})  # operations that leave other rows as they were


def describe(features: Floats, shape: Shape, cells: Ids | None, position: float) -> Floats:
    """Turn features into what is compared: length 1, with the place in the grid where it counts.

    Args:
        features: ``(cells, width)``.
        shape: Sides of the whole grid.
        cells: Which of its cells these are; None means all.
        position: How much the place weighs: each axis runs from -position to position beside
            features of length 1. 0 leaves it out.

    Returns:
        float32 ``(cells, width)``, or ``(cells, width + axes)`` with positions.
    """
    unit = unit_rows(features)
    if not position:
        return unit
    places = np.indices(shape).reshape(len(shape), -1).T
    places = places if cells is None else places[cells]
    where = ((places + 0.5) / np.array(shape) * 2 - 1) * position
    return unit_rows(np.concatenate([unit, where.astype(np.float32)], axis=1))


class Layout(ABC):
    """Cells of all rows, and what each finest cell answers with.

    Args:
        position: See :func:`describe`.
        kernel: Which cells a match leads to.
        dtype: How vectors are held.
    """

    def __init__(self, *, position: float, kernel: Kernel, dtype: Any) -> None:
        self._position, self._kernel, self._dtype = position, kernel, dtype
        self._clear()

    def _clear(self) -> None:
        self.cells: Cells | None = None
        self.version = -1
        self._at: dict[int, int] = {}
        self._weights = Column(np.float64)
        self._clear_values()

    @abstractmethod
    def _clear_values(self) -> None:
        """Forget what cells answer with."""

    @abstractmethod
    def _take(self, arrays: Mapping[str, NDArray[Any]], grid: Shape, kept: Ids | None) -> Mask:
        """Take in what the finest cells of a row answer with; returns which have an answer."""

    @abstractmethod
    def values(self, places: Ids) -> NDArray[Any]:
        """What finest cells answer with: ``(*places, width)``."""

    @property
    def weights(self) -> Doubles:
        """Weight of each sample's row, by position in the layout."""
        return self._weights.values

    @abstractmethod
    def size_of(self, position: int) -> Shape:
        """Size of the mask or target of a sample, by position in the layout."""

    @abstractmethod
    def scaled(self, values: NDArray[Any], settings: Settings) -> NDArray[Any]:
        """What a match adds to an answer for each unit of its weight."""

    def position_of(self, ids: Sequence[int]) -> Ids:
        """Positions in the layout of row ids."""
        return np.array([self._at[each] for each in ids], np.int64)

    def follow(self, memory: Memory) -> None:
        """Bring the layout to the memory's version; reads only rows that are new where it can."""
        version = memory.version
        if version == self.version:
            return
        ids = memory.ids.tolist()
        new = self._changes(memory, ids)
        if new is None:
            self._clear()
            new = ids
        for start in range(0, len(new), READ_AT_ONCE):
            rows = memory.rows(new[start : start + READ_AT_ONCE])
            for id_, arrays, weight in zip(
                rows.ids.tolist(), rows.values, rows.weights.tolist(), strict=True
            ):
                self._append(id_, arrays, weight)
        self.version = version

    def _changes(self, memory: Memory, ids: list[int]) -> list[int] | None:
        """Drop what is gone and return what is new; None where everything must be read again."""
        if self.cells is None or self.version < 0:
            return None
        since = [info for info in memory.versions() if info.version > self.version]
        if memory.version < self.version or not {info.operation for info in since} <= FOLLOWED:
            return None
        new = [each for each in ids if each not in self._at]
        if new and self._at and new[0] < max(self._at):
            return None
        gone = self._at.keys() - set(ids)
        dead = len(self.cells.ids) - len(self._at) + len(gone)
        if 2 * dead > len(self.cells.ids):
            return None
        self.cells.drop([self._at.pop(each) for each in sorted(gone)])
        return new

    def _append(self, id_: int, arrays: Mapping[str, NDArray[Any]], weight: float) -> None:
        levels = unpack(arrays)
        vectors = [self.described(level) for level in levels]
        if self.cells is None:
            widths = tuple(each.shape[1] for each in vectors)
            self.cells = Cells(widths, dtype=self._dtype, kernel=self._kernel)
        valid = self._take(arrays, levels[-1].shape, levels[-1].cells)
        self._at[id_] = len(self.cells.ids)
        self._weights.append(np.array([weight]))
        self.cells.append(
            id_, tuple(level.shape for level in levels), vectors,
            [level.cells for level in levels], valid,
        )  # fmt: skip

    def described(self, level: StoredLevel) -> Floats:
        """What is compared of a level that was kept."""
        return describe(level.features, level.shape, level.cells, self._position)

    def query(self, pyramid: Pyramid) -> list[Floats]:
        """What is compared of a query, level by level."""
        return [
            describe(features, shape, None, self._position)
            for features, shape in zip(pyramid.features, pyramid.shapes, strict=True)
        ]


class LabelLayout(Layout):
    """Finest cells answer with how often each label occurs among their pixels."""

    def _clear_values(self) -> None:
        self.classes: list[int] = []
        self._counts: Column = Column(np.uint32, 0)
        self._totals: list[NDArray[np.int64]] = []
        self._summed: Any = None
        self._masks: list[tuple[NDArray[np.int64], NDArray[Any]]] = []

    def _take(self, arrays: Mapping[str, NDArray[Any]], grid: Shape, kept: Ids | None) -> Mask:
        labels = arrays["labels"].tolist()
        counts = cell_counts(arrays["mask"], len(labels), grid)
        counts = counts if kept is None else counts[kept]
        self._make_room(labels)
        columns = [self.classes.index(label) for label in labels]
        wide = np.zeros((len(counts), len(self.classes)), np.uint32)
        wide[:, columns] = counts
        self._counts.append(wide)
        self._totals.append(wide.sum(axis=0, dtype=np.int64))
        self._masks.append((arrays["labels"], arrays["mask"]))
        return np.asarray(counts.sum(axis=1) > 0)

    def _make_room(self, labels: list[int]) -> None:
        fresh = [label for label in labels if label not in self.classes]
        if fresh:
            self.classes += fresh
            self._counts.widen(len(self.classes))

    def present(self) -> NDArray[np.int64]:
        """Labels that samples of the memory hold now, sorted."""
        return self._summary()[0]

    def _summary(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Doubles]:
        """Labels that samples hold now, sorted, their columns, and their shares of the pixels."""
        if self._summed is None or self._summed[0] != self.version:
            total = np.zeros(len(self.classes), np.int64)
            for position in self._at.values():
                part = self._totals[position]
                total[: len(part)] += part
            labels = np.array(self.classes, np.int64)
            order = np.argsort(labels, kind="stable")
            order = order[total[order] > 0]
            held = total[order].astype(np.float64)
            self._summed = self.version, (labels[order], order, held / max(held.sum(), 1.0))
        summary: tuple[NDArray[np.int64], NDArray[np.int64], Doubles] = self._summed[1]
        return summary

    def shares(self) -> Doubles:
        """Share of each of ``present()`` among the labelled pixels of kept cells."""
        return self._summary()[2]

    def size_of(self, position: int) -> Shape:
        """Size of the mask of a sample."""
        return self._masks[position][1].shape

    def labels_at(self, position: int, pixels: tuple[NDArray[np.int64], ...]) -> NDArray[np.int64]:
        """Labels of pixels of a sample; -1 where a pixel has none."""
        labels, mask = self._masks[position]
        found: NDArray[np.int64] = np.append(labels, -1)[mask[pixels]]
        return found

    def scaled(self, values: NDArray[Any], settings: Settings) -> NDArray[Any]:
        """Shares of labels, those of rare labels raised by their share to ``-balance``."""
        if not settings.balance:
            return values
        raised = values * self.rarity(settings)
        total = raised.sum(axis=-1, keepdims=True)
        np.divide(raised, total, out=raised, where=total > 0)
        return raised

    def rarity(self, settings: Settings) -> Doubles:
        """How much each of ``present()`` is raised."""
        return np.maximum(self.shares(), np.finfo(np.float64).tiny) ** -settings.balance

    def values(self, places: Ids) -> NDArray[Any]:
        """Shares of the labels of ``present()``: float64 ``(*places, classes)``."""
        counts = self._counts.values[np.maximum(places, 0)][..., self._summary()[1]]
        shares: NDArray[Any] = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
        return shares


class NumberLayout(Layout):
    """Finest cells answer with the mean of their pixels' values."""

    def _clear_values(self) -> None:
        self._means: Column | None = None
        self._targets: list[NDArray[np.float32]] = []

    def _take(self, arrays: Mapping[str, NDArray[Any]], grid: Shape, kept: Ids | None) -> Mask:
        means, known = cell_means(arrays["target"], grid)
        if kept is not None:
            means, known = means[kept], known[kept]
        if self._means is None:
            self._means = Column(np.float64, means.shape[1])
        self._means.append(means)
        self._targets.append(arrays["target"])
        return known

    @property
    def width(self) -> int:
        """Numbers of a cell."""
        return 0 if self._means is None else int(self._means.values.shape[1])

    def values(self, places: Ids) -> NDArray[Any]:
        """Means: float64 ``(*places, width)``."""
        assert self._means is not None
        found: NDArray[Any] = self._means.values[np.maximum(places, 0)]
        return found

    def size_of(self, position: int) -> Shape:
        """Size of the target of a sample."""
        return self._targets[position].shape[:-1]

    def target_at(
        self, position: int, pixels: tuple[NDArray[np.int64], ...]
    ) -> NDArray[np.float32]:
        """Values of pixels of a sample; NaN where there is none."""
        found: NDArray[np.float32] = self._targets[position][pixels]
        return found

    def scaled(self, values: NDArray[Any], settings: Settings) -> NDArray[Any]:
        """The values themselves."""
        del settings
        return values
