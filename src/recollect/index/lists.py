"""Inverted lists of faiss: keys grouped around centers, so that a search reads few of them.

Everything here is by id and without promises of exactness; ``approximate`` makes those. Nothing of
faiss is ever read from a file: what is kept of lists are plain arrays (``Content``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import MissingExtra
from recollect.index.exact import ExactIndex
from recollect.index.policy import Storage
from recollect.types import Doubles, Floats, Ids, Metric

ROUNDS = 8  # of k-means: more of them move the recall by less than one more list does
POINTS = 32  # rows for each center that k-means looks at
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


@dataclass(frozen=True, eq=False)
class Content:
    """All that lists are, as arrays.

    Attributes:
        centers: float32 ``(lists, dim)``.
        ranges: float32 ``(2 * dim,)``: smallest number and span of each dimension, for 8 bits a
            number; empty for flat lists.
        sizes: int64 ``(lists,)``: rows in each.
        ids: int64 ``(rows,)``, list after list.
        codes: uint8 ``(rows, bytes)``, likewise.
    """

    centers: Floats
    ranges: Floats
    sizes: NDArray[np.int64]
    ids: Ids
    codes: NDArray[np.uint8]


class Lists:
    """Keys in inverted lists.

    Args:
        metric: Any but Manhattan, for which faiss has no lists.
        storage: ``"8bit"`` or ``"flat"``.
        centers: float32 ``(lists, dim)``.
        ranges: As in ``Content``.
    """

    def __init__(self, metric: Metric, storage: Storage, centers: Floats, ranges: Floats) -> None:
        self._faiss, self._metric = load_faiss(), metric
        self.storage, self.centers, self.ranges = storage, centers, ranges
        # Asked in one fixed way, so that a query looks into the same lists alone as in a batch.
        self._probes = ExactIndex(centers.shape[1], "euclidean" if metric == "euclidean" else "dot")
        self._probes.add(np.arange(len(centers)), centers)
        self._nearest = self._faiss.IndexFlat(centers.shape[1], self._kind)
        self._nearest.add(centers)
        # One shares its lists among cores by query, the other by list.
        self._many, self._one = self._make(), self._make()
        self._many.parallel_mode, self._one.parallel_mode = 3, 1
        self._one.replace_invlists(self._many.invlists, False)

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
        """Return the list each key belongs to: int64 ``(n,)``."""
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
        return self._probes.search(prepared, depth)[0]

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
        params = faiss.IVFSearchParameters(nprobe=probes.shape[1], sel=chosen)
        index = self._one if len(prepared) == 1 else self._many
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

    def content(self) -> Content:
        """Copy everything out."""
        faiss, inside = self._faiss, self._many.invlists
        sizes = np.array([inside.list_size(number) for number in range(len(self))], np.int64)
        width = int(inside.code_size)
        ids, codes = np.empty(sizes.sum(), np.int64), np.empty((sizes.sum(), width), np.uint8)
        ends = np.cumsum(sizes)
        for number in np.flatnonzero(sizes).tolist():
            part, count = slice(ends[number] - sizes[number], ends[number]), int(sizes[number])
            ids[part] = faiss.rev_swig_ptr(inside.get_ids(number), count)
            bytes_here = faiss.rev_swig_ptr(inside.get_codes(number), count * width)
            codes[part] = bytes_here.reshape(count, width)
        return Content(self.centers, self.ranges, sizes, ids, codes)

    @classmethod
    def of(cls, metric: Metric, storage: Storage, content: Content) -> Lists:
        """Make lists of what ``content`` gave; the arrays were judged before."""
        made = cls(metric, storage, content.centers, content.ranges)
        pointer, inside = made._faiss.swig_ptr, made._many.invlists
        ends = np.cumsum(content.sizes)
        for number in np.flatnonzero(content.sizes).tolist():
            part = slice(ends[number] - content.sizes[number], ends[number])
            ids = np.ascontiguousarray(content.ids[part])
            codes = np.ascontiguousarray(content.codes[part])
            inside.add_entries(number, len(ids), pointer(ids), pointer(codes))
        made._many.ntotal = len(content.ids)
        return made


def train(
    metric: Metric, storage: Storage, prepared: Floats, lists: int, *, seed: int
) -> tuple[Floats, Floats]:
    """Find centers by k-means, and the range of each dimension.

    Args:
        metric: How rows are compared.
        storage: For ``"flat"`` no ranges are needed.
        prepared: float32 ``(rows, dim)``, what ``Lists.prepare`` gives; at least ``lists``.
        lists: How many centers.
        seed: Of the first centers.

    Returns:
        Centers and ranges as in ``Content``.
    """
    faiss = load_faiss()
    means = faiss.Kmeans(
        prepared.shape[1], lists, niter=ROUNDS, seed=seed, spherical=metric == "cosine",
        min_points_per_centroid=1, max_points_per_centroid=POINTS,
    )  # fmt: skip
    means.train(prepared)
    ranges = np.empty(0, np.float32)
    if storage == "8bit":
        low, high = prepared.min(axis=0), prepared.max(axis=0)
        margin = (high - low) * np.float32(0.05)  # rows to come may lie a little further out
        span = high - low + 2 * margin
        ranges = np.concatenate([low - margin, np.where(span > 0, span, np.float32(1))])
    return np.array(means.centroids, np.float32), ranges.astype(np.float32)
