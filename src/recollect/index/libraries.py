"""Small compiled libraries, where they were built: ``native/<name>.c`` with its headers.

Each is used by one head alone, and lies beside the kernel of the exact search so that a kernel
that was built before stays good.
"""

from __future__ import annotations

import ctypes
import os
import zlib
from typing import Any

from recollect.index.kernel import NATIVE, SWITCH

# Headers that belong to a source.
HEADERS = {"refine": ("fold.h",)}


def find_library(name: str, wish: str | None = None) -> Any:
    """Load a library.

    None where it was not built or was built from another source, or with ``RECOLLECT_KERNEL=off``.

    Args:
        name: Of its source, which has a function ``<name>_source``.
        wish: ``"off"`` for none; None for what ``RECOLLECT_KERNEL`` says.
    """
    built = NATIVE / f"_{name}.so"
    if (os.environ.get(SWITCH, "") if wish is None else wish) == "off" or not built.is_file():
        return None
    try:
        library = ctypes.CDLL(str(built))
        mark = getattr(library, f"{name}_source")
    except (OSError, AttributeError):
        return None
    mark.restype = ctypes.c_char_p
    return library if mark().decode() == source_mark(name) else None


def source_mark(name: str) -> str:
    """Number of the sources that lie beside the library, as ``hatch_build.py`` forms it."""
    names = (f"{name}.c", *HEADERS.get(name, ()))
    text = b"".join((NATIVE / file).read_bytes().replace(b"\r\n", b"\n") for file in names)
    return f"{zlib.crc32(text):08x}"
