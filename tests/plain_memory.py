"""A memory as a plain dict, too simple to be wrong: what the tests hold `Memory` against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from slow_truth import nearest


@dataclass(frozen=True, eq=False)
class PlainRow:
    """One state of one row; a change makes another object."""

    key: np.ndarray
    value: Any
    weight: float = 1.0
    source: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlainVersion:
    """What one write left behind."""

    operation: str
    rows: dict[int, PlainRow]
    changed: int


class PlainMemory:
    """Rows by id, and a copy of them for every version."""

    def __init__(self) -> None:
        self.rows: dict[int, PlainRow] = {}
        self.versions: list[PlainVersion] = [PlainVersion("create", {}, 0)]
        self.used: set[int] = set()
        self.oldest = 0
        self.banned: dict[int, set[bytes]] = {}
        self.encoders: list[str | None] = [None]

    @property
    def version(self) -> int:
        return len(self.versions) - 1

    @property
    def next_id(self) -> int:
        return max(self.used, default=-1) + 1

    def _note(self, operation: str, rows: dict[int, PlainRow], changed: int) -> None:
        self.rows = rows
        self.versions.append(PlainVersion(operation, dict(rows), changed))
        self.encoders.append(self.encoders[-1])

    def add(self, rows: Sequence[PlainRow], ids: Sequence[int] | None = None) -> list[int]:
        ids = list(range(self.next_id, self.next_id + len(rows))) if ids is None else list(ids)
        self.used.update(ids)
        self._note("add", self.rows | dict(zip(ids, rows, strict=True)), len(rows))
        return ids

    def replace(self, rows: Sequence[PlainRow]) -> list[int]:
        ids = list(range(self.next_id, self.next_id + len(rows)))
        self.used.update(ids)
        self._note("replace", dict(zip(ids, rows, strict=True)), len(rows) + len(self.rows))
        return ids

    def update(self, changes: dict[int, dict[str, Any]]) -> None:
        changed = {row: replace(self.rows[row], **fields) for row, fields in changes.items()}
        self._note("update", self.rows | changed, len(changes))

    def remove(self, ids: Iterable[int]) -> None:
        gone = set(ids)
        if gone:
            kept = {row: state for row, state in self.rows.items() if row not in gone}
            self._note("remove", kept, len(gone))

    def restore(self, version: int) -> None:
        past, now = self.versions[version].rows, self.rows
        changed = {row for row in past.keys() | now.keys() if past.get(row) is not now.get(row)}
        # A state that begins again is another one, though it holds the same.
        self._note(
            "restore",
            {row: replace(state) if row in changed else state for row, state in past.items()},
            len(changed),
        )
        self.encoders[-1] = self.encoders[version]

    def rekey(self, keys: Iterable[np.ndarray], encoder: str) -> None:
        """In order of id, a key for every row."""
        rows = zip(sorted(self.rows), keys, strict=True)
        self._note(
            "rekey", {row: replace(self.rows[row], key=key) for row, key in rows}, len(self.rows)
        )
        self.encoders[-1] = encoder

    def allow(self, ids: Iterable[int]) -> None:
        for row in ids:
            del self.banned[row]
        self._note("allow", self.rows, 0)

    def erase(self, ids: Iterable[int], *, ban: bool = False) -> None:
        gone = set(ids)
        for version in self.versions[self.oldest :] if ban else ():
            for row in gone & version.rows.keys():
                self.banned.setdefault(row, set()).add(version.rows[row].key.tobytes())
        self.versions = [
            replace(version, rows={row: s for row, s in version.rows.items() if row not in gone})
            for version in self.versions
        ]
        kept = {row: state for row, state in self.rows.items() if row not in gone}
        self._note("erase", kept, len(gone))

    def compact(self) -> None:
        self.versions = [replace(version, rows={}) for version in self.versions]
        self._note("compact", self.rows, 0)
        self.oldest = self.version

    def known(self) -> list[int]:
        """Ids of the rows of any version that can still be read."""
        return sorted({row for version in self.versions[self.oldest :] for row in version.rows})

    def history(self) -> list[tuple[int, str, int, int]]:
        """Version, operation, rows and changed rows of every version that can be read."""
        return [
            (number, version.operation, len(version.rows), version.changed)
            for number, version in enumerate(self.versions)
            if number >= self.oldest
        ]


def contents(rows: dict[int, PlainRow]) -> list[tuple[Any, ...]]:
    """Rows as tuples that can be compared: in order of id, with the bits of keys and arrays."""
    return [
        (
            row, state.key.tobytes(), comparable(state.value), state.weight, state.source,
            {name: cell for name, cell in state.metadata.items() if cell is not None},
        )
        for row, state in sorted(rows.items())
    ]  # fmt: skip


def contents_of(memory: Any) -> list[tuple[Any, ...]]:
    """The same of a `Memory`."""
    rows = memory.rows()
    return [
        (
            row, rows.keys[at].tobytes(), comparable(rows.values[at]), rows.weights[at],
            rows.sources[at],
            {name: cells[at] for name, cells in rows.metadata.items() if cells[at] is not None},
        )
        for at, row in enumerate(rows.ids.tolist())
    ]  # fmt: skip


def comparable(value: Any) -> Any:
    """A value with its type and its bits."""
    if isinstance(value, dict):
        return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in value.items()}
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return value.item() if isinstance(value, np.generic) else value


def history_of(memory: Any) -> list[tuple[int, str, int, int]]:
    """The history of a `Memory`, without its times."""
    return [(v.version, v.operation, v.rows, v.changed) for v in memory.versions()]


def count_labels(rows: dict[int, PlainRow]) -> dict[Any, int]:
    """Rows of each label, in order of label."""
    return dict(sorted(Counter(state.value for state in rows.values()).items()))


def answer(
    rows: dict[int, PlainRow], queries: np.ndarray, k: int, metric: str
) -> tuple[list[list[int]], list[list[float]]]:
    """Ids and similarity of the k nearest rows, found the slow way."""
    keys = {row: state.key for row, state in rows.items()}
    ids, similarity = nearest(keys, queries, k, metric)
    return ids.tolist(), similarity.tolist()
