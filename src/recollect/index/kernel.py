"""The compiled kernel, where there is one: loaded once, called without the interpreter lock.

It is a plain C library without anything of Python in it, built with the package where a compiler is
(docs/decisions/0010-compiled-kernel.md). ``RECOLLECT_KERNEL=off`` leaves it alone, and the name of
a set of instructions (``avx2``, ...) makes it use that one.
"""

from __future__ import annotations

import ctypes
import os
import zlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.types import Doubles

NATIVE = Path(__file__).with_name("native")
LIBRARY = NATIVE / "_kernel.so"
SOURCES = (
    "kernel.h", "search.h", "tiles.h", "fold.h", "lanes.c", "threads.c", "intake.c", "search.c",
    "decide.c",
)  # fmt: skip
SWITCH = "RECOLLECT_KERNEL"
PAIR, GROUP = 32, 16  # rows that the kernel scores together, and of one group of codes
MOST_VIRTUAL = 12  # in every set of instructions; arrays of queries are padded by as much
METRICS = ("cosine", "dot", "euclidean", "manhattan")
DTYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.uint8): 2}

_WHOLE = ctypes.c_int64
_AT = ctypes.c_void_p


class Space(ctypes.Structure):
    """What all rows and queries share."""

    _fields_ = (("center", _AT), ("weights", _AT), ("dim", _WHOLE), ("metric", _WHOLE))


class Request(ctypes.Structure):
    """One call of ``recollect_search``; the fields are explained in ``native/search.h``."""

    _fields_ = (
        *((name, _WHOLE) for name in ("lanes", "threads", "count", "k", "planes", "room")),
        ("block_count", _WHOLE),
        ("space", ctypes.POINTER(Space)),
        *((name, _AT) for name in ("blocks", "queries", "sizes", "gain", "shift")),
        *((name, _AT) for name in ("barred_starts", "barred", "plain", "reach", "blur", "slack")),
        *((name, _AT) for name in ("weights", "ids", "similarity", "given_up")),
        ("rescored", _WHOLE),
    )


class Choice(ctypes.Structure):
    """One call of ``recollect_choose``; the fields are explained in ``native/decide.c``."""

    _fields_ = (
        *((name, _WHOLE) for name in ("lanes", "threads", "count", "k", "width")),
        ("space", ctypes.POINTER(Space)),
        *((name, _AT) for name in ("queries", "sizes", "names", "keys", "dtypes", "lengths")),
        *((name, _AT) for name in ("ids", "similarity")),
    )


ROW_POINTERS = (
    *("codes", "alpha", "term", "rho", "sigma", "tau"),
    *("group_rho", "group_sigma", "group_tau", "keys", "ids", "sizes"),
)
BLOCK = np.dtype(
    [(name, np.int64) for name in ("rows", "start")]
    + [(name, np.uint64) for name in (*ROW_POINTERS, "out")]
    + [("dtype", np.int64)]
)
"""A ``Block`` of ``native/kernel.h``."""


