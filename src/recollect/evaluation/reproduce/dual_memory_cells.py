"""Single measurements of the dual-memory reproduction: one data set, so many shots, one seed."""

from __future__ import annotations

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
from recollect.heads.dual_memory.classifier import DualMemoryClassifier
from recollect.heads.dual_memory.fusion import FUSIONS, Fusion, Members, fuse, member_weights
from recollect.heads.dual_memory.training import Training
from recollect.heads.dual_memory.tuning import FOLDS, score_weights
from recollect.types import Codes, Doubles, Floats

DECIDED = 1000
"""Training pictures that are no shots, on which decisions were made."""

ORDERS = ("shuffled", "blocked", "drifting")
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
            come and go slowly.
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
        codes = self.named.truth[order]
        if self.order == "blocked":
            return order[np.argsort(codes, kind="stable")]
        if self.order == "drifting":
            spread = len(self.named.classes) / 5
            return order[np.argsort(codes + random.normal(0.0, spread, len(codes)))]
        return order

    def stream(self) -> tuple[Floats, Codes]:
        """Return the test pictures in the order in which they come, and their classes."""
        order = self.places()
        return self.named.queries[order], self.named.truth[order]

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
    chosen = _chosen(cell.head()) if cell.shots > 1 else {}
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
    """Accuracy with learned offsets, the weights all alike."""
    x, truth = cell.stream()
    said = cell.head(mode="robust", offsets=LEARNING).observe(x)
    return {"robust": _even(said.members, truth, (said.held, float(cell.shots)))}


def variants(cell: Cell, how: dict[str, Training]) -> dict[str, float]:
    """Accuracy of static memory and of all members, for several ways to learn offsets."""
    x, truth = cell.stream()
    found = {}
    for name, training in how.items():
        said = cell.head(mode="robust", offsets=training, fusion="logits").observe(x)
        assert said.members.static is not None
        found[f"{name}, static"] = _right(said.members.static, truth)
        found[f"{name}, fused"] = _right(said.probability, truth)
    return found


def decided(cell: Cell) -> dict[str, Any]:
    """What was decided on training pictures that are no shots: rules for weights, and trust.

    Args:
        cell: Its seed draws the shots, and up to a thousand of the other training pictures, which
            come as a stream instead of the test's.
    """
    random = np.random.default_rng(cell.seed)
    random.permutation(len(cell.named.codes))  # the draw of the shots
    order = random.permutation(np.setdiff1d(np.arange(len(cell.named.codes)), cell.chosen()))
    x, truth = cell.named.keys[order[:DECIDED]], cell.named.codes[order[:DECIDED]]
    rules: dict[str, tuple[float, float, float]] = {"(1, 1, 1)": (1.0, 1.0, 1.0)}
    if cell.shots > 1:
        members, own, _ = cell.head().left_out()
        report = score_weights(members, own, fusion="logits")
        rules |= {"most accurate": report.best.weights, "one error": report.chosen.weights}
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
    return found


def masked(cell: Cell) -> dict[str, float]:
    """Accuracy of offsets learned with and without each shot's own slot."""
    how = {"found": LEARNING, "hidden": replace(LEARNING, leave_one_out=True)}
    return variants(cell, how)


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


def rejecting(cell: Cell) -> dict[str, float]:
    """How well pictures of unnamed classes are told apart: area under the ROC curve.

    Every second class loses its name and its shots; the stream holds all classes.
    """
    from sklearn.metrics import roc_auc_score

    named = cell.named
    kept = np.arange(0, len(named.classes), 2)
    place = np.full(len(named.classes), -1)
    place[kept] = np.arange(len(kept))
    keys, codes, _ = cell.drawn()
    here = place[codes] >= 0
    head = DualMemoryClassifier(named.text[kept], mode="robust", fusion="logits")
    head = head.fit(keys[here], place[codes[here]]) if here.any() else head.fit()
    x, truth = cell.stream()
    unknown = place[truth] < 0
    sure = head.predict_proba(x).max(axis=1)
    return {
        "novelty": float(roc_auc_score(unknown, head.novelty(x))),
        "1 - largest probability": float(roc_auc_score(unknown, -sure)),
    }


def _chosen(head: DualMemoryClassifier) -> dict[str, tuple[float, float, float]]:
    """Weights chosen on shots that are left out, for both ways of adding."""
    members, truth, _ = head.left_out()
    both: tuple[Fusion, ...] = ("fixed", "logits")
    return {each: score_weights(members, truth, fusion=each).chosen.weights for each in both}


def _even(members: Members, truth: Codes, counts: tuple[Doubles, float]) -> dict[str, Any]:
    """Accuracy of every member and of every fusion, the weights all alike."""
    found = {
        name: _right(each, truth)
        for name, each in zip(("text", "dynamic", "static"), members.all(), strict=True)
        if each is not None
    }
    for fusion in FUSIONS:
        found[fusion] = _right(_fused(members, fusion, (1.0, 1.0, 1.0), counts), truth)
    return found


def _fusions(
    members: Members, truth: Codes, chosen: dict[str, Any], counts: tuple[Doubles, float]
) -> dict[str, Any]:
    """The same, and with honest and oracle weights."""
    found: dict[str, Any] = dict(_even(members, truth, counts))
    ways: tuple[Fusion, ...] = ("fixed", "logits")
    for fusion in ways:
        weights = chosen.get(fusion, (1.0, 1.0, 1.0))
        probability = _fused(members, fusion, weights, counts)
        found[f"{fusion}, honest"] = _right(probability, truth)
        found[f"{fusion}, weights"] = list(weights)
        found[f"{fusion}, calibration"] = metrics.expected_calibration_error(
            probability.argmax(axis=1) == truth, probability.max(axis=1)
        )
    found["oracle"] = score_weights(members, truth).best.accuracy
    return found


def _fused(
    members: Members, fusion: Fusion, weights: tuple[float, float, float],
    counts: tuple[float | Doubles, float],
) -> Doubles:  # fmt: skip
    shares = member_weights(members, weights, fusion, counts=counts, anchor=1.0)
    return fuse(members, shares, logarithms=fusion == "logits")


def _right(scores: NDArray[Any], truth: Codes) -> float:
    return float((scores.argmax(axis=1) == truth).mean())
