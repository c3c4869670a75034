"""Choose rule, k and parameters on the memory itself, never on the rows a result is reported on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.readout.regression import means_all_k
from recollect.readout.voting import Rule, VoteRule, check_k, vote_all_k, weigh
from recollect.types import Codes, Doubles, Metric, Neighbors

Scoring: TypeAlias = Literal["accuracy", "log_loss", "squared_error", "absolute_error"]

# The sweeps of the paper (appendix D): alpha 1 to 20, tau 0.005 to 1, xi up to 40.
DEFAULT_GRID: dict[str, tuple[Any, ...]] = {
    "rule": ("rank", "softmax", "distance", "plurality"),
    "k": (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100),
    "alpha": (1.0, 2.0, 5.0, 10.0, 20.0),
    "temperature": (0.02, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0),
    "sharpness": (1.0, 5.0, 10.0, 20.0, 40.0),
}
PARAMETER: dict[Rule, str] = {
    "rank": "alpha",
    "softmax": "temperature",
    "distance": "sharpness",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to read the neighbors, and how well it did.

    Attributes:
        rule: Vote rule or weighting.
        k: How many neighbors.
        parameter: Name of the rule's parameter, or None for ``"plurality"``.
        value: Its value, or None.
        score: Larger is better: the accuracy, or minus the mean loss.
    """

    rule: Rule
    k: int
    parameter: str | None
    value: float | None
    score: float


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What ``tune`` tried and what it chose.

    Attributes:
        scoring: ``"accuracy"``, ``"log_loss"``, ``"squared_error"`` or ``"absolute_error"``.
        queries: How many rows were asked.
        best: The setting that was chosen: the best score; of equal ones the first in the grid.
        standard_error: Of the best score, over the queries.
        settings: Every setting that was tried, best first.
    """

    scoring: Scoring
    queries: int
    best: Setting
    standard_error: float
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Settings to try; checked when made."""

    rules: tuple[VoteRule, ...]
    ks: tuple[int, ...]


def make_grid(
    given: Mapping[str, Sequence[Any]] | None, *, rule_name: str, least_alpha: float
) -> Grid:
    """Lay out the settings to try.

    Args:
        given: Values to try for ``rule_name``, ``"k"``, ``"alpha"``, ``"temperature"`` and
            ``"sharpness"``; what is left out keeps the default.
        rule_name: What the estimator calls its rule: ``"vote"`` or ``"weighting"``.
        least_alpha: As in ``VoteRule``.

    Raises:
        InvalidParameter: An unknown name, nothing to try, or a value out of range.
    """
    chosen = {**DEFAULT_GRID, rule_name: DEFAULT_GRID["rule"]}
    del chosen["rule"]
    for name, values in (given or {}).items():
        if name not in chosen or isinstance(values, str) or not len(values):
            raise InvalidParameter(
                f"the grid has no use for {name!r}",
                expected=f"a sequence of values for one of {', '.join(sorted(chosen))}",
                got=repr(values),
                remedy="Leave a name out to keep its default values.",
            )
        chosen[name] = tuple(values)
    rules = [
        _rule(rule, value, least_alpha)
        for rule in chosen[rule_name]
        for value in (chosen[PARAMETER[rule]] if rule in PARAMETER else (None,))
    ]
    return Grid(tuple(rules), tuple(sorted({check_k(k) for k in chosen["k"]})))


def choose(
    blocks: Iterable[tuple[Neighbors, NDArray[Any]]], grid: Grid, scoring: Scoring, metric: Metric
) -> TuningReport:
    """Score every setting on blocks of queries whose answers are known.

    Args:
        blocks: Neighbors, as many as the largest k of the grid or as there are rows, and the true
            values: class codes ``(queries,)``, or numbers ``(queries,)`` or ``(queries, width)``.
        grid: What to try.
        scoring: What to measure.
        metric: What the similarity means.
    """
    wanted = np.array(grid.ks) - 1
    sums = np.zeros((len(grid.rules), len(grid.ks)))
    squares, queries = np.zeros_like(sums), 0
    for near, truth in blocks:
        queries += len(near)
        places = np.minimum(wanted, near.ids.shape[1] - 1)
        for row, rule in enumerate(grid.rules):
            points = _points(near, weigh(near, rule, metric), truth, scoring)[:, places]
            sums[row] += points.sum(axis=0)
            squares[row] += (points**2).sum(axis=0)
    means = sums / queries
    settings = [
        Setting(rule.name, k, *_parameter(rule), float(means[row, column]))
        for row, rule in enumerate(grid.rules)
        for column, k in enumerate(grid.ks)
    ]
    order = np.argsort(-means.ravel(), kind="stable")
    spread = squares.ravel()[order[0]] / queries - means.ravel()[order[0]] ** 2
    ranked = tuple(settings[place] for place in order)
    error = math.sqrt(max(spread, 0.0) / queries)
    return TuningReport(scoring, queries, ranked[0], error, ranked)


def _points(near: Neighbors, weights: Doubles, truth: NDArray[Any], scoring: Scoring) -> Doubles:
    """What each query scores at every k, ``(queries, k)``; larger is better."""
    if scoring in ("accuracy", "log_loss"):
        assert near.codes is not None
        if scoring == "accuracy":
            return np.asarray(vote_all_k(near.codes, weights) == truth[:, None], np.float64)
        return _log_shares(near.codes, weights, truth)
    missed = np.abs(means_all_k(near.values, weights) - truth[:, None])
    if scoring == "squared_error":
        missed **= 2
    return np.asarray(-(missed if missed.ndim == 2 else missed.mean(axis=2)))


def _log_shares(codes: Codes, weights: Doubles, truth: Codes) -> Doubles:
    right = np.cumsum(np.where(codes == truth[:, None], weights, 0.0), axis=1)
    total = np.cumsum(weights, axis=1)
    share = np.divide(right, total, out=np.zeros_like(total), where=total > 0)
    # A label nobody voted for would cost infinitely much; scikit-learn's log_loss stops here too.
    return np.asarray(np.log(np.clip(share, np.finfo(np.float64).eps, 1.0)))


def _rule(name: Any, value: Any, least_alpha: float) -> VoteRule:
    parameter = {PARAMETER[name]: value} if name in PARAMETER else {}
    return VoteRule(name, least_alpha=least_alpha, **parameter)


def _parameter(rule: VoteRule) -> tuple[str | None, float | None]:
    name = PARAMETER.get(rule.name)
    return name, None if name is None else float(getattr(rule, name))
