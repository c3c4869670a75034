"""Files of plain arrays that anyone may have written: judged before anything is made of them."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

UNREADABLE = (
    OSError, ValueError, TypeError, EOFError, MemoryError, OverflowError, RuntimeError,
    SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading a damaged or forged file may raise."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what ``numpy.savez`` wrote; nothing in it is run.

    Nothing larger than the file is ever allocated: members are stored as they are, and each holds
    just the bytes that its header speaks of.

    Args:
        path: A ``.npz`` file.

    Returns:
        Name -> array of numbers or text.

    Raises:
        ValueError: It is no such file; or another error of :data:`UNREADABLE`.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(each.compress_type != zipfile.ZIP_STORED for each in members):
            raise ValueError("its arrays are compressed")
        if sum(each.file_size for each in members) > path.stat().st_size:
            raise ValueError("its arrays are larger than the file")
        return {each.filename.removesuffix(".npy"): _parse(archive.read(each)) for each in members}


def _parse(raw: bytes) -> NDArray[Any]:
    stream = io.BytesIO(raw)
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"an array of format {version}")
    shape, by_column, dtype = _HEADERS[version](stream)
    if dtype.kind not in "fiuU":
        raise ValueError(f"an array of {dtype}")
    there = raw[stream.tell() :]
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != len(there):
        raise ValueError(f"{len(there)} bytes for an array {shape} of {dtype}")
    return np.frombuffer(there, dtype).reshape(shape, order="F" if by_column else "C")
