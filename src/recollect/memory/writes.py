"""What the writes do to the catalog and the segments, inside one transaction of the store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, repeat
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recollect.errors import DuplicateIds
from recollect.memory.schema import STATE_COLUMNS, VALUE_COLUMNS
from recollect.memory.segments import Segment, as_bytes, segment_name
from recollect.memory.store import Store
from recollect.memory.sums import RETIRED_SUM, checksums, picture_sum, row_sum
from recollect.memory.table import STATE, LabelBook, States
from recollect.types import Doubles, Ids

OWN_SEGMENT_ROWS = 4096
"""In RAM a batch this large keeps its own array, so that the index can share it."""
JOINED = 8 << 20
"""Bytes of values that are joined at a time."""

MANY = 1 << 14
"""Rows that end together and are so many say so themselves: each page holds several of them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that were judged and may be written.

    Attributes:
        ids: int64 ``(rows,)``.
        keys: ``(rows, dim)`` in the memory's dtype.
        norms: float64 ``(rows,)``: Euclidean length of each key.
        values: Labels, float64 numbers, float32 vectors ``(rows, width)``, or packed arrays.
        weights: float64 ``(rows,)``.
        sources: Text or None for each row.
        metadata: Column -> one value per row.
        fresh: Kind of every column that does not exist yet.
        thumbnails: Encoded picture or None for each row.
    """

    ids: Ids
    keys: NDArray[Any]
    norms: Doubles
    values: Any
    weights: Doubles
    sources: Sequence[str | None]
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    fresh: Mapping[str, str] = field(default_factory=dict)
    thumbnails: Sequence[bytes | None] = ()


def check_unused(store: Store, ids: Ids) -> None:
    """Raise ``DuplicateIds`` if an id was ever used in this memory."""
    if not len(ids) or ids.min() >= store.next_id:
        return
    wanted = json.dumps(ids[ids < store.next_id].tolist())
    for table in ("rows", "retired"):
        used = store.db.execute(
            f"SELECT MIN(id) FROM {table} WHERE id IN (SELECT value FROM json_each(?))",
            (wanted,),
        ).fetchone()[0]
        if used is not None:
            raise DuplicateIds(
                "an id was used before",
                expected="ids that this memory never held: they are never reused",
                got=f"id {used}",
                remedy=f"Leave `ids` out, or start at {store.next_id}; update() changes a row, "
                "restore() brings a removed one back.",
            )


def add_rows(
    store: Store, version: int, batch: Batch, book: LabelBook
) -> tuple[States, dict[int, str | int]]:
    """Write rows; returns their states and the labels that are new, by code."""
    states = np.zeros(len(batch.ids), STATE)
    states["id"], states["weight"], states["norm"] = batch.ids, batch.weights, batch.norms
    _place_keys(store, batch.keys, states)
    new_labels: dict[int, str | int] = {}
    kind = store.config.value
    plain: Sequence[Any]
    states["code"], states["value_segment"] = -1, -1
    if kind == "label":
        states["code"], new_labels = encode_labels(store, batch.values, book)
        plain = batch.values
    elif kind == "number":
        states["number"] = batch.values
        plain = batch.values.tolist()
    else:
        append_values(store, batch.values, states)
        plain = states["value_sum"].tolist()
    _add_columns(store, batch.fresh)
    _insert(store, version, states, plain, batch)
    pictures = [
        (row, picture, picture_sum(row, picture))
        for row, picture in zip(batch.ids.tolist(), batch.thumbnails, strict=False)
        if picture is not None
    ]
    store.db.executemany("INSERT INTO thumbnails VALUES (?, ?, ?)", pictures)
    return states, new_labels


def _insert(
    store: Store,
    version: int,
    states: States,
    plain: Sequence[Any],
    batch: Batch,
) -> None:
    names = list(batch.metadata)
    cells: Iterable[Any] = repeat((), len(states))
    if names:
        cells = (
            list(zip(names, line, strict=True))
            for line in zip(*batch.metadata.values(), strict=True)
        )
    weights = states["weight"].tolist()
    lines = zip(states["id"].tolist(), weights, plain, batch.sources, cells, strict=True)
    sums = [row_sum(*line) for line in lines]
    columns = [states[name].tolist() for name in _placed(store)]
    places = [store.columns[name][1] for name in names]
    insert_states(
        store,
        places,
        zip(
            repeat(version, len(states)), *columns, batch.sources, sums, *batch.metadata.values(),
            strict=True,
        ),
    )  # fmt: skip


def _placed(store: Store) -> tuple[str, ...]:
    """Columns that a state has in the catalog as in the table in memory."""
    return (
        "id", "segment", "record", "key_sum", "norm", "weight", *VALUE_COLUMNS[store.config.value],
    )  # fmt: skip


def insert_states(store: Store, places: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert states: birth, columns of the table in memory, source, checksum, metadata."""
    names = ["born", *_placed(store), "source", "row_sum", *places]
    marks = ", ".join("?" * len(names))
    store.db.executemany(f"INSERT INTO rows ({', '.join(names)}) VALUES ({marks})", rows)


