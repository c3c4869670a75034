"""What a memory reads out of its catalog: filters, whole rows, pictures, statistics."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from recollect.errors import CorruptMemory
from recollect.memory.catalog import typed_lines
from recollect.memory.faults import RESTORE
from recollect.memory.filters import Column, ColumnKind, compile_filter
from recollect.memory.recall import View
from recollect.memory.schema import CELL_TYPES, STATE_TYPES, Configuration
from recollect.memory.store import Store
from recollect.memory.sums import picture_sum, row_sum
from recollect.types import Ids, Rows


def matching(store: Store, view: View, where: str, version: int | None) -> Ids:
    """Return the ids of the rows alive in a version that pass a filter, sorted.

    Raises:
        InvalidFilter: The filter cannot be read, or names an unknown column.
    """
    condition, values = compile_filter(where, _filter_columns(store, view))
    alive, at = _alive(store, version)
    with store.guarded():
        cursor = store.db.execute(
            "SELECT id FROM rows LEFT JOIN labels USING (code) "
            f"WHERE {alive} AND ({condition}) ORDER BY id",
            [*at, *values],
        )
        return np.fromiter((row for (row,) in cursor), np.int64)


def _alive(store: Store, version: int | None) -> tuple[str, list[int]]:
    """What is alive in a version, in SQL, and the parameters of that."""
    if version is None:
        return store.alive, []
    # Named parameters and the filter's question marks do not mix in one statement.
    return store.alive_at.replace(":v", "?"), [version, version]


def _filter_columns(store: Store, view: View) -> dict[str, Column]:
    columns = {
        "id": Column("id", "int"),
        "weight": Column("weight", "float"),
        "source": Column("source", "str"),
    }
    if store.config.value == "label":
        text = view.book.classes.dtype == object
        columns["label"] = columns["value"] = Column("label", "str" if text else "int")
    elif store.config.value == "number":
        columns["value"] = Column("number", "float")
    for name, (kind, place) in store.columns.items():
        columns[name] = Column(place, cast("ColumnKind", kind))
    return columns


def rows(store: Store, view: View, ids: Ids, version: int | None) -> Rows:
    """Return whole rows, in the order of ``ids``.

    Raises:
        UnknownIds: One of them is not alive.
        CorruptMemory: Something of a row is not what was written.
    """
    states = view.table.states[view.table.find(ids)]
    values = view.values(states)
    kept = _lines(store, ids, version, every=len(ids) == view.table.rows)
    plain = states["value_sum"] if store.config.value in {"vector", "arrays"} else values
    for row, weight, value, (source, total, *cells) in zip(
        ids.tolist(), states["weight"].tolist(), plain.tolist(), kept, strict=True
    ):
        pairs = list(zip(store.columns, cells, strict=True))
        if row_sum(row, weight, value, source, pairs) != total:
            raise CorruptMemory(
                f"label, weight, source or metadata of row {row} are not what was written",
                remedy=f"Remove the row and add it again. {RESTORE}",
            )
    metadata = {
        name: [_plain(row[at], kind) for row in kept]
        for at, (name, (kind, _)) in enumerate(store.columns.items(), start=2)
    }
    return Rows(
        ids=ids,
        keys=view.keys(states),
        values=values,
        weights=states["weight"].copy(),
        sources=[row[0] for row in kept],
        metadata={name: cells for name, cells in metadata.items() if _any(cells)},
    )


def _lines(store: Store, ids: Ids, version: int | None, *, every: bool) -> list[tuple[Any, ...]]:
    """Source, checksum and metadata of rows, in the order of ``ids``."""
    alive, at = _alive(store, version)
    some = "" if every else "AND id IN (SELECT value FROM json_each(?))"
    places = "".join(f", {place}" for _, place in store.columns.values())
    found = {
        line[0]: line[1:]
        for line in typed_lines(
            store.db,
            f"SELECT id, source, row_sum{places} FROM rows WHERE {alive} {some}",
            int,
            STATE_TYPES["source"],
            int,
            *(CELL_TYPES[kind] for kind, _ in store.columns.values()),
            given=at if every else [*at, json.dumps(ids.tolist())],
        )
    }
    try:
        return [found[row] for row in ids.tolist()]
    except KeyError as error:
        raise CorruptMemory(f"row {error} is not in the catalog any more") from error


def _plain(value: Any, kind: str) -> Any:
    return bool(value) if kind == "bool" and value is not None else value


def _any(cells: list[Any]) -> bool:
    return any(cell is not None for cell in cells)


def thumbnail(store: Store, row: int) -> bytes | None:
    """Return the picture kept with a row, or None."""
    query = "SELECT picture, sum FROM thumbnails WHERE id = ?"
    for picture, total in typed_lines(store.db, query, bytes, int, given=(int(row),)):
        if picture_sum(row, picture) != total:
            raise CorruptMemory(
                f"the thumbnail of row {row} is not what was written", remedy=RESTORE
            )
        return picture  # type: ignore[no-any-return]
    return None


def thumbnails(store: Store, ids: Ids) -> list[bytes | None]:
    """Return the pictures kept with rows, in their order; empty if there are none."""
    query = "SELECT id, picture, sum FROM thumbnails"
    found = {}
    for row, picture, total in typed_lines(store.db, query, int, bytes, int):
        if picture_sum(row, picture) != total:
            raise CorruptMemory(
                f"the thumbnail of row {row} is not what was written", remedy=RESTORE
            )
        found[row] = picture
    return [found.get(row) for row in ids.tolist()] if found else []


def retired(store: Store, ids: Ids) -> list[int]:
    """Ids that were used before and are not among these, sorted: they are never used again."""
    used = "SELECT id FROM retired UNION SELECT id FROM rows ORDER BY id"
    alive = set(ids.tolist())
    return [row for (row,) in typed_lines(store.db, used, int) if row not in alive]


def about(config: Configuration) -> dict[str, Any]:
    """What an exported table says of the memory it came from, as plain values for JSON."""
    fields = asdict(config)
    weights = config.metric_weights
    return fields | {"metric_weights": None if weights is None else list(weights)}


def stats(store: Store, view: View, uri: str, version: int | None) -> dict[str, Any]:
    """Return what a memory is and how much room it takes, as plain values for JSON."""
    config = view.config
    facts: dict[str, Any] = {
        "uri": uri,
        "rows": view.table.rows,
        "version": store.version if version is None else version,
        "dim": config.dim,
        "metric": config.metric,
        "dtype": config.dtype,
        "value": config.value,
        "encoder": config.encoder,
        "columns": {name: kind for name, (kind, _) in store.columns.items()},
        "segments": len(store.segments),
        "search": view.search_status(),
        "key_bytes": sum(s.size for s in store.segments.values() if s.kind == "keys"),
        "live_key_bytes": view.table.rows * config.record_bytes,
        "bytes_on_disk": 0 if store.folder is None else _bytes_on_disk(store.folder),
    }
    if config.value == "label":
        facts["labels"] = len(view.book.classes)
    return facts


def _bytes_on_disk(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # a writer elsewhere tidies up
                total += Path(place, name).lstat().st_size
    return total
