"""Which way a search takes, and why: the compiled kernel, torch, or NumPy alone.

All give the same answers, bit for bit. ``RECOLLECT_SEARCH`` names one; else the fastest that is
there is taken.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from recollect.errors import InvalidParameter
from recollect.index import kernel
from recollect.index.kernel import Kernel

SWITCH = "RECOLLECT_SEARCH"
PATHS = ("auto", "kernel", "numpy")


@dataclass(frozen=True)
class Choice:
    """The way that was picked.

    Attributes:
        path: ``"kernel"`` or ``"numpy"``.
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
            ``RECOLLECT_SEARCH`` says.

    Raises:
        InvalidParameter: There is no such way, or not here.

    Example:
        >>> choose("numpy").path
        'numpy'
    """
    wish = (os.environ.get(SWITCH) or "auto") if wish is None else wish
    path, _, lanes = wish.partition(":")
    if path not in PATHS:
        raise InvalidParameter(
            "unknown way to search", expected=f"one of {', '.join(PATHS)}", got=repr(wish)
        )
    if path == "numpy":
        return Choice("numpy", "it was asked for")
    found = kernel.find(lanes or None)
    if found.kernel is not None:
        return Choice("kernel", f"{found.kernel.name}: {found.reason}", found.kernel)
    if path == "kernel":
        raise InvalidParameter(
            "the compiled kernel is not here",
            expected="a kernel that was built and fits this processor",
            got=found.reason,
            remedy="Leave the choice to the library, or install a C compiler and build it.",
        )
    return Choice("numpy", f"there is no compiled kernel: {found.reason}")
