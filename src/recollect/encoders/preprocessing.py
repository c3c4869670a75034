"""From a decoded picture to the numbers that a network was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.images import RGB, load_pillow
from recollect.errors import InvalidParameter
from recollect.types import Floats

Size: TypeAlias = int | tuple[int, int] | Literal["native"]
Resize: TypeAlias = Literal["crop", "squash"]
Layout: TypeAlias = Literal["NCHW", "NHWC"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
# Far above any published encoder, far below what would exhaust the memory of a machine.
MAX_SIDE = 8_192


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an RGB picture becomes an input: ``(pixel - mean) / scale``, pixels in 0..255.

    Attributes:
        size: Height and width of the input in pixels; None keeps the picture's own size.
        mean: Subtracted from red, green and blue, in 0..255.
        scale: Divided by after that; positive.
        resize: ``"crop"`` takes the largest centered region of the input's shape, times ``crop``,
            and resizes it, which is resizing and then cropping the center in one step;
            ``"squash"`` resizes the whole picture and changes its proportions.
        crop: Share of that region's sides that is kept, in (0, 1]; 224/256 is usual. 1 with
            ``"squash"``.
        interpolation: ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"lanczos"``, ``"box"`` or
            ``"hamming"``, each with antialiasing as Pillow does it.
        layout: ``"NCHW"`` or ``"NHWC"``.

    Raises:
        InvalidParameter: An attribute outside its range.

    Example:
        >>> mobilenet = preprocessing("mobilenet", size=2, resize="squash")
        >>> mobilenet(np.full((4, 6, 3), 192, np.uint8))[:, 0, 0].tolist()
        [0.5, 0.5, 0.5]
    """

    size: tuple[int, int] | None
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    resize: Resize = "crop"
    crop: float = 1.0
    interpolation: str = "bilinear"
    layout: Layout = "NCHW"

    def __post_init__(self) -> None:
        _choose("resize", self.resize, ("crop", "squash"))
        _choose("interpolation", self.interpolation, INTERPOLATIONS)
        _choose("layout", self.layout, ("NCHW", "NHWC"))
        if self.size is not None and not _is_size(self.size):
            raise _invalid("size", f"(height, width), each from 1 to {MAX_SIDE}", self.size)
        if not _three_numbers(self.mean):
            raise _invalid("mean", "three finite numbers in 0..255 units", self.mean)
        if not _three_numbers(self.scale) or min(self.scale) <= 0:
            raise _invalid("scale", "three positive numbers in 0..255 units", self.scale)
        if type(self.crop) is not float or not 0 < self.crop <= 1:
            raise _invalid("crop", "a share in (0, 1]", self.crop)
        if self.resize == "squash" and self.crop != 1.0:
            raise _invalid("crop", '1 with resize="squash"', self.crop)

    def shrink(self, rgb: RGB) -> RGB:
        """Resize to uint8 ``(height, width, 3)``."""
        if self.size is None or (self.size == rgb.shape[:2] and self.crop == 1.0):
            return rgb
        image = load_pillow()
        method = image.Resampling[self.interpolation.upper()]
        height, width = self.size
        box = self._region(*rgb.shape[:2])
        resized: RGB = np.asarray(image.fromarray(rgb).resize((width, height), method, box))
        return resized

    def _region(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what is kept of a picture."""
        if self.size is None or self.resize == "squash":
            return 0.0, 0.0, float(width), float(height)
        unit = min(height / self.size[0], width / self.size[1]) * self.crop
        tall, wide = self.size[0] * unit, self.size[1] * unit
        left, top = (width - wide) / 2, (height - tall) / 2
        # The sum may pass the border by a rounding error, which Pillow would refuse.
        return left, top, min(left + wide, width), min(top + tall, height)

    def scaled(self, small: RGB) -> Floats:
        """Turn a picture of the right size into float32 ``(3, H, W)`` or ``(H, W, 3)``."""
        # Channels first and in place: several times faster than broadcasting over the last axis.
        values: Floats = small.transpose(2, 0, 1).astype(np.float32, order="C")
        values -= np.asarray(self.mean, np.float32)[:, None, None]
        values /= np.asarray(self.scale, np.float32)[:, None, None]
        return values if self.layout == "NCHW" else np.ascontiguousarray(values.transpose(1, 2, 0))

    def __call__(self, rgb: RGB) -> Floats:
        """Resize and scale one picture, uint8 ``(H, W, 3)``."""
        return self.scaled(self.shrink(rgb))

    def as_spec(self) -> dict[str, Any]:
        """All settings, JSON-able; ``from_spec`` reads them."""
        settings = asdict(self)
        return {
            name: list(each) if isinstance(each, tuple) else each for name, each in settings.items()
        }

    @classmethod
    def from_spec(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """Build from ``as_spec``; raises ``InvalidParameter`` for anything else."""
        names = set(cls.__dataclass_fields__)
        if set(settings) != names:
            raise _invalid("preprocessing", ", ".join(sorted(names)), sorted(map(str, settings)))
        values: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in settings.items()
        }
        return cls(**values)


# The side that all of the known encoders were trained at.
_SIDE = 224
_IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)}

# What published encoders expect. The mean and deviation of ImageNet's pixels are those that
# PyTorch's model zoo made usual; CLIP's stand in its released preprocessing.
PRESETS: dict[str, dict[str, Any]] = {
    "clip": {
        "mean": (122.7709383, 116.7460125, 104.09373615),
        "scale": (68.5005327, 66.6321579, 70.32316305),
        "interpolation": "bicubic",
    },
    "dinov2": _IMAGENET | {"crop": 0.875, "interpolation": "bicubic"},
    "imagenet": _IMAGENET | {"crop": 0.875},
    "mobilenet": {"mean": (128.0,) * 3, "scale": (128.0,) * 3, "crop": 0.875},
    "raw": {"mean": (0.0,) * 3, "scale": (1.0,) * 3},
    "unit": {"mean": (0.0,) * 3, "scale": (255.0,) * 3},
}


def preprocessing(
    name: str | Preprocessing, *, size: Size | None = None, **changes: Any
) -> Preprocessing:
    """Return known preprocessing, with changes.

    Args:
        name: ``"clip"``, ``"dinov2"``, ``"imagenet"`` (0..1, then ImageNet's mean and
            deviation), ``"mobilenet"`` (-1..1), ``"raw"`` (0..255), ``"unit"`` (0..1), or a
            ``Preprocessing``.
        size: A side, (height, width), or ``"native"`` for the picture's own size.
        changes: Other attributes of ``Preprocessing``; None leaves one as it is.

    Raises:
        InvalidParameter: An unknown name, or a value outside its range.

    Example:
        >>> preprocessing("imagenet", size=160, resize="squash").size
        (160, 160)
    """
    if isinstance(name, str):
        _choose("preprocess", name, tuple(PRESETS))
        known = Preprocessing((_SIDE, _SIDE), **PRESETS[name])
    elif isinstance(name, Preprocessing):
        known = name
    else:
        raise _invalid("preprocess", "a known name or a Preprocessing", name)
    if size is not None:
        changes["size"] = _sides(size)
    given = {
        field: value for field, value in changes.items() if value is not None or field == "size"
    }
    if given.get("resize") == "squash" and "crop" not in given:
        given["crop"] = 1.0
    for field in ("mean", "scale"):
        if field in given:
            given[field] = _per_channel(field, given[field])
    if "crop" in given and type(given["crop"]) is int:
        given["crop"] = float(given["crop"])
    return replace(known, **given)


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, str) and size == "native":
        return None
    sides = (size, size) if type(size) is int else size
    if not _is_size(tuple(sides) if isinstance(sides, list) else sides):
        raise _invalid("size", f'a side from 1 to {MAX_SIDE}, (height, width) or "native"', size)
    return sides[0], sides[1]


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, tuple)
        and len(size) == 2
        and all(type(side) is int and 1 <= side <= MAX_SIDE for side in size)
    )


def _per_channel(field: str, value: Any) -> tuple[float, ...]:
    try:
        numbers: NDArray[np.float64] = np.broadcast_to(np.asarray(value, np.float64), (3,))
    except (TypeError, ValueError) as error:
        raise _invalid(field, "a number or three numbers in 0..255 units", value) from error
    return tuple(numbers.tolist())


def _three_numbers(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(type(each) is float and np.isfinite(each) for each in value)
    )


def _choose(field: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise _invalid(field, " or ".join(repr(each) for each in choices), value)


def _invalid(field: str, expected: str, got: Any) -> InvalidParameter:
    return InvalidParameter(
        f"the option {field!r} cannot be used",
        expected=expected,
        got=f"{got!r:.80}",
        remedy="See recollect.encoders.preprocessing for what each option means.",
    )
