"""What is judged before a table that came from elsewhere is used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.table import Table
from recollect.heads.lookup.tree import Tree
from recollect.types import Codes, Label


def check_table(table: Table, layout: Layout, classes: int) -> None:
    """Refuse a table that does not fit its layout, before anything is looked up.

    Raises:
        InvalidParameter: Another width, a location outside of the image, an unknown class, a code
            that is too large.
    """
    if table.keys.shape[1] != layout.key_width or table.states.shape[1] != layout.state + 2:
        raise InvalidParameter(
            "the table does not fit the layout",
            expected=f"keys of width {layout.key_width}",
            got=table.keys.shape[1],
        )
    if len(table.parts) - 1 not in {1, layout.glimpses}:
        raise InvalidParameter(
            "the table has another number of steps", expected=layout.glimpses,
            got=len(table.parts) - 1,
        )  # fmt: skip
    parts = table.parts
    if parts[0] != 0 or parts[-1] != len(table) or (np.diff(parts) < 1).any():
        raise InvalidParameter("a step of the table has no rows")
    here, there = table.keys[:, layout.state : layout.state + 2], table.states[:, -2:]
    if min(here.min(), there.min()) < 0 or max(here.max(), there.max()) > layout.side:
        raise InvalidParameter(
            "a location of the table lies outside of the image",
            expected=f"0 to {layout.side}", got=int(max(here.max(), there.max())),
        )  # fmt: skip
    if table.answers.min() < 0 or table.answers.max() >= classes:
        raise InvalidParameter(
            "the table names an unknown class", expected=f"0 to {classes - 1}",
            got=int(table.answers.max()),
        )  # fmt: skip


def check_tree(tree: Tree, rows: int) -> None:
    """Refuse a tree that does not end, or whose leaves are not the rows, before it is walked.

    Raises:
        InvalidParameter: Spans that overlap, children that do not come later, rows that are
            missing or named twice.
    """
    centers, nodes = len(tree.centers), len(tree.node_start) - 1
    linked = tree.child[tree.child >= 0] if len(tree.child) == centers else np.zeros(0, np.int64)
    # Nodes are numbered level by level, so that every child comes after its parent: no circle.
    owner = np.searchsorted(tree.node_start, np.flatnonzero(tree.child >= 0), side="right") - 1
    sound = (
        centers >= 1
        and len(tree.child) == centers
        and _spans(tree.node_start, nodes, centers, least=1)
        and _spans(tree.leaf_start, centers, len(tree.leaf_rows), least=0)
        and np.array_equal(np.sort(linked), np.arange(1, nodes))
        and (tree.child >= -1).all()
        and (linked > owner).all()
        and np.array_equal(np.sort(tree.leaf_rows), np.arange(rows))
        and not np.diff(tree.leaf_start)[tree.child >= 0].any()
        and (np.diff(tree.leaf_start)[tree.child < 0] >= 1).all()
    )
    if not sound:
        raise InvalidParameter("a tree of the table leads nowhere, or in a circle")
    if tree.pivots is not None and not _in_their_clusters(tree, tree.pivots):
        raise InvalidParameter("a center of the table is a row of another cluster")


def check_pivots(pivots: Codes, rows: int) -> None:
    """Refuse centers that are no rows, before their keys are taken.

    Raises:
        InvalidParameter: A number below 0, or as large as there are rows.
    """
    if not len(pivots) or pivots.min() < 0 or pivots.max() >= rows:
        raise InvalidParameter("a center of the table is no row of it", expected=f"0 to {rows - 1}")


def _in_their_clusters(tree: Tree, pivots: Codes) -> bool:
    """Whether every row that is a center lies in that cluster, at every level down to its leaf."""
    if len(pivots) != len(tree.centers):
        return False
    nodes, leaves = len(tree.node_start) - 1, np.flatnonzero(tree.child < 0)
    leaf_of = np.empty(len(tree.leaf_rows), np.int64)
    leaf_of[tree.leaf_rows] = np.repeat(np.arange(len(pivots)), np.diff(tree.leaf_start))
    inner = tree.child >= 0
    above = np.full(nodes, -1, np.int64)
    above[tree.child[inner]] = pivots[inner]
    owner = np.repeat(np.arange(nodes), np.diff(tree.node_start))
    again = np.bincount(owner[pivots == above[owner]], minlength=nodes)
    return bool((again[1:] == 1).all() and (leaf_of[pivots[leaves]] == leaves).all())


def _spans(starts: Codes, count: int, end: int, *, least: int) -> bool:
    return bool(
        len(starts) == count + 1
        and count >= 1
        and starts[0] == 0
        and starts[-1] == end
        and (np.diff(starts) >= least).all()
    )


def check_arrays(arrays: dict[str, NDArray[Any]]) -> None:
    """Refuse arrays of another form than those that are written.

    Raises:
        InvalidParameter: Another number of dimensions, other numbers, another length.
    """
    flat = {"rows": 2, "row_of": 2}
    for name, block in arrays.items():
        wide = 2 if name.endswith(" centers") else flat.get(name, 1)
        if block.ndim != wide or block.dtype.kind not in "iu":
            raise InvalidParameter(
                f"{name} has another form", expected=f"{wide} dimensions of whole numbers",
                got=f"{block.ndim} of {block.dtype}",
            )  # fmt: skip
    rows = len(arrays["rows"])
    for name in ("counts", "variants"):
        if len(arrays[name]) != rows:
            raise InvalidParameter(f"{name} has another length", expected=rows,
                                   got=len(arrays[name]))  # fmt: skip
        if rows and not 1 <= int(arrays[name].min()) <= int(arrays[name].max()) < 1 << 32:
            raise InvalidParameter(f"{name} of a row of the table are out of range",
                                   expected="from 1", got=int(arrays[name].min()))  # fmt: skip
    row_of = arrays["row_of"]
    if len(row_of) != len(arrays["ids"]) or (
        row_of.size and not -1 <= int(row_of.min()) <= int(row_of.max()) < rows
    ):
        raise InvalidParameter("a witness names no row of the table")


def check_classes(classes: Any) -> list[Label]:
    """Return the labels, each once and all text or all whole numbers.

    Raises:
        InvalidParameter: They are something else.
    """
    plain = isinstance(classes, list) and len({type(one) for one in classes}) == 1
    plain = plain and all(
        type(one) is str or (type(one) is int and -(1 << 63) <= one < 1 << 63) for one in classes
    )
    if not plain or not classes or len(set(classes)) != len(classes):
        raise InvalidParameter("the labels of the table are no labels", got=f"{classes!r:.80}")
    return list(classes)
