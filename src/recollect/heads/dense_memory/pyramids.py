"""What a feature pyramid must be, judged once, and how its levels lie in a row of the memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.errors import DimensionMismatch, InputError, InvalidParameter, NonFinite
from recollect.readout.grids import Shape
from recollect.types import Floats

MOST_AXES = 3
Precision: TypeAlias = Literal["float32", "float16", "int8"]
PRECISIONS = ("float32", "float16", "int8")


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Features of one sample, coarsest level first.

    Attributes:
        shapes: Sides of the grid of each level.
        features: float32 ``(cells, width)`` of each level, in raster order.
    """

    shapes: tuple[Shape, ...]
    features: tuple[Floats, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of the features of each level."""
        return tuple(level.shape[1] for level in self.features)

    @property
    def axes(self) -> int:
        """Axes of the grids."""
        return len(self.shapes[0])


def check_pyramid(given: Any, name: str, *, widths: Sequence[int] | None = None) -> Pyramid:
    """Judge one pyramid: a list of arrays ``(*grid, width)``, coarsest first.

    Args:
        given: What was passed in.
        name: How an error calls the sample, such as ``"sample 3"``.
        widths: Widths that its levels must have; None accepts any.

    Raises:
        InputError, DimensionMismatch, NonFinite: It cannot be used; the level is named.
    """
    if not isinstance(given, list | tuple) or not given:
        raise InputError(
            f"{name} is no pyramid",
            expected="a list of arrays (*grid, width), coarsest first",
            got="an empty list" if isinstance(given, list | tuple) else type(given).__name__,
            remedy="Pass one list of levels for each sample, or set encoder= to pass images.",
        )
    levels = [_level(each, f"level {at} of {name}") for at, each in enumerate(given)]
    shapes = tuple(level.shape[:-1] for level in levels)
    found = tuple(level.shape[-1] for level in levels)
    if len({len(shape) for shape in shapes}) > 1:
        raise DimensionMismatch(
            f"the levels of {name} have grids of several dimensions",
            expected=f"{len(shapes[0])} axes in every level",
            got=", ".join(map(str, shapes)),
            remedy="Give every level as (*grid, width).",
        )
    _check_order(shapes, name)
    if widths is not None and found != tuple(widths):
        raise _other_widths(name, tuple(widths), found)
    flat = tuple(level.reshape(-1, level.shape[-1]) for level in levels)
    return Pyramid(shapes, flat)


def check_same_axes(pyramid: Pyramid, name: str, axes: int) -> None:
    """Refuse a pyramid whose grids have another number of axes than those taught.

    Raises:
        DimensionMismatch: It has.
    """
    if pyramid.axes != axes:
        raise DimensionMismatch(
            f"{name} has grids of another dimension",
            expected=f"{axes} axes",
            got=f"{pyramid.axes} axes",
            remedy="Keep signals, images and volumes in memories of their own.",
        )


def _level(given: Any, name: str) -> Floats:
    try:
        level = np.asarray(given)
    except ValueError as error:
        raise InputError(f"{name} is no array", got=str(error)) from error
    if level.dtype.kind not in "fiub" or not 2 <= level.ndim <= MOST_AXES + 1 or not level.size:
        raise DimensionMismatch(
            f"{name} cannot be read as features",
            expected=f"numbers of shape (*grid, width), a grid of 1 to {MOST_AXES} axes",
            got=f"{level.dtype} of shape {level.shape}",
            remedy="Put the channels last and leave the batch axis out.",
        )
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(level, np.float32)
    if not np.isfinite(features).all():
        bad = np.argwhere(~np.isfinite(features))[0]
        raise NonFinite(
            f"{name} holds NaN or infinity",
            expected="finite features",
            got=f"{features[tuple(bad)]} at cell {tuple(bad[:-1].tolist())}, number {bad[-1]}",
            remedy="Fill in or cut out what is missing before features are computed.",
        )
    return features


def _check_order(shapes: Sequence[Shape], name: str) -> None:
    for at, (coarse, fine) in enumerate(pairwise(shapes), start=1):
        if any(small > large for small, large in zip(coarse, fine, strict=True)):
            raise DimensionMismatch(
                f"level {at} of {name} is coarser than the level before it",
                expected=f"no side shorter than those of {coarse}",
                got=f"{fine}",
                remedy="Give the coarsest level first.",
            )


def _other_widths(name: str, expected: tuple[int, ...], got: tuple[int, ...]) -> InputError:
    if len(expected) != len(got):
        return DimensionMismatch(
            f"{name} has another number of levels",
            expected=len(expected),
            got=len(got),
            remedy="Use pyramids of the same extractor for teaching and asking.",
        )
    level = next(
        at for at, pair in enumerate(zip(expected, got, strict=True)) if pair[0] != pair[1]
    )
    return DimensionMismatch(
        f"level {level} of {name} has features of another width",
        expected=expected[level],
        got=got[level],
        remedy="Use pyramids of the same extractor for teaching and asking.",
    )


def check_precision(value: Any) -> Precision:
    """Return how features are kept; raises ``InvalidParameter`` for an unknown way."""
    if value not in PRECISIONS:
        raise InvalidParameter(
            "precision is not known",
            expected=f"one of {', '.join(PRECISIONS)}",
            got=repr(value),
            remedy="Leave it out for float32.",
        )
    precision: Precision = value
    return precision


def pack(
    pyramid: Pyramid,
    kept: Sequence[NDArray[np.int64] | None],
    precision: Precision,
    name: str = "the sample",
) -> dict[str, NDArray[Any]]:
    """Write the levels of a sample as named arrays, the value of a row.

    Args:
        pyramid: The sample.
        kept: Per level the cells that are kept, ascending, or None for all.
        precision: ``"int8"`` keeps each cell with a scale of its own.
        name: How an error calls the sample.

    Returns:
        ``shapes`` int64 ``(levels, axes)``, and per level ``features_i`` ``(cells, width)``,
        ``cells_i`` int32 where only some are kept, and ``scale_i`` float32 for int8.

    Raises:
        NonFinite: Features lie beyond what float16 holds; the level is named.
    """
    arrays: dict[str, NDArray[Any]] = {"shapes": np.array(pyramid.shapes, np.int64)}
    for at, (level, cells) in enumerate(zip(pyramid.features, kept, strict=True)):
        rows: NDArray[Any] = level if cells is None else level[cells]
        if cells is not None:
            arrays[f"cells_{at}"] = cells.astype(np.int32)
        if precision == "int8":
            rows, arrays[f"scale_{at}"] = _in_bytes(rows)
        elif precision == "float16":
            _check_range(rows, f"level {at} of {name}")
        arrays[f"features_{at}"] = rows.astype(np.dtype(precision), copy=False)
    return arrays


def _in_bytes(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Whole numbers from -127 to 127, and what each row is to be multiplied with."""
    most, least = float(np.finfo(np.float32).max) / 127, np.finfo(np.float32).smallest_subnormal
    largest = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
    # At both ends of float32 a scale may neither vanish nor lead out of the range again.
    scale = np.where(largest > 0, np.clip(largest / 127, least, most), 1).astype(np.float32)
    scale = np.where(scale.astype(np.float64) > most, np.nextafter(scale, np.float32(0)), scale)
    with np.errstate(under="ignore"):
        numbers = np.rint(rows / scale[:, None])
    return np.clip(numbers, -127, 127).astype(np.int8), scale


def _check_range(rows: Floats, name: str) -> None:
    most = float(np.finfo(np.float16).max)
    largest = float(np.abs(rows).max(initial=0.0))
    if largest > most:
        raise NonFinite(
            f"{name} lies beyond what float16 holds",
            expected=f"features from -{most:,.0f} to {most:,.0f}",
            got=f"{largest:g}",
            remedy="Set precision='float32' or 'int8', or scale the features down.",
        )


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """One level of a sample as it was kept.

    Attributes:
        shape: Sides of the whole grid.
        cells: int64, ascending: the cells that were kept, or None for all.
        features: float32 ``(cells kept, width)``.
    """

    shape: Shape
    cells: NDArray[np.int64] | None
    features: Floats


def unpack(arrays: Mapping[str, NDArray[Any]]) -> list[StoredLevel]:
    """Read the levels of a sample back from the value of its row."""
    levels = []
    for at, shape in enumerate(arrays["shapes"].tolist()):
        features = arrays[f"features_{at}"].astype(np.float32, copy=False)
        if f"scale_{at}" in arrays:
            features = features * arrays[f"scale_{at}"][:, None]
        cells = arrays.get(f"cells_{at}")
        kept = None if cells is None else cells.astype(np.int64)
        levels.append(StoredLevel(tuple(shape), kept, features))
    return levels


def whole(arrays: Mapping[str, NDArray[Any]], row: int) -> Pyramid:
    """The pyramid of a row that was kept without gaps.

    Raises:
        InvalidParameter: Only some of its cells were kept.
    """
    levels = unpack(arrays)
    if any(level.cells is not None for level in levels):
        raise InvalidParameter(
            f"row {row} is sparse and cannot be asked about",
            expected="a sample taught with sparse_levels=0", got="a sparse one",
            remedy="Pass inputs to ask about instead.",
        )  # fmt: skip
    return Pyramid(
        tuple(level.shape for level in levels), tuple(level.features for level in levels)
    )
