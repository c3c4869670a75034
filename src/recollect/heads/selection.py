"""Choose rule, k and parameters on the memory itself, never on the rows a result is reported on."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.readout.regression import means_all_k
from recollect.readout.reliability import Reliability, as_reliability
from recollect.readout.voting import Rule, VoteRule, check_k, vote_all_k, weigh
from recollect.types import Codes, Doubles, Mask, Metric, Neighbors

Scoring: TypeAlias = Literal["accuracy", "log_loss", "squared_error", "absolute_error"]

# The sweeps of the paper (appendix D): alpha 1 to 20, tau 0.005 to 1, xi up to 40.
DEFAULT_GRID: dict[str, tuple[Any, ...]] = {
    "rule": ("rank", "softmax", "distance", "plurality"),
    "k": (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100),
    "alpha": (1.0, 2.0, 5.0, 10.0, 20.0),
    "temperature": (0.02, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0),
    "sharpness": (1.0, 5.0, 10.0, 20.0, 40.0),
}
RELIABILITIES: tuple[str | None, ...] = (None, "soft", "rate")
"""What a classifier tries; hard pruning asks for millions of rows."""

SURE = 1e-3
"""Where the log-loss breaks a tie between accuracies, a label nobody voted for costs as much as one
with this share; at the machine's epsilon it would outweigh all else."""

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
        reliability: How far rows are trusted, or None.
    """

    rule: Rule
    k: int
    parameter: str | None
    value: float | None
    score: float
    reliability: Reliability | None = None


@dataclass(frozen=True, slots=True)
class MeansChoice:
    """What part the class means were given in the answer.

    Attributes:
        class_means: Their part, 0 to 1; the vote has the rest.
        shrinkage: How far the scatter within classes was drawn towards a sphere.
        mean_temperature: Of the softmax over the classes.
        score: Accuracy on rows whose fold was held out of the means.
        without: Accuracy of the vote alone on the same rows.
        tried: How many settings were tried.
    """

    class_means: float
    shrinkage: float
    mean_temperature: float
    score: float
    without: float
    tried: int


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What ``tune`` tried and what it chose.

    Attributes:
        scoring: ``"accuracy"``, ``"log_loss"``, ``"squared_error"`` or ``"absolute_error"``.
        queries: How many rows were asked.
        best: The setting that was chosen; see ``choose``.
        standard_error: Of its score, over the queries.
        settings: Every setting that was tried, highest score first.
        means: What part the class means were given, if that was asked for.
    """

    scoring: Scoring
    queries: int
    best: Setting
    standard_error: float
    settings: tuple[Setting, ...]
    means: MeansChoice | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """Settings to try; checked when made."""

    rules: tuple[VoteRule, ...]
    ks: tuple[int, ...]
    reliabilities: tuple[Reliability | None, ...] = (None,)


Judged: TypeAlias = Mapping[Reliability | None, Neighbors]


def make_grid(
    given: Mapping[str, Sequence[Any]] | None,
    *,
    rule_name: str,
    least_alpha: float,
    reliabilities: Sequence[Any] = (None,),
) -> Grid:
    """Lay out the settings to try.

    Args:
        given: Values to try for ``rule_name``, ``"k"``, ``"alpha"``, ``"temperature"`` and
            ``"sharpness"``; what is left out keeps the default.
        rule_name: What the estimator calls its rule: ``"vote"`` or ``"weighting"``.
        least_alpha: As in ``VoteRule``.
        reliabilities: What to try for ``"reliability"`` when that is left out; only None where an
            estimator has no such thing.

    Raises:
        InvalidParameter: An unknown name, nothing to try, or a value out of range.
    """
    chosen = {**DEFAULT_GRID, rule_name: DEFAULT_GRID["rule"]}
    del chosen["rule"]
    if len(reliabilities) > 1:
        chosen["reliability"] = tuple(reliabilities)
    if not (given is None or isinstance(given, Mapping)):
        raise InvalidParameter(
            "the grid is no mapping",
            expected="None or a mapping of names to values to try",
            got=repr(given)[:80],
            remedy="Write {'k': [1, 10]}, or leave it out.",
        )
    for name, values in (given or {}).items():
        several = isinstance(values, Collection) and not isinstance(values, str | bytes)
        if name not in chosen or not several or not len(values):
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
        for value in _values(rule, chosen)
    ]
    judged = tuple(dict.fromkeys(as_reliability(one) for one in chosen.get("reliability", (None,))))
    return Grid(tuple(rules), tuple(sorted({check_k(k) for k in chosen["k"]})), judged)


