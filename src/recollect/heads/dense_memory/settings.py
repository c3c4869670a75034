"""The options of dense prediction, judged together before anything is read or written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from recollect.errors import InvalidParameter
from recollect.heads.dense_memory.novelty import Order
from recollect.heads.dense_memory.pyramids import PRECISIONS, Precision
from recollect.heads.dense_memory.search import Kernel, Plan, Score
from recollect.readout.propagation import Mode

MESSAGES = ("anchored", "step", None)
RETRIEVALS = ("cell", "patch")
READINGS = ("mean", "median", "linear")
K_RATE, K_LAST = 2, 4  # how fast an integer k falls from level to level, and to what


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

    def __post_init__(self) -> None:
        for k in [self.k] if _whole(self.k) else self.k:  # type: ignore[union-attr]
            _at_least("k", k, 1)
        if not _whole(self.k) and not len(self.k):  # type: ignore[arg-type]
            raise _wrong("k", "a number, or one a level", self.k)
        _above("temperature", self.temperature, 0.0, infinite=True)
        _above("link_temperature", self.link_temperature, 0.0, infinite=True)
        _at_least("sparse_levels", self.sparse_levels, 0)
        for name, least in (("radius", 1), ("links", 1), ("max_iterations", 1)):
            _at_least(name, getattr(self, name), least)
        _at_least("memory_cap", self.memory_cap, 1 << 20)
        if self.prefilter is not None:
            _at_least("prefilter", self.prefilter, 1)
        _one_of("kernel", self.kernel, ("children", "overlap"))
        _one_of("message_passing", self.message_passing, MESSAGES)
        _one_of("score", self.score, ("level", "path"))
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("order", self.order, ("coarse_first", "fine_first"))
        _one_of("retrieve", self.retrieve, RETRIEVALS)
        _one_of("reading", self.reading, READINGS)
        if not (_number(self.alpha) and 0.0 <= self.alpha < 1.0):
            raise _wrong("alpha", "a number in [0, 1)", self.alpha)
        for name in ("position", "tolerance", "balance"):
            value = getattr(self, name)
            if not (_number(value) and 0.0 <= value < math.inf):
                raise _wrong(name, "a finite number of 0 or more", value)
        self._check_level_weights()

    def _check_level_weights(self) -> None:
        weights = self.level_weights
        if weights is None:
            return
        fine = all(_number(each) and 0.0 <= each < math.inf for each in weights)
        if not fine or not len(weights) or not weights[0] > 0:
            raise _wrong(
                "level_weights", "a number of 0 or more a level, the first above 0", weights
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
        if _whole(self.k):
            first = int(self.k)  # type: ignore[arg-type]
            least = min(first, K_LAST)
            return tuple(max(least, -(-first // K_RATE**level)) for level in range(levels))
        several = [int(k) for k in self.k]  # type: ignore[union-attr]
        return tuple((several + several[-1:] * levels)[:levels])


def _whole(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _number(value: object) -> bool:
    return _whole(value) or (isinstance(value, float) and not math.isnan(value))


def _at_least(name: str, value: object, least: int) -> None:
    if not _whole(value) or value < least:  # type: ignore[operator]
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
