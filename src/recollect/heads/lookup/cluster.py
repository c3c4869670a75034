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
from recollect.heads.lookup.words import Coder, Words, coder_of
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
    coder = coder_of(costs, keys)
    words = coder.write(keys)
    rows = np.arange(len(keys))
    node = np.zeros(len(keys), np.int64)  # the node of each row that is still to be split
    centers, starts, children, leaves = [], [0], [], []
    made, nodes = 0, 1
    while len(rows):
        labels, found = _split(words[rows], node, coder, growth, random)
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
        _codes(coder, np.concatenate(centers), keys),
        np.array(starts, np.int64),
        np.concatenate(children),
        np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=made))]),
        held[order],
    )


def _split(
    keys: NDArray[Any], node: Codes, coder: Coder, growth: Growth, random: np.random.Generator
) -> tuple[Codes, NDArray[Any]]:
    """Cluster the rows of every node; return labels, and centers ``(nodes, branches, width)``."""
    nodes = int(node[-1]) + 1 if len(node) else 0
    nodes = max(nodes, int(node.max(initial=-1)) + 1)
    best: tuple[Codes, NDArray[Any]] | None = None
    least = np.full(nodes, np.iinfo(np.int64).max)
    for _ in range(growth.starts):
        labels, centers, error = _medians(keys, node, nodes, coder, growth, random)
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
    keys: NDArray[Any], node: Codes, nodes: int, coder: Coder, growth: Growth,
    random: np.random.Generator,
) -> tuple[Codes, NDArray[Any], Codes]:  # fmt: skip
    centers = _spread(keys, node, nodes, coder, growth.branches, random)
    labels = np.full(len(keys), -1, np.int64)
    for _ in range(growth.iterations):
        nearest, apart = _assign(keys, node, centers, coder)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        centers = _middle(keys, node * growth.branches + labels, centers)
    error = np.bincount(node, weights=apart, minlength=nodes).astype(np.int64)
    return labels, centers, error


def _spread(
    keys: NDArray[Any], node: Codes, nodes: int, coder: Coder, branches: int,
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
        new = coder.between(keys, centers[node, branch])
        apart = new if branch == 0 else np.minimum(apart, new)
    return centers


def _assign(
    keys: NDArray[Any], node: Codes, centers: NDArray[Any], coder: Coder
) -> tuple[Codes, Codes]:
    columns = [coder.between(keys, centers[node, b]) for b in range(centers.shape[1])]
    apart = np.stack(columns, axis=1)
    labels = apart.argmin(axis=1)
    return labels, np.take_along_axis(apart, labels[:, None], axis=1)[:, 0]


def _middle(keys: NDArray[Any], cluster: Codes, centers: NDArray[Any]) -> NDArray[Any]:
    """Lower median of each cluster in every number; an empty one keeps its center."""
    order = np.argsort(cluster, kind="stable")
    begin = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    size = np.diff(begin, append=len(order))
    middle = _lower_median if keys.dtype.kind == "f" else _majority
    out = centers.copy()
    out.reshape(-1, keys.shape[1])[cluster[order[begin]]] = middle(keys[order], begin, size)
    return out


def _majority(keys: NDArray[np.uint64], begin: Codes, size: Codes) -> NDArray[np.uint64]:
    """Return the words whose bits most keys of a span have: in unary, that is the lower median."""
    often = np.empty((len(begin), 64 * keys.shape[1]), np.int32)
    for word in range(keys.shape[1]):
        raw = np.ascontiguousarray(keys[:, word]).astype("<u8").view(np.uint8).reshape(-1, 8)
        bits = np.unpackbits(raw, axis=1, bitorder="little")
        often[:, 64 * word : 64 * word + 64] = np.add.reduceat(bits, begin, axis=0, dtype=np.int32)
    packed = np.packbits(2 * often > size[:, None], axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def _lower_median(keys: NDArray[np.float64], begin: Codes, size: Codes) -> NDArray[np.float64]:
    owner = np.repeat(np.arange(len(begin)), size)
    places = begin + (size - 1) // 2
    columns = [keys[np.lexsort((column, owner)), number] for number, column in enumerate(keys.T)]
    medians: NDArray[np.float64] = np.stack(columns, axis=1)[places]
    return medians


def _codes(coder: Coder, centers: NDArray[Any], keys: NDArray[Any]) -> NDArray[Any]:
    """Return centers as keys are written."""
    if not isinstance(coder, Words):
        return centers.astype(keys.dtype)
    raw = np.ascontiguousarray(centers).astype("<u8").view(np.uint8)
    bits = np.unpackbits(raw, axis=1, bitorder="little").astype(np.bool_)
    return coder.read(bits, keys.shape[1]).astype(keys.dtype)


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
