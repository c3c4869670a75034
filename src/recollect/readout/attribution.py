"""Which rows an answer hangs on: the smallest removal that changes it.

Removal means what it means in a memory: the rows are gone, the next nearest ones move up, and the
vote is taken again. So the search for a removal reads more than k neighbors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, islice
from math import comb

import numpy as np

from recollect.errors import InvalidParameter
from recollect.readout.voting import VoteRule, vote, weigh
from recollect.types import Codes, Doubles, Ids, Mask, Metric, Neighbors

# Removals tried per query before the search turns greedy: every set of up to 4 rows at k = 20.
BUDGET = 12_000
# Neighbors voted on at once.
_BLOCK = 2**18


@dataclass(frozen=True, slots=True)
class Flip:
    """A removal that changes an answer, or the finding that none was found.

    Attributes:
        ranks: Positions in the neighbor list that are removed, ascending; empty if none was found.
        code: The new answer's class index, or -1.
        minimal: True when no smaller set of rows changes the answer; without ranks, when no set
            at all does.
        tried: All sets of up to this many rows were tried.
    """

    ranks: tuple[int, ...]
    code: int
    minimal: bool
    tried: int


def smallest_flip(
    near: Neighbors,
    rule: VoteRule,
    metric: Metric,
    k: int,
    *,
    whole: bool,
    tried: int = 0,
    budget: int = BUDGET,
) -> Flip:
    """Find the smallest set of rows whose removal changes the answer of one query.

    All sets of one row are tried, then of two, and so on while the number of sets stays within the
    budget; of several sets of one size the one with the nearest rows wins. Beyond that the search
    is greedy: it takes away the nearest rows until another label has a vote, then the heaviest
    vote for the answer until the answer changes, and puts back each row that need not go.

    Args:
        near: Neighbors of one query with ``codes``, ``(1, m)``, m > k unless ``whole``.
        rule: The vote.
        metric: What the similarity means.
        k: How many neighbors vote.
        whole: True if the m neighbors are all rows there are. Otherwise at most m - k rows are
            removed, because what comes after them is not known.
        tried: Sets of up to this size are known to leave the answer as it is.
        budget: Most sets to try before the search turns greedy.

    Returns:
        The removal. An answer that no removal within reach changes has no ranks.

    Raises:
        InvalidParameter: ``near`` is not of one query, or holds no codes.

    Example:
        >>> near = Neighbors(
        ...     ids=np.array([[7, 3, 5]]),
        ...     similarity=np.array([[0.9, 0.8, 0.7]], np.float32),
        ...     values=np.array([[1, 0, 0]]),
        ...     weights=np.ones((1, 3)),
        ...     codes=np.array([[1, 0, 0]]),
        ... )
        >>> smallest_flip(near, VoteRule("rank"), "cosine", 2, whole=True)
        Flip(ranks=(0,), code=0, minimal=True, tried=0)
    """
    ballot = _ballot(near, rule, metric, k)
    answer = int(ballot.decide(ballot.voters(np.empty((1, 0), np.int64)))[0])
    others = np.flatnonzero(ballot.codes != answer)
    if whole and not len(others):
        return Flip((), -1, minimal=True, tried=ballot.rows - 1)
    most = ballot.rows - 1 if whole else ballot.rows - k
    # Until the nearest other row comes among the k nearest, no other label has a vote.
    tried = max(tried, (int(others[0]) if len(others) else ballot.rows) - k)
    spent = 0
    for size in range(tried + 1, most + 1):
        # A row further back cannot come into the vote by removing this many.
        reach = min(ballot.rows, k + size - 1)
        spent += comb(reach, size)
        if spent > budget:
            break
        found = _first_flip(ballot, answer, reach, size)
        if found is not None:
            return Flip(found[0], found[1], minimal=True, tried=size - 1)
        tried = size
    removed, code = _greedy_flip(ballot, answer, most)
    return Flip(removed, code, minimal=len(removed) == tried + 1, tried=tried)


@dataclass(frozen=True, slots=True)
class _Ballot:
    """One query's neighbors and how they vote."""

    similarity: Doubles
    weights: Doubles
    codes: Codes
    rule: VoteRule
    metric: Metric
    k: int

    @property
    def rows(self) -> int:
        """All neighbors that were found, also those behind the first k."""
        return len(self.codes)

    def voters(self, removed: Ids) -> Ids:
        """Positions of the k nearest survivors of each removal, -1 where there are fewer.

        ``removed`` is ``(sets, size)``, each row ascending.
        """
        places = np.arange(self.k)
        # The j-th survivor stands behind as many removed rows as lie before it.
        ahead = removed - np.arange(removed.shape[1])
        kept = places + (ahead[:, :, None] <= places).sum(axis=1)
        return np.where(kept < self.rows, kept, -1)

    def weigh(self, voters: Ids) -> tuple[Codes, Doubles]:
        """Classes and votes of the rows at these positions, both ``(sets, k)``."""
        found = voters >= 0
        codes = np.where(found, self.codes[voters], -1)
        near = Neighbors(
            ids=voters,
            similarity=np.where(found, self.similarity[voters], -np.inf).astype(np.float32),
            values=codes,
            weights=np.where(found, self.weights[voters], 0.0),
        )
        return codes, weigh(near, self.rule, self.metric)

    def decide(self, voters: Ids) -> Codes:
        """The answer of each set of voters."""
        return vote(*self.weigh(voters))


