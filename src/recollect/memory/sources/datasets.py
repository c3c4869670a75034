"""Hugging Face data sets that were saved to disk. Nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack, overload

from recollect.errors import EmptyBatch, InputError, InvalidLabel, MissingExtra
from recollect.memory.sources.columns import (
    ColumnOptions,
    Kind,
    choose,
    clean_column,
    clean_labels,
)
from recollect.memory.sources.labelled import LabelledInputs
from recollect.memory.sources.parquet import arrow_kind, check_texts, image_cell


def read_dataset(
    path: str | os.PathLike[str], *, split: str | None = None, **options: Unpack[ColumnOptions]
) -> LabelledInputs:
    """Read a data set that ``save_to_disk`` wrote; images are read lazily.

    A column of class labels gives their names. See `recollect.memory.sources.columns` for the
    choice of columns.

    Args:
        path: The folder.
        split: Which split, if it holds several.
        **options: See `ColumnOptions`.

    Raises:
        InputError: The folder holds no such data set, or it is not clear which split is meant.
        EmptyBatch: The split holds no rows.
        MissingExtra: ``datasets`` is not installed.
    """
    folder = Path(path)
    dataset = _split(_load(folder), split, folder)
    name = f"{folder.resolve().name}/{split}" if split else folder.resolve().name
    if not len(dataset):
        raise EmptyBatch(f"{name} holds no rows", remedy="Write one row per input.")
    kinds = {column: _kind(feature) for column, feature in dataset.features.items()}
    choice = choose(kinds, name, options)
    eager = [*choice.metadata, *([choice.label] if choice.label is not None else [])]
    if choice.modality == "text":
        eager.append(choice.input)
    columns = {column: _column(dataset, column, kinds[column], name) for column in eager}
    inputs: Sequence[Any]
    if choice.modality == "text":
        inputs = check_texts(columns[choice.input], name)
    else:
        inputs = _Images(dataset, choice.input, folder)
    return LabelledInputs(
        inputs,
        None if choice.label is None else clean_labels(columns[choice.label], name, options),
        [f"{name}#{row}" for row in range(len(dataset))],
        {kept: columns[column] for column, kept in choice.metadata.items()},
        choice.modality,
    )


def is_dataset(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def _load(folder: Path) -> Any:
    if not is_dataset(folder):
        raise InputError(
            f"{folder} is no Hugging Face data set on disk",
            expected="a folder that save_to_disk wrote",
            remedy="Write it with dataset.save_to_disk(folder).",
        )
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra(
            "reading a Hugging Face data set needs the library datasets",
            remedy="Run: pip install 'recollect[datasets]'",
        ) from error
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # the library lets errors of many others through
        raise InputError(
            f"the data set at {folder} cannot be read",
            got=(str(error).strip().splitlines() or [type(error).__name__])[0][:200],
            remedy="Write it again with dataset.save_to_disk(folder).",
        ) from error


def _split(loaded: Any, split: str | None, folder: Path) -> Any:
    if not isinstance(loaded, dict):
        if split is not None:
            raise InputError(
                f"the data set at {folder} has no splits", remedy="Leave the split out."
            )
        return loaded
    if split is None and len(loaded) == 1:
        return next(iter(loaded.values()))
    if split not in loaded:
        raise InputError(
            f"the data set at {folder} has several splits"
            if split is None
            else f"the data set at {folder} has no split {split!r}",
            expected=f"one of {', '.join(loaded)}",
            remedy=f"Name one: split={next(iter(loaded))!r}, or --split {next(iter(loaded))}.",
        )
    return loaded[split]


def _kind(feature: Any) -> Kind:
    import datasets

    if isinstance(feature, datasets.Image):
        return "image"
    if isinstance(feature, datasets.ClassLabel):
        return "text"
    return arrow_kind(feature.pa_type) if isinstance(feature, datasets.Value) else "other"


def _column(dataset: Any, column: str, kind: Kind, name: str) -> list[Any]:
    import datasets

    values = list(dataset.select_columns([column]).with_format(None)[:][column])
    feature = dataset.features[column]
    if isinstance(feature, datasets.ClassLabel):
        return [_class_name(feature, value, row, name) for row, value in enumerate(values)]
    if kind == "time":
        return [None if value is None else str(value) for value in values]
    return clean_column(values, column, name)


def _class_name(feature: Any, code: int | None, row: int, name: str) -> str | None:
    if code is None or code == -1:  # the library's mark for a row without a label
        return None
    if not 0 <= code < len(feature.names):
        raise InvalidLabel(
            f"{name}: the class of row {row} has no name",
            expected=f"0 to {len(feature.names) - 1}",
            got=code,
            remedy="Correct the data set's features.",
        )
    return str(feature.names[code])


class _Images(Sequence[Any]):
    """The images of a data set, undecoded, read from its memory map when asked for."""

    def __init__(self, dataset: Any, column: str, folder: Path) -> None:
        import datasets

        only = dataset.select_columns([column]).with_format(None)
        if isinstance(dataset.features[column], datasets.Image):
            only = only.cast_column(column, datasets.Image(decode=False))
        self._dataset, self._column, self._folder = only, column, folder

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...
    def __getitem__(self, at: int | slice) -> Any:
        cells = self._dataset[at][self._column]
        if isinstance(at, slice):
            return [image_cell(cell, self._folder) for cell in cells]
        return image_cell(cells, self._folder)
