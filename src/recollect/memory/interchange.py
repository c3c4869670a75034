"""Rows as Arrow tables and Parquet files, bit for bit, and back.

A table has the columns ``id`` (int64), ``key`` (fixed-size list of float32, float16 or uint8),
``label`` (text or int64) or ``value`` (float64, or fixed-size list of float32), ``weight``
(float64), ``source`` (text), one column per metadata column and, where rows have them,
``thumbnail`` (bytes). What holds for the memory as a whole stands as JSON in the schema's metadata
under ``recollect``, with the ids that must not be used again.

Tables that Recollect did not write can be read too: see `recollect.memory.foreign`.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import (
    CorruptMemory,
    InputError,
    InvalidMetadata,
    InvalidParameter,
    MissingExtra,
    RecollectError,
    UnsupportedFormat,
    WriteFailed,
    ZeroVector,
)
from recollect.memory import foreign
from recollect.memory.arrow_columns import (
    KEY_TYPES,
    as_doubles,
    as_ids,
    as_labels,
    as_matrix,
    as_metadata,
    as_texts,
)
from recollect.memory.schema import Configuration
from recollect.types import Rows

FORMAT = 2
_ABOUT = b"recollect"
_ABOUT_LIMIT = 16 * 2**20
_GROUP_BYTES = 64 * 2**20  # of keys in one row group of a Parquet file
# Entries of ``about`` that make a memory; without a default stand those a caller must give.
_FACTS = tuple(field.name for field in fields(Configuration))
# A metadata column of such a name would hide a column of the table itself.
_OWN = frozenset(("id", "key", "label", "value", "weight", "source", "thumbnail"))
_OWN_1 = _OWN - {"thumbnail"}  # in format 1
_REWRITE = "Export the memory again, and copy the file whole."


def to_arrow(
    rows: Rows,
    *,
    about: Mapping[str, Any],
    thumbnails: Sequence[bytes | None] = (),
    retired: Sequence[int] = (),
) -> Any:
    """Turn rows into an Arrow table that `from_arrow` gives back bit for bit.

    Args:
        rows: Rows whose values are labels, numbers or vectors.
        about: JSON-able facts about the memory, named as the fields of its configuration; ``dim``,
            ``metric`` and ``value`` are required, and ``metadata`` (column name -> ``"str"``,
            ``"int"``, ``"float"`` or ``"bool"``) tells the types of columns whose values are all
            missing. Other entries are carried along.
        thumbnails: The encoded picture of each row or None, or nothing if there are none.
        retired: Ids that were used and must not be used again.

    Returns:
        ``pyarrow.Table`` with one row per row, in the order of ``rows``.

    Raises:
        InvalidParameter: ``about`` is incomplete or cannot be written as JSON, or the values are
            named arrays, which no table can hold.
        MissingExtra: pyarrow is not installed.
    """
    pa = _pyarrow()
    kinds = _metadata_kinds(rows.metadata, about.get("metadata") or {})
    facts = dict.fromkeys(_FACTS) | dict(about)
    facts |= {"format": FORMAT, "dtype": rows.keys.dtype.name, "metadata": kinds}
    pictured = any(picture is not None for picture in thumbnails)
    facts |= {"thumbnails": pictured, "retired": list(retired)}
    if rows.values.ndim == 2:
        facts["value_dim"] = rows.values.shape[1]
    _check_about(facts, InvalidParameter)
    if facts["value"] == "arrays":
        raise InvalidParameter(
            "named arrays cannot be kept in a table",
            expected="labels, numbers or vectors",
            remedy="Copy the folder of the memory instead.",
        )
    name = "label" if facts["value"] == "label" else "value"
    columns = {
        "id": pa.array(rows.ids, pa.int64()),
        "key": _matrix(pa, rows.keys),
        name: _values(pa, rows.values),
        "weight": pa.array(rows.weights, pa.float64()),
        "source": pa.array(rows.sources, pa.string()),
    }
    arrow_kinds = {
        "str": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
    }
    if pictured:
        columns["thumbnail"] = pa.array(thumbnails, pa.binary())
    for column, kind in kinds.items():
        columns[_column_name(column, _OWN)] = pa.array(rows.metadata[column], arrow_kinds[kind])
    try:
        text = json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(
            "`about` cannot be written as JSON", got=str(error), remedy="Pass plain values."
        ) from error
    return pa.table(columns).replace_schema_metadata({_ABOUT: text.encode()})


def from_arrow(table: Any, *, valued: bool = True) -> tuple[Rows, dict[str, Any]]:
    """Check a table column by column and turn it into rows.

    Args:
        table: A ``pyarrow.Table`` of `to_arrow`, or of anyone else: see `recollect.memory.foreign`.
        valued: False if a foreign table may lack labels and numbers.

    Returns:
        The rows, and the facts about the memory: every field of its configuration and ``metadata``
        are there and agree with the rows; ``thumbnails`` holds the encoded picture of each row or
        None, or is None itself, and ``retired`` the ids that must not be used again.

    Raises:
        CorruptMemory: The table says it is Recollect's, and is not as it was written.
        UnsupportedFormat: A newer version wrote it.
        InputError: A foreign table lacks a column or holds one that cannot be used.
        MissingExtra: pyarrow is not installed.
    """
    pa = _pyarrow()
    if not isinstance(table, pa.Table):
        raise InvalidParameter(
            "this is no Arrow table", expected="pyarrow.Table", got=type(table).__name__,
            remedy="Convert it, for example by pyarrow.Table.from_pandas.",
        )  # fmt: skip
    own = _ABOUT in (table.schema.metadata or {})
    error, remedy = (CorruptMemory, _REWRITE) if own else (InputError, "Write the table again.")
    with _translated(error, "the table is malformed", remedy):
        table.validate(full=True)
        if own:
            facts = _about(table.schema.metadata[_ABOUT])
            rows = _own_rows(table, facts)
            facts["thumbnails"] = _pictures(table) if facts["thumbnails"] else None
            if not set(facts["retired"]).isdisjoint(rows.ids.tolist()):
                raise CorruptMemory("an id is used and retired at once", remedy=_REWRITE)
        else:
            rows, facts = foreign.read(table, valued=valued)
            facts |= {"thumbnails": None, "retired": []}
        _refuse_zeros(rows, facts)
        return rows, facts


def to_parquet(rows: Rows, path: str | os.PathLike[str], **how: Any) -> None:
    """Write rows to a Parquet file in one step: the whole file appears, or none.

    Arguments as in `to_arrow`.

    Raises:
        WriteFailed: The disk refused; a file that was there before is as it was.
    """
    table = to_arrow(rows, **how)
    from pyarrow import parquet

    target = Path(path)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    # Dictionaries are for text: floats shall pass through untouched.
    texts = [field.name for field in table.schema if str(field.type) == "string"]
    try:
        try:
            with draft.open("xb") as stream:
                parquet.write_table(
                    table,
                    stream,
                    compression="zstd",
                    use_dictionary=texts,
                    row_group_size=max(
                        1, _GROUP_BYTES // (rows.keys.shape[1] * rows.keys.itemsize)
                    ),
                )
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(target)
            _sync_folder(target.parent)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    except OSError as error:
        raise WriteFailed(
            f"{target} cannot be written",
            got=error.strerror or str(error),
            remedy="Check that the folder exists, may be written to and has space left.",
        ) from error


def from_parquet(
    path: str | os.PathLike[str], *, valued: bool = True
) -> tuple[Rows, dict[str, Any]]:
    """Read a Parquet file of `to_parquet`, or of anyone else; see `from_arrow`.

    Raises:
        InputError: There is no such file, or it is no readable Parquet file.
    """
    _pyarrow()
    from pyarrow import parquet

    file = Path(path)
    if not file.is_file():
        raise InputError(f"there is no file at {file}", remedy="Check the path.")
    problem = f"{file} is no readable Parquet file"
    with _translated(InputError, problem, _REWRITE), parquet.ParquetFile(file) as opened:
        table = opened.read()
    return from_arrow(table, valued=valued)


# Facts about the memory


def _about(raw: bytes) -> dict[str, Any]:
    """The facts in the schema's metadata, checked before anything is built from them."""
    if len(raw) > _ABOUT_LIMIT:
        raise CorruptMemory(
            "the description of the memory is too long",
            expected=f"at most {_ABOUT_LIMIT} bytes", got=len(raw), remedy=_REWRITE,
        )  # fmt: skip
    try:
        facts = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CorruptMemory(
            "the description of the memory is no JSON", got=str(error), remedy=_REWRITE
        ) from error
    if not isinstance(facts, dict):
        raise CorruptMemory(
            "the description of the memory is malformed", expected="an object", remedy=_REWRITE
        )
    # Format 1 knew neither.
    facts = {"thumbnails": False, "retired": []} | facts
    _check_about(facts, CorruptMemory)
    return facts