def _ballot(near: Neighbors, rule: VoteRule, metric: Metric, k: int) -> _Ballot:
    if near.codes is None or len(near) != 1:
        raise InvalidParameter(
            "a removal is sought for one query over labels",
            expected="neighbors of one query, with codes",
            got=f"{len(near)} queries, codes {'absent' if near.codes is None else 'present'}",
            remedy="Slice the neighbors query by query; numbers have no label to change.",
        )
    rows = near.found[0]
    return _Ballot(
        near.similarity[0, rows].astype(np.float64),
        near.weights[0, rows],
        near.codes[0, rows],
        rule,
        metric,
        k,
    )


def _first_flip(
    ballot: _Ballot, answer: int, reach: int, size: int
) -> tuple[tuple[int, ...], int] | None:
    for removed in _sets(reach, size, block=max(1, _BLOCK // (ballot.k * size))):
        answers = ballot.decide(ballot.voters(removed))
        flipped = np.flatnonzero(answers != answer)
        if len(flipped):
            return tuple(removed[flipped[0]].tolist()), int(answers[flipped[0]])
    return None


def _sets(reach: int, size: int, *, block: int) -> Iterator[Ids]:
    every = combinations(range(reach), size)
    while some := list(islice(every, block)):
        flat = np.fromiter(chain.from_iterable(some), np.int64, len(some) * size)
        yield flat.reshape(len(some), size)


def _greedy_flip(ballot: _Ballot, answer: int, most: int) -> tuple[tuple[int, ...], int]:
    alive = np.ones(ballot.rows, bool)
    while True:
        rows = np.flatnonzero(alive)
        voters = _padded(rows[: ballot.k], ballot.k)
        codes, weights = ballot.weigh(voters)
        code = int(vote(codes, weights)[0])
        if code != answer:
            break
        others = np.flatnonzero(ballot.codes[rows] != answer)
        # The nearest rows go until another label has a vote; then the heaviest vote goes first.
        unanimous = len(rows) if not len(others) else int(others[0]) + 1 - ballot.k
        if unanimous > 0:
            alive[rows[:unanimous]] = False
        else:
            alive[voters[0, np.argmax(np.where(codes == answer, weights, -1.0))]] = False
        if np.count_nonzero(~alive) > most:
            return (), -1
    return _without_the_needless(ballot, answer, alive, code)


def _without_the_needless(
    ballot: _Ballot, answer: int, alive: Mask, code: int
) -> tuple[tuple[int, ...], int]:
    """Put back, from the nearest on, every row that need not go."""
    removed = np.flatnonzero(~alive)
    while len(removed):
        voters = np.flatnonzero(alive)[: ballot.k]
        with_one = np.sort(np.column_stack([np.tile(voters, (len(removed), 1)), removed]), axis=1)
        codes = ballot.decide(_padded(with_one[:, : ballot.k], ballot.k))
        needless = np.flatnonzero(codes != answer)
        if not len(needless):
            break
        alive[removed[needless[0]]], code = True, int(codes[needless[0]])
        removed = removed[needless[0] + 1 :]
    return tuple(np.flatnonzero(~alive).tolist()), code


def _padded(positions: Ids, k: int) -> Ids:
    positions = np.atleast_2d(positions)
    missing = k - positions.shape[1]
    return np.pad(positions, ((0, 0), (0, missing)), constant_values=-1) if missing else positions
