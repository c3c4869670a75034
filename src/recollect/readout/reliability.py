"""How far each row can be trusted, told by the rows that retrieve it.

Every row of a memory is asked for its own label with itself left out. A row that is then found
among the first m neighbors of a row with another label was wrong once; with the same label, right
once (Geirhos et al., section 6 and appendix I). Three readings of these counts:

| name   | vote of a row                                        | after                          |
|--------|------------------------------------------------------|--------------------------------|
| `hard` | none at `threshold` wrongs or more                   | the paper: m = 100, 128 wrongs |
| `soft` | times d / (c + wrong); 1 where it was never wrong    | the paper: c = 1, d = 1.75     |
| `rate` | times its rate of being right over that of its class | below                          |

The paper's counts grow with popularity: a row that is retrieved often is wrong more often, even if
it is nearly always right. `rate` compares a row with what is usual in its class,

    (right + strength * usual) / ((right + wrong + strength) * usual),

so a row never retrieved keeps 1, a popular row is no worse than a rare one, and a class that lies
close to others isn't punished as a whole. `strength` is how many retrievals the class' rate counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from recollect.errors import InvalidParameter
from recollect.types import Codes, Doubles, Ids, Mask, Neighbors

ReliabilityName: TypeAlias = Literal["soft", "hard", "rate"]
NAMES: tuple[ReliabilityName, ...] = get_args(ReliabilityName)
COUNTED: dict[ReliabilityName, int] = {"soft": 10, "hard": 100, "rate": 20}
"""Neighbors counted (m) where none are given: the paper's, and for the rate what leave-one-out
preferred on rows with flipped labels (docs/reproduction/visual-memory.md)."""

LEAST_USUAL = 1e-3
"""A class that is never right would divide by nothing."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Which reading of the counts weighs the votes. Checked when made.

    Args:
        name: ``"soft"``, ``"hard"`` or ``"rate"``.
        neighbors: Neighbors of each row that are counted, 1 to 100; None for 10, 100 and 20.
        threshold: Of ``"hard"``: wrongs from which on a row doesn't vote, at least 1.
        c: Of ``"soft"``, above 0.
        d: Of ``"soft"``, above 0.
        strength: Of ``"rate"``, above 0.

    Raises:
        InvalidParameter: An option lies outside its range.

    Example:
        >>> Reliability("soft").counted
        10
    """

    name: ReliabilityName
    neighbors: int | None = None
    threshold: int = 128
    c: float = 1.0
    d: float = 1.75
    strength: float = 2.0

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name in NAMES):
            raise InvalidParameter(
                "reliability is not known",
                expected=f"None or one of {', '.join(NAMES)}",
                got=repr(self.name),
                remedy="`rate` is the one that helps most under label noise.",
            )
        _check("neighbors", self.counted, low=1, high=100, whole=True)
        _check("threshold", self.threshold, low=1, high=math.inf, whole=True)
        for option in ("c", "d", "strength"):
            _check(option, getattr(self, option), low=0, high=math.inf, whole=False)

    @property
    def counted(self) -> int:
        """Neighbors of each row that are counted: m."""
        return COUNTED[self.name] if self.neighbors is None else self.neighbors


def as_reliability(given: object) -> Reliability | None:
    """Read what an estimator was given: None, a name, or a :class:`Reliability`.

    Raises:
        InvalidParameter: Something else.
    """
    if given is None or isinstance(given, Reliability):
        return given
    return Reliability(given)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Tally:
    """How often rows were retrieved by others, and with which label.

    Attributes:
        ids: int64 ``(rows,)``, sorted: rows that were retrieved at all.
        codes: int64 ``(rows,)``. Their labels.
        right: float64 ``(rows,)``. Retrievals by rows of the same label.
        wrong: float64 ``(rows,)``. Retrievals by rows of another label.
        usual: float64 ``(classes,)``. Rate of being right of each class, at least 0.001.
    """

    ids: Ids
    codes: Codes
    right: Doubles
    wrong: Doubles
    usual: Doubles


def tally(near: Neighbors, truth: Codes, *, share: float = 1.0) -> Tally:
    """Count who was right and who was wrong, from neighbors with themselves left out.

    Args:
        near: Neighbors of the rows asked, m each, with codes.
        truth: int64 ``(rows,)``. Code of each asked row's own label.
        share: Share of all rows that were asked; counts are divided by it, so that they stand for
            all.

    Returns:
        Counts of every row that was retrieved.

    Example:
        >>> near = Neighbors(
        ...     ids=np.array([[7], [5], [5]]),
        ...     similarity=np.ones((3, 1), np.float32),
        ...     values=np.array([[0], [0], [0]]),
        ...     weights=np.ones((3, 1)),
        ...     codes=np.array([[0], [0], [0]]),
        ... )
        >>> counts = tally(near, np.array([0, 0, 1]))
        >>> counts.ids, counts.right, counts.wrong
        (array([5, 7]), array([1., 1.]), array([1., 0.]))
    """
    assert near.codes is not None
    found = near.found
    agrees = (near.codes == truth[:, None])[found].astype(np.float64)
    ids, first, place = np.unique(near.ids[found], return_index=True, return_inverse=True)
    codes = near.codes[found][first]
    retrieved = np.bincount(place, minlength=len(ids))
    right = np.bincount(place, agrees, len(ids))
    classes = int(near.codes.max(initial=-1)) + 1
    asked = np.bincount(codes, retrieved, classes)
    usual = np.divide(
        np.bincount(codes, right, classes), asked, out=np.ones(classes), where=asked > 0
    )
    return Tally(
        ids, codes, right / share, (retrieved - right) / share, np.maximum(usual, LEAST_USUAL)
    )


def factors(counts: Tally, reliability: Reliability) -> Doubles:
    """Compute what each retrieved row's vote is multiplied by, float64 ``(rows,)``.

    Under ``"hard"`` 0 stands for a row that is skipped.

    Example:
        >>> counts = Tally(
        ...     np.array([3, 4]), np.array([0, 0]), np.array([1.0, 3.0]), np.array([0.0, 1.0]),
        ...     np.array([0.8]),
        ... )
        >>> factors(counts, Reliability("soft")).tolist()
        [1.0, 0.875]
        >>> factors(counts, Reliability("rate")).round(3).tolist()
        [1.083, 0.958]
    """  # fmt: skip
    return _factors(counts.right, counts.wrong, counts.usual[counts.codes], reliability)


def factors_without_own(
    counts: Tally, near: Neighbors, truth: Codes, reliability: Reliability, *, share: float = 1.0
) -> Doubles:
    """Compute the factors of each asked row's neighbors without what it said of them itself.

    A row that is asked for its label with itself left out may not take part in judging those that
    answer: it would have lowered the weight of all who disagree with it.

    Args:
        counts: Of these very neighbors, over the first ``reliability.counted`` places.
        near: Neighbors of the rows asked, of any k.
        truth: int64 ``(rows,)``. Their own labels.
        reliability: The reading.
        share: As in ``tally``.

    Returns:
        float64, the shape of ``near.ids``; 1 where empty.
    """
    assert near.codes is not None
    if not len(counts.ids):  # a single row has no others
        return np.ones(near.ids.shape)
    place, known = _find(counts.ids, near.ids)
    said = (np.arange(near.ids.shape[1]) < reliability.counted) & known
    agrees = near.codes == truth[:, None]
    right = counts.right[place] - (said & agrees) / share
    wrong = counts.wrong[place] - (said & ~agrees) / share
    usual = counts.usual[counts.codes[place]]
    return np.where(known, _factors(right, wrong, usual, reliability), 1.0)


def factors_of(ids: Ids, counts: Tally, of_rows: Doubles) -> Doubles:
    """Look up the factors of rows, the shape of ``ids``; 1 for one that was never retrieved."""
    if not len(counts.ids):
        return np.ones(ids.shape)
    place, known = _find(counts.ids, ids)
    return np.where(known, of_rows[place], 1.0)


def apply(near: Neighbors, of_neighbors: Doubles, reliability: Reliability) -> Neighbors:
    """Let the neighbors vote with their reliability.

    Under ``"hard"`` rows of factor 0 are skipped as in the reference: they don't vote and take no
    rank; where all neighbors of a query would be skipped, none is.

    Args:
        near: What a search found.
        of_neighbors: float64 ``(queries, k)``.
        reliability: The reading.

    Returns:
        Neighbors; a skipped row has id -1, as an empty place.
    """
    if reliability.name != "hard":
        return replace(near, weights=near.weights * of_neighbors)
    return skip(near, of_neighbors == 0)


def skip(near: Neighbors, excluded: Mask) -> Neighbors:
    """Empty the places of excluded rows, except where that would leave a query with nobody.

    Example:
        >>> near = Neighbors(
        ...     ids=np.array([[7, 3], [7, 3]]),
        ...     similarity=np.ones((2, 2), np.float32),
        ...     values=np.array([[1, 0], [1, 0]]),
        ...     weights=np.ones((2, 2)),
        ... )
        >>> skip(near, np.array([[True, False], [True, True]])).ids
        array([[-1,  3],
               [ 7,  3]])
    """
    out = excluded & near.found
    out &= (near.found & ~out).any(axis=1, keepdims=True)
    return replace(
        near,
        ids=np.where(out, -1, near.ids),
        similarity=np.where(out, -np.inf, near.similarity).astype(np.float32),
        weights=np.where(out, 0.0, near.weights),
        codes=None if near.codes is None else np.where(out, -1, near.codes),
    )


def _factors(right: Doubles, wrong: Doubles, usual: Doubles, reading: Reliability) -> Doubles:
    if reading.name == "hard":
        return np.where(wrong >= reading.threshold, 0.0, 1.0)
    if reading.name == "soft":
        return np.where(wrong > 0, reading.d / (reading.c + np.maximum(wrong, 0.0)), 1.0)
    strength = reading.strength
    return (right + strength * usual) / ((right + wrong + strength) * usual)


def _find(known: Ids, ids: Ids) -> tuple[Ids, Mask]:
    if not len(known):
        return np.zeros(ids.shape, np.int64), np.zeros(ids.shape, bool)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return place, known[place] == ids


def _check(name: str, value: object, *, low: float, high: float, whole: bool) -> None:
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, kinds) and not isinstance(value, bool):
        number = float(value)
        if low <= number <= high and math.isfinite(number) and (whole or number > low):
            return
    raise InvalidParameter(
        f"{name} of the reliability is out of range",
        expected=f"{'an integer' if whole else 'a finite number'} "
        f"{'from' if whole else 'above'} {low:g}{f' to {high:g}' if high < math.inf else ''}",
        got=repr(value),
        remedy=f"Leave {name} at its default.",
    )
