"""The values that pass between the layers: neighbors, explanations, receipts, versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Ids: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Label: TypeAlias = str | int

Metric: TypeAlias = Literal["cosine", "dot", "euclidean", "manhattan"]
METRICS: tuple[Metric, ...] = ("cosine", "dot", "euclidean", "manhattan")

ValueKind: TypeAlias = Literal["label", "number", "vector", "arrays"]
VALUE_KINDS: tuple[ValueKind, ...] = ("label", "number", "vector", "arrays")


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The rows recalled for a batch of queries, nearest first, ties by smaller id.

    Attributes:
        ids: int64 ``(queries, k)``. Row ids; ``-1`` where fewer than k rows qualify.
        similarity: float32 ``(queries, k)``. Larger is nearer: the cosine in [-1, 1], the dot
            product, or minus the Euclidean / Manhattan distance. ``-inf`` where empty.
        values: ``(queries, k)``. Labels (object array of str, or int64), numbers (float64), or
            ``(queries, k, width)`` float32 vectors. Where empty: ``None``, ``-1``, NaN.
        weights: float64 ``(queries, k)``. Row weights; 0 where empty.
        codes: int64 ``(queries, k)`` or None. Index of each label in ``classes``; ``-1`` where
            empty. Only for memories of labels.
        classes: Labels alive in the memory, sorted, or None: ``classes[codes]`` are the values.

    Example:
        >>> near = Neighbors(
        ...     ids=np.array([[7, -1]]),
        ...     similarity=np.array([[0.9, -np.inf]], np.float32),
        ...     values=np.array([["cat", None]], object),
        ...     weights=np.array([[1.0, 0.0]]),
        ... )
        >>> near.found
        array([[ True, False]])
    """

    ids: Ids
    similarity: Floats
    values: NDArray[Any]
    weights: Doubles
    codes: Codes | None = None
    classes: NDArray[Any] | None = None

    @property
    def found(self) -> Mask:
        """Bool ``(queries, k)``: True where a real row was recalled."""
        return self.ids >= 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Rows:
    """Whole rows of a memory, as columns of equal length, in the order they were asked for.

    Attributes:
        ids: int64 ``(rows,)``.
        keys: ``(rows, dim)``, the bits that were added, in the memory's dtype.
        values: Labels (object array of str, or int64), float64 numbers, float32
            ``(rows, width)`` vectors, or an object array of dicts of named arrays.
        weights: float64 ``(rows,)``.
        sources: Where each row came from, or None.
        metadata: Column name -> one value per row, None where absent.
    """

    ids: Ids
    keys: NDArray[Any]
    values: NDArray[Any]
    weights: Doubles
    sources: list[str | None]
    metadata: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One row behind an answer.

    Attributes:
        id: Row id.
        value: The row's label, number or vector.
        similarity: Larger is nearer.
        weight: The row's own weight in the memory.
        contribution: What the row adds to the score it supports. For a classifier the
            contributions of the rows of one label sum to that label's score, and all of them
            to 1; for a regressor they sum to the prediction.
        source: Where the row came from, if it was recorded.
        metadata: The row's metadata columns.
    """

    id: int
    value: Any
    similarity: float
    weight: float
    contribution: Any
    source: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one query got its answer.

    Attributes:
        prediction: The answer.
        score: The answer's score: its share of the vote in [0, 1], or the predicted value.
        shares: Share of the vote of every label that got one, largest first; empty for a
            regressor.
        evidence: The rows that were read, nearest first.
        counterfactual: The smallest set of row ids found whose removal changes the answer, sorted;
            empty when no removal among the rows read changes it.
        changed_to: The answer after that removal, or None.
        minimal: True when every smaller set was tried and leaves the answer as it is.
        base: What a trained model below the memory adds to the score, before the rows, whose
            contributions are added to it from the nearest on; None where there is no such model.
    """

    prediction: Any
    score: Any
    shares: dict[Label, float]
    evidence: tuple[Evidence, ...]
    counterfactual: tuple[int, ...] = ()
    changed_to: Any = None
    minimal: bool = True
    base: Any = None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One atomic write in the history of a memory.

    Attributes:
        version: Counts up by one with every write; 0 is the empty memory.
        time: Seconds since 1970, UTC.
        operation: ``create``, ``add``, ``update``, ``remove``, ``restore``, ``replace``,
            ``erase``, ``compact``, ``rekey`` or ``allow``.
        rows: Rows alive in this version.
        changed: Rows that the write added, changed or removed.
    """

    version: int
    time: float
    operation: str
    rows: int
    changed: int


@dataclass(frozen=True, slots=True)
class Banned:
    """A row that was erased and must not return.

    Attributes:
        id: Its id.
        version: The version that erased it.
        time: When that was, in seconds since 1970, or None if the version was given up since.
        known_by: Of what there are digests: ``key``, ``thumbnail``, ``text``, ``file``.
    """

    id: int
    version: int
    time: float | None
    known_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that rows left the disk; issued only after a byte scan found nothing of them.

    Attributes:
        ids: The erased row ids, sorted.
        digests: SHA-256 of each erased row's key and value, hexadecimal, in the order of ``ids``.
        version: The version that the erasure made.
        time: Seconds since 1970, UTC.
        scanned: Name and size in bytes of every file that was read by the scan.
        rewritten: Names of the files that were rewritten or deleted.
        needles: How many distinct byte strings (keys, values, labels, sources, texts, thumbnails)
            were searched for.
        banned: Ids of the rows that were put on the list of what must not return.
        shared: What was not searched for, because rows that stay hold the same bytes or it is too
            short to be told from chance, each described by kind and row id, never by content.
    """

    ids: tuple[int, ...]
    digests: tuple[str, ...]
    version: int
    time: float
    scanned: tuple[tuple[str, int], ...]
    rewritten: tuple[str, ...]
    needles: int
    shared: tuple[str, ...] = ()
    banned: tuple[int, ...] = ()
