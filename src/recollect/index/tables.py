"""The compiled search of lookup tables, where there is one; see ``native/tables.c``.

A library of its own beside the kernel of the exact search: it is used by one head alone, and a
kernel that was built before stays good.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.index.libraries import find_library
from recollect.types import Codes

_WHOLE = ctypes.c_int64
_AT = ctypes.c_void_p


class Part(ctypes.Structure):
    """Rows of one part of a table; the fields are explained in ``native/tables.c``."""

    _fields_ = (
        ("words", _WHOLE), ("rows", _WHOLE), ("prices", _AT), ("keys", _AT), ("centers", _AT),
        ("node_start", _AT), ("child", _AT), ("leaf_start", _AT), ("leaf_rows", _AT),
        ("pivots", _AT), ("reach", _AT), ("beam", _WHOLE), ("slack", _WHOLE),
    )  # fmt: skip


class Replay(ctypes.Structure):
    """Everything a whole answer takes; the fields are explained in ``native/tables.c``."""

    _fields_ = (
        *((name, _WHOLE) for name in ("side", "cells", "patches", "steps", "levels", "per_step")),
        ("front", _WHOLE), ("words", _WHOLE),
        *((name, _AT) for name in ("cell_sides", "limits", "parts", "starts", "states", "places")),
        ("begin", _AT), ("column", _WHOLE), ("row", _WHOLE), ("answers", _AT),
        ("classes", _WHOLE), ("vote", _WHOLE),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Packed:
    """A structure with the arrays it points to, which live as long as it does."""

    structure: ctypes.Structure
    arrays: tuple[Any, ...] = field(repr=False)


def point(kind: type[ctypes.Structure], **fields: Any) -> Packed:
    """Fill a structure; arrays become pointers, None a null pointer."""
    values: dict[str, Any] = {}
    held = []
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            block = np.ascontiguousarray(value)
            held.append(block)
            values[name] = block.ctypes.data
        else:
            values[name] = value
    return Packed(kind(**values), tuple(held))


@dataclass(frozen=True)
class Tables:
    """The functions of the library."""

    library: Any

    def nearest(self, part: Packed, queries: NDArray[np.uint64], k: int) -> tuple[Codes, ...]:
        """Return rows and distances ``(n, k)``, and the comparisons ``(n,)``."""
        asked, n = np.ascontiguousarray(queries), len(queries)
        out = np.empty((n, k), np.int64), np.empty((n, k), np.int64), np.empty(n, np.int64)
        self._call(self.library.tables_nearest, part, asked, n, k, out)
        return out

    def replay(
        self, whole: Packed, images: NDArray[np.uint8], steps: int, k: int
    ) -> tuple[Codes, ...]:
        """Return rows and distances ``(n, steps, k)``, and the comparisons ``(n, steps)``."""
        asked, n = np.ascontiguousarray(images), len(images)
        wide = (n, steps, k)
        out = np.empty(wide, np.int64), np.empty(wide, np.int64), np.empty((n, steps), np.int64)
        self._call(self.library.tables_replay, whole, asked, n, k, out)
        return out

    def votes(self, whole: Packed, images: NDArray[np.uint8], classes: int, k: int) -> Codes:
        """Return the votes of images by class, ``(n, classes)``, and nothing else."""
        votes = np.empty((len(images), classes), np.int64)
        asked = np.ascontiguousarray(images)
        self._call(self.library.tables_votes, whole, asked, len(images), k, (votes,))
        return votes

    @staticmethod
    def _call(
        function: Any, packed: Packed, asked: NDArray[Any], n: int, k: int, out: tuple[Codes, ...]
    ) -> None:
        pointers = [_AT(block.ctypes.data) for block in out]
        if function(
            ctypes.byref(packed.structure), _AT(asked.ctypes.data), _WHOLE(n), _WHOLE(k), *pointers
        ):
            raise MemoryError


@cache
def find_tables(wish: str | None = None) -> Tables | None:
    """Load the library, once.

    None where it was not built or was built from another source, or with ``RECOLLECT_KERNEL=off``.

    Args:
        wish: ``"off"`` for none; None for what ``RECOLLECT_KERNEL`` says.
    """
    library = find_library("tables", wish)
    return None if library is None else Tables(library)
