"""Which pictures are better left unanswered; shots that are left out set the threshold.

The promises are those of ``MemoryClassifier``, and so is the arithmetic behind them.
"""

from __future__ import annotations

import numpy as np

from recollect.heads.abstention import Promise
from recollect.heads.dual_memory.tuning import LeftOut
from recollect.readout.novelty import least_confidence, p_values
from recollect.types import Doubles, Mask


def refused(
    novelty: Doubles, probability: Doubles, own: LeftOut, own_probability: Doubles, rate: float,
    promise: Promise,
) -> Mask:  # fmt: skip
    """Mark pictures that are too novel, or whose answer is too unsure, for this rate.

    Args:
        novelty: float64 ``(pictures,)``.
        probability: float64 ``(pictures, classes)``: the answers.
        own: What is known of the shots, each while it was left out.
        own_probability: float64 ``(shots, classes)``: the answers to them.
        rate: Share of pictures like the shots that may be marked, or of the answers that may be
            wrong.
        promise: Which of both.

    Returns:
        bool ``(pictures,)``.
    """
    if promise == "coverage":
        return np.asarray(p_values(novelty, own.novelty) <= rate)
    right = own_probability.argmax(axis=1) == own.truth
    least = least_confidence(own_probability.max(axis=1), right, rate)
    return np.asarray(probability.max(axis=1) < least)
