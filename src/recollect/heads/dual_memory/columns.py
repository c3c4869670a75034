"""Arguments of a write: names before shots, and ids that tell observed pictures apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import (
    DimensionMismatch,
    InvalidMetadata,
    InvalidParameter,
    LengthMismatch,
)
from recollect.heads.dual_memory.names import as_vectors
from recollect.heads.dual_memory.parts import PART, SERIAL, SHOT, TEXT, Names
from recollect.memory import checks
from recollect.memory.memory import Memory
from recollect.types import Floats, Ids

RESERVED = (PART, SERIAL)
_ROUNDING = 1e-3  # by which a picture encoded twice may differ, of its largest number


def under_names(
    names: Names | None, keys: NDArray[Any], labels: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Text vectors first, then shots."""
    if names is None:
        return keys, labels
    both = np.array([*names.labels, *labels.tolist()], object)
    return np.concatenate([names.vectors, keys]), both


def shot_columns(
    names: Names | None, shots: int, sources: Any, metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Columns of text rows, if there are any, and shots."""
    before = 0 if names is None else len(names.labels)
    columns: dict[str, Any] = {PART: [TEXT] * before + [SHOT] * shots}
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidMetadata(
            "metadata is no mapping", expected="column name -> one value per row",
            got=type(metadata).__name__, remedy="Pass {'place': [...]}.",
        )  # fmt: skip
    for name, given in dict(metadata or {}).items():
        if name in RESERVED:
            raise InvalidMetadata(
                f"the column name {name!r} is taken", expected=f"none of {', '.join(RESERVED)}",
                got=repr(name), remedy="Choose another name.",
            )  # fmt: skip
        columns[name] = [None] * before + list(_each(name, given, shots))
    if sources is not None:
        sources = [None] * before + list(_each("sources", sources, shots))
    return {"ids": None, "sources": sources, "metadata": columns, "weights": None}


def with_names(ids: Ids | None, names: Names | None, memory: Memory) -> Ids | None:
    """Ids of text rows, which no row ever had or is given, and those of the shots."""
    if ids is None or names is None:
        return ids
    first = max(memory.next_id, 1 + int(ids.max(initial=-1)))
    return np.concatenate([counted_up(first, len(names.labels)), ids])


def check_views(given: Any, keys: Floats) -> NDArray[Any]:
    """Return views ``(pictures, views, dim)``, at least one of every picture.

    Raises:
        DimensionMismatch: They have another shape or width.
        LengthMismatch: There are none, or of other pictures.
    """
    views = as_vectors(given, f"(pictures, views, {keys.shape[1]})")
    if views.ndim != 3 or views.shape[2] != keys.shape[1]:
        raise DimensionMismatch(
            "views have the wrong shape", expected=f"(pictures, views, {keys.shape[1]})",
            got=str(views.shape), remedy="Encode the views with the pictures' own encoder.",
        )  # fmt: skip
    if len(views) != len(keys) or not views.shape[1]:
        raise LengthMismatch(
            "there must be views of every picture", expected=f"{len(keys)} times at least one",
            got=f"{views.shape[0]} times {views.shape[1]}",
            remedy="Leave views out: then each picture is its only view.",
        )  # fmt: skip
    return views


def check_first_views(first: Floats, keys: Floats) -> None:
    """Refuse views that are of other pictures; an encoder's batches may differ by roundings."""
    apart = np.abs(first - keys).max(axis=1) > _ROUNDING * np.abs(keys).max(axis=1)
    if apart.any():
        raise InvalidParameter(
            "the first view of a picture is not the picture itself",
            expected="views[:, 0] equal to X",
            got=f"another vector for picture {int(np.flatnonzero(apart)[0])}",
            remedy="Pass views of the same pictures in the same order, the unchanged one first.",
        )


def counted_up(first: int, rows: int) -> Ids:
    """Return ids from one on.

    Raises:
        InvalidParameter: There are not so many.
    """
    if first + rows - 1 > checks.INT64.max:
        raise InvalidParameter(
            "there are no ids left",
            expected=f"ids of at most {checks.INT64.max - rows}",
            got=first - 1,
            remedy="Leave `ids` out to have them counted for you.",
        )
    return first + np.arange(rows, dtype=np.int64)


def _each(name: str, given: Any, rows: int) -> Iterator[Any]:
    if given is None or isinstance(given, str | bytes) or not hasattr(given, "__len__"):
        given = [given] * rows
    if len(given) != rows:
        raise LengthMismatch(
            f"{name} must have one value per row", expected=rows, got=len(given),
            remedy="Give one for each shot, None where there is none, or one for all.",
        )  # fmt: skip
    return iter(given)
