"""The cells of a memory's rows as arrays, kept in step with the memory: never the truth itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dense_memory.cells import Cells, Column
from recollect.heads.dense_memory.masks import cell_counts, cell_means
from recollect.heads.dense_memory.plan import Kernel
from recollect.heads.dense_memory.pyramids import Pyramid, StoredLevel, unpack
from recollect.heads.dense_memory.settings import Settings
from recollect.index.exact import ExactIndex
from recollect.index.policy import Approximate
from recollect.index.refining import find_holding, mean_of_shares
from recollect.memory.memory import Memory
from recollect.readout.grids import Shape, chain
from recollect.readout.propagation import unit_rows, weighted_mean
from recollect.types import Doubles, Floats, Ids, Mask

SMALL, LARGE = 1e-15, 1e15  # lengths whose squares float32 holds with all digits
READ_AT_ONCE = 8  # rows read from the memory at a time: few stay in memory that is there already
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
    features = np.ascontiguousarray(features)
    if not position:
        return _scaled(features, np.ones(len(features)))
    where = _places(shape, position)
    where = where if cells is None else where[cells]
    own = features.any(axis=1)  # a cell without features is told by its place alone
    length = np.sqrt(own + np.square(where).sum(axis=1))
    length[length == 0] = 1.0
    # The place is written beside the features, not joined to them, which would copy all of them.
    found = np.empty((len(features), features.shape[1] + len(shape)), np.float32)
    _scaled(features, length, into=found[:, : features.shape[1]])
    found[:, features.shape[1] :] = where / length[:, None]
    return found


def _scaled(features: Floats, length: Doubles, into: Floats | None = None) -> Floats:
    """Give rows a length of 1 divided by ``length``; a row of zeros stays one."""
    size = np.sqrt(np.einsum("nd,nd->n", features, features))
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        found: Floats = np.multiply(features, (1 / (size * length)).astype("f")[:, None], out=into)
    # Squares beyond the range of float32, or near its lower end, are no measure of a length.
    far = np.flatnonzero(~((size > SMALL) & (size < LARGE)))
    if len(far):
        found[far] = unit_rows(features[far]) / length[far, None]
    return found


@lru_cache(maxsize=64)
def _places(shape: Shape, position: float) -> Doubles:
    """Where the cells of a grid lie, ``(cells, axes)``: from -position to position on each axis."""
    places = np.indices(shape).reshape(len(shape), -1).T
    found: Doubles = ((places + 0.5) / np.array(shape) * 2 - 1) * position
    found.flags.writeable = False  # one array serves every caller
    return found


class Layout(ABC):
    """Cells of all rows, and what each finest cell answers with.

    Args:
        position: See :func:`describe`.
        kernel: Which cells a match leads to.
        dtype: How vectors are held.
        block_labels: Whether a kept cell answers for all the cells that it stands for.
        search: How the coarsest level is searched; None: exactly.
    """

    def __init__(
        self,
        *,
        position: float,
        kernel: Kernel,
        dtype: Any,
        block_labels: bool = False,
        search: Approximate | None = None,
    ) -> None:
        self._position, self._kernel, self._dtype = position, kernel, dtype
        self._block_labels, self._search = block_labels, search
        self.lock = RLock()  # one question, or one step after the memory, at a time
        self._clear()

    def _clear(self) -> None:
        self.cells: Cells | None = None
        self.version = -1
        self.widths: tuple[int, ...] = ()
        self.sources: list[str | None] = []
        self._frozen: Memory | None = None
        self._whole: ExactIndex | None = None
        self._at: dict[int, int] = {}
        self._weights = Column(np.float64)
        self._clear_values()

    @abstractmethod
    def _clear_values(self) -> None:
        """Forget what cells answer with."""

    @abstractmethod
    def _take(
        self, arrays: Mapping[str, NDArray[Any]], grid: Shape, kept: Ids | None, blocks: Ids | None
    ) -> Mask:
        """Take in what the finest cells of a row answer with; returns which have an answer.

        ``blocks`` says for every finest cell which kept cells answer for it together.
        """

    @abstractmethod
    def values(self, places: Ids) -> NDArray[Any]:
        """What finest cells answer with: ``(*places, width)``."""

    @property
    def weights(self) -> Doubles:
        """Weight of each sample's row, by position in the layout."""
        return self._weights.values

    def row(self, id_: int) -> Mapping[str, NDArray[Any]]:
        """What a row of the version that is followed holds."""
        assert self._frozen is not None
        found: Mapping[str, NDArray[Any]] = self._frozen.rows([id_]).values[0]
        return found

    @property
    def ids(self) -> list[int]:
        """Ids of the rows that are there, ascending."""
        return sorted(self._at)

    @property
    def axes(self) -> int:
        """Axes of the grids."""
        assert self.cells is not None
        return len(self.cells.shapes[0][0])

    @abstractmethod
    def size_of(self, position: int) -> Shape:
        """Size of the mask or target of a sample, by position in the layout."""

    @abstractmethod
    def scaled(self, values: NDArray[Any], settings: Settings) -> NDArray[Any]:
        """What a match adds to an answer for each unit of its weight."""

    def position_of(self, ids: Sequence[int]) -> Ids:
        """Positions in the layout of row ids."""
        return np.array([self._at[each] for each in ids], np.int64)

    def near(self, descriptor: Floats, count: int, *, leave_out: Ids | None = None) -> Ids:
        """Positions of the samples that are most alike as a whole, ascending.

        Args:
            descriptor: float32 ``(width,)``: the key of a row.
            count: How many.
            leave_out: Position of a sample that does not take part.
        """
        assert self._whole is not None
        barred = None if leave_out is None else leave_out[None]
        found = self._whole.search(descriptor[None], min(count, len(self._at)), exclude=barred)[0]
        return np.sort(found[found >= 0])

    def follow(self, memory: Memory) -> None:
        """Bring the layout to the memory's version; reads only rows that are new where it can.

        Whoever writes meanwhile, what is held is what one version held.
        """
        memory.in_one_version(lambda: self._step(memory))

    def _step(self, memory: Memory) -> None:
        version = memory.version
        if version == self.version:
            return
        try:
            self._frozen = memory.at(version)
            self._take_in(self._frozen)
        except BaseException:
            self._clear()
            raise
        self.version = version

    def _take_in(self, frozen: Memory) -> None:
        """Read what is new in one version, or all of it."""
        ids = frozen.ids.tolist()
        new = self._changes(frozen, ids)
        if new is None:
            self._clear()
            self._frozen, new = frozen, ids
        for start in range(0, len(new), READ_AT_ONCE):
            rows = frozen.rows(new[start : start + READ_AT_ONCE])
            for at, (id_, arrays) in enumerate(zip(rows.ids.tolist(), rows.values, strict=True)):
                self._append(id_, arrays, float(rows.weights[at]))
                if len(self._at) == 1:
                    self._reserve(len(new))
            self._take_whole(rows.keys, rows.sources)
        if self.cells is not None:
            self.cells.flush()

    def _reserve(self, rows: int) -> None:
        """Make room for rows like the first."""
        assert self.cells is not None
        self.cells.reserve(rows)

    def _take_whole(self, keys: Floats, sources: Sequence[str | None]) -> None:
        if self._whole is None:
            self._whole = ExactIndex(keys.shape[1], "dot")
        self._whole.add(len(self.sources) + np.arange(len(keys)), keys)
        self.sources += sources

    def _changes(self, frozen: Memory, ids: list[int]) -> list[int] | None:
        """Drop what is gone and return what is new; None where everything must be read again."""
        if self.cells is None or self.version < 0:
            return None
        history = frozen.versions()
        if history[0].version > self.version:  # a compaction hides what happened since
            return None
        since = {info.operation for info in history if info.version > self.version}
        if not since <= FOLLOWED:
            return None
        new = [each for each in ids if each not in self._at]
        if new and self._at and new[0] < max(self._at):
            return None
        gone = sorted(self._at.keys() - set(ids))
        dead = len(self.cells.ids) - len(self._at) + len(gone)
        if 2 * dead > len(self.cells.ids):
            return None
        positions = [self._at.pop(each) for each in gone]
        self.cells.drop(positions)
        assert self._whole is not None
        self._whole.remove(np.array(positions, np.int64))
        return new

    def _append(self, id_: int, arrays: Mapping[str, NDArray[Any]], weight: float) -> None:
        levels = unpack(arrays)
        vectors = [self.described(level) for level in levels]
        if self.cells is None:
            widths = tuple(each.shape[1] for each in vectors)
            self.cells = Cells(widths, dtype=self._dtype, kernel=self._kernel, search=self._search)
            self.widths = tuple(level.features.shape[1] for level in levels)
        blocks = self._blocks(levels) if self._block_labels else None
        valid = self._take(arrays, levels[-1].shape, levels[-1].cells, blocks)
        self._at[id_] = len(self.cells.ids)
        self._weights.append(np.array([weight]))
        self.cells.append(
            id_, tuple(level.shape for level in levels), vectors,
            [level.cells for level in levels], valid,
        )  # fmt: skip

    @staticmethod
    def _blocks(levels: Sequence[StoredLevel]) -> Ids | None:
        """The cell of the finest whole level above every finest cell; None where all are whole."""
        whole = sum(level.cells is None for level in levels)
        if whole == len(levels):
            return None
        return chain([level.shape for level in levels], len(levels) - 1, whole - 1)

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

    def _take(
        self, arrays: Mapping[str, NDArray[Any]], grid: Shape, kept: Ids | None, blocks: Ids | None
    ) -> Mask:
        labels = arrays["labels"].tolist()
        counts = cell_counts(arrays["mask"], len(labels), grid)
        if blocks is not None:
            together = np.zeros((int(blocks.max()) + 1, len(labels)), np.int64)
            np.add.at(together, blocks, counts)
            counts = together[blocks]
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

    def _reserve(self, rows: int) -> None:
        super()._reserve(rows)
        self._counts.reserve(rows * len(self._counts.values))

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
        raised, total = self._raised(values, settings)
        np.divide(raised, total[..., None], out=raised, where=total[..., None] > 0)
        return raised

    def _raised(self, values: NDArray[Any], settings: Settings) -> tuple[NDArray[Any], Doubles]:
        """Shares times what rare labels are raised by, and their sums, added label by label."""
        raised = values * self.rarity(settings)
        total = np.zeros(raised.shape[:-1])
        for column in range(raised.shape[-1]):
            total += raised[..., column]
        return raised, total

    def read(self, places: Ids, weights: Doubles, settings: Settings) -> tuple[Doubles, Doubles]:
        """Mean of what the matches of cells hold, and the weights that balance leaves them.

        Args:
            places: int64 ``(cells, k)``, -1 where there is no match.
            weights: ``(cells, k)``; rows sum to 1, or to 0.
            settings: Says how much rare labels are raised.
        """
        if find_holding() is not None:
            rarity = self.rarity(settings) if settings.balance else None
            counts, columns = self._counts.values, self._summary()[1]
            return mean_of_shares(counts, columns, rarity, places, weights)
        return self.read_by_numpy(places, weights, settings)

    def read_by_numpy(
        self, places: Ids, weights: Doubles, settings: Settings
    ) -> tuple[Doubles, Doubles]:
        """As ``read``, without the library: the same bits."""
        values = self.values(places)
        if settings.balance:
            weights = weights * self._raised(values, settings)[1]
            total = weights.sum(axis=1, keepdims=True)
            weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
            values = self.scaled(values, settings)
        return weighted_mean(values, weights), weights

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

    def _take(
        self, arrays: Mapping[str, NDArray[Any]], grid: Shape, kept: Ids | None, blocks: Ids | None
    ) -> Mask:
        means, known = cell_means(arrays["target"], grid)
        if blocks is not None:
            together, cells = np.zeros((int(blocks.max()) + 1, means.shape[1])), known.astype(float)
            np.add.at(together, blocks, means)
            counted = np.bincount(blocks, cells)
            means = (together / np.maximum(counted, 1)[:, None])[blocks]
            known = (counted > 0)[blocks]
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
