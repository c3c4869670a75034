"""The options of dense prediction, judged together before anything is read or written."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from recollect.errors import InvalidParameter
from recollect.heads.dense_memory.novelty import Novelty, Order
from recollect.heads.dense_memory.plan import Kernel, Plan, Score
from recollect.heads.dense_memory.pyramids import PRECISIONS, Precision
from recollect.index.policy import Approximate
from recollect.readout.propagation import Mode

MESSAGES = ("anchored", "step", None)
RETRIEVALS = ("cell", "patch")
READINGS = ("mean", "median", "linear")
K_RATE, K_LAST = 2, 4  # how fast an integer k falls from level to level, and to what
LABELS = 1 << 63  # masks are int64
FURTHEST = 8  # cells in whose reach messages are; the paper speaks of the nearest ones
MOST_ROUNDS = 100_000
HEAVIEST = 1e6
# Beyond these the numbers that depend on them leave the range of floats.
LARGEST = {"position": 1e6, "tolerance": 1e6, "balance": 10.0}


@dataclass(frozen=True, slots=True)
class Settings:
    """How cells are kept, searched and read. Attributes: as the options of the heads."""

    k: int | Sequence[int]
    temperature: float
    sparse_levels: int
    kernel: Kernel
    message_passing: Mode | None
    score: Score
    level_weights: Sequence[float] | None
    position: float
    prefilter: int | None
    precision: Precision
    order: Order
    block_labels: bool
    radius: int
    links: int
    link_temperature: float
    alpha: float
    tolerance: float
    max_iterations: int
    memory_cap: int
    retrieve: Literal["cell", "patch"] = "cell"
    balance: float = 0.0
    reading: Literal["mean", "median", "linear"] = "mean"
    ignore: int = 255
    labels: Sequence[int] | None = None
    sparse_keep: int = 1
    novelty: Novelty = "mean"
    search: Approximate | None = None

    def __post_init__(self) -> None:
        _check_k(self.k)
        if not is_whole(self.ignore) or not -LABELS <= self.ignore < LABELS:
            raise _wrong("ignore", "a whole number that fits in 64 bits", self.ignore)
        _check_labels(self.labels)
        _above("temperature", self.temperature, 0.0, infinite=True)
        _above("link_temperature", self.link_temperature, 0.0, infinite=True)
        at_least("sparse_levels", self.sparse_levels, 0)
        at_least("links", self.links, 1)
        at_least("sparse_keep", self.sparse_keep, 1)
        if self.search is not None and not isinstance(self.search, Approximate):
            raise _wrong("search", "an Approximate, or None", self.search)
        _one_of("novelty", self.novelty, ("mean", "max"))
        for name, most in (("radius", FURTHEST), ("max_iterations", MOST_ROUNDS)):
            value = getattr(self, name)
            if not is_whole(value) or not 1 <= value <= most:
                raise _wrong(name, f"a whole number from 1 to {most:,}", value)
        at_least("memory_cap", self.memory_cap, 1 << 20)
        _one_of("block_labels", self.block_labels, (False, True))
        if self.prefilter is not None:
            at_least("prefilter", self.prefilter, 1)
        _one_of("kernel", self.kernel, ("children", "overlap"))
        _one_of("message_passing", self.message_passing, MESSAGES)
        _one_of("score", self.score, ("level", "path"))
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("order", self.order, ("coarse_first", "fine_first"))
        _one_of("retrieve", self.retrieve, RETRIEVALS)
        _one_of("reading", self.reading, READINGS)
        if not (_number(self.alpha) and 0.0 <= self.alpha < 1.0):
            raise _wrong("alpha", "a number in [0, 1)", self.alpha)
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if not (_number(value) and 0.0 <= value <= largest):
                raise _wrong(name, f"a number from 0 to {largest:,g}", value)
        self._check_level_weights()

    def _check_level_weights(self) -> None:
        weights = self.level_weights
        if weights is None:
            return
        fine = _several(weights) and all(_number(w) and 0.0 <= w <= HEAVIEST for w in weights)
        if not fine or not len(weights) or not weights[0] >= 1 / HEAVIEST:
            raise _wrong(
                "level_weights",
                f"a number from 0 to {HEAVIEST:,g} a level, the first not below {1 / HEAVIEST:g}",
                weights,
            )

    def plan(self, levels: int) -> Plan:
        """How to search pyramids of so many levels.

        Raises:
            InvalidParameter: ``level_weights`` or ``sparse_levels`` do not go with them.
        """
        if self.sparse_levels > levels - 1:
            raise _wrong(
                "sparse_levels", f"at most {levels - 1} for {levels} levels", self.sparse_levels
            )
        weights = (1.0,) * levels if self.level_weights is None else tuple(self.level_weights)
        if len(weights) != levels:
            raise _wrong("level_weights", f"{levels} numbers, one a level", self.level_weights)
        share = max(self.memory_cap // 4, 1 << 18)
        return Plan(self.ks(levels), self.score, weights, share)

    def ks(self, levels: int) -> tuple[int, ...]:
        """Return the matches kept on each level.

        A number k falls as ``max(4, ceil(k / 2^level))``; of several the last counts for all
        further levels.
        """
        if is_whole(self.k):
            first = int(self.k)  # type: ignore[arg-type]
            least = min(first, K_LAST)
            return tuple(max(least, -(-first // K_RATE**level)) for level in range(levels))
        several = [int(k) for k in self.k]  # type: ignore[union-attr]
        return tuple((several + several[-1:] * levels)[:levels])


def is_whole(value: object) -> bool:
    """Whether it is one whole number; True and False are none."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return False
    try:
        operator.index(value)
    except TypeError:  # an array of several numbers has the method too
        return False
    return True


