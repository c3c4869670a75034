"""What a memory answers: nearest rows, whole rows, past versions, exports, checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from recollect.memory import checks, interchange, no_return, reading, verification
from recollect.memory.handle import READ_ATTEMPTS, Handle
from recollect.memory.recall import View
from recollect.types import Banned, Ids, Neighbors, Rows, VersionInfo

if TYPE_CHECKING:
    import pyarrow as pa


class Asking(Handle):
    """The verbs of :class:`~recollect.memory.memory.Memory` that write nothing."""

    def search(
        self,
        queries: ArrayLike,
        k: int = 20,
        where: str | None = None,
        exclude: Any = None,
        *,
        values: bool = True,
    ) -> Neighbors:
        """Find the nearest rows of each query, exactly.

        The answer is ordered by similarity, then by smaller id, and has the same bits for a query
        alone as in any batch.

        Args:
            queries: ``(queries, dim)``, finite; no zero vector under the cosine metric.
            k: How many rows, at least 1. Where fewer qualify the rest is id -1, similarity -inf;
                a k above the number of rows may fill 2^24 such places.
            where: Only rows that pass this filter.
            exclude: Ids each query must not find, for leave-one-out: int64 ``(queries,)`` or
                ``(queries, m)`` with -1 for nothing, or a sequence of ids for each query.
            values: False leaves the values out: ``(queries, 0)``. For who keeps them already.

        Raises:
            DimensionMismatch, NonFinite, ZeroVector, EmptyBatch: The queries cannot be used.
            InvalidParameter: ``k`` is out of range.
            InvalidFilter: ``where`` cannot be read.
        """
        config = self._config
        wanted = checks.check_queries(queries, config)
        excluded = checks.check_exclusions(exclude, len(wanted))
        for _ in range(READ_ATTEMPTS):
            with self._reading() as view:
                if view.config != config:  # another process has given the rows other keys
                    config = view.config
                    wanted = checks.check_queries(queries, config)
                count = checks.check_k(k, len(wanted), view.table.rows)
                moment, allowed = view.moment, self._allowed(view, where)
            near = view.index.search(wanted, count, allowed=allowed, exclude=excluded)
            with self._store.mutex:
                if view.moment == moment:
                    return view.neighbors(*near, valued=values)
        with self._reading() as view:
            # Writers of this process were quicker every time: let them wait once.
            wanted = checks.check_queries(queries, view.config)
            allowed = self._allowed(view, where)
            near = view.index.search(wanted, count, allowed=allowed, exclude=excluded)
            return view.neighbors(*near, valued=values)

    def _allowed(self, view: View, where: str | None) -> Ids | None:
        if where is None:
            return None
        return reading.matching(self._store, view, where, self._pinned)

    def find(self, where: str) -> Ids:
        """Return the ids of the rows that pass a filter, int64, sorted.

        Args:
            where: A filter such as ``"label = 'cat' and year >= 2020"``.

        Raises:
            InvalidFilter: It cannot be read, or names an unknown column.

        Example:
            >>> from recollect import Memory
            >>> memory = Memory.create(":memory:", dim=1)
            >>> ids = memory.add([[1], [2], [3]], ["cat", "dog", "cat"])
            >>> memory.find("label = 'cat'").tolist()
            [0, 2]
        """
        with self._reading() as view:
            return self._resolve(view, None, where)

    def rows(self, ids: ArrayLike | None = None, where: str | None = None) -> Rows:
        """Return whole rows.

        Args:
            ids: Which rows, in the order wanted; or
            where: a filter; neither means all, in order of id.

        Raises:
            UnknownIds: An id is not alive in this version.
        """
        with self._reading() as view:
            if ids is None and where is None:
                wanted = view.table.ids
            elif where is None:
                wanted = checks.check_ids(ids)
            else:
                wanted = self._resolve(view, ids, where)
            return reading.rows(self._store, view, wanted, self._pinned)

    def thumbnail(self, row: int) -> bytes | None:
        """Return the small picture kept with a row, or None."""
        with self._reading() as view:
            view.table.find(checks.check_ids([row]))
            return reading.thumbnail(self._store, row)

    def no_return(self) -> list[Banned]:
        """List the rows that were erased and must not come back, in order of id."""
        with self._reading():
            return no_return.listed(self._store)

    # -- history ------------------------------------------------------------------------------

    def versions(self) -> list[VersionInfo]:
        """Every version that can be read, oldest first."""
        with self._reading():
            return self._store.versions()

    def at(self, version: int) -> Self:
        """Return a read-only view of a past version; it shares this memory's files."""
        with self._reading():
            pinned = self._store.check_version(version)
            return type(self)(self._store, uri=self._uri, pinned=pinned, owner=False)

    # -- out and care --------------------------------------------------------------------------

    def to_arrow(self) -> pa.Table:
        """Return all rows as an Arrow table; needs ``recollect[arrow]``."""
        with self._reading():
            return interchange.to_arrow(self.rows(), **self._exported())

    def to_parquet(self, path: str | Path) -> None:
        """Write all rows to a Parquet file, bit for bit; needs ``recollect[arrow]``."""
        with self._reading():
            rows, how = self.rows(), self._exported()
        interchange.to_parquet(rows, path, **how)

    def _exported(self) -> dict[str, Any]:
        with self._reading() as view:
            return {
                "about": reading.about(view.config),
                "thumbnails": reading.thumbnails(self._store, view.table.ids),
                "retired": reading.retired(self._store, view.table.ids),
            }

    def verify(self) -> verification.Verification:
        """Read every byte and compare it with its checksum, trusting nothing."""
        with self._reading():
            return verification.verify(self._store)

    def stats(self) -> dict[str, Any]:
        """Return size, version, labels and bytes on disk, as plain values for JSON."""
        with self._reading() as view:
            return reading.stats(self._store, view, self._uri, self._pinned)
