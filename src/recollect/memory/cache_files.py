"""How a cache is written: into a new file of our own, never through a link that was put there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def begin(path: Path) -> BinaryIO:
    """Open a new, empty file for writing, which is to replace a cache when it is whole.

    What lies there is an earlier attempt that did not end, or a link in a folder that someone sent:
    it is removed, and nothing is written to where it leads.

    Raises:
        OSError: The disk refused.
    """
    path.unlink(missing_ok=True)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o644), "wb")
