"""Arguments and options that several commands share, each with its help text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


class Metric(StrEnum):
    """How keys are compared."""

    cosine = "cosine"
    dot = "dot"
    euclidean = "euclidean"
    manhattan = "manhattan"


class Value(StrEnum):
    """What a row answers with; the other kinds are made from Python."""

    label = "label"
    number = "number"


class Vote(StrEnum):
    """How the nearest rows vote."""

    rank = "rank"
    plurality = "plurality"
    softmax = "softmax"
    distance = "distance"


class OnError(StrEnum):
    """What to do with an input that cannot be read."""

    stop = "raise"
    skip = "skip"


class LabelType(StrEnum):
    """How labels are read from a file."""

    auto = "auto"
    text = "str"
    integer = "int"


Memory: TypeAlias = Annotated[
    Path, typer.Argument(help="Folder of the memory.", show_default=False)
]
Inputs: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        help="Image files, a folder, a .csv, .tsv or .parquet file or a saved data set; or texts, "
        "for a memory of texts.",
        show_default=False,
    ),
]

AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object instead of text.")
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")
]
Version: TypeAlias = Annotated[
    int | None,
    typer.Option("--version", help="Look at this past version instead of the newest."),
]
Wait: TypeAlias = Annotated[
    float, typer.Option("--wait", help="Seconds to wait for another writer to finish.", min=0.0)
]

K: TypeAlias = Annotated[int, typer.Option("--k", "-k", help="How many nearest rows vote.", min=1)]
VoteRule: TypeAlias = Annotated[
    Vote, typer.Option("--vote", help="How a row's vote weighs by its place or similarity.")
]
Alpha: TypeAlias = Annotated[
    float, typer.Option("--alpha", help="Of the rank vote, 1 / (alpha + rank); at least 0.1.")
]
Temperature: TypeAlias = Annotated[
    float, typer.Option("--temperature", help="Of the softmax vote; above 0.")
]
Sharpness: TypeAlias = Annotated[
    float, typer.Option("--sharpness", help="Of the distance vote; at least 0.")
]

Where: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--where",
        help="Rows that pass this filter, such as \"split = 'train' and year >= 2020\". Columns "
        "are id, label, weight, source and those of the metadata.",
        show_default=False,
    ),
]
OfLabel: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        help="Rows that have this label; may be given several times.",
        show_default=False,
    ),
]
Yes: TypeAlias = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask. Required with --json.")
]

ImageColumn: TypeAlias = Annotated[
    str | None,
    typer.Option("--image-column", help="Column of images or of their paths.", show_default=False),
]
TextColumn: TypeAlias = Annotated[
    str | None, typer.Option("--text-column", help="Column of texts.", show_default=False)
]
LabelColumn: TypeAlias = Annotated[
    str | None, typer.Option("--label-column", help="Column of labels.", show_default=False)
]
Split: TypeAlias = Annotated[
    str | None, typer.Option("--split", help="Split of a saved data set.", show_default=False)
]
Limit: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--limit", help="At most so many inputs, drawn evenly from the classes.", min=1,
        show_default=False,
    ),
]  # fmt: skip
Seed: TypeAlias = Annotated[int, typer.Option("--seed", help="Seed of that draw.")]
Skip: TypeAlias = Annotated[
    OnError,
    typer.Option("--on-error", help="Stop at an input that cannot be read, or skip and name it."),
]
BatchSize: TypeAlias = Annotated[
    int, typer.Option("--batch-size", help="Inputs that are encoded at once.", min=1)
]
NoCache: TypeAlias = Annotated[
    bool,
    typer.Option("--no-cache", help="Neither read nor keep encodings in MEMORY/cache."),
]