def _check_about(facts: Mapping[str, Any], error: type[RecollectError]) -> None:
    """Refuse facts that describe no memory, before anything is built from them."""
    number = facts.get("format")
    if type(number) is int and number > FORMAT:
        raise UnsupportedFormat(
            "a newer version wrote this table", expected=f"format 1 to {FORMAT}", got=number,
            remedy="Update recollect: pip install --upgrade recollect.",
        )  # fmt: skip
    kinds = facts.get("metadata")
    spec, encoder = facts.get("encoder_spec"), facts.get("encoder")
    for name, sound, expected in (
        ("format", type(number) is int and number >= 1, f"an integer from 1 to {FORMAT}"),
        ("metadata", _are_kinds(kinds), "column names with str, int, float or bool"),
        ("encoder_spec", spec is None or isinstance(spec, dict), "an object or null"),
        ("encoder", encoder is None or isinstance(encoder, str), "text or null"),
        ("thumbnails", isinstance(facts.get("thumbnails"), bool), "true or false"),
        ("retired", _are_ids(facts.get("retired")), "integers of 0 or more"),
    ):
        if not sound:
            raise error(
                f"the memory is described by an impossible {name!r}",
                expected=expected,
                got=repr(facts.get(name))[:80],
                remedy=_REWRITE,
            )
    weights = facts.get("metric_weights")
    try:
        told = {name: facts.get(name) for name in _FACTS}
        if isinstance(weights, list):
            told["metric_weights"] = tuple(weights)
        Configuration(**told)  # type: ignore[arg-type]
    except (InputError, TypeError, ValueError, OverflowError) as found:
        raise error(
            "the memory is described as none can be", got=str(found)[:200], remedy=_REWRITE
        ) from found


