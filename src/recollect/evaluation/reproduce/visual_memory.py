"""Geirhos et al., "Towards flexible perception with visual memory" (ICML 2025, arXiv 2408.08172).

The four votes, at several k and at settings chosen honestly, on CIFAR-10 with the features of a
small public network; beside them scikit-learn's nearest neighbors and a linear probe.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.evaluation import metrics
from recollect.evaluation.datasets import Labelled, cache_file, encoded, mobilenet, read_images
from recollect.evaluation.earlier import make_folder
from recollect.evaluation.reproduce.visual_memory_capabilities import read_parts
from recollect.evaluation.reproduce.visual_memory_page import page
from recollect.readout.voting import RULES
from recollect.types import Doubles, Floats

if TYPE_CHECKING:
    from recollect.encoders.base import Encoder
    from recollect.heads.visual_memory import MemoryClassifier

ROWS, QUERIES = 10_000, 2_000
KS = (1, 10, 50, 100)
HELD_OUT = 0.2
PROBE_C = (1.0, 3.0, 10.0, 30.0)
PROBE_ITERATIONS = 1000
STEM = "visual-memory"
PROPOSED = "rank"
LEVELS = ("1-NN", "linear probe")

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Split:
    """Encoded pictures: what is remembered, and what is asked.

    Attributes:
        keys: float32 ``(rows, dim)``.
        labels: Object array ``(rows,)`` of str.
        queries: float32 ``(queries, dim)``.
        truth: Object array ``(queries,)`` of str.
    """

    keys: Floats
    labels: NDArray[Any]
    queries: Floats
    truth: NDArray[Any]


def run(
    *,
    data: Path,
    models: Path,
    out: Path | None = None,
    rows: int | None = None,
    queries: int | None = None,
    size: int = 160,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the table and write it as JSON, as a page, and as pictures.

    Args:
        data: Folder that holds ``cifar10/train.parquet`` and ``test.parquet``.
        models: Folder that holds ``mobilenet_v2_imagenet/model.onnx``.
        out: Folder for ``visual-memory.json``, ``.md`` and pictures; None writes nothing, no cache
            of encoded images either.
        rows: Rows of the memory, from the top of the training file; None means 10,000.
        queries: Pictures asked about, from the top of the test file; None means 2,000.
        size: Side to which the pictures are enlarged, a multiple of 32.
        progress: Called as ``progress(done, total)`` while images are encoded.

    Returns:
        Protocol, settings and every figure with its standard error, as plain values for JSON.

    Raises:
        InputError: The data or the model are not there.
        InvalidParameter: ``rows``, ``queries`` or ``size`` is out of range.
        MissingExtra: A library is not installed.
    """
    count, asked = ROWS if rows is None else rows, QUERIES if queries is None else queries
    _check_sizes(count, asked, size)
    encoder = mobilenet(models, size)
    remembered = read_images(data, "cifar10", "train").first(count)
    questions = read_images(data, "cifar10", "test").first(asked)
    started = time.perf_counter()
    split = _encode(encoder, remembered, questions, out, progress)
    encoded = time.perf_counter()
    report = {
        "paper": "Towards flexible perception with visual memory, arXiv 2408.08172",
        "protocol": _protocol(encoder, split, size),
        **measure(split),
    }
    report["seconds"] = {
        "encoding": round(encoded - started, 1),
        "measuring": round(time.perf_counter() - encoded, 1),
    }
    if out is not None:
        _write(out, report)
    return report


def measure(split: Split) -> dict[str, Any]:
    """Measure every figure of the table on features that are given.

    Args:
        split: Memory and questions.

    Returns:
        ``votes`` and ``scikit_learn`` (accuracy by rule and k), ``settings`` (chosen by
        leave-one-out, default, oracle, 1-NN, linear probe), ``leave_one_out`` (what was chosen),
        ``differences`` to the honest setting, ``curves`` and ``hit_rate`` by k.
    """
    from recollect.heads.visual_memory import MemoryClassifier

    most = min(max(KS), len(split.keys))
    classifier = MemoryClassifier(k=most).fit(split.keys, split.labels)
    curves: dict[str, NDArray[Any]] = {
        rule: classifier.set_params(vote=rule).predict_all_k(split.queries) for rule in RULES
    }
    near = classifier.memory_.search(split.queries, most)
    tuned, honest = _tuned(split)
    answers = [
        honest,
        _asked("default", "the library's defaults", split, MemoryClassifier()),
        _oracle(split.truth, curves),
        _asked("1-NN", "the nearest row alone", split, MemoryClassifier(k=1)),
        _probe(split),
    ]
    return {
        "votes": [_by_k(rule, split.truth, curves[rule]) for rule in RULES],
        "scikit_learn": [
            _scikit_learn(split, weights, most) for weights in ("uniform", "distance")
        ],
        "settings": [answer.line(split.truth) for answer in answers],
        "leave_one_out": tuned,
        "differences": [_difference(split.truth, honest, other) for other in answers[1:]],
        "curves": {
            rule: _rounded(metrics.accuracy_by_k(split.truth, curve))
            for rule, curve in curves.items()
        },
        "hit_rate": _rounded(metrics.hit_rate_by_k(split.truth, near.values)),
    }


