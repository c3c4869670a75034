"""Views of a picture: random crops, flips and AugMix, as the paper makes them (section 4.1).

View 0 is always the picture itself; the others are a random resized crop of half to all of its
area, flipped with probability 1/2, and for ``"augmix"`` mixed with three chains of one to three
simple operations of the lowest severity (Hendrycks et al., "AugMix", ICLR 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.encoders import open_image
from recollect.errors import MissingExtra

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_AREA = 0.5
CHAINS, SEVERITY = 3, 1.0


def augmented(
    pictures: Sequence[Any], count: int, *, style: str, seed: int
) -> list[NDArray[np.uint8]]:
    """Make views of every picture.

    Args:
        pictures: Whatever an encoder of images takes.
        count: Views of each.
        style: ``"augmix"``: crop, flip and AugMix. ``"crop"``: crop and flip alone, as the paper
            does for ImageNet.
        seed: Of all chance. A picture's views depend on the picture and the seed alone, so that
            it gets the same ones alone or in any batch.

    Returns:
        uint8 ``(height, width, 3)`` arrays: all views of the first picture, then of the second.

    Example:
        >>> views = augmented([np.zeros((8, 8, 3), np.uint8)], 2, style="crop", seed=0)
        >>> [view.shape for view in views]
        [(8, 8, 3), (8, 8, 3)]
    """
    views = []
    for picture in pictures:
        image = open_image(picture).convert("RGB")
        content = np.frombuffer(image.tobytes(), np.uint8)
        random = np.random.default_rng([seed, *_digest(content)])
        views += [_view(image, style, random) for _ in range(count)]
    return views


def _digest(content: NDArray[np.uint8]) -> list[int]:
    return list(np.frombuffer(sha256(content.tobytes()).digest(), "<u4").tolist())


def _view(image: Image, style: str, random: np.random.Generator) -> NDArray[np.uint8]:
    view = _crop(image, random)
    if random.random() < 0.5:
        view = view.transpose(_pillow().Transpose.FLIP_LEFT_RIGHT)
    if style == "crop":
        return np.asarray(view, np.uint8)
    return _augmix(view, random)


def _crop(image: Image, random: np.random.Generator) -> Image:
    """A random part of at least half the area, enlarged to the picture's own size."""
    width, height = image.size
    area = width * height * random.uniform(LEAST_AREA, 1.0)
    ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    wide = min(width, max(1, round(np.sqrt(area * ratio))))
    high = min(height, max(1, round(np.sqrt(area / ratio))))
    left = int(random.integers(0, width - wide + 1))
    top = int(random.integers(0, height - high + 1))
    box = (left, top, left + wide, top + high)
    return image.resize((width, height), _pillow().Resampling.BICUBIC, box=box)


def _augmix(image: Image, random: np.random.Generator) -> NDArray[np.uint8]:
    shares = random.dirichlet([1.0] * CHAINS)
    mixed = np.zeros((image.height, image.width, 3))
    for share in shares:
        chain = image
        for _ in range(int(random.integers(1, 4))):
            operation = _OPERATIONS[int(random.integers(len(_OPERATIONS)))]
            chain = operation(chain, random)
        mixed += share * np.asarray(chain, np.float64)
    keep = random.beta(1.0, 1.0)
    whole = keep * np.asarray(image, np.float64) + (1.0 - keep) * mixed
    return np.clip(np.rint(whole), 0, 255).astype(np.uint8)


def _strength(random: np.random.Generator, most: float) -> float:
    """How strong an operation is: from nearly nothing to a tenth of its range, with a sign."""
    level = random.uniform(0.1, SEVERITY) / 10.0 * most
    return float(level if random.random() < 0.5 else -level)


def _shear(image: Image, random: np.random.Generator) -> Image:
    return _affine(image, (1, _strength(random, 0.3), 0, 0, 1, 0))


def _lean(image: Image, random: np.random.Generator) -> Image:
    return _affine(image, (1, 0, 0, _strength(random, 0.3), 1, 0))


def _slide(image: Image, random: np.random.Generator) -> Image:
    return _affine(image, (1, 0, _strength(random, image.width / 3), 0, 1, 0))


def _lift(image: Image, random: np.random.Generator) -> Image:
    return _affine(image, (1, 0, 0, 0, 1, _strength(random, image.height / 3)))


def _turn(image: Image, random: np.random.Generator) -> Image:
    return image.rotate(_strength(random, 30.0), _pillow().Resampling.BILINEAR)


def _posterize(image: Image, random: np.random.Generator) -> Image:
    from PIL import ImageOps

    return ImageOps.posterize(image, 4 - int(abs(_strength(random, 4.0))))


def _solarize(image: Image, random: np.random.Generator) -> Image:
    from PIL import ImageOps

    return ImageOps.solarize(image, 256 - int(abs(_strength(random, 256.0))))


def _equalize(image: Image, _: np.random.Generator) -> Image:
    from PIL import ImageOps

    return ImageOps.equalize(image)


def _contrast(image: Image, _: np.random.Generator) -> Image:
    from PIL import ImageOps

    return ImageOps.autocontrast(image)


def _affine(image: Image, matrix: tuple[float, ...]) -> Image:
    pillow = _pillow()
    return image.transform(image.size, pillow.Transform.AFFINE, matrix, pillow.Resampling.BILINEAR)


_OPERATIONS: tuple[Callable[[Any, np.random.Generator], Any], ...] = (
    _contrast, _equalize, _posterize, _turn, _solarize, _shear, _lean, _slide, _lift,
)  # fmt: skip


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as missing:
        raise MissingExtra(
            "views are made by Pillow, which is not installed",
            remedy="pip install 'recollect[images]'",
        ) from missing
    return Image
