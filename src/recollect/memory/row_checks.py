"""What a row may hold beside its key: values, weights, sources, pictures, metadata."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import (
    DimensionMismatch,
    InputError,
    InvalidLabel,
    InvalidMetadata,
    InvalidParameter,
    NonFinite,
)
from recollect.memory.checks import INT64, UNREADABLE, as_array, as_doubles, length_mismatch
from recollect.types import Doubles

KINDS: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str"}
RESERVED = ("id", "label", "value", "weight", "source")
MAX_COLUMNS = 1000
"""SQLite holds at most 2,000 columns in a table."""

MAX_WEIGHT = 1e100
"""The weights of any number of rows add up to something finite."""


def check_weights(weights: Any, rows: int) -> Doubles:
    """Return one weight from 0 to 1e100 per row; None means 1, a number means for all."""
    if weights is None:
        return np.ones(rows)
    try:
        given = as_doubles(weights)
    except UNREADABLE as error:
        raise InvalidParameter(
            "weights are not numbers", expected="one number per row, or one for all", got=error,
            remedy="Leave them out to weigh every row alike.",
        ) from error  # fmt: skip
    if given.ndim == 0:
        given = np.full(rows, given)
    if given.shape != (rows,):
        raise length_mismatch("weights", rows, f"shape {given.shape}")
    if not np.isfinite(given).all():
        raise NonFinite(
            "weights must be finite", expected="no NaN or infinity",
            got=f"{given[~np.isfinite(given)][0]}", remedy="Use 0 for a row that must not vote.",
        )  # fmt: skip
    if (given < 0).any() or (given > MAX_WEIGHT).any():
        raise InvalidParameter(
            "a weight is out of range", expected=f"0 to {MAX_WEIGHT:g}",
            got=f"{given.min():g} to {given.max():g}",
            remedy="Only the ratio of weights counts: scale them.",
        )  # fmt: skip
    return given + 0.0  # turns -0.0 into 0.0


def as_list(values: Any, rows: int, what: str) -> list[Any]:
    """Return a sequence of one entry per row as a list."""
    if values is None or isinstance(values, str | bytes | Mapping | set | frozenset):
        raise length_mismatch(what, rows, type(values).__name__)
    try:
        given = values.tolist() if isinstance(values, np.ndarray) else list(values)
    except UNREADABLE as error:
        raise length_mismatch(what, rows, type(values).__name__) from error
    if not isinstance(given, list):
        raise length_mismatch(what, rows, "a single value")
    if len(given) != rows:
        raise length_mismatch(what, rows, len(given))
    return given


def check_labels(values: Any, rows: int) -> list[str] | list[int]:
    """Return labels as Python str or int, all of one type.

    Raises:
        InvalidLabel: Another type, mixed types, or text that is not valid Unicode.
        LengthMismatch: Another number than ``rows``.
    """
    if isinstance(values, str | int | np.str_ | np.integer):
        values = [values] * rows
    plain = [
        label.item() if isinstance(label, np.generic) else label
        for label in as_list(values, rows, "values")
    ]
    kinds = {type(label) for label in plain}
    if kinds not in ({str}, {int}):
        raise InvalidLabel(
            "labels must be all text or all integers",
            expected="str, or int",
            got=", ".join(sorted(kind.__name__ for kind in kinds)),
            remedy="Convert them first, for example with [str(label) for label in labels].",
        )
    if kinds == {str}:
        _check_text(plain, "labels", InvalidLabel)
    elif max(plain) > INT64.max or min(plain) < INT64.min:
        raise InvalidLabel(
            "an integer label does not fit in 64 bits", expected=f"{INT64.min} to {INT64.max}",
            got=f"{max(plain, key=abs):.3e}" if abs(max(plain, key=abs)) < 10**300 else "more",
            remedy="Use its text as the label.",
        )  # fmt: skip
    return plain


def check_numbers(values: Any, rows: int) -> Doubles:
    """Return one finite float64 per row."""
    try:
        given = as_doubles(values)
    except UNREADABLE as error:
        raise InputError(
            "values are not numbers", expected=f"float64 ({rows},)", got=error,
            remedy="Convert them to floats first.",
        ) from error  # fmt: skip
    if given.ndim == 0:
        given = np.full(rows, given)
    if given.shape != (rows,):
        raise length_mismatch("values", rows, f"shape {given.shape}")
    if not np.isfinite(given).all():
        raise NonFinite(
            "values must be finite", expected="no NaN or infinity",
            got=f"{given[~np.isfinite(given)][0]}", remedy="Take such rows out.",
        )  # fmt: skip
    return given + 0.0  # turns -0.0 into 0.0, which the catalog could not tell apart


def check_vectors(values: Any, rows: int, width: int) -> NDArray[np.float32]:
    """Return one finite float32 vector per row."""
    try:
        with np.errstate(all="ignore"):  # what does not fit is refused below
            given = np.ascontiguousarray(as_array(values), "<f4")
    except UNREADABLE as error:
        raise InputError(
            "values are not vectors", expected=f"float32 ({rows}, {width})", got=error,
            remedy="Pass a two-dimensional array, one row for each key.",
        ) from error  # fmt: skip
    if given.ndim == 1 and rows == 1:
        given = given[None]
    if given.ndim != 2 or given.shape[1] != width:
        raise DimensionMismatch(
            "values have the wrong shape", expected=f"({rows}, {width})", got=str(given.shape),
            remedy="Pass a two-dimensional array, one row for each key.",
        )  # fmt: skip
    if len(given) != rows:
        raise length_mismatch("values", rows, len(given))
    if not np.isfinite(given).all():
        raise NonFinite(
            "values must be finite float32 numbers", expected="no NaN or infinity", got="one",
            remedy="Take such rows out.",
        )  # fmt: skip
    return given


def check_mappings(values: Any, rows: int) -> list[Mapping[str, Any]]:
    """Return one dict of named arrays per row."""
    given = [values] * rows if isinstance(values, Mapping) else as_list(values, rows, "values")
    if not all(isinstance(value, Mapping) for value in given):
        raise InputError(
            "values must be dicts of named arrays", expected="a mapping per row",
            got=", ".join(sorted({type(value).__name__ for value in given})),
            remedy="Pass [{'name': array, ...}, ...].",
        )  # fmt: skip
    return given


def check_sources(sources: Any, rows: int) -> list[str | None]:
    """Return one source text or None per row."""
    if sources is None:
        return [None] * rows
    given = as_list(sources, rows, "sources")
    if not all(source is None or isinstance(source, str | PathLike) for source in given):
        wrong = next(each for each in given if not isinstance(each, str | PathLike | None))
        raise InputError(
            "sources must be text or paths", expected="str, a path or None", got=f"{wrong!r:.80}",
            remedy="Pass str(source), or None where there is none.",
        )  # fmt: skip
    given = [None if source is None else str(source) for source in given]
    _check_text([source for source in given if source is not None], "sources", InputError)
    return given


def check_thumbnails(thumbnails: Any, rows: int) -> list[bytes | None]:
    """Return one small encoded picture or None per row."""
    if thumbnails is None:
        return [None] * rows
    given = as_list(thumbnails, rows, "thumbnails")
    if not all(picture is None or isinstance(picture, bytes) for picture in given):
        raise InputError(
            "thumbnails must be encoded pictures", expected="bytes or None",
            got=", ".join(sorted({type(picture).__name__ for picture in given})),
            remedy="Encode the picture as PNG, JPEG or WebP first.",
        )  # fmt: skip
    return given


def check_metadata(
    metadata: Mapping[str, Any] | None, rows: int, known: Mapping[str, str]
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Judge metadata columns.

    Args:
        metadata: Column name -> one value per row, or one value for all.
        rows: Number of rows.
        known: Kind of every column that exists: ``str``, ``int``, ``float``, ``bool``.

    Returns:
        The columns as lists of plain Python values, and the kinds of the new ones.

    Raises:
        InvalidMetadata: A name or a value cannot be used, or its kind differs from before.
        LengthMismatch: A column of another length.
    """
    columns: dict[str, list[Any]] = {}
    fresh: dict[str, str] = {}
    if metadata is None:
        return columns, fresh
    if not isinstance(metadata, Mapping):
        raise InvalidMetadata(
            "metadata must be columns", expected="a mapping of name -> one value per row",
            got=type(metadata).__name__, remedy="Pass metadata={'split': ['train', ...]}.",
        )  # fmt: skip
    for name, given in metadata.items():
        _check_name(name)
        values = _column(name, given, rows)
        kind = known.get(name) or _kind(name, values)
        if kind is not None:
            columns[name] = [_convert(name, value, kind) for value in values]
            if name not in known:
                fresh[name] = kind
    if len(known) + len(fresh) > MAX_COLUMNS:
        raise InvalidMetadata(
            "there are too many metadata columns", expected=f"at most {MAX_COLUMNS}",
            got=len(known) + len(fresh), remedy="Keep rare facts together in one column of text.",
        )  # fmt: skip
    return columns, fresh


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or len(name) > 100 or not name.isprintable():
        raise InvalidMetadata(
            "a column name must be short printable text", expected="1 to 100 printable characters",
            got=f"{name!r:.120}", remedy="Choose another name.",
        )  # fmt: skip
    if name.lower() in RESERVED:
        raise InvalidMetadata(
            f"the column name {name!r} is taken",
            expected=f"none of {', '.join(RESERVED)}",
            got=repr(name),
            remedy="Choose another name.",
        )


