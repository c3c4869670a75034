"""Named arrays as bytes: how a row keeps a value that is neither label, number nor vector."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory, InputError

HEADER_LIMIT = 1 << 20
KINDS = "biuf"  # bool, signed, unsigned, float: no object, so nothing to execute


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write named arrays as bytes.

    Args:
        arrays: Name -> array of any shape, of bool, integer or float dtype.

    Returns:
        A length, a JSON header (names, dtypes, shapes), then the arrays in little-endian order.

    Raises:
        InputError: A name is not text, or a dtype is not plain numbers.

    Example:
        >>> unpack_arrays(pack_arrays({"mask": np.array([True, False])}))
        {'mask': array([ True, False])}
    """
    header, parts = [], []
    for name, given in arrays.items():
        array = np.asarray(given)
        if not isinstance(name, str) or array.dtype.kind not in KINDS:
            raise InputError(
                f"the array {name!r} cannot be stored",
                expected="a text name and an array of bool, integers or floats",
                got=f"dtype {array.dtype}",
                remedy="Convert it to numbers first.",
            )
        plain = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        header.append([name, plain.dtype.str, list(array.shape)])
        parts.append(plain.tobytes())
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<I", len(text)), text, *parts])


def unpack_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Read named arrays back; sizes are judged before anything is allocated.

    Raises:
        CorruptMemory: The bytes are not those of :func:`pack_arrays`.
    """
    try:
        (length,) = struct.unpack_from("<I", content)
        if length > min(HEADER_LIMIT, len(content)):
            raise CorruptMemory(f"a header of {length} bytes in {len(content)} bytes of arrays")
        header = json.loads(content[4 : 4 + length])
        return _build(header, content, 4 + length)
    except (struct.error, ValueError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, CorruptMemory):
            raise
        raise CorruptMemory(f"stored arrays cannot be read: {error}") from error


def _build(header: Any, content: bytes, start: int) -> dict[str, NDArray[Any]]:
    arrays = {}
    for name, kind, shape in header:
        dtype = np.dtype(str(kind))
        if dtype.kind not in KINDS or any(type(side) is not int or side < 0 for side in shape):
            raise CorruptMemory(f"stored array {name!r} has dtype {kind!r} and shape {shape!r}")
        count = 1
        for side in shape:
            count *= side
        if start + count * dtype.itemsize > len(content):
            raise CorruptMemory(f"stored array {name!r} is cut short")
        arrays[str(name)] = np.frombuffer(content, dtype, count, start).reshape(shape)
        start += count * dtype.itemsize
    if start != len(content):
        raise CorruptMemory(f"{len(content) - start} bytes behind the last stored array")
    return arrays
