"""What the residual classifier and the residual regressor share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from recollect.encoders.base import Encoder
from recollect.errors import DimensionMismatch, InputError, InvalidParameter, LengthMismatch
from recollect.heads.base import MemoryEstimator
from recollect.heads.keeper import empty_memory
from recollect.heads.residual_memory.bases import Base, as_embedding, as_outputs, ask
from recollect.heads.residual_memory.recalled import Recalled, recall
from recollect.memory.memory import Memory
from recollect.memory.schema import Recorded
from recollect.readout.kernel import check_above_zero, kernel_shares
from recollect.readout.voting import check_k, distances
from recollect.types import Doubles, Floats, Ids, Metric

Source: TypeAlias = Literal["in-sample", "oof"]

# Rows whose k-th neighbor is looked for when the kernel's width is to be the median distance.
SAMPLE = 1000
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries, as the base sees them.

    Attributes:
        embedding: float32 ``(queries, dim)``.
        outputs: float64 ``(queries, ...)``.
    """

    embedding: Floats
    outputs: Doubles


@dataclass(frozen=True, slots=True)
class Found:
    """Neighbors, and the rows they are.

    Attributes:
        ids: int64 ``(queries, k)``.
        similarity: float32 ``(queries, k)``: minus the Euclidean distance.
        own: float64 ``(queries, k)``: weights of the rows themselves.
        places: Positions among the rows recalled.
        rows: These rows.
    """

    ids: Ids
    similarity: Floats
    own: Doubles
    places: NDArray[np.intp]
    rows: Recalled


