"""What every estimator that asks for the nearest rows does: search, leave one out, choose."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.base import MemoryEstimator
from recollect.heads.keeper import empty_memory
from recollect.heads.peers import Peers
from recollect.heads.selection import Grid, Judged, Scoring, TuningReport, choose
from recollect.memory.leave_one_out import DEEPEST
from recollect.memory.memory import Memory
from recollect.readout.reliability import Reliability
from recollect.readout.voting import VoteRule, check_k, distances
from recollect.types import Doubles, Floats, Ids, Neighbors

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
    _rows_asked: Peers

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
        metric = self._recall().metric
        if X is None:
            ids, similarity = self._at_once(lambda: self._own_neighbors(count))
        else:
            found = self._search(X, count)
            ids, similarity = found.ids, found.similarity
        return (distances(similarity, metric), ids) if return_distance else ids

    def _own_neighbors(self, count: int) -> tuple[Ids, Floats]:
        others = len(self._recall()) - 1
        near = [self._around(ids, max(1, min(count, others))) for ids in self._blocks()]
        ids = np.concatenate([part.ids for part in near])[:, :others]
        return ids, np.concatenate([part.similarity for part in near])[:, :others]

    def _search(self, X: Any, k: int) -> Neighbors:
        """Find the k nearest rows of each query.

        Raises:
            NotFitted: Nothing was taught yet, or everything was forgotten.
        """
        self._recall()
        keys = self._keys(X)
        return self._at_once(lambda: self._find(self._recall(), keys, k))

    def _find(self, memory: Memory, keys: NDArray[Any], k: int) -> Neighbors:
        near = memory.search(keys, within(check_k(k), memory))
        if near.ids[0, 0] < 0:
            raise empty_memory()
        return near

    def _around(self, ids: Ids, k: int) -> Neighbors:
        """Find the neighbors of rows of the memory, each row itself excluded."""
        return self.memory_.search(self.memory_.keys(ids), k, exclude=ids)

    def _blocks(self) -> list[Ids]:
        """Ids of all rows in the order given, some thousands at a time."""
        ids = self.ids_
        if not len(ids):
            raise empty_memory()
        return [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]

    def _asked(self, X: Any) -> NDArray[Any]:
        """The keys of the queries."""
        self._check_options()
        self._recall()
        return self._keys(X)

    def _with_rows(self) -> Memory:
        """The memory, which holds rows."""
        memory = self._recall()
        if not len(memory):
            raise empty_memory()
        return memory

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
        if X is None and y is not None:
            raise InvalidParameter(
                "labels without queries have nothing to say",
                expected="both X and y, or neither",
                got="y alone",
                remedy="Leave both out to ask the memory's own rows.",
            )
        self._recall()
        if X is None:
            report = self._at_once(
                lambda: choose(self._own_answers(grid), grid, scoring, self.metric)
            )
            self._peers().keep()
        else:
            keys, targets = self._keys(X), self._check_targets(X, y)
            report = self._at_once(
                lambda: choose(self._given_answers(keys, targets, grid), grid, scoring, self.metric)
            )
        best = report.best
        chosen: dict[str, Any] = {rule_name: best.rule, "k": best.k}
        if best.parameter is not None:
            chosen[best.parameter] = best.value
        if len(grid.reliabilities) > 1:
            trust = best.reliability
            plain = trust is not None and trust == Reliability(trust.name)
            chosen["reliability"] = trust.name if trust is not None and plain else trust
        self.set_params(**chosen)
        return report

    @property
    def peers_(self) -> Peers:
        """What the rows of the memory say of each other; for curation and measurements."""
        return self._peers()

    def _peers(self, deepest: int = 1) -> Peers:
        """What the rows say of each other, at least this many neighbors deep."""
        memory = self._recall()
        held = self.__dict__.get("_rows_asked")
        if held is None or held.memory is not memory or held.deepest < deepest:
            held = self._rows_asked = Peers(memory, deepest=max(deepest, DEEPEST))
        return held

    def _own_answers(self, grid: Grid) -> Iterator[tuple[Judged, NDArray[Any]]]:
        if len(self.memory_) < 2:
            raise InvalidParameter(
                "leaving one row out leaves nothing to ask",
                expected="at least two rows",
                got=len(self.memory_),
                remedy="Teach more rows, or pass X and y set aside for tuning.",
            )
        most = min(grid.ks[-1], len(self.memory_) - 1)
        for block in self._peers(most).blocks(most, grid.reliabilities):
            yield block.judged, self._truth(block.values)

    def _given_answers(
        self, keys: NDArray[Any], targets: NDArray[Any], grid: Grid
    ) -> Iterator[tuple[Judged, NDArray[Any]]]:
        truth = self._truth(targets)
        most = within(grid.ks[-1], self.memory_)
        for start in range(0, len(keys), BLOCK):
            part = slice(start, start + BLOCK)
            near = self.memory_.search(keys[part], most)
            yield {one: self._judged(near, one) for one in grid.reliabilities}, truth[part]

    def _judged(self, near: Neighbors, reliability: Reliability | None) -> Neighbors:
        """Let neighbors vote with their reliability."""
        return near if reliability is None else self._peers().judged(near, reliability)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be computed again."""
        state = super().__getstate__()
        state.pop("_rows_asked", None)
        return state


def joined(parts: Sequence[Neighbors], order: NDArray[np.intp]) -> Neighbors:
    """Put what was found for blocks of queries together, in another order of the queries."""

    def column(name: str) -> Any:
        """All blocks' part of one column, in the order that is wanted."""
        return np.concatenate([getattr(part, name) for part in parts])[order]

    codes = None if parts[0].codes is None else column("codes")
    return Neighbors(
        column("ids"), column("similarity"), column("values"), column("weights"), codes,
        parts[0].classes,
    )  # fmt: skip
