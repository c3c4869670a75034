"""Centers of centers: a key's nearest center, without comparing it with all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recollect.types import Floats, Ids

NEAR = 8  # groups that are searched
ROUNDS = 6  # of the grouping
STEP = 1 << 13  # keys at a time


class Groups:
    """Groups of centers, about as many as centers in a group.

    Args:
        centers: float32 ``(centers, dim)``.
        euclidean: Compare by distance; otherwise by the dot product.

    Example:
        >>> centers = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
        >>> Groups(centers, euclidean=True).assign(np.array([[0.1, 0.9]], np.float32))
        array([1])
    """

    def __init__(self, centers: Floats, *, euclidean: bool) -> None:
        self._centers, self._euclidean = centers, euclidean
        count = int(np.sqrt(len(centers)))
        chosen = np.linspace(0, len(centers) - 1, count).astype(np.int64)
        self._heads = centers[chosen].copy()
        for _ in range(ROUNDS):
            own = self._nearness(centers, self._heads).argmax(axis=1)
            sums = np.zeros_like(self._heads)
            np.add.at(sums, own, centers)
            sizes = np.bincount(own, minlength=count)
            filled = sizes > 0
            self._heads[filled] = sums[filled] / sizes[filled, None]
        own = self._nearness(centers, self._heads).argmax(axis=1)
        self._members = [np.flatnonzero(own == number) for number in range(count)]

    def _nearness(self, keys: Floats, centers: Floats) -> Floats:
        products: Floats = keys @ centers.T
        if self._euclidean:
            products -= np.float32(0.5) * np.square(centers).sum(axis=1)
        return products

    def assign(self, keys: Floats) -> Ids:
        """Return the nearest center in the nearest groups: int64 ``(n,)``."""
        parts = [self._assigned(keys[start : start + STEP]) for start in range(0, len(keys), STEP)]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _assigned(self, keys: Floats) -> Ids:
        nearness = self._nearness(keys, self._heads)
        near = min(NEAR, nearness.shape[1])
        groups: NDArray[np.intp] = np.argpartition(-nearness, near - 1, axis=1)[:, :near]
        best = np.full(len(keys), -np.inf, np.float32)
        found = np.zeros(len(keys), np.int64)
        order = np.argsort(groups, axis=None, kind="stable")
        rows, sorted_groups = order // near, groups.reshape(-1)[order]
        edges = np.searchsorted(sorted_groups, np.arange(len(self._members) + 1))
        for number, members in enumerate(self._members):
            here = rows[edges[number] : edges[number + 1]]
            if not len(here) or not len(members):
                continue
            scores = self._nearness(keys[here], self._centers[members])
            place = scores.argmax(axis=1)
            top = scores[np.arange(len(here)), place]
            better = top > best[here]
            best[here[better]], found[here[better]] = top[better], members[place[better]]
        return found
