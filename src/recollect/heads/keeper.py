"""What every estimator that keeps its knowledge in one memory does with that memory.

It opens or makes the memory, holds it, lets rows go, and travels with it. What the rows mean is the
business of the final classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from recollect.errors import MemoryNotFound
from recollect.heads.copies import InProcessCopy, Reference, describe
from recollect.heads.inputs import NotFitted, check_first_rows
from recollect.memory.memory import RAM, Memory
from recollect.memory.schema import Configuration
from recollect.types import Ids

Answer = TypeVar("Answer")


def empty_memory() -> NotFitted:
    """The error for an estimator that was made to forget everything."""
    return NotFitted(
        "the memory is empty",
        expected="at least one row",
        got="none",
        remedy="Teach it with fit or partial_fit.",
    )


class MemoryKeeper(BaseEstimator, ABC):
    """An estimator whose whole knowledge is the rows of one memory, of any kind."""

    encoder: Any
    memory: Memory | str | Path | None
    memory_: Memory
    n_features_in_: int
    _taught: list[Ids]
    _given: Memory | str | Path | None

    @abstractmethod
    def _check_fits(self, memory: Memory) -> None:
        """Refuse a memory that does not hold what this estimator reads."""

    @abstractmethod
    def _creation_options(self, keys: NDArray[Any], values: Any) -> dict[str, Any]:
        """Return what ``Memory.create`` needs for these rows, beside place and encoder."""

    def forget(self, ids: ArrayLike) -> Self:
        """Take rows out: every later answer is as if they had never been taught.

        In a durable memory past versions still hold them; ``memory_.erase(ids)`` removes them
        from the disk too.

        Args:
            ids: Rows to forget, each once, as listed in ``ids_``.

        Returns:
            The estimator.

        Raises:
            UnknownIds: One of them is not there; nothing was forgotten.
        """
        self._recall()
        self._writable().remove(ids)
        return self

    @property
    def ids_(self) -> Ids:
        """int64: ids of the rows that are there now, in the order in which they were given here.

        Behind them, in order of id, rows that came in another way: from another estimator or
        process, or out of a memory that was opened again, which does not say in which order its
        rows were given. Ids that were counted up stand in that order anyhow.
        """
        alive = self._recall().ids
        taught = np.concatenate(self._taught)
        known = taught[np.isin(taught, alive)]
        return np.concatenate([known, np.setdiff1d(alive, known, assume_unique=True)])

    # -- the memory ----------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        """True once something was taught, here or in the durable memory that was given."""
        if "memory_" in self.__dict__ and not self._is_stale():
            return True
        found = self._open_given()
        if found is None:
            return False
        if not len(found):
            self._let_go(found)
            return False
        try:
            self._adopt(found)
        except BaseException:
            self._let_go(found)
            raise
        return True

    def _is_stale(self) -> bool:
        """True if another memory was set since, or the handle opened here was closed."""
        return self._given is not self.memory or (self.memory_.closed and not self._lives_here())

    def _recall(self) -> Memory:
        """Return the memory to ask.

        Raises:
            NotFitted: Nothing was taught yet.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFitted(
                f"This {type(self).__name__} instance is not fitted yet",
                expected="fit, partial_fit, or a memory that holds rows",
                got="none of them",
                remedy="Call fit first, or pass memory= one that was taught.",
            )
        return self.memory_

    def _at_once(self, ask: Callable[[], Answer]) -> Answer:
        """Ask the memory several things of which all see one version of its rows.

        Whatever reads the memory more than once for an answer is asked through this.
        """
        return self._recall().in_one_version(ask)

    def _adopt(self, memory: Memory) -> None:
        """Answer from this memory from now on."""
        self._check_fits(memory)
        # The same memory opened again, or one that travelled, keeps the order; otherwise by id.
        if "_taught" not in self.__dict__ or self.__dict__.get("_given", self.memory) is not (
            self.memory
        ):
            self._taught = [memory.ids]
        self.memory_, self._given = memory, self.memory
        self.n_features_in_ = memory.dim

    def _open_given(self) -> Memory | None:
        """Open what was passed as ``memory=`` for reading; None if there is nothing yet."""
        if isinstance(self.memory, Memory):
            return self.memory
        if self._lives_here():
            return None
        try:
            return Memory.open(self._place, read_only=True, encoder=self._in_use)
        except MemoryNotFound:
            return None

    def _let_go(self, memory: Memory) -> None:
        if memory is not self.memory:
            memory.close()

    @contextmanager
    def _memory_to_teach(
        self, keys: NDArray[Any], values: Any, columns: dict[str, Any], *, anew: bool
    ) -> Iterator[Memory]:
        """The memory to write to; one that was opened for it is closed if the write fails."""
        held = "memory_" in self.__dict__ and not self._is_stale()
        if isinstance(self.memory, Memory):
            yield self.memory
        elif held and not (anew and self._lives_here()):
            yield self._writable()
        else:
            memory = self._open_or_create(keys, values, columns)
            try:
                yield memory
            except BaseException:
                memory.close()
                raise

    def _open_or_create(self, keys: NDArray[Any], values: Any, columns: dict[str, Any]) -> Memory:
        options = self._creation_options(keys, values)
        if self._lives_here():
            return Memory.create(RAM, encoder=self._recorded, **options)
        try:
            return Memory.open(self._place, encoder=self._in_use)
        except MemoryNotFound:
            # Rows that will be refused may not leave an empty memory on the disk.
            check_first_rows(keys, columns, Configuration(**options))
            return Memory.create(self._place, encoder=self._recorded, **options)

    @property
    def _in_use(self) -> Any:
        """The encoder whose keys the memory must hold, or None."""
        return self.encoder

    @property
    def _recorded(self) -> Any:
        """What a new memory records of where its keys come from."""
        return self._in_use

    @property
    def _place(self) -> Any:
        """What was passed as ``memory=``; the memory judges whether it is a path."""
        return self.memory

    def _lives_here(self) -> bool:
        return self.memory is None or str(self.memory) == RAM

    def _writable(self) -> Memory:
        """Return the memory opened for writing, if it was opened here for reading."""
        if self.memory_.read_only and not isinstance(self.memory, Memory):
            memory = Memory.open(self.memory_.uri, encoder=self._in_use)
            self.memory_.close()
            self.memory_ = memory
        return self.memory_

    # -- copies --------------------------------------------------------------------------------

    def __sklearn_clone__(self) -> Self:
        """Copy the parameters; memory and encoder are handles and stay the same."""
        shared = ("memory", "encoder")
        parameters = self.get_params(deep=False)
        return type(self)(
            **{
                name: value if name in shared else clone(value, safe=False)
                for name, value in parameters.items()
            }
        )

    def __getstate__(self) -> dict[str, Any]:
        """Plain arrays of a memory that lives in the process, the path of one that lasts."""
        state = dict(super().__getstate__())
        given, held = state["memory"], state.pop("memory_", None)
        state.pop("_given", None)
        if held is not None and not held.closed:
            state["_taught"] = [self.ids_]
        if isinstance(given, Memory):
            state["memory"] = describe(given)
        elif held is not None and self._lives_here():
            state["memory_"] = describe(held)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if isinstance(state["memory"], InProcessCopy | Reference):
            state["memory"] = state["memory"].build()
        if "memory_" in state:
            state["memory_"] = state["memory_"].build()
            state["_given"] = state["memory"]
        super().__setstate__(state)
