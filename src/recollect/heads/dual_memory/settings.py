"""The options of a dual memory, judged when they are used."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

from recollect.errors import InvalidParameter
from recollect.heads.dual_memory.fusion import FUSIONS
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.state import Options
from recollect.heads.dual_memory.stream import LABELS, ORDERS, Labels, Order
from recollect.heads.dual_memory.training import Training

Mode: TypeAlias = Literal["published", "robust"]
MODES: tuple[Mode, ...] = get_args(Mode)

_MODES: dict[str, tuple[Order, Labels]] = {
    "published": ("write-read", "text"),
    "robust": ("auto", "text+static"),
}


def check_options(head: Any) -> Options:
    """Judge the parameters of an estimator and return those that its arrays depend on.

    Raises:
        InvalidParameter: One of them is out of range.
    """
    _choice("mode", head.mode, MODES)
    order, labels = _MODES[head.mode]
    order = order if head.order is None else head.order
    labels = labels if head.labels is None else head.labels
    _choice("order", order, ORDERS)
    _choice("labels", labels, LABELS)
    _choice("fusion", head.fusion, FUSIONS)
    _choice("augmentation", head.augmentation, ("augmix", "crop"))
    _whole("memory_length", head.memory_length, 1)
    _whole("views", head.views, 1)
    _whole("seed", head.seed, 0)
    _number("beta", head.beta, 0.0, math.inf)
    _number("scale", head.scale, 1e-6, 1e6)
    _number("view_fraction", head.view_fraction, 1e-9, 1.0)
    _number("anchor", head.anchor, 1e-9, 1e9)
    _number("trust", head.trust, 0.0, 100.0)
    _number("negative", head.negative, 0.0, 1e6)
    _number("decay", head.decay, 0.0, 1e9)
    if head.threshold is not None:
        _number("threshold", head.threshold, 0.0, 1.0)
    check_weights(head.weights)
    if not isinstance(head.offsets, Offsets | Training | None):
        raise InvalidParameter(
            "offsets are not known",
            expected="None, Offsets, or Training that says how to learn them",
            got=f"{head.offsets!r:.80}",
            remedy="Pass offsets=Training() to learn them from the shots.",
        )
    return Options(
        length=int(head.memory_length), beta=float(head.beta), scale=float(head.scale),
        order=order, labels=labels, fraction=float(head.view_fraction), decay=float(head.decay),
        threshold=None if head.threshold is None else float(head.threshold),
        trust=float(head.trust), negative=float(head.negative),
    )  # fmt: skip


def check_weights(weights: Any) -> tuple[float, float, float]:
    """Return three weights of 0 or more, at least one above 0."""
    try:
        text, dynamic, static = (float(each) for each in weights)
        good = all(math.isfinite(each) and each >= 0 for each in (text, dynamic, static))
    except (TypeError, ValueError):
        good, text, dynamic, static = False, 0.0, 0.0, 0.0
    if not good or not text + dynamic + static > 0:
        raise InvalidParameter(
            "the weights of text, dynamic and static memory are out of range",
            expected="three finite numbers of 0 or more, not all 0",
            got=f"{weights!r:.80}",
            remedy="(1.0, 1.0, 1.0) weighs all alike; tune() chooses.",
        )
    return text, dynamic, static


def _choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in known:
        raise InvalidParameter(
            f"{name} is not known",
            expected=f"one of {', '.join(known)}",
            got=f"{value!r:.80}",
            remedy=f"Leave {name} at its default if unsure.",
        )


def _whole(name: str, value: Any, least: int) -> None:
    good = not isinstance(value, bool) and hasattr(value, "__index__") and int(value) >= least
    if not good:
        raise InvalidParameter(
            f"{name} is out of range", expected=f"an integer of at least {least}",
            got=f"{value!r:.80}", remedy=f"Leave {name} at its default if unsure.",
        )  # fmt: skip


def _number(name: str, value: Any, low: float, high: float) -> None:
    try:
        good = not isinstance(value, bool | str) and low <= float(value) <= high
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InvalidParameter(
            f"{name} is out of range", expected=f"a number from {low:g} to {high:g}",
            got=f"{value!r:.80}", remedy=f"Leave {name} at its default if unsure.",
        )  # fmt: skip