@dataclass(frozen=True, slots=True)
class _Answers:
    """What one method answered, and how long it took to get ready for it."""

    name: str
    words: str
    predicted: NDArray[Any]
    confidence: Doubles | None = None
    ready_seconds: float | None = None

    def line(self, truth: NDArray[Any]) -> dict[str, Any]:
        """The method's line of the report, shares rounded to five decimals."""
        right = metrics.accuracy(truth, self.predicted)
        line = {
            "name": self.name,
            "setting": self.words,
            "accuracy": round(right, 5),
            "standard_error": round(metrics.standard_error(right, len(truth)), 5),
            "macro_recall": round(metrics.macro_recall(truth, self.predicted), 5),
            "macro_recall_standard_error": round(
                metrics.bootstrap_error(truth, self.predicted, metrics.macro_recall), 5
            ),
        }
        if self.confidence is not None:
            correct = self.predicted == truth
            error = metrics.expected_calibration_error(correct, self.confidence)
            line["calibration_error"] = round(error, 5)
        if self.ready_seconds is not None:
            line["ready_seconds"] = round(self.ready_seconds, 2)
        return line


def _tuned(split: Split) -> tuple[dict[str, Any], _Answers]:
    """Choose rule, k and its parameter by leave-one-out on the memory itself."""
    from recollect.heads.visual_memory import MemoryClassifier

    classifier = MemoryClassifier().fit(split.keys, split.labels)
    begun = time.perf_counter()
    tuning = classifier.tune()
    seconds = time.perf_counter() - begun
    best = tuning.best
    report = {
        "rule": best.rule,
        "k": best.k,
        "parameter": best.parameter,
        "value": best.value,
        "accuracy": round(best.score, 5),
        "standard_error": round(tuning.standard_error, 5),
        "settings_tried": len(tuning.settings),
    }
    option = "" if best.parameter is None else f", {best.parameter} = {best.value:g}"
    words = f"{best.rule}, k = {best.k}{option}"
    shares = classifier.predict_proba(split.queries).max(axis=1)
    predicted = classifier.predict(split.queries)
    return report, _Answers("chosen by leave-one-out", words, predicted, shares, seconds)


def _asked(name: str, words: str, split: Split, classifier: MemoryClassifier) -> _Answers:
    classifier.fit(split.keys, split.labels)
    shares = classifier.predict_proba(split.queries).max(axis=1)
    setting = f"{words}: {classifier.vote}, k = {classifier.k}"
    return _Answers(name, setting, classifier.predict(split.queries), shares)


def _oracle(truth: NDArray[Any], curves: dict[str, NDArray[Any]]) -> _Answers:
    """The best rule and k on the questions themselves: what no honest choice can know."""
    accuracy = {rule: metrics.accuracy_by_k(truth, curve) for rule, curve in curves.items()}
    rule = max(accuracy, key=lambda name: float(accuracy[name].max()))
    k = int(accuracy[rule].argmax()) + 1
    words = f"{rule}, k = {k}, default parameter; chosen on the questions it is scored on"
    return _Answers("oracle", words, curves[rule][:, k - 1])


