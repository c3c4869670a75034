"""Rows whose label their neighbors contradict, and rows that mislead others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recollect.heads.peers import Peers
from recollect.readout.reliability import Reliability
from recollect.readout.voting import VoteRule, label_shares, vote, vote_shares, weigh
from recollect.types import Doubles, Ids, Label, Mask

ASKED = 50
"""Neighbors that are asked about a label, at most; no more than a class has rows in the mean, for
beyond them even the best label runs out of rows."""

TIMES = 2.0
"""How many times the votes for a row's own label another label must have to make it a suspect; on
labels flipped at random this found more and accused fewer than confident learning, whose thresholds
per class suit probabilities better than counts (docs/reproduction/visual-memory-choice.md)."""

MISLED = 20
"""Misled rows that are named for each harmful row."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row whose label is contradicted.

    Attributes:
        id: Its id.
        label: The label it has.
        suggested: The label most of its neighbors have.
        share: Share of the neighbors with the label it has.
        suggested_share: Share of the neighbors with the suggested label.
    """

    id: int
    label: Label
    suggested: Label
    share: float
    suggested_share: float


@dataclass(frozen=True, slots=True)
class Harmful:
    """A row that votes for wrong answers more than for right ones.

    Attributes:
        id: Its id.
        label: Its label.
        harm: Sum of its shares in wrong answers, each the share of the answer's vote it gave.
        help: Sum of its shares in right answers.
        misled: Ids of rows that got a wrong answer it voted for, those it swayed most first.
    """

    id: int
    label: Label
    harm: float
    help: float
    misled: tuple[int, ...]


def find_suspects(
    peers: Peers, *, neighbors: int | None = None, times: float = TIMES
) -> list[Suspect]:
    """List the rows whose label another label outvotes, the most doubtful first.

    Every row is left out of its own neighbors, and all neighbors count alike.

    Args:
        peers: The memory's rows, asked about each other.
        neighbors: How many are asked, 1 to 100; None for 50, or as many as a class has rows in the
            mean if that is less.
        times: How many times the own label's votes another must have, at least 1.

    Example:
        >>> from recollect.memory.memory import Memory
        >>> memory = Memory.create(":memory:", dim=2)
        >>> _ = memory.add([[1, 0], [1, 0.1], [1, 0.2], [1, 0.1]], ["a", "a", "a", "b"])
        >>> [(one.id, one.suggested) for one in find_suspects(Peers(memory))]
        [(3, 'a')]
    """
    found: list[Suspect] = []
    classes = peers.memory.labels
    asked = min(ASKED, max(1, len(peers.memory) // len(classes)))
    for block in peers.blocks(asked if neighbors is None else neighbors):
        near = block.near
        assert near.codes is not None
        shares = label_shares(near.codes, vote_shares(near.found.astype(float)), len(classes))
        rows = np.arange(len(shares))
        own = shares[rows, block.truth]
        shares[rows, block.truth] = -1.0
        best = shares.argmax(axis=1)
        other = shares[rows, best]
        doubtful = np.flatnonzero((other > 0) & (other >= times * own)).tolist()
        found += [
            Suspect(
                int(block.ids[row]),
                classes[block.truth[row]],
                classes[best[row]],
                float(own[row]),
                float(other[row]),
            )
            for row in doubtful
        ]
    return sorted(found, key=lambda one: (one.share - one.suggested_share, one.id))


def find_harmful(
    peers: Peers,
    rule: VoteRule,
    k: int,
    *,
    reliability: Reliability | None = None,
    most: int = 100,
) -> list[Harmful]:
    """List the rows that did more harm than good when all rows were asked about each other.

    A row shares in a wrong answer by the part of the vote for that answer that was its own; so an
    answer's harm is divided among those who voted for it.

    Args:
        peers: The memory's rows, asked about each other.
        rule: The vote.
        k: How many neighbors vote, 1 to 100.
        reliability: How far rows are trusted in it.
        most: How many rows to list, those with the largest harm less help first.
    """
    ids, harm, swayed, asked = _shares_in_answers(peers, rule, k, reliability)
    rows, place = np.unique(ids, return_inverse=True)
    bad = np.bincount(place, np.where(harm, swayed, 0.0), len(rows))
    good = np.bincount(place, np.where(harm, 0.0, swayed), len(rows))
    order = np.argsort(good - bad, kind="stable")
    worst = [at for at in order[:most].tolist() if bad[at] > good[at]]
    labels = peers.own(rows[worst]).values if worst else []
    return [
        Harmful(
            int(rows[at]),
            label,
            float(bad[at]),
            float(good[at]),
            _misled(harm & (place == at), swayed, asked),
        )
        for at, label in zip(worst, labels, strict=True)
    ]


def _shares_in_answers(
    peers: Peers, rule: VoteRule, k: int, reliability: Reliability | None
) -> tuple[Ids, Mask, Doubles, Ids]:
    """Every vote for an answer that was given: who gave it, whether wrongly, how much, to whom."""
    parts: list[tuple[Any, ...]] = []
    for block in peers.blocks(k, (reliability,)):
        near = block.judged[reliability]
        assert near.codes is not None
        weights = weigh(near, rule, peers.memory.metric)
        answers = vote(near.codes, weights)
        for_it = np.where(near.codes == answers[:, None], weights, 0.0)
        shares = vote_shares(for_it)
        query, rank = np.nonzero(shares > 0)
        wrong = (answers != block.truth)[query]
        parts.append((near.ids[query, rank], wrong, shares[query, rank], block.ids[query]))
    ids, wrong, swayed, asked = (np.concatenate(part) for part in zip(*parts, strict=True))
    return ids, wrong.astype(bool), swayed.astype(np.float64), asked


def _misled(which: Mask, swayed: Doubles, asked: Ids) -> tuple[int, ...]:
    votes = np.flatnonzero(which)
    order = votes[np.argsort(-swayed[votes], kind="stable")][:MISLED]
    return tuple(asked[order].tolist())
