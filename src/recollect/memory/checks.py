"""What may enter a memory: every input is judged here, once, before anything is touched."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import (
    DimensionMismatch,
    DuplicateIds,
    EmptyBatch,
    InputError,
    InvalidLabel,
    InvalidMetadata,
    InvalidParameter,
    LengthMismatch,
    NonFinite,
    ZeroVector,
)
from recollect.memory.schema import Configuration
from recollect.types import Doubles, Ids

INT64 = np.iinfo(np.int64)
KINDS: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str"}
RESERVED = ("id", "label", "value", "weight", "source")


def check_keys(keys: ArrayLike, config: Configuration, *, what: str = "keys") -> NDArray[Any]:
    """Return keys as a C-contiguous ``(rows, dim)`` array of the memory's dtype, all finite.

    Raises:
        EmptyBatch: No rows.
        DimensionMismatch: Not two-dimensional, or of another width.
        NonFinite: NaN or infinity, also after conversion to the memory's dtype.
        ZeroVector: A zero key under the cosine metric.
    """
    given = _as_matrix(keys, config, what)
    if not len(given):
        raise EmptyBatch(
            f"there are no {what}", expected="at least one row", got="none",
            remedy="Leave the call out when there is nothing to do.",
        )  # fmt: skip
    dtype = config.key_dtype
    if dtype.kind == "u":
        stored = given.astype(dtype)
        if not np.array_equal(stored, given):
            raise InputError(
                f"{what} do not fit the memory's dtype", expected="integers from 0 to 255",
                got=str(given.dtype), remedy="Quantize them first, or use dtype='float32'.",
            )  # fmt: skip
        _refuse_zeros(stored, config, what)
        return np.ascontiguousarray(stored)
    with np.errstate(over="ignore", under="ignore"):
        stored = np.ascontiguousarray(given, dtype)
    finite = np.isfinite(stored).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise NonFinite(
            f"{what} must be finite {config.dtype} numbers", expected="no NaN or infinity",
            got=f"one in row {row}", remedy="Look at the encoder's input for that row.",
        )  # fmt: skip
    _refuse_zeros(stored, config, what)
    return stored


def check_queries(queries: ArrayLike, config: Configuration) -> NDArray[np.float32]:
    """Return queries as float32 ``(queries, dim)``; errors as in :func:`check_keys`."""
    return check_keys(queries, replace(config, dtype="float32"), what="queries")


def as_int(name: str, value: Any) -> int:
    """Return a whole number, of NumPy or Python, as int."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise InvalidParameter(f"{name} must be an integer", got=repr(value)) from error


