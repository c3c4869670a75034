"""Erasing rows down to the bytes on disk, and proving it.

Removal ends a row's life in the newest version; erasure takes it out of all of them. The files
that held it are written anew without it, the catalog commits once, the old files, the log and
the caches go, and then every byte of the folder is searched for what the rows consisted of. Only
when nothing is found is a receipt issued. A kill at any moment leaves either the old memory or
one whose next writer finishes the work.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory, ErasureIncomplete, UnknownIds
from recollect.memory import no_return
from recollect.memory.bytescan import Hit, Needle, opened, scan
from recollect.memory.catalog import fetch_table, typed_lines
from recollect.memory.faults import RESTORE
from recollect.memory.held import hold
from recollect.memory.placed import bytes_at, key_forms, key_of
from recollect.memory.schema import CELL_TYPES, STATE_COLUMNS, STATE_TYPES
from recollect.memory.segments import Segment, sync_folder
from recollect.memory.store import CATALOG, LOCK, SEGMENTS, Store
from recollect.memory.sums import RETIRED_SUM, version_sum
from recollect.memory.writes import active_segment, extend_segment
from recollect.types import Ids, Receipt

SHORT_TEXT, LONG_TEXT = 5, 8
"""Text of fewer bytes than the first is not searched for, of fewer than the second only in the
catalog: shorter strings turn up in floating-point numbers by chance."""


EXTENT = np.dtype([("start", "i8"), ("size", "i8")])

TELLING = 8
"""Keys and values of fewer different bytes besides zero are searched for in segments only: a
catalog is full of zeros with a few small numbers between."""

HEADER = 100
LONG_CONTENT, PIECE, STRIDE = 256, 64, 1024
"""Longer content is searched for in pieces that begin at every stride."""


def erase(store: Store, ids: Ids, *, ban: bool = False) -> Receipt:
    """Erase rows of any version and return the receipt; see ``Memory.erase``."""
    with store.guarded():
        states = _states_of(store, ids)
        needles, digests = _describe(store, ids, states)
        held = _held(store, ids, states) if ban else {}
    wanted = json.dumps(ids.tolist())
    with store.write() as version:
        db = store.db
        store.settle()
        for table in ("rows", "thumbnails"):
            db.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))",
                (wanted,),
            )
        db.executemany(
            f"INSERT INTO retired SELECT id, {RETIRED_SUM} FROM (SELECT ? AS id)",
            [(row,) for row in ids.tolist()],
        )
        touched = {state[name] for state in states for name in ("segment", "value_segment")}
        rewritten = _rewrite(store, touched - {None})
        if ban:
            no_return.list_rows(store, version, held)
        _drop_unused_labels(store)
        _recount_history(store, states)
        store.record_version(version, "erase", grown=0, changed=len(ids))
        db.execute("INSERT OR REPLACE INTO about VALUES ('erasing', '1')")
    with _cleaning():
        _finish(store)
        scanned, shared = _prove(store, needles)
        store.db.execute("DELETE FROM about WHERE name = 'erasing'")
    return Receipt(
        ids=tuple(ids.tolist()),
        digests=tuple(digests),
        version=version,
        time=store.versions()[-1].time,
        scanned=scanned,
        rewritten=(*(segment.file for segment in rewritten), CATALOG),
        needles=len(needles),
        shared=shared,
        banned=tuple(held),
    )


def compact(store: Store) -> None:
    """Drop removed rows and the versions before this one, and rewrite the files without them."""
    with store.write() as version:
        db = store.db
        store.settle()
        db.execute(
            f"INSERT OR IGNORE INTO retired SELECT DISTINCT id, {RETIRED_SUM} FROM rows "
            f"WHERE died IS NOT NULL AND id NOT IN (SELECT id FROM rows WHERE {store.alive})"
        )
        db.execute("DELETE FROM rows WHERE died IS NOT NULL")
        db.execute("DELETE FROM thumbnails WHERE id NOT IN (SELECT id FROM rows)")
        _rewrite(store, set(store.segments))
        _drop_unused_labels(store)
        store.record_version(version, "compact", grown=0, changed=0)
        db.execute("DELETE FROM versions WHERE version < ?", (version,))
        if store.format > 1:
            db.execute("DELETE FROM encodings WHERE encoding <> ?", (store.encoding,))
        db.execute("INSERT OR REPLACE INTO about VALUES ('erasing', '1')")
    with _cleaning():
        _finish(store)
        store.scrub()


@contextmanager
def _cleaning() -> Iterator[None]:
    """What comes after the commit: the rows are gone, but their bytes may not be."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise _incomplete(f"the disk refused the cleaning: {error}", None) from error


