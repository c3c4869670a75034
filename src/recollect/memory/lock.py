"""One writer at a time, held by the operating system: a killed writer leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from recollect.errors import MemoryLocked, WriteFailed

POLL_SECONDS = 0.02
HOLDER_LIMIT = 4096


_locks: WeakSet[WriterLock] = WeakSet()


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
        _locks.add(self)
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._handle = os.open(path, flags, 0o644)
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
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise MemoryLocked(
                        f"another writer holds the memory at {str(path.parent)!r}",
                        expected="one writer at a time",
                        got=_read_holder(self._handle),
                        remedy="Close that writer, wait for it with timeout=seconds, or open "
                        "with read_only=True: readers are never blocked.",
                    ) from error
                time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
            except OSError as error:
                raise WriteFailed(
                    f"the file system of {str(path.parent)!r} cannot lock files",
                    got=error.strerror,
                    remedy="Keep the memory on a local disk, or open it with read_only=True.",
                ) from error
            else:
                return

    def _write_holder(self) -> None:
        assert self._handle is not None
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": round(time.time())}
        with suppress(OSError):  # a full disk must not keep anyone from removing rows
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, json.dumps(holder).encode(), 0)

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


def _let_go_in_a_fork() -> None:
    """Close the copies that a fork inherits, or they would hold the lock after their owner."""
    for lock in list(_locks):
        lock.release()


os.register_at_fork(after_in_child=_let_go_in_a_fork)
