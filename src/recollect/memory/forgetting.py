"""How rows leave a memory, and how they come back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from recollect.memory import checks, erasure, writes
from recollect.memory import no_return as banned
from recollect.memory.teaching import Teaching
from recollect.types import Ids, Receipt


class Forgetting(Teaching):
    """The verbs of :class:`~recollect.memory.memory.Memory` that take rows out."""

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

    def erase(
        self,
        ids: ArrayLike | None = None,
        where: str | None = None,
        *,
        no_return: bool = False,
    ) -> Receipt:
        """Remove rows down to the bytes on disk: from every version, file, log and cache.

        Args:
            ids: Rows of any version, alive or removed, each once; or
            where: a filter over the rows that are alive.
            no_return: Keep keyed digests of what the rows held, by which every later write refuses
                them. See `recollect.memory.no_return` for what a digest reveals; without
                it nothing of the rows remains.

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
            return erasure.erase(self._store, wanted, ban=no_return)

    def allow_return(self, ids: ArrayLike) -> Ids:
        """Take erased rows off the list of what must not return, as one version.

        Args:
            ids: Erased rows, as :meth:`no_return` lists them, each once.

        Returns:
            int64, sorted: the ids.

        Raises:
            UnknownIds: One of them is not on the list; nothing was changed.
        """
        wanted = np.sort(checks.check_ids(ids))
        with self._writing() as write:
            banned.strike(self._store, wanted)
            self._store.record_version(write.version, "allow", grown=0, changed=0)
            write.then = lambda: None
        return wanted

    def restore(self, version: int) -> int:
        """Make the rows of a past version the rows of a new one; returns its number.

        Raises:
            UnknownVersion: There is no such version.
            ErasedBefore: A row of it holds what must not return.
        """
        with self._writing() as write:
            past = self._store.check_version(version)
            before = write.view.table.ids
            grown, changed = writes.restore_rows(self._store, write.version, past)
            returning = banned.of_restored(self._store, write.version, before)
            banned.refuse(self._store, returning)
            self._store.record_version(write.version, "restore", grown=grown, changed=changed)
        return write.version

    def compact(self) -> None:
        """Drop removed rows and all versions before this one, and rewrite the files."""
        self._require_writable()
        with self._store.mutex:
            erasure.compact(self._store)
