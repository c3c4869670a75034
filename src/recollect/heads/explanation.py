"""Which rows an answer came from, what each adds to it, and which removal would change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.memory.memory import Memory
from recollect.readout.attribution import Flip, smallest_flip
from recollect.readout.regression import weighted_mean, weighted_parts
from recollect.readout.voting import VoteRule, label_shares, vote, vote_shares, weigh
from recollect.types import Codes, Doubles, Evidence, Explanation, Label, Metric, Neighbors

# Neighbors read beyond 2 k at first to find a removal that changes an answer; and at most in all.
_MARGIN, _HORIZON = 32, 4096
# Queries explained at once, so that what is read stays small.
_BLOCK = 64
_NOTHING: tuple[Flip, tuple[int, ...]] = (Flip((), -1, minimal=False, tried=0), ())


def _as_found(near: Neighbors) -> Neighbors:
    return near


@dataclass(frozen=True, slots=True)
class Reading:
    """How neighbors become an answer.

    Attributes:
        rule: The vote.
        metric: The memory's.
        k: How many neighbors vote.
        judge: Gives each neighbor the weight that its reliability leaves it.
        base: Gives what the class means add to the share of each class, ``(queries, classes)``, and
            the factor that is left to the vote; None where only the vote counts.
        removable: Whether a removal that changes the answer can be found by voting again: not
            where rows are skipped or the class means have a say.
    """

    rule: VoteRule
    metric: Metric
    k: int
    judge: Callable[[Neighbors], Neighbors] = _as_found
    base: Callable[[NDArray[Any]], tuple[Doubles, float]] | None = None
    removable: bool = True


def explain_votes(memory: Memory, keys: NDArray[Any], reading: Reading) -> list[Explanation]:
    """Explain the vote over each query.

    Args:
        memory: A memory of labels with at least one row.
        keys: ``(queries, dim)``.
        reading: How neighbors are read.

    Returns:
        One explanation per query. The contributions of a label's rows, added from the nearest on,
        and to its base where there is one, are its share to the last bit.
    """
    return [
        explanation
        for start in range(0, len(keys), _BLOCK)
        for explanation in _explain_some(memory, keys[start : start + _BLOCK], reading)
    ]


def _explain_some(memory: Memory, keys: NDArray[Any], reading: Reading) -> list[Explanation]:
    k = reading.k
    read = memory.search(keys, 2 * k + _MARGIN if reading.removable else k)
    found = _columns(read, k)
    near = reading.judge(found)
    weights = weigh(near, reading.rule, reading.metric)
    shares = vote_shares(weights)
    assert near.codes is not None
    assert near.classes is not None
    classes = near.classes.tolist()
    base = None
    if reading.base is None:
        by_label = label_shares(near.codes, shares, len(classes))
        answers = answers_of(found, vote(near.codes, weights)[:, None])[:, 0]
    else:
        base, left = reading.base(keys)
        shares *= left
        by_label = added_shares(base, near.codes, shares)
        answers = by_label.argmax(axis=1)
    flips = [_NOTHING] * len(keys)
    if reading.removable:
        flips = _flips(memory, keys, reading.judge(read), reading)
    return [
        Explanation(
            prediction=classes[answers[query]],
            score=float(by_label[query, answers[query]]),
            shares=_largest_first(classes, by_label[query]),
            evidence=evidence,
            counterfactual=flips[query][1],
            changed_to=classes[flips[query][0].code] if flips[query][1] else None,
            minimal=flips[query][0].minimal,
            base=None if base is None else _largest_first(classes, base[query]),
        )
        for query, evidence in enumerate(collect_evidence(memory, near, shares))
    ]


def answers_of(found: Neighbors, winners: Codes) -> Codes:
    """Let the nearest row answer where all rows so far were skipped, as in the reference.

    Args:
        found: What was found, skipped rows too.
        winners: int64 ``(queries, any)``; -1 where nobody has voted yet.
    """
    assert found.codes is not None
    return np.where(winners < 0, found.codes[:, :1], winners)


def added_shares(base: Doubles, codes: Codes, shares: Doubles) -> Doubles:
    """Add the shares of each query's neighbors to what their labels have already, in rank order.

    Args:
        base: float64 ``(queries, classes)``.
        codes: int64 ``(queries, k)``; -1 where empty.
        shares: float64 ``(queries, k)``.

    Example:
        >>> added_shares(np.array([[0.25, 0.25]]), np.array([[1, -1]]), np.array([[0.5, 0.0]]))
        array([[0.25, 0.75]])
    """
    total = base.copy()
    rows = np.arange(len(base))
    for rank in range(codes.shape[1]):
        found = codes[:, rank] >= 0
        total[rows[found], codes[found, rank]] += shares[found, rank]
    return total


def explain_means(
    memory: Memory, keys: NDArray[Any], rule: VoteRule, metric: Metric, k: int
) -> list[Explanation]:
    """Explain the weighted mean over each query's neighbors.

    Arguments as in ``explain_votes``, for a memory of numbers or vectors.

    Returns:
        One explanation per query. The contributions, added from the nearest on, are the
        prediction to the last bit.
    """
    near = memory.search(keys, k)
    shares = vote_shares(weigh(near, rule, metric))
    means = weighted_mean(near.values, shares)
    evidence = collect_evidence(memory, near, weighted_parts(near.values, shares))
    return [
        Explanation(prediction=plain(mean), score=plain(mean), shares={}, evidence=rows)
        for mean, rows in zip(means, evidence, strict=True)
    ]


def collect_evidence(
    memory: Memory, near: Neighbors, contributions: Doubles
) -> list[tuple[Evidence, ...]]:
    """Describe the rows behind each query, nearest first."""
    rows = memory.rows(np.unique(near.ids[near.found]))
    place = np.searchsorted(rows.ids, near.ids)

    def one(query: int, rank: int) -> Evidence:
        """What is known of the row that a query found at a rank."""
        row = place[query, rank]
        return Evidence(
            id=int(near.ids[query, rank]),
            value=plain(near.values[query, rank]),
            similarity=float(near.similarity[query, rank]),
            weight=float(near.weights[query, rank]),
            contribution=plain(contributions[query, rank]),
            source=rows.sources[row],
            metadata={name: column[row] for name, column in rows.metadata.items()},
        )

    return [
        tuple(one(query, rank) for rank in np.flatnonzero(found).tolist())
        for query, found in enumerate(near.found)
    ]


def plain(value: Any) -> Any:
    """Return a Python number instead of numpy's; arrays stay as they are."""
    return value.item() if isinstance(value, np.generic) else value


