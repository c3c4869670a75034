"""Choose k, sigma, temperature, strength and gate on rows that no result is reported on.

One search with the largest k serves the whole grid: a smaller k is a prefix of the list, another
sigma another weighing, and the temperature only changes what each row adds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InputError, InvalidParameter
from recollect.heads.residual_memory.estimator import Found, median_distance
from recollect.heads.residual_memory.recalled import Residuals
from recollect.memory.memory import Memory
from recollect.readout.kernel import (
    check_above_zero,
    check_not_negative,
    check_strength,
    clip_to_probabilities,
)
from recollect.readout.voting import check_k, distances
from recollect.types import Doubles, Floats, Ids, Mask

GRID: dict[str, tuple[float, ...]] = {
    "k": (1, 3, 10, 30, 100, 300),
    "sigma": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "temperature": (0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 8.0),
    "strength": (0.5, 1.0, 1.5, 2.0),
}
# Rows of the memory that are asked about themselves, spread evenly over it.
MOST_ASKED = 10_000
# Parts of the queries, each scored at the setting that is best on the others.
FOLDS = 5
# Scores held at once: 32 MiB.
_CELLS = 2**22
_GUARDS = "0 takes every gain, 1 those of more than one standard error."

Judge: TypeAlias = Callable[[Doubles, slice], Doubles]


@dataclass(frozen=True, slots=True)
class ResidualSetting:
    """One way to read the memory, and how well it did.

    Attributes:
        k: How many rows are read.
        sigma: Width of the kernel.
        temperature: Of the softmax; 1 for numbers.
        strength: What the correction is multiplied by.
        score: Larger is better: the accuracy, or minus the mean loss.
    """

    k: int
    sigma: float
    temperature: float
    strength: float
    score: float


@dataclass(frozen=True, slots=True)
class ResidualTuning:
    """What ``tune`` tried and what it decided.

    Attributes:
        scoring: ``"accuracy"``, ``"log_loss"`` or ``"squared_error"``.
        queries: How many rows were asked.
        base: Score of the base alone (at temperature 1).
        best: The setting with the best score; of equal ones the first in the grid.
        gain: What choosing gains over the base: each fifth of the queries is scored at the setting
            that is best on the other four. Smaller than ``best.score - base``, and honest.
        standard_error: Of the gain, over the queries.
        active: False if the memory was turned off because the gain was not large enough.
        gate: The gate that was chosen, or the one that the head had, or None.
        searches_saved: Share of the queries for which it skips the search.
        settings: Every setting that was tried, best first.
    """

    scoring: str
    queries: int
    base: float
    best: ResidualSetting
    gain: float
    standard_error: float
    active: bool
    gate: float | None
    searches_saved: float
    settings: tuple[ResidualSetting, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Settings to try; checked when made. Sigma in units of the keys."""

    ks: tuple[int, ...]
    sigmas: tuple[float, ...]
    temperatures: tuple[float, ...]
    strengths: tuple[float, ...]

    def settings(self) -> Iterator[tuple[float, float, int, float]]:
        """Temperature, sigma, k and strength of every setting, in the order of the points."""
        for temperature in self.temperatures:
            for sigma in self.sigmas:
                for k in self.ks:
                    for strength in self.strengths:
                        yield temperature, sigma, k, strength


def check_scoring(scoring: str) -> None:
    """Refuse what a classifier cannot be scored by."""
    if not isinstance(scoring, str) or scoring not in {"accuracy", "log_loss"}:
        raise InvalidParameter(
            "scoring is not known",
            expected="'accuracy' or 'log_loss'",
            got=repr(scoring),
            remedy="Leave it out for the accuracy.",
        )


