"""Locks that a fork cannot leave locked: each process has its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Any


class ProcessLock:
    """A lock that is free in a child process, whoever held it when the process was forked.

    A child has a copy of every lock, but not of the threads that would let go of it. What such a
    lock guards must be sound at every moment, not only when the lock is free.

    Args:
        make: Makes the lock of a process.

    Example:
        >>> lock = ProcessLock()
        >>> with lock:
        ...     pass
    """

    def __init__(self, make: Callable[[], Any] = Lock) -> None:
        self._make = make
        self._locks: dict[int, Any] = {}

    def __enter__(self) -> None:
        process = os.getpid()
        lock = self._locks.get(process)
        if lock is None:  # one of several threads that come at once has its lock kept
            lock = self._locks.setdefault(process, self._make())
        lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._locks[os.getpid()].release()
