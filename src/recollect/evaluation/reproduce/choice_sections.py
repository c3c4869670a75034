"""The measurements behind the page on what is left to choice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import metrics
from recollect.evaluation.reproduce.visual_memory import Split
from recollect.readout.novelty import NoveltyScore
from recollect.readout.reliability import as_reliability
from recollect.readout.voting import RULES, VoteRule, vote_all_k, weigh
from recollect.types import Floats, Mask, Neighbors

if TYPE_CHECKING:
    from recollect.heads.visual_memory import MemoryClassifier

KS = (10, 50, 100)
MOST = 100
NOISE = 0.2
SEEDS = (0, 1, 2)
RATES = (0.05, 0.1)
SCORED: tuple[tuple[NoveltyScore, int], ...] = (
    ("mean", 100),
    ("median", 100),
    ("mean", 20),
    ("nearest", 1),
)
PROBE_C = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
PROBE_TOLERANCE = 1e-5
"""A tenth of scikit-learn's, at which a probe of these keys stops before it is at its best."""
PROBE_ITERATIONS = 3000
HELD_OUT = 0.2


def tuning(split: Split, head: MemoryClassifier) -> dict[str, Any]:
    """Let leave-one-out choose vote, k, parameter and reliability, and compare with the oracle."""
    begun = time.perf_counter()
    report = head.tune()
    seconds = time.perf_counter() - begun
    honest = head.predict(split.queries)
    near = head.memory_.search(split.queries, min(MOST, len(head.memory_)))
    assert near.codes is not None
    assert near.classes is not None
    curves = {
        rule: near.classes[vote_all_k(near.codes, weigh(near, VoteRule(rule), head.metric))]
        for rule in RULES
    }
    accuracy = {rule: metrics.accuracy_by_k(split.truth, curve) for rule, curve in curves.items()}
    rule = max(accuracy, key=lambda name: float(accuracy[name].max()))
    k = int(accuracy[rule].argmax()) + 1
    gap, error = metrics.paired_difference(split.truth, curves[rule][:, k - 1], honest)
    best = report.best
    return {
        "chosen": {
            "rule": best.rule, "k": best.k, "parameter": best.parameter, "value": best.value,
            "reliability": None if best.reliability is None else best.reliability.name,
        },
        "expected": _share(best.score, report.queries),
        "honest": _accuracy(split.truth, honest),
        "oracle": {"rule": rule, "k": k, **_accuracy(split.truth, curves[rule][:, k - 1])},
        "gap": {"points": _points(gap), "paired_error": _points(error)},
        "default": _accuracy(split.truth, head.set_params(
            vote="rank", k=20, alpha=2.0, reliability=None).predict(split.queries)),
        "tuning_seconds": round(seconds, 1),
    }  # fmt: skip


def reliability(split: Split, head: MemoryClassifier) -> dict[str, Any]:
    """Flip a fifth of the labels, and vote by rank with each reliability and the one chosen."""
    memory, peers = head.memory_, head.peers_
    found = memory.search(split.queries, min(MOST, len(memory)))
    lines = []
    for seed in SEEDS:
        noisy, _ = flipped(split.labels, seed)
        memory.update(head.ids_, values=noisy)
        near = memory.look_up(found.ids, found.similarity)
        for k in KS:
            head.tune(
                grid={
                    "vote": ["rank"], "alpha": [2.0], "k": [k],
                    "reliability": [None, "soft", "rate"],
                }
            )  # fmt: skip
            chosen = head.reliability
            line: dict[str, Any] = {"seed": seed, "k": k, "chosen": chosen}
            for name in (None, "soft", "rate"):
                right = _right(peers.judged(near, as_reliability(name)), k, split.truth)
                line[str(name)] = round(float(right.mean()), 5)
            line["gain"] = _points(line[str(chosen)] - line["None"])
            lines.append(line)
    memory.update(head.ids_, values=split.labels)
    return {"noise": NOISE, "lines": lines}


