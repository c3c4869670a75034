"""The options of a dual memory, judged when they are used."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from recollect.errors import InvalidParameter
from recollect.heads.dual_memory.fusion import FUSIONS
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.ranges import (
    INT64,
    require_choice,
    require_number,
    require_whole,
)
from recollect.heads.dual_memory.state import Options
from recollect.heads.dual_memory.stream import LABELS, ORDERS, Labels, Order
from recollect.heads.dual_memory.training import Training

Mode: TypeAlias = Literal["published", "robust"]
MODES: tuple[Mode, ...] = get_args(Mode)

LONGEST, MOST_VIEWS = 4096, 2**20
"""Slots of a class, whose products with each other are kept; and views of a picture."""

HEAVIEST = 1e100
"""Largest weight: what it is multiplied with does not leave the finite numbers."""

_MODES: dict[str, tuple[Order, Labels]] = {
    "published": ("write-read", "text"),
    "robust": ("auto", "text+static"),
}


def check_options(head: Any) -> Options:
    """Judge the parameters of an estimator and return those that its arrays depend on.

    Raises:
        InvalidParameter: One of them is out of range.
    """
    require_choice("mode", head.mode, MODES)
    order, labels = _MODES[head.mode]
    order = order if head.order is None else head.order
    labels = labels if head.labels is None else head.labels
    require_choice("order", order, ORDERS)
    require_choice("labels", labels, LABELS)
    require_choice("fusion", head.fusion, FUSIONS)
    require_choice("augmentation", head.augmentation, ("augmix", "crop"))
    require_whole("memory_length", head.memory_length, 1, LONGEST)
    require_whole("views", head.views, 1, MOST_VIEWS)
    require_whole("seed", head.seed, 0, INT64.max)
    require_number("beta", head.beta, 0.0, np.inf)
    require_number("scale", head.scale, 1e-6, 1e6)
    require_number("view_fraction", head.view_fraction, 1e-9, 1.0)
    require_number("anchor", head.anchor, 1e-9, 1e9)
    require_number("trust", head.trust, 0.0, 100.0)
    require_number("negative", head.negative, 0.0, 1e6)
    require_number("decay", head.decay, 0.0, 1e9)
    if head.channels is not None:
        require_whole("channels", head.channels, 1)
    require_number("temperature", head.temperature, 1e-3, 1e6)
    require_number("channel_balance", head.channel_balance, 0.0, 1.0)
    if head.threshold is not None:
        require_number("threshold", head.threshold, 0.0, 1.0)
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
        channels=None if head.channels is None else int(head.channels),
        balance=float(head.channel_balance),
    )  # fmt: skip


def check_weights(weights: Any) -> tuple[float, float, float]:
    """Return three weights of 0 or more, at least one above 0."""
    try:
        text, dynamic, static = (float(each) for each in weights)
        good = all(0 <= each <= HEAVIEST for each in (text, dynamic, static))
    except (TypeError, ValueError, OverflowError):
        good, text, dynamic, static = False, 0.0, 0.0, 0.0
    good = good and not isinstance(weights, str | bytes)
    if not good or not text + dynamic + static > 0:
        raise InvalidParameter(
            "the weights of text, dynamic and static memory are out of range",
            expected=f"three numbers from 0 to {HEAVIEST:g}, not all 0",
            got=f"{weights!r:.80}",
            remedy="(1.0, 1.0, 1.0) weighs all alike; tune() chooses.",
        )
    return text, dynamic, static
