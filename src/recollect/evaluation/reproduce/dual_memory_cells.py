"""Single measurements of the dual-memory reproduction: one data set, so many shots, one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import metrics
from recollect.evaluation.baselines import (
    choose_tip,
    class_means,
    linear_probe,
    tda,
    tip_adapter,
)
from recollect.evaluation.named_images import NamedSet
from recollect.heads.abstention import Promise
from recollect.heads.dual_memory.classifier import DualMemoryClassifier
from recollect.heads.dual_memory.fusion import FUSIONS, Fusion, Members, fuse, member_weights
from recollect.heads.dual_memory.offsets import ROLES, Offsets
from recollect.heads.dual_memory.training import Training
from recollect.heads.dual_memory.tuning import FOLDS, best_temperature, score_weights
from recollect.types import Codes, Doubles, Floats

DECIDED = 1000
"""Training pictures that are no shots, on which decisions were made."""

ORDERS = ("shuffled", "blocked", "drifting")
RATES = (0.05, 0.1)
"""Shares of known pictures that may stay unanswered, or of answers that may be wrong."""
ADDED: tuple[Fusion, ...] = ("fixed", "logits")
"""Ways of adding whose weights are chosen."""
MEMBERS = ("text", "dynamic", "static")
ORACLES = {"fixed": "oracle", "logits": "logits, oracle"}
LEARNING = Training(epochs=20, rate=1e-3, precision="float32")
"""A rate that the paper uses for some sets; chosen on training pictures that are no shots."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one measurement works on.

    Attributes:
        named: The data set.
        shots: Of each class.
        seed: Of the draw of shots and the order of the stream.
        order: ``"shuffled"``, ``"blocked"``: one class after another, or ``"drifting"``: classes
            come and go slowly. With seed 0 the classes come in the order of their names, with any
            other in one drawn for it.
    """

    named: NamedSet
    shots: int
    seed: int
    order: str = "shuffled"

    def chosen(self) -> Codes:
        """Return which training pictures are shots, class by class."""
        codes = self.named.codes
        order = np.random.default_rng(self.seed).permutation(len(codes))
        each = [order[codes[order] == c][: self.shots] for c in range(len(self.named.classes))]
        return np.concatenate(each)

    def drawn(self) -> tuple[Floats, Codes, Codes]:
        """Return shots, their classes, and their rank within the class."""
        rows = self.chosen()
        codes = self.named.codes[rows]
        counts = np.bincount(codes, minlength=len(self.named.classes))
        rank = np.concatenate([np.arange(count) for count in counts.tolist()])
        return self.named.keys[rows], codes, rank

    def places(self) -> Codes:
        """Where the pictures of the stream stand among the queries, in the order they come."""
        random = np.random.default_rng(1000 + self.seed)
        order = random.permutation(len(self.named.truth))
        classes = np.arange(len(self.named.classes))
        turn = (random.permutation(classes) if self.seed else classes)[self.named.truth[order]]
        if self.order == "blocked":
            return order[np.argsort(turn, kind="stable")]
        if self.order == "drifting":
            spread = len(self.named.classes) / 5
            return order[np.argsort(turn + random.normal(0.0, spread, len(turn)))]
        return order

    def stream(self) -> tuple[Floats, Codes]:
        """Return the test pictures in the order in which they come, and their classes."""
        order = self.places()
        return self.named.queries[order], self.named.truth[order]

    def others(self) -> tuple[Floats, Codes]:
        """Return up to a thousand training pictures that are no shots, and their classes."""
        random = np.random.default_rng(self.seed)
        random.permutation(len(self.named.codes))  # the draw of the shots
        rest = np.setdiff1d(np.arange(len(self.named.codes)), self.chosen())
        order = random.permutation(rest)[:DECIDED]
        return self.named.keys[order], self.named.codes[order]

    def head(self, **options: Any) -> DualMemoryClassifier:
        """Return a classifier that knows names and shots."""
        head = DualMemoryClassifier(self.named.text, **options)
        keys, codes, _ = self.drawn()
        return head.fit(keys, codes) if len(keys) else head.fit()


def training_free(cell: Cell) -> dict[str, Any]:
    """Accuracy of every member and fusion, in both modes."""
    x, truth = cell.stream()
    found: dict[str, Any] = {}
    # Before anything was observed, both modes are the same.
    chosen = _choices(cell.head()) if cell.shots > 1 else {}
    ways: dict[str, dict[str, Any]] = {
        "published": {},
        "robust": {"mode": "robust"},
        "trusting": {"mode": "robust", "trust": 1.0},
    }
    for way, options in ways.items():
        said = cell.head(**options).observe(x)
        found[way] = _fusions(said.members, truth, chosen, (said.held, float(cell.shots)))
    return found


def learned(cell: Cell) -> dict[str, Any]:
    """Accuracy of every member and fusion with learned offsets, in both modes.

    Honest weights are chosen on shots that are left out, for which offsets are learned anew.
    """
    x, truth = cell.stream()
    teacher = cell.head(offsets=LEARNING)
    chosen = _choices(teacher) if cell.shots > 1 else {}
    found = {}
    for way in ("published", "robust"):
        said = cell.head(mode=way, offsets=teacher.offsets_).observe(x)
        found[way] = _fusions(said.members, truth, chosen, (said.held, float(cell.shots)))
    return found


def told_apart(cell: Cell, counts: Sequence[int | None]) -> dict[str, dict[str, float]]:
    """Accuracy by the number of channels in which the static memory meets a picture."""
    return {
        "all" if count is None else str(count): streamed(cell, mode="robust", channels=count)
        for count in counts
    }


def variants(cell: Cell, how: dict[str, Training]) -> dict[str, Any]:
    """Accuracy of static memory and of all members, for several ways to learn offsets."""
    return {name: _with_offsets(cell, training) for name, training in how.items()}


def cropped(cell: Cell, crops: Floats, how: dict[str, Training], rate: float) -> dict[str, Any]:
    """The same, asked by crops of the shots; ways that leave a slot out are passed over.

    Args:
        cell: What to learn from, and the stream.
        crops: Of the shots, ``(shots, crops, dim)``.
        how: The ways.
        rate: To learn at.
    """
    x, y = _asked_by(cell, crops)
    teacher, found = cell.head(), {}
    for name, training in how.items():
        if not training.leave_one_out:
            learned = teacher.learn_offsets(x, y, replace(training, rate=rate))
            found[name] = _with_offsets(cell, learned)
    return found


def _asked_by(cell: Cell, crops: Floats) -> tuple[Floats, Codes]:
    codes = cell.drawn()[1]
    return crops.reshape(-1, crops.shape[-1]), np.repeat(codes, crops.shape[1])


def _with_offsets(cell: Cell, offsets: Training | Offsets) -> dict[str, Any]:
    x, truth = cell.stream()
    head = cell.head(mode="robust", offsets=offsets, fusion="logits")
    said, learned = head.observe(x), head.offsets_
    assert said.members.static is not None
    assert learned is not None
    moved = {role: np.abs(getattr(learned, role)).max() for role in ROLES}
    moved |= {f"map of {role}": np.abs(each).max() for role, each in (learned.maps or {}).items()}
    return {
        "static": _right(said.members.static, truth),
        "fused": _right(said.probability, truth),
        "moved": {role: float(f"{size:.3g}") for role, size in moved.items()},
    }


def rated(cell: Cell, rates: Sequence[float], crops: Floats | None = None) -> dict[str, float]:
    """Accuracy of all members on training pictures that are no shots, by learning rate.

    Args:
        cell: What to learn from.
        rates: To try.
        crops: Of the shots, ``(shots, crops, dim)``, which then ask in their place.
    """
    x, truth = cell.others()
    teacher, found = cell.head(), {}
    for rate in rates:
        offsets: Training | Offsets = replace(LEARNING, rate=rate)
        if crops is not None:
            offsets = teacher.learn_offsets(*_asked_by(cell, crops), replace(LEARNING, rate=rate))
        said = cell.head(mode="robust", offsets=offsets, fusion="logits").observe(x)
        found[f"{rate:g}"] = _right(said.probability, truth)
    return found


def decided(cell: Cell) -> dict[str, Any]:
    """What was decided on training pictures that are no shots: rules for weights, and trust.

    Args:
        cell: Its seed draws the shots, and up to a thousand of the other training pictures, which
            come as a stream instead of the test's.
    """
    x, truth = cell.others()
    rules: dict[str, tuple[float, float, float]] = {"(1, 1, 1)": (1.0, 1.0, 1.0)}
    if cell.shots > 1:
        members, own, _ = cell.head().left_out()
        report = score_weights(members, own, fusion="logits")
        rules |= {"most accurate": report.best.weights, "one error": report.chosen.weights}
        sums = score_weights(members, own, fusion="fixed").chosen.weights
    found: dict[str, Any] = {}
    for trust in (0.0, 1.0):
        said = cell.head(mode="robust", trust=trust).observe(x).members
        assert said.text is not None
        assert said.static is not None
        found[f"trust {trust:g}"] = {
            "text": _right(said.text, truth),
            "static": _right(said.static, truth),
            "dynamic": _right(said.dynamic, truth),
            **{
                rule: _right(_fused(said, "logits", weights, (1.0, 1.0)), truth)
                for rule, weights in rules.items()
            },
        }
        if cell.shots > 1:
            probability = _fused(said, "fixed", sums, (1.0, 1.0))
            found[f"trust {trust:g}"]["one error, fixed"] = _right(probability, truth)
    return found


def masked(cell: Cell) -> dict[str, float]:
    """Accuracy of offsets learned with and without each shot's own slot."""
    how = {"found": LEARNING, "hidden": replace(LEARNING, leave_one_out=True)}
    return {
        f"{way}, {part}": one[part]
        for way, one in variants(cell, how).items()
        for part in ("static", "fused")
    }


