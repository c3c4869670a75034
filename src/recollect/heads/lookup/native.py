"""The exported header compiled on this machine: the fast way to answer, and the test of it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidType, MissingExtra
from recollect.heads.lookup.c_code import write_c
from recollect.heads.lookup.images import check_images
from recollect.heads.lookup.predictor import LookupPredictor

_MAIN = """
#include "lookup.h"
void predict_all(const uint8_t *images, int64_t count, int32_t *classes)
{
    int64_t i;
    for (i = 0; i < count; i++)
        classes[i] = lookup_predict(images + i * LOOKUP_SIDE * LOOKUP_SIDE);
}
"""
_FLAGS = ("-std=c99", "-O2", "-shared", "-fPIC")


class NativeLookup:
    """A table compiled by the C compiler of this machine.

    Args:
        predictor: The table with all an answer takes.
        compiler: Command of a C99 compiler; found when None.
        flags: More options for it, such as ``-march=native``.

    Raises:
        MissingExtra: There is no compiler.
        InvalidParameter: The table cannot be exported; see ``write_c``.
    """

    def __init__(
        self, predictor: LookupPredictor, *, compiler: str | None = None,
        flags: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        command = compiler or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if command is None or shutil.which(command) is None:
            raise MissingExtra(
                "compiling a table needs a C compiler", remedy="Install gcc or clang."
            )
        self.layout, self.classes = predictor.layout, predictor.classes
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            self.sizes = write_c(predictor, place / "lookup.h")
            (place / "main.c").write_text(_MAIN, encoding="ascii")
            library = place / "lookup.so"
            subprocess.run(  # noqa: S603 - the user's compiler, on files written right here
                [command, *_FLAGS, *flags, str(place / "main.c"), "-o", str(library)], check=True
            )
            self.sizes["library"] = library.stat().st_size
            # Loaded before the folder goes; the system keeps the file while it is in use.
            self._call = ctypes.CDLL(str(library)).predict_all
        self._call.restype = None

    def codes(self, images: Any) -> NDArray[np.int32]:
        """Return the class number of each image: ``(n, side, side)``, uint8."""
        pixels = np.ascontiguousarray(check_images(images, self.layout.side))
        if pixels.dtype != np.uint8:
            raise InvalidType(
                "a compiled table reads bytes", expected="uint8 images", got=str(pixels.dtype)
            )
        codes = np.empty(len(pixels), np.int32)
        self._call(
            ctypes.c_void_p(pixels.ctypes.data),
            ctypes.c_int64(len(pixels)),
            ctypes.c_void_p(codes.ctypes.data),
        )
        return codes

    def predict(self, images: Any) -> NDArray[Any]:
        """Return the label of each image ``(n, side, side)``, uint8."""
        return np.asarray(self.classes)[self.codes(images)]