def label_noise(split: Split, head: MemoryClassifier) -> dict[str, Any]:
    """Flip a fifth of the labels and look for them, beside confident learning and cleanlab."""
    from recollect.curation.suspects import ASKED, find_suspects
    from recollect.heads.members import own_shares

    lines = []
    memory, ids, peers = head.memory_, head.ids_, head.peers_
    for seed in SEEDS:
        noisy, wrong = flipped(split.labels, seed)
        memory.update(ids, values=noisy)
        suspects = find_suspects(peers)
        accused = np.isin(ids, [one.id for one in suspects])
        own = own_shares(peers, VoteRule("plurality"), ASKED, None, len(memory.labels))
        found = {
            "ours": accused,
            "confident learning": confident_learning(own.shares, own.truth),
            "cleanlab": _cleanlab(own.shares, own.truth),
        }
        line: dict[str, Any] = {"seed": seed, "noisy": _voted(split, noisy)}
        for name, which in found.items():
            if which is not None:
                line[name] = {
                    **_found(which, wrong),
                    "without": _voted(split, noisy, keep=~which),
                }
        better = noisy.copy()
        suggested = {one.id: one.suggested for one in suspects}
        better[accused] = [suggested[row] for row in ids[accused].tolist()]
        line["relabeled"] = _voted(split, better)
        line["clean"] = _voted(split, split.labels)
        lines.append(line)
    memory.update(ids, values=split.labels)
    return {"noise": NOISE, "lines": lines}


def novelty(split: Split, head: MemoryClassifier) -> dict[str, Any]:
    """Withhold every second class, and see whether its queries are told from the others."""
    from sklearn.base import clone

    classes = np.unique(split.labels.astype(str))[::2].astype(object)
    kept = np.isin(split.labels, classes)
    known = np.isin(split.truth, classes)
    head = clone(head).fit(split.keys[kept], split.labels[kept])
    scores = {
        f"{score} of {count}": head.novelty(split.queries, score=score, neighbors=count)
        for score, count in SCORED
    }
    told = {
        name: {
            "auroc": round(metrics.auroc(one[known], one[~known]), 4),
            "fpr95": round(metrics.false_positive_rate(one[known], one[~known]), 4),
        }
        for name, one in scores.items()
    }
    promises = []
    for rate in RATES:
        covered = _answered(head.predict(split.queries, abstain=rate))
        sure = head.predict(split.queries[known], abstain=rate, promise="error")
        given = _answered(sure)
        wrong = sure[given] != split.truth[known][given]
        promises.append(
            {
                "rate": rate,
                "known_unanswered": round(float(1 - covered[known].mean()), 4),
                "withheld_unanswered": round(float(1 - covered[~known].mean()), 4),
                "error_of_answered": round(float(wrong.mean()), 4) if given.any() else None,
                "answered": round(float(given.mean()), 4),
            }
        )
    return {
        "known": len(classes), "withheld": len(np.unique(split.labels.astype(str))) - len(classes),
        "queries_known": int(known.sum()), "queries_withheld": int((~known).sum()),
        "scores": told, "promises": promises,
    }  # fmt: skip


def class_means(split: Split, head: MemoryClassifier) -> dict[str, Any]:
    """Blend class means into the vote, their part chosen on the memory's own rows."""
    lines = {"vote, defaults": _accuracy(split.truth, head.predict(split.queries))}
    begun = time.perf_counter()
    report = head.tune(means=True)
    seconds = time.perf_counter() - begun
    assert report.means is not None
    lines["vote and class means, chosen"] = _accuracy(split.truth, head.predict(split.queries))
    part = head.class_means
    head.set_params(class_means=0.0)
    lines["vote, chosen"] = _accuracy(split.truth, head.predict(split.queries))
    head.set_params(class_means=1.0, shrinkage=0.3)
    lines["class means alone"] = _accuracy(split.truth, head.predict(split.queries))
    return {
        "lines": lines,
        "chosen": {
            "class_means": part, "shrinkage": report.means.shrinkage,
            "mean_temperature": report.means.mean_temperature,
        },
        "seconds_to_choose": round(seconds, 1),
    }  # fmt: skip


def linear_probe(split: Split, head: MemoryClassifier) -> dict[str, Any]:  # noqa: ARG001 - one signature
    """Train a linear probe, its strength chosen on held-out rows; what class means stand beside."""
    from sklearn.preprocessing import normalize

    begun = time.perf_counter()
    keys, labels = normalize(split.keys), split.labels.astype(str)
    held_out = _held_out_scores(keys, labels)
    best = max(held_out, key=lambda strength: held_out[strength])
    probe = _probe(keys, labels, best)
    seconds = time.perf_counter() - begun
    return {
        **_accuracy(split.truth, probe.predict(normalize(split.queries)).astype(object)),
        "C": best, "held_out": {f"{c:g}": round(score, 5) for c, score in held_out.items()},
        "iterations": int(probe.n_iter_.max()),
        "converged": bool(probe.n_iter_.max() < PROBE_ITERATIONS),
        "seconds_to_train": round(seconds, 1),
    }  # fmt: skip


