"""Tables as files: codes packed bit by bit, a format number, a checksum over every byte."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import (
    CorruptMemory,
    InvalidParameter,
    MemoryNotFound,
    UnsupportedFormat,
)
from recollect.heads.lookup.whole_file import write_whole

MAGIC = b"RCLOOKUP"
# Format 1 knew no votes of every look, format 2 no trees whose centers are rows.
FORMAT = 3
_HEAD = struct.Struct("<8sIQ")
_DIGEST = 32
_HEADER_LIMIT = 1 << 20


def pack(codes: NDArray[Any], bits: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Write each row of codes as a run of bits, padded to whole bytes.

    Args:
        codes: ``(rows, width)``, whole numbers of 0 or more.
        bits: ``(width,)``: bits of each column, highest first; every code fits.

    Returns:
        uint8 ``(rows, ceil(sum(bits) / 8))``.

    Example:
        >>> pack(np.array([[1, 2, 5]]), np.array([1, 2, 3])).tolist()
        [[212]]
    """
    column, shift = _places(bits)
    wide = np.zeros((len(codes), -(-len(column) // 8)), np.uint8)
    size = max(1, (1 << 25) // max(1, len(column)))
    for at in range(0, len(codes), size):
        some = codes[at : at + size].astype(np.uint32)
        wide[at : at + size] = np.packbits((some[:, column] >> shift & 1).astype(np.uint8), axis=1)
    return wide


def unpack(packed: NDArray[np.uint8], bits: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Read what :func:`pack` wrote: uint32 ``(rows, width)``."""
    column, shift = _places(bits)
    codes = np.zeros((len(packed), len(bits)), np.uint32)
    starts = np.concatenate([[0], np.cumsum(bits)])
    for number in range(len(bits)):
        for place in range(int(starts[number]), int(starts[number + 1])):
            bit = packed[:, place // 8] >> np.uint8(7 - place % 8) & np.uint8(1)
            codes[:, number] |= bit.astype(np.uint32) << shift[place]
    assert len(column) == starts[-1]
    return codes


def _places(bits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    column = np.repeat(np.arange(len(bits)), bits)
    shift = np.concatenate([np.arange(b - 1, -1, -1) for b in bits]).astype(np.uint32)
    return column, shift


def write_file(path: str | Path, about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays with what is said about them; the file is complete or not there at all.

    Args:
        path: File to make or replace.
        about: Plain values for JSON.
        arrays: Name -> array of numbers.

    Raises:
        WriteFailed: The disk refused.
    """
    blocks = {
        name: np.ascontiguousarray(block, block.dtype.newbyteorder("<"))
        for name, block in arrays.items()
    }
    shapes = {name: [block.dtype.str, list(block.shape)] for name, block in blocks.items()}
    header = json.dumps({"about": about, "arrays": shapes}).encode()
    body = _HEAD.pack(MAGIC, FORMAT, len(header)) + header
    body += b"".join(block.tobytes() for block in blocks.values())
    whole = body + hashlib.sha256(body).digest()
    write_whole(path, lambda file: file.write(whole), "the table")


def read_file(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what :func:`write_file` wrote; nothing is used before all of it was judged.

    Raises:
        MemoryNotFound: There is no such file.
        CorruptMemory: It is cut short, altered, or no table.
        UnsupportedFormat: A newer version wrote it.
    """
    if not Path(path).is_file():
        raise MemoryNotFound(f"there is no table at {path}")
    raw = Path(path).read_bytes()
    if len(raw) < _HEAD.size + _DIGEST:
        raise CorruptMemory(
            f"the table at {path} is cut short",
            expected=f"at least {_HEAD.size + _DIGEST} bytes",
            got=len(raw),
            remedy="Copy or export it again.",
        )
    magic, version, length = _HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise CorruptMemory(f"{path} is no table of this library", remedy="Check the path.")
    if hashlib.sha256(raw[:-_DIGEST]).digest() != raw[-_DIGEST:]:
        # A file of another format may end differently, so that its number is looked at here too.
        if not 1 <= version <= FORMAT and version <= 0xFFFF:
            raise _other_format(path, version)
        raise CorruptMemory(
            f"the table at {path} is cut short or altered",
            expected="its checksum",
            got="another one",
            remedy="Copy or export it again.",
        )
    if not 1 <= version <= FORMAT:
        raise _other_format(path, version)
    return _parse(raw, length, path)


def _other_format(path: str | Path, version: int) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"the table at {path} is of another format",
        expected=f"format 1 to {FORMAT}",
        got=version,
        remedy="Install the version of this library that wrote it, or export it again.",
    )


def _parse(
    raw: bytes, length: int, path: str | Path
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        if length > _HEADER_LIMIT:
            raise ValueError("header too long")  # noqa: TRY301 - all of it is one refusal
        header = json.loads(raw[_HEAD.size : _HEAD.size + length])
        at, arrays = _HEAD.size + length, {}
        for name, (kind, shape) in header["arrays"].items():
            dtype = np.dtype(kind)
            if dtype.kind not in "iuf" or any(type(side) is not int or side < 0 for side in shape):
                raise ValueError("not an array of numbers")  # noqa: TRY301
            count = int(np.prod(shape, dtype=object))
            block = np.frombuffer(raw[:-_DIGEST], dtype, count, at)
            arrays[str(name)] = block.reshape(shape).astype(dtype.newbyteorder("="))
            at += block.nbytes
        if at != len(raw) - _DIGEST:
            raise ValueError("bytes are left over")  # noqa: TRY301
        return dict(header["about"]), arrays
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptMemory(f"the table at {path} cannot be read: {error}") from error


def check_bits(bits: dict[str, int]) -> None:
    """Refuse floats, which have no packed form."""
    floats = [name for name, count in bits.items() if not count]
    if floats:
        raise InvalidParameter(
            f"{', '.join(floats)} of the table are floats",
            expected="at least 1 bit each",
            got=0,
            remedy="Export plain arrays with export_npz, or round them to bits.",
        )
