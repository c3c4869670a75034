"""What the rows of a dual memory are: text vectors, shots, observed pictures and their views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidLabel
from recollect.memory.memory import Memory
from recollect.readout.attention import unit
from recollect.types import Codes, Floats, Ids, Label, Rows

PART, SERIAL = "part", "serial"
"""Metadata columns: what a row is, and which picture it belongs to: the id of its first row."""

TEXT, SHOT, SEEN, VIEW = "text", "shot", "seen", "view"


@dataclass(frozen=True, slots=True)
class Names:
    """Class names with their text vectors.

    Attributes:
        labels: All text or all integers, each once.
        vectors: float32 ``(classes, dim)``, as given.
    """

    labels: list[Label]
    vectors: Floats


@dataclass(frozen=True, slots=True)
class Parts:
    """All rows of a memory, apart.

    Attributes:
        classes: Labels of names and shots, sorted: the classes.
        text: float32 ``(classes, dim)`` of length 1; None without names. A class without a name is
            not possible where there are names.
        text_ids: int64 ``(classes,)``: their rows, -1 where there is none.
        shots: float32 ``(shots, dim)`` of length 1, by id.
        codes: int64 ``(shots,)``: their classes.
        shot_ids: int64 ``(shots,)``.
        seen: float32 ``(pictures, dim)`` of length 1, in the order in which they were observed.
        seen_ids: int64 ``(pictures,)``.
        views: float32 ``(views, dim)``: all views of each picture; which of them its pseudo label
            comes from depends on names and shots.
        view_ids: int64 ``(views,)``: their rows; a picture without rows of views is its own view.
        counts: int64 ``(pictures,)``: how many views each has, at least 1.
    """

    classes: list[Label]
    text: Floats | None
    text_ids: Ids
    shots: Floats
    codes: Codes
    shot_ids: Ids
    seen: Floats
    seen_ids: Ids
    views: Floats
    view_ids: Ids
    counts: Codes

    def taught(self) -> Parts:
        """Return names and shots without what was observed."""
        nothing = np.empty(0, np.int64)
        return replace(
            self,
            seen=self.seen[:0].copy(),
            seen_ids=nothing,
            views=self.views[:0].copy(),
            view_ids=nothing,
            counts=nothing,
        )


def read_parts(memory: Memory | None, names: Names | None, dim: int) -> Parts:
    """Sort the rows of a memory by what they are.

    Args:
        memory: Rows without the column ``part`` are shots; None for names alone.
        names: Used where the memory holds none.
        dim: Width of a key.
    """
    rows = memory.rows() if memory is not None and len(memory) else _no_rows(dim)
    part = np.array([each or SHOT for each in _column(rows, PART)], object)
    text, shot = np.flatnonzero(part == TEXT), np.flatnonzero(part == SHOT)
    if len(text):
        named = Names([_plain(label) for label in rows.values[text].tolist()], rows.keys[text])
        text_ids = rows.ids[text]
    else:
        named = names or Names([], np.empty((0, dim), np.float32))
        text_ids = np.full(len(named.labels), -1, np.int64)
    classes = sorted({*map(_plain, named.labels), *map(_plain, rows.values[shot].tolist())})
    _require_names(named, classes)
    code = {label: number for number, label in enumerate(classes)}
    order = np.argsort([code[_plain(label)] for label in named.labels], kind="stable")
    seen, views, counts = _observed(rows, part)
    return Parts(
        classes=classes,
        text=unit(named.vectors[order]) if len(order) else None,
        text_ids=text_ids[order] if len(order) else np.full(len(classes), -1, np.int64),
        shots=unit(rows.keys[shot]),
        codes=np.array([code[_plain(label)] for label in rows.values[shot].tolist()], np.int64),
        shot_ids=rows.ids[shot],
        seen=unit(rows.keys[seen]),
        seen_ids=rows.ids[seen],
        views=unit(rows.keys[views]),
        view_ids=rows.ids[views],
        counts=counts,
    )


def parts_with(
    earlier: Parts | None, names: Names | None, keys: Floats, labels: list[Label], ids: Ids | None
) -> Parts:
    """Return the names and shots that a memory will hold once these are written.

    Args:
        earlier: What it holds; None if it is empty or is taught anew.
        names: Used where it holds none.
        keys: ``(shots, dim)``, as they will be stored.
        labels: Their labels.
        ids: Their rows; None if they are counted up.
    """
    before = _nothing(keys.shape[1]) if earlier is None else earlier.taught()
    first = 1 + int(max(before.shot_ids.max(initial=-1), before.text_ids.max(initial=-1)))
    rows = np.concatenate([before.shot_ids, first + np.arange(len(keys)) if ids is None else ids])
    order = np.argsort(rows, kind="stable")
    every = [*(before.classes[code] for code in before.codes.tolist()), *map(_plain, labels)]
    vectors, known = before.text, before.classes
    if vectors is None and names is not None:
        by_label = np.array(sorted(range(len(names.labels)), key=names.labels.__getitem__), int)
        vectors, known = unit(names.vectors[by_label]), [names.labels[at] for at in by_label]
    classes = sorted({*every} if vectors is None else {*known})
    code = {label: number for number, label in enumerate(classes)}
    return replace(
        before,
        classes=classes,
        text=vectors,
        text_ids=np.full(len(classes), -1, np.int64),
        shots=np.concatenate([before.shots, unit(keys)])[order],
        codes=np.array([code[every[at]] for at in order.tolist()], np.int64),
        shot_ids=rows[order],
    )


def _nothing(dim: int) -> Parts:
    none, empty = np.empty(0, np.int64), np.empty((0, dim), np.float32)
    return Parts([], None, none, empty, none, none, empty, none, empty, none, none)


def _observed(rows: Rows, part: NDArray[Any]) -> tuple[Ids, Ids, Codes]:
    """Places of observed pictures, of the views behind them in their order, and how many each."""
    seen = np.flatnonzero(part == SEEN)
    serials = _column(rows, SERIAL)
    behind: dict[Any, list[int]] = {}
    for view in np.flatnonzero(part == VIEW).tolist():
        behind.setdefault(serials[view], []).append(view)
    each = [behind.get(serials[row], [row]) for row in seen.tolist()]
    views = np.array([view for some in each for view in some], np.int64)
    return seen, views, np.array([len(some) for some in each], np.int64)


def _require_names(named: Names, classes: list[Label]) -> None:
    nameless = sorted({*classes} - {*named.labels}, key=str) if named.labels else []
    if nameless:
        raise InvalidLabel(
            "a class has examples but no name",
            expected="a text vector for every class, or for none",
            got=", ".join(repr(each) for each in nameless[:5]),
            remedy="Give every class of the memory a text vector, or leave all of them out.",
        )


def _column(rows: Rows, name: str) -> list[Any]:
    return rows.metadata.get(name, [None] * len(rows))


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def _no_rows(dim: int) -> Rows:
    empty = np.empty(0)
    return Rows(
        np.empty(0, np.int64), np.empty((0, dim), np.float32), np.empty(0, object), empty, [], {}
    )