def flipped(labels: NDArray[Any], seed: int, noise: float = NOISE) -> tuple[NDArray[Any], Mask]:
    """Give a share of the rows, drawn at random, another label, each other one equally likely.

    Example:
        >>> noisy, wrong = flipped(np.array(["a", "b"] * 500, object), 0)
        >>> 150 < int(wrong.sum()) < 250, bool((noisy != np.array(["a", "b"] * 500))[wrong].all())
        (True, True)
    """
    rng = np.random.default_rng(seed)
    classes, codes = np.unique(labels.astype(str), return_inverse=True)
    wrong = rng.random(len(labels)) < noise
    moved = codes[wrong] + rng.integers(1, len(classes), int(wrong.sum()))
    codes = codes.copy()
    codes[wrong] = moved % len(classes)
    return classes.astype(object)[codes], wrong


def confident_learning(shares: NDArray[Any], truth: NDArray[Any]) -> Mask:
    """Find labels that confident learning counts as wrong.

    Northcutt et al., "Confident Learning" (2021), section 3.1: a row belongs to the class with the
    largest share among those whose share reaches the mean that the class' own rows have.

    Args:
        shares: float64 ``(rows, classes)``; of each row without itself.
        truth: int64 ``(rows,)``. Codes of the labels given.

    Example:
        >>> shares = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
        >>> confident_learning(shares, np.array([0, 0, 1, 1])).tolist()
        [False, False, False, True]
    """
    own = shares[np.arange(len(truth)), truth]
    counts = np.bincount(truth, minlength=shares.shape[1])
    usual = np.bincount(truth, own, shares.shape[1]) / np.maximum(counts, 1)
    usual[counts == 0] = np.inf
    sure = np.where(shares >= usual, shares, -np.inf)
    return np.asarray(np.isfinite(sure.max(axis=1)) & (sure.argmax(axis=1) != truth))


def _cleanlab(shares: NDArray[Any], truth: NDArray[Any]) -> Mask | None:
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return None
    return np.asarray(find_label_issues(truth, shares, n_jobs=1), bool)


def _held_out_scores(keys: Floats, labels: NDArray[Any]) -> dict[float, float]:
    """Accuracy of a probe of each strength on a fifth of the rows, trained on the others."""
    from sklearn.model_selection import train_test_split

    some, held, its, others = train_test_split(
        keys, labels, test_size=HELD_OUT, random_state=0, stratify=labels
    )
    return {c: float(_probe(some, its, c).score(held, others)) for c in PROBE_C}


def _probe(keys: Floats, labels: NDArray[Any], strength: float) -> Any:
    """Logistic regression on keys of length 1."""
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(C=strength, tol=PROBE_TOLERANCE, max_iter=PROBE_ITERATIONS)
    return probe.fit(keys, labels)


def _right(near: Neighbors, k: int, truth: NDArray[Any]) -> Mask:
    """Which queries a rank vote among the first k neighbors answers right."""
    assert near.codes is not None
    assert near.classes is not None
    winners = vote_all_k(near.codes[:, :k], weigh(near, VoteRule(), "cosine")[:, :k])[:, -1]
    return np.asarray(near.classes[winners] == truth)


def _voted(split: Split, labels: NDArray[Any], keep: Mask | None = None) -> float:
    """Accuracy of the default vote with these labels, in percent."""
    from recollect.heads.visual_memory import MemoryClassifier

    kept = np.ones(len(labels), bool) if keep is None else keep
    head = MemoryClassifier().fit(split.keys[kept], labels[kept])
    return round(100 * float(head.score(split.queries, split.truth)), 2)


def _found(accused: Mask, wrong: Mask) -> dict[str, Any]:
    hits = int((accused & wrong).sum())
    precision, recall = hits / max(1, int(accused.sum())), hits / int(wrong.sum())
    return {
        "accused": int(accused.sum()),
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(precision + recall, 1e-12), 4),
    }


def _answered(answers: NDArray[Any]) -> Mask:
    return np.array([answer is not None for answer in answers], bool)


def _accuracy(truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    return _share(metrics.accuracy(truth, predicted), len(truth))


def _share(share: float, count: int) -> dict[str, float]:
    return {
        "accuracy": round(share, 5),
        "standard_error": round(metrics.standard_error(share, count), 5),
    }


def _points(share: float) -> float:
    return round(100 * share, 3)
