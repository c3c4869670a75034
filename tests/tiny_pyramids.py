"""Small pyramids with round numbers, and random ones of any dimension."""

from __future__ import annotations

import numpy as np

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def signal(*cells):
    """One level: a signal of cells."""
    return [np.array(cells)]


def pair(coarse, first, second):
    """Two levels: one cell over two."""
    return [np.array([coarse]), np.array([first, second])]


def random_pyramid(seed, axes=2, widths=(5, 4), side=2):
    """Levels of doubling sides, no two cells alike."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(*[side * 2**level] * axes, width)) for level, width in enumerate(widths)
    ]


def random_mask(seed, shape, labels=3):
    """Labels drawn evenly."""
    return np.random.default_rng(1000 + seed).integers(0, labels, shape)
