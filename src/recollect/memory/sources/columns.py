"""Which column of a table is the input, which is the label, and what becomes of the others.

Where columns are not named by the caller, they are found by name, in any case:

* the input: ``image, img, picture, photo, image_path, image_file`` hold images; ``text, sentence,
  question, query, utterance, content`` hold texts; ``file, file_name, filename, path, filepath``
  hold paths of images. The first that is there is taken, else the only column of images.
* the label: ``class_name, label_name, category_name, category, class, label, labels, target,
  intent, coarse_name, coarse_label, coarse, fine_name, fine_label, fine``. Columns of names are
  preferred to columns of integers: ``class_name`` to ``label``, and also ``category`` to ``label``
  where the latter holds numbers, because an answer should be readable.
* all other columns of text, integers, floats, truth values and times are kept as metadata. Times
  become text. ``id, label, value, weight, source`` have a meaning of their own in a memory, so
  columns of these names get an underscore: ``label_``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias, TypedDict

from recollect.encoders.base import Modality
from recollect.errors import InputError, InvalidLabel, InvalidMetadata, InvalidParameter
from recollect.types import Label

Kind: TypeAlias = Literal["image", "text", "int", "float", "bool", "time", "other"]

INPUT_NAMES: tuple[tuple[str, Modality], ...] = (
    ("image", "image"),
    ("img", "image"),
    ("picture", "image"),
    ("photo", "image"),
    ("image_path", "image"),
    ("image_file", "image"),
    ("text", "text"),
    ("sentence", "text"),
    ("question", "text"),
    ("query", "text"),
    ("utterance", "text"),
    ("content", "text"),
    ("file", "image"),
    ("file_name", "image"),
    ("filename", "image"),
    ("path", "image"),
    ("filepath", "image"),
)
LABEL_NAMES = (
    "class_name",
    "label_name",
    "category_name",
    "category",
    "class",
    "label",
    "labels",
    "target",
    "intent",
    "coarse_name",
    "coarse_label",
    "coarse",
    "fine_name",
    "fine_label",
    "fine",
)
RESERVED = frozenset(("id", "label", "value", "weight", "source"))


class ColumnOptions(TypedDict, total=False):
    """Keyword arguments that every reader of a table takes; each may be left out.

    Attributes:
        image: Column of images or of their paths, relative to the file that names them.
        text: Column of texts.
        label: Column of labels. A column of floats may be named too: then the values are numbers.
        metadata: Columns to keep; the default is all that can be kept, ``[]`` keeps none.
        label_type: ``"str"`` or ``"int"`` turns the labels into that type; ``"auto"`` keeps theirs.
        labelled: False if the labels may be absent.
    """

    image: str | None
    text: str | None
    label: str | None
    metadata: Sequence[str] | None
    label_type: Literal["auto", "str", "int"]
    labelled: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns that are used: names in the file, and for metadata in the memory."""

    input: str
    modality: Modality
    label: str | None
    metadata: dict[str, str]


def choose(kinds: Mapping[str, Kind], file: str, options: ColumnOptions) -> Choice:
    """Decide what each column of a table is for.

    Args:
        kinds: Column name -> what it holds, in the order of the file.
        file: Name of the file, for messages.
        options: What the caller named.
    """
    known = {"image", "text", "label", "metadata", "label_type", "labelled"}
    for name in options:
        if name not in known:
            raise InvalidParameter(
                f"unknown option {name!r}", expected=f"one of {', '.join(sorted(known))}",
                remedy="Check its spelling.",
            )  # fmt: skip
    input_, modality = _choose_input(kinds, file, options)
    label = _choose_label(kinds, file, options, input_)
    kept = _choose_metadata(kinds, file, options, {input_, label})
    return Choice(input_, modality, label, kept)


def _choose_input(
    kinds: Mapping[str, Kind], file: str, options: ColumnOptions
) -> tuple[str, Modality]:
    image, text = options.get("image"), options.get("text")
    if image is not None and text is not None:
        raise InvalidParameter(
            "both an image column and a text column were named",
            remedy="An encoder reads one of them: name one.",
        )
    if image is not None:
        _require(kinds, image, file, ("image", "text"), "images or paths of images")
        return image, "image"
    if text is not None:
        _require(kinds, text, file, ("text",), "texts")
        return text, "text"
    names = {name.lower(): name for name in reversed(list(kinds))}
    for wanted, modality in INPUT_NAMES:
        fits = {"image": ("image", "text"), "text": ("text",)}[modality]
        if wanted in names and kinds[names[wanted]] in fits:
            return names[wanted], modality
    images = [name for name, kind in kinds.items() if kind == "image"]
    if len(images) == 1:
        return images[0], "image"
    raise InputError(
        f"{file}: it is not clear which column holds the inputs",
        expected="a column named image, text, path or the like",
        got=_listed(kinds),
        remedy="Name the column of images or of texts.",
    )