def check_k(k: Any) -> int:
    """Return how many neighbors are wanted, at least 1."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InvalidParameter(
            "k is out of range", expected="an integer of at least 1", got=repr(k),
            remedy="Ask for at least one neighbor.",
        )  # fmt: skip
    return int(k)


def _as_matrix(keys: ArrayLike, config: Configuration, what: str) -> NDArray[Any]:
    try:
        given = np.asarray(keys)
        if given.dtype.kind not in "biuf":
            given = np.asarray(keys, np.float64)
    except (ValueError, TypeError) as error:
        raise DimensionMismatch(
            f"{what} are not a table of numbers", expected=f"(rows, {config.dim})", got=str(error),
            remedy="Pass a two-dimensional array, one row for each item.",
        ) from error  # fmt: skip
    if given.ndim == 2 and given.shape[1] == config.dim:
        return given
    if given.ndim == 2 and 0 in given.shape and len(given) == 0:
        return given.reshape(0, config.dim)
    if given.ndim == 1 and given.size == 0:
        return given.reshape(0, config.dim)
    raise DimensionMismatch(
        f"{what} have the wrong shape",
        expected=f"(rows, {config.dim}) for {config.encoder or 'this memory'}",
        got=str(given.shape),
        remedy="Encode with the memory's encoder, or start a new memory for another width.",
    )


def _refuse_zeros(keys: NDArray[Any], config: Configuration, what: str) -> None:
    if config.metric != "cosine":
        return
    zero = np.logical_not(keys.any(axis=1))
    if zero.any():
        raise ZeroVector(
            f"{what} hold a zero vector, which has no direction",
            expected="rows with a direction under the cosine metric",
            got=f"zeros in row {int(np.argmax(zero))}",
            remedy="Leave the row out, or use metric='euclidean'.",
        )


def check_ids(ids: Any, rows: int | None = None) -> Ids:
    """Return ids as int64, distinct and not negative.

    Args:
        ids: One id or many.
        rows: How many there must be, or None.

    Raises:
        InvalidParameter: Not integers, or negative.
        LengthMismatch: Another number than ``rows``.
        DuplicateIds: An id twice.
    """
    given = np.atleast_1d(np.asarray(ids))
    if given.size == 0:
        given = given.astype(np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu" or (given < 0).any():
        raise InvalidParameter(
            "ids must be integers of 0 or more",
            expected="int64 (rows,)",
            got=f"{given.dtype} {given.shape}",
            remedy="Keep names of your own in `sources` or `metadata`.",
        )
    if given.size and int(given.max()) > INT64.max:
        raise InvalidParameter(
            "an id is too large", expected=f"at most {INT64.max}", got=str(given.max())
        )
    if rows is not None and len(given) != rows:
        raise _length("ids", rows, len(given))
    result = given.astype(np.int64)
    unique, counts = np.unique(result, return_counts=True)
    if len(unique) != len(result):
        raise DuplicateIds(
            "an id is given twice",
            expected="each id once",
            got=f"id {unique[np.argmax(counts > 1)]} {counts.max()} times",
            remedy="Give each row one id; leave `ids` out to have them counted for you.",
        )
    return result


def check_exclusions(exclude: Any, queries: int) -> Ids | list[Ids] | None:
    """Return the ids that each query must not find: None, an int64 array, or a list of them.

    Args:
        exclude: ``(queries,)`` or ``(queries, m)`` integers, -1 for nothing, or one sequence of
            ids for each query.
        queries: Number of queries.
    """
    if exclude is None:
        return None
    try:
        if isinstance(exclude, np.ndarray) and exclude.dtype != object:
            result: Any = _as_integers(exclude)
        else:
            result = [np.atleast_1d(_as_integers(np.asarray(ids))) for ids in exclude]
    except (ValueError, TypeError) as error:
        raise InvalidParameter(
            "exclude must hold row ids", expected="integers (queries,) or (queries, m), or one "
            "sequence of ids for each query", got=str(error),
            remedy="Use -1, or an empty sequence, where nothing is excluded.",
        ) from error  # fmt: skip
    if len(result) != queries:
        raise _length("exclude", queries, len(result))
    return result  # type: ignore[no-any-return]


def _as_integers(ids: NDArray[Any]) -> Ids:
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(f"{ids.dtype} numbers")
    return ids.astype(np.int64)


def check_weights(weights: Any, rows: int) -> Doubles:
    """Return one finite weight of 0 or more per row; None means 1, a number means for all."""
    if weights is None:
        return np.ones(rows)
    try:
        given = np.asarray(weights, np.float64)
    except (ValueError, TypeError) as error:
        raise InvalidParameter("weights are not numbers", got=str(error)) from error
    if given.ndim == 0:
        given = np.full(rows, given)
    if given.shape != (rows,):
        raise _length("weights", rows, len(given))
    if not np.isfinite(given).all():
        raise NonFinite("weights must be finite", got=f"{given[~np.isfinite(given)][0]}")
    if (given < 0).any():
        raise InvalidParameter("weights must not be negative", expected=">= 0", got=given.min())
    return given + 0.0  # turns -0.0 into 0.0


def check_labels(values: Any, rows: int) -> list[str] | list[int]:
    """Return labels as Python str or int, all of one type.

    Raises:
        InvalidLabel: Another type, mixed types, or text that is not valid Unicode.
        LengthMismatch: Another number than ``rows``.
    """
    if isinstance(values, str | int | np.str_ | np.integer):
        values = [values] * rows
    labels = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if len(labels) != rows:
        raise _length("values", rows, len(labels))
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
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
        raise InvalidLabel("an integer label does not fit in 64 bits", got=str(max(plain, key=abs)))
    return plain


def check_numbers(values: Any, rows: int) -> Doubles:
    """Return one finite float64 per row."""
    try:
        given = np.asarray(values, np.float64)
    except (ValueError, TypeError) as error:
        raise InputError("values are not numbers", expected="float64 (rows,)", got=error) from error
    if given.ndim == 0:
        given = np.full(rows, given)
    if given.shape != (rows,):
        raise _length("values", rows, f"shape {given.shape}")
    if not np.isfinite(given).all():
        raise NonFinite("values must be finite", got=f"{given[~np.isfinite(given)][0]}")
    return given + 0.0  # turns -0.0 into 0.0, which the catalog could not tell apart


def check_vectors(values: Any, rows: int, width: int) -> NDArray[np.float32]:
    """Return one finite float32 vector per row."""
    try:
        given = np.ascontiguousarray(values, "<f4")
    except (ValueError, TypeError) as error:
        raise InputError(
            "values are not vectors", expected=f"({rows}, {width})", got=error
        ) from error
    if given.ndim == 1 and rows == 1:
        given = given[None]
    if given.ndim != 2 or given.shape[1] != width:
        raise DimensionMismatch(
            "values have the wrong shape", expected=f"({rows}, {width})", got=str(given.shape)
        )
    if len(given) != rows:
        raise _length("values", rows, len(given))
    if not np.isfinite(given).all():
        raise NonFinite("values must be finite", expected="no NaN or infinity", got="one")
    return given


def check_sources(sources: Any, rows: int) -> list[str | None]:
    """Return one source text or None per row."""
    if sources is None:
        return [None] * rows
    given = [None if source is None else str(source) for source in sources]
    if isinstance(sources, str) or len(given) != rows:
        raise _length("sources", rows, 1 if isinstance(sources, str) else len(given))
    _check_text([source for source in given if source is not None], "sources", InputError)
    return given


def check_thumbnails(thumbnails: Any, rows: int) -> list[bytes | None]:
    """Return one small encoded picture or None per row."""
    if thumbnails is None:
        return [None] * rows
    given = list(thumbnails)
    if len(given) != rows:
        raise _length("thumbnails", rows, len(given))
    if not all(picture is None or isinstance(picture, bytes) for picture in given):
        raise InputError("thumbnails must be encoded pictures", expected="bytes or None")
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
    return columns, fresh


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or len(name) > 100 or not name.isprintable():
        raise InvalidMetadata("a column name must be short printable text", got=repr(name)[:120])
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
    values = [
        value.item() if isinstance(value, np.generic) else value
        for value in (given.tolist() if isinstance(given, np.ndarray) else given)
    ]
    if len(values) != rows:
        raise _length(f"metadata column {name!r}", rows, len(values))
    return values


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
    if kind == "float" and type(value) is int:
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


def _length(what: str, expected: int, got: object) -> LengthMismatch:
    return LengthMismatch(
        f"{what} and keys or ids differ in length",
        expected=f"{expected} {what}",
        got=got,
        remedy="Give one entry for each row.",
    )


def check_mappings(values: Any, rows: int) -> list[Mapping[str, Any]]:
    """Return one dict of named arrays per row."""
    given = [values] if isinstance(values, Mapping) else list(values)
    if len(given) != rows:
        raise _length("values", rows, len(given))
    if not all(isinstance(value, Mapping) for value in given):
        raise InputError("values must be dicts of named arrays", expected="a mapping per row")
    return given
