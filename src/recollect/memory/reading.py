"""What a memory reads out of its catalog: filters, whole rows, pictures, statistics."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, cast

import numpy as np

from recollect.errors import CorruptMemory
from recollect.memory.filters import Column, ColumnKind, compile_filter
from recollect.memory.recall import View
from recollect.memory.schema import Configuration
from recollect.memory.store import ALIVE, ALIVE_AT, Store
from recollect.types import Ids, Rows

# Named parameters and the filter's question marks do not mix in one statement.
_ALIVE_AT = ALIVE_AT.replace(":v", "?")


def matching(store: Store, view: View, where: str, version: int | None) -> Ids:
    """Return the ids of the rows alive in a version that pass a filter, sorted.

    Raises:
        InvalidFilter: The filter cannot be read, or names an unknown column.
    """
    condition, values = compile_filter(where, _filter_columns(store, view))
    alive, at = (ALIVE, []) if version is None else (_ALIVE_AT, [version, version])
    with store.guarded():
        cursor = store.db.execute(
            "SELECT id FROM rows LEFT JOIN labels USING (code) "
            f"WHERE {alive} AND ({condition}) ORDER BY id",
            [*at, *values],
        )
        return np.fromiter((row for (row,) in cursor), np.int64)


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
    """
    states = view.table.states[view.table.find(ids)]
    alive, at = (ALIVE, []) if version is None else (_ALIVE_AT, [version, version])
    places = "".join(f", {place}" for _, place in store.columns.values())
    some = "" if len(ids) == view.table.rows else "AND id IN (SELECT value FROM json_each(?))"
    with store.guarded():
        found = {
            row: rest
            for row, *rest in store.db.execute(
                f"SELECT id, source{places} FROM rows WHERE {alive} {some}",
                [*at, json.dumps(ids.tolist())] if some else at,
            )
        }
    try:
        kept = [found[row] for row in ids.tolist()]
    except KeyError as error:
        raise CorruptMemory(f"row {error} is not in the catalog any more") from error
    metadata = {
        name: [_plain(row[at], kind) for row in kept]
        for at, (name, (kind, _)) in enumerate(store.columns.items(), start=1)
    }
    return Rows(
        ids=ids,
        keys=view.keys(states),
        values=view.values(states),
        weights=states["weight"].copy(),
        sources=[row[0] for row in kept],
        metadata={name: cells for name, cells in metadata.items() if _any(cells)},
    )


def _plain(value: Any, kind: str) -> Any:
    return bool(value) if kind == "bool" and value is not None else value


def _any(cells: list[Any]) -> bool:
    return any(cell is not None for cell in cells)


def thumbnail(store: Store, row: int) -> bytes | None:
    """Return the picture kept with a row, or None."""
    with store.guarded():
        found = store.db.execute(
            "SELECT picture FROM thumbnails WHERE id = ?", (int(row),)
        ).fetchone()
    return None if found is None else found[0]


def about(config: Configuration) -> dict[str, Any]:
    """What an exported table says of the memory it came from, as plain values for JSON."""
    fields = asdict(config)
    weights = config.metric_weights
    return fields | {"metric_weights": None if weights is None else list(weights)}


def stats(store: Store, view: View, uri: str, version: int | None) -> dict[str, Any]:
    """Return what a memory is and how much room it takes, as plain values for JSON."""
    config = store.config
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
        "key_bytes": sum(s.size for s in store.segments.values() if s.kind == "keys"),
        "live_key_bytes": view.table.rows * config.record_bytes,
        "bytes_on_disk": sum(
            path.stat().st_size for path in store.folder.rglob("*") if path.is_file()
        )
        if store.folder
        else 0,
    }
    if config.value == "label":
        facts["labels"] = len(view.book.classes)
    return facts
