"""Counts, sums and products of the keys of a memory, which follow it row by row."""

from __future__ import annotations

from contextlib import suppress
from threading import RLock
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
from recollect.memory.memory import Memory
from recollect.types import Codes, Doubles, Ids

BLOCK = 4096
"""Rows whose keys are read at once."""


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
        self._lock = RLock()
        self._version = -1
        self._ids: Ids = np.empty(0, np.int64)
        self._labels: NDArray[Any] = np.empty(0, object)
        self._classes: NDArray[Any] = np.empty(0, object)
        self._sums = KeySums.empty(0, memory.dim)
        self._solved: dict[float, Discriminant] = {}

    def follow(self) -> KeySums:
        """Bring the sums to the memory's version."""
        with self._lock:
            version = self.memory.version
            if version != self._version:
                self._catch_up()
                self._version = version
                self._solved.clear()
            return self._sums

    def discriminant(self, shrinkage: float) -> Discriminant:
        """The directions that tell the classes apart, solved once for each version."""
        with self._lock:
            sums = self.follow()
            if shrinkage not in self._solved:
                self._solved[shrinkage] = discriminant(sums, shrinkage)
            return self._solved[shrinkage]

    def held_out(self, ids: Ids, folds: int, shrinkages: tuple[float, ...]) -> list[Doubles]:
        """Score rows by the others: those of other folds, which depend on nothing but their ids.

        Args:
            ids: int64 ``(rows,)``, alive.
            folds: Parts into which the memory is divided.
            shrinkages: One table for each.

        Returns:
            float64 ``(rows, classes)`` for each shrinkage.
        """
        with self._lock:
            sums = self.follow()
            scores = [np.empty((len(ids), len(sums.counts))) for _ in shrinkages]
            everybody = self._ids % folds
            for fold in range(folds):
                here = np.flatnonzero(ids % folds == fold)
                if not len(here):
                    continue
                out = everybody == fold
                others = sums.plus(self._sums_of(self._ids[out], self._labels[out]), -1)
                keys = self.memory.keys(ids[here])
                norms = measure(keys)
                for table, shrinkage in zip(scores, shrinkages, strict=True):
                    table[here] = class_scores(keys, norms, discriminant(others, shrinkage))
            return scores

    def _catch_up(self) -> None:
        """Take away the rows that went or have another label now, then add what is new."""
        ids, labels, classes = self._now()
        stays = np.isin(self._ids, ids, assume_unique=True)
        stays[stays] = labels[np.searchsorted(ids, self._ids[stays])] == self._labels[stays]
        kept = self._ids[stays]
        if not self._subtract(self._ids[~stays], len(kept)):
            kept, self._sums = kept[:0], KeySums.empty(len(self._classes), self.memory.dim)
        self._classes_become(classes)
        new = np.isin(ids, kept, assume_unique=True, invert=True)
        self._sums = self._sums.plus(self._sums_of(ids[new], labels[new]))
        self._ids, self._labels = ids, labels

    def _now(self) -> tuple[Ids, NDArray[Any], NDArray[Any]]:
        ids = self.memory.ids
        return ids, _labels(self.memory, ids), self.memory.labels

    def _subtract(self, gone: Ids, rows: int) -> bool:
        """Take rows out of the sums; False where their keys are no longer known."""
        if not keys_are_as_they_were(self.memory, self._version):
            return False
        if len(gone) > rows:
            return False  # to add those that stay is quicker
        if not len(gone):
            return True
        with suppress(UnknownIds, UnknownVersion, InputError):
            past = self.memory.at(self._version)
            keys = past.keys(gone)
            place = np.searchsorted(self._ids, gone)
            codes = np.searchsorted(self._classes, self._labels[place])
            less = sum_keys(keys, measure(keys), codes, len(self._classes))
            self._sums = self._sums.plus(less, -1)
            return True
        return False

    def _classes_become(self, classes: NDArray[Any]) -> None:
        """Arrange the sums for the labels that are alive now."""
        if np.array_equal(classes, self._classes):
            return
        counts = np.zeros(len(classes), np.int64)
        sums = np.zeros((len(classes), self.memory.dim), np.int64)
        if len(self._classes) and len(classes):
            place = np.minimum(np.searchsorted(classes, self._classes), len(classes) - 1)
            kept = classes[place] == self._classes
            counts[place[kept]], sums[place[kept]] = self._sums.counts[kept], self._sums.sums[kept]
        self._classes, self._sums = classes, KeySums(counts, sums, self._sums.products)

    def _sums_of(self, ids: Ids, labels: NDArray[Any]) -> KeySums:
        total = KeySums.empty(len(self._classes), self.memory.dim)
        for start in range(0, len(ids), BLOCK):
            part = slice(start, start + BLOCK)
            keys = self.memory.keys(ids[part])
            codes: Codes = np.searchsorted(self._classes, labels[part])
            total = total.plus(sum_keys(keys, measure(keys), codes, len(self._classes)))
        return total


def _labels(memory: Memory, ids: Ids) -> NDArray[Any]:
    if not len(ids):
        return np.empty(0, memory.labels.dtype)
    return memory.look_up(ids[:, None], np.ones((len(ids), 1), np.float32)).values[:, 0]
