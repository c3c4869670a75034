"""Pictures that come one after another: each is labelled, written, and answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from recollect.heads.dual_memory.bank import QUERIES, Bank
from recollect.heads.dual_memory.competition import Offers, Slots
from recollect.readout.attention import entropy, select_views, softmax
from recollect.types import Codes, Doubles, Floats, Ids

Order: TypeAlias = Literal["auto", "write-read", "read-write", "read-others"]
ORDERS: tuple[Order, ...] = get_args(Order)
Labels: TypeAlias = Literal["text", "text+static"]
LABELS: tuple[Labels, ...] = get_args(Labels)

_VIEWS = 4096  # judged at once, so that what is held stays small


@dataclass(frozen=True, slots=True)
class Guesses:
    """What pictures are taken for before the dynamic memory is asked.

    Attributes:
        probability: float64 ``(pictures, classes)``: mean over the views that were kept.
        codes: int64 ``(pictures,)``: its largest entry, of equal ones the first.
        entropy: float64 ``(pictures,)``.
    """

    probability: Doubles
    codes: Codes
    entropy: Doubles


def guess(probability: Doubles) -> Guesses:
    """Take each picture for its most probable class."""
    return Guesses(probability, probability.argmax(axis=1), entropy(probability, 1e-8))


def label_probability(bank: Bank, x: Floats, labels: Labels, beta: float, scale: float) -> Doubles:
    """Probabilities that pseudo labels come from, ``(pictures, classes)``.

    They depend on names and shots only, never on what was observed before: so the slots are a
    function of the rows that are there, in their order, and a row can be forgotten exactly.

    Args:
        bank: Names and shots.
        x: Pictures, of length 1.
        labels: ``"text"``, or ``"text+static"``: the mean of both.
        beta: Sharpness of the read-out.
        scale: Of the logits.
    """
    text = bank.text_probability(x, scale)
    if text is not None and (labels == "text" or not bank.shots.any()):
        return text
    static = static_probability(bank, x, beta, scale)
    return static if text is None else (text + static) / 2.0


def static_probability(bank: Bank, x: Floats, beta: float, scale: float) -> Doubles:
    """Probabilities of the static memory, ``(pictures, classes)``."""
    score, _ = bank.scores(bank.queries(x), beta, dynamic=False)
    assert score is not None
    return softmax(scale * score)


def guess_from_views(
    bank: Bank, views: Floats, counts: Codes, labels: Labels, beta: float, scale: float,
    fraction: float,
) -> Guesses:  # fmt: skip
    """Take each picture for the most probable class of its surest views (section 3.3).

    The text says which views are surest, or, without text, the shots. So the choice depends on
    names and shots, and is made anew whenever these change.

    Args:
        bank: Names and shots.
        views: float32 ``(views, dim)`` of length 1: all of the first picture, then of the second.
        counts: int64 ``(pictures,)``: how many views each has, at least 1.
        labels: See :func:`label_probability`.
        beta: Sharpness of the read-out.
        scale: Of the logits.
        fraction: Share of the views that is kept, at least one.
    """
    if (counts == 1).all():
        return guess(label_probability(bank, views, labels, beta, scale))
    means = []
    starts = np.cumsum(counts) - counts
    for some in _parts(counts):
        first, last = starts[some[0]], starts[some[-1]] + counts[some[-1]]
        here = views[first:last]
        sure = bank.text_probability(here, scale)
        if sure is None:
            sure = label_probability(bank, here, labels, beta, scale)
        kept = [
            start + np.sort(select_views(sure[start : start + count], fraction)[0])
            for start, count in zip((starts[some] - first).tolist(), counts[some], strict=True)
        ]
        asked = label_probability(bank, here[np.concatenate(kept)], labels, beta, scale)
        stops = np.cumsum([len(each) for each in kept])
        means += [
            np.add.reduce(asked[stop - len(each) : stop], axis=0) / len(each)
            for stop, each in zip(stops.tolist(), kept, strict=True)
        ]
    return guess(np.array(means))


def _parts(counts: Codes) -> list[Codes]:
    """Pictures whose views are judged at once; which ones share a part changes no bit."""
    part = (np.cumsum(counts) - 1) // _VIEWS
    return np.split(np.arange(len(counts)), np.flatnonzero(np.diff(part)) + 1)


def resolved(order: Order, bank: Bank) -> Order:
    """Return what ``"auto"`` means with these shots; any other order is itself."""
    if order == "auto":
        return "read-write" if bank.shots.any() else "write-read"
    return order


def follow(
    bank: Bank, slots: Slots, x: Floats, offers: Offers, *, order: Order, beta: float,
    trust: Floats,
) -> tuple[Doubles, Ids, Doubles]:  # fmt: skip
    """Let pictures be written one after another, and read the dynamic memory for each.

    The result is that of one picture at a time, to the last bit: all are read at once from the
    memory as it was, and for each write the class concerned is read again for those that follow.

    Args:
        bank: Changed as the pictures are written.
        slots: Changed with it.
        x: float32 ``(pictures, dim)``, of length 1.
        offers: What each brings to the competition.
        order: ``"write-read"``: written, then read, as published. ``"read-write"``: read, then
            written. ``"read-others"``: written, then read as if its own slot were empty.
        beta: Sharpness of the read-out.
        trust: float32 ``(pictures,)``: of each picture's slot.

    Returns:
        Cosines of the dynamic memory ``(pictures, classes)``; the slot that each took, or -1; and
        how many slots of a class were filled in the mean when each was read.
    """
    found = np.empty((len(x), bank.classes))
    taken, held = np.full(len(x), -1, np.int64), np.empty(len(x))
    filled = int(slots.count.sum())
    queries = bank.queries(x)
    # Reading a class again for all that follow should cost no more than reading all classes once.
    block = min(QUERIES, max(16, 2 * bank.classes))
    for start in range(0, len(x), block):
        stop = min(start + block, len(x))
        _, read = bank.scores(queries.part(start, stop), beta, static=False)
        assert read is not None
        found[start:stop] = read
        for place in range(start, stop):
            held[place] = filled
            if not offers.enters[place]:
                continue
            code, row = int(offers.codes[place]), int(offers.ids[place])
            slot = slots.offer(code, float(offers.priority[place]), row)
            if slot < 0:
                continue
            taken[place] = slot
            filled = int(slots.count.sum())
            if order == "write-read":
                held[place] = filled
            bank.put(code, slot, x[place], row, float(trust[place]))
            since = place + (order != "write-read")
            if since < stop:
                found[since:stop, code] = bank.dynamic_of(code, queries.part(since, stop), beta)
            if order == "read-others":
                own = queries.part(place, place + 1)
                found[place, code] = bank.dynamic_of(code, own, beta, without=slot)[0]
    return found, taken, held / bank.classes
