"""Counts, sums and products of the keys of a memory, which follow it row by row."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InputError, InvalidParameter, UnknownIds, UnknownVersion
from recollect.heads.class_means import (
    Discriminant,
    KeySums,
    class_scores,
    discriminant,
    sum_keys,
)
from recollect.index.scoring import measure
from recollect.memory.changes import keys_are_as_they_were
from recollect.memory.followed import Followed
from recollect.memory.memory import Memory
from recollect.types import Codes, Doubles, Ids

BLOCK = 4096
"""Rows whose keys are read at once."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """The sums of one version.

    Attributes:
        version: The version; -1 for sums of nothing.
        ids: int64, sorted: the rows.
        labels: Their labels.
        classes: All labels, sorted.
        sums: Over the rows, by class.
        solved: Discriminants by shrinkage, added when one is asked for.
    """

    version: int
    ids: Ids
    labels: NDArray[Any]
    classes: NDArray[Any]
    sums: KeySums
    solved: dict[float, Discriminant]


class ClassStatistics:
    """What the class means of a memory are computed from; follows it row by row.

    The sums are whole numbers, so after any history they are those of the rows that are there, to
    the last bit, and so is everything derived from them.

    Args:
        memory: Of labels, with the cosine metric.
    """

    def __init__(self, memory: Memory) -> None:
        if memory.metric != "cosine":
            raise InvalidParameter(
                "class means are defined for the cosine metric",
                expected="metric='cosine'",
                got=f"metric={memory.metric!r}",
                remedy="Leave class_means at 0, or teach a memory with the cosine metric.",
            )
        self.memory = memory
        self._solving = Lock()
        self._held = Followed(memory, _nothing(memory))

    def follow(self) -> KeySums:
        """Bring the sums to the memory's version; an error leaves them as they were."""
        return self._now().sums

    def discriminant(self, shrinkage: float) -> Discriminant:
        """The directions that tell the classes apart, solved once for each version."""
        held = self._now()
        with self._solving:  # needs nothing of the memory, so it can keep nobody waiting for ever
            if shrinkage not in held.solved:
                held.solved[shrinkage] = discriminant(held.sums, shrinkage)
            return held.solved[shrinkage]

    def held_out(self, ids: Ids, folds: int, shrinkages: tuple[float, ...]) -> list[Doubles]:
        """Score rows by the others: those of other folds, which depend on nothing but their ids.

        Args:
            ids: int64 ``(rows,)``, alive.
            folds: Parts into which the memory is divided.
            shrinkages: One table for each.

        Returns:
            float64 ``(rows, classes)`` for each shrinkage.
        """
        return self.memory.in_one_version(lambda: self._held_out(ids, folds, shrinkages))

    def _held_out(self, ids: Ids, folds: int, shrinkages: tuple[float, ...]) -> list[Doubles]:
        held = self._now()
        scores = [np.empty((len(ids), len(held.classes))) for _ in shrinkages]
        everybody = held.ids % folds
        for fold in range(folds):
            here = np.flatnonzero(ids % folds == fold)
            if not len(here):
                continue
            out = everybody == fold
            less = self._sums_of(held.ids[out], held.labels[out], held.classes)
            others = held.sums.plus(less, -1)
            keys = self.memory.keys(ids[here])
            norms = measure(keys)
            for table, shrinkage in zip(scores, shrinkages, strict=True):
                table[here] = class_scores(keys, norms, discriminant(others, shrinkage))
        return scores

    def _now(self) -> _Sums:
        return self._held.now(self._next)

    def _next(self, last: _Sums) -> _Sums:
        """Take away the rows that went or have another label now, then add what is new."""
        memory = self.memory
        ids, classes = memory.ids, memory.labels
        labels = _labels(memory, ids)
        if labels.dtype != last.labels.dtype:  # text became integers or the other way: all anew
            last = _nothing(memory, labels.dtype)
        stays = np.isin(last.ids, ids, assume_unique=True)
        stays[stays] = labels[np.searchsorted(ids, last.ids[stays])] == last.labels[stays]
        kept = last.ids[stays]
        sums = self._without(last, last.ids[~stays], len(kept))
        if sums is None:
            kept, sums = kept[:0], KeySums.empty(len(last.classes), memory.dim)
        sums = _arranged(sums, last.classes, classes)
        new = np.isin(ids, kept, assume_unique=True, invert=True)
        sums = sums.plus(self._sums_of(ids[new], labels[new], classes))
        return _Sums(memory.version, ids, labels, classes, sums, {})

    def _without(self, last: _Sums, gone: Ids, rows: int) -> KeySums | None:
        """Sums without some rows; None where their keys are no longer known."""
        if not keys_are_as_they_were(self.memory, last.version):
            return None
        if len(gone) > rows:
            return None  # to add those that stay is quicker
        if not len(gone):
            return last.sums
        with suppress(UnknownIds, UnknownVersion, InputError):
            keys = self.memory.at(last.version).keys(gone)
            labels = last.labels[np.searchsorted(last.ids, gone)]
            codes = np.searchsorted(last.classes, labels)
            less = sum_keys(keys, measure(keys), codes, len(last.classes))
            return last.sums.plus(less, -1)
        return None

    def _sums_of(self, ids: Ids, labels: NDArray[Any], classes: NDArray[Any]) -> KeySums:
        total = KeySums.empty(len(classes), self.memory.dim)
        for start in range(0, len(ids), BLOCK):
            part = slice(start, start + BLOCK)
            keys = self.memory.keys(ids[part])
            codes: Codes = np.searchsorted(classes, labels[part])
            total = total.plus(sum_keys(keys, measure(keys), codes, len(classes)))
        return total


def _nothing(memory: Memory, dtype: Any = object) -> _Sums:
    labels = np.empty(0, dtype)
    return _Sums(-1, np.empty(0, np.int64), labels, labels, KeySums.empty(0, memory.dim), {})


def _arranged(sums: KeySums, before: NDArray[Any], classes: NDArray[Any]) -> KeySums:
    """Sums for the labels that are alive now."""
    if np.array_equal(classes, before):
        return sums
    counts = np.zeros(len(classes), np.int64)
    totals = np.zeros((len(classes), sums.sums.shape[1]), np.int64)
    if len(before) and len(classes):
        place = np.minimum(np.searchsorted(classes, before), len(classes) - 1)
        kept = classes[place] == before
        counts[place[kept]], totals[place[kept]] = sums.counts[kept], sums.sums[kept]
    return KeySums(counts, totals, sums.products)


def _labels(memory: Memory, ids: Ids) -> NDArray[Any]:
    if not len(ids):
        return np.empty(0, memory.labels.dtype)
    return memory.look_up(ids[:, None], np.ones((len(ids), 1), np.float32)).values[:, 0]