def several_sides(value: Any) -> tuple[Any, ...]:
    """One thing an axis; what is no list, such as one number, stands for one axis."""
    alone = isinstance(value, np.ndarray) and value.ndim == 0
    return tuple(value) if hasattr(value, "__iter__") and not alone else (value,)


def _number(value: object) -> bool:
    if not is_whole(value) and not isinstance(value, float | np.floating):
        return False
    try:
        return not math.isnan(float(value))  # type: ignore[arg-type]
    except OverflowError:
        return False


def _several(value: object) -> bool:
    """Whether it is a list of things, not text and not something that is used up by reading."""
    return hasattr(value, "__len__") and isinstance(value, Sequence | np.ndarray) and not (
        isinstance(value, str | bytes) or np.ndim(value) == 0
    )  # fmt: skip


def _check_k(k: Any) -> None:
    if not is_whole(k) and not (_several(k) and len(k)):
        raise _wrong("k", "a whole number of at least 1, or one a level", k)
    for each in [k] if is_whole(k) else k:
        at_least("k", each, 1)


def _check_labels(labels: Any) -> None:
    if labels is None:
        return
    fine = _several(labels) and all(is_whole(each) and 0 <= each < LABELS for each in labels)
    if not fine or not len(labels):
        raise _wrong("labels", "whole numbers from 0 on, or None for any", labels)


def at_least(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number of at least so much, by ``InvalidParameter``."""
    if not is_whole(value) or value < least:  # type: ignore[operator]
        raise _wrong(name, f"a whole number of at least {least}", value)


def _above(name: str, value: object, limit: float, *, infinite: bool) -> None:
    fits = _number(value) and value > limit  # type: ignore[operator]
    if not fits or (not infinite and value == math.inf):
        raise _wrong(name, f"a number above {limit:g}", value)


def _one_of(name: str, value: object, choices: tuple[Any, ...]) -> None:
    if not any(value is each or (isinstance(value, str) and value == each) for each in choices):
        raise _wrong(name, f"one of {', '.join(map(repr, choices))}", value)


def _wrong(name: str, expected: str, got: object) -> InvalidParameter:
    return InvalidParameter(
        f"{name} is out of range", expected=expected, got=f"{got!r:.80}",
        remedy=f"Set {name}= accordingly.",
    )  # fmt: skip
