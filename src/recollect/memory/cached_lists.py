"""Trained lists, kept in a file, so that a large memory is searched by them once it is open.

They are a cache like the rows beside them: plain arrays with a header, written by writers only,
believed only if their sums are right and the history still holds the version they were made in.
Under one encoding an id has one key for good, so lists of an earlier version need only what differs
from the rows; and a list can name a row, never say anything of it. So the worst that forged lists
could do is to miss rows. The library that searches lists never reads the file itself.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recollect.index.lists import Lists
from recollect.index.policy import Approximate
from recollect.index.recall import Reach
from recollect.index.training import Trained, Turnover
from recollect.memory.cache_files import begin
from recollect.memory.catalog import typed_lines
from recollect.memory.seals import BLOCK, seal
from recollect.memory.store import CACHE, Store
from recollect.types import Ids

ARRAYS, HEADER = "lists", "lists.json"
HEADER_LIMIT = 1 << 16
STALE = 0.05  # share of the rows that may have changed before the file is written anew
PART = 1024 * BLOCK  # bytes summed up at a time: 64 MiB
WHOLE = (
    "version", "encoding", "history", "lists", "rows", "odd", "width", "dim", "sample",
    "neighbors", "rows_trained", "rows_measured", "spare_times", "spare_more", "came", "gone",
    "came_before", "gone_before", "sum",
)  # fmt: skip


def save(store: Store, trained: Trained) -> None:
    """Write lists that hold the rows of the newest version and no others.

    Raises:
        OSError: The disk refused.
    """
    assert store.folder is not None
    folder = store.folder / CACHE
    folder.mkdir(exist_ok=True)
    lists, ranks = trained.lists, trained.reach.ranks
    parts = lists.contents()
    sizes = next(parts)
    first = (
        lists.centers, lists.ranges, sizes, np.array(sorted(trained.odd), np.int64),
        ranks.astype(np.int32),
    )  # fmt: skip
    fresh = folder / f"{ARRAYS}.new"
    with begin(fresh) as file:
        for array in (*first, *parts):
            file.write(np.ascontiguousarray(array).data)
    query = "SELECT sum FROM versions WHERE version = ?"
    ((history,),) = typed_lines(store.db, query, int, given=(store.version,))
    header = {
        "version": store.version, "encoding": store.encoding, "history": history,
        "lists": len(lists), "rows": int(sizes.sum()), "odd": len(trained.odd),
        "width": lists.width, "dim": lists.centers.shape[1], "sample": ranks.shape[0],
        "neighbors": ranks.shape[1], "rows_trained": trained.rows_trained,
        "rows_measured": trained.rows_measured, "spare_times": trained.spare[0],
        "spare_more": trained.spare[1], "spare_loss": trained.spare[2],
        "came": trained.turnover.came, "gone": trained.turnover.gone,
        "came_before": trained.before.came, "gone_before": trained.before.gone,
        "sum": _sum(_mapped(fresh)),
        "metric": trained.metric, "storage": lists.storage, "recall": trained.recall,
        "measured": trained.measured,
    }  # fmt: skip
    raw = json.dumps(header)
    note = folder / f"{HEADER}.new"
    with begin(note) as file:
        file.write(json.dumps([crc32(raw.encode()), raw]).encode())
    fresh.replace(folder / ARRAYS)
    note.replace(folder / HEADER)


def load(store: Store, policy: Approximate) -> Trained | None:
    """Read the lists of a memory, if there are some and nothing differs."""
    if store.folder is None:
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        header = parse_header(_small(store.folder / CACHE / HEADER))
        if not _of_this_history(store, header) or header["storage"] != policy.storage:
            return None
        content = _mapped(store.folder / CACHE / ARRAYS)
        return _built(header, content, policy)
    return None


def parse_header(raw: bytes) -> dict[str, Any]:
    """Turn the bytes of a header into its fields, each of its type and in its range.

    Raises:
        ValueError, KeyError, TypeError: It is no such header.
    """
    total, text = json.loads(raw)
    if type(text) is not str or crc32(text.encode()) != total:
        raise ValueError("the header is damaged")
    header: dict[str, Any] = json.loads(text)
    if any(type(header[name]) is not int or not 0 <= header[name] < 1 << 48 for name in WHOLE):
        raise TypeError("the header must hold whole numbers")
    if any(type(header[name]) is not float for name in ("recall", "measured", "spare_loss")):
        raise TypeError("the header must hold a recall")
    if min(header[name] for name in ("lists", "dim", "sample", "neighbors")) < 1:
        raise ValueError("the header speaks of nothing")
    return header


def _of_this_history(store: Store, header: dict[str, Any]) -> bool:
    query = "SELECT sum FROM versions WHERE version = ?"
    config = store.config
    return (
        list(typed_lines(store.db, query, int, given=(header["version"],)))
        == [(header["history"],)]
        and store.encoding_at(header["version"]) == header["encoding"] == store.encoding
        and (header["metric"], header["dim"]) == (config.metric, config.dim)
    )


def _built(header: dict[str, Any], content: NDArray[np.uint8], policy: Approximate) -> Trained:
    """Make lists of the arrays, once their lengths and sums are known to be right.

    Raises:
        ValueError: They are not.
    """
    lists, rows, dim = header["lists"], header["rows"], header["dim"]
    eight = header["storage"] == "8bit"
    lengths = (
        4 * lists * dim, 8 * dim if eight else 0, 8 * lists, 8 * header["odd"],
        4 * header["sample"] * header["neighbors"],
    )  # fmt: skip
    width = dim if eight else 4 * dim
    if header["width"] != width or len(content) != sum(lengths) + rows * (8 + width):
        raise ValueError("the lists are cut short")
    if _sum(content) != header["sum"]:
        raise ValueError("the lists are damaged")
    ends = np.cumsum(lengths).tolist()
    pieces = [content[end - size : end].copy() for end, size in zip(ends, lengths, strict=True)]
    centers, ranges = pieces[0].view("<f4").reshape(lists, dim), pieces[1].view("<f4")
    sizes, odd, ranks = pieces[2].view("<i8"), pieces[3].view("<i8"), pieces[4].view("<i4")
    sound = np.isfinite(centers).all() and np.isfinite(ranges).all()
    if not sound or sizes.min() < 0 or sizes.sum() != rows or ranks.min() < 0:
        raise ValueError("the lists hold what cannot be")
    made = Lists(header["metric"], header["storage"], centers, ranges)
    made.fill(sizes, content[ends[-1] :])
    ids = np.sort(np.concatenate([made.ids(), odd]))
    if len(ids) and (ids[0] < 0 or not (ids[1:] > ids[:-1]).all()):
        raise ValueError("the lists hold a row twice")
    same = header["recall"] == policy.recall
    return Trained(
        made, header["metric"], policy.recall,
        Reach(ranks.reshape(header["sample"], -1).astype(np.int64), lists),
        (header["spare_times"], header["spare_more"], header["spare_loss"]),
        header["rows_measured"] if same else 0,  # which makes it due
        header["rows_trained"], header["measured"] if same else 0.0, set(odd.tolist()),
        Turnover(header["came"], header["gone"]),
        Turnover(header["came_before"], header["gone_before"]),
    )  # fmt: skip


def outdated(store: Store, saved: Trained | None, kept: Ids | None, trained: Trained) -> bool:
    """Tell whether lists should be written.

    Args:
        store: Where they would be.
        saved: What was last read or written.
        kept: The ids that were in it.
        trained: What there is now, of which only the rows in its lists may have changed.
    """
    assert store.folder is not None
    there = (store.folder / CACHE / HEADER).exists()  # an erasure deletes it
    if saved is not trained or kept is None or not there:
        return True
    now = trained.ids
    same = len(np.intersect1d(kept, now, assume_unique=True))
    return len(kept) + len(now) - 2 * same > STALE * len(now)


def _small(path: Path) -> bytes:
    with _opened(path) as handle:
        return os.read(handle, HEADER_LIMIT)


def _mapped(path: Path) -> NDArray[np.uint8]:
    with _opened(path) as handle:
        return np.frombuffer(mmap.mmap(handle, 0, access=mmap.ACCESS_READ), np.uint8)


class _opened:  # noqa: N801 - a context manager, used like a function
    """A plain file, open for reading; a link is not followed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._handle = os.open(self._path, flags)
        if not stat.S_ISREG(os.fstat(self._handle).st_mode):
            os.close(self._handle)
            raise ValueError("not a file")
        return self._handle

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _sum(content: NDArray[np.uint8]) -> int:
    """One number for all bytes, a part at a time."""
    return crc32(b"".join(seal(part).tobytes() for part in _parts(content)))


def _parts(content: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(content), PART):
        yield content[start : start + PART]