def _probe(split: Split) -> _Answers:
    """Logistic regression; its strength is chosen on held-out rows of the memory."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    def fitted(keys: Floats, labels: NDArray[Any], strength: float) -> Any:
        """Keys are brought to length 1 first; a larger ``strength`` means less decay."""
        regression = LogisticRegression(C=strength, max_iter=PROBE_ITERATIONS)
        return make_pipeline(Normalizer(), regression).fit(keys, labels)

    labels = split.labels.astype(str)
    begun = time.perf_counter()
    some, held, its_labels, held_labels = train_test_split(
        split.keys, labels, test_size=HELD_OUT, random_state=0, stratify=labels
    )
    scores = [fitted(some, its_labels, c).score(held, held_labels) for c in PROBE_C]
    best = PROBE_C[int(np.argmax(scores))]
    probe = fitted(split.keys, labels, best)
    seconds = time.perf_counter() - begun
    shares = probe.predict_proba(split.queries).max(axis=1)
    words = f"logistic regression on keys of length 1, C = {best:g}"
    predicted = probe.predict(split.queries).astype(object)
    return _Answers("linear probe", words, predicted, shares, seconds)


def _scikit_learn(split: Split, weights: str, most: int) -> dict[str, Any]:
    from sklearn.neighbors import KNeighborsClassifier

    columns = []
    for k in _ks(most):
        neighbors = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
        neighbors.fit(split.keys, split.labels.astype(str))
        columns.append(neighbors.predict(split.queries))
    return {"rule": f"KNeighborsClassifier, {weights}"} | _at(split.truth, columns, most)


def _by_k(rule: str, truth: NDArray[Any], curve: NDArray[Any]) -> dict[str, Any]:
    most = curve.shape[1]
    line = {"rule": rule} | _at(truth, [curve[:, k - 1] for k in _ks(most)], most)
    accuracy = metrics.accuracy_by_k(truth, curve)
    best = int(accuracy.argmax())
    line["oracle"] = {
        "k": best + 1,
        "accuracy": round(float(accuracy[best]), 5),
        "standard_error": round(metrics.standard_error(float(accuracy[best]), len(truth)), 5),
    }
    return line


def _at(truth: NDArray[Any], columns: list[NDArray[Any]], most: int) -> dict[str, Any]:
    right = [metrics.accuracy(truth, column) for column in columns]
    errors = [metrics.standard_error(share, len(truth)) for share in right]
    return {"k": _ks(most), "accuracy": _rounded(right), "standard_error": _rounded(errors)}


def _ks(most: int) -> list[int]:
    return [k for k in KS if k <= most]


def _difference(truth: NDArray[Any], honest: _Answers, other: _Answers) -> dict[str, Any]:
    gain, error = metrics.paired_difference(truth, honest.predicted, other.predicted)
    return {"to": other.name, "accuracy": round(gain, 5), "standard_error": round(error, 5)}


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 5) for value in values]


def _check_sizes(rows: int, queries: int, size: int) -> None:
    for name, value, least in (("rows", rows, 2), ("queries", queries, 1), ("size", size, 32)):
        if value < least:
            raise InvalidParameter(f"{name} is out of range", expected=f">= {least}", got=value)
    if size % 32:
        raise InvalidParameter(
            "size is out of range",
            expected="a multiple of 32",
            got=size,
            remedy="The network halves the picture five times; try 96, 128 or 160.",
        )


def _encode(
    encoder: Encoder,
    remembered: Labelled,
    questions: Labelled,
    out: Path | None,
    progress: Progress | None,
) -> Split:
    cache = ":memory:" if out is None else cache_file()
    images = [*remembered.inputs, *questions.inputs]
    keys = encoded(encoder, images, cache=cache, progress=progress)
    rows = len(remembered)
    return Split(keys[:rows], remembered.labels, keys[rows:], questions.labels)


def _protocol(encoder: Encoder, split: Split, size: int) -> dict[str, Any]:
    import sklearn

    from recollect import __version__

    return {
        "data": "CIFAR-10, JPEG copy",
        "rows": len(split.keys),
        "queries": len(split.queries),
        "classes": len(set(split.labels.tolist())),
        "encoder": "MobileNetV2 1.0 (ImageNet), pooled features",
        "fingerprint": encoder.fingerprint,
        "size": size,
        "dim": encoder.dim,
        "metric": "cosine",
        "standard_error": "binomial, over the questions",
        "recollect": __version__,
        "scikit_learn": sklearn.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def _write(out: Path, report: dict[str, Any]) -> None:
    from recollect.evaluation.plots import plot_accuracy_by_k

    make_folder(out)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (out / f"{STEM}.json").write_text(text + "\n", encoding="utf-8")
    (out / f"{STEM}.md").write_text(page(report, read_parts(out)), encoding="utf-8")
    queries = report["protocol"]["queries"]
    # One band is enough: the errors of the curves are equal, and four bands hide the curves.
    errors = {
        PROPOSED: [metrics.standard_error(share, queries) for share in report["curves"][PROPOSED]]
    }
    levels = {
        line["name"]: line["accuracy"] for line in report["settings"] if line["name"] in LEVELS
    }
    figure = plot_accuracy_by_k(
        report["curves"],
        errors=errors,
        reference=levels,
        title="CIFAR-10: accuracy by k (band: one standard error)",
    )
    figure.savefig(out / f"{STEM}-by-k.png")
