"""A recorded run as one row of a memory: its id is the image's, its value the image's label.

The key holds, step by step, what the table's keys hold (state, column and row, glimpse), then the
final state and location, then the network's class after each step. Only the first part counts
when rows are compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.runs import Runs
from recollect.types import Doubles, Ids, Label

KIND = "recurrent-attention"


def row_width(layout: Layout) -> int:
    """Width of a row's key."""
    return layout.glimpses * layout.key_width + layout.state + 2 + layout.glimpses


def row_weights(layout: Layout) -> Doubles:
    """Factors of the Manhattan metric: 1 for what was looked up, 0 for what came of it."""
    weights = np.zeros(row_width(layout))
    weights[: layout.glimpses * layout.key_width] = 1.0
    return weights


def pack_runs(runs: Runs) -> NDArray[Any]:
    """Return one key per run: ``(n, row_width)``."""
    n = len(runs)
    return np.concatenate(
        [runs.keys.reshape(n, -1), runs.states[:, -1], runs.answers.astype(runs.keys.dtype)],
        axis=1,
    )


def unpack_runs(ids: Ids, keys: NDArray[Any], layout: Layout) -> Runs:
    """Return the runs of rows.

    Raises:
        CorruptMemory: A location lies outside of the images.
    """
    n, steps, width = len(keys), layout.glimpses, layout.key_width
    looked = keys[:, : steps * width].reshape(n, steps, width)
    last = keys[:, steps * width : -steps]
    states = np.concatenate([looked[:, 1:, : layout.state + 2], last[:, None]], axis=1)
    if n and max(looked[:, :, layout.state : layout.state + 2].max(), last[:, -2:].max()) > (
        layout.side
    ):
        raise CorruptMemory("a recorded location lies outside of the images")
    return Runs(ids, looked, states, keys[:, -steps:].astype(np.int64))


def spec_of(layout: Layout, names: list[Label]) -> dict[str, Any]:
    """Return what a memory notes of the network, as plain values."""
    return {"kind": KIND, "layout": layout.as_dict(), "names": names}


def names_of(spec: dict[str, Any] | None) -> list[Label]:
    """Read back the labels that the network tells apart."""
    return list(spec["names"]) if spec and spec.get("kind") == KIND else []


def layout_of(spec: dict[str, Any] | None) -> Layout | None:
    """Read the layout back, or None if the memory's keys come from elsewhere."""
    if not spec or spec.get("kind") != KIND:
        return None
    return Layout.from_dict(spec["layout"])
