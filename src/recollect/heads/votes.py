"""What can be asked of a vote beside its answer: the votes, and what a removal would change."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from recollect.errors import InvalidParameter
from recollect.heads.copies import InProcessCopy, create_options
from recollect.heads.neighbors import NeighborEstimator, within
from recollect.heads.what_if import WhatIf, chosen_rows, preview_removal
from recollect.memory.memory import Memory
from recollect.readout.reliability import as_reliability
from recollect.readout.voting import check_k, weigh
from recollect.types import Doubles, Ids, Neighbors


@dataclass(frozen=True, slots=True)
class Read:
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


class VotingEstimator(NeighborEstimator):
    """An estimator whose rows vote for labels."""

    reliability: Any
    class_means: float

    @abstractmethod
    def _read(self, X: Any, k: int) -> Read:
        """Find the neighbors of each query and weigh their votes."""

    def keys(self, X: Any) -> NDArray[Any]:
        """Return the keys of queries, ``(queries, dim)``: what the encoder makes of them."""
        self._recall()
        return self._keys(X)

    def votes(self, X: Any = None) -> tuple[Neighbors, Doubles]:
        """Return the rows that vote on each query, and what each vote weighs.

        Args:
            X: Queries; None asks about every row in ``ids_``, itself excluded.

        Returns:
            Neighbors ``(queries, k)`` and float64 weights ``(queries, k)``, 0 where empty.
        """
        if X is not None:
            read = self._read(X, self.k)
            return read.near, read.weights
        found = self._around(self.ids_, within(check_k(self.k), self._recall()))
        near = self._judged(found, as_reliability(self.reliability))
        return near, weigh(near, self._rule(), self.metric)

    def what_if(
        self, X: Any = None, *, remove: ArrayLike | None = None, where: str | None = None
    ) -> WhatIf:
        """Show which answers would change if rows were removed; nothing is written.

        Args:
            X: Queries; None asks about every row that would stay, itself excluded.
            remove: Ids of the rows; or
            where: a filter, such as ``"label = 'cat'"``.

        Returns:
            The answers before and after, exactly as ``forget`` would leave them. With
            ``reliability`` or ``class_means`` every row may bear on every answer: a copy of the
            memory without the rows is asked, which takes its room and time.

        Raises:
            InvalidParameter: Neither ids nor a filter, or both; or no queries with ``reliability``
                or ``class_means``.

        Example:
            >>> from recollect import MemoryClassifier
            >>> pets = MemoryClassifier(k=1).fit([[1, 0], [0.9, 0.1], [0, 1]], ["a", "b", "c"])
            >>> preview = pets.what_if([[1, 0], [0, 1]], remove=[0])
            >>> preview.flipped.tolist(), preview.after.tolist()
            ([True, False], ['b', 'c'])
        """
        self._check_options()
        memory = self._recall()
        gone = chosen_rows(memory, remove, where)
        if self.reliability is not None or self.class_means:
            return self._asked_of_copies(memory, gone, X)
        own = np.setdiff1d(memory.ids, gone) if X is None else None
        keys = memory.rows(own).keys if own is not None else self._keys(X)
        return preview_removal(memory, gone, keys, own, self._rule(), self.metric, check_k(self.k))

    def _asked_of_copies(self, memory: Memory, gone: Ids, X: Any) -> WhatIf:
        """Answers of two copies in memory, one without the rows."""
        if X is None:
            raise InvalidParameter(
                "what_if needs queries where the rows' reliability or class means have a part",
                expected="X",
                got="None",
                remedy="Pass queries, or set reliability=None and class_means=0.",
            )
        keys, columns = self._keys(X), []
        for ids in (memory.ids, np.setdiff1d(memory.ids, gone)):
            labels, score = np.full(len(keys), None, object), np.zeros(len(keys))
            if len(ids):
                copy = InProcessCopy(create_options(memory), memory.rows(ids)).build()
                head: Any = clone(self).set_params(memory=copy, encoder=None)
                labels[:] = head.predict(keys)
                score = head.predict_proba(keys).max(axis=1)
            columns += [labels, score]
        before, score_before, after, score_after = columns
        return WhatIf(gone, before, after, score_before, score_after)