class ResidualEstimator(MemoryEstimator):
    """A trained model, and a memory of what it got wrong."""

    base: Any
    embedding: Any
    k: int
    sigma: float | Literal["median"]
    residuals: Source
    gate: float | None
    strength: float
    folds: int
    metric: Metric = "euclidean"
    encoder: Encoder | None = None
    _derived: dict[str, Any]

    @property
    @abstractmethod
    def _base(self) -> Base:
        """The base, ready to be asked."""

    @abstractmethod
    def _facts(self, outputs: Doubles) -> dict[str, Any]:
        """What a memory made now records of the base: plain values."""

    @abstractmethod
    def _columns(self, asked: Asked, y: Any, *, anew: bool) -> tuple[NDArray[Any], dict[str, Any]]:
        """Judge the truth; return the values to keep and the metadata that goes with them."""

    @abstractmethod
    def _out_of_fold(self, X: Any, y: Any) -> Doubles:
        """Outputs of bases that were trained without the row they are asked about."""

    # -- teaching ------------------------------------------------------------------------------

    def _teach_residuals(
        self,
        X: Any,
        y: Any,
        *,
        anew: bool,
        given: tuple[Any, Any],
        columns: dict[str, Any],
    ) -> Self:
        self._check_options()
        known = not anew and self.__sklearn_is_fitted__()
        earlier = self._taught if known else []
        # What partial_fit adds was not in the base's training rows, so it is out of fold anyhow.
        folded = self.residuals == "oof" and anew and given[1] is None
        asked = self._asked_of(X, *given, answers=not folded)
        if folded:
            asked = Asked(asked.embedding, self._out_of_fold(X, y))
        self._check_width(asked.embedding, known=known)
        values, extra = self._columns(asked, y, anew=anew)
        columns = columns | {"metadata": {**(columns["metadata"] or {}), **extra}}
        self._recording = self._facts(asked.outputs)
        with self._memory_to_teach(asked.embedding, values, columns, anew=anew) as memory:
            self._check_fits(memory)
            write = memory.replace if anew else memory.add
            taught = write(asked.embedding, values, **columns)
            self._adopt(memory)
        earlier.append(taught)
        self._taught = earlier
        return self

    def _check_options(self) -> None:
        check_k(self.k)
        if not (isinstance(self.sigma, str) and self.sigma == "median"):
            check_above_zero("sigma", self.sigma, infinite=True)
        if self.residuals not in {"in-sample", "oof"}:
            raise InvalidParameter(
                "residuals are not known",
                expected="'in-sample' or 'oof'",
                got=repr(self.residuals),
                remedy="'in-sample' is the published form.",
            )
        if self.gate is not None and not 0.0 < check_above_zero("gate", self.gate) <= 1.0:
            raise InvalidParameter("gate is out of range", expected="None, or in (0, 1]",
                                   got=self.gate, remedy="Let tune choose it.")  # fmt: skip
        if self.strength != 0:
            check_above_zero("strength", self.strength)
        if check_k(self.folds) < 2:
            raise InvalidParameter("folds is out of range", expected="at least 2", got=self.folds)

    def _check_width(self, embedding: Floats, *, known: bool) -> None:
        if known and embedding.shape[1] != self.memory_.dim:
            raise DimensionMismatch(
                "the embedding changed its width",
                expected=f"{self.memory_.dim}, as in the rows taught before",
                got=embedding.shape[1],
                remedy="Name the same layer of the same base, or fit anew.",
            )

    # -- asking --------------------------------------------------------------------------------

    @property
    def sigma_(self) -> float:
        """Width of the kernel in use.

        With ``sigma="median"`` the median distance of a row to its k-th neighbor, over up to 1,000
        rows spread evenly over the memory.
        """
        if self.sigma != "median":
            return check_above_zero("sigma", self.sigma, infinite=True)
        memory = self._recall()
        key = (memory.version, check_k(self.k))
        if self._cache.get("sigma_of") != key:
            self._cache.update(sigma_of=key, sigma=median_distance(memory, self.k))
        return float(self._cache["sigma"])

    def _asked_of(
        self, X: Any, embedding: Any, outputs: Any, *, keys: bool = True, answers: bool = True
    ) -> Asked:
        """Ask the base for what was not given beside X."""
        wants = answers and outputs is None
        needs = keys and embedding is None
        embedded, answered = np.empty((0, 0), np.float32), np.empty((0, 0))
        if wants or needs:
            embedded, answered = ask(self._base, X, embedding=needs, outputs=wants)
        if embedding is not None:
            embedded = as_embedding(embedding)
        if outputs is not None:
            answered = as_outputs(outputs)
        lengths = {len(part) for part in (embedded, answered) if part.size}
        if len(lengths) > 1:
            raise LengthMismatch(
                "embedding and outputs differ in length",
                expected="one of each for every row",
                got=f"{len(embedded)} and {len(answered)}",
                remedy="Pass arrays of the same rows, in the same order.",
            )
        return Asked(embedded, answered)

    def _find(self, embedding: Floats, k: int | None = None, exclude: Ids | None = None) -> Found:
        """Find the rows near queries; rows and neighbors are of one version."""
        memory = self._recall()
        if not len(memory):
            raise empty_memory()
        for _ in range(ATTEMPTS):
            rows = self._rows()
            wanted = min(check_k(self.k if k is None else k), max(1, len(memory)))
            near = memory.search(embedding, wanted, exclude=exclude, values=False)
            places = rows.places(near.ids)
            if places is not None:
                return Found(near.ids, near.similarity, near.weights, places, rows)
        raise InputError("the memory changes while it is asked", remedy="Ask again.")

    def _shares(self, near: Found) -> Doubles:
        """Kernel times strength, ``(queries, k)``."""
        apart = distances(near.similarity, "euclidean")
        return np.asarray(kernel_shares(apart, self.sigma_, near.own) * self.strength)

    def _rows(self) -> Recalled:
        rows = recall(self._recall(), self._cache.get("rows"))
        self._cache["rows"] = rows
        return rows

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, *, embedding: Any = None
    ) -> tuple[Doubles, Ids]:
        """Return the distances, float64, and ids of the nearest rows, both ``(queries, n)``."""
        asked = self._asked_of(X, embedding, None, answers=False)
        near = self._find(asked.embedding, n_neighbors)
        return distances(near.similarity, "euclidean"), near.ids

    # -- the memory ----------------------------------------------------------------------------

    @property
    def _recorded(self) -> Recorded:
        """The base's classes and how much of its logits is kept; keys are not fingerprinted."""
        return Recorded(None, getattr(self, "_recording", None))

    @property
    def _cache(self) -> dict[str, Any]:
        """What was derived from the rows; may be thrown away at any time."""
        if "_derived" not in self.__dict__:
            self._derived = {}
        memory = self.__dict__.get("memory_")
        if self._derived.get("memory") is not memory:
            self._derived = {"memory": memory}
        return self._derived

    def _adopt(self, memory: Memory) -> None:
        super()._adopt(memory)
        del self.n_features_in_  # the width of X is the base's affair
        if hasattr(self.base, "n_features_in_"):
            self.n_features_in_ = self.base.n_features_in_

    def __sklearn_clone__(self) -> Self:
        """Copy the parameters; the base stays the trained one, the memory the same."""
        shared = ("base", "embedding", "memory")
        parameters = self.get_params(deep=False)
        return type(self)(
            **{
                name: value if name in shared else clone(value, safe=False)
                for name, value in parameters.items()
            }
        )

    def __getstate__(self) -> dict[str, Any]:
        """What is derived does not travel."""
        state = super().__getstate__()
        state.pop("_derived", None)
        return state


def median_distance(memory: Memory, k: int) -> float:
    """Median distance of rows to their k-th neighbor; of the farthest where there are fewer."""
    ids = memory.ids
    if len(ids) < 2:
        return 1.0
    some = ids[:: max(1, -(-len(ids) // SAMPLE))]
    keys = memory.rows(some).keys
    near = memory.search(keys, min(k, len(ids) - 1), exclude=some, values=False)
    apart = distances(near.similarity[:, -1:], "euclidean")[:, 0]
    median = float(np.median(apart))
    if median > 0.0:
        return median
    above = apart[apart > 0.0]
    return float(above.min()) if len(above) else 1.0


def taught_columns(
    ids: ArrayLike | None,
    weights: ArrayLike | None,
    sources: Any,
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The columns of a call, by name."""
    return {"ids": ids, "weights": weights, "sources": sources, "metadata": metadata}
