"""Checking a memory without trusting it: every byte against its checksum."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory, RecollectError
from recollect.index.scoring import measure
from recollect.memory import cached_rows, no_return
from recollect.memory.arrays import unpack_arrays
from recollect.memory.schema import CELL_TYPES, STATE_COLUMNS, STATE_TYPES, Configuration
from recollect.memory.segments import Bytes
from recollect.memory.store import Store
from recollect.memory.sums import RETIRED_SUM, picture_sum, row_sum, version_sum

SMALL_BYTES = 64 << 20
MAX_PROBLEMS = 100
CHUNK = 4096


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
        problems += _list_problems(store)
        for found, count, size in _row_problems(store):
            states, bytes_read = states + count, bytes_read + size
            problems += found
            if len(problems) >= MAX_PROBLEMS:
                break
        problems += _history_problems(store)
        if not problems and (wrong := cached_rows.contradiction(store)) is not None:
            problems.append(wrong)
    except sqlite3.Error as error:
        problems.append(f"the catalog cannot be read: {error}")
    except RecollectError as error:
        problems.append(str(error))
    return Verification(states, bytes_read, tuple(problems[:MAX_PROBLEMS]))


def _catalog_problems(store: Store) -> Iterator[str]:
    for (line,) in store.db.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})"):
        if line != "ok":
            yield f"the catalog is damaged: {line}"
    query = "SELECT code FROM labels WHERE code < 0 OR typeof(label) NOT IN ('text', 'integer')"
    for (code,) in store.db.execute(query):
        yield f"the label {code} is neither text nor integer"
    for row, picture, total in store.db.execute("SELECT id, picture, sum FROM thumbnails"):
        if not isinstance(picture, bytes) or picture_sum(row, picture) != total:
            yield f"the thumbnail of row {row} is not what was written"
    for (row,) in store.db.execute(f"SELECT id FROM retired WHERE sum IS NOT {RETIRED_SUM}"):
        yield f"the id {row}, which must not be used again, is not what was written"


def _list_problems(store: Store) -> Iterator[str]:
    try:
        no_return.check(store)
    except CorruptMemory as error:
        yield str(error)


def _row_problems(store: Store) -> Iterator[tuple[list[str], int, int]]:
    """Check all states of all rows; yields problems, states and bytes, a chunk at a time."""
    known = _known(store)
    types = [*STATE_TYPES.values(), *(CELL_TYPES[kind] for kind, _ in store.columns.values())]
    seen: set[tuple[type, ...]] = set()  # combinations of types that are right
    cursor = store.db.execute(f"SELECT {store.state_columns} FROM rows")
    while chunk := cursor.fetchmany(CHUNK):
        problems, sound, size = [], [], 0
        for cells in chunk:
            state = dict(zip(STATE_COLUMNS, cells, strict=False))
            if (kinds := tuple(map(type, cells))) not in seen and any(
                kind not in allowed for kind, allowed in zip(kinds, types, strict=True)
            ):
                row = f"{state['id']!r:.40}"
                problem: str | None = f"the catalog holds a value of another type for row {row}"
            else:
                seen.add(kinds)
                metadata = list(zip(store.columns, cells[len(STATE_COLUMNS) :], strict=True))
                problem = _state_problem(known.config_of(state), state, metadata, known)
            if problem is None:
                sound.append(state)
                size += known.config_of(state).record_bytes + (state["value_bytes"] or 0)
            else:
                problems.append(problem)
        problems += _length_problems(sound, known)
        yield problems, len(chunk), size


@dataclass(frozen=True, slots=True)
class _Known:
    """What rows refer to: labels by code; configuration and content of segments by number."""

    labels: dict[int, Any]
    configs: dict[int, Configuration]
    keys: dict[int, Bytes]
    values: dict[int, Bytes]

    def config_of(self, state: Mapping[str, Any]) -> Configuration:
        """What the memory was when the key of a state was made."""
        return self.configs.get(state["segment"], self.configs[0])


def _known(store: Store) -> _Known:
    contents = {
        kind: {
            number: store.bytes_of(number)
            for number, segment in store.segments.items()
            if segment.kind == kind
        }
        for kind in ("keys", "values")
    }
    # No segment has the number 0: it stands for those that are not there.
    configs = {0: store.config} | {
        number: store.configs[segment.encoding] for number, segment in store.segments.items()
    }
    return _Known(dict(store.db.execute("SELECT code, label FROM labels")), configs, **contents)


def _state_problem(
    config: Configuration, state: dict[str, Any], metadata: Any, known: _Known
) -> str | None:
    kind, size, row = config.value, config.record_bytes, state["id"]
    key = _part(known.keys, state["segment"], state["record"] * size, size)
    if key is None or crc32(key) != state["key_sum"]:
        return f"the key of row {row} is not what was written"
    value: Any = {"label": known.labels.get(state["code"]), "number": state["number"]}.get(kind)
    if kind in {"vector", "arrays"}:
        content = _part(
            known.values, state["value_segment"], state["value_start"], state["value_bytes"]
        )
        width = 4 * config.value_dim if config.value_dim else state["value_bytes"]
        if content is None or len(content) != width or crc32(content) != state["value_sum"]:
            return f"the value of row {row} is not what was written"
        if kind == "arrays":
            try:
                unpack_arrays(bytes(content))
            except CorruptMemory as error:
                return f"row {row}: {error}"
        value = state["value_sum"]
    if row_sum(row, state["weight"], value, state["source"], metadata) != state["row_sum"]:
        return f"label, weight, source or metadata of row {row} are not what was written"
    number = 0.0 if state["number"] is None else state["number"]
    good = state["id"] >= 0 and 0 <= state["weight"] < math.inf and math.isfinite(number)
    return None if good else f"a number of row {row} is out of range"


def _part(contents: dict[int, Bytes], number: Any, start: Any, size: Any) -> memoryview | None:
    content = contents.get(number)
    if content is None or start is None or size is None:
        return None
    if not 0 <= start <= start + size <= len(content):
        return None
    return content.data[start : start + size]


def _length_problems(states: list[dict[str, Any]], known: _Known) -> list[str]:
    """Measure the keys again; the arithmetic is one that gives the same bits everywhere."""
    problems = []
    for number in {state["segment"] for state in states}:
        here = [state for state in states if state["segment"] == number]
        config = known.configs[number]
        table: NDArray[Any] = known.keys[number].view(config.key_dtype).reshape(-1, config.dim)
        keys = table[[state["record"] for state in here]]
        lengths = np.array([state["norm"] for state in here])
        wrong = ~np.isfinite(keys).all(axis=1) | (measure(keys) != lengths)
        if config.metric == "cosine":
            wrong |= lengths == 0
        problems += [
            f"the length of the key of row {here[at]['id']} is not what was written"
            for at in np.flatnonzero(wrong)
        ]
    return problems


def _history_problems(store: Store) -> Iterator[str]:
    """Compare the history with its checksums, and its counts with births and deaths."""
    counts: dict[int, int] = {}
    query = "SELECT version, time, operation, rows, changed, sum FROM versions ORDER BY version"
    encodings = store.encodings()
    for *line, total in store.db.execute(query):
        told = version_sum(line[0], line[1], line[2], line[3], line[4], encodings.get(line[0], 0))
        if told != total or type(line[3]) is not int:
            yield f"version {line[0]} in the history is not what was written"
            return
        counts[line[0]] = line[3]
    change = np.zeros(store.version + 2, np.int64)
    for column, what, sign in (("born", "born", +1), ("died", store.died, -1)):
        for version, count in store.db.execute(
            f"SELECT {what} AS at, COUNT(*) FROM rows WHERE at IS NOT NULL GROUP BY at"
        ):
            if type(version) is not int or not 0 <= version <= store.version:
                yield f"rows {column} in version {version!r:.40}, which is not in the history"
                return
            change[version] += sign * count
    alive = np.cumsum(change)
    for version, rows in counts.items():
        if rows != alive[version]:
            yield f"version {version} should hold {rows} rows and holds {alive[version]}"
    yield from _ending_problems(store)
    twice = store.db.execute(
        f"SELECT id FROM rows WHERE {store.alive} GROUP BY id HAVING COUNT(*) > 1"
    ).fetchone()
    if twice:
        yield f"row {twice[0]} is alive twice"


def _ending_problems(store: Store) -> Iterator[str]:
    """Compare the list of endings with the states that have ended."""
    if store.format < 3:
        return
    strange = store.db.execute(
        "SELECT state FROM ended LEFT JOIN rows USING (state) WHERE typeof(version) <> 'integer' "
        "OR rows.id IS NULL OR died IS NOT NULL OR version <= born LIMIT 1"
    ).fetchone()
    if strange:
        yield f"the list of endings names state {strange[0]}, which cannot have ended so"
