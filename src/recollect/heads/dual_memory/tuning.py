"""Choose the members' weights on shots that are left out, or on pictures set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidLabel, InvalidParameter
from recollect.heads.dual_memory.fusion import GRID, Fusion, Members, fuse, member_weights
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.parts import Parts
from recollect.heads.dual_memory.ranges import require_flag
from recollect.heads.dual_memory.settings import HEAVIEST, check_weights
from recollect.heads.dual_memory.state import Options, State
from recollect.types import Codes, Doubles, Mask

if TYPE_CHECKING:
    from recollect.heads.dual_memory.core import DualMemory

Source: TypeAlias = Literal["shots", "given", "oracle"]
Counts: TypeAlias = tuple[float | Doubles, float]
"""Filled dynamic slots, and shots, of a class in the mean."""

FOLDS = 4
TEMPERATURES = tuple(float(2.0 ** (step / 4)) for step in range(-8, 33))
"""From 1/4 to 256, four to each doubling."""
_TINY, _TIE = 1e-300, 1e-12


@dataclass(frozen=True, slots=True)
class Weighed:
    """Weights that were tried, and how well they did.

    Attributes:
        weights: Of text, dynamic and static memory.
        accuracy: In [0, 1].
        log_probability: Of the true labels, in the mean.
        behind: How much less accurate than the best it is, in [0, 1].
        error: Standard error of that, over the pictures: both answered the same ones.
    """

    weights: tuple[float, float, float]
    accuracy: float
    log_probability: float
    behind: float
    error: float

    @property
    def evenness(self) -> float:
        """How far the weights are from all alike: 0 is (1, 1, 1), larger is less even."""
        return float(np.abs(np.log(self.weights)).sum())


@dataclass(frozen=True, slots=True)
class WeighingReport:
    """What ``tune`` tried and what it chose.

    Attributes:
        source: ``"shots"``: shots that were left out; ``"given"``: pictures set aside;
            ``"oracle"``: the rows that a result is reported on, which no honest choice can know.
        pictures: How many were asked.
        best: The most accurate; of equal ones that with the likelier labels.
        chosen: What ``tune`` sets. An oracle takes the best. An honest choice takes, of all that
            are behind the best by no more than one standard error, the most even weights: a few
            shots left out are too few to tell settings apart that differ by less (the rule of
            Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3).
        settings: All that were tried, best first.
    """

    source: Source
    pictures: int
    best: Weighed
    chosen: Weighed
    settings: tuple[Weighed, ...]


def tune_weights(
    head: DualMemory, X: Any, y: Any, *, weights: Sequence[float] | None, oracle: bool
) -> WeighingReport:
    """Score a grid of weights; see ``DualMemoryClassifier.tune``."""
    tried = _tried(weights)
    require_flag("oracle", oracle)
    if X is None and y is None and oracle:
        raise InvalidParameter(
            "an oracle needs the rows it knows the answers of", expected="X and y", got="no X",
            remedy="Pass both, or neither.",
        )  # fmt: skip
    members, truth, counts = _answered(head, X, y)
    report = score_weights(
        members, truth, tried, fusion=head.fusion, counts=counts, anchor=head.anchor
    )
    if oracle:
        return replace(report, source="oracle", chosen=report.best)
    return replace(report, source="shots" if X is None else "given")


def choose_temperature(head: DualMemory, X: Any, y: Any) -> float:
    """Find the temperature of the likeliest labels; see ``DualMemoryClassifier.calibrate``."""
    members, truth, counts = _answered(head, X, y)
    weights, fusion = check_weights(head.weights), head.fusion
    shares = member_weights(members, weights, fusion, counts=counts, anchor=head.anchor)
    return best_temperature(members, shares, truth, logarithms=fusion == "logits")


def best_temperature(members: Members, shares: Doubles, truth: Codes, *, logarithms: bool) -> float:
    """Try the temperatures of :data:`TEMPERATURES`; of equally good ones the smallest.

    After Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.

    Args:
        members: What they say about some pictures.
        shares: See ``fuse``.
        truth: int64 ``(pictures,)``.
        logarithms: See ``fuse``.
    """

    def likely(temperature: float) -> float:
        """Mean logarithm of the true labels' probabilities."""
        fused = fuse(members, shares, logarithms=logarithms, temperature=temperature)
        return round(_likelihood(fused, truth), 9)

    return max(TEMPERATURES, key=likely)


def _answered(head: DualMemory, X: Any, y: Any) -> tuple[Members, Codes, Counts]:
    """What is said about pictures set aside, or about shots that are left out."""
    if X is not None:
        return head.asked(X, y)
    if y is not None:
        raise InvalidParameter(
            "labels alone cannot be asked about", expected="X and y", got="no X",
            remedy="Pass both, or neither.",
        )  # fmt: skip
    return head.left_out()


