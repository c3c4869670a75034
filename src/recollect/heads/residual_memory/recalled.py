"""What the rows of a residual memory hold, at hand as arrays; follows the memory's versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory, InvalidLabel
from recollect.heads.residual_memory.layout import Layout
from recollect.memory.memory import Memory
from recollect.readout.kernel import add_dense, add_dense_many, add_sparse, class_residuals
from recollect.types import Codes, Doubles, Ids, Rows

TRUTH = "truth"
# Whole rows read at a time, with keys that are not wanted here.
_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Recalled:
    """All rows of one version, in order of id.

    Attributes:
        version: Of the memory.
        ids: int64 ``(rows,)``, sorted.
        values: Vectors ``(rows, width)``, numbers ``(rows,)``, or labels ``(rows,)``.
        truth: True label of each row, ``(rows,)``; empty for a memory of numbers.
    """

    version: int
    ids: Ids
    values: NDArray[Any]
    truth: NDArray[Any]

    def places(self, ids: Ids) -> NDArray[np.intp]:
        """Positions of ids; -1 (nothing found) gives any position.

        Raises:
            CorruptMemory: One of them is not here.
        """
        count = len(self.ids)
        if count and self.ids[0] == 0 and self.ids[-1] == count - 1:  # an id is its place
            places, known = np.maximum(ids, 0), bool(ids.max(initial=0) < count)
        else:
            places = np.minimum(np.searchsorted(self.ids, ids), max(0, count - 1))
            known = count > 0 and bool(((self.ids[places] == ids) | (ids < 0)).all())
        if not known:
            raise CorruptMemory("a row was found that is not among the rows", remedy="Ask again.")
        return places


def recall(memory: Memory, before: Recalled | None, *, labeled: bool) -> Recalled:
    """Read the rows; only those that came since ``before``, where nothing else happened.

    Args:
        memory: Asked several times, so call this inside ``memory.in_one_version``.
        before: What an earlier call returned, or None.
        labeled: Whether rows have a true label. The column of that name is anybody's where not.

    Raises:
        InvalidLabel: A row has no label.
    """
    version = memory.version
    if before is not None and before.version == version:
        return before
    if before is None or not _only_came_and_went(memory, before.version, version):
        return _columns(memory, version, None, labeled=labeled)
    ids = memory.ids
    stay = np.isin(before.ids, ids, assume_unique=True)
    fresh = np.setdiff1d(ids, before.ids[stay], assume_unique=True)
    # A memory of numbers has no column of labels: it is empty, however many rows there are.
    left = before.truth[stay] if len(before.truth) else before.truth
    if not len(fresh):
        return Recalled(version, before.ids[stay], before.values[stay], left)
    new = _columns(memory, version, fresh, labeled=labeled)
    order = np.argsort(np.concatenate([before.ids[stay], new.ids]), kind="stable")
    parts = (
        np.concatenate([old, added])[order[: len(old) + len(added)]]
        for old, added in (
            (before.ids[stay], new.ids),
            (before.values[stay], new.values),
            (left, new.truth),
        )
    )
    return Recalled(version, *parts)


def _only_came_and_went(memory: Memory, first: int, last: int) -> bool:
    """True if all versions between were additions and removals, and are still listed."""
    since = [each for each in memory.versions() if first < each.version <= last]
    return len(since) == last - first and all(each.operation in {"add", "remove"} for each in since)


def _columns(memory: Memory, version: int, ids: Ids | None, *, labeled: bool) -> Recalled:
    if not len(memory):
        nothing = np.empty(0, object)
        return Recalled(version, np.empty(0, np.int64), nothing, nothing)
    wanted = memory.ids if ids is None else ids
    values: list[NDArray[Any]] = []
    truth: list[NDArray[Any]] = []
    for start in range(0, len(wanted), _ROWS):
        rows = memory.rows(wanted[start : start + _ROWS])
        values.append(rows.values)
        if labeled and memory.value != "label":
            truth.append(_truth_of(rows))
    joined = np.concatenate(values)
    if labeled and memory.value == "label":
        return Recalled(version, wanted, joined, joined)
    return Recalled(version, wanted, joined, np.concatenate(truth or [np.empty(0, object)]))


def _truth_of(rows: Rows) -> NDArray[Any]:
    column = np.empty(len(rows), object)
    column[:] = rows.metadata.get(TRUTH, [None] * len(rows))
    kinds = {type(label) for label in column.tolist()}
    if not kinds <= {str} and not kinds <= {int}:
        wrong = [row for row, label in zip(rows.ids.tolist(), column.tolist(), strict=True)
                 if not isinstance(label, str | int)]  # fmt: skip
        raise InvalidLabel(
            f"rows of the memory have no label in their column {TRUTH!r}",
            expected="a label for every row",
            got=f"none for {len(wrong)} rows, such as {', '.join(map(str, wrong[:5]))}",
            remedy=f"Give them one with memory.update(ids, metadata={{{TRUTH!r}: label}}), or "
            "forget them.",
        )
    return as_column(column)


def as_column(labels: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as int64, text as objects."""
    if labels.dtype != object or not isinstance(labels[0], int):
        return labels
    small = all(abs(label) < 2**63 for label in labels.tolist())
    return labels.astype(np.int64) if small else labels