def encode_labels(
    store: Store, labels: Sequence[str | int], book: LabelBook
) -> tuple[NDArray[np.int64], dict[int, str | int]]:
    """Return the code of each label, giving new labels the next codes."""
    fresh = [label for label in dict.fromkeys(labels) if label not in book.code_of]
    new = dict(enumerate(fresh, start=book.next_code))
    store.db.executemany("INSERT INTO labels VALUES (?, ?)", new.items())
    codes = book.code_of | {label: code for code, label in new.items()} if new else book.code_of
    return np.fromiter((codes[label] for label in labels), np.int64, len(labels)), new


def _add_columns(store: Store, fresh: Mapping[str, str]) -> None:
    for name, kind in fresh.items():
        place = f"m{len(store.columns)}"
        store.db.execute(f"ALTER TABLE rows ADD COLUMN {place}")
        store.db.execute("INSERT INTO columns VALUES (?, ?, ?)", (name, kind, place))
        store.columns[name] = (kind, place)


def _place_keys(store: Store, keys: NDArray[Any], states: States) -> None:
    """Append keys, and note in ``states`` where they lie and what their bytes sum up to."""
    _append_keys(store, keys, states)
    states["key_sum"] = checksums(as_bytes(keys), len(keys))


def _append_keys(store: Store, keys: NDArray[Any], states: States) -> None:
    size = store.config.record_bytes
    done = 0
    while done < len(keys):
        own = store.folder is None and len(keys) >= OWN_SEGMENT_ROWS
        segment = active_segment(store, "keys", own=own)
        room = max(1, (store.segment_bytes - segment.size) // size)
        part = slice(done, min(len(keys), done + room))
        extend_segment(store, segment, [as_bytes(keys[part])])
        first = segment.size // size
        states["segment"][part] = segment.number
        states["record"][part] = np.arange(first, first + part.stop - part.start)
        done = part.stop


def append_values(store: Store, values: Any, states: States) -> None:
    """Append one value of bytes per row, and note in ``states`` where they lie."""
    parts = [value if isinstance(value, bytes) else value.tobytes() for value in values]
    segment = active_segment(store, "values")
    sizes = np.fromiter(map(len, parts), np.int64, len(parts))
    states["value_segment"] = segment.number
    states["value_bytes"] = sizes
    states["value_start"] = segment.size + np.cumsum(sizes) - sizes
    states["value_sum"] = [crc32(part) for part in parts]
    # A few at a time: what is joined then lies in memory that the process has already.
    ends = np.flatnonzero(np.diff(np.cumsum(sizes) // JOINED)) + 1
    bounds = [0, *ends.tolist(), len(parts)]
    joined = (b"".join(parts[first:stop]) for first, stop in pairwise(bounds))
    extend_segment(store, segment, (np.frombuffer(each, np.uint8) for each in joined))


def active_segment(
    store: Store, kind: str, *, own: bool = False, encoding: int | None = None
) -> Segment:
    """Return the segment of this kind that still grows, or begin one.

    Args:
        store: The store that is being written.
        kind: ``keys`` or ``values``.
        own: Begin one in any case.
        encoding: Of which encoding its keys are; None means that of the version being written.
    """
    number = 0 if kind == "values" else store.encoding if encoding is None else encoding
    newest = max(
        (
            segment
            for segment in store.segments.values()
            if (segment.kind, segment.encoding) == (kind, number)
        ),
        key=lambda segment: segment.number,
        default=None,
    )
    if newest is not None and newest.size < store.segment_bytes and not own:
        return newest
    store.last_segment += 1
    config = store.configs[number]
    segment = Segment(
        store.last_segment,
        kind,
        segment_name(store.last_segment, kind, config.dtype),
        0,
        config.record_bytes if kind == "keys" else 1,
        number,
    )
    columns, values = "segment, kind, file, bytes", [segment.number, kind, segment.file, 0]
    if store.format > 1:
        columns, values = f"{columns}, encoding", [*values, number]
    marks = ", ".join("?" * len(values))
    store.db.execute(f"INSERT INTO segments ({columns}) VALUES ({marks})", values)
    store.segments[segment.number] = segment
    return segment


def extend_segment(store: Store, segment: Segment, contents: Iterable[NDArray[np.uint8]]) -> None:
    """Append bytes to a segment; they count once the catalog commits."""
    size = segment.size
    for content in contents:
        store.files.write(segment.file, size, content)
        size += len(content)
    store.db.execute("UPDATE segments SET bytes = ? WHERE segment = ?", (size, segment.number))
    store.segments[segment.number] = replace(segment, size=size)


def end_rows(store: Store, version: int, ids: Ids) -> None:
    """Let rows that are alive end with this version; before their next states begin."""
    store.upgrade(3)
    # Of a row that is alive the newest state is: to know it takes the index alone, and no row.
    store.db.execute(
        "INSERT INTO ended SELECT (SELECT MAX(state) FROM rows WHERE id = value), ? "
        "FROM json_each(?)",
        (version, json.dumps(ids.tolist())),
    )
    if len(ids) >= MANY:
        store.settle()


def retire(store: Store, ids: Sequence[int]) -> None:
    """Let ids never be used again, as in the memory from which rows were taken over."""
    store.db.executemany(
        f"INSERT OR IGNORE INTO retired SELECT id, {RETIRED_SUM} FROM (SELECT ? AS id)",
        [(row,) for row in ids],
    )


def end_all(store: Store, version: int) -> None:
    """Let every row end with this version."""
    store.settle()
    store.db.execute("UPDATE rows SET died = ? WHERE died IS NULL", (version,))


@dataclass(frozen=True, slots=True)
class Change:
    """New values of some columns of rows that exist; None leaves a column as it is."""

    keys: NDArray[Any] | None = None
    norms: Doubles | None = None
    values: Any = None
    weights: Doubles | None = None
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    fresh: Mapping[str, str] = field(default_factory=dict)


def change_rows(
    store: Store, version: int, ids: Ids, states: States, change: Change, book: LabelBook
) -> tuple[States, dict[int, str | int]]:
    """Begin new states of rows with some columns changed; returns them and new labels."""
    states = states.copy()
    kind = store.config.value
    new_labels: dict[int, str | int] = {}
    if change.keys is not None:
        states["norm"] = change.norms
        _place_keys(store, change.keys, states)
    if change.weights is not None:
        states["weight"] = change.weights
    if change.values is not None:
        if kind == "label":
            states["code"], new_labels = encode_labels(store, change.values, book)
        elif kind == "number":
            states["number"] = change.values
        else:
            append_values(store, change.values, states)
    _add_columns(store, change.fresh)
    labels = dict(store.db.execute("SELECT code, label FROM labels")) if kind == "label" else {}
    places = {name: place for name, (_, place) in store.columns.items()}
    changed = []
    for at, (row, old) in enumerate(_read(store, ids, places)):
        state = dict(zip(STATE.names or (), states[at].item(), strict=True))
        value = {"label": labels.get(state["code"]), "number": state["number"]}.get(
            kind, state["value_sum"]
        )
        cells = {name: old[name] for name in places} | {
            name: values[at] for name, values in change.metadata.items()
        }
        source, total = (
            old["source"],
            row_sum(row, state["weight"], value, old["source"], cells.items()),
        )
        kept = (state[name] for name in _placed(store))
        changed.append((version, *kept, source, total, *cells.values()))
    end_rows(store, version, ids)
    insert_states(store, list(places.values()), changed)
    return states, new_labels


def _read(
    store: Store, ids: Ids, places: Mapping[str, str]
) -> Iterable[tuple[int, dict[str, Any]]]:
    """Source and metadata of rows alive, in the order of ``ids``."""
    names = ["source", *places]
    columns = ", ".join(["id", "source", *places.values()])
    found = {
        row: dict(zip(names, rest, strict=True))
        for row, *rest in store.db.execute(
            f"SELECT {columns} FROM rows WHERE {store.alive} "
            "AND id IN (SELECT value FROM json_each(?))",
            (json.dumps(ids.tolist()),),
        )
    }
    return [(row, found[row]) for row in ids.tolist()]


def restore_rows(store: Store, version: int, target: int) -> tuple[int, int]:
    """Bring the rows of a past version back; returns how many more rows, and how many changed."""
    names = ", ".join(name for name in STATE_COLUMNS if name not in {"born", "died"})
    places = "".join(f", {place}" for _, place in store.columns.values())
    at = {"v": target, "new": version}
    db = store.db
    store.use_encoding(store.encoding_at(target))
    store.settle()
    # States that were alive then and are not now begin again; those alive now only, end.
    began = db.execute(
        f"INSERT INTO rows (born, died, {names}{places}) SELECT :new, NULL, {names}{places} "
        f"FROM rows WHERE {store.alive_at} AND died IS NOT NULL ORDER BY state",
        at,
    ).rowcount
    ended = db.execute(
        "UPDATE rows SET died = :new WHERE died IS NULL AND born > :v AND born < :new",
        at,
    ).rowcount
    changed = db.execute(
        "SELECT COUNT(DISTINCT id) FROM rows WHERE born = :new OR died = :new", at
    ).fetchone()[0]
    return began - ended, changed