def _are_kinds(kinds: object) -> bool:
    # A list among the values cannot be looked up in a set, so each is asked for its type first.
    return isinstance(kinds, dict) and all(
        isinstance(kind, str) and kind in {"str", "int", "float", "bool"} for kind in kinds.values()
    )


def _are_ids(ids: object) -> bool:
    return isinstance(ids, list) and all(type(each) is int and 0 <= each < 1 << 63 for each in ids)


def _metadata_kinds(
    metadata: Mapping[str, Sequence[Any]], told: Mapping[str, str]
) -> dict[str, str]:
    return {name: told.get(name) or _kind_of(column, name) for name, column in metadata.items()}


def _kind_of(column: Sequence[Any], name: str) -> str:
    types = {type(value) for value in column if value is not None}
    for kinds, kind in (
        ({bool}, "bool"),
        ({int}, "int"),
        ({int, float}, "float"),
        ({str}, "str"),
    ):
        if types <= kinds:
            return kind if types else "str"
    raise InvalidMetadata(
        f"metadata column {name!r} holds several types",
        got=", ".join(sorted(kind.__name__ for kind in types)),
        remedy="Keep one type per column.",
    )


def _column_name(name: str, own: frozenset[str]) -> str:
    return f"metadata.{name}" if name in own or name.startswith("metadata.") else name


