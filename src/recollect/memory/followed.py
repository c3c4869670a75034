"""What is computed from the rows of a memory and brought from one version to the next.

Such a state is a value: it is never changed in place. The next one is computed from the last, and
takes its place only when it is known that everything was read from one version. So whatever writes
meanwhile, and wherever a computation stops, there is a whole state of a version that was.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import RLock
from typing import Any, Generic, Protocol, TypeVar

from recollect.memory.memory import Memory


class OfVersion(Protocol):
    """A state that says which version of the memory it is of."""

    @property
    def version(self) -> int:
        """The version; -1 for none."""
        ...


State = TypeVar("State", bound=OfVersion)


class Followed(Generic[State]):
    """The last whole state, and how it becomes the next.

    Args:
        memory: The rows.
        first: The state before anything was read, of version -1.

    Example:
        >>> from typing import NamedTuple
        >>> class Count(NamedTuple):
        ...     version: int
        ...     rows: int
        >>> memory = Memory.create(":memory:", dim=1)
        >>> count = Followed(memory, Count(-1, 0))
        >>> count.now(lambda last: Count(memory.version, len(memory)))
        Count(version=0, rows=0)
        >>> ids = memory.add([[1]], ["cat"])
        >>> count.last, count.now(lambda last: Count(memory.version, len(memory)))
        (Count(version=0, rows=0), Count(version=1, rows=1))
    """

    def __init__(self, memory: Memory, first: State) -> None:
        self.memory, self.last = memory, first
        self._turn = RLock()

    def now(self, step: Callable[[State], State]) -> State:
        """The state of the memory's version.

        Args:
            step: Computes it from the last one, which it leaves as it is.
        """
        last = self.last
        if last.version == self.memory.version:
            return last
        with one_at_a_time(self.memory, self._turn):
            last = self.last
            if last.version == self.memory.version:
                return last
            state = self.memory.in_one_version(lambda: step(last))
            self.last = state
            return state


def one_at_a_time(memory: Memory, turn: Any) -> AbstractContextManager[Any]:
    """Let one thread compute what others then find ready.

    The thread for which the memory is held still takes no turn: who has it may be waiting for the
    memory.
    """
    return nullcontext() if memory.held_still else turn
