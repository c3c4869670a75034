"""Many may search while nobody writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Gate:
    """A lock that any number of readers share and a writer has alone; a waiting writer is next.

    A thread that holds it must not ask for it again.

    Example:
        >>> gate = Gate()
        >>> with gate.shared():
        ...     pass
        >>> with gate.alone():
        ...     pass
    """

    def __init__(self) -> None:
        self._halls: dict[int, _Hall] = {}  # of each process: see ``locks``

    def _hall(self) -> _Hall:
        process = os.getpid()
        return self._halls.get(process) or self._halls.setdefault(process, _Hall())

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it together with other readers."""
        hall = self._hall()
        with hall.changed:
            hall.changed.wait_for(lambda: not (hall.writing or hall.waiting))
            hall.readers += 1
        try:
            yield
        finally:
            with hall.changed:
                hall.readers -= 1
                hall.changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold it with nobody else."""
        hall = self._hall()
        with hall.changed:
            hall.waiting += 1
            try:
                hall.changed.wait_for(lambda: not (hall.writing or hall.readers))
            finally:
                hall.waiting -= 1
            hall.writing = True
        try:
            yield
        finally:
            with hall.changed:
                hall.writing = False
                hall.changed.notify_all()


class _Hall:
    """Who is in, and who waits."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.readers = self.waiting = 0
        self.writing = False
