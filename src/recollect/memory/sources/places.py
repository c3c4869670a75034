"""Find out what is at a path, and read it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from recollect.errors import InputError, InvalidParameter
from recollect.memory.sources.columns import ColumnOptions, clean_labels
from recollect.memory.sources.csv_files import read_csv
from recollect.memory.sources.datasets import is_dataset, read_dataset
from recollect.memory.sources.folders import IMAGE_SUFFIXES, read_folder
from recollect.memory.sources.labelled import LabelledInputs
from recollect.memory.sources.parquet import read_parquet

_READABLE = "a folder with one subfolder per class, .csv, .tsv, .parquet, or a saved data set"


def read_inputs(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    limit: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    **options: Unpack[ColumnOptions],
) -> LabelledInputs:
    """Read labelled inputs from whatever is at a path.

    Args:
        path: A folder with one subfolder per class, a ``.csv``, ``.tsv`` or ``.parquet`` file, or a
            folder that Hugging Face's ``save_to_disk`` wrote.
        split: Split of a saved data set.
        limit: At most so many inputs, drawn evenly from the classes.
        per_class: At most so many inputs of each class.
        seed: Seed of that choice.
        **options: See `ColumnOptions`; a folder has no columns and takes only ``labelled`` and
            ``label_type``.

    Raises:
        InputError: There is nothing readable at the path, or it is malformed.
        EmptyBatch: It holds no inputs.
        InvalidParameter: An option does not belong to what is there.
    """
    place = Path(path)
    inputs = _read(place, split, options)
    return inputs.sample(limit=limit, per_class=per_class, seed=seed)


def _read(place: Path, split: str | None, options: ColumnOptions) -> LabelledInputs:
    if place.is_dir() and is_dataset(place):
        return read_dataset(place, split=split, **options)
    if split is not None:
        raise InvalidParameter(
            f"{place} has no splits", remedy="Only a saved data set has; leave the split out."
        )
    if place.is_dir():
        return _read_plain_folder(place, options)
    if not place.exists():
        raise InputError(f"there is nothing at {place}", expected=_READABLE, remedy="Check it.")
    suffix = place.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        return read_csv(place, **options)
    if suffix in {".parquet", ".pq"}:
        return read_parquet(place, **options)
    single = "An image needs a label of its own." if suffix in IMAGE_SUFFIXES else "Convert it."
    raise InputError(f"{place} cannot be read", expected=_READABLE, remedy=single)


def _read_plain_folder(place: Path, options: ColumnOptions) -> LabelledInputs:
    columns = sorted(name for name, value in options.items() if name != "labelled" and value)
    if columns and columns != ["label_type"]:
        raise InvalidParameter(
            f"{place} is a folder, which has no columns", got=", ".join(columns),
            remedy="The name of a subfolder is the label; leave the option out.",
        )  # fmt: skip
    tables = sorted(
        file.name for file in place.iterdir() if file.suffix.lower() in {".parquet", ".csv", ".tsv"}
    )
    if tables and not any(entry.is_dir() for entry in place.iterdir()):
        raise InputError(
            f"{place} holds tables, not class folders",
            got=", ".join(tables[:10]),
            remedy=f"Name one of the files, such as {place / tables[0]}.",
        )
    inputs = read_folder(place, labelled=options.get("labelled", True))
    if inputs.labels is None:
        return inputs
    return replace(inputs, labels=clean_labels(inputs.labels, place.name, options))
