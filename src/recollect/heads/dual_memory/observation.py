"""What `observe` gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dual_memory.fusion import Members
from recollect.types import Doubles, Ids


@dataclass(frozen=True, eq=False)
class Observation:
    """Answers to observed pictures, and what the memory made of them.

    As an array it is its ``labels``.

    Attributes:
        labels: ``(pictures,)``: the answer to each.
        probability: float64 ``(pictures, classes)``: in the order of ``classes_``.
        members: What text, dynamic and static memory said.
        pseudo_labels: ``(pictures,)``: what each was written as.
        entropy: float64 ``(pictures,)``: how unsure that was.
        slots: int64 ``(pictures,)``: the slot each took when it came, -1 if none.
        held: float64 ``(pictures,)``: filled slots of a class, in the mean, when each was read.
        ids: int64 ``(pictures,)``: rows, to forget or inspect them.
    """

    labels: NDArray[Any]
    probability: Doubles
    members: Members
    pseudo_labels: NDArray[Any]
    entropy: Doubles
    slots: Ids
    held: Doubles
    ids: Ids

    def __len__(self) -> int:
        return len(self.labels)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        if dtype is None and not copy:
            return self.labels
        return np.array(self.labels, dtype=dtype)


@dataclass(frozen=True, eq=False)
class Holders:
    """Which observed pictures hold the dynamic slots.

    Attributes:
        ids: int64 ``(classes, slots)``: rows, -1 where a slot is empty.
        entropy: float64 ``(classes, slots)``: how unsure each label was, NaN where empty.
        counts: int64 ``(classes,)``: filled slots.
    """

    ids: Ids
    entropy: Doubles
    counts: Ids
