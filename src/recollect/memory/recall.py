"""One version of the rows, ready to be asked: columns, labels, and an index over the keys."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recollect.errors import Closed, CorruptMemory
from recollect.index.approximate import ApproximateIndex
from recollect.index.exact import ExactIndex
from recollect.index.mapped import let_go
from recollect.memory.arrays import unpack_arrays
from recollect.memory.cached_rows import Kept, load_rows, outdated, write
from recollect.memory.seals import seal
from recollect.memory.searching import Searching
from recollect.memory.store import Store
from recollect.memory.table import STATE, States
from recollect.types import Floats, Ids, Neighbors

VOUCHED_ROWS = 1 << 14
SHARED_RUN = 4096
"""Runs of at least this many rows are shared with the index; shorter ones are copied into it."""


class View:
    """The rows of one version and what is derived from them; can be thrown away at any time.

    Args:
        store: Where the rows are.
        version: A past version, or None for the newest.
        searching: How it is asked; None for exactly.

    It keeps its own hold on the segments, so that it answers from its version even when a writer
    has deleted their files since.

    Attributes:
        version: The version these rows are of.
        config: What the memory was in it.
        moment: Counts the changes made in place, so that a reader can tell whether one happened.
    """

    def __init__(
        self, store: Store, version: int | None, searching: Searching | None = None
    ) -> None:
        self.store, self.searching = store, searching or Searching()
        self.table, self.book, self.kept = load_rows(store, version)
        self.contents = {number: store.bytes_of(number) for number in store.segments}
        self.version = store.version if version is None else version
        self.encoding = store.encoding_at(version)
        self.config = store.configs[self.encoding]
        self.moment = 0
        self._whole: list[int] = []
        self._index: ExactIndex | ApproximateIndex | None = None

    @property
    def index(self) -> ExactIndex | ApproximateIndex:
        """The index over all keys, made of the rows on first use.

        Raises:
            CorruptMemory: The bytes of a key are not those that were written. A damaged key could
                push a better one out of an answer, so it is not enough to look at those named.
        """
        with self.store.mutex:
            if self._index is None:
                exact = self.searching.exact_index(self.config)
                self._share(exact, self.table.states[self.table.alive])
                self._index = self.searching.index(
                    self.store, self.config, self.encoding, exact, self.vouch
                )
            return self._index

    def vouch(self, ids: Ids | None) -> None:
        """Compare keys with their checksums, each once; of all rows for None.

        Raises:
            CorruptMemory: The bytes of a key are not those that were written.
        """
        if ids is None:
            self._vouch_for_all()
            return
        with self.store.mutex:
            places = self.table.present(ids)
            places = np.unique(places[~self.table.vouched[places]])
            if len(places):
                self._check_keys(self.table.states[places])
                self.table.vouched[places] = True

    def _vouch_for_all(self) -> None:
        with self.store.mutex:
            table, used = self.table, slice(len(self.table.alive))
            doubtful = table.alive & ~table.vouched[used]
            if doubtful.any() and self.kept is not None:
                self._whole = self._whole or self._under_seal(self.kept)
                sealed = np.isin(table.states["segment"][doubtful], self._whole)
                doubtful[doubtful] = ~(sealed & table.sealed[used][doubtful])
            ids = table.states["id"][doubtful]
        for start in range(0, len(ids), VOUCHED_ROWS):  # others get their turn
            if self.searching.closed:
                raise Closed("the memory was closed meanwhile", remedy="Open it again.")
            self.vouch(ids[start : start + VOUCHED_ROWS])

    def _under_seal(self, kept: Kept) -> list[int]:
        """Segments of which every byte that was sealed is as it was."""
        whole = []
        for number, (size, seals) in kept.seals.items():
            if np.array_equal(seal(self.contents[number][:size]), seals):
                whole.append(number)
            let_go(self.contents[number])
        return whole

    def keep(self) -> None:
        """Write the rows to the cache if that would save the next one to open time.

        Raises:
            CorruptMemory: The bytes of a key are not those that were written.
            OSError: The disk refused.
        """
        if self.store.folder is None:
            return
        # An index of these rows brings the lists up to them.
        if self.searching.has_lists and len(self.index):
            self.searching.keep(self.store)
        if not outdated(self.kept, self.table):
            return
        states = self.table.states[self.table.alive]
        whole = [] if self.kept is None else self._under_seal(self.kept)
        sealed = self.table.sealed[: len(self.table.alive)][self.table.alive]
        # What this process wrote was never read back from the disk; a seal says that it was.
        self._check_keys(states[~(sealed & np.isin(states["segment"], whole))])
        numbers = np.unique(states["segment"]).tolist()
        write(self.store, states, {number: self.contents[number] for number in numbers})

    def search_status(self) -> dict[str, Any]:
        """Say how questions are answered, as plain values for JSON."""
        return self.searching.status(self._index)

    # -- following the writes of this process ----------------------------------------------------

    def added(self, states: States, keys: NDArray[Any], labels: dict[int, str | int]) -> None:
        """Take in rows that were just written."""
        self.moment += 1
        self.book.learn(labels)
        self._map(states)
        if self._index is not None:
            if len(states) >= SHARED_RUN:
                self._share(self._index, states)
            else:
                self._index.add(states["id"].copy(), keys, norms=states["norm"].copy())
        self.table.append(states)
        self._count(states, +1)

    def removed(self, ids: Ids) -> None:
        """Let rows go that were just removed."""
        self.moment += 1
        places = self.table.find(ids)
        if self._index is not None:
            self._index.remove(ids)
        self._count(self.table.states[places], -1)
        self.table.remove(places)

    def changed(self, ids: Ids, states: States, labels: dict[int, str | int]) -> None:
        """Take over new states of rows whose keys stay."""
        self.moment += 1
        self.book.learn(labels)
        self._map(states)
        places = self.table.find(ids)
        self._count(self.table.states[places], -1)
        self._count(states, +1)
        self.table.change(places, states)

    def _map(self, states: States) -> None:
        """Take hold of the segments to which rows were added."""
        for column in ("segment", "value_segment"):
            for number in np.unique(states[column]).tolist():
                if number >= 0:
                    self.contents[number] = self.store.bytes_of(number)

    def _count(self, states: States, sign: int) -> None:
        if self.config.value == "label":
            self.book.count(states["code"], sign)

    # -- reading out ---------------------------------------------------------------------------

    def neighbors(self, ids: Ids, similarity: Floats, *, valued: bool = True) -> Neighbors:
        """Look up value, unless that is not wanted, and weight of every row that a search found.

        Raises:
            CorruptMemory: The bytes of a value are not those that were written.
        """
        found = ids >= 0
        self.vouch(ids[found])  # a row that is named is compared whatever was compared before
        if self.table.rows:
            places = self.table.lookup(np.where(found, ids, self.table.states["id"][0]))
            states = self.table.states.take(places)  # a tenth of the time that [places] takes
            if valued and self.config.value in {"vector", "arrays"}:
                fresh = np.unique(places[found & ~self.table.checked[places]])
                self._check_values(self.table.states[fresh])
                self.table.checked[fresh] = True
        else:
            states = np.zeros(ids.shape, STATE)
        weights = np.where(found, states["weight"], 0.0)
        if not valued:
            return Neighbors(ids, similarity, np.empty((len(ids), 0)), weights)
        if self.config.value == "label":
            classes = self.book.classes
            codes = np.where(found, self.book.index(states["code"]), -1)
            values = _take(classes, codes)
            return Neighbors(ids, similarity, values, weights, codes, classes)
        return Neighbors(ids, similarity, self._values(states, found), weights)

    def values(self, states: States) -> NDArray[Any]:
        """Values of rows, ``(rows,)`` or ``(rows, width)``."""
        if self.config.value == "label":
            return _take(self.book.classes, self.book.index(states["code"]))
        if self.config.value in {"vector", "arrays"}:
            self._check_values(states)
        return self._values(states, np.ones(len(states), bool))

    def _values(self, states: States, found: NDArray[np.bool_]) -> NDArray[Any]:
        kind = self.config.value
        if kind == "number":
            return np.where(found, states["number"], np.nan)
        if kind == "vector":
            return self._vectors(states, found)
        arrays = np.full(states.shape, None, object)
        for place in np.argwhere(found):
            state = states[tuple(place)]
            content = self.contents[int(state["value_segment"])]
            start = int(state["value_start"])
            arrays[tuple(place)] = unpack_arrays(
                content[start : start + int(state["value_bytes"])].tobytes()
            )
        return arrays

    def _vectors(self, states: States, found: NDArray[np.bool_]) -> Floats:
        width = self.config.value_dim
        assert width is not None
        vectors = np.full((*states.shape, width), np.nan, np.float32)
        for number in np.unique(states["value_segment"][found]):
            here = found & (states["value_segment"] == number)
            content = self.contents[int(number)]
            table = content[: len(content) // (4 * width) * 4 * width].view("<f4")
            places = states["value_start"][here] // (4 * width)
            vectors[here] = table.reshape(-1, width)[places]
        return vectors

    def keys(self, states: States) -> NDArray[Any]:
        """Keys of rows, ``(rows, dim)``, copied."""
        self._check_keys(states)
        config = self.config
        numbers = np.unique(states["segment"])
        if len(numbers) == 1:  # most often; what was read is not copied a second time
            copied: NDArray[Any] = self._segment_keys(int(numbers[0]))[states["record"]]
            return copied
        keys = np.empty((len(states), config.dim), config.key_dtype)
        for number in numbers:
            here = states["segment"] == number
            keys[here] = self._segment_keys(int(number))[states["record"][here]]
        return keys

    def _segment_keys(self, number: int) -> NDArray[Any]:
        config = self.config
        return self.contents[number].view(config.key_dtype).reshape(-1, config.dim)

    def _share(self, index: ExactIndex | ApproximateIndex, states: States) -> None:
        """Let the index refer to keys where they lie; only scattered rows are copied."""
        numbers, records = states["segment"].copy(), states["record"].copy()
        after = (np.diff(numbers) > 0) | ((np.diff(numbers) == 0) & (np.diff(records) > 0))
        if not after.all():
            order = np.lexsort((records, numbers))
            states, numbers, records = states[order], numbers[order], records[order]
        ids, norms = states["id"].copy(), states["norm"].copy()
        for part in _runs(numbers):
            keys, here = self._segment_keys(int(numbers[part.start])), records[part]
            breaks = np.flatnonzero(np.diff(here) != 1) + 1
            if len(here) < SHARED_RUN * (len(breaks) + 1):
                index.add(ids[part], keys[here], norms=norms[part])
                continue
            starts = [part.start, *(breaks + part.start).tolist(), part.stop]
            for start, stop in pairwise(starts):
                place = slice(int(records[start]), int(records[stop - 1]) + 1)
                run = slice(start, stop)
                index.attach(ids[run], keys[place], norms=norms[run])

    def _check_keys(self, states: States) -> None:
        size = self.config.record_bytes
        self._compare("key", "segment", states, states["record"] * size, size)

    def _check_values(self, states: States) -> None:
        starts, sizes = states["value_start"], states["value_bytes"]
        self._compare("value", "value_segment", states, starts, sizes)

    def _compare(
        self, what: str, segment: str, states: States, starts: Ids, sizes: Ids | int
    ) -> None:
        """Compare bytes of rows with their checksums; in RAM there is no disk to mistrust."""
        if self.store.folder is None:
            return
        numbers = states[segment]
        order = np.argsort(numbers, kind="stable")
        for part in _runs(numbers[order]):
            some = order[part]
            content = self.contents[int(numbers[some[0]])]
            here = starts[some]
            lengths = sizes[some] if isinstance(sizes, np.ndarray) else sizes
            sums = _sums(content, here, lengths)
            if len(some) >= SHARED_RUN:
                let_go(content)
            expected = states[f"{what}_sum"][some]
            if not np.array_equal(sums, expected):
                wrong = int(np.argmax(sums != expected))
                raise CorruptMemory(
                    f"the {what} of row {states['id'][some[wrong]]} was altered on disk",
                    expected=f"checksum {expected[wrong]}",
                    got=int(sums[wrong]),
                    remedy="Remove the row and add it again, or bring the folder back from a "
                    "backup; `recollect verify` lists every damaged row.",
                )


def _runs(numbers: NDArray[np.int32]) -> list[slice]:
    """Cut a sorted column where it changes."""
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return [slice(start, stop) for start, stop in pairwise(edges) if stop > start]


def _sums(content: NDArray[np.uint8], starts: Ids, sizes: Ids | int) -> NDArray[np.uint32]:
    """CRC-32 of parts of a segment: uint32 ``(parts,)``."""
    parts: Iterable[Any]
    if isinstance(sizes, int) and (np.diff(starts) == sizes).all():
        parts = content[starts[0] : starts[-1] + sizes].reshape(-1, sizes)
    else:
        ends = (starts + sizes).tolist()
        memory = memoryview(content.data)
        parts = (memory[start:end] for start, end in zip(starts.tolist(), ends, strict=True))
    return np.fromiter(map(crc32, parts), np.uint32, len(starts))


def _take(classes: NDArray[Any], codes: NDArray[np.int64]) -> NDArray[Any]:
    """Labels of class indices; -1 gives None, or -1 for integer labels."""
    nothing = np.array([None if classes.dtype == object else -1], classes.dtype)
    return np.concatenate([classes, nothing])[codes]