def _flips(
    memory: Memory, keys: NDArray[Any], near: Neighbors, reading: Reading
) -> list[tuple[Flip, tuple[int, ...]]]:
    """Find the smallest removal for each query, reading on where none is within reach."""
    rows, k = len(memory), reading.k
    assert near.classes is not None
    found, pending = [_NOTHING] * len(keys), list(range(len(keys)))
    while pending:
        depth = near.ids.shape[1]
        # With one label alive there is no other answer, however many rows are read.
        whole = rows <= depth or len(near.classes) == 1
        for place, query in enumerate(pending):
            one, tried = _row(near, place), found[query][0].tried
            flip = smallest_flip(one, reading.rule, reading.metric, k, whole=whole, tried=tried)
            ids = one.ids[0, list(flip.ranks)]
            found[query] = (flip, tuple(sorted(ids.tolist())))
        if whole or depth >= _HORIZON:
            break
        pending = [query for query in pending if not found[query][1]]
        if pending:
            further = min(4 * depth, max(_HORIZON, k + _MARGIN))
            near = reading.judge(memory.search(keys[pending], further))
    return found


def _largest_first(classes: list[Label], shares: Doubles) -> dict[Label, float]:
    order = np.argsort(-shares, kind="stable").tolist()
    return {classes[code]: float(shares[code]) for code in order if shares[code] > 0}


def _columns(near: Neighbors, k: int) -> Neighbors:
    return Neighbors(
        ids=np.ascontiguousarray(near.ids[:, :k]),
        similarity=np.ascontiguousarray(near.similarity[:, :k]),
        values=near.values[:, :k],
        weights=np.ascontiguousarray(near.weights[:, :k]),
        codes=None if near.codes is None else np.ascontiguousarray(near.codes[:, :k]),
        classes=near.classes,
    )


def _row(near: Neighbors, query: int) -> Neighbors:
    one = slice(query, query + 1)
    return Neighbors(
        ids=near.ids[one],
        similarity=near.similarity[one],
        values=near.values[one],
        weights=near.weights[one],
        codes=None if near.codes is None else near.codes[one],
        classes=near.classes,
    )
