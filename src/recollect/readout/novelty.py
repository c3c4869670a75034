"""How unlike anything known a question is, and when it is better not to answer.

The scores are those of Geirhos et al., appendix G: mean or median distance to the nearest rows.
A threshold for them comes from the rows themselves, each asked with itself left out: a question
like the rows is as likely to stand at any place among their scores (conformal prediction; Vovk et
al., *Algorithmic Learning in a Random World*, section 2.2).
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import numpy as np

from recollect.errors import InvalidParameter
from recollect.readout.voting import distances
from recollect.types import Doubles, Mask, Metric, Neighbors

NoveltyScore: TypeAlias = Literal["mean", "median", "nearest"]
SCORES: tuple[NoveltyScore, ...] = get_args(NoveltyScore)
DISTRUST = 0.05
"""How often the bound on the error rate may be missed, over memories drawn alike."""

THRESHOLDS = 20


def novelty_scores(near: Neighbors, metric: Metric, score: NoveltyScore = "mean") -> Doubles:
    """Sum up how far the neighbors of each question are.

    Args:
        near: Neighbors, nearest first; the paper takes 100.
        metric: What the similarity means. Under ``"dot"``, which has no zero, every score is
            measured from minus the similarity.
        score: ``"mean"`` or ``"median"`` distance, or that of the ``"nearest"`` row alone.

    Returns:
        float64 ``(queries,)``; larger is more novel. ``inf`` where nothing was found.

    Example:
        >>> near = Neighbors(
        ...     ids=np.array([[7, 3, 4]]),
        ...     similarity=np.array([[1.0, 0.75, 0.5]], np.float32),
        ...     values=np.array([[1, 0, 0]]),
        ...     weights=np.ones((1, 3)),
        ... )
        >>> [novelty_scores(near, "cosine", score).item() for score in ("mean", "nearest")]
        [0.25, 0.0]
    """
    if score not in SCORES:
        raise InvalidParameter(
            "novelty score is not known",
            expected=f"one of {', '.join(SCORES)}",
            got=repr(score),
            remedy="`mean` is the default.",
        )
    similarity = near.similarity
    if metric == "dot":
        distance = np.where(near.found, -similarity.astype(np.float64), np.inf)
    else:
        distance = distances(similarity, metric)
    found = near.found.sum(axis=1)
    if score == "nearest":
        return np.asarray(distance[:, 0])
    kept = np.where(near.found, distance, 0.0)
    if score == "mean":
        total = np.cumsum(kept, axis=1)[:, -1]
        mean: Doubles = np.divide(total, found, out=np.full(len(near), np.inf), where=found > 0)
        return mean
    # Nearest first, so the middle stands in the middle.
    low, high = np.maximum(found - 1, 0) // 2, found // 2
    high = np.minimum(high, near.ids.shape[1] - 1)
    rows = np.arange(len(near))
    return np.where(found > 0, 0.5 * (distance[rows, low] + distance[rows, high]), np.inf)


def p_values(scores: Doubles, known: Doubles) -> Doubles:
    """How many of the known scores are at least as large, each question counted in.

    For a question like the known ones this is at most ``a`` with probability at most ``a``,
    whatever the distribution of the scores.

    Args:
        scores: float64 ``(queries,)``.
        known: float64 ``(n,)``, ascending.

    Returns:
        float64 ``(queries,)`` in (0, 1].

    Example:
        >>> p_values(np.array([0.5, 3.5]), np.array([1.0, 2.0, 3.0])).tolist()
        [1.0, 0.25]
    """
    above = len(known) - np.searchsorted(known, scores, side="left")
    return np.asarray((1.0 + above) / (len(known) + 1.0))


def least_confidence(confidence: Doubles, right: Mask, rate: float) -> float:
    """Find the confidence from which on at most this share of the answers is wrong.

    Twenty thresholds are tried, that of the most confident 5 %, 10 % ... of the answers. Each must
    pass a test that a larger error rate passes with probability 0.05 / 20 at most; so the chance
    that any of them passes wrongly is 5 % (Angelopoulos et al., "Learn then Test", 2021, section
    3; for selective answers Geifman and El-Yaniv, 2017). The one that answers most is returned.

    Args:
        confidence: float64 ``(n,)``. Of answers whose truth is known.
        right: Bool ``(n,)``.
        rate: Most wrong answers among those given, in (0, 1).

    Returns:
        The threshold; ``inf`` if no answers are good enough.

    Example:
        >>> sure, right = np.linspace(0, 1, 1000), np.linspace(0, 1, 1000) > 0.5
        >>> 0.4 < least_confidence(sure, right, 0.1) < 0.6
        True
    """
    order = np.argsort(-confidence, kind="stable")
    falling, wrong = confidence[order], np.cumsum(~right[order])
    for part in range(THRESHOLDS, 0, -1):
        answers = part * len(order) // THRESHOLDS
        if answers:
            # Answers of equal confidence stay together.
            answers = int(np.searchsorted(-falling, -falling[answers - 1], side="right"))
            if _proves(int(wrong[answers - 1]), answers, rate):
                return float(falling[answers - 1])
    return math.inf


def _proves(wrong: int, answers: int, rate: float) -> bool:
    """Whether so few wrong answers would be a surprise at this error rate or a larger one."""
    from scipy.special import bdtr

    return float(bdtr(wrong, answers, rate)) <= DISTRUST / THRESHOLDS


def check_rate(value: object) -> float:
    """Return the share of questions that may be left out, a float in (0, 1).

    Raises:
        InvalidParameter: Something else.
    """
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        rate = float(value)
        if 0.0 < rate < 1.0:
            return rate
    raise InvalidParameter(
        "abstain is out of range",
        expected="a number between 0 and 1, such as 0.05",
        got=repr(value),
        remedy="Leave abstain out to answer everything.",
    )