def lay_out(
    memory: Memory,
    given: Mapping[str, Sequence[Any]] | None,
    *,
    left_out: bool,
    names: Sequence[str] = tuple(GRID),
) -> Grid:
    """Lay out the settings to try.

    Args:
        memory: Whose distances are the unit of sigma.
        given: Values to try by name; what is left out keeps the default.
        left_out: Whether each row is asked with itself left out.
        names: What there is to choose.

    Raises:
        InvalidParameter: An unknown name, nothing to try, a value out of range, or only one row.
    """
    if len(memory) < 2:
        raise InvalidParameter(
            "there are too few rows to tune on",
            expected="at least two rows",
            got=len(memory),
            remedy="Teach more rows.",
        )
    known = read_grid(given, names)
    ks = tuple(sorted({min(k, len(memory) - left_out) for k in known["k"]}))
    unit = median_distance(memory, ks[-1])
    return Grid(
        ks,
        tuple(check_above_zero("sigma", unit * each, infinite=True) for each in known["sigma"]),
        known.get("temperature", (1.0,)),
        known["strength"],
    )


def read_grid(
    given: Mapping[str, Sequence[Any]] | None, names: Sequence[str] = tuple(GRID)
) -> dict[str, tuple[Any, ...]]:
    """Judge the values to try.

    Args:
        given: Values by name; what is left out keeps the default.
        names: What there is to choose.

    Returns:
        Values by name, for every one of ``names``.

    Raises:
        InvalidParameter: An unknown name, nothing to try, or a value out of range.
    """
    known = {name: GRID[name] for name in names}
    if given is not None and not isinstance(given, Mapping):
        raise InvalidParameter(
            "the grid cannot be read",
            expected=f"values to try by name, of {', '.join(known)}",
            got=repr(given),
            remedy="Leave it out for the default grid.",
        )
    for name, values in (given or {}).items():
        if name not in known or not _is_list(values):
            raise InvalidParameter(
                f"the grid has no use for {name!r}",
                expected=f"a sequence of values for one of {', '.join(known)}",
                got=repr(values),
                remedy="Leave a name out to keep its default values.",
            )
        known[name] = tuple(_CHECKS[name](value) for value in values)
    return known


def _is_list(values: Any) -> bool:
    """Whether there is a sequence with something in it; text is none."""
    if isinstance(values, np.ndarray):
        return values.ndim > 0 and len(values) > 0
    text = isinstance(values, str | bytes | bytearray)
    return isinstance(values, Sequence) and not text and len(values) > 0


_CHECKS: dict[str, Callable[[Any], float]] = {
    "k": check_k,
    "sigma": partial(check_above_zero, "sigma"),
    "temperature": partial(check_above_zero, "temperature"),
    "strength": check_strength,
}


def check_asked(rows: tuple[Any, Any], about: tuple[Any, Any]) -> bool:
    """Return True if the memory's own rows are to be asked, as none were given.

    Args:
        rows: X and embedding.
        about: What belongs to them: y and outputs.

    Raises:
        InputError: Only what belongs to rows was given.
    """
    if any(part is not None for part in rows):
        return False
    if any(part is not None for part in about):
        raise InputError(
            "labels or outputs were given without the rows they belong to",
            expected="X, or embedding=, beside them",
            got="neither",
            remedy="Leave all of them out to ask every row of the memory without itself.",
        )
    return True


