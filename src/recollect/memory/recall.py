"""One version of the rows, ready to be asked: columns, labels, and an index over the keys."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory
from recollect.index.exact import ExactIndex
from recollect.memory.arrays import unpack_arrays
from recollect.memory.store import Store
from recollect.memory.table import STATE, States
from recollect.types import Floats, Ids, Neighbors

SHARED_RUN = 4096
"""Runs of at least this many rows are shared with the index; shorter ones are copied into it."""


class View:
    """The rows of one version and what is derived from them; can be thrown away at any time.

    Args:
        store: Where the rows are.
        version: A past version, or None for the newest.

    Attributes:
        version: The version these rows are of.
        moment: Counts the changes made in place, so that a reader can tell whether one happened.
    """

    def __init__(self, store: Store, version: int | None) -> None:
        self.store = store
        self.table, self.book = store.load_table(version)
        self.version = store.version if version is None else version
        self.moment = 0
        self._index: ExactIndex | None = None

    @property
    def index(self) -> ExactIndex:
        """The index over all keys, built from the rows on first use."""
        if self._index is None:
            index = _new_index(self.store)
            _share(self.store, index, self.table.states[self.table.alive])
            self._index = index
        return self._index

    # -- following the writes of this process ----------------------------------------------------

    def added(self, states: States, keys: NDArray[Any], labels: dict[int, str | int]) -> None:
        """Take in rows that were just written."""
        self.moment += 1
        self._learn(labels)
        if self._index is not None:
            if len(states) >= SHARED_RUN:
                _share(self.store, self._index, states)
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
        self._learn(labels)
        places = self.table.find(ids)
        self._count(self.table.states[places], -1)
        self._count(states, +1)
        self.table.change(places, states)

    def _learn(self, labels: dict[int, str | int]) -> None:
        for code, label in labels.items():
            self.book.learn(code, label)

    def _count(self, states: States, sign: int) -> None:
        if self.store.config.value == "label":
            self.book.count(states["code"], sign)

    # -- reading out ---------------------------------------------------------------------------

    def neighbors(self, ids: Ids, similarity: Floats) -> Neighbors:
        """Look up value and weight of every row that a search found.

        Raises:
            CorruptMemory: The bytes of a key are not those that were written.
        """
        found = ids >= 0
        if self.table.rows:
            places = self.table.lookup(np.where(found, ids, self.table.states["id"][0]))
            states = self.table.states[places]
            self._check(places[found])
        else:
            states = np.zeros(ids.shape, STATE)
        weights = np.where(found, states["weight"], 0.0)
        if self.store.config.value == "label":
            classes = self.book.classes
            codes = np.where(found, self.book.index(states["code"]), -1)
            values = _take(classes, codes)
            return Neighbors(ids, similarity, values, weights, codes, classes)
        return Neighbors(ids, similarity, self._values(states, found), weights)

    def values(self, states: States) -> NDArray[Any]:
        """Values of rows, ``(rows,)`` or ``(rows, width)``."""
        if self.store.config.value == "label":
            return _take(self.book.classes, self.book.index(states["code"]))
        return self._values(states, np.ones(len(states), bool))

    def _values(self, states: States, found: NDArray[np.bool_]) -> NDArray[Any]:
        kind = self.store.config.value
        if kind == "number":
            return np.where(found, states["number"], np.nan)
        if kind == "vector":
            return self._vectors(states, found)
        arrays = np.full(states.shape, None, object)
        for place in np.argwhere(found):
            state = states[tuple(place)]
            content = self.store.bytes_of(int(state["value_segment"]))
            start = int(state["value_start"])
            arrays[tuple(place)] = unpack_arrays(
                content[start : start + int(state["value_bytes"])].tobytes()
            )
        return arrays

    def _vectors(self, states: States, found: NDArray[np.bool_]) -> Floats:
        width = self.store.config.value_dim
        assert width is not None
        vectors = np.full((*states.shape, width), np.nan, np.float32)
        for number in np.unique(states["value_segment"][found]):
            here = found & (states["value_segment"] == number)
            table = self.store.bytes_of(int(number)).view("<f4").reshape(-1, width)
            vectors[here] = table[states["value_start"][here] // (4 * width)]
        return vectors

    def keys(self, states: States) -> NDArray[Any]:
        """Keys of rows, ``(rows, dim)``, copied."""
        config = self.store.config
        keys = np.empty((len(states), config.dim), config.key_dtype)
        for number in np.unique(states["segment"]):
            here = states["segment"] == number
            keys[here] = self.store.keys_of(int(number))[states["record"][here]]
        return keys

    def _check(self, places: NDArray[np.intp]) -> None:
        """Compare the keys of these rows with their checksums, each once while it is open."""
        fresh = places[~self.table.checked[places]]
        if len(fresh) and self.store.folder is not None:
            fresh = np.unique(fresh)
            check_keys_of(self.store, self.table.states[fresh])
            self.table.checked[fresh] = True


def check_keys_of(store: Store, states: States) -> None:
    """Compare keys with their checksums.

    Raises:
        CorruptMemory: One differs; the message names the row and its segment.
    """
    size = store.config.record_bytes
    for number in np.unique(states["segment"]).tolist():
        content = memoryview(store.bytes_of(number).data)
        here = states[states["segment"] == number]
        for row, record, expected in zip(
            here["id"].tolist(), here["record"].tolist(), here["key_sum"].tolist(), strict=True
        ):
            got = zlib.crc32(content[record * size : (record + 1) * size])
            if got != expected:
                raise CorruptMemory(
                    f"the key of row {row} was altered on disk",
                    expected=f"checksum {expected} in {store.segments[number].file}",
                    got=got,
                    remedy="Remove the row and add it again, or bring the folder back from a "
                    "backup; `recollect verify` lists every damaged row.",
                )


def _new_index(store: Store) -> ExactIndex:
    weights = store.config.metric_weights
    return ExactIndex(
        store.config.dim,
        store.config.metric,
        metric_weights=None if weights is None else np.array(weights),
    )


def _share(store: Store, index: ExactIndex, states: States) -> None:
    """Let the index refer to keys where they lie; only scattered rows are copied."""
    states = states[np.lexsort((states["record"], states["segment"]))]
    for number in np.unique(states["segment"]).tolist():
        here = states[states["segment"] == number]
        keys = store.keys_of(number)
        records = here["record"]
        if len(here) and records[-1] >= len(keys):
            raise CorruptMemory(
                f"a row lies behind the end of the segment {store.segments[number].file!r}"
            )
        breaks = np.flatnonzero(np.diff(records) != 1) + 1
        if len(here) < SHARED_RUN * (len(breaks) + 1):
            index.add(here["id"].copy(), keys[records], norms=here["norm"].copy())
            continue
        for run in np.split(np.arange(len(here)), breaks):
            part = slice(int(records[run[0]]), int(records[run[-1]]) + 1)
            index.attach(here["id"][run], keys[part], norms=here["norm"][run])


def _take(classes: NDArray[Any], codes: NDArray[np.int64]) -> NDArray[Any]:
    """Labels of class indices; -1 gives None, or -1 for integer labels."""
    nothing = np.array([None if classes.dtype == object else -1], classes.dtype)
    return np.concatenate([classes, nothing])[codes]