def score_weights(
    members: Members,
    truth: Codes,
    tried: Sequence[float] = GRID,
    *,
    fusion: Fusion = "fixed",
    counts: Counts = (1.0, 1.0),
    anchor: float = 1.0,
) -> WeighingReport:
    """Score all pairs of weights of dynamic and static memory.

    Where both say the same, because nothing was observed, both get the same weight; where there is
    no static memory its weight stays 1.

    Args:
        members: What they say about some pictures.
        truth: int64 ``(pictures,)``.
        tried: Values to try.
        fusion: See ``member_weights``.
        counts: See ``member_weights``.
        anchor: See ``member_weights``.
    """
    # From 1 outwards, so that of equally good weights the most even ones are kept.
    tried = sorted(tried, key=lambda each: abs(np.log(each)))
    static = members.static
    if static is None:
        pairs = [(each, 1.0) for each in tried]
    elif np.array_equal(static, members.dynamic):
        pairs = [(each, each) for each in tried]
    else:
        pairs = [(dynamic, own) for dynamic in tried for own in tried]
    right, likely = [], []
    for dynamic, own in pairs:
        weights = (1.0, dynamic, own)
        shares = member_weights(members, weights, fusion, counts=counts, anchor=anchor)
        fused = fuse(members, shares, logarithms=fusion == "logits")
        right.append(fused.argmax(axis=1) == truth)
        likely.append(_likelihood(fused, truth))
    # What differs in the last bits alone is equally good.
    ranked = [(-int(each.sum()), -round(one, 9)) for each, one in zip(right, likely, strict=True)]
    order = sorted(range(len(pairs)), key=ranked.__getitem__)
    best = right[order[0]]
    settings = tuple(
        Weighed((1.0, *pairs[at]), float(right[at].mean()), likely[at], *_behind(best, right[at]))
        for at in order
    )
    near = [each for each in settings if each.behind <= each.error + _TIE]
    chosen = min(near, key=lambda each: each.evenness)
    return WeighingReport("given", len(truth), settings[0], chosen, settings)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is said of shots while they are left out.

    Attributes:
        members: Of the shots of classes that have two or more.
        truth: int64 ``(shots,)``: their classes.
        novelty: float64 ``(shots,)``, ascending: how little they resemble any class.
    """

    members: Members
    truth: Codes
    novelty: Doubles


def leave_out(
    parts: Parts, options: Options, learn: Callable[[Parts, Options], Offsets | None]
) -> LeftOut:
    """Ask shots about themselves, some of every class left out at a time.

    All classes lose as many, as far as they can: with one left out of one class alone, that class
    would be one shot short of all others.

    Args:
        parts: All rows.
        options: Settings.
        learn: Gives the offsets for the shots that are left.

    Raises:
        InvalidParameter: No class has two shots.
    """
    rank = _ranks(parts.codes)
    counts = np.bincount(parts.codes, minlength=len(parts.classes))[parts.codes]
    if not (counts > 1).any():
        raise InvalidParameter(
            "no shot can be left out", expected="a class with at least two shots",
            got=f"{len(parts.codes)} shots of {len(set(parts.codes.tolist()))} classes",
            remedy="Teach a class a second shot; tune() also takes X and y set aside.",
        )  # fmt: skip
    folds = min(FOLDS, int(counts.max()))
    asked: list[Members] = []
    truth: list[Codes] = []
    novelty: list[Doubles] = []
    for fold in range(folds):
        out = (rank % np.minimum(folds, counts) == fold) & (counts > 1)
        if out.any():
            rest = _without(parts, out)
            left = State(rest, options, learn(rest, options))
            asked.append(left.members(parts.shots[out]))
            truth.append(parts.codes[out])
            novelty.append(left.novelty(parts.shots[out]))
    return LeftOut(_joined(asked), np.concatenate(truth), np.sort(np.concatenate(novelty)))


def _ranks(codes: Codes) -> Codes:
    """How many rows of the same class came before each."""
    order = np.argsort(codes, kind="stable")
    ranks = np.empty(len(codes), np.int64)
    ranks[order] = np.arange(len(codes)) - np.searchsorted(codes[order], codes[order])
    return ranks


def _without(parts: Parts, out: NDArray[np.bool_]) -> Parts:
    return replace(
        parts, shots=parts.shots[~out], codes=parts.codes[~out], shot_ids=parts.shot_ids[~out]
    )


def _joined(members: list[Members]) -> Members:
    def together(parts: list[Doubles | None]) -> Doubles | None:
        """None unless every part has this member."""
        given = [each for each in parts if each is not None]
        return np.concatenate(given) if len(given) == len(parts) else None

    dynamic = np.concatenate([each.dynamic for each in members])
    return Members(
        together([each.text for each in members]),
        dynamic,
        together([each.static for each in members]),
    )


def _likelihood(fused: Doubles, truth: Codes) -> float:
    right = fused[np.arange(len(truth)), truth]
    return float(np.log(np.maximum(right, _TINY)).mean())


def _behind(best: Mask, other: Mask) -> tuple[float, float]:
    """How many fewer pictures are right, as a share, and the standard error of that share.

    The unbiased one: a single picture is never more than one standard error.
    """
    gap = best.astype(np.float64) - other
    if len(gap) < 2:
        return float(gap.mean()), np.inf
    return float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(len(gap)))


def _tried(weights: Sequence[float] | None) -> tuple[float, ...]:
    if weights is None:
        return GRID
    try:
        tried = tuple(float(each) for each in weights)
    except (TypeError, ValueError, OverflowError):
        tried = ()
    if (
        isinstance(weights, str | bytes)
        or not tried
        or not all(0 < each <= HEAVIEST for each in tried)
    ):
        raise InvalidParameter(
            "the weights to try are out of range",
            expected=f"numbers above 0, up to {HEAVIEST:g}",
            got=f"{weights!r:.80}",
            remedy="Leave them out to try those of the released code.",
        )
    return tried


def codes_of(classes: list[Any], labels: NDArray[Any]) -> Codes:
    """Return the class of each label.

    Raises:
        InvalidLabel: There is no such class.
    """
    code = {label: number for number, label in enumerate(classes)}
    unknown = sorted({*labels.tolist()} - code.keys(), key=str)
    if unknown:
        raise InvalidLabel(
            "a label is of no class that is known", expected="labels in classes_", got=unknown[:5],
            remedy="Leave those pictures out, or teach the class first.",
        )  # fmt: skip
    return np.array([code[label] for label in labels.tolist()], np.int64)
