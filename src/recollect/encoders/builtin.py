"""Encoders that need no weights: downscaled pixels, gradients with color, hashed n-grams.

They are deterministic to the last bit: a key does not depend on the batch, on the number of
threads, or on the process.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.base import Modality
from recollect.encoders.batching import encode_each, invalid
from recollect.encoders.identity import DECODING, checked_fields, fingerprint
from recollect.encoders.images import RGB
from recollect.encoders.preprocessing import Preprocessing, preprocessing
from recollect.errors import MissingExtra
from recollect.types import Floats

# Brightness counts as much as this many pixels, so that it orders pictures without contrast and
# hardly matters for others.
_BRIGHTNESS = 4.0


@dataclass(frozen=True, slots=True)
class PixelEncoder:
    """The picture itself, downscaled: useful for digits, icons and other aligned pictures.

    A key holds ``size * size`` pixels (times 3 with color), each in [0, 1] minus the picture's
    mean, so that the cosine compares shapes and not brightness; then the mean itself, and a
    constant 1, so that a picture of a single color has a direction too. No key is zero.

    Args:
        size: Side to which the picture is resized, in [1, 256].
        color: Keep red, green and blue; False averages them to a luminance.

    Raises:
        InvalidParameter: An option outside its range.

    Example:
        >>> encoder = PixelEncoder(size=2, color=False)
        >>> encoder.encode([np.array([[0, 255], [255, 0]], np.uint8)]).tolist()
        [[-0.5, 0.5, 0.5, -0.5, 0.0, 1.0]]
    """

    size: int = 16
    color: bool = True

    modality: ClassVar[Modality] = "image"

    def __post_init__(self) -> None:
        _check_integer("size", self.size, 1, 256)
        _check_flag("color", self.color)

    @property
    def dim(self) -> int:
        """``size * size * 3 + 4`` with color, else ``size * size + 2``."""
        channels = 3 if self.color else 1
        return self.size * self.size * channels + channels + 1

    @property
    def fingerprint(self) -> str:
        """Covers ``size`` and ``color``."""
        return fingerprint("pixels", self.spec | {"version": 1, "decoding": DECODING})

    @property
    def spec(self) -> dict[str, Any]:
        """Recipe for ``from_spec``."""
        return {"type": "pixels"} | asdict(self)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> PixelEncoder:
        """Build from ``spec``; raises ``EncoderFault`` or ``InvalidParameter``."""
        return cls(**checked_fields("pixels", spec, {"size": (int,), "color": (bool,)}))

    def encode(self, inputs: Sequence[Any]) -> Floats:
        """Encode images to float32 ``(n, dim)``."""
        return encode_each(self, inputs, batch_size=256)

    def prepare(self, value: RGB) -> Floats:
        """Return the key of one picture, float32 ``(dim,)``."""
        small = _squash(self.size).shrink(value).astype(np.float32) / 255
        values = small.reshape(-1, 3)
        if not self.color:
            values = _luminance(values)[:, None]
        mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        brightness = _BRIGHTNESS * (mean - np.float32(0.5))
        return np.concatenate([(values - mean).ravel(), brightness, np.ones(1, np.float32)])

    def encode_prepared(self, batch: Sequence[Floats]) -> Floats:
        """Stack keys."""
        return np.stack(batch)


@dataclass(frozen=True, slots=True)
class HogEncoder:
    """Histograms of oriented gradients beside a histogram of colors.

    A key holds the gradients (Dalal and Triggs, CVPR 2005, blocks of 2 x 2 cells, L2-Hys) scaled
    to length 1, or zeros for a picture without edges, then the square roots of the shares of
    ``bins ** 3`` colors scaled to length ``color``. So no key is zero while ``color`` is not.

    Args:
        size: Side to which the picture is resized, in [16, 512]; at least two cells.
        cell: Side of a cell in pixels.
        orientations: Directions that are told apart, in [1, 36].
        bins: Steps of red, of green and of blue, in [1, 8].
        color: Weight of the colors against the gradients, above 0 and at most 100.

    Raises:
        InvalidParameter: An option outside its range.
        MissingExtra: scikit-image is not installed.

    Example:
        >>> HogEncoder().dim
        351
    """

    size: int = 64
    cell: int = 16
    orientations: int = 9
    bins: int = 3
    color: float = 0.7

    modality: ClassVar[Modality] = "image"

    def __post_init__(self) -> None:
        _check_integer("size", self.size, 16, 512)
        _check_integer("cell", self.cell, 2, self.size // 2)
        _check_integer("orientations", self.orientations, 1, 36)
        _check_integer("bins", self.bins, 1, 8)
        if type(self.color) is not float or not 0 < self.color <= 100:
            raise invalid("color", "a float above 0 and at most 100", self.color)

    @property
    def dim(self) -> int:
        """Gradients and colors."""
        blocks = self.size // self.cell - 1
        return blocks * blocks * 4 * self.orientations + self.bins**3

    @property
    def fingerprint(self) -> str:
        """Covers every option."""
        return fingerprint("hog", self.spec | {"version": 1, "decoding": DECODING})

    @property
    def spec(self) -> dict[str, Any]:
        """Recipe for ``from_spec``."""
        return {"type": "hog"} | asdict(self)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> HogEncoder:
        """Build from ``spec``; raises ``EncoderFault`` or ``InvalidParameter``."""
        counts = dict.fromkeys(("size", "cell", "orientations", "bins"), (int,))
        return cls(**checked_fields("hog", spec, counts | {"color": (float,)}))

    def encode(self, inputs: Sequence[Any]) -> Floats:
        """Encode images to float32 ``(n, dim)``."""
        return encode_each(self, inputs, batch_size=64)

    def prepare(self, value: RGB) -> Floats:
        """Return the key of one picture, float32 ``(dim,)``."""
        small = _squash(self.size).shrink(value)
        return np.concatenate([self._gradients(small), self._colors(small)]).astype(np.float32)

    def encode_prepared(self, batch: Sequence[Floats]) -> Floats:
        """Stack keys."""
        return np.stack(batch)

    def _gradients(self, small: RGB) -> NDArray[np.float64]:
        values: NDArray[np.float64] = _scikit_image().hog(
            _luminance(small.reshape(-1, 3) / 255).reshape(small.shape[:2]),
            orientations=self.orientations,
            pixels_per_cell=(self.cell, self.cell),
            cells_per_block=(2, 2),
            block_norm="L2-Hys",
        )
        length = float(np.sqrt(np.sum(values * values)))
        return values / length if length > 0 else values

    def _colors(self, small: RGB) -> NDArray[np.float64]:
        steps = small.reshape(-1, 3).astype(np.int64) * self.bins // 256
        codes = (steps[:, 0] * self.bins + steps[:, 1]) * self.bins + steps[:, 2]
        counts = np.bincount(codes, minlength=self.bins**3)
        return self.color * np.sqrt(counts / len(codes))


@dataclass(frozen=True, slots=True)
class HashingTextEncoder:
    """Text without a model: counts of character n-grams and of words, hashed to a fixed width.

    Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009: the hash
    of an n-gram gives its place and its sign. Counts are dampened to ``sqrt(count)`` and the key
    is scaled to length 1. Text is compared without case and in Unicode form NFKC. It finds shared
    words and spellings, not meaning. The first entry is constant, so that even the empty text
    has a direction.

    Args:
        dim: Width of a key, in [16, 65536].
        shortest: Shortest character n-gram, at least 1.
        longest: Longest character n-gram, at most 10.
        words: Count whole words too.

    Raises:
        InvalidParameter: An option outside its range.

    Example:
        >>> a, b, c = HashingTextEncoder().encode(["red car", "Red  cars", "a tall tree"])
        >>> bool(a @ b > a @ c)
        True
    """

    dim: int = 1024
    shortest: int = 3
    longest: int = 5
    words: bool = True

    modality: ClassVar[Modality] = "text"

    def __post_init__(self) -> None:
        _check_integer("dim", self.dim, 16, 65_536)
        _check_integer("shortest", self.shortest, 1, 10)
        _check_integer("longest", self.longest, self.shortest, 10)
        _check_flag("words", self.words)

    @property
    def fingerprint(self) -> str:
        """Covers every option."""
        return fingerprint("hashing-text", self.spec | {"version": 1})

    @property
    def spec(self) -> dict[str, Any]:
        """Recipe for ``from_spec``."""
        return {"type": "hashing-text"} | asdict(self)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> HashingTextEncoder:
        """Build from ``spec``; raises ``EncoderFault`` or ``InvalidParameter``."""
        counts = dict.fromkeys(("dim", "shortest", "longest"), (int,))
        return cls(**checked_fields("hashing-text", spec, counts | {"words": (bool,)}))

    def encode(self, inputs: Sequence[str]) -> Floats:
        """Encode texts to float32 ``(n, dim)``, each of length 1."""
        return encode_each(self, inputs, batch_size=256)

    def prepare(self, value: str) -> Floats:
        """Return the key of one text, float32 ``(dim,)``."""
        tokens = unicodedata.normalize("NFKC", value).casefold().split()
        hashes = [_rolling(f" {' '.join(tokens)} ", n) for n in self._lengths()]
        if self.words and tokens:
            hashes.append(_whole_words(tokens))
        grams, counts = np.unique(np.concatenate(hashes), return_counts=True)
        # The lowest bit gives the sign, the others the place behind the constant entry.
        place = 1 + (grams >> np.uint64(1)) % np.uint64(self.dim - 1)
        signed = np.sqrt(counts) * np.where(grams & np.uint64(1), 1.0, -1.0)
        key = np.zeros(self.dim)
        np.add.at(key, place.astype(np.int64), signed)
        key[0] = 0.1
        unit: Floats = (key / np.sqrt(np.sum(key * key))).astype(np.float32)
        return unit

    def encode_prepared(self, batch: Sequence[Floats]) -> Floats:
        """Stack keys."""
        return np.stack(batch)

    def _lengths(self) -> Iterable[int]:
        return range(self.shortest, self.longest + 1)


def _rolling(text: str, n: int) -> NDArray[np.uint64]:
    """64-bit hashes of all runs of n characters; equal in every process."""
    points = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint64)
    if len(points) < n:
        return np.empty(0, np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(points, n)
    mixed = np.full(len(runs), n, np.uint64)
    for column in range(n):
        mixed = _mix(mixed + runs[:, column])
    return mixed


def _whole_words(tokens: list[str]) -> NDArray[np.uint64]:
    """64-bit hashes of words, other than those of n-grams with the same letters."""
    hashes = (hashlib.blake2b(word.encode(), digest_size=8, person=b"word") for word in tokens)
    return np.frombuffer(b"".join(each.digest() for each in hashes), "<u8").astype(np.uint64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64-bit integers: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=16)
def _squash(size: int) -> Preprocessing:
    return preprocessing("raw", size=size, resize="squash", interpolation="box")


def _luminance(rgb: NDArray[Any]) -> NDArray[Any]:
    """Weigh red, green and blue as ITU-R BT.601 does; ``(n, 3)`` to ``(n,)``."""
    # Products and sums of columns: a matrix product may round differently for another shape.
    return 0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2]


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise invalid(name, f"an integer from {low} to {high}", value)


def _check_flag(name: str, value: Any) -> None:
    if type(value) is not bool:
        raise invalid(name, "True or False", value)


def _scikit_image() -> Any:
    try:
        import skimage.feature
    except ImportError as error:
        raise MissingExtra(
            "gradients are computed by scikit-image, which is not installed",
            remedy="Install it with: pip install 'recollect[images]'",
        ) from error
    return skimage.feature