def compared(cell: Cell) -> dict[str, float]:
    """Accuracy of the baselines."""
    x, truth = cell.stream()
    keys, codes, rank = cell.drawn()
    named = cell.named
    if not len(keys):
        return {"TDA": _right(tda(named.text, x), truth)}
    means = class_means(keys, codes, len(named.classes))
    alpha, beta = choose_tip(named.text, keys, codes, rank % FOLDS)
    tip = tip_adapter(named.text, keys, codes, x, alpha=alpha, beta=beta)
    return {"class means": _right(x @ means.T, truth), "Tip-Adapter": _right(tip, truth)}


def probed(cell: Cell) -> dict[str, Any]:
    """Accuracy of a linear probe on the shots."""
    x, truth = cell.stream()
    keys, codes, rank = cell.drawn()
    probe = linear_probe(keys, codes, x, rank % FOLDS)
    return {
        "linear probe": float((probe.codes == truth).mean()),
        "strength": probe.strength,
        "converged": probe.converged,
    }


def streamed(cell: Cell, **options: Any) -> dict[str, float]:
    """Accuracy over a stream, and of names alone, in percent."""
    x, truth = cell.stream()
    said = cell.head(**options).observe(x)
    assert said.members.text is not None
    found = {
        "text": _right(said.members.text, truth),
        "dynamic": _right(said.members.dynamic, truth),
        "fused": _right(said.probability, truth),
        "pseudo labels": metrics.accuracy(truth, said.pseudo_labels),
        "calibration error": metrics.expected_calibration_error(
            said.labels == truth, said.probability.max(axis=1)
        ),
    }
    if said.members.static is not None:
        found["static"] = _right(said.members.static, truth)
    return found


