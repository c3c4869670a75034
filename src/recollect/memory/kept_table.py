"""The table of nearest others as a file in the memory's cache: read if it fits, else ignored.

The file is plain arrays (.npz, no pickle). It says which version of which memory it is of; the
table then follows what happened since. What does not fit, or cannot be a table whatever its
checksum says, is no error: it is computed again.
Erasing deletes the whole cache, so nothing of an erased row stays behind in it.
"""

from __future__ import annotations

import io
import json
import pathlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recollect.memory.cache_files import begin
from recollect.memory.memory import Memory
from recollect.types import Floats, Ids, Metric

FILE = "leave-one-out.npz"
FORMAT = 1
ARRAYS: dict[str, tuple[str, int]] = {
    "ids": ("<i8", 1),
    "known": ("<i8", 1),
    "near": ("<i8", 2),
    "similarity": ("<f4", 2),
    "certain": ("<i8", 1),
}
BLOCK = 4096
"""Lists judged at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The nearest other rows of rows of one version; never changed once it is made.

    Attributes:
        version: The version; -1 for a table of nothing.
        ids: int64 ``(asked,)``, sorted: the rows that are asked about.
        known: int64 ``(rows,)``, sorted: the rows among which neighbors were sought.
        near: int64 ``(asked, width)``. Their nearest others, -1 where unknown.
        similarity: float32 ``(asked, width)``. -inf where unknown.
        certain: int64 ``(asked,)``. How many places of a row are known, from the first on.
    """

    version: int
    ids: Ids
    known: Ids
    near: Ids
    similarity: Floats
    certain: Ids

    @classmethod
    def empty(cls, width: int) -> Table:
        """A table of nothing, from which every other one can be made."""
        nothing = np.empty(0, np.int64)
        near = np.empty((0, width), np.int64)
        return cls(-1, nothing, nothing, near, np.empty((0, width), np.float32), nothing)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The columns by name."""
        return {name: getattr(self, name) for name in ARRAYS}


def keep(memory: Memory, table: Table, deepest: int) -> bool:
    """Write a table into the cache; False where the memory may not be written or is in RAM."""
    folder = memory.cache_folder
    if folder is None or memory.read_only:
        return False
    about = _about(memory, table.version, deepest)
    if about is None:
        return False
    arrays = table.arrays()
    about["sum"] = _sum(arrays)
    folder.mkdir(exist_ok=True)
    unfinished = folder / f"{FILE}.new"
    with begin(unfinished) as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    pathlib.Path(unfinished).replace(folder / FILE)
    return True


def kept(memory: Memory, deepest: int, width: int) -> Table | None:
    """Read a table that fits this memory and has lists of this width, or None."""
    folder = memory.cache_folder
    if folder is None or not (folder / FILE).is_file():
        return None
    with suppress(Exception):  # whatever is wrong with it, the table can be made anew
        # numpy would leave a file open that it can't read.
        content = io.BytesIO((folder / FILE).read_bytes())
        with np.load(content, allow_pickle=False) as file:
            told = json.loads(str(file["about"]))
            version = told["version"]
            if type(version) is not int or version > memory.version:
                return None
            arrays = {name: file[name] for name in ARRAYS}
        if told != (_about(memory, version, deepest) or {}) | {"sum": _sum(arrays)}:
            return None
        if not _fits(arrays, width):
            return None
        table = Table(version, **arrays)
        rows = next(info.rows for info in memory.versions() if info.version == version)
        if len(table.known) == rows and is_table(table, memory.metric):
            return table
    return None


def is_table(table: Table, metric: Metric) -> bool:
    """Tell whether a table of the right shape can be one that was computed.

    Its checksum finds damage; whoever wrote the file could compute one too. So what a table always
    is, is looked at: sorted ids without repetition, of which all that are named are known; lists
    that name no row twice and not their own, nearest first and then by id, with possible numbers.
    """
    if not (_ascend(table.ids) and _ascend(table.known) and _among(table.ids, table.known)):
        return False
    parts = (slice(start, start + BLOCK) for start in range(0, len(table.ids), BLOCK))
    return all(_are_lists(table, part, metric) for part in parts)


def _are_lists(table: Table, part: slice, metric: Metric) -> bool:
    near, similarity, certain = table.near[part], table.similarity[part], table.certain[part]
    width = near.shape[1]
    there = np.arange(width) < certain[:, None]
    if ((certain < 0) | (certain > width)).any() or ((near >= 0) != there).any():
        return False
    if (near[~there] != -1).any() or (similarity[~there] != -np.inf).any():
        return False
    if not _among(np.unique(near[there]), table.known):
        return False
    most = {"cosine": 1.0 + 1e-6, "dot": np.inf}.get(metric, 0.0)
    if np.isnan(similarity).any() or (similarity > most).any():
        return False
    earlier, later = similarity[:, :-1], similarity[:, 1:]
    tied = (earlier == later) & there[:, 1:]
    if (earlier < later).any() or (near[:, :-1] >= near[:, 1:])[tied].any():
        return False
    own = (near == table.ids[part][:, None]).any()
    ordered = np.sort(near, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    return not (own or twice.any())


def _ascend(ids: Ids) -> bool:
    return bool((ids[:1] >= 0).all() and (np.diff(ids) > 0).all())


def _among(ids: Ids, known: Ids) -> bool:
    """Whether all ids are among others; both sorted."""
    if not len(ids):
        return True
    place = np.searchsorted(known, ids)
    return bool(place[-1] < len(known) and (known[place] == ids).all())


def _about(memory: Memory, version: int, deepest: int) -> dict[str, Any] | None:
    """What a file must say; the time of a version tells memories apart."""
    moment = next((info.time for info in memory.versions() if info.version == version), None)
    if moment is None:
        return None
    return {
        "format": FORMAT,
        "version": version,
        "time": moment,
        "dim": memory.dim,
        "metric": memory.metric,
        "encoder": memory.encoder,
        "deepest": deepest,
    }


def _sum(arrays: dict[str, NDArray[Any]]) -> int:
    total = 0
    for name in ARRAYS:
        total = crc32(np.ascontiguousarray(arrays[name]).data, total)
    return total


def _fits(arrays: dict[str, NDArray[Any]], width: int) -> bool:
    for name, (dtype, axes) in ARRAYS.items():
        if arrays[name].dtype != np.dtype(dtype) or arrays[name].ndim != axes:
            return False
    rows = len(arrays["ids"])
    shape = (rows, width)
    return arrays["near"].shape == arrays["similarity"].shape == shape and (
        len(arrays["certain"]) == rows
    )
