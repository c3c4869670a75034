"""Accuracy against the size of the memory and of the encoder; random labels; texts.

Geirhos et al., "Towards flexible perception with visual memory" (arXiv 2408.08172), sections 3.2
and 3.3, appendices D and F.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import metrics
from recollect.evaluation.datasets import (
    cache_file,
    encoded,
    minilm,
    mobilenet,
    read_images,
    read_texts,
)
from recollect.evaluation.notebook import Notebook
from recollect.evaluation.reproduce.visual_memory_scaling_page import page
from recollect.memory.memory import RAM, Memory
from recollect.readout.voting import RULES, VoteRule, vote_all_k, weigh
from recollect.types import Floats

STEM = "visual-memory-scaling"
PER_CLASS = (1, 3, 10, 30, 100, 300, 1000, 3000)
ROWS, MANY_ROWS, QUERIES = 10_000, 30_000, 2_000
KS = (1, 10, 20, 50, 100)
NOISE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
NOISE_KS = (20, 100)

Progress = Callable[[int, int], object]


def run(
    *, data: Path, models: Path, out: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure everything and write it as JSON, as a page, and as pictures.

    An interrupted run goes on where it was; one that came to its end leaves no notes behind.

    Args:
        data: Folder of all data sets.
        models: Folder of all models.
        out: Folder for ``visual-memory-scaling.json``, ``.md`` and pictures; None writes nothing.
        progress: Called as ``progress(done, total)`` while inputs are encoded.

    Raises:
        InputError: Data or models are not there.
        MissingExtra: A library is not installed.
    """
    from recollect.encoders import HogEncoder, PixelEncoder

    cache = ":memory:" if out is None else cache_file()
    pictures, asked = read_images(data, "cifar10", "train"), read_images(data, "cifar10", "test")
    questions = asked.first(QUERIES)
    large = mobilenet(models)
    # Named after the encoder, so that results of another one are not taken up.
    name = f"{STEM}-{large.fingerprint.rpartition(':')[2]}.jsonl"
    book = Notebook(None if out is None else cache_file().parent / name)

    def ask(encoder: Any, rows: int, measure: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """Encode rows and questions only when a measurement is really made."""
        taught = pictures.first(rows)
        keys = encoded(encoder, taught.inputs, cache=cache, progress=progress)
        queries = encoded(encoder, questions.inputs, cache=cache, progress=progress)
        return measure(keys, taught.labels, queries, questions.labels)

    curves = [
        {
            "encoder": name, "dim": encoder.dim,
            **book.note(name, partial(ask, encoder, rows, scaling)),
        }
        for name, encoder, rows in (
            ("pixels", PixelEncoder(), MANY_ROWS),
            ("HOG", HogEncoder(), ROWS),
            ("MobileNetV2 at 96 px", mobilenet(models, 96), ROWS),
            ("MobileNetV2 at 160 px", large, ROWS),
        )
    ]  # fmt: skip
    report = {
        "scaling": {"data": "CIFAR-10", "queries": QUERIES, "curves": curves},
        "noise": {
            "data": "CIFAR-10", "encoder": "MobileNetV2 at 160 px",
            **book.note("noise", partial(ask, large, ROWS, random_labels)),
        },
        "text": book.note("text", partial(_banking, data, models, cache, progress)),
    }  # fmt: skip
    if out is not None:
        _write(out, report)
    book.close()
    return report


def scaling(
    keys: Floats,
    labels: NDArray[Any],
    queries: Floats,
    truth: NDArray[Any],
    *,
    per_class: Sequence[int] = PER_CLASS,
    seeds: int = 3,
) -> dict[str, Any]:
    """Ask memories of growing size: rows of each class drawn at random, and at last all rows.

    Args:
        keys: float32 ``(rows, dim)``.
        labels: ``(rows,)``.
        queries: float32 ``(queries, dim)``.
        truth: ``(queries,)``.
        per_class: Rows of each class; sizes that a class does not have are left out.
        seeds: Draws of each size; the mean is reported.

    Returns:
        ``rows``, ``error`` in percent (rank vote, default k) and the fit's ``a`` and ``b``:
        error = 10^b (log10 rows)^a, a line through log10 error over the double logarithm of the
        rows, over memories of at least 100 rows.
    """
    from recollect.heads.visual_memory import MemoryClassifier

    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sizes = [size for size in per_class if size < counts.min()] + [int(counts.max())]
    errors, rows = np.zeros(len(sizes)), np.zeros(len(sizes), np.int64)
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(labels))
        rank = np.zeros(len(labels), np.int64)
        for code in range(len(classes)):
            of_class = order[codes[order] == code]
            rank[of_class] = np.arange(len(of_class))
        for place, size in enumerate(sizes):
            chosen = rank < size
            rows[place] = chosen.sum()
            head = MemoryClassifier().fit(keys[chosen], labels[chosen])
            errors[place] += 100 * float((head.predict(queries) != truth).mean()) / seeds
    a, b = fit_double_logarithm(rows[rows >= 100], errors[rows >= 100])
    return {
        "rows": rows.tolist(), "error": [round(error, 3) for error in errors.tolist()],
        "a": round(a, 4), "b": round(b, 4), "seeds": seeds,
    }  # fmt: skip


