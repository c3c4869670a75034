"""CSV and TSV: one input per line, under a header."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, Unpack

from recollect.errors import EmptyBatch, InputError
from recollect.memory.sources.columns import ColumnOptions, Kind, choose, clean_labels
from recollect.memory.sources.labelled import LabelledInputs

# A leading zero means something (a postal code, a folder named 01): such a column stays text.
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_TRUTH = {"true": True, "false": False}


def read_csv(path: str | os.PathLike[str], **options: Unpack[ColumnOptions]) -> LabelledInputs:
    r"""Read a CSV file (``.tsv``: separated by tabs) in UTF-8 whose first line names the columns.

    Paths of images are relative to the file. A column is taken as integers, floats or truth values
    if every cell that is not empty is one; an empty cell of metadata is a missing value. See
    `recollect.memory.sources.columns` for the choice of columns.

    Args:
        path: The file.
        **options: See `ColumnOptions`.

    Raises:
        InputError: The file cannot be read, a line has too many or too few cells, or a column
            that is needed is not there.
        EmptyBatch: It holds no rows.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "asked.csv"
        >>> _ = file.write_text("text,label\nWhere is my card?,card\n")
        >>> inputs = read_csv(file)
        >>> inputs.inputs, inputs.labels, inputs.sources
        (['Where is my card?'], ['card'], ['asked.csv#0'])
    """
    file = Path(path)
    header, rows = _read(file)
    if not rows:
        raise EmptyBatch(f"{file.name} holds no rows", remedy="Write one line per input.")
    cells = {name: [row[at] for row in rows] for at, name in enumerate(header)}
    kinds = {name: _kind(column) for name, column in cells.items()}
    choice = choose(kinds, file.name, options)
    labels = None
    if choice.label is not None:
        values = [_value(cell, kinds[choice.label]) for cell in cells[choice.label]]
        labels = clean_labels(values, file.name, options)
    metadata = {
        kept: [_value(cell, kinds[name]) for cell in cells[name]]
        for name, kept in choice.metadata.items()
    }
    given = cells[choice.input]
    if choice.modality == "text":
        sources = [f"{file.name}#{row}" for row in range(len(rows))]
        return LabelledInputs(given, labels, sources, metadata, "text")
    inputs: list[Any] = [str(file.parent / name) if name else b"" for name in given]
    sources = [name or f"{file.name}#{row}" for row, name in enumerate(given)]
    return LabelledInputs(inputs, labels, sources, metadata, "image")


def _read(file: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = _lines(stream, file)
            header = _header(next(lines, (1, []))[1], file)
            return header, [_row(cells, line, header, file) for line, cells in lines]
    except OSError as error:
        raise InputError(
            f"{file} cannot be read", got=error.strerror, remedy="Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is not UTF-8", got=f"byte 0x{error.object[error.start]:02x}",
            remedy="Save it as UTF-8.",
        ) from error  # fmt: skip
    except csv.Error as error:
        raise InputError(
            f"{file} is no readable CSV", got=str(error), remedy="Check its quotes."
        ) from error


def _lines(stream: TextIO, file: Path) -> Iterator[tuple[int, list[str]]]:
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    reader = csv.reader(stream, delimiter=separator, strict=True)
    for cells in reader:
        if cells:  # an empty line is no row
            yield reader.line_num, cells


def _header(cells: list[str], file: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not names or not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"the first line of {file} must name every column, each differently",
            got=", ".join(map(repr, names[:20])) or "nothing",
            remedy="Add a header such as: text,label.",
        )
    return names


def _row(cells: list[str], line: int, header: list[str], file: Path) -> list[str]:
    if len(cells) != len(header):
        raise InputError(
            f"{file}, line {line}: a line has another number of cells than the header",
            expected=len(header),
            got=len(cells),
            remedy="Put cells that hold a separator into double quotes.",
        )
    return cells


def _kind(column: list[str]) -> Kind:
    filled = [cell for cell in column if cell]
    if not filled:
        return "text"
    if all(_INTEGER.fullmatch(cell) for cell in filled):
        return "int"
    if all(_FLOAT.fullmatch(cell) and not _zero_led(cell) for cell in filled):
        return "float"
    return "bool" if all(cell.lower() in _TRUTH for cell in filled) else "text"


def _zero_led(cell: str) -> bool:
    digits = cell.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()


def _value(cell: str, kind: Kind) -> Any:
    if not cell:
        return None
    if kind == "int":
        return int(cell)
    if kind == "float":
        return float(cell)
    return _TRUTH[cell.lower()] if kind == "bool" else cell