def _states_of(store: Store, ids: Ids) -> list[dict[str, Any]]:
    names = [*STATE_COLUMNS, *store.columns]
    types = [*STATE_TYPES.values(), *(CELL_TYPES[kind] for kind, _ in store.columns.values())]
    query = f"SELECT {store.state_columns} FROM rows WHERE id IN (SELECT value FROM json_each(?))"
    lines = typed_lines(store.db, query, *types, given=(json.dumps(ids.tolist()),))
    states = [dict(zip(names, cells, strict=True)) for cells in lines]
    missing = sorted(set(ids.tolist()) - {state["id"] for state in states})
    if missing or not len(ids):
        raise UnknownIds(
            "no such row in any version",
            expected="ids of rows that are alive or were removed",
            got=", ".join(map(str, missing[:5])) or "none",
            remedy="A row that was erased before is gone; see its receipt.",
        )
    return states


def _describe(
    store: Store, ids: Ids, states: list[dict[str, Any]]
) -> tuple[list[Needle], list[str]]:
    """List the byte strings that must be gone, and a digest of each row."""
    needles: dict[tuple[bytes, str], Needle] = {}
    digests: dict[int, str] = {}
    labels = dict(store.db.execute("SELECT code, label FROM labels"))

    def note(content: bytes, kind: str, row: int) -> None:
        """Content that several rows share is sought once, for the first of them."""
        for piece in _pieces(content) if kind in {"text", "label", "thumbnail"} else [content]:
            needles.setdefault((piece, kind), Needle(piece, kind, row))

    for state in states:
        row = state["id"]
        key = key_of(store, state)
        value: bytes = repr(labels.get(state["code"], state["number"])).encode()
        note(key, "key", row)
        if state["value_segment"] is not None:
            value = bytes_at(
                store, state["value_segment"], state["value_start"], state["value_bytes"]
            )
            note(value, "value", row)
        digests[row] = hashlib.sha256(key + value).hexdigest()
        texts = {"label": labels.get(state["code"]), "source": state["source"]}
        texts |= {name: state[name] for name in store.columns}
        for kind, text in texts.items():
            if isinstance(text, str):
                note(text.encode(), "label" if kind == "label" else "text", row)
    for row, picture in store.db.execute(
        "SELECT id, picture FROM thumbnails WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(ids.tolist()),),
    ):
        note(bytes(picture), "thumbnail", row)
    return list(needles.values()), [digests[row] for row in ids.tolist()]


def _held(store: Store, ids: Ids, states: list[dict[str, Any]]) -> dict[int, no_return.Held]:
    """What each row held, in any of its states, by which it could be told again."""
    rows = {row: no_return.Held() for row in ids.tolist()}
    for state in states:
        known = rows[state["id"]]
        text = state.get(no_return.TEXT_COLUMN)
        rows[state["id"]] = replace(
            known,
            keys=_with(known.keys, *key_forms(store, state)),
            texts=_with(known.texts, text) if isinstance(text, str) else known.texts,
            sources=_with(known.sources, state["source"]) if state["source"] else known.sources,
        )
    for row, picture in store.db.execute(
        "SELECT id, picture FROM thumbnails WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(ids.tolist()),),
    ):
        rows[row] = replace(rows[row], thumbnail=bytes(picture))
    return rows


def _with(known: tuple[Any, ...], *more: Any) -> tuple[Any, ...]:
    return tuple(dict.fromkeys([*known, *more]))


def _pieces(content: bytes) -> list[bytes]:
    """What to search for: SQLite spreads long content over pages of 4 KiB, so a part of each."""
    if len(content) <= LONG_CONTENT:
        return [content] if content else []
    starts = range(0, len(content) - PIECE, STRIDE)
    return [*(content[start : start + PIECE] for start in starts), content[-PIECE:]]


def _rewrite(store: Store, numbers: Iterable[int]) -> list[Segment]:
    """Write segments anew with only the bytes that rows still refer to; returns the old ones."""
    old = [store.segments[number] for number in sorted(numbers)]
    # New bytes must not go to the end of a file that is about to be deleted.
    for segment in old:
        del store.segments[segment.number]
    for segment in old:
        names = ("segment", "record", None) if segment.kind == "keys" else (
            "value_segment", "value_start", "value_bytes",
        )  # fmt: skip
        _move(store, segment, *names)
        store.db.execute("DELETE FROM segments WHERE segment = ?", (segment.number,))
    return old


