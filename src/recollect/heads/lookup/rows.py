"""A recorded run as one row of a memory: its id is the image's, its value the image's label.

The key holds, step by step, what the table's keys hold (state, column and row, glimpse), then the
final state and location, then the network's class after each step. Only the first part counts
when rows are compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory, InvalidParameter
from recollect.heads.lookup.costs import check_weights
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.runs import Runs
from recollect.types import Doubles, Ids, Label

KIND = "recurrent-attention"
# Column of the metadata that holds the weights chosen for the rows, as JSON.
WEIGHTS = "distance_weights"
# Stands before weights that were chosen on images that accuracy is reported on.
_ORACLE = "oracle"


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


def write_weights(
    metadata: Mapping[str, Any] | None, weights: tuple[float, float, float], *, oracle: bool = False
) -> dict[str, Any]:
    """Return the metadata of rows with the weights that are in use.

    Args:
        metadata: Columns of the user.
        weights: The weights.
        oracle: The mark of weights that were chosen on images that accuracy is reported on.

    Raises:
        InvalidParameter: A column of the user has the name of that of the weights.
    """
    if metadata is not None and WEIGHTS in metadata:
        raise InvalidParameter(
            f"{WEIGHTS!r} is the column of the chosen weights", expected="another name",
            got=repr(WEIGHTS),
        )  # fmt: skip
    chosen = {_ORACLE: list(weights)} if oracle else list(weights)
    return {**(metadata or {}), WEIGHTS: json.dumps(chosen)}


def read_weights(
    metadata: Mapping[str, Sequence[Any]],
) -> tuple[tuple[float, float, float] | None, bool]:
    """Read back the weights, those of the last row that has some, or None; and the oracle's mark.

    Raises:
        CorruptMemory: The column holds something else.
    """
    texts = [text for text in metadata.get(WEIGHTS, ()) if text is not None]
    if not texts:
        return None, False
    try:
        chosen = json.loads(texts[-1])
        oracle = isinstance(chosen, dict) and list(chosen) == [_ORACLE]
        return check_weights(chosen[_ORACLE] if oracle else chosen), oracle
    except (InvalidParameter, TypeError, ValueError, RecursionError) as error:
        raise CorruptMemory(f"the chosen weights cannot be read: {error}") from error
