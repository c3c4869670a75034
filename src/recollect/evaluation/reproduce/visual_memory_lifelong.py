"""What changes in a memory over its life, measured: classes, removals, levels, encoders.

Class-incremental teaching on Caltech-101 and Tiny-ImageNet-100; unlearning shown beforehand; votes
at two levels on TREC; a new encoder, with and without its sources; a second opinion from texts.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import metrics
from recollect.evaluation.datasets import (
    Labelled,
    cache_file,
    check_there,
    encoded,
    minilm,
    mobilenet,
    read_images,
    read_texts,
)
from recollect.evaluation.notebook import Notebook
from recollect.evaluation.reproduce.visual_memory_lifelong_page import page
from recollect.types import Floats

STEM = "visual-memory-lifelong"
STEPS = 10
PROBE_C = (1.0, 10.0, 100.0)
PROBE_ITERATIONS = 100
TINY_ROWS = 5_000
TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "{}")
TRUSTS, SCALES = (0.0, 0.25, 0.5, 0.75, 1.0), (5.0, 10.0, 20.0, 50.0)

Progress = Callable[[int, int], object]
Keys = tuple[Floats, NDArray[Any]]


def run(
    *, data: Path, models: Path, out: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure everything and write it as JSON, as a page, and as pictures.

    An interrupted run goes on where it was; one that came to its end leaves no notes behind.

    Args:
        data: Folder of all data sets.
        models: Folder of all models.
        out: Folder for ``visual-memory-lifelong.json``, ``.md`` and pictures; None writes nothing.
        progress: Called as ``progress(done, total)`` while inputs are encoded.

    Raises:
        InputError: Data or models are not there.
        MissingExtra: A library is not installed.
    """
    cache = ":memory:" if out is None else cache_file()
    encoder = mobilenet(models)
    # Named after the encoder, so that results of another one are not taken up.
    name = f"{STEM}-{encoder.fingerprint.rpartition(':')[2]}.jsonl"
    book = Notebook(None if out is None else cache_file().parent / name)

    def images(name: str, split: str, count: int | None = None) -> Keys:
        """Keys and labels of the first ``count`` pictures of a split, or of all."""
        found = read_images(data, name, split).first(count)
        return encoded(encoder, found.inputs, cache=cache, progress=progress), found.labels

    def both(name: str, rows: int | None = None) -> tuple[Keys, Keys]:
        """So many rows to teach, and always all questions."""
        return images(name, "train", rows), images(name, "test")

    note, tiny = book.note, "tiny_imagenet100_32"
    report = {
        "incremental": [
            note("Caltech-101", lambda: incremental("Caltech-101", *both("caltech101"))),
            note("Tiny", lambda: incremental("Tiny-ImageNet-100", *both(tiny, TINY_ROWS))),
        ],
        "unlearning": note("unlearning", lambda: unlearning("Caltech-101", *both("caltech101"))),
        "hierarchy": note("hierarchy", lambda: _trec(data, models, cache, progress)),
        "migration": note(
            "migration",
            lambda: migration(read_images(data, "caltech101", "train"), models, cache),
        ),
        "reranking": note("reranking", lambda: _reranking(models, images, cache)),
    }
    if out is not None:
        _write(out, report)
    book.close()
    return report


# -- classes one after another ---------------------------------------------------------------------


def incremental(name: str, taught: Keys, asked: Keys, *, steps: int = STEPS) -> dict[str, Any]:
    """Teach classes in groups; after each group ask about all classes taught so far.

    Args:
        name: Of the data set.
        taught: Keys and labels of the rows.
        asked: Keys and labels of the questions.
        steps: How many groups, in order of the classes' names.

    Returns:
        For each method the accuracy after each step, seconds for each step and forgetting: how much
        accuracy on a group falls from its own step to the last one, in the mean over all groups
        but the last. ``order_changes``: answers that differ when groups and rows come in reverse.
    """
    from recollect.heads.visual_memory import MemoryClassifier

    groups = np.array_split(np.unique(taught[1]), steps)
    strength = _probe_strength(taught, groups[0])
    memory, shaped = MemoryClassifier(), MemoryClassifier(class_means=1.0)

    def teacher(head: MemoryClassifier) -> Callable[..., Callable[..., NDArray[Any]]]:
        """Let a memory take part that sees each class only when it comes."""

        def teach(fresh: NDArray[np.bool_], _: NDArray[np.bool_]) -> Callable[..., NDArray[Any]]:
            """Teach the fresh rows alone; what was seen before is in the memory."""
            head.partial_fit(taught[0][fresh], taught[1][fresh])
            return head.predict

        return teach

    def mean(_: NDArray[np.bool_], seen: NDArray[np.bool_]) -> Callable[..., NDArray[Any]]:
        """Made anew from all rows seen so far."""
        return class_means(taught[0][seen], taught[1][seen])

    def probe(_: NDArray[np.bool_], seen: NDArray[np.bool_]) -> Callable[..., NDArray[Any]]:
        """Trained anew on all rows seen so far."""
        return _probe(taught[0][seen], taught[1][seen], strength)

    methods = {
        "memory": teacher(memory), "memory, class means": teacher(shaped),
        "nearest class mean": mean, "linear probe, retrained": probe,
    }  # fmt: skip
    lines = [
        {"method": method, **_walk(ready, groups, taught, asked)}
        for method, ready in methods.items()
    ]
    backwards = MemoryClassifier()
    for group in groups[::-1]:
        rows = np.flatnonzero(np.isin(taught[1], group))[::-1]
        backwards.partial_fit(taught[0][rows], taught[1][rows])
    changes = int((memory.predict(asked[0]) != backwards.predict(asked[0])).sum())
    return {
        "data": name, "rows": len(taught[1]), "queries": len(asked[1]), "steps": steps,
        "classes": int(sum(map(len, groups))), "probe_c": strength, "order_changes": changes,
        "methods": lines,
    }  # fmt: skip