def _move(store: Store, segment: Segment, number: str, place: str, length: str | None) -> None:
    """Copy the bytes that rows refer to into a new segment, and tell the rows."""
    unit = segment.unit
    query = f"SELECT {place}, {length or 1} FROM rows WHERE {number} = ?"
    extents = fetch_table(store.db, query, (segment.number,), EXTENT)
    starts, first = np.unique(extents["start"], return_index=True)
    sizes = extents["size"][first]
    if not len(starts):
        return
    if min(starts.min(), sizes.min()) < 0 or (starts + sizes).max() > segment.size // unit:
        raise CorruptMemory(f"a row lies outside of the segment {segment.file!r}", remedy=RESTORE)
    content = store.files.read(segment.file, segment.size)
    target = active_segment(store, segment.kind, own=True, encoding=segment.encoding)
    runs = _runs(starts, sizes)
    parts = [content[begin * unit : end * unit] for begin, end in runs]
    extend_segment(store, target, [np.concatenate(parts)])
    lengths = np.array([end - begin for begin, end in runs])
    shifts = np.array([begin for begin, _ in runs]) - (np.cumsum(lengths) - lengths)
    db = store.db
    # SQLite finds the run of each row by itself: a round trip for each would take far longer.
    db.execute("CREATE TEMP TABLE moved (first INTEGER PRIMARY KEY, shift INTEGER NOT NULL)")
    db.executemany(
        "INSERT INTO moved VALUES (?, ?)",
        zip([begin for begin, _ in runs], shifts.tolist(), strict=True),
    )
    db.execute(
        f"UPDATE rows SET {number} = ?, {place} = {place} - (SELECT shift FROM moved "
        f"WHERE first <= rows.{place} ORDER BY first DESC LIMIT 1) WHERE {number} = ?",
        (target.number, segment.number),
    )
    db.execute("DROP TABLE moved")


