"""What every estimator over one memory does: teach it, ask it, make it forget, travel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags

from recollect.encoders.base import Encoder
from recollect.encoders.batching import encode_all
from recollect.errors import InvalidParameter, MemoryNotFound
from recollect.heads.copies import InProcessCopy, Reference, describe
from recollect.heads.inputs import NotFitted, check_features, check_first_rows
from recollect.heads.selection import Grid, Scoring, TuningReport, choose
from recollect.memory.memory import RAM, Memory
from recollect.memory.schema import Configuration
from recollect.readout.voting import VoteRule, check_k, distances
from recollect.types import Doubles, Ids, Metric, Neighbors, ValueKind

# Rows whose keys are read at once when the memory is asked about itself.
BLOCK = 4096


def within(k: int, memory: Memory) -> int:
    """Return k, or how many rows there are: more neighbors would only be empty places."""
    return min(k, max(1, len(memory)))


def empty_memory() -> NotFitted:
    """The error for an estimator that was made to forget everything."""
    return NotFitted(
        "the memory is empty",
        expected="at least one row",
        got="none",
        remedy="Teach it with fit or partial_fit.",
    )


class MemoryEstimator(BaseEstimator, ABC):
    """An estimator whose whole knowledge is the rows of one memory.

    Final classes set ``k``, ``metric``, ``encoder`` and ``memory`` in their constructor.
    """

    k: int
    metric: Metric
    encoder: Encoder | None
    memory: Memory | str | Path | None
    memory_: Memory
    n_features_in_: int
    _taught: list[Ids]
    _given: Memory | str | Path | None

    @property
    @abstractmethod
    def _kind(self) -> ValueKind:
        """What the rows hold."""

    @abstractmethod
    def _check_options(self) -> None:
        """Refuse parameters out of range."""

    @abstractmethod
    def _rule(self) -> VoteRule:
        """Return how neighbors are weighed."""

    @abstractmethod
    def _truth(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values as the readout compares them: class codes, or the numbers themselves."""

    @abstractmethod
    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        """Return one value per row of X."""

    # -- teaching ------------------------------------------------------------------------------

    def _teach(
        self,
        X: Any,
        y: Any,
        *,
        anew: bool,
        ids: ArrayLike | None,
        weights: ArrayLike | None,
        sources: Any,
        metadata: Mapping[str, Any] | None,
    ) -> Self:
        self._check_options()
        check_k(self.k)
        columns = {"ids": ids, "weights": weights, "sources": sources, "metadata": metadata}
        known = not anew and self.__sklearn_is_fitted__()
        earlier = self._taught if known else []
        with self._width_unchanged_on_error():
            keys = self._keys(X, reset=not known)
            values = self._check_targets(X, y)
            with self._memory_to_teach(keys, values, columns, anew=anew) as memory:
                self._check_fits(memory)
                write = memory.replace if anew else memory.add
                taught = write(keys, values, **columns)
                self._adopt(memory)
        earlier.append(taught)
        self._taught = earlier
        return self

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

    # -- asking --------------------------------------------------------------------------------

    def kneighbors(
        self,
        X: Any = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,  # noqa: FBT001, FBT002 - scikit-learn's signature
    ) -> tuple[Doubles, Ids] | Ids:
        """Find the nearest rows, in the form of scikit-learn.

        Args:
            X: Queries; None asks for the neighbors of every row in ``ids_``, itself excluded.
            n_neighbors: How many; ``k`` when None. Where the memory holds fewer, all it holds.
            return_distance: Whether to return the distances too.

        Returns:
            Distances, float64 ``(queries, n)``, and row ids, int64 ``(queries, n)``; or only the
            ids. Cosine distance is 1 - cosine; for the dot product it is how far a row lies behind
            the nearest one.
        """
        count = check_k(self.k if n_neighbors is None else n_neighbors)
        memory = self._recall()
        if X is None:
            others = len(memory) - 1
            near = [self._around(ids, max(1, min(count, others))) for ids in self._blocks()]
            ids = np.concatenate([part.ids for part in near])[:, :others]
            similarity = np.concatenate([part.similarity for part in near])[:, :others]
        else:
            found = self._search(X, count)
            ids, similarity = found.ids, found.similarity
        return (distances(similarity, memory.metric), ids) if return_distance else ids

    @property
    def ids_(self) -> Ids:
        """int64: ids of the rows that are there now, in the order in which they were given."""
        memory = self._recall()
        taught = np.concatenate(self._taught)
        return taught[np.isin(taught, memory.ids)]

    def _search(self, X: Any, k: int) -> Neighbors:
        """Find the k nearest rows of each query.

        Raises:
            NotFitted: Nothing was taught yet, or everything was forgotten.
        """
        memory = self._recall()
        near = memory.search(self._keys(X), within(check_k(k), memory))
        if near.ids[0, 0] < 0:
            raise empty_memory()
        return near

    def _around(self, ids: Ids, k: int) -> Neighbors:
        """Find the neighbors of rows of the memory, each row itself excluded."""
        return self.memory_.search(self.memory_.rows(ids).keys, k, exclude=ids)

    def _blocks(self) -> list[Ids]:
        """Ids of all rows in the order given, some thousands at a time."""
        ids = self.ids_
        if not len(ids):
            raise empty_memory()
        return [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]

    def _keys(self, X: Any, *, reset: bool = False) -> NDArray[Any]:
        if self.encoder is None:
            return check_features(self, X, reset=reset)
        if not isinstance(self.encoder, Encoder):
            raise InvalidParameter(
                "this is no encoder",
                expected="an object with dim, modality, fingerprint, spec and encode",
                got=f"{self.encoder!r:.80}",
                remedy="Build one with recollect.encoders, for example HogEncoder().",
            )
        if "memory_" in self.__dict__:
            self.memory_.check_encoder(self.encoder)  # its rows may have been given other keys
        return encode_all(self.encoder, X).keys

    def _asked(self, X: Any) -> tuple[Memory, NDArray[Any]]:
        """The memory, which holds rows, and the keys of the queries."""
        self._check_options()
        memory = self._recall()
        if not len(memory):
            raise empty_memory()
        return memory, self._keys(X)

    def _tuned(
        self,
        X: Any,
        y: Any,
        grid: Grid,
        scoring: Any,
        allowed: tuple[Scoring, ...],
        *,
        rule_name: str,
    ) -> TuningReport:
        """Score the grid, on the memory's own rows or on those given, and set the best."""
        if scoring not in allowed:
            raise InvalidParameter(
                "scoring is not known",
                expected=f"one of {', '.join(allowed)}",
                got=repr(scoring),
                remedy=f"Leave it out for {allowed[0]!r}.",
            )
        self._recall()
        blocks = self._own_answers(grid) if X is None else self._given_answers(X, y, grid)
        report = choose(blocks, grid, scoring, self.metric)
        best = report.best
        chosen: dict[str, Any] = {rule_name: best.rule, "k": best.k}
        if best.parameter is not None:
            chosen[best.parameter] = best.value
        self.set_params(**chosen)
        return report

    def _own_answers(self, grid: Grid) -> Iterator[tuple[Neighbors, NDArray[Any]]]:
        if len(self.memory_) < 2:
            raise InvalidParameter(
                "leaving one row out leaves nothing to ask",
                expected="at least two rows",
                got=len(self.memory_),
                remedy="Teach more rows, or pass X and y set aside for tuning.",
            )
        for ids in self._blocks():
            yield (
                self._around(ids, within(grid.ks[-1], self.memory_)),
                self._truth(self.memory_.rows(ids).values),
            )

    def _given_answers(
        self, X: Any, y: Any, grid: Grid
    ) -> Iterator[tuple[Neighbors, NDArray[Any]]]:
        keys, truth = self._keys(X), self._truth(self._check_targets(X, y))
        most = within(grid.ks[-1], self.memory_)
        for start in range(0, len(keys), BLOCK):
            part = slice(start, start + BLOCK)
            yield self.memory_.search(keys[part], most), truth[part]

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

    def _check_fits(self, memory: Memory) -> None:
        if memory.value not in (("label",) if self._kind == "label" else ("number", "vector")):
            raise InvalidParameter(
                f"the memory does not hold what {type(self).__name__} reads",
                expected=f"value={self._kind!r}",
                got=f"value={memory.value!r}",
                remedy="MemoryClassifier reads labels, MemoryRegressor numbers and vectors.",
            )
        if memory.metric != self.metric:
            raise InvalidParameter(
                "the memory compares keys in another way",
                expected=f"metric={memory.metric!r}",
                got=f"metric={self.metric!r}",
                remedy=f"Pass metric={memory.metric!r}, or start a new memory.",
            )
        memory.check_encoder(self.encoder)

    def _open_given(self) -> Memory | None:
        """Open what was passed as ``memory=`` for reading; None if there is nothing yet."""
        if isinstance(self.memory, Memory):
            return self.memory
        if self._lives_here():
            return None
        try:
            return Memory.open(self._place, read_only=True, encoder=self.encoder)
        except MemoryNotFound:
            return None

    def _let_go(self, memory: Memory) -> None:
        if memory is not self.memory:
            memory.close()

    @contextmanager
    def _memory_to_teach(
        self, keys: NDArray[Any], values: NDArray[Any], columns: dict[str, Any], *, anew: bool
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

    def _open_or_create(
        self, keys: NDArray[Any], values: NDArray[Any], columns: dict[str, Any]
    ) -> Memory:
        wide = values.shape[1] if values.ndim == 2 else None
        options: dict[str, Any] = {
            "dim": keys.shape[1],
            "metric": self.metric,
            "value": self._kind if wide is None else "vector",
            "value_dim": wide,
        }
        if self._lives_here():
            return Memory.create(RAM, encoder=self.encoder, **options)
        try:
            return Memory.open(self._place, encoder=self.encoder)
        except MemoryNotFound:
            # Rows that will be refused may not leave an empty memory on the disk.
            check_first_rows(keys, columns, Configuration(**options))
            return Memory.create(self._place, encoder=self.encoder, **options)

    @property
    def _place(self) -> Any:
        """What was passed as ``memory=``; the memory judges whether it is a path."""
        return self.memory

    def _lives_here(self) -> bool:
        return self.memory is None or str(self.memory) == RAM

    def _writable(self) -> Memory:
        """Return the memory opened for writing, if it was opened here for reading."""
        if self.memory_.read_only and not isinstance(self.memory, Memory):
            memory = Memory.open(self.memory_.uri, encoder=self.encoder)
            self.memory_.close()
            self.memory_ = memory
        return self.memory_

    @contextmanager
    def _width_unchanged_on_error(self) -> Iterator[None]:
        """A call that raised leaves what scikit-learn keeps of X as it was."""
        names = ("n_features_in_", "feature_names_in_")
        before = {name: self.__dict__[name] for name in names if name in self.__dict__}
        try:
            yield
        except BaseException:
            for name in names:
                self.__dict__.pop(name, None)
            self.__dict__.update(before)
            raise

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if self.encoder is not None:
            tags.input_tags.two_d_array = False
            tags.input_tags.string = self.encoder.modality == "text"
        return tags

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