def _walk(
    ready: Callable[..., Callable[..., NDArray[Any]]],
    groups: list[NDArray[Any]],
    taught: Keys,
    asked: Keys,
) -> dict[str, Any]:
    accuracy, seconds = [], []
    table = np.full((len(groups), len(groups)), np.nan)
    for step in range(len(groups)):
        seen = np.concatenate(groups[: step + 1])
        begun = time.perf_counter()
        predict = ready(np.isin(taught[1], groups[step]), np.isin(taught[1], seen))
        seconds.append(time.perf_counter() - begun)
        queries = np.isin(asked[1], seen)
        right = predict(asked[0][queries]) == asked[1][queries]
        accuracy.append(float(right.mean()))
        for group in range(step + 1):
            table[step, group] = right[np.isin(asked[1][queries], groups[group])].mean()
    forgetting = float(np.mean(np.diag(table)[:-1] - table[-1, :-1])) if len(groups) > 1 else 0.0
    error = metrics.standard_error(accuracy[-1], len(asked[1]))
    return {
        "accuracy": _rounded(accuracy), "standard_error": round(error, 5),
        "forgetting": round(forgetting, 5), "seconds": _rounded(seconds),
    }  # fmt: skip


def class_means(keys: Floats, labels: NDArray[Any]) -> Callable[[Floats], NDArray[Any]]:
    """Answer with the class whose mean direction is nearest."""
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    classes, codes = np.unique(labels, return_inverse=True)
    means = np.zeros((len(classes), keys.shape[1]))
    np.add.at(means, codes, unit)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return lambda queries: classes[np.argmax(queries @ means.T, axis=1)]


