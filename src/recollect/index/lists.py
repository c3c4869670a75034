"""Inverted lists of faiss: keys grouped around centers, so that a search reads few of them.

Everything here is by id and without promises of exactness; ``approximate`` makes those. Nothing of
faiss is ever read from a file: what is kept of lists are plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import MissingExtra
from recollect.index.compiled import CompiledPass
from recollect.index.exact import DEFAULT_LIMITS, Asked, ExactIndex
from recollect.index.groups import Groups
from recollect.index.policy import Storage
from recollect.index.scope import Batch
from recollect.types import Doubles, Floats, Ids, Metric

ROUNDS = 8  # of k-means: more of them move the recall by less than one more list does
POINTS = 32  # rows for each center that k-means looks at
GROUPED = 2048  # centers, from which on they are grouped to assign rows
# Numbers in the lists searched, from which on cores share them: some milliseconds of one core. On
# a machine that is busy, waiting for the other cores takes far longer than they save.
SHARED = 1 << 25
STEP = 1 << 14  # keys encoded at a time: 24 MiB at width 384


def load_faiss() -> Any:
    """Import faiss.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingExtra(
            "approximate search needs faiss", remedy="pip install 'recollect[faiss]'"
        ) from error
    return faiss


class Lists:
    """Keys in inverted lists.

    Args:
        metric: Any but Manhattan, for which faiss has no lists.
        storage: ``"8bit"`` or ``"flat"``.
        centers: float32 ``(lists, dim)``.
        ranges: float32 ``(2 * dim,)``: smallest number and span of each dimension, for 8 bits a
            number; empty for flat lists.
    """

    def __init__(self, metric: Metric, storage: Storage, centers: Floats, ranges: Floats) -> None:
        self._faiss, self._metric = load_faiss(), metric
        self.storage, self.centers, self.ranges = storage, centers, ranges
        self._params: dict[int, Any] = {}  # of the depth asked for last
        self._ways: dict[tuple[int, int], CompiledPass | None] = {}  # likewise, by cores and depth
        # Asked in one fixed way, so that a query looks into the same lists alone as in a batch.
        self._probes = {cores: self._exact(cores) for cores in (1, DEFAULT_LIMITS.cores)}
        self._nearest = self._faiss.IndexFlat(centers.shape[1], self._kind)
        self._nearest.add(centers)
        many = len(centers) >= GROUPED
        self._groups = Groups(centers, euclidean=metric == "euclidean") if many else None
        # The same lists, shared among cores by query, by list, or not at all.
        self._many, self._one, self._alone = self._make(), self._make(), self._make()
        self._many.parallel_mode, self._one.parallel_mode, self._alone.parallel_mode = 3, 1, 0
        self._one.replace_invlists(self._many.invlists, False)
        self._alone.replace_invlists(self._many.invlists, False)

    def _exact(self, cores: int) -> ExactIndex:
        """Make an index of the centers."""
        metric: Metric = "euclidean" if self._metric == "euclidean" else "dot"
        dim = self.centers.shape[1]
        index = ExactIndex(dim, metric, limits=replace(DEFAULT_LIMITS, cores=cores))
        index.add(np.arange(len(self.centers)), self.centers)
        return index

    @property
    def _kind(self) -> int:
        faiss = self._faiss
        euclidean = self._metric == "euclidean"
        return int(faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT)

    def _make(self) -> Any:
        faiss, (lists, dim) = self._faiss, self.centers.shape
        if self.storage == "flat":
            made = faiss.IndexIVFFlat(self._nearest, dim, lists, self._kind)
        else:
            made = faiss.IndexIVFScalarQuantizer(
                self._nearest, dim, lists, faiss.ScalarQuantizer.QT_8bit, self._kind, False
            )
            faiss.copy_array_to_vector(self.ranges, made.sq.trained)
        made.is_trained = True
        return made

    def __len__(self) -> int:
        """How many lists."""
        return len(self.centers)

    @property
    def rows(self) -> int:
        """Rows in all lists."""
        return int(self._many.ntotal)

    # -- rows ----------------------------------------------------------------------------------

    def prepare(self, keys: NDArray[Any], sizes: Doubles) -> Floats:
        """Bring keys or queries to the form that is compared: float32, of length 1 for cosine."""
        if self._metric == "cosine":
            keys = keys / sizes[:, None]
        return np.ascontiguousarray(keys, np.float32)

    def assign(self, prepared: Floats) -> Ids:
        """Return the list each key belongs to: int64 ``(n,)``.

        Among many centers it is looked for in the nearest groups of them. That finds another list
        than the nearest for few keys; what this costs is part of the recall that is measured.
        """
        if self._groups is not None:
            return self._groups.assign(prepared)
        found: Ids = self._nearest.search(prepared, 1)[1][:, 0]
        return found

    def reserve(self, counts: NDArray[np.int64]) -> None:
        """Make room in empty lists, so that they need not grow while they are filled."""
        for number, count in enumerate(counts.tolist()):
            self._many.invlists.resize(number, count)
            self._many.invlists.resize(number, 0)

    def add(self, ids: Ids, prepared: Floats, assigned: Ids | None = None) -> None:
        """Take rows in that are not here."""
        pointer = self._faiss.swig_ptr
        for start in range(0, len(ids), STEP):
            some, keys = (
                np.ascontiguousarray(ids[start : start + STEP]),
                prepared[start : start + STEP],
            )
            lists = self.assign(keys) if assigned is None else assigned[start : start + STEP]
            lists = np.ascontiguousarray(lists)
            self._many.add_core(len(some), pointer(keys), pointer(some), pointer(lists))

    def remove(self, ids: Ids) -> None:
        """Delete rows; unknown ids change nothing. One pass over the ids in the lists."""
        if len(ids):
            self._many.remove_ids(self._faiss.IDSelectorBatch(ids))

    # -- search --------------------------------------------------------------------------------

    def probe(self, prepared: Floats, depth: int) -> Ids:
        """Return the nearest ``depth`` lists of each query: int64 ``(queries, depth)``."""
        cores = 1 if len(prepared) == 1 else DEFAULT_LIMITS.cores
        index = self._probes[cores]
        sizes = index.measured(prepared)
        if (cores, depth) not in self._ways:
            self._ways = {key: way for key, way in self._ways.items() if key[0] != cores}
            self._ways[cores, depth] = index.center_pass(depth)
        way = self._ways[cores, depth]
        if way is not None and len(prepared) <= way.queries and way.suits(sizes):
            found = np.empty((len(prepared), depth), np.int64)
            near = np.empty(found.shape, np.float32)
            every = np.arange(len(prepared))
            if not len(way.answer(Batch(prepared, sizes, None), every, found, near)):
                return found
        # What is prepared needs no judging a second time.
        return index.answer(Asked(prepared, sizes, depth, None, None))[0]

    def nearness(self, prepared: Floats) -> Floats:
        """Return how near each center is: float32 ``(queries, lists)``, larger is nearer."""
        products = prepared @ self.centers.T
        if self._metric == "euclidean":
            products -= 0.5 * np.square(self.centers).sum(axis=1)
        return products

    def find(
        self, prepared: Floats, probes: Ids, count: int, allowed: Ids | None = None
    ) -> tuple[Ids, Floats]:
        """Return the best ``count`` rows in the lists probed, larger scores first.

        Returns:
            Ids and scores, ``(queries, count)``, padded with -1. Rows of one key have one score.
        """
        faiss = self._faiss
        # The selector reads the array: it must live as long as the search.
        chosen = None if allowed is None else faiss.IDSelectorBatch(allowed)
        depth = probes.shape[1]
        params = self._params.get(depth) if chosen is None else None
        if params is None:
            params = faiss.IVFSearchParameters(nprobe=depth, sel=chosen)
        if chosen is None:
            self._params = {depth: params}
        numbers = probes.size * self.rows // len(self) * prepared.shape[1]
        index = self._many if len(prepared) > 1 else self._one
        if numbers < SHARED:
            index = self._alone
        nothing = np.zeros(probes.shape, np.float32)  # the distance to a center plays no part
        ids = np.empty((len(prepared), count), np.int64)
        scores = np.empty(ids.shape, np.float32)
        pointers = map(faiss.swig_ptr, (probes, nothing, scores, ids))
        index.search_preassigned_c(
            len(prepared), faiss.swig_ptr(prepared), count, *pointers, False, params
        )
        return ids, -scores if self._kind == faiss.METRIC_L2 else scores

    # -- as arrays -----------------------------------------------------------------------------

    def ids(self) -> Ids:
        """Copy the ids of all rows out: int64, list after list."""
        inside, faiss = self._many.invlists, self._faiss
        sizes = [inside.list_size(number) for number in range(len(self))]
        parts = [
            faiss.rev_swig_ptr(inside.get_ids(number), size).copy()
            for number, size in enumerate(sizes)
            if size
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    @property
    def width(self) -> int:
        """Bytes that a row takes besides its id."""
        return int(self._many.invlists.code_size)

    def contents(self) -> Iterator[NDArray[Any]]:
        """Go through what the lists hold, without a copy; nobody may write meanwhile.

        Yields:
            Rows in each list, int64 ``(lists,)``; then the ids and the codes, uint8, of each list
            that has some.
        """
        inside, pointed = self._many.invlists, self._faiss.rev_swig_ptr
        sizes = np.array([inside.list_size(number) for number in range(len(self))], np.int64)
        yield sizes
        for number in np.flatnonzero(sizes).tolist():
            count = int(sizes[number])
            yield pointed(inside.get_ids(number), count)
            yield pointed(inside.get_codes(number), count * self.width)

    def fill(self, sizes: NDArray[np.int64], content: NDArray[np.uint8]) -> None:
        """Put into empty lists what ``contents`` gave, as one array of bytes.

        Args:
            sizes: Rows in each list; not negative.
            content: Ids and codes of one list after the other, of exactly that length.
        """
        pointer, inside, width = self._faiss.swig_ptr, self._many.invlists, self.width
        assert len(content) == int(sizes.sum()) * (8 + width)
        at = 0
        for number in np.flatnonzero(sizes).tolist():
            count = int(sizes[number])
            ids = content[at : at + 8 * count].copy().view(np.int64)
            codes = content[at + 8 * count : at + (8 + width) * count].copy()
            inside.add_entries(number, count, pointer(ids), pointer(codes))
            at += (8 + width) * count
        self._many.ntotal = int(sizes.sum())


def train(
    metric: Metric,
    storage: Storage,
    prepared: Floats,
    lists: int,
    *,
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> tuple[Floats, Floats]:
    """Find centers by k-means, and the range of each dimension.

    Args:
        metric: How rows are compared.
        storage: For ``"flat"`` no ranges are needed.
        prepared: float32 ``(rows, dim)``, what ``Lists.prepare`` gives; at least ``lists``.
        lists: How many centers.
        seed: Of the first centers.
        check: Called every second or so; what it raises ends the training.

    Returns:
        Centers and ranges as ``Lists`` takes them.
    """
    centers = _means(prepared, lists, spherical=metric == "cosine", seed=seed, check=check)
    ranges = np.empty(0, np.float32)
    if storage == "8bit":
        low, high = prepared.min(axis=0), prepared.max(axis=0)
        margin = (high - low) * np.float32(0.05)  # rows to come may lie a little further out
        span = high - low + 2 * margin
        ranges = np.concatenate([low - margin, np.where(span > 0, span, np.float32(1))])
    return centers, ranges.astype(np.float32)


def _means(
    points: Floats, count: int, *, spherical: bool, seed: int, check: Callable[[], None]
) -> Floats:
    """Find centers by Lloyd's algorithm, in steps between which it can be stopped."""
    faiss, rng = load_faiss(), np.random.default_rng(seed)
    centers = points[rng.permutation(len(points))[:count]].copy()
    for _ in range(ROUNDS):
        nearest = (faiss.IndexFlatIP if spherical else faiss.IndexFlatL2)(points.shape[1])
        nearest.add(centers)
        own = np.empty(len(points), np.int64)
        step = max(STEP // 16, (1 << 34) // centers.size)
        for start in range(0, len(points), step):
            check()
            part = slice(start, start + step)
            own[part] = nearest.search(points[part], 1)[1][:, 0]
        sizes = np.bincount(own, minlength=count)
        edges = np.concatenate([[0], np.cumsum(sizes)])
        order, filled = np.argsort(own, kind="stable"), np.flatnonzero(sizes)
        for number in filled.tolist():
            rows = order[edges[number] : edges[number + 1]]
            centers[number] = points[rows].mean(axis=0, dtype=np.float64)
        # A center of nothing moves to a row of one of the largest.
        empty = np.flatnonzero(sizes == 0)
        crowded = np.argsort(-sizes, kind="stable")[: len(empty)]
        centers[empty[: len(crowded)]] = points[order[edges[crowded]]]
        if spherical:
            lengths = np.linalg.norm(centers, axis=1, keepdims=True)
            centers /= np.where(lengths > 0, lengths, np.float32(1))
    return centers
