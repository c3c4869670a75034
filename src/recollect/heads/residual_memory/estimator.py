"""What the residual classifier and the residual regressor share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from recollect.encoders.base import Encoder
from recollect.errors import (
    DimensionMismatch,
    EmptyBatch,
    InvalidMetadata,
    InvalidParameter,
    LengthMismatch,
)
from recollect.heads.base import MemoryEstimator
from recollect.heads.keeper import empty_memory
from recollect.heads.residual_memory.bases import Base, Task, as_embedding, as_outputs, ask
from recollect.heads.residual_memory.recalled import Recalled, recall
from recollect.memory.memory import Memory
from recollect.memory.schema import Recorded
from recollect.readout.kernel import check_above_zero, check_strength, kernel_shares
from recollect.readout.voting import check_k, distances
from recollect.types import Doubles, Floats, Ids, Mask, Metric

Source: TypeAlias = Literal["in-sample", "oof"]
Answer = TypeVar("Answer")

# Rows whose k-th neighbor is looked for when the kernel's width is to be the median distance.
SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries, as the base sees them.

    Attributes:
        embedding: float32 ``(queries, dim)``.
        outputs: Logits, float32 ``(queries, classes)``, or numbers, float64.
    """

    embedding: Floats
    outputs: NDArray[Any]


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

    def only(self, queries: Mask) -> Found:
        """Those of some queries."""
        return replace(
            self,
            ids=self.ids[queries],
            similarity=self.similarity[queries],
            own=self.own[queries],
            places=self.places[queries],
        )


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

    _task: Task

    @property
    @abstractmethod
    def _base(self) -> Base:
        """The base, ready to be asked."""

    @abstractmethod
    def _facts(self, outputs: NDArray[Any]) -> dict[str, Any]:
        """What a memory made now records of the base: plain values."""

    @property
    @abstractmethod
    def _reserved(self) -> frozenset[str]:
        """Metadata columns in which the head keeps its own."""

    @abstractmethod
    def _form_of_others(self, memory: Memory) -> dict[str, Any]:
        """The facts of a memory that records none, because it was made elsewhere."""

    @abstractmethod
    def _columns(self, asked: Asked, y: Any, *, anew: bool) -> tuple[NDArray[Any], dict[str, Any]]:
        """Judge the truth; return the values to keep and the metadata that goes with them."""

    @abstractmethod
    def _out_of_fold(self, X: Any, y: Any, keys: Floats) -> Doubles:
        """Outputs of bases that were trained without the row they are asked about.

        The truth is judged first; ``keys`` says how many rows there are.
        """

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
        mine = check_columns(columns["metadata"], reserved=self._reserved)
        known = not anew and self.__sklearn_is_fitted__()
        # What partial_fit adds was not in the base's training rows, so it is out of fold anyhow.
        folded = self.residuals == "oof" and anew and given[1] is None
        asked = self._asked_of(X, *given, answers=not folded)
        if folded:
            asked = Asked(asked.embedding, self._out_of_fold(X, y, asked.embedding))
        self._check_width(asked.embedding, known=known)
        values, extra = self._columns(asked, y, anew=anew)
        self._recording = self._facts(asked.outputs)
        columns = columns | {"metadata": mine | extra}
        return self._keep(asked.embedding, values, columns, anew=anew)

    def _keep(
        self, keys: Floats, values: NDArray[Any], columns: dict[str, Any], *, anew: bool
    ) -> Self:
        """Write judged rows, all of them in one version."""
        earlier = self._taught if not anew and self.__sklearn_is_fitted__() else []
        with self._memory_to_teach(keys, values, columns, anew=anew) as memory:
            self._check_fits(memory)
            self._check_same_form(memory)
            write = memory.replace if anew else memory.add
            taught = write(keys, values, **columns)
            self._adopt(memory)
        earlier.append(taught)
        self._taught = earlier
        return self

    def _check_options(self) -> None:
        check_k(self.k)
        if not (isinstance(self.sigma, str) and self.sigma == "median"):
            check_above_zero("sigma", self.sigma, infinite=True)
        if not isinstance(self.residuals, str) or self.residuals not in ("in-sample", "oof"):
            raise InvalidParameter(
                "residuals are not known",
                expected="'in-sample' or 'oof'",
                got=repr(self.residuals),
                remedy="'in-sample' is the published form.",
            )
        if self.gate is not None and not 0.0 < check_above_zero("gate", self.gate) <= 1.0:
            raise InvalidParameter("gate is out of range", expected="None, or in (0, 1]",
                                   got=self.gate, remedy="Let tune choose it.")  # fmt: skip
        if not (isinstance(self.strength, int | float) and self.strength == 0):
            check_strength(self.strength)
        if not isinstance(self.folds, int | np.integer) or self.folds < 2:
            raise InvalidParameter("folds is out of range", expected="a whole number, at least 2",
                                   got=repr(self.folds), remedy="Leave it out for 5.")  # fmt: skip

    def _check_same_form(self, memory: Memory) -> None:
        """Refuse to add rows to rows that keep what a base said in another form."""
        recorded = memory.encoder_spec or {}
        if "head" not in recorded:
            recorded = self._form_of_others(memory)
        if recorded != self._recording:
            raise InvalidParameter(
                "the rows of this memory keep something else of their base",
                expected=_told(recorded),
                got=_told(self._recording),
                remedy="Set the parameters it was made with, or start a new memory.",
            )

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
        known = self._cache.get("sigma")
        if known is None or known[0] != key:
            known = key, self._steady(lambda: median_distance(memory, self.k))
            self._cache["sigma"] = known
        return float(known[1])

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
            answered = as_outputs(outputs, self._task)
        lengths = {len(part) for part, wanted in ((embedded, keys), (answered, answers)) if wanted}
        if lengths == {0}:
            raise EmptyBatch("there are no rows", remedy="Leave the call out.")
        if len(lengths) > 1:
            raise LengthMismatch(
                "embedding and outputs differ in length",
                expected="one of each for every row",
                got=f"{len(embedded)} and {len(answered)}",
                remedy="Pass arrays of the same rows, in the same order.",
            )
        return Asked(embedded, answered)

    def _steady(self, ask: Callable[[], Answer]) -> Answer:
        """Ask the memory several things, all of one version, whoever writes meanwhile."""
        return self._recall().in_one_version(ask)

    def _find(self, embedding: Floats, k: int | None = None, exclude: Ids | None = None) -> Found:
        """Find the rows near queries; to be called inside :meth:`_steady`."""
        memory = self._recall()
        if not len(memory):
            raise empty_memory()
        rows = self._rows()
        wanted = min(check_k(self.k if k is None else k), len(memory))
        near = memory.search(embedding, wanted, exclude=exclude, values=False)
        return Found(near.ids, near.similarity, near.weights, rows.places(near.ids), rows)

    def _shares(self, near: Found) -> Doubles:
        """Kernel times strength, ``(queries, k)``."""
        apart = distances(near.similarity, "euclidean")
        return np.asarray(kernel_shares(apart, self.sigma_, near.own) * self.strength)

    def _rows(self) -> Recalled:
        labeled = self._task == "classify"
        rows = recall(self._recall(), self._cache.get("rows"), labeled=labeled)
        self._cache["rows"] = rows
        return rows

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, *, embedding: Any = None
    ) -> tuple[Doubles, Ids]:
        """Return the distances, float64, and ids of the nearest rows, both ``(queries, n)``."""
        asked = self._asked_of(X, embedding, None, answers=False)
        near = self._steady(lambda: self._find(asked.embedding, n_neighbors))
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


def check_columns(metadata: Any, *, reserved: frozenset[str]) -> dict[str, Any]:
    """Return the metadata of a call, of which no column is one of the head's own.

    Raises:
        InvalidMetadata: It is, or there are no columns by name.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidMetadata(
            "metadata cannot be read",
            expected="column name -> values",
            got=type(metadata).__name__,
            remedy="Pass a dictionary.",
        )
    taken = sorted(reserved & set(metadata))
    if taken:
        raise InvalidMetadata(
            f"the metadata column {taken[0]!r} is the head's own: it keeps the labels there",
            expected="another name",
            got=repr(taken[0]),
            remedy="Rename the column; the labels themselves are y.",
        )
    return dict(metadata)


def _told(facts: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "head")
    return told if len(told) <= 100 else f"{told[:97]}..."