def _choose_label(
    kinds: Mapping[str, Kind], file: str, options: ColumnOptions, input_: str
) -> str | None:
    label = options.get("label")
    if label is not None:
        _require(kinds, label, file, ("text", "int", "float", "bool"), "names or numbers")
        if label == input_:
            raise InvalidParameter(
                f"column {label!r} cannot be both input and label", remedy="Name another column."
            )
        return label
    names = {name.lower(): name for name in reversed(list(kinds)) if name != input_}
    for kind in ("text", "int", "bool", "float"):
        for wanted in LABEL_NAMES:
            if wanted in names and kinds[names[wanted]] == kind:
                return names[wanted]
    if not options.get("labelled", True):
        return None
    raise InputError(
        f"{file}: it is not clear which column holds the labels",
        expected="a column named label, class_name, category or the like",
        got=_listed(kinds),
        remedy="Name the column of labels.",
    )


def _choose_metadata(
    kinds: Mapping[str, Kind], file: str, options: ColumnOptions, used: set[str | None]
) -> dict[str, str]:
    wanted = options.get("metadata")
    fits = ("text", "int", "float", "bool", "time")
    if wanted is None:
        chosen = [name for name, kind in kinds.items() if kind in fits and name not in used]
    else:
        chosen = list(dict.fromkeys(wanted))
        for name in chosen:
            _require(kinds, name, file, fits, "text, numbers, truth values or times")
    kept: dict[str, str] = {}
    for name in chosen:
        kept_as = name
        while kept_as.lower() in RESERVED or (kept_as != name and kept_as in kinds):
            kept_as += "_"
        kept[name] = kept_as
    return kept


def _require(
    kinds: Mapping[str, Kind], name: str, file: str, fits: tuple[str, ...], what: str
) -> None:
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, n=1)
        guess = f"Did you mean {near[0]!r}?" if near else "Check the name."
        raise InputError(f"{file} has no column {name!r}", expected=_listed(kinds), remedy=guess)
    if kinds[name] not in fits:
        raise InputError(
            f"{file}: column {name!r} cannot be used so",
            expected=what,
            got=kinds[name],
            remedy="Name another column.",
        )


def _listed(kinds: Mapping[str, Kind]) -> str:
    shown = [f"{name} ({kind})" for name, kind in list(kinds.items())[:20]]
    return f"the columns {', '.join(shown)}{', ...' if len(kinds) > 20 else ''}"


def clean_labels(
    values: Sequence[Any], file: str, options: ColumnOptions
) -> list[Label] | list[float]:
    """The labels of one type, none missing. Truth values become ``"true"`` and ``"false"``."""
    missing = next((row for row, value in enumerate(values) if value is None), None)
    if missing is not None:
        raise InvalidLabel(
            f"{file}: row {missing} has no label",
            remedy="Label it or take it out; rows count from 0.",
        )
    wanted = options.get("label_type", "auto")
    if wanted not in {"auto", "str", "int"}:
        raise InvalidParameter(
            "unknown label type", expected="auto, str or int", got=repr(wanted),
            remedy="Leave it out to keep the type in the file.",
        )  # fmt: skip
    labels: list[Any] = [str(v).lower() if isinstance(v, bool) else v for v in values]
    if wanted == "str":
        labels = [str(label) for label in labels]
    if wanted == "int":
        labels = [_as_int(label, row, file) for row, label in enumerate(labels)]
    return labels


def _as_int(value: Any, row: int, file: str) -> int:
    try:
        number = int(value)
        if number == value or isinstance(value, str):
            return number
    except (ValueError, OverflowError):
        pass
    raise InvalidLabel(
        f"{file}: the label of row {row} is no integer", got=repr(value),
        remedy="Leave the labels as text.",
    )  # fmt: skip


def clean_column(values: Sequence[Any], name: str, file: str) -> list[Any]:
    """Integers of 64 bits at most; NaN, which stands for a missing number, as None."""
    for row, value in enumerate(values):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            _refuse_integer(name, file, row, value)
    return [None if value != value else value for value in values]  # noqa: PLR0124 - NaN


def _refuse_integer(name: str, file: str, row: int, value: int) -> NoReturn:
    raise InvalidMetadata(
        f"{file}: column {name!r} holds an integer of more than 64 bits in row {row}",
        got=value,
        remedy="Keep such a column as text.",
    )
