"""Checksums of what a memory holds. They find damage; they keep no secret and stop no forger."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

RETIRED_SUM = "id % 4294967291"
"""SQL for the checksum of a retired id. No power of two is a multiple of this prime, so every
flipped bit of an id changes it."""


def row_sum(
    row: int,
    weight: float,
    value: object,
    source: str | None,
    metadata: Collection[tuple[str, Any]],
) -> int:
    """Checksum of what the catalog says of a row: id, weight, value, source, metadata."""
    named: tuple[Any, ...] = ()
    if metadata:
        # The catalog keeps True as 1; both must give the same sum.
        pairs = [(name, cell) for name, cell in metadata if cell is not None]
        named = tuple(
            sorted((n, +cell if cell is True or cell is False else cell) for n, cell in pairs)
        )
    return zlib.crc32(repr((row, weight, value, source, named)).encode())


def version_sum(
    version: int, time: float, operation: str, rows: int, changed: int, encoding: int = 0
) -> int:
    """Checksum of one line of the history."""
    line: tuple[Any, ...] = (version, time, operation, rows, changed)
    return zlib.crc32(repr((*line, encoding) if encoding else line).encode())


def listed_sum(digest: bytes, row: int, kind: str, version: int) -> int:
    """Checksum of one line of the list of what must not return."""
    return zlib.crc32(digest, zlib.crc32(repr((row, kind, version)).encode()))


def picture_sum(row: int, picture: bytes) -> int:
    """Checksum of the thumbnail of a row."""
    return zlib.crc32(picture, zlib.crc32(b"%d " % row))


def checksums(content: NDArray[np.uint8], rows: int) -> list[int]:
    """CRC-32 of each of ``rows`` equal parts."""
    raw, size = memoryview(content.data), len(content) // rows
    crc32 = zlib.crc32
    return [crc32(raw[start : start + size]) for start in range(0, rows * size, size)]