def spread(ids: Ids) -> NDArray[np.intp]:
    """Positions of the rows that are asked about themselves: all, or so many, spread evenly."""
    return np.arange(len(ids))[:: max(1, -(-len(ids) // MOST_ASKED))]


def not_taught(near: Found, same: Mask) -> Mask:
    """Which queries are no rows of the memory themselves; a warning tells of the others.

    A query counts as a row if it lies on that row, holds the same truth, and is the only one that
    does: where an embedding tells many rows not apart, lying on one says nothing.

    Args:
        near: Neighbors of the queries.
        same: Whether the nearest row holds a query's truth, ``(queries,)``.

    Raises:
        InvalidParameter: All queries are rows of the memory.
    """
    lies_on = near.similarity == 0.0
    on, times = np.unique(near.ids[lies_on[:, 0], 0], return_counts=True)
    taught = same & (lies_on.sum(axis=1) == 1) & np.isin(near.ids[:, 0], on[times == 1])
    if taught.all():
        raise InvalidParameter(
            "all rows to choose settings on are in the memory, where each finds itself",
            expected="rows set aside",
            got=f"{len(taught)} rows of the memory",
            remedy="Pass others; or none, and every row is asked with itself left out.",
        )
    if taught.any():
        warnings.warn(
            f"{int(taught.sum())} of {len(taught)} rows to choose settings on are in the memory, "
            "where each finds itself: they are left out",
            stacklevel=2,
        )
    return np.asarray(~taught)


def choose(
    near: Found,
    start: Callable[[float], tuple[Doubles, Residuals]],
    judge: Judge,
    plain: Doubles,
    grid: Grid,
    scoring: str,
    guard: float,
    gate: float | None = None,
) -> tuple[ResidualTuning, Doubles, Doubles]:
    """Score every setting, and decide whether the best one is to be used.

    Args:
        near: The largest k neighbors of every query.
        start: Temperature -> the base's scores ``(queries, width)`` and what each row adds.
        judge: What scores are worth, one number a query; larger is better.
        plain: The base's scores as it is deployed.
        grid: What to try.
        scoring: Name of what ``judge`` measures.
        guard: How many standard errors the gain must exceed.
        gate: Where the base is at least that sure, no row counts.

    Returns:
        The report; what the best setting and what the base scored, ``(queries,)`` each.
    """
    guard = check_not_negative("guard", guard, _GUARDS)
    points, skipped = _scored(near, start, judge, grid, gate)
    base = judge(plain, slice(None))
    means = points.mean(axis=1, dtype=np.float64)
    order = np.argsort(-means, kind="stable")
    settings = [
        ResidualSetting(k, sigma, temperature, strength, float(mean))
        for (temperature, sigma, k, strength), mean in zip(grid.settings(), means, strict=True)
    ]
    gains = _honest(points) - base
    gain, error = float(gains.mean()), float(gains.std() / math.sqrt(len(base)))
    report = ResidualTuning(
        scoring=scoring,
        queries=len(base),
        base=float(base.mean()),
        best=settings[order[0]],
        gain=gain,
        standard_error=error,
        active=gain > guard * error and gain > 0.0,
        gate=gate,
        searches_saved=skipped[settings[order[0]].temperature],
        settings=tuple(settings[place] for place in order),
    )
    return report, points[order[0]].astype(np.float64), base


def _scored(
    near: Found,
    start: Callable[[float], tuple[Doubles, Residuals]],
    judge: Judge,
    grid: Grid,
    gate: float | None,
) -> tuple[Floats, dict[float, float]]:
    """Points ``(settings, queries)``, and by temperature the share that the gate skips."""
    each = len(grid.sigmas) * len(grid.ks) * len(grid.strengths)
    points = np.empty((len(grid.temperatures), each, len(near.ids)), np.float32)
    skipped: dict[float, float] = {}
    for place, temperature in enumerate(grid.temperatures):
        begun, table = start(temperature)
        sure = np.zeros(len(begun), bool) if gate is None else begun.max(axis=1) >= gate
        skipped[temperature] = float(sure.mean())
        counted = near if gate is None else replace(near, own=near.own * ~sure[:, None])
        _fill(points[place], counted, begun, table, grid, judge)
    return points.reshape(-1, len(near.ids)), skipped


def _honest(points: Floats) -> Doubles:
    """What each query scores at the setting that is best without its fold.

    The best of hundreds of settings looks better on the queries it was chosen on than it is.
    """
    folds = min(FOLDS, points.shape[1])
    if folds < 2:
        return np.asarray(points[points.mean(axis=1).argmax()], np.float64)
    total = points.sum(axis=1, dtype=np.float64)
    scored = np.empty(points.shape[1])
    for fold in range(folds):
        here = points[:, fold::folds]
        scored[fold::folds] = here[(total - here.sum(axis=1, dtype=np.float64)).argmax()]
    return scored


def choose_gate(
    report: ResidualTuning, sure: Doubles, corrected: Doubles, base: Doubles
) -> ResidualTuning:
    """Choose the smallest gate at which skipping the search costs no right answer on balance.

    Args:
        report: What was chosen without a gate.
        sure: The base's largest probability, ``(queries,)``.
        corrected: What each query scores with the memory.
        base: What it scores without.
    """
    falling = np.argsort(-sure, kind="stable")
    cost = np.cumsum((corrected - base)[falling])
    last = np.append(np.diff(sure[falling]) != 0, True)  # equal ones pass the gate together
    free = np.flatnonzero((cost <= 0) & last)
    if not report.active or not len(free):
        return report
    gate, saved = float(sure[falling[free[-1]]]), float((free[-1] + 1) / len(sure))
    return replace(report, gate=gate, searches_saved=saved)


def warn_if_off(report: ResidualTuning) -> None:
    """Say that the memory was turned off, and why."""
    if not report.active:
        warnings.warn(
            f"no setting beats the base by more than its error on the {report.queries} rows asked "
            f"(gain {report.gain:+.4f} +- {report.standard_error:.4f}): the memory is turned "
            "off, strength = 0",
            stacklevel=3,
        )


def _fill(
    points: Floats, near: Found, base: Doubles, table: Residuals, grid: Grid, judge: Judge
) -> None:
    """Write what each query scores at every sigma, k and strength: ``(settings, queries)``."""
    apart = distances(near.similarity, "euclidean")
    several = len(grid.sigmas)
    shaped = points.reshape(several, len(grid.ks), len(grid.strengths), -1)
    step = max(1, _CELLS // (several * max(base.shape[1], grid.ks[-1])))
    for start in range(0, len(base), step):
        part = slice(start, min(start + step, len(base)))
        kernels = np.stack(
            [_kernel(apart[part], near.own[part], sigma) for sigma in grid.sigmas], axis=1
        )
        summed = _by_k(kernels, near.places[part], table, base.shape[1], grid.ks)
        for column, (sums, totals) in enumerate(summed):
            for at in range(several):
                corrected = _corrected(base[part], sums[at], totals[at], table, grid.strengths)
                for place, scores in enumerate(corrected):
                    shaped[at, column, place, part] = judge(scores, part)


def _kernel(apart: Doubles, own: Doubles, sigma: float) -> Doubles:
    """Kernel weights before they are scaled to sum to 1, which depends on k."""
    counts = np.isfinite(apart) & (own > 0)
    nearest = np.where(counts, apart, np.inf).min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.where(counts, own * np.exp(-(apart - nearest) / sigma), 0.0))


def _by_k(
    kernels: Doubles, places: NDArray[np.intp], table: Residuals, width: int, ks: Sequence[int]
) -> Iterator[tuple[Doubles, Doubles]]:
    """Weighted sums ``(sigmas, queries, width)`` and their weights, for one k after the other.

    The arrays are the same ones, filled further.
    """
    queries, several, _ = kernels.shape
    sums, totals, done = np.zeros((several, queries, width)), np.zeros((several, queries)), 0
    for k in ks:
        some = slice(done, k)
        table.add_many(sums, kernels[:, :, some], places[:, some])
        totals += kernels[:, :, some].sum(axis=2).T
        done = k
        yield sums, totals


def _corrected(
    base: Doubles, sums: Doubles, total: Doubles, table: Residuals, strengths: Sequence[float]
) -> Iterator[Doubles]:
    """Scores at one strength after the other."""
    mean = np.divide(sums, total[:, None], out=np.zeros_like(sums), where=total[:, None] > 0)
    taken = table.base_factor * (total > 0)
    for strength in strengths:
        if table.base_factor:
            yield base * (1.0 - strength * taken[:, None]) + strength * mean
        else:
            yield base + strength * mean


def by_accuracy(truth: NDArray[np.int64]) -> Judge:
    """1 where the largest score is the true class's."""
    return lambda scores, part: (scores.argmax(axis=1) == truth[part]).astype(np.float64)


def by_log_loss(truth: NDArray[np.int64]) -> Judge:
    """Logarithm of the true class's clipped score; of a class nobody knows, that of 1e-6."""

    def judge(scores: Doubles, part: slice) -> Doubles:
        """The negative loss of each query, so that larger is better."""
        shares = clip_to_probabilities(scores)
        known = truth[part]
        at = shares[np.arange(len(known)), np.maximum(known, 0)]
        return np.log(np.where(known >= 0, at, 1e-6))

    return judge


def by_squared_error(truth: Doubles) -> Judge:
    """Minus the squared error, over all columns."""
    return lambda scores, part: np.asarray(-((scores - truth[part]) ** 2).mean(axis=1))
