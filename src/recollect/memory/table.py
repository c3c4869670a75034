"""The rows of one version as columns in memory: what a search needs to read its answer out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import UnknownIds
from recollect.types import Codes, Ids, Mask

STATE = np.dtype([
    ("id", "i8"), ("segment", "i4"), ("record", "i8"), ("key_sum", "u4"), ("norm", "f8"),
    ("weight", "f8"), ("code", "i8"), ("number", "f8"), ("value_segment", "i4"),
    ("value_start", "i8"), ("value_bytes", "i8"), ("value_sum", "u4"),
])  # fmt: skip
"""One row as it stands now: where its key and value lie, and what it weighs."""

States = NDArray[np.void]


class RowTable:
    """Rows in order of id, with a flag for those that were taken out since it was loaded.

    Args:
        states: ``(rows,)`` of dtype :data:`STATE`, any order, distinct ids.
        vouched: Bool, one per state: keys known to be what was written; None for no key.
        sealed: Bool, one per state: keys in segments as they were sealed; None for no key.

    Attributes:
        checked: Bool, one per state: values that were compared with their checksum since opening.
        vouched: Likewise for keys.
        sealed: Keys that lie in a segment under the seals that were kept of it.
        rows: How many are alive.
    """

    def __init__(
        self, states: States, vouched: Mask | None = None, sealed: Mask | None = None
    ) -> None:
        ids: Ids = states["id"].copy()
        vouched = np.zeros(len(states), bool) if vouched is None else vouched
        sealed = np.zeros(len(states), bool) if sealed is None else sealed
        if (ids[1:] < ids[:-1]).any():
            order = np.argsort(ids)
            states, ids, vouched, sealed = states[order], ids[order], vouched[order], sealed[order]
        self._count = len(states)
        self._states = states
        self._ids = ids
        self._alive: Mask = np.ones(len(states), bool)
        # An answer never holds a value that was not compared with its checksum since opening.
        self.checked: Mask = np.zeros(len(states), bool)
        self.vouched: Mask = vouched
        self.sealed: Mask = sealed
        self.rows = len(states)

    @property
    def states(self) -> States:
        """All states, of rows alive and gone, in order of id."""
        return self._states[: self._count]

    @property
    def alive(self) -> Mask:
        """Bool, one per state."""
        return self._alive[: self._count]

    @property
    def ids(self) -> Ids:
        """int64, sorted: ids of the rows that are alive."""
        ids = self._ids[: self._count]
        return ids.copy() if self.rows == self._count else ids[self.alive]

    def lookup(self, ids: Ids) -> NDArray[np.intp]:
        """Positions of ids that are in the table; a wrong id gives some position."""
        if self._count and self._ids[0] == 0 and self._ids[self._count - 1] == self._count - 1:
            return ids  # counted from 0 without a gap: an id is its position
        return np.searchsorted(self._ids[: self._count], ids)

    def find(self, ids: Ids) -> NDArray[np.intp]:
        """Positions of rows that are alive.

        Raises:
            UnknownIds: One of them is not; the message names the first few.
        """
        if self._count == 0:
            missing = ids
        else:
            place = np.clip(self.lookup(ids), 0, self._count - 1)
            missing = ids[(self._ids[place] != ids) | ~self._alive[place]]
            if not len(missing):
                return place
        if not len(missing):
            return np.zeros(0, np.intp)
        raise UnknownIds(
            "no such row in this version",
            expected=f"ids among the {self.rows} rows alive",
            got=", ".join(map(str, missing[:5])) + (" ..." if len(missing) > 5 else ""),
            remedy="See Memory.ids; a removed row comes back with Memory.restore(version).",
        )

    def present(self, ids: Ids) -> NDArray[np.intp]:
        """Positions of those of the ids whose rows are alive."""
        if not self._count:
            return np.zeros(0, np.intp)
        places: NDArray[np.intp] = np.clip(self.lookup(ids), 0, self._count - 1)
        here = (self._ids[places] == ids) & self._alive[places]
        found: NDArray[np.intp] = places[here]
        return found

    def append(self, states: States) -> None:
        """Take new rows in, whose keys are vouched for; cheap if their ids follow the last one."""
        order = np.argsort(states["id"], kind="stable")
        states = states[order]
        fresh = np.zeros(len(states), bool)
        sparse = self._count and self.rows < self._count // 2
        if sparse or (self._count and states["id"][0] <= self._ids[self._count - 1]):
            known = self.alive
            vouched = np.concatenate([self.vouched[: self._count][known], ~fresh])
            sealed = np.concatenate([self.sealed[: self._count][known], fresh])
            states = np.concatenate([self.states[known], states])
            self.__init__(states, vouched, sealed)  # type: ignore[misc]
            return
        start, end = self._count, self._count + len(states)
        self._states = _grow(self._states, start, end)
        self._ids = _grow(self._ids, start, end)
        self._alive = _grow(self._alive, start, end)
        self._states[start:end] = states
        self._ids[start:end] = states["id"]
        self._alive[start:end] = True
        self.checked = _grow(self.checked, start, end)
        self.checked[start:end] = False
        self.vouched = _grow(self.vouched, start, end)
        self.vouched[start:end] = True
        self.sealed = _grow(self.sealed, start, end)
        self.sealed[start:end] = False
        self._count = end
        self.rows += len(states)

    def remove(self, positions: NDArray[np.intp]) -> None:
        """Take rows out that are alive."""
        self._alive[positions] = False
        self.rows -= len(positions)

    def change(self, positions: NDArray[np.intp], states: States) -> None:
        """Put other states in the place of rows that are alive, keeping their ids."""
        self._states[positions] = states


def _grow(array: NDArray[Any], used: int, needed: int) -> NDArray[Any]:
    if needed <= len(array) and array.flags.writeable:
        return array
    grown = np.empty(max(needed, 2 * len(array), 1024), array.dtype)
    grown[:used] = array[:used]
    return grown


class LabelBook:
    """Which labels exist, by code, and which of them are alive.

    Args:
        labels: Label of each code that is in use.
        codes: int64 ``(rows,)``: code of each row's label.

    Attributes:
        code_of: Code of each label.
        next_code: The smallest code above all that are in use.
    """

    def __init__(self, labels: Mapping[int, str | int], codes: Codes) -> None:
        # Codes may lie far apart, so everything is kept by their place in this order.
        self._codes: Codes = np.array(sorted(labels), np.int64)
        self._labels = [labels[code] for code in self._codes.tolist()]
        self.code_of = {label: code for code, label in labels.items()}
        self.next_code = max(labels, default=-1) + 1
        self._counts = np.bincount(self._places(codes), minlength=len(labels)).astype(np.int64)
        self._classes: NDArray[Any] | None = None
        self._index: Codes = np.zeros(0, np.int64)

    def _places(self, codes: Codes) -> NDArray[np.intp]:
        if self.next_code == len(self._codes):
            return codes  # counted from 0 without a gap: a code is its place
        return np.searchsorted(self._codes, codes)

    def learn(self, labels: Mapping[int, str | int]) -> None:
        """Note new labels, whose codes are above all others."""
        if not labels:
            return
        codes = sorted(labels)
        self._codes = np.concatenate([self._codes, codes])
        self._labels += [labels[code] for code in codes]
        self.code_of |= {label: code for code, label in labels.items()}
        self.next_code = codes[-1] + 1
        self._counts = np.concatenate([self._counts, np.zeros(len(codes), np.int64)])
        self._classes = None

    def count(self, codes: Codes, sign: int) -> None:
        """Note that rows of these codes came (+1) or went (-1)."""
        before = self._counts > 0
        self._counts += sign * np.bincount(self._places(codes), minlength=len(self._counts))
        if not np.array_equal(before, self._counts > 0):
            self._classes = None

    @property
    def classes(self) -> NDArray[Any]:
        """Labels alive now, sorted: object array of str, or int64."""
        if self._classes is None:
            pairs = sorted((self._labels[at], at) for at in np.flatnonzero(self._counts).tolist())
            text = bool(pairs) and isinstance(pairs[0][0], str)
            classes = np.empty(len(pairs), object if text else np.int64)
            classes[:] = [label for label, _ in pairs]
            self._index = np.full(len(self._labels) + 1, -1, np.int64)
            self._index[[at for _, at in pairs]] = np.arange(len(pairs))
            self._classes = classes
        return self._classes

    def index(self, codes: Codes) -> Codes:
        """Place of each code's label among :attr:`classes`; a code not in use gives any place."""
        assert self.classes is not None
        return self._index[np.minimum(self._places(codes), len(self._labels))]

    def counts(self) -> dict[str | int, int]:
        """Rows of each label alive now, in order of label."""
        labels = self.classes.tolist()
        places = self._places(np.array([self.code_of[label] for label in labels], np.int64))
        return dict(zip(labels, self._counts[places].tolist(), strict=True))
