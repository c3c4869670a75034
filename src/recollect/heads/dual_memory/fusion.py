"""How the answers of text, dynamic and static memory become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from recollect.readout.attention import entropy, softmax
from recollect.types import Doubles

Fusion: TypeAlias = Literal["fixed", "count", "entropy", "logits"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)

GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Weights that the released code searches; the text's stays at 1."""

_TINY = 1e-300  # of a probability whose logarithm is taken


@dataclass(frozen=True, slots=True)
class Members:
    """What each member says about some pictures, each float64 ``(pictures, classes)``.

    Attributes:
        text: Probabilities of the names, or None without names.
        dynamic: Probabilities of the dynamic memory.
        static: Probabilities of names and shots, or None without shots.
    """

    text: Doubles | None
    dynamic: Doubles
    static: Doubles | None

    def all(self) -> tuple[Doubles | None, Doubles, Doubles | None]:
        """Return them in the order of the weights."""
        return self.text, self.dynamic, self.static


def member_weights(
    members: Members,
    weights: tuple[float, float, float],
    fusion: Fusion,
    *,
    counts: tuple[float | Doubles, float],
    anchor: float,
) -> Doubles:
    """Weigh the members for each picture.

    Args:
        members: What they say.
        weights: Of text, dynamic and static memory.
        fusion: ``"fixed"``: the weights as they are. ``"count"``: the text counts as ``anchor``
            pictures a class, the memories as many as they hold. ``"entropy"``: each member's
            weight times 1 - its entropy / log(classes), picture by picture. ``"logits"``: the
            weights as they are, to be used with ``logarithms=True`` in :func:`fuse`.
        counts: Filled dynamic slots (one number, or one for each picture), and shots, of a class in
            the mean.
        anchor: How many pictures a name is worth.

    Returns:
        float64 ``(3, pictures)``, adding up to 1 for each picture; 0 for a member that is absent.
    """
    present = np.array([each is not None for each in members.all()])
    base = np.array(weights, np.float64) * present
    table = np.repeat(base[:, None], len(members.dynamic), axis=1)
    if fusion == "count":
        dynamic, static = counts
        table[0] *= anchor
        table[1] *= dynamic + static
        table[2] *= static
    if fusion == "entropy":
        for row, each in enumerate(members.all()):
            if each is not None:
                most = np.log(max(each.shape[1], 2))
                table[row] *= np.maximum(1.0 - entropy(each, 1e-12) / most, 1e-6)
    total = np.add.reduce(table, axis=0)
    even = present[:, None] / present.sum()
    return np.where(total > 0, table / np.where(total > 0, total, 1.0), even)


def fuse(
    members: Members, shares: Doubles, *, logarithms: bool = False, temperature: float = 1.0
) -> Doubles:
    """Add the members' probabilities, text first, each times its share.

    Args:
        members: What they say.
        shares: float64 ``(3, pictures)``, see :func:`member_weights`.
        logarithms: Add logarithms instead, so that no member can overrule all others by being
            sure: the mean of their logits, up to what a softmax does not see.
        temperature: What the logarithms of the sum are divided by: above 1 all is less sure.

    Returns:
        float64 ``(pictures, classes)``; rows sum to 1.

    Example:
        >>> members = Members(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), None)
        >>> fuse(members, np.array([[0.25], [0.75], [0.0]])).tolist()
        [[0.25, 0.75]]
    """
    total = np.zeros_like(members.dynamic)
    for share, each in zip(shares, members.all(), strict=True):
        if each is not None:
            total += share[:, None] * (np.log(np.maximum(each, _TINY)) if logarithms else each)
    if logarithms:
        return softmax(total / temperature)
    return total if temperature == 1 else softmax(np.log(np.maximum(total, _TINY)) / temperature)
