"""Learned offsets of the dual memory: what they are; their training is in `training`."""

from __future__ import annotations

import zipfile
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
    NonFinite,
)
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
        if self.position not in POSITIONS:
            raise InvalidParameter(
                "no such position of offsets",
                expected=f"one of {', '.join(POSITIONS)}",
                got=repr(self.position),
                remedy="Leave it at 'all'.",
            )
        for role in ROLES:
            object.__setattr__(self, role, _numbers(role, getattr(self, role)))
        shapes = {getattr(self, role).shape for role in ROLES}
        if len(shapes) > 1 or self.query.ndim != 2:
            raise DimensionMismatch(
                "offsets must have one shape", expected="(classes, dim)", got=sorted(shapes)
            )
        maps = {role: _numbers(role, each) for role, each in (self.maps or {}).items()}
        side = self.query.shape[1]
        if not maps.keys() <= set(MAPPED) or any(m.shape != (side, side) for m in maps.values()):
            raise InvalidParameter(
                "a map does not fit",
                expected=f"({side}, {side}) for {', '.join(MAPPED)}",
                got={role: each.shape for role, each in maps.items()},
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
        """Write them to a ``.npz`` file."""
        assert self.maps is not None
        arrays = {role: getattr(self, role) for role in ROLES}
        arrays |= {f"map_{role}": each for role, each in self.maps.items()}
        with Path(path).open("wb") as file:
            np.savez(file, position=np.array(self.position), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Offsets:
        """Read a file of :meth:`save`; nothing in it is run.

        Raises:
            CorruptMemory: It is no such file.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                known = {name: arrays[name] for name in arrays.files}
            position = str(known.pop("position"))
            roles = {role: known.pop(role) for role in ROLES}
            maps = {name.removeprefix("map_"): each for name, each in known.items()}
            return cls(**roles, position=position, maps=maps)  # type: ignore[arg-type]
        except FileNotFoundError:
            raise
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise CorruptMemory(
                f"there are no offsets in {str(path)!r}",
                expected="a file written by Offsets.save",
                got=f"{type(error).__name__}: {error}"[:200],
                remedy="Train them again.",
            ) from error


def _numbers(name: str, values: Any) -> Doubles:
    try:
        given = np.ascontiguousarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the {name} offsets are not numbers", got=error) from error
    if not np.isfinite(given).all():
        raise NonFinite(f"the {name} offsets must be finite", expected="no NaN or infinity")
    return given
