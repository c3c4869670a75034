"""Negative evidence: what unsure pictures resemble, they are probably not (after TDA, CVPR 2024).

A picture whose label is unsure, but not hopeless, says little about what it is and something about
what it is not: all classes that its probabilities did not rule out are wrong but one. Pictures that
resemble it lose a little for these classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dual_memory.competition import Slots
from recollect.heads.dual_memory.stream import Order
from recollect.readout.attention import cosines
from recollect.types import Codes, Doubles, Floats

# TDA's settings for ImageNet: items of a class, their entropy in units of `unsureness`, the
# probabilities that count as not ruled out, and how fast the evidence falls with distance.
LENGTH = 2
UNSURE = (0.2, 0.5)
POSSIBLE = (0.03, 1.0)
BETA = 1.0
_GRID = 2.0**20  # steps of the evidence: sums of them are exact, in whatever order


@dataclass(frozen=True, slots=True)
class Doubts:
    """What observed pictures bring as negative evidence.

    Attributes:
        codes: int64 ``(pictures,)``: pseudo labels.
        entropy: float64 ``(pictures,)``.
        masks: bool ``(pictures, classes)``: classes that were not ruled out.
        enters: bool ``(pictures,)``: unsure enough, but not too unsure.
    """

    codes: Codes
    entropy: Doubles
    masks: NDArray[np.bool_]
    enters: NDArray[np.bool_]


def unsureness(entropy: Doubles, classes: int) -> Doubles:
    """Entropy, in nats, divided by log2(classes), as TDA's released code does.

    So the thresholds mean what they mean there, and a picture that may be anything has 0.69.

    Example:
        >>> unsureness(np.array([np.log(4.0)]), 4).round(4).tolist()
        [0.6931]
    """
    return np.asarray(entropy / np.log2(max(classes, 2)))


def doubts(probability: Doubles, codes: Codes, entropy: Doubles) -> Doubts:
    """Judge how unsure pictures are."""
    share = unsureness(entropy, probability.shape[1])
    return Doubts(
        codes,
        entropy,
        (probability > POSSIBLE[0]) & (probability < POSSIBLE[1]),
        (share > UNSURE[0]) & (share < UNSURE[1]),
    )


class Negative:
    """The unsure pictures that are kept, the surest of each pseudo label.

    Args:
        classes: Number of classes.
        dim: Width of a key.
    """

    def __init__(self, classes: int, dim: int) -> None:
        self._slots = Slots(classes, LENGTH)
        self._x = np.zeros((classes * LENGTH, dim), np.float32)
        self._masks = np.zeros((classes * LENGTH, classes))

    def follow(self, x: Floats, found: Doubts, *, order: Order) -> Doubles:
        """Let pictures enter one after another, and read for each what speaks against it.

        Args:
            x: float32 ``(pictures, dim)``, of length 1.
            found: What each brings.
            order: When a picture is read; see ``stream.follow``.

        Returns:
            float64 ``(pictures, classes)``: evidence against each class.
        """
        against = self.read(x)
        for place in np.flatnonzero(found.enters).tolist():
            code = int(found.codes[place])
            slot = self._slots.offer(code, float(found.entropy[place]), place)
            if slot < 0:
                continue
            at = LENGTH * code + slot
            gone, come = place + (order == "read-write"), place + (order != "write-read")
            against[gone:] -= _evidence(x[gone:], self._x[at : at + 1]) * self._masks[at]
            self._x[at], self._masks[at] = x[place], found.masks[place]
            against[come:] += _evidence(x[come:], self._x[at : at + 1]) * self._masks[at]
        return against

    def read(self, x: Floats) -> Doubles:
        """Return the evidence against each class, ``(pictures, classes)``."""
        held = np.flatnonzero(self._masks.any(axis=1))
        if not len(held):
            return np.zeros((len(x), self._masks.shape[1]))
        return np.asarray(_evidence(x, self._x[held]) @ self._masks[held])


def _evidence(x: Floats, items: Floats) -> Doubles:
    near = np.exp(-BETA * (1.0 - cosines(x, items)))
    return np.asarray(np.rint(near * _GRID) / _GRID)
