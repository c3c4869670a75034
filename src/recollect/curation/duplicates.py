"""Rows that hold the same key, or nearly the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recollect.heads.peers import Peers
from recollect.types import Floats, Ids, Label, Mask

NEAR = 0.98
"""Cosine from which on two rows count as nearly the same."""

LINKS = 20
"""Nearest others through which a row is linked; a larger group hangs together through others."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows that are the same or nearly so.

    Attributes:
        ids: Their ids, ascending.
        labels: Their labels, in the same order.
        exact: True if all keys are the same, number by number.
        similarity: The smallest similarity through which the group hangs together.
    """

    ids: tuple[int, ...]
    labels: tuple[Label, ...]
    exact: bool
    similarity: float

    @property
    def agree(self) -> bool:
        """Whether all have one label."""
        return len(set(self.labels)) == 1


def find_duplicates(peers: Peers, *, near: float = NEAR) -> list[Duplicates]:
    """List groups of rows with the same key, and of rows at least this similar.

    A row is linked to its nearest others, so groups may be chains. Exact groups come first, then
    larger ones.

    Args:
        peers: The memory's rows, asked about each other.
        near: Similarity from which on rows count as nearly the same. For metrics other than cosine
            only exact duplicates are sought.

    Example:
        >>> from recollect.memory.memory import Memory
        >>> memory = Memory.create(":memory:", dim=2)
        >>> _ = memory.add([[1, 0], [0, 1], [1, 0]], ["a", "b", "b"])
        >>> [(group.ids, group.exact, group.agree) for group in find_duplicates(Peers(memory))]
        [((0, 2), True, False)]
    """
    first, second, close = _close_pairs(peers, near)
    same = _same_keys(peers, first, second)
    exact = _groups(peers, first[same], second[same], close[same], exact=True)
    # A near group that is an exact one and nothing else is not told twice.
    told = {group.ids for group in exact}
    if peers.memory.metric != "cosine":
        return exact
    others = _groups(peers, first, second, close, exact=False)
    return exact + [group for group in others if group.ids not in told]


def _close_pairs(peers: Peers, near: float) -> tuple[Ids, Ids, Floats]:
    firsts, seconds, closeness = [], [], []
    for block in peers.blocks(min(LINKS, peers.deepest)):
        # Under another metric there is no similarity that says "the same": keys are compared.
        reach = near if peers.memory.metric == "cosine" else -np.inf
        row, rank = np.nonzero(block.near.found & (block.near.similarity >= reach))
        firsts.append(block.ids[row])
        seconds.append(block.near.ids[row, rank])
        closeness.append(block.near.similarity[row, rank])
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(closeness)


def _same_keys(peers: Peers, first: Ids, second: Ids) -> Mask:
    same = np.zeros(len(first), bool)
    step = 4096
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        ids, places = np.unique(np.r_[first[part], second[part]], return_inverse=True)
        keys = peers.memory.keys(ids)
        one, other = np.split(places, 2)
        same[part] = (keys[one] == keys[other]).all(axis=1)
    return same


def _groups(
    peers: Peers,
    first: Ids,
    second: Ids,
    close: Floats,
    *,
    exact: bool,
) -> list[Duplicates]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ids, places = np.unique(np.r_[first, second], return_inverse=True)
    if not len(ids):
        return []
    one, other = np.split(places, 2)
    links = coo_array((np.ones(len(one)), (one, other)), shape=(len(ids), len(ids)))
    _, group = connected_components(links, directed=False)
    labels = peers.own(ids).values
    weakest = np.full(int(group.max()) + 1, np.inf)
    np.minimum.at(weakest, group[one], close)
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    found = [
        Duplicates(
            tuple(ids[part].tolist()),
            tuple(labels[part].tolist()),
            exact,
            float(weakest[group[part[0]]]),
        )
        for part in parts
    ]
    return sorted(found, key=lambda one: (-len(one.ids), one.ids))
