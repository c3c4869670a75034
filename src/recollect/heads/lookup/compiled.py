"""Whole answers by the compiled library: glimpse, look-up, next state, step after step."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.readout import VOTES, Vote
from recollect.heads.lookup.replay import Trail
from recollect.heads.lookup.search import FlatSearch, Search
from recollect.heads.lookup.table import Table
from recollect.heads.lookup.tree import TreeSearch
from recollect.heads.lookup.words import Words
from recollect.index.tables import Packed, Part, Replay, Tables, find_tables, point
from recollect.types import Codes


@dataclass(frozen=True, eq=False)
class Replayer:
    """A table laid out for the library; it finds what NumPy finds, row for row."""

    library: Tables
    packed: Packed
    table: Table
    steps: int
    classes: int

    def trail(self, pixels: NDArray[np.uint8], k: int) -> Trail:
        """Look up images ``(n, side, side)``."""
        near, apart, compared = self.library.replay(self.packed, pixels, self.steps, k)
        return Trail(near, apart, compared, self.table.answers[near[:, :, 0]])

    def votes(self, pixels: NDArray[np.uint8], k: int) -> Codes:
        """Return the votes of images by class, int64 ``(n, classes)``."""
        return self.library.votes(self.packed, pixels, self.classes, k)


def replayer(
    layout: Layout, table: Table, search: Search, start: NDArray[Any], *, classes: int, vote: Vote
) -> Replayer | None:
    """Return the compiled way to answer bytes, or None where there is none."""
    library = find_tables()
    if library is None or not isinstance(search, FlatSearch | TreeSearch):
        return None
    coder = search.coder
    if not all(part.arrays for part in search.packed):
        return None
    whole = float(layout.low).is_integer() and float(layout.high).is_integer()
    if not isinstance(coder, Words) or not whole or layout.phi_bits == 0:
        return None
    front = int(coder.starts[2])
    parts = (Part * len(search.packed))()
    for number, part in enumerate(search.packed):
        parts[number] = part.structure  # type: ignore[call-overload]
    arrays = point(
        Replay, side=layout.side, cells=layout.glimpse, patches=layout.patches,
        steps=layout.glimpses, levels=(1 << layout.phi_bits) - 1, per_step=int(table.per_step),
        front=front, words=len(coder), cell_sides=np.array(layout.cell_sides, np.int64),
        limits=limits_of(layout), parts=ctypes.addressof(parts), starts=table.parts,
        states=_fronts(coder, table.states, layout)[:, :front],
        places=table.states[:, -2:].astype(np.uint8),
        begin=_fronts(coder, start[None], layout)[0, :front], column=layout.start[0],
        row=layout.start[1], answers=table.answers.astype(np.int64, copy=False), classes=classes,
        vote=VOTES.index(vote),
    )  # fmt: skip
    held = Packed(arrays.structure, (*arrays.arrays, parts, *search.packed))
    return Replayer(library, held, table, layout.glimpses, classes)


def limits_of(layout: Layout) -> Codes:
    """Return the sums of pixels from which a cell has each code: int64 ``(patches, levels)``.

    ``floor((2 levels above + span) / (2 span)) >= code``, solved for the sum, in whole numbers.
    """
    low, high, levels = int(layout.low), int(layout.high), (1 << layout.phi_bits) - 1
    lines = []
    for cell in layout.cell_sides:
        area = cell * cell
        span = area * (high - low)
        lines.append(
            [area * low - (span - 2 * span * code) // (2 * levels) for code in range(1, levels + 1)]
        )
    return np.array(lines, np.int64)


def _fronts(coder: Words, states: NDArray[Any], layout: Layout) -> NDArray[np.uint64]:
    rest = np.zeros((len(states), layout.phi), np.uint8)
    return coder.write(np.concatenate([states, rest], axis=1))
