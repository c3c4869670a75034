"""What every estimator that asks for the nearest rows does: search, leave one out, choose."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.base import MemoryEstimator, empty_memory
from recollect.heads.selection import Grid, Scoring, TuningReport, choose
from recollect.memory.memory import Memory
from recollect.readout.voting import VoteRule, check_k, distances
from recollect.types import Doubles, Ids, Neighbors

# Rows whose keys are read at once when the memory is asked about itself.
BLOCK = 4096


def within(k: int, memory: Memory) -> int:
    """Return k, or how many rows there are: more neighbors would only be empty places."""
    return min(k, max(1, len(memory)))


class NeighborEstimator(MemoryEstimator):
    """An estimator that answers from the k nearest rows of its memory.

    Final classes set ``k`` too in their constructor.
    """

    k: int

    def _teach(self, X: Any, y: Any, **how: Any) -> Self:
        self._check_options()
        check_k(self.k)
        return super()._teach(X, y, **how)

    @abstractmethod
    def _rule(self) -> VoteRule:
        """Return how neighbors are weighed."""

    @abstractmethod
    def _truth(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values as the readout compares them: class codes, or the numbers themselves."""

    def kneighbors(
        self,
        X: Any = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,  # noqa: FBT001, FBT002 - scikit-learn's signature
    ) -> tuple[Doubles, Ids] | Ids:
        """Find the nearest rows, in the form of scikit-learn.

        Args:
            X: Queries; None asks for the neighbors of every row in ``ids_``, itself excluded.
            n_neighbors: How many; ``k`` when None. Where the memory holds fewer, all it holds.
            return_distance: Whether to return the distances too.

        Returns:
            Distances, float64 ``(queries, n)``, and row ids, int64 ``(queries, n)``; or only the
            ids. Cosine distance is 1 - cosine; for the dot product it is how far a row lies behind
            the nearest one.
        """
        count = check_k(self.k if n_neighbors is None else n_neighbors)
        memory = self._recall()
        if X is None:
            others = len(memory) - 1
            near = [self._around(ids, max(1, min(count, others))) for ids in self._blocks()]
            ids = np.concatenate([part.ids for part in near])[:, :others]
            similarity = np.concatenate([part.similarity for part in near])[:, :others]
        else:
            found = self._search(X, count)
            ids, similarity = found.ids, found.similarity
        return (distances(similarity, memory.metric), ids) if return_distance else ids

    def _search(self, X: Any, k: int) -> Neighbors:
        """Find the k nearest rows of each query.

        Raises:
            NotFitted: Nothing was taught yet, or everything was forgotten.
        """
        memory = self._recall()
        near = memory.search(self._keys(X), within(check_k(k), memory))
        if near.ids[0, 0] < 0:
            raise empty_memory()
        return near

    def _around(self, ids: Ids, k: int) -> Neighbors:
        """Find the neighbors of rows of the memory, each row itself excluded."""
        return self.memory_.search(self.memory_.rows(ids).keys, k, exclude=ids)

    def _blocks(self) -> list[Ids]:
        """Ids of all rows in the order given, some thousands at a time."""
        ids = self.ids_
        if not len(ids):
            raise empty_memory()
        return [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]

    def _asked(self, X: Any) -> tuple[Memory, NDArray[Any]]:
        """The memory, which holds rows, and the keys of the queries."""
        self._check_options()
        memory = self._recall()
        if not len(memory):
            raise empty_memory()
        return memory, self._keys(X)

    def _tuned(
        self,
        X: Any,
        y: Any,
        grid: Grid,
        scoring: Any,
        allowed: tuple[Scoring, ...],
        *,
        rule_name: str,
    ) -> TuningReport:
        """Score the grid, on the memory's own rows or on those given, and set the best."""
        if scoring not in allowed:
            raise InvalidParameter(
                "scoring is not known",
                expected=f"one of {', '.join(allowed)}",
                got=repr(scoring),
                remedy=f"Leave it out for {allowed[0]!r}.",
            )
        self._recall()
        blocks = self._own_answers(grid) if X is None else self._given_answers(X, y, grid)
        report = choose(blocks, grid, scoring, self.metric)
        best = report.best
        chosen: dict[str, Any] = {rule_name: best.rule, "k": best.k}
        if best.parameter is not None:
            chosen[best.parameter] = best.value
        self.set_params(**chosen)
        return report

    def _own_answers(self, grid: Grid) -> Iterator[tuple[Neighbors, NDArray[Any]]]:
        if len(self.memory_) < 2:
            raise InvalidParameter(
                "leaving one row out leaves nothing to ask",
                expected="at least two rows",
                got=len(self.memory_),
                remedy="Teach more rows, or pass X and y set aside for tuning.",
            )
        for ids in self._blocks():
            yield (
                self._around(ids, within(grid.ks[-1], self.memory_)),
                self._truth(self.memory_.rows(ids).values),
            )

    def _given_answers(
        self, X: Any, y: Any, grid: Grid
    ) -> Iterator[tuple[Neighbors, NDArray[Any]]]:
        keys, truth = self._keys(X), self._truth(self._check_targets(X, y))
        most = within(grid.ks[-1], self.memory_)
        for start in range(0, len(keys), BLOCK):
            part = slice(start, start + BLOCK)
            yield self.memory_.search(keys[part], most), truth[part]
