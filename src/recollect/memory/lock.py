"""One writer at a time, held by the operating system: a killed writer leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path

from recollect.errors import MemoryLocked, WriteFailed

POLL_SECONDS = 0.02
HOLDER_LIMIT = 4096


class WriterLock:
    """An exclusive lock on a file, released by the kernel when its process ends.

    Args:
        path: The lock file; created if missing, never deleted, so no two writers can each
            hold a file of the same name.
        timeout: Seconds to wait for another writer; 0 fails at once.

    Raises:
        MemoryLocked: Another writer holds it; the message names its process and host.
        WriteFailed: The file cannot be opened for writing.
    """

    def __init__(self, path: Path, *, timeout: float = 0.0) -> None:
        self._handle: int | None = None
        try:
            self._handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise WriteFailed(
                f"cannot open the writer's lock {str(path)!r}",
                got=error.strerror,
                remedy="Open the memory with read_only=True, or mend the folder's permissions.",
            ) from error
        try:
            self._wait(path, time.monotonic() + timeout)
            self._write_holder()
        except BaseException:
            self.release()
            raise

    def __del__(self) -> None:
        # A memory that was dropped without close() holds nothing any more.
        self.release()

    def _wait(self, path: Path, deadline: float) -> None:
        assert self._handle is not None
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise MemoryLocked(
                        f"another writer holds the memory at {str(path.parent)!r}",
                        expected="one writer at a time",
                        got=_read_holder(self._handle),
                        remedy="Close that writer, wait for it with timeout=seconds, or open "
                        "with read_only=True: readers are never blocked.",
                    ) from error
                time.sleep(POLL_SECONDS)
            else:
                return

    def _write_holder(self) -> None:
        assert self._handle is not None
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": round(time.time())}
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, json.dumps(holder).encode())

    def release(self) -> None:
        """Give the lock back; harmless when called again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _read_holder(handle: int) -> str:
    """Name the holder from what it wrote; the file's content is never trusted, only shown."""
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        holder = json.loads(os.read(handle, HOLDER_LIMIT))
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder["since"]))
        return f"process {int(holder['pid'])} on host {holder['host']!s}, since {since}"
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return "a process that did not say its name"