def choose(
    blocks: Iterable[tuple[Judged, NDArray[Any]]], grid: Grid, scoring: Scoring, metric: Metric
) -> TuningReport:
    """Score every setting on blocks of queries whose answers are known, and choose one.

    The best of many scores is partly luck, so a score decides only as far as it can be told from
    others. Reliability must beat the best setting without it by more than one standard error of
    the difference, query by query. Of the settings whose accuracy is then within one such error of
    the best, the one with the best log-loss is chosen; it feels what each vote weighed, not only
    who won. With another scoring the best score is chosen. Of equals, the first in the grid.

    Args:
        blocks: For each reliability of the grid the neighbors, as many as the largest k of the grid
            or as there are rows; and the true values: class codes ``(queries,)``, or numbers
            ``(queries,)`` or ``(queries, width)``.
        grid: What to try.
        scoring: What to measure.
        metric: What the similarity means.
    """
    lines = [(trust, rule) for trust in grid.reliabilities for rule in grid.rules]
    wanted = np.array(grid.ks) - 1
    parts: list[list[Doubles]] = [[] for _ in lines]
    logs = np.zeros((len(lines), len(grid.ks)))
    for judged, truth in blocks:
        for row, (trust, rule) in enumerate(lines):
            near = judged[trust]
            places = np.minimum(wanted, near.ids.shape[1] - 1)
            weights = weigh(near, rule, metric)
            points = _points(near, weights, truth, scoring)[:, places]
            # A hit is kept as a bit's worth, so that tens of thousands of queries stay small.
            parts[row].append(points.astype(bool) if scoring == "accuracy" else points)
            if scoring == "accuracy":
                assert near.codes is not None
                logs[row] += _log_shares(near.codes, weights, truth, SURE)[:, places].sum(axis=0)
    points = np.array([np.concatenate(part) for part in parts])
    means = np.array([line.mean(axis=0) for line in points])
    settings = [
        Setting(rule.name, k, *_parameter(rule), float(means[row, column]), trust)
        for row, (trust, rule) in enumerate(lines)
        for column, k in enumerate(grid.ks)
    ]
    row, column = _chosen(points, means, logs if scoring == "accuracy" else None, grid)
    error = float(np.std(points[row, :, column])) / math.sqrt(points.shape[1])
    ranked = tuple(settings[place] for place in np.argsort(-means.ravel(), kind="stable"))
    best = settings[row * len(grid.ks) + column]
    return TuningReport(scoring, points.shape[1], best, error, ranked)


def _chosen(
    points: NDArray[Any], means: Doubles, logs: Doubles | None, grid: Grid
) -> tuple[int, int]:
    """The line and column of the setting to take."""
    trust = np.repeat(np.arange(len(grid.reliabilities)), len(grid.rules))
    allowed = np.ones(len(means), bool)
    if None in grid.reliabilities and len(grid.reliabilities) > 1:
        allowed = trust == grid.reliabilities.index(None)
        plain, best = _best(means, allowed), _best(means, ~allowed)
        gain, error = _difference(points, best, plain)
        if gain > error:
            allowed = trust == trust[best[0]]
    best = _best(means, allowed)
    if logs is None:
        return best
    near = np.zeros(means.shape, bool)
    for row in np.flatnonzero(allowed):
        for column in range(means.shape[1]):
            gap, error = _difference(points, best, (int(row), column))
            near[row, column] = gap <= error
    return _best(np.where(near, logs, -np.inf), allowed)


def _best(scores: Doubles, allowed: Mask) -> tuple[int, int]:
    held = np.where(allowed[:, None], scores, -np.inf)
    row, column = np.unravel_index(int(held.argmax()), held.shape)
    return int(row), int(column)


def _difference(
    points: NDArray[Any], first: tuple[int, int], second: tuple[int, int]
) -> tuple[float, float]:
    """How much better the first setting does, and the standard error of that."""
    gap = points[first[0], :, first[1]].astype(np.float64) - points[second[0], :, second[1]]
    return float(gap.mean()), float(gap.std() / math.sqrt(len(gap)))


def _points(near: Neighbors, weights: Doubles, truth: NDArray[Any], scoring: Scoring) -> Doubles:
    """What each query scores at every k, ``(queries, k)``; larger is better."""
    if scoring in ("accuracy", "log_loss"):
        assert near.codes is not None
        if scoring == "accuracy":
            return np.asarray(vote_all_k(near.codes, weights) == truth[:, None], np.float64)
        return _log_shares(near.codes, weights, truth, float(np.finfo(np.float64).eps))
    missed = np.abs(means_all_k(near.values, weights) - truth[:, None])
    if scoring == "squared_error":
        missed **= 2
    return np.asarray(-(missed if missed.ndim == 2 else missed.mean(axis=2)))


def _log_shares(codes: Codes, weights: Doubles, truth: Codes, least: float) -> Doubles:
    right = np.cumsum(np.where(codes == truth[:, None], weights, 0.0), axis=1)
    total = np.cumsum(weights, axis=1)
    share = np.divide(right, total, out=np.zeros_like(total), where=total > 0)
    # A label nobody voted for would cost infinitely much; scikit-learn's log_loss stops at the
    # machine's epsilon.
    return np.asarray(np.log(np.clip(share, least, 1.0)))


def _values(rule: object, chosen: Mapping[str, tuple[Any, ...]]) -> tuple[Any, ...]:
    """What to try for the parameter of a rule; of one that is not known nothing."""
    name = PARAMETER.get(rule) if isinstance(rule, str) else None  # type: ignore[call-overload]
    return (None,) if name is None else chosen[name]


def _rule(name: Any, value: Any, least_alpha: float) -> VoteRule:
    parameter = {PARAMETER[name]: value} if value is not None else {}
    return VoteRule(name, least_alpha=least_alpha, **parameter)


def _parameter(rule: VoteRule) -> tuple[str | None, float | None]:
    name = PARAMETER.get(rule.name)
    return name, None if name is None else float(getattr(rule, name))