def fit_double_logarithm(rows: NDArray[Any], error: NDArray[Any]) -> tuple[float, float]:
    """Fit error = 10^b (log10 rows)^a, as the paper's appendix F does; returns a and b.

    Example:
        >>> rows = np.array([10, 100, 1000])
        >>> a, b = fit_double_logarithm(rows, 50 / np.log10(rows))
        >>> round(a, 6), round(10**b, 6)
        (-1.0, 50.0)
    """
    a, b = np.polyfit(np.log10(np.log10(rows)), np.log10(error), 1)
    return float(a), float(b)


def random_labels(
    keys: Floats,
    labels: NDArray[Any],
    queries: Floats,
    truth: NDArray[Any],
    *,
    shares: Sequence[float] = NOISE,
    ks: Sequence[int] = NOISE_KS,
) -> dict[str, Any]:
    """Give a share of the rows a label drawn at random among all, and ask.

    Returns:
        For each vote and k the accuracy at each share, with the paper's default parameters.
    """
    rng = np.random.default_rng(0)
    names, codes = np.unique(labels, return_inverse=True)
    order, drawn = rng.permutation(len(labels)), rng.integers(0, len(names), len(labels))
    most = min(max(ks), len(keys))
    with Memory.create(RAM, dim=keys.shape[1]) as memory:
        memory.add(keys, labels.tolist())
        near = memory.search(queries, most)  # the labels have no part in who is near
    weights = {rule: weigh(near, VoteRule(rule), "cosine") for rule in RULES}
    table: dict[tuple[str, int], list[float]] = {(rule, k): [] for rule in RULES for k in ks}
    for share in shares:
        noisy = codes.copy()
        changed = order[: round(share * len(labels))]
        noisy[changed] = drawn[changed]
        for rule in RULES:
            answers = names[vote_all_k(noisy[near.ids], weights[rule])]
            for k in ks:
                right = float((answers[:, min(k, most) - 1] == truth).mean())
                table[rule, k].append(round(right, 5))
    lines = [{"rule": rule, "k": k, "accuracy": accuracy} for (rule, k), accuracy in table.items()]
    return {"rows": len(keys), "queries": len(queries), "shares": list(shares), "lines": lines}


def _banking(data: Path, models: Path, cache: Any, progress: Progress | None) -> dict[str, Any]:
    parts = []
    for split in ("train", "test"):
        texts = read_texts(data, "banking77", split, label="category")
        keys = encoded(minilm(models), texts.inputs, cache=cache, progress=progress)
        parts += [keys, texts.labels]
    return {"data": "BANKING77", "encoder": "MiniLM-L6", **votes(*parts)}


def votes(
    keys: Floats, labels: NDArray[Any], queries: Floats, truth: NDArray[Any]
) -> dict[str, Any]:
    """Measure the four votes at several k, and the setting that leave-one-out chooses."""
    from recollect.heads.visual_memory import MemoryClassifier

    ks = [k for k in KS if k <= len(keys)]
    head = MemoryClassifier(k=max(ks)).fit(keys, labels)
    lines = []
    for rule in RULES:
        answers = head.set_params(vote=rule).predict_all_k(queries, ks)
        right = (answers == truth[:, None]).mean(axis=0)
        lines.append({"rule": rule, "accuracy": [round(share, 5) for share in right.tolist()]})
    tuning = head.tune()
    chosen = float((head.predict(queries) == truth).mean())
    best = tuning.best
    return {
        "rows": len(keys), "queries": len(queries), "classes": len(np.unique(labels)), "k": ks,
        "votes": lines, "chosen": {
            "rule": best.rule, "k": best.k, "parameter": best.parameter, "value": best.value,
            "accuracy": round(chosen, 5),
            "standard_error": round(metrics.standard_error(chosen, len(truth)), 5),
        },
    }  # fmt: skip


def _write(out: Path, report: dict[str, Any]) -> None:
    from recollect.evaluation.plots import plot_curves

    text = json.dumps(report, indent=2, ensure_ascii=False)
    (out / f"{STEM}.json").write_text(text + "\n", encoding="utf-8")
    (out / f"{STEM}.md").write_text(page(report), encoding="utf-8")
    curves = report["scaling"]["curves"]
    dots, fits = {}, {}
    for line in curves:
        dots[line["encoder"]] = (line["rows"], line["error"])
        rows = np.geomspace(100, max(line["rows"]), 40)
        fits[line["encoder"]] = (
            rows.tolist(), (10 ** line["b"] * np.log10(rows) ** line["a"]).tolist(),
        )  # fmt: skip
    figure = plot_curves(
        {"CIFAR-10": dots}, lines={"CIFAR-10": fits}, x="rows in the memory", y="error (%)",
        title="More rows, or a larger encoder (dashed: the fit)", log=True,
    )  # fmt: skip
    figure.savefig(out / f"{STEM}.png")
    noise = report["noise"]
    percent = [100 * share for share in noise["shares"]]
    panels: dict[str, dict[str, Any]] = {}
    for line in noise["lines"]:
        accuracy = [100 * share for share in line["accuracy"]]
        panels.setdefault(f"k = {line['k']}", {})[line["rule"]] = (percent, accuracy)
    figure = plot_curves(
        panels,
        x="rows with a random label (%)",
        y="accuracy (%)",
        title="Random labels, four votes",
    )
    figure.savefig(out / f"{STEM}-noise.png")
