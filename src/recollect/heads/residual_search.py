"""Search with what the nearest row does not explain of a query.

Geirhos et al., "Towards flexible perception with visual memory", appendix O: z(query) - z(nearest
neighbor) tends to find what else a picture shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import EmptyMemory, InvalidParameter
from recollect.memory.memory import Memory
from recollect.types import Doubles, Neighbors


@dataclass(frozen=True, slots=True)
class Step:
    """One search of a residual search.

    Attributes:
        near: The rows found, nearest first; those of earlier steps' nearest rows are left out.
        left: float64 ``(queries,)``: length of what was searched with, 1 in the first step; under
            1e-6 everything is explained, and nothing is found.
    """

    near: Neighbors
    left: Doubles


def residual_search(
    memory: Memory, queries: ArrayLike, k: int = 5, *, steps: int = 2, strength: float = 1.0
) -> list[Step]:
    """Search for the queries, then for what the nearest row leaves of them, and so on.

    Args:
        memory: With the cosine metric.
        queries: ``(queries, dim)``.
        k: How many rows each step finds.
        steps: How many searches; the paper's figure shows two.
        strength: How much of the nearest row's direction is taken away: 1 as in the paper.

    Returns:
        One entry for each search.

    Raises:
        InvalidParameter: Another metric, or an option out of range.
        EmptyMemory: There are no rows.

    Example:
        >>> memory = Memory.create(":memory:", dim=3)
        >>> ids = memory.add([[1, 0, 0], [0, 1, 0], [0, 0, 1]], ["sky", "boat", "dog"])
        >>> first, second = residual_search(memory, [[0.9, 0.6, 0.1]], k=1)
        >>> first.near.values.tolist(), second.near.values.tolist()
        ([['sky']], [['boat']])
    """
    _check(memory, steps, strength)
    return memory.in_one_version(lambda: _steps(memory, queries, k, steps, strength))


def _steps(memory: Memory, queries: ArrayLike, k: int, steps: int, strength: float) -> list[Step]:
    if not len(memory):
        raise EmptyMemory("the memory is empty", remedy="Teach it rows first.")
    memory.search(queries, 1)  # judges the queries as every search does
    rest = _unit(np.asarray(queries, np.float64))
    passed = np.full((len(rest), 0), -1, np.int64)
    found = []
    for _ in range(steps):
        left = np.linalg.norm(rest, axis=1)
        near = _search(memory, rest, left, k, passed)
        found.append(Step(near, left))
        nearest = near.ids[:, 0]
        passed = np.column_stack([passed, nearest])
        some = np.flatnonzero(nearest >= 0)
        rest[some] -= (
            strength
            * _unit(memory.keys(np.unique(nearest[some])).astype(float))[
                np.searchsorted(np.unique(nearest[some]), nearest[some])
            ]
        )
    return found


def _search(
    memory: Memory, rest: Doubles, left: Doubles, k: int, passed: NDArray[np.int64]
) -> Neighbors:
    explained = left < 1e-6
    asked = np.where(explained[:, None], np.ones_like(rest), rest)
    near = memory.search(asked, k, exclude=passed if passed.shape[1] else None)
    for column, nothing in ((near.ids, -1), (near.similarity, -np.inf), (near.weights, 0.0)):
        column[explained] = nothing
    if near.codes is not None:
        near.codes[explained] = -1
    if near.values.dtype == object:
        near.values[explained] = None
    return near


def _unit(rows: Doubles) -> Doubles:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _check(memory: Memory, steps: int, strength: float) -> None:
    if memory.metric != "cosine":
        raise InvalidParameter(
            "what is left of a query is a direction",
            expected="metric='cosine'",
            got=f"metric={memory.metric!r}",
            remedy="Import the rows into a memory that compares by cosine.",
        )
    if not isinstance(steps, int) or steps < 1 or not 0 < strength <= 1:
        raise InvalidParameter(
            "steps or strength are out of range",
            expected="steps >= 1, and 0 < strength <= 1",
            got=f"steps={steps!r}, strength={strength!r}",
            remedy="Leave them out for the paper's two searches.",
        )
