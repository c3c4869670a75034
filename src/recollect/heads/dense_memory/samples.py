"""What enters a head for dense prediction: inputs, opened, encoded and judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.pyramids import PyramidEncoder
from recollect.errors import DimensionMismatch, EmptyBatch, InputError, InvalidParameter
from recollect.heads.dense_memory.pyramids import Pyramid
from recollect.heads.dense_memory.settings import is_whole, several_sides
from recollect.readout.grids import Shape
from recollect.readout.propagation import unit_rows
from recollect.types import Floats

MOST_PIXELS = 1 << 31


class Sample:
    """One input, opened: its pyramid, and the size of what it was made of.

    Attributes:
        pyramid: Its features.
        size: Size of the image, signal or volume; None where a pyramid was given.
    """

    __slots__ = ("pyramid", "size")

    def __init__(self, pyramid: Pyramid, size: Shape | None) -> None:
        self.pyramid, self.size = pyramid, size

    @property
    def masked(self) -> tuple[Shape, bool]:
        """Size of its mask, and whether a larger one is refused."""
        return (self.pyramid.shapes[-1], False) if self.size is None else (self.size, True)


def descriptor(pyramid: Pyramid) -> Floats:
    """What a whole sample looks like: the mean of its coarsest level, of length 1 or 0."""
    mean = pyramid.features[0].astype(np.float64).mean(axis=0)
    return unit_rows(mean).astype(np.float32)


def several(name: str, given: Any) -> Sequence[Any]:
    """Return what was given as a list of inputs.

    Raises:
        InputError: It is one thing.
        EmptyBatch: It is empty.
    """
    if isinstance(given, np.ndarray) and given.ndim > 0:
        found: Sequence[Any] = list(given)
    elif isinstance(given, str | bytes | Path | Mapping) or not np.iterable(given):
        raise InputError(
            f"{name} holds one thing instead of several", expected="a list, one entry a sample",
            got=type(given).__name__, remedy=f"Pass [{name}].",
        )  # fmt: skip
    else:
        found = list(given)
    if not found:
        raise EmptyBatch(f"{name} is empty", remedy="Leave the call out.")
    return found


def opened_input(encoder: PyramidEncoder, source: Any, at: int) -> NDArray[Any]:
    """Open one input; an error names the sample.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return encoder.open(source)
    except InputError as error:
        raise type(error)(
            f"sample {at}: {error.problem}", expected=error.expected, got=error.got,
            remedy=error.remedy,
        ) from error  # fmt: skip


def checked_size(size: Any, sample: Sample) -> Shape:
    """Return the size that an answer should have; None means that of the input.

    Raises:
        InvalidParameter: It does not go with the input.
    """
    if size is None:
        return sample.size or sample.pyramid.shapes[-1]
    wanted = several_sides(size)
    fits = len(wanted) == sample.pyramid.axes and all(
        is_whole(side) and side >= 1 for side in wanted
    )
    fits = fits and math.prod(map(int, wanted)) <= MOST_PIXELS
    if not fits:
        raise InvalidParameter(
            "size is out of range",
            expected=f"{sample.pyramid.axes} whole numbers of at least 1, at most 2^31 pixels",
            got=f"{size!r:.80}", remedy="Leave it out for the size of the input.",
        )  # fmt: skip
    return tuple(map(int, wanted))


def check_covered(sample: Sample, name: str) -> None:
    """Refuse an image that has less than a pixel for each of its cells.

    Raises:
        DimensionMismatch: A side is shorter than that of the finest grid.
    """
    grid = sample.pyramid.shapes[-1]
    if sample.size is None or all(
        side >= cells for side, cells in zip(sample.size, grid, strict=True)
    ):
        return
    raise DimensionMismatch(
        f"{name} is smaller than its cells",
        expected=f"at least {grid}, a pixel for each cell of the finest level",
        got=f"{sample.size}",
        remedy="Give larger inputs, or an encoder that does not enlarge them.",
    )


def as_objects(values: Sequence[Any]) -> NDArray[Any]:
    """Return values as an object array ``(n,)``, whatever they are."""
    column = np.empty(len(values), object)
    column[:] = values
    return column
