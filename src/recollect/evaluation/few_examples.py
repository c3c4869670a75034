"""A class of a few rows: k and the rows' weight, chosen on the memory's own rows alone.

Accuracy is reported on other rows than those on which a setting was chosen. So the rows of the
memory are asked about themselves, each left out: what they lose is what the new class costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import InvalidParameter
from recollect.heads.selection import RELIABILITIES, choose, make_grid
from recollect.readout.voting import LEAST_ALPHA, VoteRule, vote, weigh
from recollect.types import Codes, Ids, Metric, Neighbors

if TYPE_CHECKING:
    from recollect.heads.visual_memory import MemoryClassifier
    from recollect.memory.memory import Memory

KS = (5, 10, 20, 50, 100)
"""Neighborhoods to choose from, up to the paper's largest.

Not 1: a lone row is neither outvoted nor helped by any weight.
"""

GRID: dict[str, tuple[Any, ...]] = {
    "vote": ("rank",),
    "alpha": (VoteRule("rank").alpha,),
    "k": KS,
    "reliability": (None,),
}
"""What ``tune`` chooses from: the library's vote, and k."""

MOST_LOST = 0.005
"""Share of the other classes' rows whose answers a new class may cost.

Half a point is about one standard error of an accuracy of 95 % measured on two thousand rows: a
loss this small is hard to tell from none.
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """How neighbors are read.

    Attributes:
        rule: The vote.
        metric: What their similarity means.
    """

    rule: VoteRule
    metric: Metric

    def answers(self, near: Neighbors) -> Codes:
        """Code of the label that each query's neighbors vote for, int64 ``(queries,)``."""
        assert near.codes is not None
        return vote(near.codes, weigh(near, self.rule, self.metric))


def weight_of_few(classifier: MemoryClassifier, ids: ArrayLike) -> float:
    """Choose the weight of a few rows of a new class, from one leave-one-out search.

    The largest of 1, 2, 4, ... at which the rows of the other classes lose at most half a point
    of accuracy, against the memory without the new rows; at least 1, and at most what makes the
    class weigh as much as another one in the mean.

    Args:
        classifier: Has a memory that holds the rows; its vote and k are used.
        ids: The rows of the new class, int64 ``(rows,)``; they are all of it.

    Returns:
        The weight to give to each of these rows; nothing is written.

    Raises:
        InvalidParameter: There is no row to weigh, or no other row.
        NotFitted: The classifier has no memory yet.
        UnknownIds: One of the rows is not there.

    Example:
        >>> from recollect.heads.visual_memory import MemoryClassifier
        >>> keys = [[1, 0], [1, 0.1], [1, 0.2], [1, 0.3], [0, 1]]
        >>> pets = MemoryClassifier(k=3).fit(keys, ["cat"] * 4 + ["fish"])
        >>> weight_of_few(pets, pets.ids_[-1:])
        4.0
    """
    _ = classifier.classes_  # refuses a classifier without a memory
    memory = classifier.memory_
    rule = VoteRule(classifier.vote, classifier.alpha, classifier.temperature, classifier.sharpness)
    few = memory.rows(ids).ids
    near, truth = ask_others(memory, few, classifier.k)
    return heaviest(near, truth, few, Reading(rule, memory.metric), most_weight(memory, few))


def best_k(near: Neighbors, truth: Codes, metric: Metric) -> int:
    """Choose k as ``tune(grid=GRID)`` does, from neighbors that are there already."""
    grid = make_grid(GRID, rule_name="vote", least_alpha=LEAST_ALPHA, reliabilities=RELIABILITIES)
    return choose([({None: near}, truth)], grid, "accuracy", metric).best.k


def most_weight(memory: Memory, ids: Ids) -> float:
    """With this weight each, the rows weigh as much as another class has rows in the mean."""
    others = len(memory) - len(ids)
    return others / max(len(memory.labels) - 1, 1) / len(ids)


