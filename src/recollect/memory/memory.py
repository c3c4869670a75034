"""`Memory`: rows that can be taught, asked, corrected and erased, each write one version."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from recollect.errors import InvalidParameter
from recollect.memory import checks, erasure, intake, interchange, reading, verification, writes
from recollect.memory.handle import READ_ATTEMPTS, Handle
from recollect.memory.recall import View
from recollect.memory.schema import Configuration, Recorded, describe_encoder
from recollect.memory.store import Store, as_folder, create_folder, create_ram
from recollect.types import Ids, Metric, Neighbors, Receipt, Rows, ValueKind, VersionInfo

if TYPE_CHECKING:
    import pyarrow as pa

RAM = ":memory:"
Check = Literal["auto"] | bool


class Memory(Handle):
    """Rows of keys and values that last, with an answer to "which rows are nearest?".

    Make one with :meth:`create` or :meth:`open`, not by calling the class. A memory opened for
    writing holds an exclusive lock until :meth:`close`; any number of processes may read it
    meanwhile. Every write is one atomic version: it is on the disk when the call returns, and a
    call that raised changed nothing. Safe to share between threads.

    Example:
        >>> with Memory.create(":memory:", dim=2) as memory:
        ...     ids = memory.add([[1, 0], [0, 1]], ["cat", "dog"])
        ...     near = memory.search([[0.9, 0.1]], k=1)
        >>> near.values.tolist(), near.ids.tolist()
        ([['cat']], [[0]])
    """

    @classmethod
    def create(
        cls,
        uri: str | Path,
        *,
        dim: int,
        metric: Metric = "cosine",
        value: ValueKind = "label",
        encoder: Any = None,
        value_dim: int | None = None,
        metric_weights: ArrayLike | None = None,
        dtype: str = "float32",
        timeout: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Make an empty memory and open it for writing.

        Args:
            uri: Path of a folder that does not exist yet or is empty; ``":memory:"`` for a memory
                that does not outlive the process.
            dim: Width of a key.
            metric: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``.
            value: What a row answers with: ``label`` (all str or all int), ``number`` (float64),
                ``vector`` (float32, width ``value_dim``), or ``arrays`` (a dict of named arrays).
            encoder: The encoder that makes the keys, or its fingerprint; None if keys come as
                they are. It is recorded, and another one is refused later.
            value_dim: Width of vector values.
            metric_weights: ``(dim,)`` factors of 0 or more for the Manhattan metric.
            dtype: How keys are stored: ``float32``, ``float16`` or ``uint8``.
            timeout: Seconds to wait for another writer.
            clock: Gives the time of each write, in seconds since 1970.

        Raises:
            MemoryExists: There is something at this place.
            InvalidParameter: An option is out of range.
        """
        fingerprint, spec = describe_encoder(encoder)
        config = Configuration(
            dim=checks.as_int("dim", dim),
            metric=metric,
            value=value,
            value_dim=None if value_dim is None else checks.as_int("value_dim", value_dim),
            dtype=str(dtype),
            metric_weights=checks.check_metric_weights(metric_weights),
            encoder=fingerprint,
            encoder_spec=spec,
        )
        patience = checks.check_timeout(timeout)
        if str(uri) == RAM:
            return cls(create_ram(config, clock), uri=RAM)
        folder = as_folder(uri)
        create_folder(folder, config, clock)
        return cls(Store(folder, timeout=patience, clock=clock), uri=str(uri))

    @classmethod
    def open(
        cls,
        uri: str | Path,
        version: int | None = None,
        read_only: bool = False,  # noqa: FBT001, FBT002 - the third argument by design
        *,
        encoder: Any = None,
        timeout: float = 0.0,
        check: Check = "auto",
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open a memory.

        Args:
            uri: Its folder.
            version: A past version to look at, read-only; None for the newest.
            read_only: Take no lock; answers follow the commits of a writer elsewhere.
            encoder: The encoder in use, or its fingerprint; refused unless the memory's keys come
                from it. None skips the comparison.
            timeout: Seconds to wait for another writer.
            check: True verifies every byte first, False only the structure, ``"auto"`` every byte
                of a memory below 64 MiB. In any case all keys are compared with their checksums
                before the first answer, and every stored value before it is given out.
            clock: Gives the time of each write, in seconds since 1970.

        Raises:
            MemoryNotFound: There is no memory.
            MemoryLocked: Another writer holds it.
            CorruptMemory: Its bytes are not those that were written.
            UnsupportedFormat: A newer version wrote it.
            EncoderMismatch: Its keys come from another encoder.
            UnknownVersion: It has no such version.
        """
        if str(uri) == RAM:
            raise InvalidParameter(
                "a memory in RAM cannot be opened again", got=RAM, remedy="Use Memory.create."
            )
        if not (isinstance(check, bool) or check == "auto"):
            raise InvalidParameter("check is not known", expected="True, False or 'auto'",
                                   got=repr(check), remedy="Leave it out.")  # fmt: skip
        store = Store(
            as_folder(uri),
            read_only=read_only or version is not None,
            timeout=checks.check_timeout(timeout),
            clock=clock,
        )
        try:
            pinned = None if version is None else store.check_version(version)
            memory = cls(store, uri=str(uri), pinned=pinned)
            memory.check_encoder(encoder)
            with memory._snapshot(lambda: verification.check_on_open(store, check)):
                pass
        except BaseException:
            store.close()
            raise
        return memory

    # -- teaching ------------------------------------------------------------------------------

    def add(
        self,
        keys: ArrayLike,
        values: Any,
        ids: ArrayLike | None = None,
        weights: Any = None,
        sources: Any = None,
        metadata: Mapping[str, Any] | None = None,
        thumbnails: Any = None,
    ) -> Ids:
        """Add rows; they take part in the next answer.

        Args:
            keys: ``(rows, dim)``, finite; kept bit for bit in the memory's dtype.
            values: One label, number, vector or dict of arrays per row.
            ids: int64 ``(rows,)``, never used before; counted up when None.
            weights: Weight of each row's vote, from 0 to 1e100; 1 when None.
            sources: Where each row came from: text or None.
            metadata: Column name -> one value per row (str, int, float, bool or None), or one for
                all. A column keeps the type of its first value.
            thumbnails: A small encoded picture (bytes) or None per row.

        Returns:
            int64 ``(rows,)``: the ids, in the order given.

        Raises:
            InputError: Something cannot be stored; nothing was.
            WriteFailed: The disk refused; nothing was changed.
        """
        return self._teach(
            keys, values, ids, weights, sources, metadata, thumbnails, replacing=False
        )

    def replace(
        self,
        keys: ArrayLike,
        values: Any,
        ids: ArrayLike | None = None,
        weights: Any = None,
        sources: Any = None,
        metadata: Mapping[str, Any] | None = None,
        thumbnails: Any = None,
    ) -> Ids:
        """Remove all rows and add these, as one version. Arguments as in :meth:`add`."""
        return self._teach(
            keys, values, ids, weights, sources, metadata, thumbnails, replacing=True
        )

    def _teach(
        self, keys: Any, values: Any, ids: Any, weights: Any, sources: Any, metadata: Any,
        thumbnails: Any, *, replacing: bool,
    ) -> Ids:  # fmt: skip
        stored = checks.check_keys(keys, self._store.config)
        rows = len(stored)
        with self._writing() as write:
            store, view = self._store, write.view
            batch = intake.judge_rows(
                store,
                stored,
                values,
                None if replacing else view.book,
                {
                    "ids": ids, "weights": weights, "sources": sources, "metadata": metadata,
                    "thumbnails": thumbnails,
                },
            )  # fmt: skip
            gone = view.table.rows if replacing else 0
            if replacing:
                writes.end_all(store, write.version)
            states, labels = writes.add_rows(store, write.version, batch, view.book)
            store.record_version(
                write.version,
                "replace" if replacing else "add",
                grown=rows - gone,
                changed=rows + gone,
            )
            if not replacing:
                write.then = lambda: view.added(states, stored, labels)
        return batch.ids

    def update(
        self,
        ids: ArrayLike,
        values: Any = None,
        weights: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Ids:
        """Change values, weights or metadata of rows; keys never change.

        Args:
            ids: Rows that are alive, each once.
            values: New values, one per id, or one for all.
            weights: New weights, one per id, or one for all.
            metadata: Columns to change; None in a column clears it.

        Returns:
            int64: the ids.

        Raises:
            UnknownIds: One of them is not alive; nothing was changed.
            InvalidParameter: There is nothing to change.
        """
        self._require_writable()
        wanted = checks.check_ids(ids)
        if values is None and weights is None and not metadata:
            raise InvalidParameter(
                "there is nothing to change",
                expected="values, weights or metadata",
                got="none of them",
                remedy="Name what should change; remove(ids) takes rows out.",
            )
        if not len(wanted):
            return wanted
        with self._writing() as write:
            view = write.view
            states = view.table.states[view.table.find(wanted)]
            change = intake.judge_change(
                self._store, len(wanted), values, weights, metadata, view.book
            )
            states, labels = writes.change_rows(
                self._store, write.version, wanted, states, change, view.book
            )
            self._store.record_version(write.version, "update", grown=0, changed=len(wanted))
            write.then = lambda: view.changed(wanted, states, labels)
        return wanted

    # -- forgetting ----------------------------------------------------------------------------

    def remove(self, ids: ArrayLike | None = None, where: str | None = None) -> Ids:
        """Take rows out: the next answer is as if they had never been added.

        Past versions still hold them, so :meth:`restore` brings them back; :meth:`erase` does not.

        Args:
            ids: Rows that are alive, each once; or
            where: a filter such as ``"split = 'train' and not reviewed"``.

        Returns:
            int64, sorted: the ids that were removed. Empty if a filter matched nothing.

        Raises:
            UnknownIds: An id is not alive; nothing was removed.
            InvalidFilter: The filter cannot be read.
        """
        self._require_writable()
        with self._store.mutex:  # no other thread may take a row out between the two steps
            with self._reading() as view:
                wanted = self._resolve(view, ids, where)
            return self._take_out(wanted) if len(wanted) else wanted

    def _take_out(self, wanted: Ids) -> Ids:
        with self._writing() as write:
            view = write.view
            writes.end_rows(self._store, write.version, wanted)
            self._store.record_version(
                write.version, "remove", grown=-len(wanted), changed=len(wanted)
            )
            write.then = lambda: view.removed(wanted)
        return wanted

    def erase(self, ids: ArrayLike | None = None, where: str | None = None) -> Receipt:
        """Remove rows down to the bytes on disk: from every version, file, log and cache.

        Args:
            ids: Rows of any version, alive or removed, each once; or
            where: a filter over the rows that are alive.

        Returns:
            What was erased and what was searched. Issued only after a byte scan of the whole
            folder found nothing of these rows.

        Raises:
            UnknownIds: An id was never there, or is erased already; nothing was erased.
            ErasureIncomplete: Bytes remain, for example because a reader keeps the log busy.
        """
        self._require_writable()
        with self._store.mutex:
            if ids is None or where is not None:
                with self._reading() as view:
                    wanted = self._resolve(view, ids, where)
            else:
                wanted = np.sort(checks.check_ids(ids))
            return erasure.erase(self._store, wanted)

    def restore(self, version: int) -> int:
        """Make the rows of a past version the rows of a new one; returns its number.

        Raises:
            UnknownVersion: There is no such version.
        """
        with self._writing() as write:
            past = self._store.check_version(version)
            grown, changed = writes.restore_rows(self._store, write.version, past)
            self._store.record_version(write.version, "restore", grown=grown, changed=changed)
        return write.version

    def compact(self) -> None:
        """Drop removed rows and all versions before this one, and rewrite the files."""
        self._require_writable()
        with self._store.mutex:
            erasure.compact(self._store)

    # -- asking --------------------------------------------------------------------------------

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

        Ordered by similarity, then by smaller id; the same bits for a query alone as in any batch.

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
        wanted = checks.check_queries(queries, self._store.config)
        excluded = checks.check_exclusions(exclude, len(wanted))
        for _ in range(READ_ATTEMPTS):
            with self._reading() as view:
                count = checks.check_k(k, len(wanted), view.table.rows)
                moment, allowed = view.moment, self._allowed(view, where)
            near = view.index.search(wanted, count, allowed=allowed, exclude=excluded)
            with self._store.mutex:
                if view.moment == moment:
                    return view.neighbors(*near, valued=values)
        with self._reading() as view:  # writers here were quicker every time: let them wait once
            allowed = self._allowed(view, where)
            near = view.index.search(wanted, count, allowed=allowed, exclude=excluded)
            return view.neighbors(*near, valued=values)

    def _allowed(self, view: View, where: str | None) -> Ids | None:
        if where is None:
            return None
        return reading.matching(self._store, view, where, self._pinned)

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

    # -- history -------------------------------------------------------------------------------

    def versions(self) -> list[VersionInfo]:
        """Every version that can be read, oldest first."""
        with self._reading():
            return self._store.versions()

    def at(self, version: int) -> Self:
        """Return a read-only view of a past version; it shares this memory's files."""
        with self._reading():
            pinned = self._store.check_version(version)
            return type(self)(self._store, uri=self._uri, pinned=pinned, owner=False)

    # -- in and out ----------------------------------------------------------------------------

    def to_arrow(self) -> pa.Table:
        """Return all rows as an Arrow table; needs ``recollect[arrow]``."""
        return interchange.to_arrow(self.rows(), about=reading.about(self._store.config))

    def to_parquet(self, path: str | Path) -> None:
        """Write all rows to a Parquet file, bit for bit; needs ``recollect[arrow]``."""
        interchange.to_parquet(self.rows(), path, about=reading.about(self._store.config))

    @classmethod
    def from_arrow(cls, uri: str | Path, table: pa.Table) -> Self:
        """Make a memory from an Arrow table with the rows and ids of :meth:`to_arrow`."""
        return cls._from_rows(uri, *interchange.from_arrow(table))

    @classmethod
    def from_parquet(cls, uri: str | Path, path: str | Path) -> Self:
        """Make a memory from a file of :meth:`to_parquet`."""
        return cls._from_rows(uri, *interchange.from_parquet(path))

    @classmethod
    def _from_rows(cls, uri: str | Path, rows: Rows, about: dict[str, Any]) -> Self:
        memory = cls.create(
            uri,
            dim=rows.keys.shape[1],
            dtype=rows.keys.dtype.name,
            encoder=Recorded(about.get("encoder"), about.get("encoder_spec")),
            **{name: about[name] for name in ("metric", "value", "value_dim", "metric_weights")},
        )
        try:
            if len(rows):
                memory.add(
                    rows.keys, rows.values, ids=rows.ids, weights=rows.weights,
                    sources=rows.sources, metadata=rows.metadata,
                )  # fmt: skip
        except BaseException:
            memory.close()
            if memory.uri != RAM:  # it was made by this call and holds nothing
                shutil.rmtree(as_folder(uri))
            raise
        return memory

    # -- care ----------------------------------------------------------------------------------

    def verify(self) -> verification.Verification:
        """Read every byte and compare it with its checksum, trusting nothing."""
        with self._reading():
            return verification.verify(self._store)

    def stats(self) -> dict[str, Any]:
        """Return size, version, labels and bytes on disk, as plain values for JSON."""
        with self._reading() as view:
            return reading.stats(self._store, view, self._uri, self._pinned)
