"""Which channels the static memory is read in: those in which classes differ (spec section 3).

After Zhu et al., "Not All Features Matter" (APE, ICCV 2023, section 3.2), whose criterion the
released code of dual memory networks offers and leaves off.
"""

from __future__ import annotations

import numpy as np

from recollect.errors import InvalidParameter
from recollect.heads.dual_memory.parts import Parts
from recollect.readout.attention import telling_channels
from recollect.types import Doubles, Mask


def channels_of(parts: Parts, count: int | None, balance: float) -> Mask | None:
    """Mark the channels in which the classes differ most.

    They are chosen by the text vectors, or, without names, by the mean of each class's shots: by
    rows that are there, so that a row that is forgotten leaves no trace in the choice. Observed
    pictures have no say.

    Args:
        parts: Names and shots.
        count: How many channels; None takes all.
        balance: See ``telling_channels``.

    Returns:
        bool ``(dim,)``; None for all channels, also if there are fewer than two classes.
    """
    dim = parts.shots.shape[1]
    require_channels(count, dim)
    if count is None or len(parts.classes) < 2:
        return None
    vectors = _means(parts) if parts.text is None else parts.text
    chosen = np.zeros(dim, np.bool_)
    chosen[telling_channels(vectors, count, balance=balance)] = True
    return chosen


def require_channels(count: int | None, dim: int) -> None:
    """Refuse more channels than there are.

    Raises:
        InvalidParameter: There are fewer.
    """
    if count is not None and count > dim:
        raise InvalidParameter(
            "there are not so many channels", expected=f"channels of at most {dim}", got=count,
            remedy="Leave channels at None to compare all of them.",
        )  # fmt: skip


def _means(parts: Parts) -> Doubles:
    sums = np.zeros((len(parts.classes), parts.shots.shape[1]))
    np.add.at(sums, parts.codes, parts.shots)
    return sums
