"""Exact k nearest neighbors in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from recollect.errors import (
    DimensionMismatch,
    DuplicateIds,
    InvalidParameter,
    LengthMismatch,
    NonFinite,
    ZeroVector,
)
from recollect.index.blocks import Snapshot, Store
from recollect.index.coarse import Coarse
from recollect.index.compiled import SPARSE as SPARSE_COMPILED
from recollect.index.compiled import CompiledPass, Engine
from recollect.index.paths import choose, make_engine
from recollect.index.scan import Search
from recollect.index.scope import SPARSE, Batch, Limits, make_scope
from recollect.index.standard import standard_arithmetic
from recollect.types import Doubles, Floats, Ids, Metric

WIDEST = 1 << 20  # the error bound of the first pass needs a dim well below 2^24
REAL = "fiub"  # kinds of dtype that are read as real numbers
ATTACHABLE = (np.float32, np.float16, np.uint8)
DEFAULT_LIMITS = Limits()


class ExactIndex:
    """Finds the k nearest rows, exactly, and the same bits for a query alone as in any batch.

    The answer is ordered by float32 similarity (``scoring.similarity``), larger first, then by
    smaller id, and depends on nothing but the rows in the index: not on the order or the number of
    calls in which they came, nor on rows that were removed. Beyond the rows and the answer a
    search needs less than 256 MiB, for any number of queries and any k.

    One thread may write while others search: a search sees the rows as they were when it began.

    Args:
        dim: Width of a key.
        metric: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"``.
        metric_weights: ``(dim,)``, finite and not negative, for Manhattan only: the distance is
            ``sum(weights * abs(query - key))``. None weighs all alike.
        block_bytes: Size of the blocks into which ``add`` copies keys.
        limits: How much a search works on at a time; the answer never depends on it.
        path: The way a search takes, as ``paths.choose`` reads it; no answer depends on it either.

    Raises:
        InvalidParameter: An argument is out of its range.

    Example:
        >>> index = ExactIndex(2)
        >>> index.add(np.array([7, 8]), np.array([[1.0, 0.0], [3.0, 4.0]]))
        >>> ids, similarity = index.search(np.array([[2.0, 0.0]]), k=3)
        >>> ids
        array([[ 7,  8, -1]])
        >>> similarity
        array([[ 1. ,  0.6, -inf]], dtype=float32)
    """

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        *,
        metric_weights: NDArray[Any] | None = None,
        block_bytes: int = 1 << 25,
        limits: Limits = DEFAULT_LIMITS,
        path: str | None = None,
    ) -> None:
        if not _whole(dim) or not 1 <= dim <= WIDEST:
            raise InvalidParameter(
                "dim is out of range", expected=f"a whole number from 1 to {WIDEST}", got=repr(dim)
            )
        if metric not in get_args(Metric):
            known = ", ".join(get_args(Metric))
            raise InvalidParameter("unknown metric", expected=f"one of {known}", got=repr(metric))
        if not _whole(block_bytes) or block_bytes < 1:
            raise InvalidParameter(
                "block_bytes is out of range", expected="at least 1", got=repr(block_bytes)
            )
        self._dim, self._metric, self._limits = int(dim), metric, limits
        self._coarse = Coarse(metric, self._dim, _checked_weights(metric_weights, dim, metric))
        self.choice = choose(path)
        self._engine = make_engine(self.choice, self._coarse)
        self._store = Store(self._coarse, max(1, block_bytes // (4 * self._dim)))

    @property
    def dim(self) -> int:
        """Width of a key."""
        return self._dim

    @property
    def metric(self) -> Metric:
        """How rows are compared."""
        return self._metric

    @property
    def snapshot(self) -> Snapshot:
        """The rows as they are now; it never changes."""
        return self._store.snapshot

    def __len__(self) -> int:
        return self._store.snapshot.count

    def add(self, ids: Ids, keys: NDArray[Any], *, norms: Doubles | None = None) -> None:
        """Copy rows in, in effect for the next search.

        Args:
            ids: int64 ``(n,)``, distinct, not negative, not in the index now.
            keys: ``(n, dim)`` of any real dtype; kept as float32.
            norms: float64 ``(n,)`` as ``recollect.index.scoring.measure`` gives them, if they are
                known; saves the time to compute them. Not read under Manhattan.

        Raises:
            InputError: The ids or keys cannot be used; nothing was added.
        """
        ids = _checked_ids(ids)
        kept = _matrix("keys", keys, self._dim)
        if kept.dtype not in ATTACHABLE:
            kept = _as_float32(kept)
        self._store.add(ids, kept, self._checked_sizes(ids, kept, norms))

    def attach(self, ids: Ids, keys: NDArray[Any], *, norms: Doubles | None = None) -> None:
        """Take rows in without a copy; the caller leaves the array as it is from now on.

        Args:
            ids: As for ``add``.
            keys: float32, float16 or uint8 ``(n, dim)``, C-contiguous; may be read-only and mapped
                from a file. Converted to float32 a piece at a time while searching.
            norms: As for ``add``. Where they are given, keys are trusted to be finite.

        Raises:
            InputError: The ids or keys cannot be used; nothing was added.
        """
        ids = _checked_ids(ids).copy()
        keys = _matrix("keys", keys, self._dim)
        if keys.dtype not in ATTACHABLE or not keys.flags.c_contiguous or not keys.flags.aligned:
            raise InvalidParameter(
                "keys cannot be attached",
                expected="aligned C-contiguous float32, float16 or uint8",
                got=f"{keys.dtype}, strides {keys.strides}",
                remedy="Use add(), which makes a copy of its own.",
            )
        sizes = self._checked_sizes(ids, keys, norms)
        if len(ids):
            self._store.attach(ids, keys, sizes)

    def remove(self, ids: Ids) -> None:
        """Take rows out, in effect for the next search.

        Args:
            ids: int64 ``(n,)``.

        Raises:
            UnknownIds: One of them is not in the index; nothing was removed.
        """
        wanted = np.unique(_integers("ids", ids))
        if len(wanted):
            self._store.remove(wanted)

    @standard_arithmetic()
    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Ids | None = None,
        exclude: Sequence[Ids] | Ids | None = None,
    ) -> tuple[Ids, Floats]:
        """Return the k nearest rows of each query.

        Args:
            queries: ``(queries, dim)``, finite; read as float32. Under cosine none may be zero.
            k: At least 1; may exceed the number of rows.
            allowed: int64 ``(n,)``: only these rows take part; None means all. Ids that are not in
                the index are ignored.
            exclude: Per query the ids that must not be returned: one array per query, or int64
                ``(queries,)`` / ``(queries, m)`` in which -1 stands for nothing. Ids that are not
                in the index are ignored.

        Returns:
            Ids, int64, and similarity, float32, both ``(queries, k)``, ordered by similarity
            (larger first), then by smaller id; padded with -1 / -inf.

        Raises:
            InputError: An argument cannot be used.

        Example:
            >>> index = ExactIndex(1, "euclidean")
            >>> index.add(np.array([1, 2, 3]), np.array([[0.0], [1.0], [4.0]]))
            >>> index.search(np.array([[0.5]]), k=2, exclude=np.array([1]))
            (array([[2, 3]]), array([[-0.5, -3.5]], dtype=float32))
        """
        return self.answer(self.asked(queries, k, allowed=allowed, exclude=exclude))

    def answer(self, asked: Asked) -> tuple[Ids, Floats]:
        """Answer what was found to be in order; ``search`` says how."""
        snapshot, limits, step = self._store.snapshot, self._limits, self._step
        vectors, sizes, k, barred = asked.queries, asked.sizes, asked.k, asked.barred
        sparse = SPARSE_COMPILED if isinstance(self._engine, Engine) else SPARSE
        scope = make_scope(snapshot, asked.allowed, sparse)
        ids = np.full((len(vectors), k), -1)
        similarity = np.full((len(vectors), k), -np.inf, np.float32)
        search = Search(self._coarse, scope, k, limits, self._engine)
        for start in range(0, len(vectors), step):
            part = slice(start, start + step)
            some = np.ascontiguousarray(vectors[part], np.float32)
            pairs = None if barred is None else barred.pairs(snapshot, start, len(some))
            search.run(Batch(some, sizes[part], pairs), ids[part], similarity[part])
        return ids, similarity

    def center_pass(self, k: int) -> CompiledPass | None:
        """Make the way through the kernel for many searches of rows that stay as they are.

        Returns:
            What answers regular queries and names those that need ``answer``; None where the kernel
            is not used, or k is too large a share of the rows for it.
        """
        engine, snapshot = self.compiled, self._store.snapshot
        if engine is None or not engine.quantizes or 2 * k >= snapshot.slots:
            return None
        scope = make_scope(snapshot, None, SPARSE_COMPILED)
        if len(scope.irregular) or scope.chosen is not None:
            return None
        return CompiledPass(engine, scope, k, self._limits, engine.quantizer(snapshot))

    def asked(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Ids | None = None,
        exclude: Sequence[Ids] | Ids | None = None,
    ) -> Asked:
        """Judge the arguments of a search, which are those of ``search``.

        Raises:
            InputError: An argument cannot be used.
        """
        vectors = _matrix("queries", queries, self._dim)
        if not _whole(k) or k < 1:
            raise InvalidParameter("k is out of range", expected="at least 1", got=repr(k))
        barred = None if exclude is None else Barred(exclude, len(vectors))
        only = None if allowed is None else _integers("allowed", allowed)
        return Asked(vectors, self._measured_queries(vectors), int(k), only, barred)

    @property
    def compiled(self) -> Engine | None:
        """The compiled kernel, where searches take that way."""
        return self._engine if isinstance(self._engine, Engine) else None

    @property
    def _step(self) -> int:
        return max(1, min(self._limits.batch, self._limits.query_numbers // self._dim))

    def _measured_queries(self, vectors: NDArray[Any]) -> Doubles:
        sizes, step = np.empty(len(vectors)), self._step
        for start in range(0, len(vectors), step):
            part = slice(start, start + step)
            sizes[part] = self.measured(_as_float32(vectors[part]))
        self._refuse_unusable("queries", sizes)
        return sizes

    def measured(self, rows: NDArray[Any]) -> Doubles:
        """Measure rows or queries: float64 ``(n,)``; see ``scoring.measure``."""
        if not isinstance(self._engine, Engine) or not len(rows):
            return self._coarse.measure(rows)
        return self._engine.measure(np.ascontiguousarray(rows), self._limits.cores)

    def _checked_sizes(self, ids: Ids, keys: NDArray[Any], norms: Doubles | None) -> Doubles:
        if len(ids) != len(keys):
            raise LengthMismatch(
                "ids and keys differ in length", expected=f"{len(ids)} keys", got=len(keys)
            )
        if norms is None or self._metric == "manhattan":
            sizes = self.measured(keys)
        else:
            sizes = np.array(norms, np.float64)
            if sizes.shape != (len(ids),):
                raise LengthMismatch(
                    "ids and norms differ in length", expected=f"({len(ids)},)", got=sizes.shape
                )
        self._refuse_unusable("keys", sizes)
        return sizes

    def _refuse_unusable(self, name: str, sizes: Doubles) -> None:
        if np.isfinite(sizes).all() and (sizes.all() or self._metric != "cosine"):
            return
        bad = np.flatnonzero(~np.isfinite(sizes))
        if len(bad):
            raise NonFinite(
                f"{name} are not finite",
                expected="numbers that float32 can hold",
                got=f"NaN or infinity in {len(bad)} of {len(sizes)} rows, the first {bad[0]}",
                remedy="Look for missing values, or for numbers beyond 3.4e38.",
            )
        bad = np.flatnonzero(sizes == 0.0)
        if len(bad) and self._metric == "cosine":
            raise ZeroVector(
                f"{name} have no direction",
                expected="at least one number other than zero in each row",
                got=f"{len(bad)} of {len(sizes)} rows of zeros, the first {bad[0]}",
                remedy="Leave these rows out, or use the metric 'euclidean' or 'dot'.",
            )


@dataclass(frozen=True, eq=False)
class Asked:
    """The arguments of a search, found to be in order.

    Attributes:
        queries: ``(queries, dim)`` of a real dtype.
        sizes: float64 ``(queries,)``.
        k: Rows wanted by each.
        allowed: int64, or None for all.
        barred: What each query leaves out, or None.
    """

    queries: NDArray[Any]
    sizes: Doubles
    k: int
    allowed: Ids | None
    barred: Barred | None


class Barred:
    """The ids that each query must not be given, as one flat array."""

    def __init__(self, exclude: Sequence[Ids] | Ids, queries: int) -> None:
        if not isinstance(exclude, (Sequence, np.ndarray)) or (
            isinstance(exclude, np.ndarray) and not exclude.ndim
        ):
            raise InvalidParameter(
                "exclude cannot be read", expected="one entry per query", got=repr(exclude)
            )
        if len(exclude) != queries:
            raise LengthMismatch(
                "queries and exclude differ in length",
                expected=f"one entry for each of {queries} queries",
                got=len(exclude),
            )
        if isinstance(exclude, np.ndarray) and exclude.dtype != object:
            if exclude.ndim > 2:
                raise InvalidParameter("exclude has too many axes", expected=2, got=exclude.ndim)
            flat = exclude.reshape(-1)
            lengths = np.full(queries, exclude.size // max(1, queries))
        else:
            parts = [_integers("exclude", part) for part in exclude]
            flat = np.concatenate([np.empty(0, np.int64), *parts])
            lengths = np.array([len(part) for part in parts], np.int64)
        self._ids = _integers("exclude", flat)
        self._starts = np.concatenate([[0], np.cumsum(lengths)])

    def of(self, query: int) -> Ids:
        """int64, distinct: the ids that a query must not be given."""
        ids = np.unique(self._ids[self._starts[query] : self._starts[query + 1]])
        return ids[ids >= 0]

    def pairs(self, snapshot: Snapshot, start: int, queries: int) -> NDArray[np.int64] | None:
        """Return pairs of query, counted from ``start``, and slot: int64 ``(2, n)``, or None."""
        bounds = self._starts[start : start + queries + 1]
        query = np.repeat(np.arange(queries), np.diff(bounds))
        slots = snapshot.locate(self._ids[bounds[0] : bounds[-1]])
        here = slots >= 0
        return np.stack([query[here], slots[here]]) if here.any() else None


def _whole(number: object) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def _as_float32(vectors: NDArray[Any]) -> Floats:
    if vectors.dtype == np.float32:
        return np.ascontiguousarray(vectors)
    with np.errstate(over="ignore"):  # what overflows is refused by its infinite size
        return np.ascontiguousarray(vectors, np.float32)


def _integers(name: str, values: object) -> Ids:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidParameter(
            f"{name} cannot be read as row ids",
            expected="a one-dimensional array of whole numbers",
            got=f"{array.dtype} of shape {array.shape}",
        )
    return array.astype(np.int64, copy=False)


def _checked_ids(ids: object) -> Ids:
    array = _integers("ids", ids)
    if len(array) and array.min() < 0:
        raise InvalidParameter("ids are out of range", expected="0 or more", got=int(array.min()))
    ascending = bool((array[1:] > array[:-1]).all())
    if not ascending and len(np.unique(array)) < len(array):
        raise DuplicateIds(
            "ids are given twice",
            expected=f"{len(array)} distinct ids",
            got=f"{len(np.unique(array))}",
            remedy="Give each row an id of its own.",
        )
    return array


def _matrix(name: str, vectors: object, dim: int) -> NDArray[Any]:
    try:
        array = np.asarray(vectors)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.ndim != 2 or array.shape[1] != dim or array.dtype.kind not in REAL:
        raise DimensionMismatch(
            f"{name} have the wrong shape",
            expected=f"real numbers of shape (rows, {dim})",
            got=f"{array.dtype} of shape {array.shape}",
        )
    return array


def _checked_weights(weights: object, dim: int, metric: Metric) -> Doubles | None:
    if weights is None:
        return None
    array = np.array(weights, np.float64)
    if metric != "manhattan":
        raise InvalidParameter(
            "metric_weights need the Manhattan metric", expected="manhattan", got=metric
        )
    if array.shape != (dim,) or not np.isfinite(array).all() or array.min() < 0:
        raise InvalidParameter(
            "metric_weights cannot be used",
            expected=f"({dim},) finite numbers, none negative",
            got=f"shape {array.shape}, smallest {array.min(initial=0.0)}",
        )
    return array
