"""Parquet: images as bytes, as ``{bytes, path}`` or as paths, or texts."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, Unpack, overload

from recollect.errors import EmptyBatch, InputError, MissingExtra
from recollect.memory.sources.columns import (
    ColumnOptions,
    Kind,
    choose,
    clean_column,
    clean_labels,
)
from recollect.memory.sources.labelled import LabelledInputs


def read_parquet(path: str | os.PathLike[str], **options: Unpack[ColumnOptions]) -> LabelledInputs:
    """Read a Parquet file with a column of images or texts; images are read lazily.

    An image is a binary cell, a struct of ``bytes`` and ``path`` as Hugging Face writes it, or
    text: a path relative to the file. See `recollect.memory.sources.columns` for the choice of
    columns.

    Args:
        path: The file.
        **options: See `ColumnOptions`.

    Raises:
        InputError: The file is no readable Parquet file, or a column that is needed is not there.
        EmptyBatch: It holds no rows.
        MissingExtra: pyarrow is not installed.
    """
    file = Path(path)
    with _opened(file) as parquet:
        schema = parquet.schema_arrow
        kinds = {field.name: arrow_kind(field.type) for field in schema}
        if len(kinds) < len(schema):
            raise InputError(
                f"{file.name} names two columns alike", got=", ".join(schema.names),
                remedy="Rename one of them.",
            )  # fmt: skip
        groups = [
            parquet.metadata.row_group(at).num_rows for at in range(parquet.metadata.num_row_groups)
        ]
        if not sum(groups):
            raise EmptyBatch(f"{file.name} holds no rows", remedy="Write one row per input.")
        choice = choose(kinds, file.name, options)
        eager = [*choice.metadata, *([choice.label] if choice.label is not None else [])]
        if choice.modality == "text":
            eager.append(choice.input)
        columns = _columns(parquet, eager, kinds)
    columns = {name: clean_column(cells, name, file.name) for name, cells in columns.items()}
    labels = None
    if choice.label is not None:
        labels = clean_labels(columns[choice.label], file.name, options)
    inputs: Sequence[Any]
    if choice.modality == "text":
        inputs = check_texts(columns[choice.input], file.name)
    else:
        inputs = _Images(file, choice.input, groups)
    return LabelledInputs(
        inputs,
        labels,
        [f"{file.name}#{row}" for row in range(sum(groups))],
        {kept: columns[name] for name, kept in choice.metadata.items()},
        choice.modality,
    )


def arrow_kind(kind: Any) -> Kind:
    """What a column of this Arrow type can be used for."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    tests: tuple[tuple[Kind, tuple[Any, ...]], ...] = (
        ("text", (types.is_string, types.is_large_string)),
        ("image", (types.is_binary, types.is_large_binary)),
        ("int", (types.is_integer,)),
        ("float", (types.is_floating,)),
        ("bool", (types.is_boolean,)),
        ("time", (types.is_timestamp, types.is_date)),
    )
    for name, checks in tests:
        if any(check(kind) for check in checks):
            return name
    if types.is_struct(kind):
        fields = {kind.field(at).name for at in range(kind.num_fields)}
        return "image" if "bytes" in fields else "other"
    return "other"


def check_texts(texts: list[Any], file: str) -> list[str]:
    """Texts to be encoded: none may be missing."""
    missing = next((row for row, text in enumerate(texts) if text is None), None)
    if missing is not None:
        raise InputError(
            f"{file}: row {missing} has no text", remedy="Take it out; rows count from 0."
        )
    return texts


def image_cell(cell: Any, folder: Path) -> bytes | str:
    """An image as an encoder takes it: bytes, or a path; empty bytes if there is none."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") if cell.get("bytes") is not None else cell.get("path")
    if isinstance(cell, str):
        return str(folder / cell)
    return cell if isinstance(cell, bytes) else b""


def _columns(parquet: Any, names: list[str], kinds: dict[str, Kind]) -> dict[str, list[Any]]:
    import pyarrow as pa

    table = parquet.read(columns=names)
    columns = {}
    for name in names:
        column = table.column(name)
        columns[name] = (column.cast(pa.string()) if kinds[name] == "time" else column).to_pylist()
    return columns


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """An open Parquet file; whatever pyarrow finds wrong with it becomes one error of ours."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(
            "reading Parquet needs pyarrow", remedy="Run: pip install 'recollect[arrow]'"
        ) from error
    try:
        with parquet.ParquetFile(file) as opened:
            yield opened
    except (InputError, MissingExtra):
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(
            f"{file} is no readable Parquet file",
            got=_first_line(error),
            remedy="Check the path, or write the file again.",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class _Images(Sequence[Any]):
    """The images of a Parquet file, one row group in memory at a time."""

    def __init__(self, file: Path, column: str, groups: list[int]) -> None:
        self._file, self._column = file, column
        self._ends = list(accumulate(groups))
        self._held: tuple[int, list[Any]] = (-1, [])

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        row = at + len(self) if at < 0 else at
        if not 0 <= row < len(self):
            raise IndexError(at)
        group = bisect_right(self._ends, row)
        start = self._ends[group - 1] if group else 0
        return image_cell(self._group(group)[row - start], self._file.parent)

    def _group(self, group: int) -> list[Any]:
        if self._held[0] != group:
            with _opened(self._file) as parquet:
                cells = parquet.read_row_group(group, columns=[self._column])
                self._held = (group, cells.column(self._column).to_pylist())
        return self._held[1]
