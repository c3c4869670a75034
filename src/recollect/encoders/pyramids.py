"""Feature pyramids: what a network's maps, or plain statistics, say of every cell of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise, product
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.batching import check_count, invalid
from recollect.encoders.identity import checked_fields, fingerprint
from recollect.encoders.images import decode_image
from recollect.errors import DimensionMismatch, EncoderFault, InputError, NonFinite
from recollect.types import Floats

Levels: TypeAlias = list[Floats]
TOGETHER = 16  # pictures of one size handed to a network at once
_FIELDS: dict[str, tuple[type, ...]] = {"encoder": (dict,), "maps": (list,), "levels": (int,)}
_STATISTICS_FIELDS: dict[str, tuple[type, ...]] = {
    "axes": (int,), "levels": (int,), "stride": (int,), "scales": (int,)
}  # fmt: skip


@runtime_checkable
class PyramidEncoder(Protocol):
    """Turns inputs into feature pyramids. Knows no labels and no memory."""

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints mean equal pyramids for equal inputs."""
        ...

    @property
    def spec(self) -> dict[str, Any] | None:
        """Recipe for ``recollect.encoders.from_spec``, or None."""
        ...

    def open(self, source: Any) -> NDArray[Any]:
        """Read one input; the leading axes of the result are its size."""
        ...

    def encode_pyramids(self, inputs: Sequence[NDArray[Any]]) -> Iterator[Levels]:
        """Encode what ``open`` returned: arrays ``(*grid, width)`` of each, coarsest first."""
        ...


@runtime_checkable
class MapEncoder(Protocol):
    """An encoder of images that gives feature maps too."""

    @property
    def fingerprint(self) -> str:
        """As of every encoder."""
        ...

    @property
    def spec(self) -> dict[str, Any] | None:
        """As of every encoder."""
        ...

    @property
    def maps(self) -> Sequence[str]:
        """Names of the maps."""
        ...

    def encode_maps(
        self, inputs: Sequence[Any], names: Sequence[str] | None = None
    ) -> dict[str, Floats]:
        """Return maps by name, each float32 ``(n, C, H, W)``."""
        ...


class MapPyramids:
    """Pyramids out of the feature maps of an image encoder.

    Maps on one grid become one level, side by side; levels are ordered by grid, coarsest first.
    Where there are fewer grids than ``levels``, coarser ones are made of the coarsest by averaging
    2 x 2 cells: so a vision transformer, which has patches of one size only, gets a pyramid.

    Args:
        encoder: Gives maps: ``OnnxEncoder``, ``TorchEncoder`` or ``HuggingFaceEncoder``.
        maps: Which maps; None takes the encoder's own choice.
        levels: Least number of levels.

    Raises:
        InvalidParameter: The encoder gives no maps, or an option is out of range.
    """

    modality: Literal["image"] = "image"

    def __init__(
        self, encoder: MapEncoder, maps: Sequence[str] | None = None, *, levels: int = 1
    ) -> None:
        if not isinstance(encoder, MapEncoder):
            raise invalid("encoder", "an image encoder that has maps", encoder)
        self.encoder, self.maps = encoder, tuple(encoder.maps if maps is None else maps)
        self.levels = check_count("levels", levels)
        if not self.maps:
            raise invalid("maps", "at least one map of the encoder, by name", self.maps)

    def __repr__(self) -> str:
        return f"MapPyramids({self.encoder!r}, maps={list(self.maps)}, levels={self.levels})"

    def __deepcopy__(self, memo: object) -> MapPyramids:
        # It never changes; scikit-learn copies the parameters of its estimators.
        return self

    @property
    def fingerprint(self) -> str:
        """Covers the encoder, the maps and their order."""
        settings = {"encoder": self.encoder.fingerprint, "maps": list(self.maps)}
        return fingerprint("map-pyramids", settings | {"levels": self.levels, "version": 1})

    @property
    def spec(self) -> dict[str, Any] | None:
        """Recipe for ``from_spec``; None if the encoder has none."""
        inner = self.encoder.spec
        if inner is None:
            return None
        return {
            "type": "map-pyramids", "encoder": inner, "maps": list(self.maps),
            "levels": self.levels,
        }  # fmt: skip

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> MapPyramids:
        """Build from ``spec``. Errors: as the class, and of the encoder within."""
        from recollect.encoders.registry import from_spec

        fields = checked_fields("map-pyramids", spec, _FIELDS)
        inner: Any = from_spec(fields["encoder"])
        return cls(inner, fields["maps"], levels=fields["levels"])

    def open(self, source: Any) -> NDArray[np.uint8]:
        """Decode an image to RGB ``(H, W, 3)``."""
        return decode_image(source)

    def encode_pyramids(self, inputs: Sequence[NDArray[Any]]) -> Iterator[Levels]:
        """Encode pictures, those of one size together."""
        for _, group in groupby(inputs, key=np.shape):
            several = list(group)
            for start in range(0, len(several), TOGETHER):
                maps = self.encoder.encode_maps(several[start : start + TOGETHER], self.maps)
                yield from self._levels(maps)

    def _levels(self, maps: dict[str, Floats]) -> Iterator[Levels]:
        by_grid: dict[tuple[int, ...], list[Floats]] = {}
        for name in self.maps:
            by_grid.setdefault(maps[name].shape[2:], []).append(maps[name])
        grids = sorted(by_grid)
        sides = [side for pair in pairwise(grids) for side in zip(*pair, strict=True)]
        if any(small > large for small, large in sides):
            raise EncoderFault(
                "these maps are no pyramid",
                expected="grids that grow in height and width together",
                got=", ".join(map(str, grids)),
                remedy="Choose other maps.",
            )
        joined = [np.concatenate(by_grid[grid], axis=1).transpose(0, 2, 3, 1) for grid in grids]
        for at in range(len(joined[0])):
            yield pooled_up([np.ascontiguousarray(level[at]) for level in joined], self.levels)