@dataclass(frozen=True, slots=True)
class Named:
    """The classes that the rows of one version and the base have together.

    Attributes:
        version: Of the memory.
        labels: Those of the base in its order, then those that only rows have, sorted.
        codes: int64 ``(rows,)``: place of each row's label among them.
    """

    version: int
    labels: NDArray[Any]
    codes: Codes


def name_classes(rows: Recalled, known: NDArray[Any]) -> Named:
    """Put the labels that only rows have behind those of the base.

    Raises:
        InvalidLabel: The rows hold text where the base has numbers, or the other way round.
    """
    if len(rows.truth) and (rows.truth.dtype == object) != (known.dtype == object):
        raise InvalidLabel(
            "the base and the rows name their classes in different ways",
            expected=f"labels such as {known.tolist()[0]!r}",
            got=f"{rows.truth.tolist()[0]!r}",
            remedy="Use the base that the memory was taught with.",
        )
    new = np.unique(rows.truth[to_codes(rows.truth, known) < 0])
    labels = np.concatenate([known, new.astype(known.dtype)])
    return Named(rows.version, labels, to_codes(rows.truth, labels))


@dataclass(frozen=True, slots=True)
class Residuals:
    """What each row adds to the scores, at one temperature.

    Attributes:
        version: Of the memory it was made from.
        temperature: At which it was made.
        parts: float64 ``(rows, width)``, or ``(rows, entries)`` where only some are kept.
        columns: The column of each entry, or None where all are kept.
        left_out: float64 ``(rows,)``: probability that was left out: no score of a query is off by
            more than the weighted mean of its rows' left-out mass.
        base_factor: What the rows take from the base's probabilities, 1 where they keep labels
            only (the base's own probabilities then stand for those of the rows), else 0.
    """

    version: int
    temperature: float
    parts: Doubles
    columns: Codes | None
    left_out: Doubles
    base_factor: float = 0.0

    def add(self, scores: Doubles, shares: Doubles, places: NDArray[np.intp]) -> None:
        """Add the weighted residuals of neighbors to scores, in place."""
        if self.columns is None:
            add_dense(scores, shares, self.parts, places)
        else:
            add_sparse(scores, shares, self.parts, self.columns, places)

    def add_many(self, scores: Doubles, shares: Doubles, places: NDArray[np.intp]) -> None:
        """Add the residuals in several weighings: ``(weighings, queries, width)``, in place.

        Shares are ``(queries, weighings, k)``.
        """
        if self.columns is None:
            add_dense_many(scores, shares, self.parts, places)
            return
        for weighing, each in enumerate(scores):
            add_sparse(each, shares[:, weighing], self.parts, self.columns, places)

    def contribution(self, place: int, column: int) -> float:
        """What one row adds to one column, at a share of 1."""
        if self.columns is None:
            return float(self.parts[place, column])
        here = self.columns[place] == column
        return float(self.parts[place][here].sum())


def class_table(rows: Recalled, named: Named, layout: Layout, temperature: float) -> Residuals:
    """Make the residuals of a memory of classes.

    Args:
        rows: From :func:`recall`.
        named: Their classes; those beyond the base's are new.
        layout: How rows keep what the base said.
        temperature: Of the softmax.
    """
    codes, width = named.codes, len(named.labels)
    one = np.ones((len(codes), 1))
    if layout.entries == 0:
        return Residuals(
            rows.version, temperature, one, codes[:, None], np.zeros(len(codes)), base_factor=1.0
        )
    shares, columns = layout.unpack(rows.values, temperature, rows.ids)
    if columns is None:
        padded = np.pad(shares, ((0, 0), (0, width - shares.shape[1])))
        parts = class_residuals(padded, codes)
        return Residuals(rows.version, temperature, parts, None, np.zeros(len(codes)))
    left_out = 1.0 - shares.sum(axis=1)
    true = columns == codes[:, None]
    parts = true - shares
    # A class that the base does not know, or a corrected label, has no entry among those kept.
    extra = np.where(true.any(axis=1)[:, None], 0.0, one)
    return Residuals(
        rows.version,
        temperature,
        np.concatenate([parts, extra], axis=1),
        np.concatenate([columns, codes[:, None]], axis=1),
        np.maximum(left_out, 0.0),
    )


def to_codes(labels: NDArray[Any], classes: NDArray[Any]) -> Codes:
    """Return the place of each label in ``classes``, -1 where it is not there."""
    if object not in {labels.dtype, classes.dtype}:
        order = np.argsort(classes, kind="stable")
        places = np.minimum(np.searchsorted(classes, labels, sorter=order), len(classes) - 1)
        found = order[places]
        return np.where(classes[found] == labels, found, -1)
    place = {label: at for at, label in enumerate(classes.tolist())}
    return np.array([place.get(label, -1) for label in labels.tolist()], np.int64)


def lowered(base: Doubles, shares: Doubles, table: Residuals) -> Doubles:
    """What is left of the base's probabilities where rows keep labels only; else all of it."""
    if not table.base_factor:
        return base
    taken = np.cumsum(shares, axis=1)[:, -1:] * table.base_factor
    return np.ascontiguousarray(base * (1.0 - taken))