def _probe(keys: Floats, labels: NDArray[Any], strength: float) -> Callable[[Floats], NDArray[Any]]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    regression = LogisticRegression(C=strength, max_iter=PROBE_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the page tells the limit
        model = make_pipeline(Normalizer(), regression).fit(keys, labels.astype(str))
    return lambda queries: model.predict(queries).astype(object)


def _probe_strength(taught: Keys, group: NDArray[Any]) -> float:
    """Chosen once, on held-out rows of the first group: each fourth one."""
    keys, labels = taught[0][np.isin(taught[1], group)], taught[1][np.isin(taught[1], group)]
    held = np.arange(len(keys)) % 4 == 0
    scores = [
        float((_probe(keys[~held], labels[~held], c)(keys[held]) == labels[held]).mean())
        for c in PROBE_C
    ]
    return PROBE_C[int(np.argmax(scores))]


# -- removal ---------------------------------------------------------------------------------------


def unlearning(name: str, taught: Keys, asked: Keys, *, classes: int = 10) -> dict[str, Any]:
    """Preview the removal of single classes, make it, and compare.

    Returns:
        For each class: answers that the preview said would change, those that did, whether the
        answers after removal are those of a memory that never held the class, and the accuracy on
        the questions of other classes before and after.
    """
    from recollect.heads.visual_memory import MemoryClassifier

    lines = []
    labels = np.unique(taught[1])
    for label in labels[:: max(1, len(labels) // classes)][:classes]:
        head = MemoryClassifier().fit(taught[0], taught[1])
        gone = head.ids_[taught[1] == label]
        before = head.predict(asked[0])
        preview = head.what_if(asked[0], remove=gone)
        after = head.forget(gone).predict(asked[0])
        kept = taught[1] != label
        never = MemoryClassifier().fit(taught[0][kept], taught[1][kept]).predict(asked[0])
        others = asked[1] != label
        lines.append({
            "label": str(label), "rows": len(gone),
            "flips_previewed": int(preview.flipped.sum()),
            "flips_made": int((before != after).sum()),
            "preview_is_exact": bool((preview.after == after).all()),
            "as_if_never_taught": bool((never == after).all()),
            "others_before": round(float((before == asked[1])[others].mean()), 5),
            "others_after": round(float((after == asked[1])[others].mean()), 5),
        })  # fmt: skip
    return {"data": name, "rows": len(taught[1]), "queries": len(asked[1]), "classes": lines}


# -- levels ----------------------------------------------------------------------------------------


def _trec(data: Path, models: Path, cache: Any, progress: Progress | None) -> dict[str, Any]:
    splits = []
    for split in ("train", "test"):
        fine = read_texts(data, "trec", split, label="fine_name")
        coarse = read_texts(data, "trec", split, label="coarse_name").labels
        keys = encoded(minilm(models), fine.inputs, cache=cache, progress=progress)
        splits.append((keys, fine.labels, coarse))
    return hierarchy("TREC", *splits)


def hierarchy(
    name: str,
    taught: tuple[Floats, NDArray[Any], NDArray[Any]],
    asked: tuple[Floats, NDArray[Any], NDArray[Any]],
    *,
    confidences: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 0.9),
) -> dict[str, Any]:
    """Vote at two levels.

    Args:
        name: Of the data set.
        taught: Keys, fine and coarse labels of the rows.
        asked: The same of the questions.
        confidences: Shares of the vote to ask for.
    """
    from recollect.heads.hierarchy import Hierarchy
    from recollect.heads.visual_memory import MemoryClassifier

    tree = Hierarchy(dict(zip(taught[1], taught[2], strict=True)), levels=("coarse", "fine"))
    head = MemoryClassifier().fit(taught[0], taught[1])
    truth = np.stack([asked[2], asked[1]], axis=1)
    plain = tree.answer(head, asked[0], confidence=0.0)
    of_fine = np.array([tree.path(label)[0] for label in plain.labels[:, 1]], object)
    chosen = tree.calibrate(head, accuracy=0.9)
    settings: list[tuple[str, Any]] = [(f"{share:g}", share) for share in confidences]
    settings.append(("chosen for 90 % by leave-one-out", tuple(min(c, 1.0) for c in chosen)))
    lines = []
    for words, wanted in settings:
        found = tree.answer(head, asked[0], confidence=wanted)
        right = found.answers == truth[np.arange(len(truth)), found.level]
        given = found.level >= 0
        lines.append({
            "confidence": words,
            "fine": round(float((found.level == 1).mean()), 5),
            "coarse": round(float((found.level == 0).mean()), 5),
            "none": round(float((~given).mean()), 5),
            "right_when_fine": _share(right, found.level == 1),
            "right_when_coarse": _share(right, found.level == 0),
            "right": _share(right, given),
        })  # fmt: skip
    return {
        "data": name, "rows": len(taught[0]), "queries": len(asked[0]),
        "classes": [len(set(taught[2])), len(set(taught[1]))],
        "fine": round(float((plain.labels[:, 1] == asked[1]).mean()), 5),
        "coarse_by_vote": round(float((plain.labels[:, 0] == asked[2]).mean()), 5),
        "coarse_of_fine": round(float((of_fine == asked[2]).mean()), 5),
        "chosen": _rounded(chosen), "back_off": lines,
    }  # fmt: skip


def _share(right: NDArray[Any], among: NDArray[np.bool_]) -> float | None:
    return round(float(right[among].mean()), 5) if among.any() else None


# -- encoders --------------------------------------------------------------------------------------


def migration(inputs: Labelled, models: Path, cache: Any) -> list[dict[str, Any]]:
    """Give a memory of pictures another encoder, with all sources and with half of them."""
    from recollect.encoders import EncodingCache, HogEncoder
    from recollect.heads.migration import plan_migration
    from recollect.memory.memory import RAM, Memory

    lines = []
    large = mobilenet(models)
    with EncodingCache(cache) as known:
        for name, small in (("HOG", HogEncoder()), ("MobileNetV2 at 96 px", mobilenet(models, 96))):
            keys = encoded(small, inputs.inputs, cache=cache)
            memory = Memory.create(RAM, dim=small.dim, encoder=small)
            memory.add(keys, inputs.labels.tolist())
            for gone in (0, 2):

                def fetch(_: Any, place: int, gone: int = gone) -> Any:
                    """The input, or None as if it were lost: all but one of every ``gone`` are."""
                    return None if gone and place % gone else inputs.inputs[place]

                report = plan_migration(memory, large, fetch=fetch, cache=known).report
                agreement, cost = report.agreement, report.cost
                assert agreement is not None
                lines.append({
                    "from": name, "to": "MobileNetV2 at 160 px", "rows": len(inputs),
                    "aligned": len(report.aligned), "asked": agreement.rows,
                    "same": round(agreement.same, 5),
                    "accuracy_before": round(agreement.accuracy_before, 5),
                    "accuracy_after": round(agreement.accuracy_after, 5),
                    "cost": None if cost is None else {
                        "rows": cost.rows, "real": round(cost.accuracy_real, 5),
                        "aligned": round(cost.accuracy_aligned, 5),
                        "cosine": round(cost.cosine, 5),
                    },
                })  # fmt: skip
    return lines


# -- a second opinion ------------------------------------------------------------------------------


def _reranking(models: Path, images: Callable[..., Keys], cache: Any) -> dict[str, Any]:
    place = models / "zero_shot_text_map" / "map.npz"
    check_there(place, "the map from texts to pictures", "RECOLLECT_MODELS")
    keys, labels = images("cifar10", "train", 10_000)
    queries, truth = images("cifar10", "test", 2_000)
    with np.load(place) as parts:
        linear, shift, center = (
            parts[name].astype(np.float64) for name in ("A", "c", "image_mean")
        )
    names = sorted(set(labels.tolist()))
    texts = [form.format(name) for name in names for form in TEMPLATES]
    vectors = encoded(minilm(models), texts, cache=cache).astype(np.float64)
    vectors = vectors.reshape(len(names), len(TEMPLATES), -1).mean(axis=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return reranking(
        "CIFAR-10", (keys[:9_000], labels[:9_000]), (keys[9_000:], labels[9_000:]),
        (queries, truth), vectors @ linear + shift, names, center,
    )  # fmt: skip


def reranking(
    name: str,
    taught: Keys,
    held: Keys,
    asked: Keys,
    texts: NDArray[Any],
    names: list[str],
    center: NDArray[Any] | None,
) -> dict[str, Any]:
    """Let text vectors score the labels of the 50 nearest rows.

    Scale and trust are chosen on held-out rows, never on the questions.
    """
    from recollect.heads.reranking import TextScores, rerank
    from recollect.heads.visual_memory import MemoryClassifier

    head = MemoryClassifier(k=50).fit(*taught)

    def opinions(keys: Floats, scale: float, trust: float) -> list[Any]:
        """Both mixed by ``trust``: at 0 the vote alone, at 1 the texts alone."""
        scores = TextScores(texts, names, scale=scale, center=center)
        return rerank(head, keys, scores, trust=trust, images=False)

    alone = opinions(held[0], SCALES[0], 0.0)
    tried = {}
    for scale in SCALES:
        second = opinions(held[0], scale, 1.0)
        for trust in TRUSTS:
            mixed = [_mixed(*pair, trust) for pair in zip(alone, second, strict=True)]
            tried[scale, trust] = float((np.array(mixed, object) == held[1]).mean())
    scale, trust = max(tried, key=lambda setting: tried[setting])

    def right(setting: float) -> NDArray[Any]:
        """Which questions are answered right at this trust, with the chosen scale."""
        found = [one.prediction for one in opinions(asked[0], scale, setting)]
        return np.asarray(np.array(found, object) == asked[1])

    answers = {
        "vote alone": right(0.0),
        "texts alone": right(1.0),
        "both": right(trust),
    }
    truth = np.ones(len(asked[1]), bool)
    gain, error = metrics.paired_difference(truth, answers["both"], answers["vote alone"])
    return {
        "data": name, "rows": len(taught[1]), "held_out": len(held[1]), "queries": len(asked[1]),
        "scale": scale, "trust": trust, "gain": round(gain, 5), "gain_error": round(error, 5),
        "accuracy": {name: round(float(hits.mean()), 5) for name, hits in answers.items()},
        "standard_error": round(
            metrics.standard_error(float(answers["both"].mean()), len(truth)), 5
        ),
    }  # fmt: skip


def _mixed(first: Any, second: Any, trust: float) -> Any:
    """What `rerank` answers with this trust, from its answers without and with full trust."""
    return max(
        first.scores,
        key=lambda label: (1 - trust) * first.scores[label] + trust * second.scores[label],
    )


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 5) for value in values]


def _write(out: Path, report: dict[str, Any]) -> None:
    from recollect.evaluation.plots import plot_curves

    text = json.dumps(report, indent=2, ensure_ascii=False)
    (out / f"{STEM}.json").write_text(text + "\n", encoding="utf-8")
    (out / f"{STEM}.md").write_text(page(report), encoding="utf-8")
    panels = {}
    for part in report["incremental"]:
        classes = [part["classes"] * (step + 1) / part["steps"] for step in range(part["steps"])]
        panels[part["data"]] = {
            line["method"]: (classes, [100 * share for share in line["accuracy"]])
            for line in part["methods"]
        }
    figure = plot_curves(
        panels, x="classes taught", y="accuracy on all classes so far (%)",
        title="New classes, ten at a time",
    )  # fmt: skip
    figure.savefig(out / f"{STEM}-incremental.png")