def _runs(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Join neighboring parts of a file, so that a large one is copied and not walked."""
    breaks = np.flatnonzero(starts[1:] != starts[:-1] + sizes[:-1]) + 1
    firsts, lasts = np.r_[0, breaks], np.r_[breaks, len(starts)] - 1
    ends = starts[lasts] + sizes[lasts]
    return list(zip(starts[firsts].tolist(), ends.tolist(), strict=True))


def _drop_unused_labels(store: Store) -> None:
    store.db.execute(
        "DELETE FROM labels WHERE code NOT IN (SELECT code FROM rows WHERE code IS NOT NULL)"
    )


def _recount_history(store: Store, states: list[dict[str, Any]]) -> None:
    """Past versions no longer hold the erased rows."""
    change: Counter[int] = Counter()
    for state in states:
        change[state["born"]] += 1
        if state["died"] is not None:
            change[state["died"]] -= 1
    counts = iter(sorted(change.items()))
    coming, gone = next(counts, None), 0
    lines = []
    encodings = store.encodings()
    for line in store.versions():
        while coming is not None and coming[0] <= line.version:
            gone += coming[1]
            coming = next(counts, None)
        if gone:
            told = (line.version, line.time, line.operation, line.rows - gone, line.changed)
            total = version_sum(*told, encodings.get(line.version, 0))
            lines.append((line.rows - gone, total, line.version))
    store.db.executemany("UPDATE versions SET rows = ?, sum = ? WHERE version = ?", lines)


def _finish(store: Store) -> None:
    """Delete what the catalog no longer names. Readers keep what they have mapped."""
    store.generation += 1
    store.forget_mapped()
    store.drop_cache()
    store.drop_strays()
    if store.folder is not None:
        sync_folder(store.folder / SEGMENTS)


def _prove(
    store: Store, needles: list[Needle]
) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
    """Search every byte of the folder; returns the files and what could not be told apart.

    Raises:
        ErasureIncomplete: Something was found that no remaining row explains.
    """
    if store.folder is None:
        return (), ()
    if not store.checkpoint():
        raise _incomplete("the catalog's log is in use by a reader", "an empty log")
    wanted, shared = _searchable(needles)
    found = _search(store, wanted, shared)
    if found:
        # Freed pages are overwritten with zeros; should that ever fail, build the file anew.
        store.db.execute("VACUUM")
        if not store.checkpoint():
            raise _incomplete("the catalog's log is in use by a reader", "an empty log")
        found = _search(store, wanted, shared)
    if found:
        where = ", ".join(sorted({f"{hit.needle.kind} in {hit.file}" for hit in found}))
        raise _incomplete(f"bytes of erased rows are still on disk: {where}", None)
    files = sorted(path for path in store.folder.rglob("*") if path.is_file())
    scanned = tuple((str(path.relative_to(store.folder)), path.stat().st_size) for path in files)
    return scanned, tuple(dict.fromkeys(shared))


def _incomplete(problem: str, expected: str | None) -> ErasureIncomplete:
    return ErasureIncomplete(
        problem,
        expected=expected,
        remedy="The rows are gone from every version. Close all readers and open the memory for "
        "writing: that finishes the cleaning, and `recollect verify` tells the state.",
    )


def _searchable(needles: list[Needle]) -> tuple[list[Needle], list[str]]:
    wanted, shared = [], []
    for needle in needles:
        text = needle.kind in {"label", "text"}
        if len(needle.content) < SHORT_TEXT or len(set(needle.content)) == 1:
            shared.append(f"{needle.kind} of row {needle.row}: too short to be told from chance")
        elif text and len(needle.content) < LONG_TEXT:
            wanted.append(replace(needle, only=CATALOG))
        elif needle.kind in {"key", "value"} and len(set(needle.content) - {0}) < TELLING:
            shared.append(
                f"{needle.kind} of row {needle.row}: too plain to be searched for in the catalog"
            )
            wanted.append(replace(needle, only=SEGMENTS))
        else:
            wanted.append(needle)
    return wanted, shared


def _search(store: Store, wanted: list[Needle], shared: list[str]) -> list[Hit]:
    """Search the folder; what remaining rows explain is noted in ``shared``, the rest returned."""
    assert store.folder is not None
    folder = store.folder

    def opener(path: Path) -> AbstractContextManager[int]:
        """Files of the catalog by the handle that is held: closing another drops SQLite's locks."""
        ours = path.parent == folder and path.name.startswith(CATALOG)
        return nullcontext(hold(folder, path.name)) if ours else opened(path)

    unexplained = []
    for hit in scan(folder, wanted, opener=opener):
        explained = _explain(store, hit)
        if explained is None:
            unexplained.append(hit)
        elif explained:
            shared.append(f"{hit.needle.kind} of row {hit.needle.row}: {explained}")
    return unexplained


def _explain(store: Store, hit: Hit) -> str | None:
    """Say which remaining rows hold the same bytes; empty for chance, None for nothing."""
    needle = hit.needle
    segment = next((s for s in store.segments.values() if hit.file == f"{SEGMENTS}/{s.file}"), None)
    if segment is not None and needle.kind in {"key", "value"}:
        # The file was cut to its committed length and every byte of it belongs to a row that
        # stays; so a match is a row with the same bytes, or runs across two of them.
        aligned = hit.offset % segment.unit == 0
        return "a row that stays holds the same bytes" if aligned else ""
    if hit.file == LOCK or (hit.file == CATALOG and hit.offset < HEADER):
        return ""  # the name of a process, or "SQLite format 3": nothing of a row
    if needle.kind in {"label", "text"} and _text_remains(store, needle.content):
        return "a row that stays holds this text"
    if needle.kind == "thumbnail" and _picture_remains(store, needle.content):
        return "a picture that stays holds the same bytes"
    return None


def _text_remains(store: Store, content: bytes) -> bool:
    text = content.decode(errors="ignore")  # a piece may begin or end inside a character
    places = ["source", *(place for kind, place in store.columns.values() if kind == "str")]
    conditions = " OR ".join(f"instr({place}, ?1)" for place in places)
    queries = (
        f"SELECT 1 FROM rows WHERE {conditions} LIMIT 1",
        "SELECT 1 FROM labels WHERE instr(label, ?1) LIMIT 1",
        "SELECT 1 FROM sqlite_master WHERE instr(sql, ?1) OR instr(name, ?1) LIMIT 1",
        "SELECT 1 FROM columns WHERE instr(name, ?1) OR instr(kind, ?1) LIMIT 1",
        "SELECT 1 FROM versions WHERE instr(operation, ?1) LIMIT 1",
        "SELECT 1 FROM about WHERE instr(name, ?1) OR instr(value, ?1) LIMIT 1",
        "SELECT 1 FROM segments WHERE instr(file, ?1) OR instr(kind, ?1) LIMIT 1",
    )
    return any(store.db.execute(query, (text,)).fetchone() for query in queries)


def _picture_remains(store: Store, piece: bytes) -> bool:
    query = "SELECT 1 FROM thumbnails WHERE instr(picture, ?) LIMIT 1"
    return store.db.execute(query, (piece,)).fetchone() is not None
