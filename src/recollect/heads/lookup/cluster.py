"""How the tree of clusters grows: k medians under the table's own distance, all nodes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.lookup.costs import Costs
from recollect.heads.lookup.table import Table
from recollect.heads.lookup.tree import Tree
from recollect.types import Codes


@dataclass(frozen=True, slots=True)
class Growth:
    """How a tree is grown; published: K = leaf = 4, 10 starts, 100 iterations.

    Attributes:
        branches: Clusters of a node, ``K``.
        leaf: A cluster of at most this many rows is not split.
        starts: Random starts of each clustering, of which the best is kept.
        iterations: At most this many rounds of assignment; stops earlier when nothing moves.
        seed: Of the random starts.
    """

    branches: int = 4
    leaf: int = 4
    starts: int = 2
    iterations: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("branches", 2), ("leaf", 1), ("starts", 1), ("iterations", 1)):
            if getattr(self, name) < least:
                raise InvalidParameter(
                    f"{name} is out of range",
                    expected=f"{name} >= {least}",
                    got=getattr(self, name),
                )


def grow_trees(table: Table, costs: Costs, growth: Growth | None = None) -> list[Tree]:
    """Grow one tree per part of the table, over keys only.

    Args:
        table: Its rows.
        costs: The distance; only proportions of the columns matter.
        growth: How.
    """
    options = growth or Growth()
    return [
        grow(table.keys[table.part(part)], costs, options) for part in range(len(table.parts) - 1)
    ]


def grow(keys: NDArray[Any], costs: Costs, growth: Growth) -> Tree:
    """Grow the tree of some keys, level by level, all nodes of a level at the same time."""
    random = np.random.default_rng(growth.seed)
    rows = np.arange(len(keys))
    node = np.zeros(len(keys), np.int64)  # the node of each row that is still to be split
    centers, starts, children, leaves = [], [0], [], []
    made, nodes = 0, 1
    while len(rows):
        labels, found = _split(keys[rows], node, costs, growth, random)
        # Empty clusters are dropped: centers are numbered as they occur, node by node.
        used, label = np.unique(node * growth.branches + labels, return_inverse=True)
        sizes = np.bincount(label)
        centers.append(found[used // growth.branches, used % growth.branches])
        starts.extend((made + np.cumsum(np.bincount(used // growth.branches))).tolist())
        open_ = sizes > growth.leaf
        below = np.where(open_, nodes + np.cumsum(open_) - 1, -1)
        children.append(below)
        closed = ~open_[label]
        leaves.append((made + label[closed], rows[closed]))
        made, nodes = made + len(used), nodes + int(open_.sum())
        going = open_[label]
        first = nodes - int(open_.sum())
        rows, node = rows[going], below[label[going]] - first
    owner = np.concatenate([center for center, _ in leaves])
    held = np.concatenate([row for _, row in leaves])
    order = np.lexsort((held, owner))
    return Tree(
        np.concatenate(centers),
        np.array(starts, np.int64),
        np.concatenate(children),
        np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=made))]),
        held[order],
    )


def _split(
    keys: NDArray[Any], node: Codes, costs: Costs, growth: Growth, random: np.random.Generator
) -> tuple[Codes, NDArray[Any]]:
    """Cluster the rows of every node; return labels, and centers ``(nodes, branches, width)``."""
    nodes = int(node[-1]) + 1 if len(node) else 0
    nodes = max(nodes, int(node.max(initial=-1)) + 1)
    best: tuple[Codes, NDArray[Any]] | None = None
    least = np.full(nodes, np.iinfo(np.int64).max)
    for _ in range(growth.starts):
        labels, centers, error = _medians(keys, node, nodes, costs, growth, random)
        if best is None:
            best, least = (labels, centers), error
            continue
        better = error < least
        best[0][better[node]] = labels[better[node]]
        best[1][better] = centers[better]
        least = np.minimum(error, least)
    assert best is not None
    return _split_the_unsplit(keys, node, nodes, growth.branches, *best)


def _medians(
    keys: NDArray[Any], node: Codes, nodes: int, costs: Costs, growth: Growth,
    random: np.random.Generator,
) -> tuple[Codes, NDArray[Any], Codes]:  # fmt: skip
    centers = _spread(keys, node, nodes, costs, growth.branches, random)
    labels = np.full(len(keys), -1, np.int64)
    for _ in range(growth.iterations):
        nearest, apart = _assign(keys, node, centers, costs)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        centers = _middle(keys, node * growth.branches + labels, centers)
    error = np.bincount(node, weights=apart, minlength=nodes).astype(np.int64)
    return labels, centers, error


def _spread(
    keys: NDArray[Any], node: Codes, nodes: int, costs: Costs, branches: int,
    random: np.random.Generator,
) -> NDArray[Any]:  # fmt: skip
    """Choose starting centers among the rows of each node, likelier the farther from others."""
    centers = np.zeros((nodes, branches, keys.shape[1]), keys.dtype)
    apart: NDArray[Any] = np.ones(len(keys))
    for branch in range(branches):
        # The largest of log(u) / w is a draw in proportion to w, in every node at once.
        drawn = np.log(random.random(len(keys))) / np.maximum(apart, 1e-9)
        order = np.lexsort((drawn, node))
        last = np.flatnonzero(np.diff(node[order], append=nodes))
        centers[:, branch] = keys[order[last]]
        new = _apart(keys, centers[node, branch], costs)
        apart = new if branch == 0 else np.minimum(apart, new)
    return centers


def _assign(
    keys: NDArray[Any], node: Codes, centers: NDArray[Any], costs: Costs
) -> tuple[Codes, NDArray[np.float32]]:
    columns = [_apart(keys, centers[node, b], costs) for b in range(centers.shape[1])]
    apart = np.stack(columns, axis=1)
    labels = apart.argmin(axis=1)
    return labels, np.take_along_axis(apart, labels[:, None], axis=1)[:, 0]


def _apart(keys: NDArray[Any], others: NDArray[Any], costs: Costs) -> NDArray[np.float32]:
    """Distance of each row to a row of its own."""
    apart = np.maximum(keys, others) - np.minimum(keys, others)
    return np.asarray(apart.astype(np.float32) @ costs.columns.astype(np.float32))


def _middle(keys: NDArray[Any], cluster: Codes, centers: NDArray[Any]) -> NDArray[Any]:
    """Lower median of each cluster in every number; an empty one keeps its center."""
    order = np.argsort(cluster, kind="stable")
    begin = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    size = np.diff(begin, append=len(order))
    sorted_keys = keys[order]
    medians = np.zeros((len(begin), keys.shape[1]), keys.dtype)
    most = int(keys.max(initial=0))
    for level in range(1, most + 1):
        reached = sorted_keys >= level
        columns = np.flatnonzero(reached.any(axis=0))
        often = np.add.reduceat(reached[:, columns].astype(np.int32), begin, axis=0)
        medians[:, columns] += (2 * often > size[:, None]).astype(keys.dtype)
    out = centers.copy()
    out.reshape(-1, keys.shape[1])[cluster[order[begin]]] = medians
    return out


def _split_the_unsplit(
    keys: NDArray[Any], node: Codes, nodes: int, branches: int, labels: Codes,
    centers: NDArray[Any],
) -> tuple[Codes, NDArray[Any]]:  # fmt: skip
    """Deal out the rows of a node whose clusters all fell together, so that every split helps."""
    seen = np.zeros((nodes, branches), np.bool_)
    seen[node, labels] = True
    stuck = seen.sum(axis=1) == 1
    if not stuck.any():
        return labels, centers
    chosen = stuck[node]
    order = np.flatnonzero(chosen)
    order = order[np.argsort(node[order], kind="stable")]
    begin = np.flatnonzero(np.diff(node[order], prepend=-1))
    size = np.diff(begin, append=len(order))
    rank = np.arange(len(order)) - np.repeat(begin, size)
    labels = labels.copy()
    labels[order] = rank * branches // np.repeat(size, size)
    return labels, _middle(keys, node * branches + labels, centers)
