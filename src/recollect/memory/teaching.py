"""How rows come into a memory and change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recollect.errors import InvalidParameter
from recollect.index.scoring import measure
from recollect.memory import checks, intake, no_return, writes
from recollect.memory.asking import Asking
from recollect.memory.placed import forms
from recollect.memory.recall import View
from recollect.types import Ids


class Teaching(Asking):
    """The verbs of :class:`~recollect.memory.memory.Memory` that add and change rows."""

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
            ErasedBefore: A row was erased and is on the list of what must not return.
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
        thumbnails: Any, *, replacing: bool, retired: Sequence[int] = (),
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
            no_return.refuse(store, no_return.of_batch(batch))
            gone = view.table.rows if replacing else 0
            if replacing:
                writes.end_all(store, write.version)
            states, labels = writes.add_rows(store, write.version, batch, view.book)
            writes.retire(store, retired)
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
        *,
        remove: ArrayLike = (),
    ) -> Ids:
        """Change values, weights or metadata of rows; keys never change.

        Args:
            ids: Rows that are alive, each once.
            values: New values, one per id, or one for all.
            weights: New weights, one per id, or one for all.
            metadata: Columns to change; None in a column clears it.
            remove: Other rows, which leave in the same version.

        Returns:
            int64: the ids.

        Raises:
            UnknownIds: One of them is not alive; nothing was changed.
            ErasedBefore: A new text is that of a row that must not return.
            InvalidParameter: There is nothing to change, or a row is to change and to leave.
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
        gone = _others(wanted, remove)
        with self._writing() as write:
            view = write.view
            states = view.table.states[view.table.find(wanted)]
            view.table.find(gone)  # before anything is written
            change = intake.judge_change(
                self._store, len(wanted), values, weights, metadata, view.book
            )
            self._refuse_return(view, wanted, change)
            states, labels = writes.change_rows(
                self._store, write.version, wanted, states, change, view.book
            )
            writes.end_rows(self._store, write.version, gone)
            self._store.record_version(
                write.version, "update", grown=-len(gone), changed=len(wanted) + len(gone)
            )

            def then() -> None:
                """Bring the view on, once the version is committed."""
                view.changed(wanted, states, labels)
                if len(gone):
                    view.removed(gone)

            write.then = then
        return wanted

    def rekey(
        self,
        keys: ArrayLike,
        encoder: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Give every row a new key, of another encoder, as one version.

        Ids, values, weights, sources and thumbnails stay. Past versions keep the keys they had, so
        :meth:`restore` of the version before undoes it. See :func:`recollect.migrate`, which makes
        the keys and compares the answers first.

        Args:
            keys: ``(rows, width)``, one for each row in order of :attr:`ids`; any width.
            encoder: The encoder that made them, or its fingerprint; None if there is none.
            metadata: Columns to change with it, as in :meth:`update`.

        Returns:
            The number of the version.

        Raises:
            LengthMismatch: Not one key per row.
            InvalidParameter: The memory is empty, or has weights for each dimension of its metric.
            ErasedBefore: A key is that of a row that must not return.
            InputError: The keys cannot be stored; nothing was changed.

        Example:
            >>> from recollect import Memory
            >>> memory = Memory.create(":memory:", dim=2)
            >>> ids = memory.add([[1, 0], [0, 1]], ["cat", "dog"])
            >>> version = memory.rekey([[0, 0, 1], [0, 1, 0]], "another encoder")
            >>> memory.dim, memory.search([[0, 0, 2]], k=1).values.tolist()
            (3, [['cat']])
            >>> memory.restore(version - 1), memory.dim
            (3, 2)
        """
        self._require_writable()
        with self._writing() as write:
            store, view = self._store, write.view
            config = intake.judge_encoding(store.config, keys, encoder)
            stored = checks.check_keys(keys, config)
            ids = view.table.ids
            if len(stored) != len(ids):
                raise checks.length_mismatch("keys", len(ids), len(stored))
            change = intake.judge_change(store, len(ids), None, None, metadata, view.book)
            change = replace(change, keys=stored, norms=measure(stored))
            self._refuse_return(view, ids, change)
            states = view.table.states[view.table.find(ids)]
            store.begin_encoding(config)
            writes.change_rows(store, write.version, ids, states, change, view.book)
            store.record_version(write.version, "rekey", grown=0, changed=len(ids))
        return write.version

    def _refuse_return(self, view: View, ids: Ids, change: writes.Change) -> None:
        def key_now(place: int) -> tuple[bytes, ...]:
            """The key that stands before this change, in its forms."""
            key = view.keys(view.table.states[view.table.find(ids[place : place + 1])])
            return forms(key.tobytes(), key.dtype)

        no_return.refuse(self._store, no_return.of_change(self._store, ids, change, key_now))


def _others(changed: Ids, removed: ArrayLike) -> Ids:
    """Rows that leave while others change, int64, sorted."""
    gone = np.sort(checks.check_ids(removed))
    both = np.intersect1d(gone, changed)
    if len(both):
        raise InvalidParameter(
            "a row cannot change and leave in one version",
            expected="other rows in remove=",
            got=f"row {both[0]} in both",
            remedy="Leave it out of one of them.",
        )
    return gone
