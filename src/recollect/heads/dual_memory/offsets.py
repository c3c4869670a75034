"""Learned offsets of the dual memory: what they are; their training is in `training`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import (
    CorruptMemory,
    DimensionMismatch,
    InputError,
    InvalidParameter,
    MemoryNotFound,
    NonFinite,
    WriteFailed,
)
from recollect.heads.dual_memory.array_files import UNREADABLE, read_arrays
from recollect.heads.dual_memory.ranges import require_choice
from recollect.readout.attention import POSITIONS, Position, mapped
from recollect.types import Doubles

ROLES = ("query", "key", "value", "output", "text")
MAPPED = ("query", "key", "value")
_ACTIVE: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "query": frozenset({"query"}),
    "key": frozenset({"key"}),
    "value": frozenset({"value"}),
    "qkv": frozenset({"query", "key", "value"}),
    "output": frozenset({"output", "text"}),
    "all": frozenset(ROLES),
}


@dataclass(frozen=True, eq=False)
class Offsets:
    """Vectors that are added to queries, keys, values, class vectors and text vectors.

    Args:
        query: float64 ``(classes, dim)``; only the mean over the classes acts.
        key: float64 ``(classes, dim)``.
        value: float64 ``(classes, dim)``.
        output: float64 ``(classes, dim)``.
        text: float64 ``(classes, dim)``.
        position: Which of them act: ``"none"``, ``"query"``, ``"key"``, ``"value"``, ``"qkv"``,
            ``"output"`` (output and text) or ``"all"``.
        maps: Role (``"query"``, ``"key"``, ``"value"``) -> float64 ``(dim, dim)``: the residual
            linear maps of the paper, added to the vector before the offset. The released code
            learns none.

    Rows are in the order of ``classes_``: labels, sorted.

    Raises:
        DimensionMismatch: Arrays of different shapes.
        NonFinite: NaN or infinity.
        InvalidParameter: No such position, or a map of another role.

    Example:
        >>> zero = np.zeros((2, 3))
        >>> Offsets(zero, zero, zero, zero, zero).acts("key")
        True
    """

    query: Doubles
    key: Doubles
    value: Doubles
    output: Doubles
    text: Doubles
    position: Position = "all"
    maps: Mapping[str, Doubles] | None = None

    def __post_init__(self) -> None:
        require_choice("position", self.position, POSITIONS)
        for role in ROLES:
            object.__setattr__(self, role, _numbers(role, getattr(self, role)))
        shapes = {getattr(self, role).shape for role in ROLES}
        if len(shapes) > 1 or self.query.ndim != 2 or not self.query.size:
            raise DimensionMismatch(
                "offsets must have one shape", expected="(classes, dim), at least 1 of each",
                got=sorted(shapes), remedy="Give one row for each class, as wide as a key.",
            )  # fmt: skip
        if not isinstance(self.maps, Mapping | None):
            raise InvalidParameter(
                "maps are no mapping", expected=f"a role such as {MAPPED[0]!r} -> its map",
                got=f"{self.maps!r:.80}", remedy="Pass {'key': array}, or None.",
            )  # fmt: skip
        maps = {role: _numbers(role, each) for role, each in (self.maps or {}).items()}
        side = self.query.shape[1]
        if not maps.keys() <= set(MAPPED) or any(m.shape != (side, side) for m in maps.values()):
            raise InvalidParameter(
                "a map does not fit",
                expected=f"({side}, {side}) for {', '.join(MAPPED)}",
                got={role: each.shape for role, each in maps.items()},
                remedy="Leave maps out, or learn them with Training(affine=True).",
            )
        object.__setattr__(self, "maps", maps)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of classes, and width."""
        return self.query.shape[0], self.query.shape[1]

    def acts(self, role: str) -> bool:
        """Say whether the offsets of this role act at this position."""
        return role in _ACTIVE[self.position]

    def moved(self, role: str, vectors: NDArray[Any]) -> Doubles:
        """Return vectors ``(..., dim)`` with the map and the offset of a role added.

        Offsets of a class are added to its own vectors: ``(classes, ..., dim)``; those of the
        query to all.
        """
        given = np.asarray(vectors, np.float64)
        if not self.acts(role):
            return given
        assert self.maps is not None
        along = mapped(given, self.maps[role]) if role in self.maps else 0.0
        offset = getattr(self, role)
        if role == "query":
            return np.asarray(given + along + np.add.reduce(offset, axis=0) / len(offset))
        return np.asarray(
            given + along + offset.reshape(len(offset), *[1] * (given.ndim - 2), given.shape[-1])
        )

    def save(self, path: str | Path) -> None:
        """Write them to a ``.npz`` file.

        Raises:
            WriteFailed: The disk refused.
        """
        assert self.maps is not None
        arrays = {role: getattr(self, role) for role in ROLES}
        arrays |= {f"map_{role}": each for role, each in self.maps.items()}
        try:
            with Path(path).open("wb") as file:
                np.savez(file, position=np.array(self.position), **arrays)
        except OSError as error:
            raise WriteFailed(
                "the offsets could not be written", expected="a file in a folder that is there",
                got=error, remedy="Make the folder, or free some room.",
            ) from error  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> Offsets:
        """Read a file of :meth:`save`; nothing in it is run.

        Raises:
            InvalidParameter: That is no path.
            MemoryNotFound: There is no such file.
            CorruptMemory: It holds something else.
        """
        place = _existing(path)
        try:
            known = read_arrays(place)
            position = str(known.pop("position"))
            roles = {role: known.pop(role) for role in ROLES}
            maps = {name.removeprefix("map_"): each for name, each in known.items()}
            return cls(**roles, position=position, maps=maps)  # type: ignore[arg-type]
        except (*UNREADABLE, KeyError) as error:
            raise CorruptMemory(
                f"there are no offsets in {str(path)!r}",
                expected="a file written by Offsets.save",
                got=f"{type(error).__name__}: {error}"[:200],
                remedy="Train them again.",
            ) from error


def _existing(path: Any) -> Path:
    try:
        place = Path(path)
    except TypeError as error:
        raise InvalidParameter(
            "this is no path", expected="a path to a file", got=f"{path!r:.80}",
            remedy="Pass the path that was given to save.",
        ) from error  # fmt: skip
    if not place.is_file():
        raise MemoryNotFound(
            f"there is no file at {place}", remedy="Check the path, or train offsets and save them."
        )
    return place


def _numbers(name: str, values: Any) -> Doubles:
    try:
        given = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _not_numbers(name, error) from error
    if given.dtype.kind not in "fiu":
        raise _not_numbers(name, f"{values!r:.80}")
    given = np.ascontiguousarray(given, np.float64)
    if not np.isfinite(given).all():
        raise NonFinite(
            f"the {name} offsets must be finite", expected="no NaN or infinity",
            got=f"{given[~np.isfinite(given)][0]}", remedy="Train them again, at a lower rate.",
        )  # fmt: skip
    return given


def _not_numbers(name: str, got: object) -> InputError:
    return InputError(
        f"the {name} offsets are not numbers", expected="real numbers (classes, dim)", got=got,
        remedy="Pass an array of float64.",
    )  # fmt: skip
