"""What every estimator over one memory does: teach it, ask it, make it forget, travel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags

from recollect.encoders.base import Encoder
from recollect.encoders.batching import encode_all
from recollect.errors import InvalidParameter
from recollect.heads.inputs import check_features
from recollect.heads.keeper import MemoryKeeper, empty_memory
from recollect.heads.selection import Grid, Scoring, TuningReport, choose
from recollect.memory.memory import Memory
from recollect.readout.voting import VoteRule, check_k, distances
from recollect.types import Doubles, Ids, Metric, Neighbors, ValueKind

# Rows whose keys are read at once when the memory is asked about itself.
BLOCK = 4096


def within(k: int, memory: Memory) -> int:
    """Return k, or how many rows there are: more neighbors would only be empty places."""
    return min(k, max(1, len(memory)))


class MemoryEstimator(MemoryKeeper):
    """An estimator whose whole knowledge is the rows of one memory.

    Final classes set ``k``, ``metric``, ``encoder`` and ``memory`` in their constructor.
    """

    k: int
    metric: Metric
    encoder: Encoder | None

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

    def _creation_options(self, keys: NDArray[Any], values: Any) -> dict[str, Any]:
        wide = values.shape[1] if values.ndim == 2 else None
        return {
            "dim": keys.shape[1],
            "metric": self.metric,
            "value": self._kind if wide is None else "vector",
            "value_dim": wide,
        }

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
