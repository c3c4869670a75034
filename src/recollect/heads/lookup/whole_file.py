"""A file that is complete or as it was: written beside, then renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from recollect.errors import WriteFailed


def write_whole(path: str | Path, write: Callable[[BinaryIO], object], what: str) -> None:
    """Make or replace a file; one that was there stays until all of the new one is on the disk.

    Args:
        path: File to make or replace.
        write: Writes it.
        what: Names it in the error: ``"the table"``.

    Raises:
        WriteFailed: The disk refused.
    """
    place, beside = Path(path), Path(f"{path}.new")
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise WriteFailed(f"{what} could not be written: {error}") from error
