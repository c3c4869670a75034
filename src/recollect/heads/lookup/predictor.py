"""A table that answers for itself: no network, no memory, no framework; NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory, InputError, InvalidParameter
from recollect.heads.lookup.cluster import Growth, grow_trees
from recollect.heads.lookup.costs import Costs, check_weights, costs_of
from recollect.heads.lookup.glimpse import glimpse, integral
from recollect.heads.lookup.images import check_images
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.packed import check_bits, pack, read_file, unpack, write_file
from recollect.heads.lookup.readout import add_votes
from recollect.heads.lookup.replay import Trail, replay
from recollect.heads.lookup.search import FlatSearch, Found, Search
from recollect.heads.lookup.table import Table
from recollect.heads.lookup.tree import Tree, TreeSearch
from recollect.types import Codes

# Images answered at once.
_BLOCK = 1000


@dataclass(frozen=True)
class LookupPredictor:
    """Everything an answer by look-up takes.

    Attributes:
        layout: How glimpses are taken.
        table: The rows.
        classes: Label of each class.
        weights: Weights of glimpse, state and location in the distance.
        k: Rows of the last step that vote.
        beam: Ways down the tree that are kept; None compares with every row.
        growth: How the tree is grown.
        trees: Trees that were grown before, one per part; grown when first needed otherwise.
    """

    layout: Layout
    table: Table
    classes: Sequence[Any]
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    k: int = 1
    beam: int | None = None
    growth: Growth = field(default_factory=Growth)
    trees: list[Tree] | None = None

    def __post_init__(self) -> None:
        check_weights(self.weights)
        if self.k < 1:
            raise InvalidParameter("k is out of range", expected="k >= 1", got=self.k)
        check_table(self.table, self.layout, len(self.classes))

    @cached_property
    def costs(self) -> Costs:
        """What differences cost, in whole units."""
        return costs_of(self.layout, self.weights)

    @cached_property
    def grown(self) -> list[Tree]:
        """The trees, one per part of the table."""
        return self.trees or grow_trees(self.table, self.costs, self.growth)

    @cached_property
    def search(self) -> Search:
        """How rows are found."""
        if self.beam is None:
            return FlatSearch(self.table, self.costs)
        table = self.table
        return TreeSearch(table.keys, table.parts, self.grown, self.costs, beam=self.beam)

    @property
    def start(self) -> NDArray[Any]:
        """State that every run begins with: nothing, and the center of the image."""
        begin = np.zeros(self.layout.state + 2, self.table.states.dtype)
        begin[-2:] = self.layout.start
        return begin

    def trail(self, images: Any) -> Trail:
        """Look up images, step by step.

        Args:
            images: ``(n, side, side)``.
        """
        pixels = check_images(images, self.layout.side)
        return _joined(
            [self._some(pixels[at : at + _BLOCK]) for at in range(0, len(pixels), _BLOCK)]
        )

    def _some(self, pixels: NDArray[Any]) -> Trail:
        def sense(sums: Any, state: NDArray[Any], step: int) -> NDArray[Any]:
            del step
            return glimpse(sums, state[:, -2:], self.layout)

        return replay(
            self.table, self.search, integral(pixels), start=self.start,
            steps=self.layout.glimpses, sense=sense, k=self.k,
        )  # fmt: skip

    def votes(self, images: Any) -> Codes:
        """Return the votes by class, int64 ``(n, classes)``."""
        return add_votes(self.trail(images).last.rows, self.table.answers, len(self.classes))

    def predict(self, images: Any) -> NDArray[Any]:
        """Return the label of each image: object array of str, or int64."""
        return np.asarray(np.asarray(self.classes)[self.votes(images).argmax(axis=1)])

    # -- files ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> int:
        """Write the table packed bit by bit, with its tree if it has a beam; return the bytes.

        Raises:
            InvalidParameter: Glimpse or state are floats, which have no packed form.
            WriteFailed: The disk refused.
        """
        arrays: dict[str, NDArray[Any]] = {
            "rows": pack(np.concatenate([self.table.keys, self.table.values], axis=1), self._bits),
            "counts": self.table.counts.astype(np.uint32),
            "variants": self.table.variants.astype(np.uint32),
            "parts": self.table.parts.astype(np.uint32),
            "ids": self.table.ids,
            "row_of": self.table.row_of,
        }
        if self.beam is not None:
            for number, tree in enumerate(self.grown):
                arrays |= {
                    f"tree {number} centers": pack(
                        tree.centers, self._bits[: self.layout.key_width]
                    )
                } | {
                    f"tree {number} {name}": getattr(tree, name).astype(np.int32) for name in _TREE
                }
        about = {
            "layout": self.layout.as_dict(), "classes": list(self.classes),
            "weights": list(self.weights), "k": self.k, "beam": self.beam,
        }  # fmt: skip
        write_file(path, about, arrays)
        return Path(path).stat().st_size

    @classmethod
    def load(cls, path: str | Path) -> LookupPredictor:
        """Read what :meth:`save` wrote.

        Raises:
            MemoryNotFound: There is no such file.
            CorruptMemory: It is cut short, altered, or holds no usable table.
            UnsupportedFormat: It is of another format.
        """
        about, arrays = read_file(path)
        try:
            return cls._build(about, arrays)
        except (InputError, KeyError, TypeError, ValueError, IndexError) as error:
            raise CorruptMemory(f"the table at {path} cannot be used: {error}") from error

    @classmethod
    def _build(cls, about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LookupPredictor:
        layout = Layout.from_dict(about["layout"])
        bits = row_bits(layout, len(about["classes"]))
        rows = unpack(arrays["rows"], bits)
        key, state = layout.key_width, layout.key_width + layout.state + 2
        table = Table(
            rows[:, :key].astype(np.uint8),
            rows[:, key:state].astype(np.uint8),
            rows[:, state].astype(np.int64),
            counts=arrays["counts"].astype(np.int64),
            variants=arrays["variants"].astype(np.int64),
            parts=arrays["parts"].astype(np.int64),
            ids=arrays["ids"].astype(np.int64),
            row_of=arrays["row_of"].astype(np.int32),
        )
        beam = about["beam"]
        trees = None if beam is None else [
            Tree(
                unpack(arrays[f"tree {part} centers"], bits[:key]).astype(np.uint8),
                *(arrays[f"tree {part} {name}"].astype(np.int64) for name in _TREE),
            )
            for part in range(len(table.parts) - 1)
        ]  # fmt: skip
        a, b, c = about["weights"]
        return cls(layout, table, about["classes"], (a, b, c), about["k"], beam, trees=trees)

    @property
    def _bits(self) -> NDArray[np.int64]:
        return row_bits(self.layout, len(self.classes))


_TREE = ("node_start", "child", "leaf_start", "leaf_rows")


def row_bits(layout: Layout, classes: int) -> NDArray[np.int64]:
    """Return the bits of each number of a packed row: key, then value.

    Raises:
        InvalidParameter: Glimpse or state are floats.
    """
    check_bits({"glimpses": layout.phi_bits, "states": layout.h_bits})
    state = [layout.h_bits] * layout.state + [layout.location_bits] * 2
    answer = max(1, (classes - 1).bit_length())
    return np.array([*state, *[layout.phi_bits] * layout.phi, *state, answer], np.int64)


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


def _joined(trails: list[Trail]) -> Trail:
    """Lay the trails of blocks of images one after the other."""
    if len(trails) == 1:
        return trails[0]
    last = Found(
        np.concatenate([trail.last.rows for trail in trails]),
        np.concatenate([trail.last.distances for trail in trails]),
        np.concatenate([trail.last.comparisons for trail in trails]),
    )
    return Trail(
        np.concatenate([trail.queries for trail in trails]),
        np.concatenate([trail.rows for trail in trails]),
        np.concatenate([trail.distances for trail in trails]),
        np.concatenate([trail.comparisons for trail in trails]),
        np.concatenate([trail.answers for trail in trails]),
        last,
    )