def pooled_up(levels: Levels, least: int) -> Levels:
    """Put coarser levels before the coarsest, each the mean of 2 cells on every axis.

    Example:
        >>> [level.shape for level in pooled_up([np.ones((4, 4, 3), np.float32)], 3)]
        [(1, 1, 3), (2, 2, 3), (4, 4, 3)]
    """
    while len(levels) < least:
        coarse: NDArray[Any] = levels[0]
        for axis in range(coarse.ndim - 1):
            starts = np.arange(0, coarse.shape[axis], 2)
            counts = np.diff([*starts.tolist(), coarse.shape[axis]])
            summed = np.add.reduceat(coarse, starts, axis=axis)
            coarse = summed / counts.reshape([-1 if a == axis else 1 for a in range(coarse.ndim)])
        levels = [coarse.astype(np.float32), *levels]
    return levels


class LocalStatistics:
    """Pyramids of signals, images or volumes from plain statistics; needs no weights.

    A sample is scaled to mean 0 and deviation 1 of each channel. A cell holds, at several scales
    that start at its level's stride: the blurred value, the local deviation, the first derivatives
    along each axis and the second ones (Gaussian, in units of the scale), and a constant 1, so
    that the cosine sees how large they are.

    Args:
        axes: 1 for signals ``(T,)`` or ``(T, channels)``, 2 for images ``(H, W)`` or
            ``(H, W, channels)``, 3 for volumes ``(D, H, W)`` or with channels.
        levels: Levels; each halves the sides of the next finer one.
        stride: Samples, pixels or voxels to a cell of the finest level.
        scales: Scales on each level, each twice the one before.

    Raises:
        InvalidParameter: An option is out of range.

    Example:
        >>> encoder = LocalStatistics(axes=1, levels=2, stride=2, scales=1)
        >>> signal = np.sin(np.arange(32) / 4)
        >>> [level.shape for level in next(encoder.encode_pyramids([encoder.open(signal)]))]
        [(8, 5), (16, 5)]
    """

    def __init__(self, axes: int, *, levels: int = 3, stride: int = 2, scales: int = 3) -> None:
        self.axes, self.levels = check_count("axes", axes), check_count("levels", levels)
        self.stride, self.scales = check_count("stride", stride), check_count("scales", scales)
        if self.axes > 3:
            raise invalid("axes", "1, 2 or 3", axes)

    def __repr__(self) -> str:
        return (
            f"LocalStatistics(axes={self.axes}, levels={self.levels}, stride={self.stride}, "
            f"scales={self.scales})"
        )

    @property
    def modality(self) -> str:
        """``"signal"``, ``"image"`` or ``"volume"``."""
        return ("signal", "image", "volume")[self.axes - 1]

    @property
    def fingerprint(self) -> str:
        """Covers all options."""
        return fingerprint("local-statistics", self.spec | {"version": 1})

    @property
    def spec(self) -> dict[str, Any]:
        """Recipe for ``from_spec``."""
        return {
            "type": "local-statistics", "axes": self.axes, "levels": self.levels,
            "stride": self.stride, "scales": self.scales,
        }  # fmt: skip

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> LocalStatistics:
        """Build from ``spec``. Errors: as the class."""
        return cls(**checked_fields("local-statistics", spec, _STATISTICS_FIELDS))

    def open(self, source: Any) -> NDArray[np.float32]:
        """Judge one sample; returns float32 ``(*size, channels)``.

        Raises:
            InputError: It is no array of numbers.
            DimensionMismatch: It has other axes, or is smaller than one cell of the coarsest level.
            NonFinite: It holds NaN or infinity.
        """
        try:
            sample = np.asarray(source, np.float32)
        except (ValueError, TypeError) as error:
            raise InputError("a sample is no array of numbers", got=str(error)[:200]) from error
        if sample.ndim == self.axes:
            sample = sample[..., None]
        least = self.stride * 2 ** (self.levels - 1)
        size = sample.shape[:-1]
        if sample.ndim != self.axes + 1 or min(size, default=0) < least or not sample.shape[-1]:
            raise DimensionMismatch(
                f"a sample cannot be read as {self.modality}, or is smaller than one cell",
                expected=f"{self.axes} axes (and one of channels), each {least} or longer",
                got=f"shape {np.shape(source)}",
                remedy="Give one sample at a time, channels last, or use fewer levels.",
            )
        if not np.isfinite(sample).all():
            bad = np.argwhere(~np.isfinite(sample))[0].tolist()
            raise NonFinite(
                "a sample holds NaN or infinity", expected="finite numbers",
                got=f"{sample[tuple(bad)]} at {tuple(bad)}",
                remedy="Fill in or cut out what is missing.",
            )  # fmt: skip
        return sample

    def encode_pyramids(self, inputs: Sequence[NDArray[Any]]) -> Iterator[Levels]:
        """Encode samples that ``open`` returned."""
        for sample in inputs:
            around = tuple(range(self.axes))
            spread = sample.std(axis=around, keepdims=True)
            scaled = (sample - sample.mean(axis=around, keepdims=True)) / np.where(
                spread > 0, spread, 1
            )
            strides = [self.stride * 2**level for level in reversed(range(self.levels))]
            yield [self._level(scaled.astype(np.float32), stride) for stride in strides]

    def _level(self, sample: Floats, stride: int) -> Floats:
        features = []
        for channel in np.moveaxis(sample, -1, 0):
            for scale in range(self.scales):
                features += self._statistics(channel, stride * 2**scale / 2, stride)
        grid = features[0].shape
        return np.stack([np.ones(grid, np.float32), *features], axis=-1)

    def _statistics(self, channel: Floats, scale: float, stride: int) -> list[Floats]:
        """Value, deviation and derivatives at one scale, at the middle of every cell."""
        from scipy.ndimage import gaussian_filter

        def blurred(values: Floats, order: Sequence[int] = ()) -> Floats:
            """Gaussian derivative, of an order per axis; the Gaussian mean without orders."""
            orders = tuple(order) or (0,) * self.axes
            found: Floats = gaussian_filter(values, scale, orders, mode="nearest", truncate=3.0)
            return found

        mean = blurred(channel)
        deviation = np.sqrt(np.maximum(blurred(channel * channel) - mean * mean, 0))
        found = [mean, deviation]
        found += [
            blurred(channel, order) * np.float32(scale ** sum(order))
            for order in product(range(3), repeat=self.axes)
            if 1 <= sum(order) <= 2
        ]
        return [_sampled(each, stride) for each in found]


def _sampled(values: Floats, stride: int) -> Floats:
    """The values at the middle of every cell; a cell that would be cut in two is left out."""
    for axis in range(values.ndim):
        cells = max(values.shape[axis] // stride, 1)
        middle = ((np.arange(cells) + 0.5) * values.shape[axis] / cells).astype(np.int64)
        values = np.take(values, middle, axis=axis)
    return values