@dataclass(frozen=True)
class Kernel:
    """The functions of the library.

    Attributes:
        library: What was loaded.
        lanes: Number of the set of instructions in use.
        name: Its name.
    """

    library: Any
    lanes: int
    name: str

    def measure(self, space: SpaceArrays, rows: NDArray[Any], sizes: Doubles, threads: int) -> None:
        """Write the sizes of rows, with the bits of ``scoring.measure``."""
        self._check(
            self.library.recollect_measure(
                _WHOLE(self.lanes),
                ctypes.byref(space.pointers),
                _AT(rows.ctypes.data),
                _WHOLE(DTYPES[rows.dtype]),
                _WHOLE(len(rows)),
                _AT(sizes.ctypes.data),
                _WHOLE(threads),
            )
        )

    def quantize(
        self,
        space: SpaceArrays,
        rows: NDArray[Any],
        sizes: Doubles,
        regular: NDArray[Any] | None,
        span: range,
        codes: NDArray[np.uint8],
        terms: list[NDArray[np.float32]],
        threads: int,
    ) -> None:
        """Write the codes and terms of the rows in ``span``."""
        pointers = (_AT * len(terms))(*(term.ctypes.data for term in terms))
        self._check(
            self.library.recollect_quantize(
                _WHOLE(self.lanes),
                ctypes.byref(space.pointers),
                _AT(rows.ctypes.data),
                _WHOLE(DTYPES[rows.dtype]),
                _AT(sizes.ctypes.data),
                _AT(None if regular is None else regular.ctypes.data),
                _WHOLE(span.start),
                _WHOLE(span.stop),
                _AT(codes.ctypes.data),
                pointers,
                _WHOLE(threads),
            )
        )

    def search(self, request: Request) -> None:
        """Answer the queries of a request that the first pass can answer."""
        request.lanes = self.lanes
        self._check(self.library.recollect_search(ctypes.byref(request)))

    def exhaust(self, request: Request) -> None:
        """Answer the queries of a request from every pair."""
        request.lanes = self.lanes
        self._check(self.library.recollect_exhaust(ctypes.byref(request)))

    def choose(self, choice: Choice) -> None:
        """Score candidates and keep the best of each query."""
        choice.lanes = self.lanes
        self._check(self.library.recollect_choose(ctypes.byref(choice)))

    @staticmethod
    def _check(failed: int) -> None:
        if failed:
            raise MemoryError


@dataclass(frozen=True, eq=False)
class SpaceArrays:
    """A ``Space`` with the arrays it points to.

    Args:
        metric: One of ``types.METRICS``.
        dim: Width of a key.
        center: float32 ``(dim,)``.
        weights: float64 ``(dim,)`` or None.
    """

    metric: str
    dim: int
    center: NDArray[np.float32]
    weights: Doubles | None
    pointers: Space = field(init=False)

    def __post_init__(self) -> None:
        space = Space(
            self.center.ctypes.data,
            None if self.weights is None else self.weights.ctypes.data,
            self.dim,
            METRICS.index(self.metric),
        )
        object.__setattr__(self, "pointers", space)


@dataclass(frozen=True)
class Found:
    """What there is of the kernel.

    Attributes:
        kernel: The kernel to use, or None.
        known: Sets of instructions it was built for and this processor has, best first.
        reason: Why there is no kernel, or why this one.
    """

    kernel: Kernel | None
    known: tuple[str, ...]
    reason: str


@cache
def find(wish: str | None = None) -> Found:
    """Load the kernel, once.

    Args:
        wish: Name of a set of instructions; ``"off"`` for no kernel; None for what
            ``RECOLLECT_KERNEL`` says, or the best.
    """
    wish = os.environ.get(SWITCH, "") if wish is None else wish
    if wish == "off":
        return Found(None, (), f"it was switched off ({SWITCH}=off)")
    if not LIBRARY.is_file():
        return Found(None, (), "it was not built: there was no C compiler at installation")
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as problem:
        return Found(None, (), f"it cannot be loaded: {problem}")
    library.recollect_source.restype = library.recollect_lanes.restype = ctypes.c_char_p
    if library.recollect_source().decode() != source_mark():
        return Found(None, (), "it was built from other sources; run `python hatch_build.py`")
    known = _known(library)
    if wish and wish not in known:
        return Found(None, known, f"{SWITCH} asks for {wish!r}, which this processor lacks")
    number = known.index(wish) if wish else 0
    reason = f"{SWITCH} asks for it" if wish else "the best that this processor has"
    return Found(Kernel(library, number, known[number]), known, reason)


def _known(library: Any) -> tuple[str, ...]:
    names: list[str] = []
    while (name := library.recollect_lanes(_WHOLE(len(names)))) is not None:
        names.append(name.decode())
    return tuple(names)


def source_mark() -> str:
    """Number of the sources that lie beside the library, as ``hatch_build.py`` forms it."""
    text = b"".join((NATIVE / name).read_bytes().replace(b"\r\n", b"\n") for name in SOURCES)
    return f"{zlib.crc32(text):08x}"
