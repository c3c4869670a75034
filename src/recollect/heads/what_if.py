"""What a removal would do to answers, shown before it is made: exact, and nothing is written.

Only queries with a removed row among their k nearest are asked again, for as many more rows as it
takes to have k that stay. So the answer is the one that a real removal gives, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import InvalidParameter
from recollect.memory.memory import Memory
from recollect.readout.voting import VoteRule, label_shares, vote, vote_shares, weigh
from recollect.types import Codes, Doubles, Ids, Mask, Metric, Neighbors

# Queries looked at once.
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Answers before and after a removal that was not made.

    Attributes:
        removed: int64, sorted: the rows that would go.
        before: Object array ``(queries,)``: the answers now.
        after: Object array ``(queries,)``: the answers then; None where no row would be left.
        score_before: float64 ``(queries,)``: share of the vote of the answer now.
        score_after: float64 ``(queries,)``: share of the answer then; 0 where there is none.
        rows: int64 ``(queries,)``: the rows that were asked about themselves, or None if queries
            were given.
    """

    removed: Ids
    before: NDArray[Any]
    after: NDArray[Any]
    score_before: Doubles
    score_after: Doubles
    rows: Ids | None = None

    @property
    def flipped(self) -> Mask:
        """Bool ``(queries,)``: True where the answer would change."""
        return np.array(self.before != self.after, bool)

    def __len__(self) -> int:
        return len(self.before)


def chosen_rows(memory: Memory, ids: ArrayLike | None, where: str | None) -> Ids:
    """Name rows by ids or by a filter: int64, sorted.

    Raises:
        InvalidParameter: Neither was given, or both.
        UnknownIds: An id is not alive.
        InvalidFilter: The filter cannot be read.
    """
    if (ids is None) == (where is None):
        raise InvalidParameter(
            "rows are named by ids or by a filter",
            expected="remove= or where=",
            got="neither" if ids is None else "both",
            remedy="Pass exactly one of them.",
        )
    return memory.find(where) if where is not None else np.sort(memory.rows(ids).ids)


def preview_removal(
    memory: Memory,
    gone: Ids,
    keys: NDArray[Any],
    own: Ids | None,
    rule: VoteRule,
    metric: Metric,
    k: int,
) -> WhatIf:
    """Compare the answers with and without some rows.

    Args:
        memory: A memory of labels.
        gone: Rows that would be removed, sorted.
        keys: ``(queries, dim)``.
        own: Row that each query must not find, for rows asked about themselves; or None.
        rule: The vote.
        metric: The memory's.
        k: How many neighbors vote.
    """
    parts = []
    for start in range(0, len(keys), _BLOCK):
        part = slice(start, start + _BLOCK)
        without = None if own is None else own[part]
        parts.append(_compare(memory, gone, keys[part], without, rule, metric, k))
    before, after, score_before, score_after = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return WhatIf(gone, before, after, score_before, score_after, own)


def _compare(
    memory: Memory,
    gone: Ids,
    keys: NDArray[Any],
    own: Ids | None,
    rule: VoteRule,
    metric: Metric,
    k: int,
) -> tuple[NDArray[Any], NDArray[Any], Doubles, Doubles]:
    near = memory.search(keys, min(k, max(1, len(memory))), exclude=own)
    before, score_before = _answers(near, rule, metric)
    after, score_after = before.copy(), score_before.copy()
    touched = np.flatnonzero(np.isin(near.ids, gone).any(axis=1))
    if len(touched):
        left = _survivors(memory, gone, keys[touched], None if own is None else own[touched], k)
        after[touched], score_after[touched] = _answers(left, rule, metric)
    return before, after, score_before, score_after


def _answers(near: Neighbors, rule: VoteRule, metric: Metric) -> tuple[NDArray[Any], Doubles]:
    assert near.codes is not None
    assert near.classes is not None
    weights = weigh(near, rule, metric)
    winners = vote(near.codes, weights)
    shares = label_shares(near.codes, vote_shares(weights), len(near.classes))
    labels = np.array([*near.classes.tolist(), None], object)
    score = np.where(winners >= 0, shares[np.arange(len(shares)), winners], 0.0)
    return labels[winners], score


def _survivors(memory: Memory, gone: Ids, keys: NDArray[Any], own: Ids | None, k: int) -> Neighbors:
    """The k nearest rows that stay, read from as deep as it takes."""
    rows = len(memory)
    found: list[Neighbors] = []
    order: list[Codes] = []
    pending, depth = np.arange(len(keys)), min(2 * k, rows)
    while len(pending):
        near = memory.search(keys[pending], depth, exclude=None if own is None else own[pending])
        stays = near.found & ~np.isin(near.ids, gone)
        enough = (stays.sum(axis=1) >= k) | (depth >= rows)
        ready = np.flatnonzero(enough)
        found.append(_kept(near, stays, ready, k))
        order.append(pending[ready])
        pending, depth = pending[~enough], min(4 * depth, rows)
    places = np.argsort(np.concatenate(order))
    first = found[0]

    def joined(name: str) -> NDArray[Any]:
        """One column of all rounds, back in the order of the queries."""
        return np.concatenate([getattr(part, name) for part in found])[places]

    return replace(
        first, ids=joined("ids"), similarity=joined("similarity"), values=joined("values"),
        weights=joined("weights"), codes=joined("codes"),
    )  # fmt: skip


def _kept(near: Neighbors, stays: Mask, queries: Codes, k: int) -> Neighbors:
    """The first k rows of each query that stay, padded with empty places."""
    assert near.codes is not None
    some = stays[queries]
    width = some.shape[1]
    order = np.argsort(~some, axis=1, kind="stable")[:, :k]
    there = np.take_along_axis(some, order, axis=1)
    pad = ((0, 0), (0, k - min(k, width)))

    def take(column: NDArray[Any], nothing: Any) -> NDArray[Any]:
        """Pad with ``nothing`` where fewer than k rows stay."""
        chosen = np.take_along_axis(column[queries], order, axis=1)
        return np.pad(np.where(there, chosen, nothing), pad, constant_values=nothing)

    return replace(
        near,
        ids=take(near.ids, -1),
        similarity=take(near.similarity, np.float32(-np.inf)),
        values=take(near.codes, -1),
        weights=take(near.weights, 0.0),
        codes=take(near.codes, -1),
    )
