"""Checking a memory without trusting it: every byte against its checksum."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recollect.errors import CorruptMemory, RecollectError
from recollect.memory.arrays import unpack_arrays
from recollect.memory.schema import STATE_COLUMNS
from recollect.memory.store import Store
from recollect.memory.writes import row_sum

SMALL_BYTES = 64 << 20
MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of every byte found.

    Attributes:
        states: States of rows that were checked, those of past versions included.
        bytes_read: Bytes of keys and values that were compared with their checksums.
        problems: One sentence for each thing that is wrong, at most 100; empty if all is well.
    """

    states: int
    bytes_read: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.problems


def check_on_open(store: Store, check: object) -> None:
    """Verify a memory as it is opened: wholly if it is small or that was asked for.

    Raises:
        CorruptMemory: Something is wrong; the message names the first problem.
    """
    for number in store.segments:
        store.bytes_of(number)  # a missing or short file is refused before any question
    total = sum(segment.size for segment in store.segments.values())
    if check is True or (check == "auto" and total <= SMALL_BYTES):
        found = verify(store)
        if not found.ok:
            raise CorruptMemory(
                f"the memory is damaged in {len(found.problems)} places, first: "
                f"{found.problems[0]}",
                remedy="`recollect verify` lists all of them. Bring the folder back from a "
                "backup, import an exported copy, or open it with check=False to save what "
                "can be saved.",
            )


def verify(store: Store) -> Verification:
    """Read every byte of a memory and compare it with what was written."""
    problems: list[str] = []
    states = bytes_read = 0
    try:
        problems += _catalog_problems(store)
        for problem, size in _row_problems(store):
            states += 1
            bytes_read += size
            if problem:
                problems.append(problem)
                if len(problems) >= MAX_PROBLEMS:
                    break
        problems += _history_problems(store)
    except sqlite3.Error as error:
        problems.append(f"the catalog cannot be read: {error}")
    except RecollectError as error:
        problems.append(str(error))
    return Verification(states, bytes_read, tuple(problems[:MAX_PROBLEMS]))


def _catalog_problems(store: Store) -> Iterator[str]:
    for (line,) in store.db.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})"):
        if line != "ok":
            yield f"the catalog is damaged: {line}"
    for segment in store.segments.values():
        if segment.kind == "keys" and segment.size % store.config.record_bytes:
            yield f"the segment {segment.file!r} does not hold whole keys"


def _row_problems(store: Store) -> Iterator[tuple[str | None, int]]:
    """Check each state of each row; yields a problem or None, and the bytes compared."""
    labels = dict(store.db.execute("SELECT code, label FROM labels"))
    names = list(store.columns)
    columns = ", ".join([*STATE_COLUMNS, *(place for _, place in store.columns.values())])
    contents = {number: memoryview(store.bytes_of(number).data) for number in store.segments}
    size = store.config.record_bytes
    for cells in store.db.execute(f"SELECT {columns} FROM rows"):
        state = dict(zip(STATE_COLUMNS, cells, strict=False))
        metadata = zip(names, cells[len(STATE_COLUMNS) :], strict=True)
        try:
            yield _state_problem(store, state, metadata, labels, contents, size), size
        except (TypeError, ValueError, OverflowError, RecollectError) as error:
            yield f"row {state['id']!r} cannot be read: {error}", 0


def _state_problem(
    store: Store,
    state: dict[str, Any],
    metadata: Any,
    labels: dict[int, Any],
    contents: dict[int, memoryview],
    size: int,
) -> str | None:
    row, kind = state["id"], store.config.value
    key = _part(contents, state["segment"], state["record"] * size, size)
    if key is None or zlib.crc32(key) != state["key_sum"]:
        return f"the key of row {row} is not what was written"
    value: Any = {"label": labels.get(state["code"]), "number": state["number"]}.get(kind)
    if kind in {"vector", "arrays"}:
        content = _part(
            contents, state["value_segment"], state["value_start"], state["value_bytes"]
        )
        if content is None or zlib.crc32(content) != state["value_sum"]:
            return f"the value of row {row} is not what was written"
        if kind == "arrays":
            unpack_arrays(bytes(content))
        value = state["value_sum"]
    if row_sum(row, state["weight"], value, state["source"], metadata) != state["row_sum"]:
        return f"label, weight, source or metadata of row {row} are not what was written"
    exact = np.frombuffer(key, store.config.key_dtype).astype(np.float64)
    if not np.isclose(np.linalg.norm(exact), state["norm"], rtol=1e-9, atol=0):
        return f"the length of the key of row {row} is not what was written"
    return None


def _part(contents: dict[int, memoryview], number: int, start: int, size: int) -> memoryview | None:
    content = contents.get(number)
    if content is None or not 0 <= start <= start + size <= len(content):
        return None
    return content[start : start + size]


def _history_problems(store: Store) -> Iterator[str]:
    """Count the rows of every version from their births and deaths."""
    versions = list(store.db.execute("SELECT version, rows FROM versions ORDER BY version"))
    if [version for version, _ in versions] != list(range(len(versions))):
        yield "the history of versions has gaps"
        return
    change = np.zeros(len(versions) + 1, np.int64)
    for column, sign in (("born", +1), ("died", -1)):
        for version, count in store.db.execute(
            f"SELECT {column}, COUNT(*) FROM rows WHERE {column} IS NOT NULL GROUP BY {column}"
        ):
            if not isinstance(version, int) or not 0 <= version < len(versions):
                yield f"rows {column} in version {version!r}, which is not in the history"
                return
            change[version] += sign * count
    for (version, rows), counted in zip(versions, np.cumsum(change).tolist(), strict=False):
        if version >= store.oldest and rows != counted:
            yield f"version {version} should hold {rows} rows and holds {counted}"
    twice = store.db.execute(
        "SELECT id FROM rows WHERE died IS NULL GROUP BY id HAVING COUNT(*) > 1"
    ).fetchone()
    if twice:
        yield f"row {twice[0]} is alive twice"
