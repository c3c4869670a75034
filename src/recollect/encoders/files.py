"""Opening files that somebody else has named."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; folders, pipes and devices are refused.

    Raises:
        OSError: It cannot be opened, or is no regular file; ``strerror`` says which.
    """
    # A pipe would block for ever while it is opened, and a device need never end.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except ValueError as error:
        # A null byte in the name.
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder", os.fspath(path))
    raise OSError(errno.EINVAL, "something other than a file", os.fspath(path))
