"""From what stands on the command line to keys: find inputs, build the encoder, encode."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from recollect.cli.screen import Screen
from recollect.errors import EmptyBatch, InputError, InvalidLabel
from recollect.memory import interchange
from recollect.memory.memory import Memory
from recollect.memory.sources import ColumnOptions, LabelledInputs, read_files, read_inputs
from recollect.types import Floats, Label

if TYPE_CHECKING:
    from recollect.encoders.base import Encoder, Modality

_TABLES = (".csv", ".tsv", ".parquet", ".pq")
_BLOCK = 4096  # inputs whose undecoded bytes are in memory at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the inputs on the command line.

    Attributes:
        columns: Column options for tables and saved data sets.
        split: Split of a saved data set.
        label: Label of all inputs, instead of those in the files.
        limit: At most so many, drawn evenly from the classes.
        per_class: At most so many of each class.
        seed: Seed of that draw.
    """

    columns: ColumnOptions
    split: str | None = None
    label: str | None = None
    limit: int | None = None
    per_class: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """Inputs that were encoded, those that could not be left out.

    Attributes:
        inputs: The inputs, with labels, sources and metadata.
        keys: float32 ``(len(inputs), dim)``.
        skipped: Source and problem of each input that was left out.
    """

    inputs: LabelledInputs
    keys: Floats
    skipped: list[dict[str, str]]


@contextmanager
def opened(
    path: Path, *, version: int | None = None, write: bool = False, wait: float = 0.0
) -> Iterator[Memory]:
    """The memory at a path, closed afterwards; to read unless ``write``."""
    with Memory.open(path, version, read_only=not write, timeout=wait) as memory:
        yield memory


def gather(arguments: Sequence[str], modality: Modality, wanted: Wanted) -> LabelledInputs:
    """Read the inputs that are named on the command line, as one set.

    Raises:
        InputError: One of them cannot be read, or holds what the encoder does not read.
    """
    parts: list[LabelledInputs] = []
    single: list[str] = []
    for argument in arguments:
        if _is_collection(argument):
            parts += _single(single, modality, wanted)
            single = []
            parts.append(_collection(argument, modality, wanted))
        else:
            single.append(argument)
    parts += _single(single, modality, wanted)
    inputs = _joined(parts)
    return inputs.sample(limit=wanted.limit, per_class=wanted.per_class, seed=wanted.seed)


def _is_collection(argument: str) -> bool:
    place = Path(argument)
    try:
        return place.is_dir() or (place.suffix.lower() in _TABLES and place.is_file())
    except (OSError, ValueError):  # a long text is no path
        return False


def _collection(argument: str, modality: Modality, wanted: Wanted) -> LabelledInputs:
    columns = wanted.columns
    if wanted.label is not None:
        columns = {**columns, "labelled": False}
    inputs = read_inputs(argument, split=wanted.split, **columns)
    if inputs.modality != modality:
        raise InputError(
            f"{argument} holds {inputs.modality}s",
            expected=f"{modality}s, which the encoder of this memory reads",
            got=f"{inputs.modality}s",
            remedy=f"Name the column of {modality}s, or use a memory with another encoder.",
        )
    if wanted.label is not None:
        labels: list[Label] = [wanted.label] * len(inputs)
        return replace(inputs, labels=labels)
    return inputs


def _single(arguments: list[str], modality: Modality, wanted: Wanted) -> list[LabelledInputs]:
    """Image files or texts that are named one by one."""
    if not arguments:
        return []
    # A file that is not there is told first: giving it a label would not help.
    pictures = [read_files(arguments, label=wanted.label)] if modality == "image" else []
    if wanted.columns.get("labelled", True) and wanted.label is None:
        raise InvalidLabel(
            f"{arguments[0]!r:.80} has no label",
            remedy="Give it with --label, or name a folder or a table that holds labels.",
        )
    if pictures:
        return pictures
    labels: list[Label] | None = None if wanted.label is None else [wanted.label] * len(arguments)
    return [LabelledInputs(arguments, labels, ["command line"] * len(arguments), modality="text")]


