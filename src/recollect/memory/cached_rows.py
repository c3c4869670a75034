"""The rows of a version as they stood in memory, kept in a file so that opening reads it at once.

The file is a cache: deleted, nothing is lost but time. It is written by writers only, and believed
only if all of this holds: its own sums are right, the line of the history for its version has the
checksum it had then, and nothing happened since but writes that begin and end rows. Then only rows
born or ended since are read from the catalog. Every state in it is judged as those from the catalog
are. With the rows come seals of the segments, for which every key was compared with its checksum.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recollect.index.mapped import let_go
from recollect.memory.cache_files import begin
from recollect.memory.catalog import fetch_states, read_labels, typed_lines
from recollect.memory.faults import check_states
from recollect.memory.schema import VALUE_COLUMNS
from recollect.memory.seals import BLOCK, Seals, seal
from recollect.memory.store import CACHE, Store
from recollect.memory.table import STATE, LabelBook, RowTable, States
from recollect.types import Ids, Mask

NAME = "rows"
MAGIC = b"RECROWS1"
PAGE = 4096  # what follows the header begins at a multiple of this
HEADER_LIMIT = 1 << 24
LEAST = 50_000  # rows: fewer are read from the catalog in a tenth of a second
STALE = 0.05  # share of the rows that may have changed before the file is written anew
GROWING = {"add"}  # writes after which every row that was alive still is
KNOWN = {*GROWING, "update", "remove", "replace", "restore", "rekey", "allow"}
"""Writes that end states and begin others. `erase` and `compact` move bytes as well."""


@dataclass(frozen=True, eq=False)
class Kept:
    """What a file holds.

    Attributes:
        version: The version that its rows are of.
        encoding: Of their keys.
        history: Checksum of that version's line in the history.
        last_state: No state in the catalog had a larger number.
        states: ``(rows,)``, in order of id.
        seals: Of the first bytes of each segment of keys: how many, and their seals.
    """

    version: int
    encoding: int
    history: int
    last_state: int
    states: States
    seals: Mapping[int, tuple[int, Seals]]


def load_rows(store: Store, version: int | None) -> tuple[RowTable, LabelBook, Kept | None]:
    """Read the rows of a version, or of the newest for None, from the file if it is of use."""
    kept = _usable(store) if version is None else None
    if kept is None:
        return (*store.load_table(version), None)
    states, sealed = _brought_up_to_date(store, kept)
    labels = read_labels(store.db)
    check_states(states, labels, store.config, store.segments, store.encoding)
    codes = states["code"] if store.config.value == "label" else np.zeros(0, np.int64)
    return RowTable(states, sealed=sealed), LabelBook(labels, codes), kept


def _usable(store: Store) -> Kept | None:
    """Read the file if there is one and nothing differs."""
    if store.folder is None:
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        content = _mapped(store.folder / CACHE / NAME)
        kept = parse(content)
        if _of_this_history(store, kept):
            return kept
    return None


def _mapped(path: Path) -> NDArray[np.uint8]:
    """Map a file; what is written to the array stays in memory."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("not a file")
        return np.frombuffer(mmap.mmap(handle, 0, access=mmap.ACCESS_COPY), np.uint8)
    finally:
        os.close(handle)


