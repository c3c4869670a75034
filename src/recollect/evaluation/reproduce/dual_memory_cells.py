"""Single measurements of the dual-memory reproduction: one data set, so many shots, one seed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import metrics
from recollect.evaluation.baselines import choose_tip, class_means, tda, tip_adapter
from recollect.evaluation.named_images import NamedSet
from recollect.heads.dual_memory.classifier import DualMemoryClassifier
from recollect.heads.dual_memory.fusion import Fusion, Members, fuse, member_weights
from recollect.heads.dual_memory.training import Training
from recollect.heads.dual_memory.tuning import FOLDS, score_weights
from recollect.types import Codes, Doubles, Floats

ORDERS = ("shuffled", "blocked", "drifting")
PROBE_C = 10.0
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

    def drawn(self) -> tuple[Floats, Codes, Codes]:
        """Return shots, their classes, and their rank within the class."""
        random = np.random.default_rng(self.seed)
        codes = self.named.codes
        order = random.permutation(len(codes))
        chosen = [order[codes[order] == c][: self.shots] for c in range(len(self.named.classes))]
        rows = np.concatenate(chosen) if self.shots else np.empty(0, np.int64)
        rank = np.concatenate([np.arange(len(each)) for each in chosen])
        return self.named.keys[rows], codes[rows], rank

    def stream(self) -> tuple[Floats, Codes]:
        """Return the test pictures in the order in which they come, and their classes."""
        random = np.random.default_rng(1000 + self.seed)
        order = random.permutation(len(self.named.truth))
        codes = self.named.truth[order]
        if self.order == "blocked":
            order = order[np.argsort(codes, kind="stable")]
        elif self.order == "drifting":
            spread = len(self.named.classes) / 5
            order = order[np.argsort(codes + random.normal(0.0, spread, len(codes)))]
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
    for mode in ("published", "robust"):
        head = cell.head(mode=mode)
        said = head.observe(x)
        found[mode] = _fusions(said.members, truth, chosen, (said.held, float(cell.shots)))
    return found


def learned(cell: Cell) -> dict[str, Any]:
    """Accuracy with learned offsets; the weights are chosen as if they had not been learned."""
    x, truth = cell.stream()
    chosen = _chosen(cell.head(mode="robust")) if cell.shots > 1 else {}
    head = cell.head(mode="robust", offsets=LEARNING)
    said = head.observe(x)
    return {"robust": _fusions(said.members, truth, chosen, (said.held, float(cell.shots)))}


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
    return {
        "class means": _right(x @ means.T, truth),
        "linear probe": _probe(keys, codes, x, truth),
        "Tip-Adapter": _right(tip, truth),
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
    members, truth = head.left_out()
    both: tuple[Fusion, ...] = ("fixed", "logits")
    return {each: score_weights(members, truth, fusion=each).best.weights for each in both}


def _fusions(
    members: Members, truth: Codes, chosen: dict[str, Any], counts: tuple[Doubles, float]
) -> dict[str, Any]:
    even = (1.0, 1.0, 1.0)

    def fused(fusion: Any, weights: tuple[float, float, float]) -> Doubles:
        shares = member_weights(members, weights, fusion, counts=counts, anchor=1.0)
        return fuse(members, shares, logarithms=fusion == "logits")

    text, dynamic, static = members.all()
    assert text is not None
    found: dict[str, Any] = {"text": _right(text, truth), "dynamic": _right(dynamic, truth)}
    if static is not None:
        found["static"] = _right(static, truth)
    for fusion in ("fixed", "count", "entropy", "logits"):
        found[fusion] = _right(fused(fusion, even), truth)
    for fusion in ("fixed", "logits"):
        weights = chosen.get(fusion, even)
        probability = fused(fusion, weights)
        found[f"{fusion}, honest"] = _right(probability, truth)
        found[f"{fusion}, weights"] = list(weights)
        found[f"{fusion}, calibration"] = metrics.expected_calibration_error(
            probability.argmax(axis=1) == truth, probability.max(axis=1)
        )
    found["oracle"] = score_weights(members, truth).best.accuracy
    return found


def _probe(keys: Floats, codes: Codes, x: Floats, truth: Codes) -> float:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(C=PROBE_C, max_iter=100, tol=1e-3)
    with warnings.catch_warnings():
        # A hundred steps change no digit that is shown.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(keys, codes)
    return metrics.accuracy(truth, probe.predict(x))


def _right(scores: NDArray[Any], truth: Codes) -> float:
    return float((scores.argmax(axis=1) == truth).mean())
