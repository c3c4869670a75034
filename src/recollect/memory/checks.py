"""What may be asked of a memory: keys, ids and options are judged here, before anything is touched.

What a row holds beside its key is judged in `row_checks`.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import (
    DimensionMismatch,
    DuplicateIds,
    EmptyBatch,
    InputError,
    InvalidParameter,
    LengthMismatch,
    NonFinite,
    ZeroVector,
)
from recollect.memory.schema import Configuration
from recollect.types import Doubles, Ids

INT64 = np.iinfo(np.int64)
MAX_PADDED = 1 << 24
"""Places of an answer that may stay empty because k is larger than the memory."""

# What NumPy, Python and torch raise when something cannot be turned into numbers.
UNREADABLE = (ValueError, TypeError, OverflowError, RuntimeError)


def as_array(values: Any) -> NDArray[Any]:
    """Return an array of bools, integers or floats, as they come.

    Raises:
        ValueError, TypeError, OverflowError, RuntimeError: They are no real numbers.
    """
    given = np.asarray(values)
    if given.dtype.kind == "O":
        given = given.astype(np.float64)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"{given.dtype} values")
    return given


def as_doubles(values: Any) -> Doubles:
    """Return float64 of any shape; raises as :func:`as_array`."""
    return as_array(values).astype(np.float64)


def check_keys(
    keys: ArrayLike, config: Configuration, *, dtype: str | None = None, what: str = "keys"
) -> NDArray[Any]:
    """Return keys as a C-contiguous ``(rows, dim)`` array, all finite.

    Args:
        keys: As given.
        config: What the memory is.
        dtype: float32, float16 or uint8; None means the memory's own.
        what: What they are called in an error.

    Raises:
        EmptyBatch: No rows.
        DimensionMismatch: Not two-dimensional, or of another width.
        NonFinite: NaN or infinity, also after conversion to the dtype.
        InputError: Not whole numbers from 0 to 255, where the dtype asks for these.
        ZeroVector: A zero key under the cosine metric.
    """
    given = _as_matrix(keys, config, what)
    if not len(given):
        raise EmptyBatch(
            f"there are no {what}", expected="at least one row", got="none",
            remedy="Leave the call out when there is nothing to do.",
        )  # fmt: skip
    name = config.dtype if dtype is None else dtype
    with np.errstate(all="ignore"):  # what does not fit is refused right below
        stored = np.ascontiguousarray(given, np.dtype(name).newbyteorder("<"))
    if stored.dtype.kind == "u":
        if not np.array_equal(stored, given):
            raise InputError(
                f"{what} do not fit the memory's dtype", expected="integers from 0 to 255",
                got=str(given.dtype), remedy="Quantize them first, or use dtype='float32'.",
            )  # fmt: skip
    else:
        finite = np.isfinite(stored).all(axis=1)
        if not finite.all():
            raise NonFinite(
                f"{what} must be finite {name} numbers", expected="no NaN or infinity",
                got=f"one in row {int(np.argmin(finite))}",
                remedy="Look at the encoder's input for that row.",
            )  # fmt: skip
    _refuse_zeros(stored, config, what)
    return stored


def check_queries(queries: ArrayLike, config: Configuration) -> NDArray[np.float32]:
    """Return queries as float32 ``(queries, dim)``; errors as in :func:`check_keys`."""
    return check_keys(queries, config, dtype="float32", what="queries")


def as_int(name: str, value: Any) -> int:
    """Return a whole number, of NumPy or Python, as int."""
    try:
        wanted: Any = str(value) if isinstance(value, bool) else value
        return operator.index(wanted)
    except TypeError as error:
        raise InvalidParameter(
            f"{name} must be an integer", expected="int", got=f"{value!r:.80}",
            remedy=f"Pass {name} as a whole number.",
        ) from error  # fmt: skip


def check_k(k: Any, queries: int, rows: int) -> int:
    """Return how many neighbors are wanted, at least 1.

    Args:
        k: As given.
        queries: Number of queries.
        rows: Number of rows; a larger k is padded, within reason.
    """
    count = as_int("k", k)
    if count < 1:
        raise InvalidParameter(
            "k is out of range", expected="an integer of at least 1", got=count,
            remedy="Ask for at least one neighbor.",
        )  # fmt: skip
    if count > rows and queries * count > MAX_PADDED:
        raise InvalidParameter(
            "k is far larger than the memory", expected=f"k up to its {rows} rows, or at most "
            f"{MAX_PADDED} places in the answer", got=f"k={count} for {queries} queries",
            remedy="Ask with k=len(memory) to get every row.",
        )  # fmt: skip
    return count


def check_timeout(timeout: Any) -> float:
    """Return seconds to wait, 0 or more."""
    try:
        seconds = float(timeout)
    except UNREADABLE:
        seconds = math.nan
    if isinstance(timeout, str) or not seconds >= 0:
        raise InvalidParameter(
            "timeout is out of range", expected="seconds, 0 or more", got=f"{timeout!r:.80}",
            remedy="Use 0 to fail at once, or math.inf to wait for ever.",
        )  # fmt: skip
    return seconds


def check_metric_weights(weights: Any) -> tuple[float, ...] | None:
    """Return factors of the Manhattan metric as floats; their number and range come later."""
    if weights is None:
        return None
    try:
        given = np.atleast_1d(as_doubles(weights))
    except UNREADABLE as error:
        raise InvalidParameter(
            "metric_weights are not numbers", expected="one number per dimension", got=error,
            remedy="Give every dimension a factor of 0 or more.",
        ) from error  # fmt: skip
    return tuple(given.tolist())


def _as_matrix(keys: ArrayLike, config: Configuration, what: str) -> NDArray[Any]:
    try:
        given = as_array(keys)
    except UNREADABLE as error:
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
    try:
        given = np.atleast_1d(np.asarray(ids))
    except UNREADABLE as error:  # lists of unequal length
        raise InvalidParameter(
            "ids must be integers of 0 or more", expected="int64 (rows,)", got=error,
            remedy="Pass one flat sequence.",
        ) from error  # fmt: skip
    if given.size == 0:
        given = given.astype(np.int64, casting="unsafe").reshape(-1)
    if given.ndim != 1 or given.dtype.kind not in "iu" or (given < 0).any():
        raise InvalidParameter(
            "ids must be integers of 0 or more",
            expected="int64 (rows,)",
            got=f"{given.dtype} {given.shape}",
            remedy="Keep names of your own in `sources` or `metadata`.",
        )
    if given.size and int(given.max()) > INT64.max:
        raise InvalidParameter(
            "an id is too large", expected=f"at most {INT64.max}", got=str(given.max()),
            remedy="Leave `ids` out to have them counted for you.",
        )  # fmt: skip
    if rows is not None and len(given) != rows:
        raise length_mismatch("ids", rows, len(given))
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
            result: Any = _as_integers(exclude, 1, 2)
        else:
            result = [np.atleast_1d(_as_integers(np.asarray(ids), 0, 1)) for ids in exclude]
    except UNREADABLE as error:
        raise InvalidParameter(
            "exclude must hold row ids", expected="integers (queries,) or (queries, m), or one "
            "sequence of ids for each query", got=str(error),
            remedy="Use -1, or an empty sequence, where nothing is excluded.",
        ) from error  # fmt: skip
    if len(result) != queries:
        raise length_mismatch("exclude", queries, len(result))
    return result  # type: ignore[no-any-return]


def _as_integers(ids: NDArray[Any], least: int, most: int) -> Ids:
    if not least <= ids.ndim <= most:
        raise TypeError(f"{ids.ndim} dimensions")
    if ids.size and (ids.dtype.kind not in "iu" or ids.max() > INT64.max):
        raise TypeError(f"{ids.dtype} numbers")
    return ids.astype(np.int64)


def length_mismatch(what: str, expected: int, got: object) -> LengthMismatch:
    """Say that a column has another length than the rows it is for."""
    return LengthMismatch(
        f"{what} and keys or ids differ in length",
        expected=f"{expected} {what}",
        got=got,
        remedy="Give one entry for each row.",
    )
