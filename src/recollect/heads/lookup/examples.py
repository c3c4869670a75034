"""A network and images small enough to follow by hand, for examples and tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.network import Network

SIDE = 8


def bars(count: int = 8) -> tuple[NDArray[np.uint8], NDArray[np.object_]]:
    """Return images of one bright bar, in turn across and down, each at another place.

    Args:
        count: How many.

    Returns:
        uint8 ``(count, 8, 8)`` and their labels.
    """
    images = np.zeros((count, SIDE, SIDE), np.uint8)
    for number in range(count):
        place = 1 + number // 2 % (SIDE - 2)
        if number % 2:
            images[number, :, place] = 255
        else:
            images[number, place] = 255
    return images, np.array(["across", "down"] * (-(-count // 2)), object)[:count]


def network(seed: int = 0) -> Network:
    """Return an untrained network of two looks, whose answers mean nothing.

    Args:
        seed: Of its weights.
    """
    layout = Layout(side=SIDE, glimpse=2, patches=2, glimpses=2, state=8, classes=2, cells=(2, 4))
    random = np.random.default_rng(seed)
    shapes = {
        "fc1": (6, layout.phi), "fc2": (6, 2), "fc3": (8, 6), "fc4": (8, 6), "i2h": (8, 8),
        "h2h": (8, 8), "out": (8, 8), "act": (2, 8), "loc1": (4, 8), "loc2": (2, 4),
    }  # fmt: skip
    weights = {f"{name}.weight": random.normal(size=shape) for name, shape in shapes.items()}
    return Network(layout, weights, names=("across", "down"))
