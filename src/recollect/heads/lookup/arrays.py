"""Plain arrays of a table, for the predictor that needs NumPy and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.readout import VOTES
from recollect.heads.lookup.whole_file import write_whole


def write_npz(predictor: LookupPredictor, path: str | Path) -> int:
    """Write a table as plain arrays; ``standalone.py`` beside this file reads them.

    Args:
        predictor: The table with all an answer takes; comparisons are with every row.
        path: File to make, ending in ``.npz``.

    Returns:
        Its bytes.

    Raises:
        InvalidParameter: Glimpse or state are floats.
        WriteFailed: The disk refused.
    """
    layout, table = predictor.layout, predictor.table
    if not (layout.phi_bits and layout.h_bits):
        raise InvalidParameter("glimpse or state are floats", expected="at least 1 bit each", got=0)
    arrays: dict[str, NDArray[Any]] = {
        "keys": table.keys,
        "states": table.states,
        "answers": table.answers.astype(np.int32),
        "parts": table.parts,
        "costs": predictor.costs.columns,
        "cells": np.array(layout.cell_sides),
        "sizes": np.array([layout.side, layout.glimpse, layout.glimpses, layout.state,
                           layout.phi_bits, min(predictor.k, len(table)),
                           VOTES.index(predictor.vote)]),
        "start": np.array(layout.start),
        "range": np.array([layout.low, layout.high]),
        "classes": np.array(json.dumps(list(predictor.classes))),
    }  # fmt: skip
    write_whole(
        path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays), "the arrays"
    )
    return Path(path).stat().st_size
