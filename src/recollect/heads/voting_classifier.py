"""How the vote of the neighbors and the class means become an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recollect.heads.abstention import too_novel, too_unsure
from recollect.heads.class_statistics import ClassStatistics
from recollect.heads.copies import without_rows
from recollect.heads.explanation import added_shares, answers_of
from recollect.heads.inputs import as_text, check_labels
from recollect.heads.members import Means, OwnShares, blended, own_shares
from recollect.heads.neighbors import NeighborEstimator, joined, within
from recollect.heads.what_if import WhatIf, preview_removal
from recollect.readout.reliability import Reliability, ReliabilityName, as_reliability
from recollect.readout.voting import (
    Rule,
    VoteRule,
    check_k,
    label_shares,
    vote,
    vote_shares,
    weigh,
)
from recollect.types import Codes, Doubles, Ids, Mask, Neighbors, ValueKind

PIECE = 1 << 16
"""Rows of the memory whose shares are held at once."""


class VotingClassifier(NeighborEstimator):
    """What stands behind the public face of ``MemoryClassifier``.

    Final classes set the options below in their constructor.
    """

    vote: Rule
    alpha: float
    temperature: float
    sharpness: float
    reliability: ReliabilityName | Reliability | None
    class_means: float
    shrinkage: float
    mean_temperature: float

    def keys(self, X: Any) -> NDArray[Any]:
        """Return the keys of queries, ``(queries, dim)``: what the encoder makes of them."""
        self._recall()
        return self._keys(X)

    def votes(self, X: Any = None) -> tuple[Neighbors, Doubles]:
        """Return the rows that vote on each query, and what each vote weighs.

        Class means are not among them: they are no rows.

        Args:
            X: Queries; None asks about every row in ``ids_``, itself excluded.

        Returns:
            Neighbors ``(queries, k)`` and float64 weights ``(queries, k)``, 0 where empty.
        """
        if X is not None:
            return self.votes_by_key(self._asked(X))
        return self.own_votes()[:2]

    def votes_by_key(self, keys: NDArray[Any]) -> tuple[Neighbors, Doubles]:
        """The same for queries of which the keys are known, ``(queries, dim)``."""
        read = self._at_once(lambda: self._read_keys(keys, self.k))
        return read.near, read.weights

    def shares(self, X: Any = None) -> tuple[NDArray[Any], Doubles]:
        """Return all labels and each one's share of the answer, of one version of the rows.

        Args:
            X: Queries; None asks about every row in ``ids_``, itself excluded, and of the class
                means its fold.

        Returns:
            Labels ``(classes,)``, sorted, and float64 shares ``(queries, classes)``.
        """
        if X is None:
            return self.own_shares()[:2]
        keys = self._asked(X)
        return self._at_once(
            lambda: (self._with_rows().labels, self._shares(self._read_keys(keys, self.k)))
        )

    def own_shares(self) -> tuple[NDArray[Any], Doubles, NDArray[Any]]:
        """The same for every row in ``ids_``, and the labels that the rows have."""
        self._check_options()
        return self._at_once(self._every_rows_shares)

    def _every_rows_shares(self) -> tuple[NDArray[Any], Doubles, NDArray[Any]]:
        memory, ids = self._with_rows(), self.ids_
        own = self._own_shares(np.sort(ids))
        shares = own.shares[np.searchsorted(own.ids, ids)]
        return memory.labels, shares, memory.rows(ids).values

    def own_votes(self) -> tuple[Neighbors, Doubles, NDArray[Any]]:
        """Return who votes on every row in ``ids_``, itself excluded, with what weight.

        Returns:
            Neighbors and float64 weights ``(rows, k)``, and the labels that the rows have.
        """
        self._check_options()
        return self._at_once(
            lambda: (*self._own_rows_votes(), self._recall().rows(self.ids_).values)
        )

    def _own_rows_votes(self) -> tuple[Neighbors, Doubles]:
        trust = as_reliability(self.reliability)
        k = within(check_k(self.k), self._with_rows())
        if trust is None:
            near = self._around(self.ids_, k)
        else:
            blocks = list(self._peers(k).blocks_of(np.sort(self.ids_), k, (trust,)))
            order = np.argsort(np.concatenate([block.ids for block in blocks]))
            order = order[np.argsort(np.argsort(self.ids_))]
            near = joined([block.judged[trust] for block in blocks], order)
        return near, weigh(near, self._rule(), self.metric)

    def _previewed(self, asked: NDArray[Any] | None, gone: Ids) -> WhatIf:
        """Compare the answers with and without rows."""
        memory = self._recall()
        own, keys = None, asked
        if keys is None:
            own = np.setdiff1d(memory.ids, gone)
            if not len(own):  # nobody is left to be asked about
                nothing, no_score = np.empty(0, object), np.empty(0)
                return WhatIf(gone, nothing, nothing, no_score, no_score, own)
            keys = memory.keys(own)
        if self.reliability is None and self.class_means == 0:
            rule, k = self._rule(), check_k(self.k)
            return preview_removal(memory, gone, keys, own, rule, self.metric, k)
        before, score_before = self.answers_by_key(keys, own)
        if len(gone) == len(memory):
            after, score_after = np.full(len(keys), None, object), np.zeros(len(keys))
        else:
            after, score_after = self._over(without_rows(memory, gone)).answers_by_key(keys, own)
        return WhatIf(gone, before, after, score_before, score_after, own)

    def _over(self, memory: Any) -> Self:
        """The same settings over other rows, asked by key."""
        return type(self)(**{**self.get_params(deep=False), "encoder": None, "memory": memory})

    def answers_by_key(self, keys: NDArray[Any], own: Ids | None) -> tuple[NDArray[Any], Doubles]:
        """Answers to keys, or of rows with themselves left out, and their shares."""
        if own is None:
            return self._at_once(lambda: self._key_answers(keys))
        return self._at_once(lambda: self._row_answers(own))

    def _key_answers(self, keys: NDArray[Any]) -> tuple[NDArray[Any], Doubles]:
        read = self._read_keys(keys, self.k)
        return self._named(self._winners(read), self._shares(read))

    def _row_answers(self, own: Ids) -> tuple[NDArray[Any], Doubles]:
        # In pieces, so that the shares of all classes are never held for all rows.
        parts = []
        for start in range(0, len(own), PIECE):
            votes = self._own_shares(own[start : start + PIECE])
            parts.append(self._named(votes.winners, votes.shares))
        answers, scores = zip(*parts, strict=True)
        return np.concatenate(answers), np.concatenate(scores)

    def _named(self, winners: Codes, shares: Doubles) -> tuple[NDArray[Any], Doubles]:
        labels = np.array([*self._recall().labels.tolist(), None], object)
        return labels[winners], shares[np.arange(len(shares)), winners]

    @property
    def _kind(self) -> ValueKind:
        return "label"

    def _check_options(self) -> None:
        self._rule()
        as_reliability(self.reliability)
        self._means()

    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        return check_labels(self, X, y)

    def _rule(self) -> VoteRule:
        return VoteRule(self.vote, self.alpha, self.temperature, self.sharpness)

    def _means(self) -> Means:
        return Means(self.class_means, self.shrinkage, self.mean_temperature)

    def _read_keys(self, keys: NDArray[Any], k: int) -> _Read:
        """Find the neighbors of each query and weigh their votes."""
        found = self._find(self._recall(), keys, k)
        near = self._judged(found, as_reliability(self.reliability))
        return _Read(keys, found, near, weigh(near, self._rule(), self.metric))

    def _winners(self, read: _Read) -> Codes:
        if self.class_means == 0:
            return answers_of(read.found, vote(codes_of(read.near), read.weights)[:, None])[:, 0]
        return np.asarray(self._shares(read).argmax(axis=1))

    def _shares(self, read: _Read) -> Doubles:
        assert read.near.classes is not None
        if self.class_means == 0:
            shares = vote_shares(read.weights)
            return label_shares(codes_of(read.near), shares, len(read.near.classes))
        return self._blend(self._base(read.keys), read, read.near.ids.shape[1])

    def _blend(self, base: tuple[Doubles, float], read: _Read, k: int) -> Doubles:
        """Add the shares of the first k neighbors to what the class means give."""
        shares = vote_shares(read.weights[:, :k]) * base[1]
        return added_shares(base[0], codes_of(read.near)[:, :k], shares)

    def _base(self, keys: NDArray[Any]) -> tuple[Doubles, float]:
        """The class means' part of every share, and what is left to the vote."""
        means = self._means()
        return means.shares(keys, self._statistics()), 1.0 - means.part

    def _statistics(self) -> ClassStatistics:
        memory = self._recall()
        held = self.__dict__.get("_key_sums")
        if held is None or held.memory is not memory:
            held = self._key_sums = ClassStatistics(memory)
        return held

    def _own_votes(self, rows: Ids | None = None) -> OwnShares:
        """What the others vote on rows of the memory; on those that the table is about if None."""
        memory = self._recall()
        k = min(check_k(self.k), max(1, len(memory) - 1))
        trust, classes = as_reliability(self.reliability), len(memory.labels)
        return own_shares(self._peers(k), self._rule(), k, trust, classes, rows=rows)

    def _own_shares(self, rows: Ids | None = None) -> OwnShares:
        """The shares of rows, each itself left out; of the class means its fold."""
        shares, means = self._own_votes(rows), self._means()
        return blended(shares, means, self._statistics()) if means.part else shares

    def _refused(self, read: _Read, rate: float, promise: str) -> Mask:
        """Which queries stay unanswered."""
        k = read.found.ids.shape[1]
        peers = self._peers(k)
        if promise == "coverage":
            return too_novel(read.found, peers, rate)
        means, trust = self._means(), as_reliability(self.reliability)
        sure = self._shares(read).max(axis=1)
        setting = (k, self._rule(), trust, means)
        return too_unsure(sure, peers, rate, setting=setting, own=self._own_shares)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be computed again."""
        state = super().__getstate__()
        state.pop("_key_sums", None)
        return state

    def _truth(self, values: NDArray[Any]) -> NDArray[Any]:
        code = {label: code for code, label in enumerate(self.memory_.labels.tolist())}
        return np.array([code.get(label, -2) for label in values.tolist()], np.int64)


@dataclass(frozen=True, slots=True)
class _Read:
    """Queries and what was found for them.

    Attributes:
        keys: ``(queries, dim)``.
        found: All neighbors, nearest first.
        near: Those that vote, with the weight their reliability leaves them.
        weights: What each vote weighs.
    """

    keys: NDArray[Any]
    found: Neighbors
    near: Neighbors
    weights: Doubles


def codes_of(near: Neighbors) -> Codes:
    """Codes of labels, which every memory of labels gives."""
    assert near.codes is not None
    return near.codes


def labels_of(near: Neighbors, codes: Codes) -> NDArray[Any]:
    """Labels of codes, as the user gets them."""
    assert near.classes is not None
    return as_text(near.classes[codes])