def _column(name: str, given: Any, rows: int) -> list[Any]:
    if given is None or isinstance(given, str | bytes) or not isinstance(given, Iterable):
        given = [given] * rows
    return [
        value.item() if isinstance(value, np.generic) else value
        for value in as_list(given, rows, f"metadata column {name!r}")
    ]


def _kind(name: str, values: Sequence[Any]) -> str | None:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return "float"
    if len(kinds) > 1 or not kinds <= KINDS.keys():
        raise InvalidMetadata(
            f"the metadata column {name!r} has no single type",
            expected="str, int, float or bool",
            got=", ".join(sorted(kind.__name__ for kind in kinds)),
            remedy="Convert its values to one type; None stands for a missing one.",
        )
    return KINDS[kinds.pop()] if kinds else None


def _convert(name: str, value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "float" and type(value) is int and abs(value) < 1 << 1023:
        value = float(value)
    good = KINDS.get(type(value)) == kind
    if good and kind == "float":
        good = math.isfinite(value)
    if good and kind == "int":
        good = INT64.min <= value <= INT64.max
    if not good:
        raise InvalidMetadata(
            f"the metadata column {name!r} holds values of type {kind}",
            expected=f"finite {kind} values or None",
            got=f"{value!r:.80}",
            remedy="Convert the value, or use another column.",
        )
    if kind == "str":
        _check_text([value], f"the metadata column {name!r}", InvalidMetadata)
    return value + 0.0 if kind == "float" else value


def _check_text(texts: Iterable[str], what: str, error: type[InputError]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as problem:
            raise error(
                f"{what} hold text that is not valid Unicode", expected="text without surrogates",
                got=repr(text)[:80], remedy="Decode it with errors='replace' first.",
            ) from problem  # fmt: skip
