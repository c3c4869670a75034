"""Which way a search takes, and why: the compiled kernel, torch, or NumPy alone.

All give the same answers, bit for bit. ``RECOLLECT_SEARCH`` names one; else the fastest that is
there is taken.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from recollect.errors import InvalidParameter
from recollect.index import calibration, kernel
from recollect.index.coarse import Coarse
from recollect.index.compiled import Engine
from recollect.index.kernel import Kernel
from recollect.index.scope import Limits
from recollect.index.tensors import TensorEngine

SWITCH = "RECOLLECT_SEARCH"
PATHS = ("auto", "kernel", "cuda", "torch", "numpy")


@dataclass(frozen=True)
class Choice:
    """The way that was picked.

    Attributes:
        path: ``"kernel"``, ``"cuda"``, ``"torch"`` or ``"numpy"``.
        reason: Why it was picked.
        kernel: The compiled functions, where it is ``"kernel"``.
    """

    path: str
    reason: str
    kernel: Kernel | None = None


def choose(wish: str | None = None) -> Choice:
    """Pick a way.

    Args:
        wish: ``"auto"``, a way, or ``"kernel:avx2"`` for a set of instructions; None for what
            ``RECOLLECT_SEARCH`` says. ``"auto"`` takes what ``recollect doctor --calibrate`` found
            fastest on this machine; where that was not asked, the kernel if there is one, else
            NumPy: torch takes seconds to import, and is slower for a large k.

    Raises:
        InvalidParameter: There is no such way, or not here.

    Example:
        >>> choose("numpy").path
        'numpy'
    """
    named = (os.environ.get(SWITCH) or "auto") if wish is None else wish
    if named == "auto":
        return _chosen_here()
    path, _, lanes = named.partition(":")
    if path not in PATHS:
        raise InvalidParameter(
            "unknown way to search", expected=f"one of {', '.join(PATHS)}", got=repr(named)
        )
    if path != "kernel":
        return Choice(path, "it was asked for")
    found = kernel.find(lanes or None)
    if found.kernel is None:
        raise InvalidParameter(
            "the compiled kernel is not here",
            expected="a kernel that was built and fits this processor",
            got=found.reason,
            remedy="Leave the choice to the library, or install a C compiler and build it.",
        )
    return Choice("kernel", f"{found.kernel.name}: {found.reason}", found.kernel)


def _chosen_here() -> Choice:
    found = kernel.find()
    measured = _measured()
    if measured is not None and not os.environ.get(kernel.SWITCH):
        path, _, lanes = measured.partition(":")
        chosen = kernel.find(lanes).kernel if path == "kernel" else None
        return Choice(path, f"the fastest when measured here: {measured}", chosen)
    if found.kernel is not None:
        return Choice("kernel", f"{found.kernel.name}: {found.reason}", found.kernel)
    return Choice("numpy", f"no compiled kernel: {found.reason}")


@cache
def _measured() -> str | None:
    """What was measured, read once."""
    return calibration.remembered(calibration.folder())


def make_engine(choice: Choice, coarse: Coarse) -> Engine | TensorEngine | None:
    """Make what a search goes through; None for NumPy.

    Raises:
        MissingExtra: torch was asked for and is not installed.
        InvalidParameter: A GPU was asked for and there is none.
    """
    if choice.kernel is not None:
        return Engine(choice.kernel, coarse)
    if choice.path in {"cuda", "torch"}:
        return TensorEngine(coarse, "cpu" if choice.path == "torch" else "cuda")
    return None


def forget_measured() -> None:
    """Read again what was measured, when it is asked for next."""
    _measured.cache_clear()


def threads() -> int:
    """How many threads a search uses, unless its ``Limits`` say otherwise."""
    return Limits().cores
