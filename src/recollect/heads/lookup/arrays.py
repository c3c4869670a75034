"""Plain arrays of a table, for the predictor that needs NumPy and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter, WriteFailed
from recollect.heads.lookup.predictor import LookupPredictor


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
                           int(predictor.vote == "all")]),
        "range": np.array([layout.low, layout.high]),
        "classes": np.array(json.dumps(list(predictor.classes))),
    }  # fmt: skip
    try:
        with Path(path).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise WriteFailed(f"the arrays could not be written: {error}") from error
    return Path(path).stat().st_size
