"""Cells, brightness and scan of the glimpses, chosen again on images that are no test images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.reproduce.lookup import Lab, figure
from recollect.heads.lookup.glimpse import glimpse, integral
from recollect.heads.lookup.layout import Layout

# The grid that was tried at first with test images in sight: sides of cells, brightness of a full
# cell, and how far from the center the four other looks go; 0 is the center alone.
CELLS = ((1, 2, 4), (2, 4, 8), (2, 3, 4), (3, 4, 5), (2, 4, 6), (3, 5, 7), (2, 5, 7))
HIGH = (255, 160)
OFF = (0, 3, 5)
# Recorded images, and images that ask.
_ROWS, _ASKED = 20_000, 2000
_BLOCK = 250


def sizes(lab: Lab) -> list[dict[str, Any]]:
    """Nearest by glimpses of five fixed places, no network: the images set aside ask."""
    digits = lab.digits
    rows = integral(digits.images[: min(_ROWS, digits.trained)])
    names = digits.labels[: len(rows)]
    asked = integral(digits.images[digits.trained :][:_ASKED])
    truth = digits.labels[digits.trained :][: len(asked)]
    lines = []
    for high in HIGH:
        for cells in CELLS:
            layout = Layout(side=digits.images.shape[1], cells=cells, high=float(high))
            for off, right in _by_reach(layout, rows, asked, names, truth).items():
                lines.append(
                    {"cells": list(cells), "high": high, "off": off, "rows": len(rows),
                     "questions": len(truth), **figure(right, len(truth))}
                )  # fmt: skip
    return lines


def _by_reach(
    layout: Layout, rows: NDArray[Any], asked: NDArray[Any], names: NDArray[Any],
    truth: NDArray[Any],
) -> dict[int, float]:  # fmt: skip
    """Return the share answered right for each reach of the scan."""
    center = layout.side // 2
    found = {}
    seen = {
        (0, 0): (_unary(rows, (center, center), layout), _unary(asked, (center, center), layout))
    }
    for off in OFF:
        places = [(0, 0)]
        if off:
            places += [(-off, -off), (off, -off), (-off, off), (off, off)]
        pairs = [
            seen.get(place)
            or tuple(
                _unary(sums, (center + place[0], center + place[1]), layout)
                for sums in (rows, asked)
            )
            for place in places
        ]
        keys, queries = (np.concatenate(side, axis=1) for side in zip(*pairs, strict=True))
        found[off] = float((names[_nearest(keys, queries)] == truth).mean())
    return found


def _unary(sums: NDArray[Any], place: tuple[int, int], layout: Layout) -> NDArray[np.float32]:
    """Codes of one look in unary, so that squares of differences add up to the differences."""
    codes = glimpse(sums, np.tile(place, (len(sums), 1)), layout)
    levels = range(1, 1 << layout.phi_bits)
    return np.concatenate([codes >= level for level in levels], axis=1).astype(np.float32)


def _nearest(keys: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the row nearest to each query; sums are whole numbers, ties go to the lowest row."""
    counts = keys.sum(axis=1)
    return np.concatenate(
        [
            (counts - 2 * (queries[at : at + _BLOCK] @ keys.T)).argmin(axis=1)
            for at in range(0, len(queries), _BLOCK)
        ]
    )
