"""Class names on the command line: written by ``init``, asked by ``predict`` and ``observe``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recollect.cli import options
from recollect.cli.inputs import Wanted, encode_inputs, opened
from recollect.cli.screen import Screen, percent, plural
from recollect.errors import (
    InputError,
    InvalidFilter,
    InvalidLabel,
    InvalidMetadata,
    InvalidParameter,
)
from recollect.heads.dual_memory.parts import PART, SEEN, SERIAL, SHOT, TEXT, VIEW
from recollect.memory.memory import Memory
from recollect.memory.sources import ColumnOptions

if TYPE_CHECKING:
    from recollect.encoders.base import Encoder
    from recollect.heads.dual_memory.classifier import DualMemoryClassifier
    from recollect.types import Floats, Ids

_SHOWN = 5
_SUFFIXES = (".txt", ".csv", ".tsv", ".list", ".names", ".lst")


def read_names(given: list[str]) -> list[str]:
    """Class names out of ``crow,jay`` or of files with one name a line.

    Raises:
        InputError: There is no such file, or it holds no text.
    """
    names = []
    for each in given:
        lines = _lines_of(each) if _is_file(each) else each.split(",")
        names += [line.strip() for line in lines if line.strip()]
    return names


def _is_file(given: str) -> bool:
    """True for a file that is there.

    Raises:
        InputError: It has the name of a file but is none.
    """
    path = Path(given)
    try:
        found = path.is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL in it: names then
        return False
    if not found and ("," not in given or len(path.parts) > 1) and path.suffix in _SUFFIXES:
        raise InputError(
            "there is no file of class names", expected="a file with one name a line",
            got=f"nothing at {given}", remedy="Check the path, or write crow,jay.",
        )  # fmt: skip
    return found


def _lines_of(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "the file of class names cannot be read", expected="a text file in UTF-8",
            got=f"{path}: {error}", remedy="Save it as UTF-8, with one name a line.",
        ) from error  # fmt: skip


def write_names(
    memory: Memory, encoder: Encoder, names: list[str], prompts: list[str] | None,
    text_encoder: str | None,
) -> list[Any]:  # fmt: skip
    """Encode class names and write them into an empty memory; returns the labels."""
    from recollect.encoders import from_name
    from recollect.heads.dual_memory.classifier import DualMemoryClassifier

    head = DualMemoryClassifier(
        class_names=names, prompts=prompts, encoder=encoder, memory=memory,
        text_encoder=None if text_encoder is None else from_name(text_encoder),
    )  # fmt: skip
    return [str(label) for label in head.fit().classes_]


def holds_names(memory: Memory) -> bool:
    """True if class names were written into this memory."""
    if memory.value != "label" or memory.metric != "cosine" or not len(memory):
        return False
    try:
        return len(memory.rows(where="part = 'text'")) > 0
    except InvalidFilter:  # no row was ever said to be anything
        return False


def check_shots(memory: Memory, labels: list[Any], columns: Collection[str]) -> None:
    """Refuse rows that a memory with class names could not take for shots.

    Raises:
        InvalidLabel: A label that is no class name.
        InvalidMetadata: A column of the memory's own.
    """
    if not holds_names(memory):
        return
    reserved = sorted({*columns} & {PART, SERIAL})
    if reserved:
        raise InvalidMetadata(
            f"the column name {reserved[0]!r} is taken", expected="none of part, serial",
            got=repr(reserved[0]), remedy="Leave it out: --no-metadata, or --metadata NAME.",
        )  # fmt: skip
    unknown = sorted({*labels} - {*memory.rows(where="part = 'text'").values.tolist()}, key=str)
    if unknown:
        raise InvalidLabel(
            "an example is of a class that has no name", expected="one of the class names",
            got=", ".join(repr(each) for each in unknown[:5]),
            remedy="Name every class when the memory is made: recollect init --names",
        )  # fmt: skip


def check_relabel(memory: Memory, ids: Ids, label: Any) -> None:
    """Refuse a new label that would leave a memory with class names unable to answer.

    Raises:
        InvalidParameter: One of the rows is no example.
        InvalidLabel: The label is no class name.
    """
    if not holds_names(memory) or not len(ids):
        return
    part = memory.rows(ids).metadata.get(PART, [None] * len(ids))
    others = [row for row, each in zip(ids.tolist(), part, strict=True) if each not in (None, SHOT)]
    if others:
        raise InvalidParameter(
            "only examples have a label that can be corrected",
            expected="rows of examples, as --where \"part = 'shot'\" finds them",
            got=f"row {others[0]}, which is a name or an observed picture",
            remedy="Remove an observed picture and add it as an example.",
        )
    check_shots(memory, [label], ())


def whole_pictures(memory: Memory, ids: Ids) -> Ids:
    """Rows to take out of a memory with class names, and those of the pictures' views.

    Raises:
        InvalidLabel: Names among them whose examples would stay, or all of them.
    """
    if not holds_names(memory) or not len(ids):
        return ids
    rows = memory.rows()
    column = {name: np.array(rows.metadata.get(name, [None] * len(rows)), object)
              for name in (PART, SERIAL)}  # fmt: skip
    part, serial = column[PART], column[SERIAL]
    gone = np.isin(rows.ids, ids)
    pictures = {*serial[gone & (part == SEEN)].tolist()}
    gone |= (part == VIEW) & np.array([each in pictures for each in serial.tolist()], bool)
    names = {*rows.values[(part == TEXT) & ~gone].tolist()}
    examples = [each in (None, SHOT) for each in part.tolist()]
    nameless = sorted({*rows.values[np.array(examples, bool) & ~gone].tolist()} - names, key=str)
    if (nameless or not names) and not gone.all():
        raise InvalidLabel(
            "a class would be left without its name",
            expected="its examples removed too" if nameless else "at least one name that stays",
            got=f"examples of {nameless[0]!r} that stay" if nameless else "the last names",
            remedy="Remove a whole class by its label: recollect remove MEMORY --label NAME",
        )
    return rows.ids[gone]


def refuse_names(memory: Memory, command: str, remedy: str) -> None:
    """Refuse a command that lets rows vote, where names and observed pictures are rows too.

    Raises:
        InvalidParameter: The memory has class names.
    """
    if holds_names(memory):
        raise InvalidParameter(
            f"{command} asks rows about each other, and here names are rows too",
            expected="a memory without class names", got="one made with --names", remedy=remedy,
        )  # fmt: skip


def head_of(memory: Memory) -> DualMemoryClassifier:
    """The classifier over a memory of names, shots and observed pictures."""
    from recollect.heads.dual_memory.classifier import DualMemoryClassifier

    return DualMemoryClassifier(memory=memory, mode="robust")


def answer_by_names(memory: Memory, keys: Floats) -> list[dict[str, Any]]:
    """Answers of names, shots and observed pictures, as plain values for JSON."""
    return [
        {
            "label": why.prediction,
            "score": why.score,
            "shares": {str(label): share for label, share in why.shares.items()},
            "neighbors": [
                {"id": row.id, "value": row.value, "similarity": row.similarity,
                 "share": row.contribution}
                for row in why.evidence
            ],
        }
        for why in head_of(memory).explain(keys)
    ]  # fmt: skip


def observe(
    memory: options.Memory,
    inputs: options.Inputs,
    *,
    image_column: options.ImageColumn = None,
    split: options.Split = None,
    on_error: options.Skip = options.OnError.skip,
    batch_size: options.BatchSize = 64,
    no_cache: options.NoCache = False,
    wait: options.Wait = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer pictures one after another, and remember each under the label it is taken for.

    For a memory with class names (`recollect init --names`). `recollect remove` takes observed
    pictures out again, as if they had never been seen.
    """
    with Screen(as_json=as_json, quiet=quiet) as screen:
        with opened(memory) as known:
            if not holds_names(known):
                raise InvalidParameter(
                    "this memory has no class names", expected="one made with --names", got="none",
                    remedy="Make one: recollect init MEMORY --names crow,jay --encoder ORG/CLIP",
                )  # fmt: skip
            columns = ColumnOptions(image=image_column, labelled=False)
            ready = encode_inputs(
                screen, known, inputs, Wanted(columns, split), on_error=on_error.value,
                batch_size=batch_size, cache=not no_cache,
            )  # fmt: skip
        with opened(memory, write=True, wait=wait) as taught:
            said = head_of(taught).observe(ready.keys)
        facts = {
            "memory": str(memory),
            "ids": said.ids,
            "labels": said.labels,
            "scores": said.probability.max(axis=1),
            "pseudo_labels": said.pseudo_labels,
            "slots": said.slots,
            "skipped": ready.skipped,
        }

        def show() -> None:
            """How many got a slot, and the classes seen most often."""
            kept = int((said.slots >= 0).sum())
            screen.say(f"Observed {plural(len(said), 'picture')}; {kept} got a slot.")
            most = Counter(said.labels.tolist()).most_common(_SHOWN)
            screen.say(", ".join(f"{label} {percent(n / len(said))}" for label, n in most))

        screen.result(facts, show)
