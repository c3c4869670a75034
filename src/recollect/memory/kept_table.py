"""The table of nearest others as a file in the memory's cache: read if it fits, else ignored.

The file is plain arrays (.npz, no pickle). It says which version of which memory it is of; the
table then follows what happened since. Whatever does not fit is no error: it is computed again.
Erasing deletes the whole cache, so nothing of an erased row stays behind in it.
"""

from __future__ import annotations

import io
import json
import pathlib
from contextlib import suppress
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recollect.memory.cache_files import begin
from recollect.memory.memory import Memory

FILE = "leave-one-out.npz"
FORMAT = 1
ARRAYS: dict[str, tuple[str, int]] = {
    "ids": ("<i8", 1),
    "known": ("<i8", 1),
    "near": ("<i8", 2),
    "similarity": ("<f4", 2),
    "certain": ("<i8", 1),
}


def keep(memory: Memory, version: int, deepest: int, arrays: dict[str, NDArray[Any]]) -> bool:
    """Write a table into the cache; False where the memory may not be written or is in RAM."""
    folder = memory.cache_folder
    if folder is None or memory.read_only:
        return False
    about = _about(memory, version, deepest)
    if about is None:
        return False
    about["sum"] = _sum(arrays)
    folder.mkdir(exist_ok=True)
    unfinished = folder / f"{FILE}.new"
    with begin(unfinished) as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    pathlib.Path(unfinished).replace(folder / FILE)
    return True


def kept(memory: Memory, deepest: int) -> tuple[int, dict[str, NDArray[Any]]] | None:
    """Read the version and the arrays of a table that fits this memory, or None."""
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
        expected = _about(memory, version, deepest)
        if expected is not None and told == expected | {"sum": _sum(arrays)} and _fits(arrays):
            return version, arrays
    return None


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


def _fits(arrays: dict[str, NDArray[Any]]) -> bool:
    for name, (dtype, axes) in ARRAYS.items():
        if arrays[name].dtype != np.dtype(dtype) or arrays[name].ndim != axes:
            return False
    rows = len(arrays["ids"])
    return all(len(arrays[name]) == rows for name in ("near", "similarity", "certain")) and (
        arrays["near"].shape == arrays["similarity"].shape
    )