def compared_stream(cell: Cell) -> float:
    """Accuracy of TDA over a stream."""
    x, truth = cell.stream()
    return _right(tda(cell.named.text, x), truth)


def rejecting(cell: Cell) -> dict[str, dict[str, float]]:
    """How well pictures of unnamed classes are told apart, before and after a stream of all.

    Every second class loses its name and its shots. Half of the test pictures are asked about;
    the other half, known and unknown ones, is observed in between.
    """
    named = cell.named
    kept = np.arange(0, len(named.classes), 2)
    place = np.full(len(named.classes), -1)
    place[kept] = np.arange(len(kept))
    keys, codes, _ = cell.drawn()
    here = place[codes] >= 0
    head = DualMemoryClassifier(named.text[kept], mode="robust", fusion="logits")
    head = head.fit(keys[here], place[codes[here]]) if here.any() else head.fit()
    x, truth = cell.stream()
    asked, seen, codes = x[::2], x[1::2], place[truth[::2]]
    before = _rejected(head, asked, codes)
    head.observe(seen)
    return {"before": before, "after": _rejected(head, asked, codes)}


def _rejected(head: DualMemoryClassifier, x: Floats, codes: Codes) -> dict[str, float]:
    """Ranking of unknown pictures, and what stays unanswered; unknown ones have the code -1."""
    from sklearn.metrics import roc_auc_score

    unknown = codes < 0
    sure = head.predict_proba(x).max(axis=1)
    found = {
        "novelty": float(roc_auc_score(unknown, head.novelty(x))),
        "1 - largest probability": float(roc_auc_score(unknown, -sure)),
        "right": float((head.predict(x[~unknown]) == codes[~unknown]).mean()),
    }
    promises: tuple[Promise, ...] = ("coverage", "error")
    for promise in promises:
        for rate in RATES:
            answers = head.predict(x, abstain=rate, promise=promise)
            given = np.array([answer is not None for answer in answers.tolist()])
            known = given & ~unknown
            wrong = answers[known] != codes[known]
            key = f"{promise} {rate:g}"
            found[f"{key}, known unanswered"] = float(1 - known.sum() / (~unknown).sum())
            found[f"{key}, unknown unanswered"] = float((~given[unknown]).mean())
            found[f"{key}, wrong of the answers"] = float(wrong.mean()) if len(wrong) else 0.0
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen on shots that are left out, for one way of adding.

    Attributes:
        weights: Of text, dynamic and static memory.
        temperature: With these weights.
    """

    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    temperature: float = 1.0


def _choices(head: DualMemoryClassifier) -> dict[str, Choice]:
    members, truth, counts = head.left_out()
    chosen: dict[str, Choice] = {}
    for fusion in ADDED:
        weights = score_weights(members, truth, fusion=fusion).chosen.weights
        shares = member_weights(members, weights, fusion, counts=counts, anchor=1.0)
        temperature = best_temperature(members, shares, truth, logarithms=fusion == "logits")
        chosen[fusion] = Choice(weights, temperature)
    return chosen


def _even(members: Members, truth: Codes, counts: tuple[Doubles, float]) -> dict[str, Any]:
    """Accuracy of every member and of every fusion, the weights all alike."""
    found = {
        name: _right(each, truth)
        for name, each in zip(MEMBERS, members.all(), strict=True)
        if each is not None
    }
    for name, each in zip(MEMBERS, members.all(), strict=True):
        if each is not None:
            found[f"{name}, calibration"] = _calibration(each, truth)
    for fusion in FUSIONS:
        found[fusion] = _right(_fused(members, fusion, (1.0, 1.0, 1.0), counts), truth)
    return found


def _fusions(
    members: Members, truth: Codes, chosen: dict[str, Choice], counts: tuple[Doubles, float]
) -> dict[str, Any]:
    """The same, and with honest and oracle weights; honest temperatures where there are any."""
    found: dict[str, Any] = dict(_even(members, truth, counts))
    for fusion in ADDED:
        choice = chosen.get(fusion, Choice())
        probability = _fused(members, fusion, choice.weights, counts)
        found[f"{fusion}, honest"] = _right(probability, truth)
        right = probability.argmax(axis=1) == truth
        for name, each in zip(MEMBERS, members.all(), strict=True):
            if each is not None:
                unlike = right != (each.argmax(axis=1) == truth)
                found[f"{fusion}, honest, unlike {name}"] = float(unlike.mean())
        found[f"{fusion}, weights"] = list(choice.weights)
        found[f"{fusion}, calibration"] = _calibration(probability, truth)
        if chosen:
            cooler = _fused(members, fusion, choice.weights, counts, choice.temperature)
            found[f"{fusion}, temperature"] = choice.temperature
            found[f"{fusion}, calibrated"] = _calibration(cooler, truth)
        found[ORACLES[fusion]] = score_weights(members, truth, fusion=fusion).best.accuracy
    return found


def _calibration(probability: Doubles, truth: Codes) -> float:
    """Expected calibration error, 15 bins."""
    right = probability.argmax(axis=1) == truth
    return metrics.expected_calibration_error(right, probability.max(axis=1))


def _fused(
    members: Members, fusion: Fusion, weights: tuple[float, float, float],
    counts: tuple[float | Doubles, float], temperature: float = 1.0,
) -> Doubles:  # fmt: skip
    shares = member_weights(members, weights, fusion, counts=counts, anchor=1.0)
    return fuse(members, shares, logarithms=fusion == "logits", temperature=temperature)


def _right(scores: NDArray[Any], truth: Codes) -> float:
    return float((scores.argmax(axis=1) == truth).mean())
