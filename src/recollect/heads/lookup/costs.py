"""What a difference in each number of a key costs, in whole numbers, so that sums are exact."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import InvalidParameter
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.settings import is_number
from recollect.types import Codes, Doubles

# Twice the largest distance stays below 2**24, so float32 holds every partial sum exactly.
_MOST = 1 << 23
# Only proportions count; what is far outside cannot be brought to whole numbers.
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-30, 1e30


@dataclass(frozen=True, slots=True)
class Costs:
    """Weighted Manhattan distance over codes: ``unit * sum(columns * |q - key|)``.

    Attributes:
        columns: int64 ``(key width,)``: cost of one code, per number of the key.
        most: int64 ``(key width,)``: largest code of each number.
        unit: What one whole unit of distance is worth.
        cuts: Numbers of the key at which another group begins; what lies before and after is
            never in one word.
    """

    columns: Codes
    most: Codes
    unit: float
    cuts: tuple[int, ...] = ()

    def between(self, queries: NDArray[Any], keys: NDArray[Any]) -> Codes:
        """Return the distances ``(queries, keys)`` in whole units, column by column."""
        total = np.zeros((len(queries), len(keys)), np.int64)
        for column in np.flatnonzero(self.columns):
            apart = np.abs(queries[:, column, None].astype(np.int32) - keys[:, column])
            total += self.columns[column] * apart
        return total


def check_weights(weights: Any) -> tuple[float, float, float]:
    """Return the three weights of glimpse, state and location.

    Raises:
        InvalidParameter: Not three numbers of 0 or more, the largest from 1e-30 to 1e30.
    """
    try:
        a, b, c = weights
        usable = all(is_number(weight) for weight in (a, b, c))
        a, b, c = (float(weight) for weight in (a, b, c)) if usable else (0.0, 0.0, 0.0)
    except (TypeError, ValueError, OverflowError):
        usable = False
    if not usable or min(a, b, c) < 0 or not _LEAST_WEIGHT <= max(a, b, c) <= _MOST_WEIGHT:
        raise InvalidParameter(
            "weights cannot be used",
            expected="three numbers of 0 or more (glimpse, state, location), the largest from "
            f"{_LEAST_WEIGHT:g} to {_MOST_WEIGHT:g}",
            got=f"{weights!r:.80}",
            remedy="Pass (1, 1, 1) for the unweighted distance.",
        )
    return a, b, c


def costs_of(layout: Layout, weights: Any) -> Costs:
    """Return the published distance of one layout in whole units.

    ``(a |phi| + b |h| + c |l|) / (a + b + c)``, glimpse and state in [0, 1], location in pixels.

    Args:
        layout: Sizes and bits; both bits at least 1.
        weights: ``(a, b, c)`` for glimpse, state and location.
    """
    a, b, c = check_weights(weights)
    phi, h = (max(1, (1 << bits) - 1) for bits in (layout.phi_bits, layout.h_bits))
    common = math.lcm(phi, h)
    groups = [(layout.state, b * common / h, h), (2, c * common, layout.side),
              (layout.phi, a * common / phi, phi)]  # fmt: skip
    factors = np.concatenate([np.full(width, factor) for width, factor, _ in groups])
    most = np.concatenate([np.full(width, code) for width, _, code in groups])
    whole = whole_costs(factors, most, scale=1.0 / (common * (a + b + c)))
    return replace(whole, cuts=(layout.state, layout.state + 2))


def whole_costs(factors: ArrayLike, most: ArrayLike, *, scale: float = 1.0) -> Costs:
    """Bring factors to whole numbers, as fine as exact sums allow.

    They are multiplied by a power of two, so factors that are dyadic and not too far apart keep
    their proportion exactly.

    Args:
        factors: ``(key width,)``: cost of one code, 0 or more.
        most: ``(key width,)``: largest code of each number.
        scale: What a cost of 1 is worth.

    Example:
        >>> costs = whole_costs([1.0, 0.5], [1, 28])
        >>> (costs.columns * costs.unit).tolist()
        [1.0, 0.5]
    """
    wanted: Doubles = np.asarray(factors, np.float64)
    levels = np.asarray(most, np.int64)
    total = float((wanted * np.maximum(levels, 1)).sum())
    if not np.isfinite(total) or total <= 0 or wanted.min() < 0:
        raise InvalidParameter(
            "factors cannot be used", expected="finite, 0 or more, one above 0", got=repr(factors)
        )
    power = math.floor(math.log2(_MOST / total)) - 1
    columns = np.rint(wanted * 2.0**power).astype(np.int64)
    return Costs(columns, levels, scale * 2.0**-power)