def heaviest(near: Neighbors, truth: Codes, ids: Ids, reading: Reading, most: float) -> float:
    """Return the largest weight, doubled from 1 up to ``most``, that costs at most MOST_LOST.

    Args:
        near: Neighbors of rows of the other classes: k, and one more for each row of ``ids``.
        truth: int64 ``(queries,)``. Codes of their labels.
        ids: The rows to weigh.
        reading: The vote.
        most: Upper bound; below 2 leaves only 1.
    """
    found = first(near, near.ids.shape[1] - len(ids))
    before = _right(reading.answers(without(near, ids)), truth)
    weight = 2.0 ** math.floor(math.log2(max(most, 1.0)))
    # Weight moves answers to the new class only: from the top, the first that holds is largest.
    while weight > 1:
        after = _right(reading.answers(reweighted(found, ids, weight)), truth)
        if before - after <= MOST_LOST * len(truth):
            break
        weight /= 2
    return weight


def ask_others(
    memory: Memory, ids: Ids, k: int, *, at_most: int | None = None
) -> tuple[Neighbors, Codes]:
    """Ask all rows but these about themselves, each left out.

    Args:
        memory: Holds them.
        ids: The rows of a new class.
        k: How many neighbors.
        at_most: Ask every second row, every third ... so that there are no more; None asks all.

    Returns:
        Neighbors, k and one more for each row of ``ids``; and the codes of the true labels.
    """
    others = np.setdiff1d(memory.ids, ids)
    if not len(ids) or not len(others):
        raise InvalidParameter(
            "there is nothing to compare",
            expected="rows of a new class, and rows of others in the memory",
            got=f"{len(ids)} and {len(others)}",
            remedy="Teach the other classes first, then the new one.",
        )
    step = 1 if at_most is None else math.ceil(len(others) / at_most)
    return ask_around(memory, others[::step], k + len(ids))


def ask_around(memory: Memory, ids: Ids, k: int) -> tuple[Neighbors, Codes]:
    """Ask rows about themselves, each left out: neighbors, and the codes of the true labels."""
    rows = memory.rows(ids)
    near = memory.search(rows.keys, k, exclude=rows.ids)
    assert near.classes is not None
    return near, np.searchsorted(near.classes, rows.values)


def first(near: Neighbors, k: int) -> Neighbors:
    """Keep the k nearest."""
    return _columns(near, np.tile(np.arange(k), (len(near), 1)))


def without(near: Neighbors, ids: Ids) -> Neighbors:
    """Find the neighbors as if these rows were not there: the next nearest move up.

    Example:
        >>> near = Neighbors(
        ...     ids=np.array([[7, 3, 4]]),
        ...     similarity=np.array([[0.9, 0.8, 0.7]], np.float32),
        ...     values=np.array([[1, 0, 0]]),
        ...     weights=np.ones((1, 3)),
        ... )
        >>> without(near, np.array([3])).ids
        array([[7, 4]])
    """
    order = np.argsort(np.isin(near.ids, ids), axis=1, kind="stable")
    return _columns(near, order[:, : near.ids.shape[1] - len(ids)])


def reweighted(near: Neighbors, ids: Ids, weight: float) -> Neighbors:
    """Find the neighbors as if each of these rows had this weight."""
    return replace(near, weights=np.where(np.isin(near.ids, ids), weight, near.weights))


def _right(answers: Codes, truth: Codes) -> int:
    return int((answers == truth).sum())


def _columns(near: Neighbors, which: Ids) -> Neighbors:
    """Take some places of each query, ``(queries, places)``, with everything known of them."""

    def take(column: NDArray[Any]) -> NDArray[Any]:
        """The same places of every query, so that all columns stay in step."""
        return np.take_along_axis(column, which, axis=1)

    return replace(
        near,
        ids=take(near.ids),
        similarity=take(near.similarity),
        values=take(near.values),
        weights=take(near.weights),
        codes=None if near.codes is None else take(near.codes),
    )
