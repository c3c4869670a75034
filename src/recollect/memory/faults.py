"""What cannot be true of the states of rows, wherever they were read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory
from recollect.memory.schema import Configuration
from recollect.memory.segments import Segment
from recollect.memory.table import States
from recollect.types import Mask

RESTORE = "Bring the folder back from a backup, or import an exported copy."


def check_states(
    states: States,
    labels: Mapping[int, str | int],
    config: Configuration,
    segments: Mapping[int, Segment],
    encoding: int,
) -> None:
    """See to it that every place a state names is there, and every number in its range.

    Args:
        states: ``(rows,)``.
        labels: Label of each code.
        config: Of the version that the states belong to.
        segments: Segment of each number.
        encoding: Of the version's keys.

    Raises:
        CorruptMemory: Something in them cannot be true.
    """
    checks = (
        _number_faults(states),
        _place_faults(states, config, segments, encoding),
        _label_faults(states, labels) if config.value == "label" else iter(()),
        _twice(states),
    )
    for fault, wrong in (found for check in checks for found in check):
        if wrong.any():
            raise CorruptMemory(
                f"the catalog says something impossible of row {states['id'][np.argmax(wrong)]}",
                got=fault,
                remedy=RESTORE,
            )


def _number_faults(states: States) -> Iterator[tuple[str, Mask]]:
    # Each column is copied out once: in the table its numbers lie 80 bytes apart.
    weight, norm, number = (states[name].copy() for name in ("weight", "norm", "number"))
    with np.errstate(invalid="ignore"):
        yield "a negative id", states["id"] < 0
        yield "a weight out of range", ~((weight >= 0) & (weight < np.inf))
        yield "a key of impossible length", ~((norm >= 0) & (norm < np.inf))
        yield "a number that is not finite", ~np.isfinite(number)


def _place_faults(
    states: States, config: Configuration, segments: Mapping[int, Segment], encoding: int
) -> Iterator[tuple[str, Mask]]:
    keys = {
        number: segment.size // config.record_bytes
        for number, segment in segments.items()
        if segment.kind == "keys" and segment.encoding == encoding
    }
    record = states["record"].copy()
    ends = _ends(states["segment"], keys)
    yield "a key outside of its segment", (record < 0) | (record >= ends)
    if config.value in {"vector", "arrays"}:
        values = {n: segment.size for n, segment in segments.items() if segment.kind == "values"}
        start, length = states["value_start"].copy(), states["value_bytes"].copy()
        ends = _ends(states["value_segment"], values)
        yield "a value outside of its segment", (start < 0) | (length < 0) | (length > ends - start)
        if config.value_dim is not None:
            width = 4 * config.value_dim
            yield "a vector of another width", (length != width) | (start % width != 0)


def _ends(numbers: NDArray[np.int32], ends: Mapping[int, int]) -> NDArray[np.int64]:
    """Look up where the segment that each state names ends; 0 if there is none."""
    known = np.array([-1, *sorted(ends)], np.int64)  # -1: so that there is one
    found = np.array([0, *(ends[number] for number in sorted(ends))], np.int64)
    place = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    return np.where(known[place] == numbers, found[place], 0)


def _label_faults(states: States, labels: Mapping[int, str | int]) -> Iterator[tuple[str, Mask]]:
    codes = states["code"].copy()
    known = np.array(sorted(labels), np.int64)
    yield "a label that the catalog does not name", ~np.isin(codes, known)
    text = [code for code, label in labels.items() if isinstance(label, str)]
    if 0 < len(text) < len(labels):
        texts = np.isin(codes, text)
        yield "a label of another type than others have", ~texts & texts.any()


def _twice(states: States) -> Iterator[tuple[str, Mask]]:
    ids = states["id"].copy()
    if not (ids[1:] > ids[:-1]).all():
        once, counts = np.unique(ids, return_counts=True)
        yield "two lives at once", np.isin(ids, once[counts > 1])
