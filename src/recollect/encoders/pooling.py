"""One vector from what a network gives: vectors, tokens, or feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from recollect.encoders.batching import invalid
from recollect.errors import EncoderFault, InputError
from recollect.types import Floats

Pooling: TypeAlias = Literal["mean", "cls"]


def check_pooling(value: Any) -> Pooling:
    """Return the way of pooling; raises ``InvalidParameter`` for an unknown one."""
    if value not in {"mean", "cls"}:
        raise invalid("pooling", "'mean' or 'cls'", value)
    pooling: Pooling = value
    return pooling


def pooled(values: Floats, pooling: Pooling) -> Floats:
    """Reduce each row of a batch to one vector.

    Args:
        values: ``(n, dim)``, kept; tokens ``(n, tokens, dim)``; or maps ``(n, dim, H, W)``.
        pooling: ``"mean"`` over tokens or positions, or ``"cls"``, the first token. Maps have no
            first token: they are averaged either way.

    Raises:
        EncoderFault: Another rank.

    Example:
        >>> pooled(np.array([[[1.0, 2.0], [3.0, 6.0]]], np.float32), "mean").tolist()
        [[2.0, 4.0]]
    """
    if values.ndim == 2:
        return values
    if values.ndim == 4:
        over_positions: Floats = values.mean(axis=(2, 3), dtype=np.float32)
        return over_positions
    if values.ndim == 3:
        over_tokens: Floats = values.mean(axis=1, dtype=np.float32)
        return values[:, 0] if pooling == "cls" else over_tokens
    raise EncoderFault(
        "this output cannot be made one vector an input",
        expected="shape (n, dim), (n, tokens, dim) or (n, dim, H, W)",
        got=f"{values.shape}",
        remedy="Choose another output or layer.",
    )


def pooled_width(shape: Sequence[Any]) -> Any:
    """Return the width of ``pooled`` for an output's declared shape; may be unknown."""
    return shape[-1] if len(shape) in {2, 3} else shape[1] if len(shape) == 4 else None


def joined(name: str, parts: Sequence[Floats]) -> Floats:
    """Put the rows of several runs together; raises ``InputError`` where their shapes differ."""
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) == 1:
        return np.concatenate(parts)
    raise InputError(
        f"the output {name!r} has several shapes in one batch",
        expected="pictures of one size",
        got=", ".join(map(str, sorted(shapes))),
        remedy="Encode pictures of each size on their own, or give the encoder a size.",
    )
