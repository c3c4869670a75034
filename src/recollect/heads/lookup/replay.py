"""Inference by look-up: the table stands in for the step function, step after step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.lookup.runs import Sense, each_step
from recollect.heads.lookup.search import Search
from recollect.heads.lookup.table import Table
from recollect.types import Codes


@dataclass(frozen=True, slots=True)
class Trail:
    """What was looked up for each input, step by step.

    Attributes:
        near: int64 ``(n, steps, k)``: the nearest rows of every step, -1 where there are fewer.
        apart: int64 ``(n, steps, k)``: how far they are, in whole units of the costs, or -1.
        comparisons: int64 ``(n, steps)``: keys and centers compared.
        answers: int64 ``(n, steps)``: answers of the nearest rows; the last one is the answer.
        queries: ``(n, steps, key width)``: what was asked; None from the compiled library.
    """

    near: Codes
    apart: Codes
    comparisons: Codes
    answers: NDArray[np.int64]
    queries: NDArray[Any] | None = None

    @property
    def rows(self) -> Codes:
        """int64 ``(n, steps)``: the nearest row of every step, whose state the next one takes."""
        return self.near[:, :, 0]

    @property
    def distances(self) -> Codes:
        """int64 ``(n, steps)``: how far the nearest row is."""
        return self.apart[:, :, 0]


def replay(
    table: Table,
    search: Search,
    inputs: Any,
    *,
    start: NDArray[Any],
    steps: int,
    sense: Sense = each_step,
    k: int = 1,
) -> Trail:
    """Answer by look-ups alone.

    Args:
        table: Its rows.
        search: Finds the nearest of them.
        inputs: What ``sense`` looks at.
        start: ``(s,)``: the state that every run begins with.
        steps: How many look-ups an answer takes.
        sense: What is seen in a state, as when the table was recorded.
        k: How many rows of each step to return.

    Example:
        >>> from recollect.heads.lookup.costs import whole_costs
        >>> from recollect.heads.lookup.search import FlatSearch
        >>> from recollect.heads.lookup.table import build
        >>> parity = lambda state, bit: (state ^ bit, (state ^ bit)[:, 0].astype(np.int64))
        >>> none, bits = np.zeros(1, np.uint8), np.array([[[1], [0]], [[1], [1]]], np.uint8)
        >>> table = build(parity, bits, start=none, steps=2)
        >>> search = FlatSearch(table, whole_costs([1, 1], [1, 1]))
        >>> replay(table, search, bits, start=none, steps=2).answers.tolist()
        [[1, 1], [1, 0]]
    """
    state = np.tile(start, (len(inputs), 1))
    queries, found = [], []
    for step in range(steps):
        query = np.concatenate([state, sense(inputs, state, step)], axis=1)
        near = search.nearest(query, step, k)
        state = table.states[near.rows[:, 0]]
        queries.append(query)
        found.append(near)
    rows = np.stack([near.rows for near in found], axis=1)
    return Trail(
        rows,
        np.stack([near.distances for near in found], axis=1),
        np.stack([near.comparisons for near in found], axis=1),
        table.answers[rows[:, :, 0]],
        np.stack(queries, axis=1),
    )