# Columns


def _matrix(pa: Any, matrix: NDArray[Any]) -> Any:
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _values(pa: Any, values: NDArray[Any]) -> Any:
    if values.ndim == 2:
        return _matrix(pa, values)
    if values.dtype == object:
        return pa.array(values.tolist(), pa.string())
    return pa.array(values)


def _own_rows(table: Any, facts: dict[str, Any]) -> Rows:
    """Rows of a table whose facts are sound; every column must be there and fit them."""
    name = "label" if facts["value"] == "label" else "value"
    own = _OWN if facts["format"] > 1 else _OWN_1
    stored = {column: _column_name(column, own) for column in facts["metadata"]}
    pictures = ["thumbnail"] if facts["thumbnails"] else []
    wanted = ["id", "key", name, "weight", "source", *pictures, *stored.values()]
    if sorted(table.column_names) != sorted(wanted):
        raise CorruptMemory(
            "the table has other columns than it was written with",
            expected=", ".join(wanted),
            got=", ".join(table.column_names),
            remedy="Remove the schema's metadata to read it as a foreign table.",
        )
    keys = as_matrix(table.column("key"), "key")
    if keys.shape[1] != facts["dim"] or keys.dtype != KEY_TYPES[facts["dtype"]]:
        raise CorruptMemory(
            "the keys are not as the memory is described",
            expected=f"{facts['dtype']} of width {facts['dim']}",
            got=f"{keys.dtype} of width {keys.shape[1]}",
            remedy=_REWRITE,
        )
    column = table.column(name)
    values: NDArray[Any]
    if facts["value"] == "label":
        values = as_labels(column, name)
    elif facts["value"] == "number":
        values = as_doubles(column, name)
    else:
        values = as_matrix(column, name)
        if values.shape[1] != facts["value_dim"]:
            raise CorruptMemory(
                "the values are not as the memory is described",
                expected=f"vectors of width {facts['value_dim']}",
                got=f"width {values.shape[1]}",
                remedy=_REWRITE,
            )
    return Rows(
        as_ids(table.column("id")),
        keys,
        values,
        as_doubles(table.column("weight"), "weight", least=0.0),
        as_texts(table.column("source"), "source"),
        {
            column: as_metadata(table.column(stored[column]), column, kind)
            for column, kind in facts["metadata"].items()
        },
    )


def _pictures(table: Any) -> list[bytes | None]:
    column = table.column("thumbnail")
    if str(column.type) != "binary":
        raise CorruptMemory(
            "the column 'thumbnail' holds no pictures",
            expected="bytes",
            got=str(column.type),
            remedy=_REWRITE,
        )
    pictures: list[bytes | None] = column.to_pylist()
    return pictures


def _refuse_zeros(rows: Rows, facts: dict[str, Any]) -> None:
    zero = ~rows.keys.any(axis=1)
    if facts["metric"] == "cosine" and zero.any():
        raise ZeroVector(
            "a key is zero and has no direction", expected="keys that cosine can compare",
            got=f"zeros in row {int(zero.argmax())}", remedy="Take such rows out.",
        )  # fmt: skip


# Surroundings


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtra(
            "Arrow and Parquet need pyarrow", remedy="Run: pip install 'recollect[arrow]'"
        ) from error
    return pa


@contextmanager
def _translated(error: type[RecollectError], problem: str, remedy: str) -> Iterator[None]:
    """Whatever pyarrow and numpy find wrong becomes one error of ours."""
    import pyarrow as pa

    try:
        yield
    except InputError as found:
        if error is CorruptMemory:
            # What a column check calls bad input is, in a table of our own, damage.
            raise CorruptMemory(
                found.problem, expected=found.expected, got=found.got, remedy=remedy
            ) from found
        raise
    except RecollectError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as found:
        first = (str(found).strip().splitlines() or [type(found).__name__])[0]
        raise error(problem, got=first[:200], remedy=remedy) from found


def _sync_folder(folder: Path) -> None:
    """Make the new name last, where the system can open folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