def _joined(parts: list[LabelledInputs]) -> LabelledInputs:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        raise EmptyBatch("there are no inputs", remedy="Name images, a folder or a table.")
    names = list(dict.fromkeys(name for part in parts for name in part.metadata))
    labels: list[Any] | None = []
    for part in parts:
        labels = None if labels is None or part.labels is None else [*labels, *part.labels]
    return LabelledInputs(
        [item for part in parts for item in part.inputs],
        labels,
        [source for part in parts for source in part.sources],
        {
            name: [cell for part in parts for cell in part.metadata.get(name, [None] * len(part))]
            for name in names
        },
        parts[0].modality,
    )


def fit_labels(memory: Memory, labels: list[Any]) -> list[Any]:
    """Labels in the type that the memory holds: files write numbers where names are meant."""
    if memory.value == "number":
        return [as_number(label) for label in labels]
    if memory.value != "label" or not len(memory.labels):
        return labels
    return [as_label(memory, label) if isinstance(label, str | int) else label for label in labels]


def as_label(memory: Memory, label: Label) -> Label:
    """One label in the type that the memory holds; as it is if it holds none yet.

    Raises:
        InvalidLabel: The memory holds integers, and this is none.
    """
    if not len(memory.labels):
        return label
    if memory.labels.dtype == object:
        return str(label)
    try:
        return int(label)
    except ValueError as error:
        raise InvalidLabel(
            "this memory holds integers as labels", expected="an integer", got=repr(label),
            remedy="`recollect stats` lists the labels it holds.",
        ) from error  # fmt: skip


def known_label(memory: Memory, label: Label) -> Label:
    """A label that rows have, in the type that the memory holds.

    Raises:
        InvalidLabel: No row has it.
    """
    held = list(memory.labels.tolist())
    wanted = as_label(memory, label)
    if wanted in held:
        return wanted
    names = [str(name) for name in held]
    like = difflib.get_close_matches(str(label), names, n=3) or names[:5]
    more = "" if len(like) == len(names) else f" or {len(names) - len(like):,} others"
    raise InvalidLabel(
        "no row has this label", expected=f"{', '.join(map(repr, like)) or 'any row'}{more}",
        got=repr(label), remedy="`recollect stats` lists the labels.",
    )  # fmt: skip


def as_number(label: Any) -> float:
    """A value for a memory of numbers.

    Raises:
        InvalidLabel: It is none.
    """
    try:
        return float(label)
    except ValueError as error:
        raise InvalidLabel(
            "this memory holds numbers", expected="a number", got=repr(label),
            remedy="Give a number such as 0.5, or name the column that holds them.",
        ) from error  # fmt: skip


def encode_inputs(
    screen: Screen,
    memory: Memory,
    arguments: Sequence[str],
    wanted: Wanted,
    *,
    on_error: Literal["raise", "skip"],
    batch_size: int = 64,
    cache: bool = False,
) -> Ready:
    """Read the inputs on the command line and encode them with the memory's encoder.

    A memory that records no encoder takes Parquet files that hold keys.

    Raises:
        InputError: The inputs cannot be read, or no keys can be made of them.
        EncoderMismatch: What was built is not the encoder that made the memory's keys.
    """
    from recollect.encoders import from_spec

    if memory.encoder_spec is None:
        return _keys_of_tables(memory, arguments, wanted)
    encoder = from_spec(memory.encoder_spec)
    memory.check_encoder(encoder)
    inputs = gather(arguments, encoder.modality, wanted)
    return encode(
        screen, memory, encoder, inputs, on_error=on_error, batch_size=batch_size, cache=cache
    )


