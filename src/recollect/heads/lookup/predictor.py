"""A table that answers for itself: no network, no memory, no framework; NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory, InputError
from recollect.heads.lookup.cluster import Growth, grow_trees
from recollect.heads.lookup.compiled import Replayer, replayer
from recollect.heads.lookup.costs import Costs, check_weights, costs_of
from recollect.heads.lookup.glimpse import glimpse, integral
from recollect.heads.lookup.images import check_images
from recollect.heads.lookup.judging import (
    check_arrays,
    check_classes,
    check_pivots,
    check_table,
    check_tree,
)
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.packed import check_bits, pack, read_file, unpack, write_file
from recollect.heads.lookup.readout import Vote, add_votes, check_reading, votes_of_rows
from recollect.heads.lookup.replay import Trail, replay
from recollect.heads.lookup.search import FlatSearch, Search
from recollect.heads.lookup.table import Table
from recollect.heads.lookup.tree import LINKS, Tree, TreeSearch
from recollect.types import Codes

# Rows returned at once, times steps.
_BLOCK = 100_000


@dataclass(frozen=True)
class LookupPredictor:
    """Everything an answer by look-up takes.

    Attributes:
        layout: How glimpses are taken.
        table: The rows.
        classes: Label of each class.
        weights: Weights of glimpse, state and location in the distance.
        k: Rows of a step that vote.
        beam: Ways down the tree that are kept; None compares with every row.
        vote: How rows vote; see :func:`recollect.heads.lookup.readout.votes_of_rows`.
        slack: Ways that count as farther than so many hundredths of the nearest are given up; None
            gives up none.
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
    vote: Vote = "last"
    slack: int | None = None

    def __post_init__(self) -> None:
        check_weights(self.weights)
        check_reading(self.k, self.beam, self.vote, self.slack)
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
        return TreeSearch(
            table.keys, table.parts, self.grown, self.costs, beam=self.beam, slack=self.slack
        )

    @cached_property
    def _compiled(self) -> Replayer | None:
        return replayer(
            self.layout, self.table, self.search, self.start, classes=len(self.classes),
            vote=self.vote,
        )  # fmt: skip

    @cached_property
    def _labels(self) -> NDArray[Any]:
        return np.asarray(self.classes)

    @cached_property
    def _voters(self) -> int:
        # No step has more rows than that, however many may vote.
        return min(self.k, int(np.diff(self.table.parts).max()))

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
        size = max(1, _BLOCK // self._voters)
        return _joined([self._some(pixels[at : at + size]) for at in range(0, len(pixels), size)])

    def _some(self, pixels: NDArray[Any]) -> Trail:
        k = self._voters
        if self._compiled is not None and pixels.dtype == np.uint8:
            return self._compiled.trail(pixels, k)

        def sense(sums: Any, state: NDArray[Any], step: int) -> NDArray[Any]:
            """Look where the state says: its last two numbers are the place."""
            del step
            return glimpse(sums, state[:, -2:], self.layout)

        return replay(
            self.table, self.search, integral(pixels), start=self.start,
            steps=self.layout.glimpses, sense=sense, k=k,
        )  # fmt: skip

    def row_votes(self, trail: Trail) -> Codes:
        """Return what each row that was found adds to its class: int64 ``(n, steps, k)``."""
        return votes_of_rows(trail.near, trail.apart, self.table.answers, self.vote)

    def votes(self, trail: Trail) -> Codes:
        """Return the votes by class, int64 ``(n, classes)``."""
        votes = self.row_votes(trail)
        return add_votes(trail.near, votes, self.table.answers, len(self.classes))

    def predict(self, images: Any) -> NDArray[Any]:
        """Return the label of each image: object array of str, or int64."""
        return np.asarray(self._labels[self.tally(images).argmax(axis=1)])

    def tally(self, images: Any) -> Codes:
        """Return the votes of images by class, int64 ``(n, classes)``, as of their trail.

        Args:
            images: ``(n, side, side)``.
        """
        pixels = check_images(images, self.layout.side)
        if self._compiled is not None and pixels.dtype == np.uint8:
            return self._compiled.votes(pixels, self._voters)
        return self.votes(self.trail(pixels))

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
            key_bits = self._bits[: self.layout.key_width]
            for number, tree in enumerate(self.grown):
                arrays |= {
                    f"tree {number} {name}": block
                    for name, block in _tree_arrays(tree, key_bits).items()
                }
        about = {
            "layout": self.layout.as_dict(), "classes": list(self.classes),
            "weights": list(self.weights), "k": self.k, "beam": self.beam,
            "vote": self.vote, "slack": self.slack,
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
        except (InputError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CorruptMemory(f"the table at {path} cannot be used: {error}") from error

    @classmethod
    def _build(cls, about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LookupPredictor:
        layout = Layout.from_dict(about["layout"])
        bits = row_bits(layout, len(about["classes"]))
        check_arrays(arrays)
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
            _read_tree(arrays, part, table.keys[table.part(part)], bits[:key])
            for part in range(len(table.parts) - 1)
        ]  # fmt: skip
        a, b, c = about["weights"]
        return cls(
            layout, table, check_classes(about["classes"]), (a, b, c), about["k"], beam,
            trees=trees, vote=about.get("vote", "last"), slack=about.get("slack"),
        )  # fmt: skip

    @property
    def _bits(self) -> NDArray[np.int64]:
        return row_bits(self.layout, len(self.classes))


def row_bits(layout: Layout, classes: int) -> NDArray[np.int64]:
    """Return the bits of each number of a packed row: key, then value.

    Raises:
        InvalidParameter: Glimpse or state are floats.
    """
    check_bits({"glimpses": layout.phi_bits, "states": layout.h_bits})
    state = [layout.h_bits] * layout.state + [layout.location_bits] * 2
    answer = max(1, (classes - 1).bit_length())
    return np.array([*state, *[layout.phi_bits] * layout.phi, *state, answer], np.int64)


def _tree_arrays(tree: Tree, key_bits: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return what of a tree is written: centers that are rows by their numbers."""
    links = {name: getattr(tree, name).astype(np.int32) for name in LINKS}
    if tree.pivots is None:
        return {"centers": pack(tree.centers, key_bits)} | links
    return {"pivots": tree.pivots.astype(np.int32)} | links


def _read_tree(
    arrays: dict[str, NDArray[Any]], part: int, keys: NDArray[Any], key_bits: NDArray[np.int64]
) -> Tree:
    """Build one tree of a file over the keys of its part, and judge it."""
    links = {name: arrays[f"tree {part} {name}"].astype(np.int64) for name in LINKS}
    if f"tree {part} centers" in arrays:
        centers = unpack(arrays[f"tree {part} centers"], key_bits).astype(np.uint8)
        tree = Tree(centers, **links)
    else:
        pivots = arrays[f"tree {part} pivots"].astype(np.int64)
        check_pivots(pivots, len(keys))
        tree = Tree(keys[pivots], **links, pivots=pivots)
    check_tree(tree, len(keys))
    return tree


def _joined(trails: list[Trail]) -> Trail:
    """Lay the trails of blocks of images one after the other."""
    if len(trails) == 1:
        return trails[0]
    return Trail(
        *(
            np.concatenate([getattr(trail, name) for trail in trails])
            for name in ("near", "apart", "comparisons", "answers")
        )
    )
