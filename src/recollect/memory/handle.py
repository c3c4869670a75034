"""An open memory: what it is, and how its calls see one version of the rows at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import (
    Closed,
    CorruptMemory,
    EncoderMismatch,
    InvalidParameter,
    RecollectError,
)
from recollect.index.approximate import ApproximateIndex
from recollect.memory import checks, reading
from recollect.memory.recall import View
from recollect.memory.schema import Configuration, describe_encoder
from recollect.memory.searching import Searching
from recollect.memory.store import CACHE, Store
from recollect.types import Floats, Ids, Label, Metric, Neighbors, ValueKind

READ_ATTEMPTS = 5
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Write:
    """A write under way: the rows before it, its version, and how the view takes it in."""

    view: View
    version: int
    then: Callable[[], None] | None = None


class Handle:
    """What :class:`~recollect.memory.memory.Memory` is built on; it has no verbs of its own.

    The verbs stand in classes by concern, each built on the one before: `asking`, `teaching`,
    `forgetting`; `memory` adds how one is made and opened.
    """

    def __init__(
        self,
        store: Store,
        *,
        uri: str,
        pinned: int | None = None,
        owner: bool = True,
        searching: Searching | None = None,
    ) -> None:
        self._searching = searching or Searching()
        self._store, self._uri, self._pinned, self._owner = store, uri, pinned, owner
        self._view: View | None = None
        self._closed = False
        self._expected: str | None = None  # the encoder in use, told when it was opened
        self._past = None if pinned is None else store.configs[store.encoding_at(pinned)]
        self._seen = store.generation

    # -- what it is ----------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where it is."""
        return self._uri

    @property
    def dim(self) -> int:
        """Width of a key."""
        return self._config.dim

    @property
    def metric(self) -> Metric:
        """How keys are compared."""
        return self._config.metric

    @property
    def metric_weights(self) -> NDArray[np.float64] | None:
        """Factors of the Manhattan metric, ``(dim,)``, or None."""
        weights = self._config.metric_weights
        return None if weights is None else np.array(weights)

    @property
    def value(self) -> ValueKind:
        """What a row answers with."""
        return self._config.value

    @property
    def value_dim(self) -> int | None:
        """Width of vector values, or None."""
        return self._config.value_dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """How keys are stored."""
        return np.dtype(self._config.dtype)

    @property
    def encoder(self) -> str | None:
        """Fingerprint of the encoder that makes the keys, or None."""
        return self._config.encoder

    @property
    def encoder_spec(self) -> dict[str, Any] | None:
        """Recipe for ``recollect.encoders.from_spec``, or None."""
        return self._config.encoder_spec

    @property
    def version(self) -> int:
        """The version that answers come from; counts up by one with every write."""
        with self._reading():
            return self._store.version if self._pinned is None else self._pinned

    @property
    def next_id(self) -> int:
        """The smallest id above all that were ever used."""
        with self._reading():
            return self._store.next_id

    @property
    def read_only(self) -> bool:
        """True if this handle refuses writes."""
        return self._store.read_only or self._pinned is not None

    @property
    def closed(self) -> bool:
        """True after :meth:`close`."""
        return self._closed

    @property
    def cache_folder(self) -> Path | None:
        """Where what can be computed again may be kept; None in RAM. Erasing deletes it."""
        self._require_open()
        return None if self._store.folder is None else self._store.folder / CACHE

    @property
    def ids(self) -> Ids:
        """int64, sorted: ids of all rows."""
        with self._reading() as view:
            return view.table.ids

    @property
    def labels(self) -> NDArray[Any]:
        """Labels that rows have now, sorted: object array of str, or int64."""
        self._require_labels()
        with self._reading() as view:
            return view.book.classes.copy()

    def label_counts(self) -> dict[Label, int]:
        """Rows of each label, in order of label."""
        self._require_labels()
        with self._reading() as view:
            return view.book.counts()

    def keys(self, ids: ArrayLike) -> NDArray[Any]:
        """Keys of rows alone, ``(rows, dim)``, in the order of ``ids``; quicker than ``rows``.

        Raises:
            UnknownIds: An id is not alive in this version.
        """
        with self._reading() as view:
            return view.keys(view.table.states[view.table.find(checks.check_ids(ids))])

    def look_up(self, ids: Ids, similarity: Floats) -> Neighbors:
        """Turn neighbors that were found earlier into those of now, with value and weight.

        Args:
            ids: int64 ``(queries, k)``: rows that are alive, -1 where empty.
            similarity: float32 ``(queries, k)``.
        """
        with self._reading() as view:
            return view.neighbors(ids, similarity)

    def __len__(self) -> int:
        with self._reading() as view:
            return view.table.rows

    def __repr__(self) -> str:
        if self._closed:
            return f"<Memory {self._uri!r}, closed>"
        return (
            f"<Memory {self._uri!r}: {len(self)} rows, {self.dim}-d {self.metric} keys -> "
            f"{self.value}s, version {self.version}>"
        )

    def check_encoder(self, encoder: Any) -> None:
        """Raise ``EncoderMismatch`` unless keys of this encoder belong here.

        Args:
            encoder: An encoder or a fingerprint. None, or a memory that records no encoder, pass.
        """
        _compare_encoders(self._config.encoder, describe_encoder(encoder)[0])

    def prepare(self) -> dict[str, Any]:
        """Make ready what the next search needs, wait for it, and say how searches are answered.

        Without it the first search does that, and an approximate one stays exact while lists are
        trained in the background.

        Returns:
            ``engine``, which is ``"exact"`` or ``"lists"``; for lists also ``measured_recall`` on a
            sample of the rows, ``lists`` and ``lists_searched`` of them for k = 10.

        Example:
            >>> from recollect import Memory
            >>> memory = Memory.create(":memory:", dim=1)
            >>> memory.prepare()
            {'engine': 'exact'}
        """
        with self._reading() as view:
            index = view.index
        if isinstance(index, ApproximateIndex):
            index.prepare()
        return view.search_status()

    def in_one_version(self, ask: Callable[[], Answer]) -> Answer:
        """Ask several things of which all see the same version of the rows.

        It is tried beside whoever writes. If the rows changed meanwhile, what came of it is thrown
        away, and it is asked once more while the writers of this process wait and those of others
        go unseen.

        Args:
            ask: Asks this memory and writes nothing into it; called once or twice.

        Returns:
            What ``ask`` returned when it saw one version; an error of it is raised likewise.

        Example:
            >>> from recollect import Memory
            >>> memory = Memory.create(":memory:", dim=1)
            >>> ids = memory.add([[1], [2]], ["cat", "dog"])
            >>> memory.in_one_version(lambda: (memory.version, len(memory), memory.ids.tolist()))
            (1, 2, [0, 1])
        """
        if self.held_still:
            return ask()
        before = self._moment()
        try:
            answer = ask()
        except Exception:
            if self._moment() == before:
                raise
        else:
            if self._moment() == before:
                return answer
        with self._reading():
            self._store.held_by = threading.get_ident()
            try:
                return ask()
            finally:
                self._store.held_by = None

    @property
    def held_still(self) -> bool:
        """True inside :meth:`in_one_version`, in the thread for which all others wait."""
        return self._store.held_by == threading.get_ident()

    def _moment(self) -> tuple[int, int]:
        """What differs after every write, those to past versions too."""
        with self._reading():
            return self._store.version, self._store.generation

    def close(self) -> None:
        """Release the files and the writer's lock; harmless when called again.

        Lists that are being trained in the background are given up.
        """
        if self._owner:
            self._searching.close(wait=not self.held_still)
        try:
            if self._owner and not self._closed and not self.read_only:
                self._keep()
        finally:
            self._closed = True
            self._view = None
            if self._owner:
                self._store.close()

    def _keep(self) -> None:
        """Leave a cache behind, if all is well; it is nobody's trouble if not."""
        store = self._store
        with suppress(RecollectError, OSError, sqlite3.Error), store.mutex:
            if store.db.in_transaction:
                return
            if self._seen != store.generation:
                self._current()  # an erasure has moved everything, and deleted the cache
            if self._view is not None and self._view.version == store.version:
                self._view.keep()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- inside --------------------------------------------------------------------------------

    @property
    def _config(self) -> Configuration:
        return self._past or self._store.config

    def _require_open(self) -> None:
        if self._closed:
            raise Closed(
                "the memory is closed", remedy="Open it again with Memory.open, or use `with`."
            )

        self._store.require_own_process()

    def _require_writable(self) -> None:
        self._require_open()
        if self.read_only:
            self._store.refuse_write()

    def _require_labels(self) -> None:
        if self.value != "label":
            raise InvalidParameter(
                "this memory holds no labels", expected="value='label'", got=f"value={self.value!r}"
            )

    def _reading(self) -> AbstractContextManager[View]:
        """The rows of one version; nothing else is seen inside, whoever writes meanwhile."""
        return self._snapshot(self._current)

    @contextmanager
    def _snapshot(self, prepare: Callable[[], Prepared]) -> Iterator[Prepared]:
        """A version of the catalog for which all files were there."""
        self._require_open()
        if (
            not self._store.read_only
        ):  # nobody else writes: there is no other version to fall back to
            with self._store.mutex, self._store.guarded():
                yield prepare()
            return
        with self._store.mutex, ExitStack() as stack:
            for attempt in range(READ_ATTEMPTS):
                stack.enter_context(self._store.snapshot())
                try:
                    with self._store.guarded():
                        self._store.follow()
                        prepared = prepare()
                    break
                except CorruptMemory:
                    # An erasure elsewhere may have replaced files between catalog and segment.
                    stack.close()
                    if attempt == READ_ATTEMPTS - 1 or not self._store.changed_elsewhere():
                        raise
            stack.enter_context(self._store.guarded())
            yield prepared

    def _current(self) -> View:
        store = self._store
        if self._seen != store.generation:
            self._seen, self._view = store.generation, None
        if self._pinned is None and self._view and self._view.version != store.version:
            self._view = None
        if self._view is None:
            if self._pinned is not None:
                store.check_version(self._pinned)
            view = View(store, self._pinned, self._searching)
            if store.read_only:  # a writer elsewhere may have given the rows other keys
                _compare_encoders(view.config.encoder, self._expected)
            self._view = view
        return self._view

    @contextmanager
    def _writing(self) -> Iterator[Write]:
        """One atomic version; what is in memory follows once it is committed."""
        self._require_writable()
        with self._store.mutex:
            with self._store.write() as version:
                write = Write(self._current(), version)
                yield write
            # The version is committed: what follows must not tell the caller that it was not. A
            # view that cannot take it in is read anew, and says then what is wrong.
            if write.then is not None:
                with suppress(Exception):
                    write.then()
                    write.view.version = self._store.version

    def _resolve(self, view: View, ids: ArrayLike | None, where: str | None) -> Ids:
        if (ids is None) == (where is None):
            raise InvalidParameter(
                "rows are named by ids or by a filter",
                expected="ids= or where=",
                got="neither" if ids is None else "both",
                remedy="Pass exactly one of them.",
            )
        if where is not None:
            return reading.matching(self._store, view, where, self._pinned)
        wanted = np.sort(checks.check_ids(ids))
        view.table.find(wanted)
        return wanted


def _compare_encoders(recorded: str | None, used: str | None) -> None:
    if used is not None and recorded is not None and used != recorded:
        raise EncoderMismatch(
            "the keys of this memory come from another encoder",
            expected=repr(recorded),
            got=repr(used),
            remedy="Use the recorded encoder; recollect.migrate gives rows other keys.",
        )
