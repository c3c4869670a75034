"""What the constructor of the classifier may be given, judged before anything is done."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.lookup.cluster import Growth
from recollect.heads.lookup.costs import check_weights
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.readout import check_reading
from recollect.heads.lookup.recipe import Recipe
from recollect.types import Label

if TYPE_CHECKING:
    from recollect.heads.lookup.classifier import LookupClassifier


def check_options(head: LookupClassifier) -> None:
    """Refuse parameters that mean nothing.

    Raises:
        InvalidParameter: One is of another type or out of range.
    """
    if head.weights is not None:
        check_weights(head.weights)
    check_reading(head.k, head.tree, head.vote, head.slack)
    _check_words(head)
    if not isinstance(head.per_step, bool | np.bool_):
        raise _refused("per_step", "True or False", head.per_step)
    if head.fallback is not None and not _is_distance(head.fallback):
        raise _refused("fallback", "a distance of 0 or more, or None", head.fallback)
    if not _is_whole(head.seed, 0):
        raise _refused("seed", "a whole number from 0", head.seed)
    if not _is_whole(head.glimpses, 1):
        raise _refused("glimpses", "a whole number from 1", head.glimpses)
    if not _are_bits(head.bits):
        raise _refused("bits", "two whole numbers from 0 to 8", head.bits)
    kinds: dict[str, tuple[type, ...]] = {
        "model": (Network, str, Path), "recipe": (Recipe,), "growth": (Growth,),
    }  # fmt: skip
    for name, known in kinds.items():
        value = getattr(head, name)
        if value is not None and not isinstance(value, known):
            words = " or ".join(kind.__name__ for kind in known)
            raise _refused(name, f"{words}, or None", value)


def _check_words(head: LookupClassifier) -> None:
    for name, first, other in (("answers", "labels", "network"), ("readout", "row", "state")):
        value = getattr(head, name)
        if not isinstance(value, str) or value not in {first, other}:
            raise _refused(name, f"'{first}' or '{other}'", value)


def sorted_labels(labels: list[Label]) -> NDArray[Any]:
    """Return labels, each once and sorted; numbers before text where there are both."""
    found = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
    if len({isinstance(label, str) for label in found}) > 1:
        mixed = np.empty(len(found), object)
        mixed[:] = found
        return mixed
    return np.array(found)


def _refused(name: str, expected: str, got: Any) -> InvalidParameter:
    return InvalidParameter(f"{name} cannot be used", expected=expected, got=f"{got!r:.80}")


def _is_whole(value: Any, least: int) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and bool(value >= least)


def _is_distance(value: Any) -> bool:
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool) and not math.isnan(value) and bool(value >= 0)


def _are_bits(bits: Any) -> bool:
    pair = isinstance(bits, tuple | list) and len(bits) == 2
    return pair and all(_is_whole(count, 0) and count <= 8 for count in bits)
