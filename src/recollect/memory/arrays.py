"""Named arrays as bytes: how a row keeps a value that is neither label, number nor vector."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory, InputError

HEADER_LIMIT = 1 << 20
DTYPE = re.compile(r"\|b1|\|[iu]1|<[iu][248]|<f(2|4|8|12|16)")
"""Bool, signed, unsigned, float: no object, so nothing to execute."""


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
    header: list[list[Any]] = []
    parts: list[memoryview] = []
    for name, given in arrays.items():
        try:
            array = np.asarray(given)
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:
            raise _unstorable(name, str(error)) from error
        plain = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        if not isinstance(name, str) or not DTYPE.fullmatch(plain.dtype.str):
            raise _unstorable(name, f"dtype {array.dtype}")
        header.append([name, plain.dtype.str, list(array.shape)])
        parts.append(plain.reshape(-1).view(np.uint8).data)  # joined without a copy in between
    text = json.dumps(header).encode()
    if len(text) > HEADER_LIMIT:
        raise InputError(
            "a row holds too many arrays", expected=f"names and shapes of {HEADER_LIMIT} bytes",
            got=f"{len(text)} bytes", remedy="Join them into fewer arrays.",
        )  # fmt: skip
    return b"".join([struct.pack("<I", len(text)), text, *parts])


def _unstorable(name: object, got: str) -> InputError:
    return InputError(
        f"the array {name!r:.80} cannot be stored",
        expected="a text name and an array of bool, integers or floats",
        got=got,
        remedy="Convert it to numbers first.",
    )


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
        known = type(kind) is str and type(name) is str and DTYPE.fullmatch(kind)
        if not known or any(type(side) is not int or side < 0 for side in shape):
            raise CorruptMemory(f"stored array {name!r:.80} has dtype {kind!r:.80}")
        dtype = np.dtype(kind)
        count = 1
        for side in shape:
            count *= side
        if start + count * dtype.itemsize > len(content):
            raise CorruptMemory(f"stored array {name!r:.80} is cut short")
        arrays[name] = np.frombuffer(content, dtype, count, start).reshape(shape)
        start += count * dtype.itemsize
    if start != len(content):
        raise CorruptMemory(f"{len(content) - start} bytes behind the last stored array")
    return arrays
