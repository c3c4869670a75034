"""What may enter as images: square, gray, finite, all of one side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import DimensionMismatch, EmptyBatch, InvalidParameter, InvalidType, NonFinite
from recollect.heads.lookup.layout import MOST_PIXEL


def check_images(images: Any, side: int | None = None) -> NDArray[Any]:
    """Return images as one array of numbers.

    Args:
        images: ``(n, side, side)``: an array, or a sequence of gray images that NumPy can read.
        side: The side they must have; None takes any.

    Returns:
        ``(n, side, side)`` of uint8 or float64.

    Raises:
        EmptyBatch: There are none.
        DimensionMismatch: Not square, not gray, or of another side.
        NonFinite: NaN or infinity.
        InvalidParameter: Pixels so large that their sums would lose them.
        InvalidType: Not numbers.
    """
    pixels = _as_array(images)
    if pixels.ndim >= 1 and not len(pixels):
        raise EmptyBatch("there are no images", expected="at least one", got=0)
    expected = "(n, side, side)" if side is None else f"(n, {side}, {side})"
    square = pixels.ndim == 3 and pixels.shape[1] == pixels.shape[2] > 0
    if not square or (side is not None and pixels.shape[1] != side):
        raise DimensionMismatch(
            "these images cannot be looked at",
            expected=expected,
            got=str(pixels.shape),
            remedy="Convert them to gray and resize them to one square size first.",
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise NonFinite(
            "an image holds NaN or infinity", expected="finite pixels", remedy="Repair it first."
        )
    if pixels.dtype.kind == "f" and np.abs(pixels).max() > MOST_PIXEL:
        raise InvalidParameter(
            "pixels are too large to be added up", expected=f"at most {MOST_PIXEL:g} in size",
            got=f"{np.abs(pixels).max():g}", remedy="Scale the images, for example to 0 to 255.",
        )  # fmt: skip
    return pixels


def _as_array(images: Any) -> NDArray[Any]:
    try:
        pixels = np.asarray(images)
        if pixels.dtype == object:
            pixels = np.stack([np.asarray(image) for image in images])
    except (TypeError, ValueError) as error:
        raise DimensionMismatch(
            "the images differ in size",
            expected="one square size",
            remedy="Resize them to one square size first.",
        ) from error
    if pixels.dtype.kind not in "biuf":
        raise InvalidType(
            "images must be numbers",
            expected="uint8 or floats",
            got=str(pixels.dtype),
            remedy="Decode image files first, for example with PIL.Image.open(path).convert('L').",
        )
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float64)