def parse(content: NDArray[np.uint8]) -> Kept:
    """Turn the bytes of a file into what it holds; judges its form and its sums.

    Raises:
        ValueError: It is not whole, or no such file.
        KeyError, TypeError: Its header lacks something.
    """
    start, size = len(MAGIC) + 8, 0
    if content[: len(MAGIC)].tobytes() == MAGIC and len(content) >= start:
        total, size = content[len(MAGIC) : start].view("<u4").tolist()
    raw = content[start : start + size].tobytes()
    if not 0 < size <= HEADER_LIMIT or len(raw) != size or crc32(raw) != total:
        raise ValueError("no header of cached rows")
    header = json.loads(raw)
    names = ("version", "encoding", "history", "last_state", "rows", "sum", "seals_sum")
    if any(type(header[name]) is not int or header[name] < 0 for name in names):
        raise TypeError("the header must hold whole numbers")
    first = -(-(start + size) // PAGE) * PAGE
    last = first + header["rows"] * STATE.itemsize
    sizes = _sizes(header["segments"])
    words = sum(-(-size // BLOCK) for size in sizes.values())
    if header["states"] != _layout() or len(content) != last + 8 * words:
        raise ValueError("the file is cut short, or of another layout")
    states, sums = content[first:last], content[last:].copy().view("<u8")
    if (
        crc32(seal(states).tobytes()) != header["sum"]
        or crc32(sums.tobytes()) != header["seals_sum"]
    ):
        raise ValueError("the file is damaged")
    seals, at = {}, 0
    for number, size in sizes.items():
        count = -(-size // BLOCK)
        seals[number], at = (size, sums[at : at + count]), at + count
    return Kept(
        header["version"], header["encoding"], header["history"], header["last_state"],
        states.view(STATE), seals,
    )  # fmt: skip


def _layout() -> str:
    return json.dumps(STATE.descr)


def _sizes(lines: Any) -> dict[int, int]:
    sizes = {}
    for number, size in lines:
        if type(number) is not int or type(size) is not int or not 0 <= size < 1 << 48:
            raise TypeError("the header must hold sizes of segments")
        sizes[number] = size
    return sizes


def _of_this_history(store: Store, kept: Kept) -> bool:
    """Tell whether the version is one of this memory's, and all that followed is known."""
    if not store.oldest <= kept.version <= store.version or kept.encoding != store.encoding:
        return False
    query = "SELECT sum FROM versions WHERE version = ?"
    lines = list(typed_lines(store.db, query, int, given=(kept.version,)))
    sizes = {number: segment.size for number, segment in store.segments.items()}
    return (
        lines == [(kept.history,)]
        and store.encoding_at(kept.version) == kept.encoding
        and _operations_since(store, kept.version) <= KNOWN
        and all(sizes.get(number, -1) >= size for number, (size, _) in kept.seals.items())
    )


def _operations_since(store: Store, version: int) -> set[str]:
    query = "SELECT DISTINCT operation FROM versions WHERE version > ?"
    return {name for (name,) in typed_lines(store.db, query, str, given=(version,))}


def _brought_up_to_date(store: Store, kept: Kept) -> tuple[States, Mask]:
    """Leave out what has ended since, take in what was born; tells which keys are sealed."""
    states, sealed = kept.states, np.ones(len(kept.states), bool)
    ids = states["id"].copy()
    born = fetch_states(
        store.db, f"state > :last AND {store.alive}", {"last": kept.last_state},
        VALUE_COLUMNS[store.config.value],
    )  # fmt: skip
    # A row that was changed has ended and was born again: it keeps its place.
    place = np.minimum(np.searchsorted(ids, born["id"]), max(0, len(ids) - 1))
    again = ids[place] == born["id"] if len(ids) else np.zeros(len(born), bool)
    states[place[again]], sealed[place[again]] = born[again], False
    gone = np.setdiff1d(_ended(store, kept.version), born["id"])
    if len(gone):
        stay = ~np.isin(ids, gone)
        states, sealed = states[stay], sealed[stay]
    if not again.all():
        states = np.concatenate([states, born[~again]])
        sealed = np.concatenate([sealed, np.zeros(len(states) - len(sealed), bool)])
    return states, sealed


def _ended(store: Store, version: int) -> Ids:
    """Ids of rows that were alive in a version and whose state of then has ended."""
    if _operations_since(store, version) <= GROWING:
        return np.zeros(0, np.int64)
    query = f"SELECT id FROM rows WHERE {store.died} > ? AND born <= ?"
    ended = typed_lines(store.db, query, int, given=(version, version))
    return np.array([row for (row,) in ended], np.int64)


def contradiction(store: Store) -> str | None:
    """Compare the file, if it would be used, with the catalog; returns what is wrong."""
    kept = _usable(store)
    if kept is None:
        return None
    states, _ = _brought_up_to_date(store, kept)
    states = states[np.argsort(states["id"])]
    truth, _ = store.load_table(None)
    same = len(states) == len(truth.states)
    wrong = np.flatnonzero(states != truth.states) if same else np.zeros(1, int)
    if not len(wrong):
        return None
    row = f", first row {states['id'][wrong[0]]}" if same else ""
    return f"the rows in the cache are not those of the catalog{row}: delete the folder {CACHE!r}"


# -- writing ---------------------------------------------------------------------------------------


def outdated(kept: Kept | None, table: RowTable) -> bool:
    """Tell whether a file would save time that the one there is does not."""
    if table.rows < LEAST:
        return False
    same = (
        0 if kept is None else int(np.count_nonzero(table.sealed[: len(table.alive)] & table.alive))
    )
    changed = table.rows - same + (0 if kept is None else len(kept.states) - same)
    return changed > STALE * table.rows


def write(store: Store, states: States, contents: Mapping[int, NDArray[np.uint8]]) -> None:
    """Keep the rows of the newest version, each of whose keys was compared with its checksum.

    Args:
        store: A memory in a folder, open for writing.
        states: All states alive, in order of id.
        contents: Bytes of each segment of keys, as they were compared.

    Raises:
        OSError: The disk refused.
    """
    assert store.folder is not None
    seals = {}
    for number, content in contents.items():
        seals[number] = seal(content)
        let_go(content)
    sums = np.concatenate([np.zeros(0, np.uint64), *seals.values()]).astype("<u8")
    ((history,),) = typed_lines(
        store.db, "SELECT sum FROM versions WHERE version = ?", int, given=(store.version,)
    )
    ((last,),) = typed_lines(store.db, "SELECT IFNULL(MAX(state), 0) FROM rows", int)
    content = np.ascontiguousarray(states).view(np.uint8).reshape(-1)
    header = {
        "version": store.version, "encoding": store.encoding, "history": history,
        "last_state": last, "rows": len(states), "states": _layout(),
        "sum": crc32(seal(content).tobytes()), "seals_sum": crc32(sums.tobytes()),
        "segments": [[number, len(content)] for number, content in contents.items()],
    }  # fmt: skip
    raw = json.dumps(header).encode()
    start = MAGIC + np.array([crc32(raw), len(raw)], "<u4").tobytes() + raw
    folder = store.folder / CACHE
    folder.mkdir(exist_ok=True)
    fresh = folder / f"{NAME}.new"
    with begin(fresh) as file:
        file.write(start.ljust(-(-len(start) // PAGE) * PAGE, b"\0"))
        file.write(content.data)
        file.write(sums.data)
    fresh.replace(folder / NAME)
