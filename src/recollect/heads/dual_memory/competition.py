"""Which observed pictures hold a slot: the surest of each class, as they came (section 3.3).

The slots are a function of the observed rows in their order: their pseudo labels and entropies.
So a row that is forgotten leaves no trace once its class has been played again without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recollect.types import Codes, Doubles, Ids, Mask


@dataclass(frozen=True, slots=True)
class Offers:
    """What observed pictures bring to the competition, in the order in which they came.

    Attributes:
        ids: int64 ``(rows,)``: row ids.
        codes: int64 ``(rows,)``: pseudo labels.
        entropy: float64 ``(rows,)``: of the probabilities behind the label; small is sure.
        priority: float64 ``(rows,)``: what decides, small wins; the entropy unless rows age.
        enters: bool ``(rows,)``: False where the row is too unsure to be written at all.
    """

    ids: Ids
    codes: Codes
    entropy: Doubles
    priority: Doubles
    enters: Mask

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Ids | Mask) -> Offers:
        """Return some of them, in the same order."""
        return Offers(
            self.ids[places],
            self.codes[places],
            self.entropy[places],
            self.priority[places],
            self.enters[places],
        )

    def then(self, later: Offers) -> Offers:
        """Return these and then those."""
        return Offers(
            np.concatenate([self.ids, later.ids]),
            np.concatenate([self.codes, later.codes]),
            np.concatenate([self.entropy, later.entropy]),
            np.concatenate([self.priority, later.priority]),
            np.concatenate([self.enters, later.enters]),
        )


def no_offers() -> Offers:
    """Return an empty stream."""
    nothing = np.empty(0)
    return Offers(
        np.empty(0, np.int64), np.empty(0, np.int64), nothing, nothing, np.empty(0, np.bool_)
    )


def waiting(ids: Ids) -> Offers:
    """Return a stream of pictures that compete for nothing, because there are no classes."""
    none = np.zeros(len(ids))
    return Offers(ids, np.zeros(len(ids), np.int64), none, none, np.zeros(len(ids), np.bool_))


def make_offers(
    ids: Ids,
    codes: Codes,
    entropy: Doubles,
    *,
    classes: int,
    first: int = 0,
    decay: float = 0.0,
    threshold: float | None = None,
) -> Offers:
    """Turn pseudo labels into offers.

    Args:
        ids: Row ids, in the order of the stream.
        codes: Pseudo labels.
        entropy: Of their probabilities.
        classes: How many classes there are; log(classes) is the largest entropy.
        first: How many pictures came before these.
        decay: How much entropy a slot gains with each picture that comes after it. Because all
            slots age alike, it is enough to favor later pictures by it from the start.
        threshold: Largest entropy that is written, as a share of log(classes); None writes all.
    """
    position = first + np.arange(len(ids))
    enters = np.ones(len(ids), np.bool_)
    if threshold is not None:
        enters = entropy <= threshold * np.log(max(classes, 2))
    return Offers(ids, codes, entropy, entropy - decay * position, enters)


class Slots:
    """The slots of every class: who holds them, and how sure each holder was.

    Args:
        classes: Number of classes.
        length: Slots of each class.

    Attributes:
        ids: int64 ``(classes, length)``: row ids, -1 where empty.
        priority: float64 ``(classes, length)``: of the holders, ``-inf`` where empty.
        count: int64 ``(classes,)``: slots that are filled, from the first on.
    """

    def __init__(self, classes: int, length: int) -> None:
        self.ids = np.full((classes, length), -1, np.int64)
        self.priority = np.full((classes, length), -np.inf)
        self.count = np.zeros(classes, np.int64)

    def offer(self, code: int, priority: float, row: int) -> int:
        """Let a row compete for a slot of its class.

        A class with room takes it. A full one gives up its least sure slot, of equal ones the
        first, to a row that is surer; one that is only as sure is discarded.

        Returns:
            The slot that it holds now, or -1.

        Example:
            >>> slots = Slots(1, 1)
            >>> [slots.offer(0, sureness, row) for row, sureness in enumerate([0.5, 0.5, 0.2])]
            [0, -1, 0]
        """
        held = self.priority[code]
        slot = int(self.count[code])
        if slot < len(held):
            self.count[code] += 1
        else:
            slot = int(held.argmax())
            if not priority < held[slot]:
                return -1
        held[slot] = priority
        self.ids[code, slot] = row
        return slot

    def clear(self, code: int) -> None:
        """Empty the slots of one class."""
        self.ids[code] = -1
        self.priority[code] = -np.inf
        self.count[code] = 0

    def play(self, offers: Offers) -> Ids:
        """Let rows compete in their order; returns the slot each took when it came, or -1."""
        taken = np.full(len(offers), -1, np.int64)
        columns = (offers.codes.tolist(), offers.priority.tolist(), offers.ids.tolist())
        for place, (code, priority, row) in enumerate(zip(*columns, strict=True)):
            if offers.enters[place]:
                taken[place] = self.offer(code, priority, row)
        return taken