def _keys_of_tables(memory: Memory, arguments: Sequence[str], wanted: Wanted) -> Ready:
    labelled = wanted.columns.get("labelled", True) and wanted.label is None
    parts, keys = [], []
    for argument in arguments:
        if Path(argument).suffix.lower() not in {".parquet", ".pq"}:
            raise InputError(
                f"this memory records no encoder that could read {argument!r:.80}",
                expected="Parquet files with a column of embeddings",
                got=None if memory.encoder is None else f"an encoder called {memory.encoder}",
                remedy="Encode the inputs from Python, or use a memory of: recollect init MEMORY "
                "--encoder NAME.",
            )
        rows, _ = interchange.from_parquet(argument, valued=labelled)
        name = Path(argument).name
        numbered = [f"{name}#{row}" for row in range(len(rows))]
        sources = [known or row for known, row in zip(rows.sources, numbered, strict=True)]
        labels = rows.values.tolist() if labelled else None
        if wanted.label is not None:
            labels = [wanted.label] * len(rows)
        parts.append(LabelledInputs(list(range(len(rows))), labels, sources, rows.metadata))
        keys.append(rows.keys.astype(np.float32))
    inputs = _joined(parts)
    # The places of the inputs stand in for them, so that a sample finds its keys.
    placed = replace(inputs, inputs=list(range(len(inputs))))
    chosen = placed.sample(limit=wanted.limit, per_class=wanted.per_class, seed=wanted.seed)
    widths = {part.shape[1] for part in keys}
    if len(widths) > 1:
        raise InputError(
            "the files hold keys of different width",
            got=sorted(widths),
            remedy="One memory takes keys of one width.",
        )
    return Ready(chosen, np.concatenate(keys)[list(chosen.inputs)], [])


def encode(
    screen: Screen,
    memory: Memory,
    encoder: Encoder,
    inputs: LabelledInputs,
    *,
    on_error: Literal["raise", "skip"],
    batch_size: int = 64,
    cache: bool = False,
) -> Ready:
    """Encode inputs, block by block, with a bar on the screen.

    Args:
        screen: Where progress and problems go.
        memory: Whose cache is used.
        encoder: The encoder of that memory.
        inputs: What is encoded.
        on_error: Whether an input that cannot be read stops the command or is skipped.
        batch_size: Inputs that are encoded at once.
        cache: Whether encodings are looked up and kept in ``MEMORY/cache``.

    Raises:
        EmptyBatch: None of the inputs could be read.
    """
    from recollect.encoders import EncodingCache, encode_all

    keys, kept = [], []
    skipped: list[dict[str, str]] = []
    with ExitStack() as stack:
        bar = stack.enter_context(screen.progress("Encoding"))
        store = None
        if cache:
            folder = Path(memory.uri).expanduser() / "cache"
            folder.mkdir(exist_ok=True)
            store = stack.enter_context(EncodingCache(folder / "encodings.sqlite"))
        for start in range(0, len(inputs), _BLOCK):
            block = inputs.inputs[start : start + _BLOCK]

            def report(done: int, _: int, start: int = start) -> None:
                """Count in all inputs: the encoder only knows its block."""
                if bar is not None:
                    bar(start + done, len(inputs))

            encoded = encode_all(
                encoder, block, batch_size=batch_size, on_error=on_error, progress=report,
                cache=store,
            )  # fmt: skip
            keys.append(encoded.keys)
            kept += [start + int(place) for place in encoded.kept]
            skipped += [
                {"source": inputs.sources[start + place], "problem": str(problem)}
                for place, problem in encoded.problems
            ]
    for problem in skipped:
        screen.note(f"Skipped {problem['source']}: {problem['problem']}")
    if not kept:
        raise EmptyBatch(
            "none of the inputs could be read", got=skipped[0]["problem"] if skipped else None,
            remedy="Check that they are images, or texts, as the encoder expects.",
        )  # fmt: skip
    whole = inputs if len(kept) == len(inputs) else inputs.take(kept)
    return Ready(whole, np.concatenate(keys), skipped)
