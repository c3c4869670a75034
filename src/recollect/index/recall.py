"""How deep a search must look for a wanted recall, measured on rows that ask for their neighbors.

The sample is asked exactly once. For each true neighbor it is known how many lists are nearer to
the query than the one it lies in: its *rank*. So the recall at every depth, for every k, follows
by counting, without a search for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SURE = 1.64  # standard errors that the measured recall must lie above the wanted: 95 % one-sided


@dataclass(frozen=True, eq=False)
class Reach:
    """Where the true neighbors of a sample lie.

    Attributes:
        ranks: int64 ``(sample, neighbors)``, nearest neighbor first: lists nearer than its own.
        lists: How many there are.

    Example:
        >>> reach = Reach(np.array([[0, 0], [0, 3]]), lists=8)
        >>> reach.recall(k=2, depth=1), reach.recall(k=2, depth=4)
        (0.75, 1.0)
        >>> reach.depth(k=1, recall=0.99), reach.depth(k=2, recall=0.99)
        (1, 4)
    """

    ranks: NDArray[np.int64]
    lists: int
    _known: dict[tuple[int, float], int] = field(default_factory=dict)

    def recall(self, *, k: int, depth: int) -> float:
        """Share of the first k neighbors that lie in the nearest ``depth`` lists."""
        return float((self.ranks[:, :k] < depth).mean())

    def depth(self, *, k: int, recall: float) -> int:
        """Return the fewest lists with which the recall is reached, surely and not by luck.

        A k beyond the neighbors that were asked for counts as that many.
        """
        k = min(k, self.ranks.shape[1])
        if (k, recall) not in self._known:
            low, high = 1, self.lists
            while low < high:
                middle = (low + high) // 2
                if self._surely(k, middle) >= recall:
                    high = middle
                else:
                    low = middle + 1
            self._known[k, recall] = low
        return self._known[k, recall]

    def _surely(self, k: int, depth: int) -> float:
        shares = (self.ranks[:, :k] < depth).mean(axis=1)
        return float(shares.mean() - SURE * shares.std() / np.sqrt(len(shares)))
