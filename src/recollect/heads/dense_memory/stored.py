"""Rows of a memory, judged before they are read: a memory may come from anyone.

Whatever a row holds, only ``InvalidParameter`` leaves, and nothing large is allocated before sizes
were compared with those of the arrays that are there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.dense_memory.pyramids import MOST_AXES, PRECISIONS
from recollect.readout.grids import Shape, parents

Arrays = Mapping[str, NDArray[Any]]


def check_row(arrays: Arrays, name: str, keeps: str) -> None:
    """Refuse a row that no head for dense prediction wrote.

    Args:
        arrays: What the row holds.
        name: How an error calls it, such as ``"row 3"``.
        keeps: ``"mask"`` or ``"target"``: what its pixels answer with.

    Raises:
        InvalidParameter: An array is missing, of another kind or shape than the others want, or
            holds numbers that cannot be used.
    """
    _require(name, arrays, "shapes", "size", keeps, *(["labels"] if keeps == "mask" else []))
    shapes = _shapes(arrays["shapes"], name)
    _check_size(arrays["size"], shapes[-1], name)
    check = _check_mask if keeps == "mask" else _check_target
    check(arrays, shapes[-1], name)
    _require(name, arrays, *(f"features_{level}" for level in range(len(shapes))))
    for level, shape in enumerate(shapes):
        _check_level(arrays, level, shape, name)
    for level in range(1, len(shapes)):
        _check_kept(arrays, level, shapes, name)


def check_alike(name: str, what: str, expected: object, got: object) -> None:
    """Refuse a row that does not go with those before it.

    Raises:
        InvalidParameter: It does not.
    """
    if expected != got:
        raise _unusable(name, f"{what} as in the rows before, {expected}", got)


def _require(name: str, arrays: Arrays, *wanted: str) -> None:
    missing = [each for each in wanted if each not in arrays]
    if missing:
        raise _unusable(name, f"arrays {', '.join(map(repr, wanted))}", ", ".join(sorted(arrays)))


def _shapes(given: NDArray[Any], name: str) -> list[Shape]:
    fits = given.dtype.kind in "iu" and given.ndim == 2 and 1 <= given.shape[1] <= MOST_AXES
    if not fits or not len(given) or not (given >= 1).all():
        raise _unusable(name, "sides of the grids, whole numbers (levels, axes)", _about(given))
    shapes: list[Shape] = [tuple(shape) for shape in given.tolist()]
    for coarse, fine in pairwise(shapes):
        if any(small > large for small, large in zip(coarse, fine, strict=True)):
            raise _unusable(name, f"a grid no smaller than {coarse} on the next level", fine)
    return shapes


def _check_size(given: NDArray[Any], grid: Shape, name: str) -> None:
    sides = given.tolist() if given.ndim == 1 else None
    fits = given.dtype.kind in "iu" and (not sides or len(sides) == len(grid))
    if sides is None or not fits or any(s < g for s, g in zip(sides, grid, strict=False)):
        raise _unusable(name, f"a size of at least {grid}, or none", _about(given))


def _check_covers(got: Shape, arrays: Arrays, grid: Shape, name: str) -> None:
    size = tuple(arrays["size"].tolist())
    covers = len(got) == len(grid) and all(s >= g for s, g in zip(got, grid, strict=True))
    if not covers or (size and got != size):
        raise _unusable(name, f"pixels of shape {size or f'{grid} or larger'}", got)


def _check_mask(arrays: Arrays, grid: Shape, name: str) -> None:
    mask, labels = arrays["mask"], arrays["labels"]
    _check_covers(mask.shape, arrays, grid, name)
    fits = labels.dtype.kind in "iu" and labels.ndim == 1 and len(labels)
    if not fits or int(labels.min()) < 0 or not (labels[1:] > labels[:-1]).all():
        raise _unusable(name, "labels from 0 on, ascending, each once", _about(labels))
    if mask.dtype.kind != "u" or int(mask.max()) > len(labels):
        raise _unusable(name, f"a mask of codes from 0 to {len(labels)}", _about(mask))


def _check_target(arrays: Arrays, grid: Shape, name: str) -> None:
    target = arrays["target"]
    _check_covers(target.shape[:-1], arrays, grid, name)
    if target.dtype.kind != "f" or not target.shape[-1] or np.isinf(target).any():
        raise _unusable(name, "a target of finite numbers, NaN for none", _about(target))


def _check_level(arrays: Arrays, level: int, shape: Shape, name: str) -> None:
    features, scale = arrays[f"features_{level}"], arrays.get(f"scale_{level}")
    cells = arrays.get(f"cells_{level}")
    count = math.prod(shape) if cells is None else cells.size
    usable = features.dtype.name in PRECISIONS and features.ndim == 2 and features.shape[1]
    if not usable or len(features) != count:
        raise _unusable(name, f"{count} cells with features on level {level}", _about(features))
    if not np.isfinite(features).all():
        raise _unusable(name, f"finite features on level {level}", "NaN or infinity")
    if (scale is None) != (features.dtype != np.int8):
        raise _unusable(name, f"scales on level {level} with int8, and only then", features.dtype)
    if scale is None:
        return
    if (features < -127).any():
        raise _unusable(name, f"bytes from -127 to 127 on level {level}", -128)
    fits = scale.dtype.kind == "f" and scale.shape == (count,)
    with np.errstate(over="ignore", invalid="ignore"):
        if not fits or (scale < 0).any() or not np.isfinite(scale * np.float32(127)).all():
            raise _unusable(name, f"{count} finite scales on level {level}", _about(scale))


def _check_kept(arrays: Arrays, level: int, shapes: list[Shape], name: str) -> None:
    """Cells that were kept hang on cells that were; below a level with gaps all have gaps."""
    if "cells_0" in arrays:
        raise _unusable(name, "all cells of the coarsest level", "some of them")
    cells, above = arrays.get(f"cells_{level}"), arrays.get(f"cells_{level - 1}")
    if cells is None and above is None:
        return
    if cells is None:
        raise _unusable(name, f"some cells of level {level}, as of the one before", "all of them")
    count = math.prod(shapes[level])
    fits = cells.dtype.kind in "iu" and cells.ndim == 1 and cells.size
    if not fits or int(cells[0]) < 0 or int(cells[-1]) >= count or (cells[1:] <= cells[:-1]).any():
        raise _unusable(name, f"cells from 0 to {count - 1}, ascending", _about(cells))
    if above is None:
        return
    hang_on = parents(shapes[level], shapes[level - 1])[cells]
    if not np.isin(hang_on, above).all():
        raise _unusable(name, f"cells of level {level} whose parents were kept", "others too")


def _about(given: NDArray[Any]) -> str:
    return f"{given.dtype} of shape {given.shape}, {given.ravel()[:4].tolist()!r:.60}"


def _unusable(name: str, expected: str, got: object) -> InvalidParameter:
    return InvalidParameter(
        f"{name} of the memory does not hold what a head for dense prediction reads",
        expected=expected, got=f"{got!s:.120}",
        remedy="Give a memory that was taught by this estimator, or forget that row.",
    )  # fmt: skip
