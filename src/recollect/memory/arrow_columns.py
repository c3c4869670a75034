"""One column of an Arrow table, checked and turned into what a row holds.

Each function raises `InputError` or one of its kind that names the column and the first bad row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import DuplicateIds, InputError, InvalidLabel, InvalidMetadata, NonFinite
from recollect.types import Doubles, Ids

KEY_TYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "uint8": np.dtype(np.uint8),
}


def is_matrix(kind: Any) -> bool:
    """Whether an Arrow type is a list of numbers, of fixed or varying length."""
    import pyarrow as pa

    types = pa.types
    if not (types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)):
        return False
    return bool(types.is_floating(kind.value_type) or types.is_integer(kind.value_type))


def as_matrix(column: Any, name: str) -> NDArray[Any]:
    """Lists of numbers of one width, none missing, all finite; ``(rows, width)``.

    float32, float16 and uint8 keep their bits; all other numbers become float32.
    """
    import pyarrow as pa

    if not is_matrix(column.type):
        raise InputError(
            f"column {name!r} holds no vectors", expected="lists of numbers", got=str(column.type),
            remedy="Store each vector as a list of numbers.",
        )  # fmt: skip
    _refuse_missing(column, name)
    width = _width(column, name)
    kept = {str(kind): kind for kind in KEY_TYPES.values()}
    parts = []
    for chunk in column.chunks or [pa.array([], column.type)]:
        flat = chunk.flatten()
        if flat.null_count:
            raise InputError(
                f"column {name!r} holds a vector with a missing number",
                remedy="Fill it or take the row out.",
            )
        numbers = flat.to_numpy(zero_copy_only=False)
        target = kept.get(str(numbers.dtype), np.dtype(np.float32))
        with np.errstate(over="ignore"):  # what is too large for float32 is refused below
            parts.append(numbers.astype(target, copy=False).reshape(-1, width))
    matrix = np.concatenate(parts)
    bad = ~np.isfinite(matrix).all(axis=1)
    if bad.any():
        raise NonFinite(
            f"column {name!r} holds NaN or infinity", expected="finite float32 numbers",
            got=f"row {int(bad.argmax())}", remedy="Take such rows out.",
        )  # fmt: skip
    return np.ascontiguousarray(matrix)


def _width(column: Any, name: str) -> int:
    from pyarrow import compute

    if hasattr(column.type, "list_size"):
        width = int(column.type.list_size)
    else:
        lengths = compute.min_max(compute.list_value_length(column)).as_py()
        if lengths["min"] != lengths["max"]:
            raise InputError(
                f"column {name!r} holds vectors of different width",
                got=f"{lengths['min']} to {lengths['max']}",
                remedy="One encoder gives one width.",
            )
        width = int(lengths["min"] or 0)
    if width < 1:
        raise InputError(
            f"column {name!r} holds vectors of width 0", remedy="A vector needs numbers."
        )
    return width


def as_ids(column: Any) -> Ids:
    """Different integers from 0; int64 ``(rows,)``."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type):
        raise InputError(
            "column 'id' holds no integers", got=str(column.type), remedy="Number the rows from 0."
        )
    _refuse_missing(column, "id")
    ids: Ids = column.cast(pa.int64()).to_numpy()
    if (ids < 0).any():
        raise InputError(
            "column 'id' holds a negative number", expected="integers from 0", got=int(ids.min()),
            remedy="Number the rows from 0.",
        )  # fmt: skip
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise DuplicateIds(
            "column 'id' holds a number twice", got=int(twice[0]), remedy="Number each row once."
        )
    return np.ascontiguousarray(ids)


def as_labels(column: Any, name: str) -> NDArray[Any]:
    """Text or integers, none missing; an object array of str, or int64."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    _refuse_missing(column, name)
    if pa.types.is_integer(kind):
        integers: NDArray[Any] = column.cast(pa.int64()).to_numpy()
        return np.ascontiguousarray(integers)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InvalidLabel(
            f"column {name!r} holds neither text nor integers", got=str(column.type),
            remedy="Store labels as text or as integers.",
        )  # fmt: skip
    labels = np.empty(len(column), object)
    labels[:] = column.to_pylist()
    return labels


def as_doubles(column: Any, name: str, *, least: float = -np.inf) -> Doubles:
    """Finite numbers, none missing; float64 ``(rows,)``."""
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise InputError(
            f"column {name!r} holds no numbers", got=str(column.type), remedy="Store it as floats."
        )
    _refuse_missing(column, name)
    numbers: Doubles = column.to_numpy().astype(np.float64)
    bad = ~np.isfinite(numbers) | (numbers < least)
    if bad.any():
        row = int(bad.argmax())
        error = InputError if np.isfinite(numbers[row]) else NonFinite
        raise error(
            f"column {name!r} holds a number that cannot be used",
            expected="finite numbers" if np.isinf(least) else f"finite numbers from {least:g}",
            got=f"{numbers[row]} in row {row}",
            remedy="Correct it or take the row out.",
        )
    return numbers


def as_texts(column: Any, name: str) -> list[str | None]:
    """Text, or None where it is missing."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise InputError(
            f"column {name!r} holds no text", got=str(column.type), remedy="Store it as text."
        )
    texts: list[str | None] = column.to_pylist()
    return texts


def as_metadata(column: Any, name: str, kind: str) -> list[Any]:
    """Values of one kind (``str``, ``int``, ``float`` or ``bool``), None where missing or NaN."""
    import pyarrow as pa

    if kind == "str":
        return as_texts(column, name)
    fits = {
        "int": pa.types.is_integer,
        "float": pa.types.is_floating,
        "bool": pa.types.is_boolean,
    }
    if not (fits[kind](column.type) or pa.types.is_null(column.type)):
        raise InvalidMetadata(
            f"column {name!r} is of another type", expected=kind, got=str(column.type),
            remedy="Keep one type per column.",
        )  # fmt: skip
    target = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}[kind]
    values: list[Any] = column.cast(target).to_pylist()
    return [None if value != value else value for value in values]  # noqa: PLR0124 - NaN


def _refuse_missing(column: Any, name: str) -> None:
    if column.null_count:
        from pyarrow import compute

        row = compute.index(compute.is_null(column), True).as_py()
        raise InputError(
            f"column {name!r} holds a missing value", got=f"row {row}",
            remedy="Fill it or take the row out; rows count from 0.",
        )  # fmt: skip
