"""What answers are computed from: slots and their arrays, derived from the rows of a memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recollect.heads.dual_memory.bank import Bank
from recollect.heads.dual_memory.channels import channels_of
from recollect.heads.dual_memory.competition import Offers, Slots, make_offers, no_offers, waiting
from recollect.heads.dual_memory.fusion import Members
from recollect.heads.dual_memory.negative import Negative, doubts
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.parts import Parts
from recollect.heads.dual_memory.stream import (
    Guesses,
    Labels,
    Order,
    follow,
    guess_from_views,
    resolved,
)
from recollect.memory.memory import Memory
from recollect.readout.attention import softmax, unit
from recollect.types import Codes, Doubles, Floats, Ids


@dataclass(frozen=True, slots=True)
class Options:
    """Settings that the derived arrays depend on.

    Attributes:
        length: Dynamic slots of each class.
        beta: Sharpness of the read-out.
        scale: Of the logits.
        order: When an observed picture is written and read.
        labels: What pseudo labels come from.
        fraction: Share of the views that is kept.
        decay: See ``make_offers``.
        threshold: See ``make_offers``.
        trust: Exponent of (1 - entropy / log(classes)), by which dynamic slots weigh.
        negative: Factor of negative evidence; 0 leaves it out.
        channels: In how many channels the static memory meets the picture; None is all.
        balance: What they are chosen by; see ``telling_channels``.
    """

    length: int
    beta: float
    scale: float
    order: Order
    labels: Labels
    fraction: float
    decay: float
    threshold: float | None
    trust: float
    negative: float = 0.0
    channels: int | None = None
    balance: float = 0.7


@dataclass(frozen=True, slots=True)
class Plan:
    """Pictures that are about to be observed, judged but not written.

    Attributes:
        x: float32 ``(pictures, dim)``, of length 1.
        guesses: Pseudo labels.
    """

    x: Floats
    guesses: Guesses


class State:
    """Slots, arrays and the stream so far, as the live rows determine them.

    Args:
        parts: The rows.
        options: Settings.
        offsets: Learned offsets, or None.
    """

    def __init__(self, parts: Parts, options: Options, offsets: Offsets | None) -> None:
        # What was observed may be long: once it is in the slots, its rows are in the memory alone.
        self.parts, self.options = parts.taught(), options
        self.bank = Bank(
            parts.text,
            parts.text_ids,
            parts.shots,
            parts.codes,
            parts.shot_ids,
            length=options.length,
            offsets=offsets,
            trusting=options.trust > 0,
            channels=channels_of(parts, options.channels, options.balance),
        )
        self.slots = Slots(self.bank.classes, options.length)
        self.offers = no_offers()
        self.negative = Negative(self.bank.classes, self.bank.dim)
        self._view_ids = dict(zip(parts.seen_ids.tolist(), _split(parts), strict=True))
        if not self.bank.classes:
            # Their shots are gone and they have no name: pictures wait until there are classes.
            self.offers = waiting(parts.seen_ids)
        elif len(parts.seen):
            guesses = self._guess(parts.views, parts.counts)
            self._doubt(parts.seen, guesses)
            self.offers = self._offers(parts.seen_ids, guesses, first=0)
            self.slots.play(self.offers)
            place = {row: at for at, row in enumerate(parts.seen_ids.tolist())}
            for code in range(self.bank.classes):
                held = self.slots.ids[code, : self.slots.count[code]]
                if len(held):
                    at = [place[row] for row in held.tolist()]
                    self.bank.refill(code, parts.seen[at], held, self._trust(at))

    @property
    def named(self) -> bool:
        """True if the memory holds rows of names."""
        return bool((self.parts.text_ids >= 0).any())

    # -- observing -----------------------------------------------------------------------------

    def plan(self, keys: Floats, views: Floats | None) -> Plan:
        """Label pictures; nothing is changed.

        Args:
            keys: ``(pictures, dim)``.
            views: ``(pictures, views, dim)``, the first of each the picture itself; None for one.
        """
        x = unit(keys)
        if views is None:
            return Plan(x, self._guess(x, np.ones(len(x), np.int64)))
        flat = unit(views.reshape(-1, views.shape[-1]))
        return Plan(x, self._guess(flat, np.full(len(x), views.shape[1], np.int64)))

    def take(
        self, plan: Plan, ids: Ids, view_ids: list[Ids]
    ) -> tuple[Doubles, Doubles, Ids, Doubles]:
        """Let planned pictures be written, and read the dynamic memory for each.

        Returns:
            Evidence against each class, and what ``stream.follow`` gives.
        """
        against = self._doubt(plan.x, plan.guesses)
        offers = self._offers(ids, plan.guesses, first=len(self.offers))
        self.offers = self.offers.then(offers)
        self._view_ids.update(zip(ids.tolist(), view_ids, strict=True))
        at = np.arange(len(self.offers) - len(ids), len(self.offers))
        return against, *follow(
            self.bank, self.slots, plan.x, offers, order=self.order,
            beta=self.options.beta, trust=self._trust(at),
        )  # fmt: skip

    @property
    def order(self) -> Order:
        """When a picture is read and written, with these shots."""
        return resolved(self.options.order, self.bank)

    def views_of(self, ids: Ids) -> Ids:
        """Rows of views that belong to observed pictures."""
        own = set(ids.tolist())
        found = [self._view_ids[row] for row in own & self._view_ids.keys()]
        return np.array(sorted({row for some in found for row in some.tolist()} - own), np.int64)

    def drop(self, ids: Ids, memory: Memory) -> None:
        """Take observed pictures out: only the classes they competed in are played again.

        Where slots age, a row that is gone makes all that came after it one picture younger.
        """
        stay = ~np.isin(self.offers.ids, ids)
        concerned = np.unique(self.offers.codes[~stay])
        left = self.offers.take(stay)
        for row in ids.tolist():
            self._view_ids.pop(row, None)
        if self.options.decay:
            left = self._offers(left.ids, Guesses(np.empty((0, 0)), left.codes, left.entropy), 0)
            concerned = np.arange(self.bank.classes)
        self.offers = left
        for code in concerned.tolist():
            self.slots.clear(code)
        self.slots.play(left.take(np.isin(left.codes, concerned)))
        place = {row: at for at, row in enumerate(left.ids.tolist())}
        for code in concerned.tolist():
            held = self.slots.ids[code, : self.slots.count[code]]
            keys = memory.rows(held).keys if len(held) else np.empty((0, self.bank.dim))
            at = [place[row] for row in held.tolist()]
            self.bank.refill(code, unit(keys), held, self._trust(at))

    # -- asking --------------------------------------------------------------------------------

    def members(self, x: Floats) -> Members:
        """Ask text, dynamic and static memory; x is of length 1."""
        static, dynamic = self.bank.scores(
            self.bank.queries(x), self.options.beta, static=bool(self.bank.shots.any())
        )
        against = self.negative.read(x) if self.options.negative else None
        assert dynamic is not None
        return self.as_members(x, dynamic, static, against)

    def novelty(self, x: Floats) -> Doubles:
        """How little each picture resembles any class, by names and shots alone: ``(pictures,)``.

        An observed stranger lies in the dynamic memory, under some name, and would make its like
        familiar.
        """
        static, _ = self.bank.scores(self.bank.queries(x), self.options.beta, dynamic=False)
        assert static is not None
        # Rounding may lift the cosine of a vector with itself a last digit above 1.
        return np.asarray(np.clip(1.0 - static.max(axis=1), 0.0, 2.0))

    def as_members(
        self,
        x: Floats,
        dynamic: Doubles,
        static: Doubles | None,
        against: Doubles | None = None,
    ) -> Members:
        """Turn cosines into probabilities, and ask the text."""
        scale = self.options.scale
        logits = scale * dynamic
        if self.options.negative and against is not None:
            logits -= self.options.negative * against
        return Members(
            self.bank.text_probability(x, scale),
            softmax(logits),
            None if static is None else softmax(scale * static),
        )

    def counts(self) -> tuple[float, float]:
        """Filled dynamic slots, and shots, of a class in the mean."""
        return float(self.slots.count.mean()), float(self.bank.shots.mean())

    # -- inside --------------------------------------------------------------------------------

    def _doubt(self, x: Floats, guesses: Guesses) -> Doubles:
        """Let unsure pictures enter the negative memory; returns what speaks against each."""
        if not self.options.negative:
            return np.zeros((len(x), 0))
        found = doubts(guesses.probability, guesses.codes, guesses.entropy)
        return self.negative.follow(x, found, order=self.order)

    def _guess(self, views: Floats, counts: Codes) -> Guesses:
        options = self.options
        return guess_from_views(
            self.bank, views, counts, options.labels, options.beta, options.scale,
            options.fraction,
        )  # fmt: skip

    def _offers(self, ids: Ids, guesses: Guesses, first: int) -> Offers:
        return make_offers(
            ids, guesses.codes, guesses.entropy, classes=self.bank.classes, first=first,
            decay=self.options.decay, threshold=self.options.threshold,
        )  # fmt: skip

    def _trust(self, places: Ids | list[int]) -> Floats:
        most = np.log(max(self.bank.classes, 2))
        sure = np.clip(1.0 - self.offers.entropy[places] / most, 0.0, 1.0)
        return np.asarray(sure**self.options.trust, np.float32)


def _split(parts: Parts) -> list[Ids]:
    return np.split(parts.view_ids, np.cumsum(parts.counts)[:-1]) if len(parts.counts) else []
