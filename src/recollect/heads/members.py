"""The two members of an answer, the vote and the class means, asked about the memory's own rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.class_means import class_scores, class_shares
from recollect.heads.explanation import answers_of
from recollect.heads.selection import MeansChoice
from recollect.index.scoring import measure
from recollect.readout.voting import VoteRule, label_shares, vote, vote_shares, weigh
from recollect.types import Codes, Doubles, Ids, Mask

if TYPE_CHECKING:
    from recollect.heads.class_statistics import ClassStatistics
    from recollect.heads.peers import Peers
    from recollect.readout.reliability import Reliability

FOLDS = 5
"""Parts of the memory that are held out of the class means in turn."""

PARTS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
SHRINKAGES = (0.1, 0.2, 0.3, 0.5, 0.7)
MEAN_TEMPERATURES = (1.0, 2.0, 3.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Means:
    """The class means' part in an answer. Checked when made.

    Args:
        part: From 0, only the vote counts, to 1, only the means.
        shrinkage: How far the scatter within classes is drawn towards a sphere: above 0, at most 1.
        temperature: Of the softmax over the classes, above 0.

    Raises:
        InvalidParameter: An option lies outside its range.
    """

    part: float
    shrinkage: float
    temperature: float

    def __post_init__(self) -> None:
        _check("class_means", self.part, 0.0 <= _number(self.part) <= 1.0, "from 0 to 1")
        _check("shrinkage", self.shrinkage, 0.0 < _number(self.shrinkage) <= 1.0, "in (0, 1]")
        _check(
            "mean_temperature",
            self.temperature,
            0.0 < _number(self.temperature) < np.inf,
            "above 0",
        )

    def shares(self, keys: NDArray[Any], statistics: ClassStatistics) -> Doubles:
        """The means' part of the share of every class, float64 ``(queries, classes)``."""
        keys = np.asarray(keys, np.float32)
        scores = class_scores(keys, measure(keys), statistics.discriminant(self.shrinkage))
        return np.asarray(self.part * class_shares(scores, self.temperature))


@dataclass(frozen=True, slots=True)
class OwnShares:
    """The shares of all classes for rows of the memory, each with itself left out.

    Attributes:
        ids: int64 ``(rows,)``.
        truth: int64 ``(rows,)``. Codes of their labels.
        shares: float64 ``(rows, classes)``.
        winners: int64 ``(rows,)``. Codes of the answers, those that ``predict`` would give: of
            labels with equal votes, the first to reach the total. -1 where there is nobody else.
    """

    ids: NDArray[np.int64]
    truth: Codes
    shares: Doubles
    winners: Codes

    @property
    def confidence(self) -> Doubles:
        """Share of the answer."""
        return np.asarray(self.shares.max(axis=1))

    @property
    def right(self) -> Mask:
        """Whether the answer is the row's label."""
        return np.asarray(self.winners == self.truth)


def own_shares(
    peers: Peers,
    rule: VoteRule,
    k: int,
    reliability: Reliability | None,
    classes: int,
    *,
    rows: Ids | None = None,
) -> OwnShares:
    """Let the others vote on rows of the memory.

    Args:
        peers: The memory's rows, asked about each other.
        rule: The vote.
        k: How many neighbors vote.
        reliability: How far they are trusted.
        classes: How many labels there are.
        rows: int64, sorted: the rows to ask about; None for those that the table is about, a sample
            of a memory of more than 65,536 rows.
    """
    parts: list[tuple[Any, ...]] = []
    readings = (reliability,)
    asked = peers.blocks(k, readings) if rows is None else peers.blocks_of(rows, k, readings)
    for block in asked:
        near = block.judged[reliability]
        assert near.codes is not None
        weights = weigh(near, rule, peers.memory.metric)
        shares = label_shares(near.codes, vote_shares(weights), classes)
        winners = answers_of(block.near, vote(near.codes, weights)[:, None])[:, 0]
        parts.append((block.ids, block.truth, shares, winners))
    ids, truth, shares, winners = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(ids)
    return OwnShares(ids[order], truth[order], shares[order], winners[order])


def blended(vote: OwnShares, means: Means, statistics: ClassStatistics) -> OwnShares:
    """Blend the vote on each row with class means of which its fold was held out."""
    [scores] = statistics.held_out(vote.ids, FOLDS, (means.shrinkage,))
    shares = means.part * class_shares(scores, means.temperature) + (1 - means.part) * vote.shares
    # As in ``predict`` with class means: of equal shares the first label; nobody, nowhere.
    winners = np.where(shares.any(axis=1), shares.argmax(axis=1), -1)
    return OwnShares(vote.ids, vote.truth, shares, winners)


def choose_means(vote: OwnShares, statistics: ClassStatistics) -> MeansChoice:
    """Choose the class means' part, shrinkage and temperature on the memory's own rows.

    The vote on a row leaves the row out; the means leave out a fifth of the rows, which one
    depends on nothing but the ids. The highest accuracy wins; of equals the smaller part.
    """
    tables = statistics.held_out(vote.ids, FOLDS, SHRINKAGES)
    without = float(vote.right.mean())
    best = MeansChoice(0.0, SHRINKAGES[2], MEAN_TEMPERATURES[3], without, without, 0)
    tried = 0
    for part in PARTS[1:]:
        for shrinkage, scores in zip(SHRINKAGES, tables, strict=True):
            for temperature in MEAN_TEMPERATURES:
                tried += 1
                shares = part * class_shares(scores, temperature) + (1.0 - part) * vote.shares
                score = float(np.mean(shares.argmax(axis=1) == vote.truth))
                if score > best.score:
                    best = MeansChoice(part, shrinkage, temperature, score, without, 0)
    return MeansChoice(
        best.class_means, best.shrinkage, best.mean_temperature, best.score, without, tried
    )


def _number(value: object) -> float:
    plain = isinstance(value, int | float | np.integer | np.floating)
    return float(value) if plain and not isinstance(value, bool) else float("nan")  # type: ignore[arg-type]


def _check(name: str, value: object, inside: bool, words: str) -> None:  # noqa: FBT001
    if not inside:
        raise InvalidParameter(
            f"{name} is out of range",
            expected=f"a number {words}",
            got=repr(value),
            remedy=f"Leave {name} at its default.",
        )
