"""What is left to choice in visual memory, chosen on the memory's own rows and then measured.

For each of four sets: how far the honest choice of vote and k is from the oracle's; what
reliability gains under label noise; which labels are suspected; how well what is unlike all rows is
told apart; and what class means add, beside a linear probe.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recollect.errors import InvalidParameter
from recollect.evaluation.datasets import (
    cache_file,
    encoded,
    minilm,
    mobilenet,
    read_images,
    read_texts,
)
from recollect.evaluation.earlier import make_folder, not_ours, read_earlier
from recollect.evaluation.reproduce.choice_sections import (
    class_means,
    label_noise,
    linear_probe,
    novelty,
    reliability,
    tuning,
)
from recollect.evaluation.reproduce.visual_memory import Split
from recollect.evaluation.reproduce.visual_memory_choice_page import NAMES, page
from recollect.heads.visual_memory import MemoryClassifier

IMAGES = ("caltech101", "cifar10", "tiny_imagenet100_32")
TEXTS = ("banking77",)
SETS = (*IMAGES, *TEXTS)
SECTIONS: dict[str, Callable[[Split, MemoryClassifier], dict[str, Any]]] = {
    "tuning": tuning,
    "reliability": reliability,
    "label_noise": label_noise,
    "novelty": novelty,
    "class_means": class_means,
    "linear_probe": linear_probe,
}
ROWS = 10_000
SIZE = 160
STEM = "visual-memory-choice"

DEFAULTS: dict[str, Any] = MemoryClassifier().get_params()

Progress = Callable[[int, int], object]


def run(
    *,
    data: Path,
    models: Path,
    out: Path | None = None,
    sets: Sequence[str] = SETS,
    sections: Sequence[str] = tuple(SECTIONS),
    rows: int = ROWS,
    queries: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure sections on sets, and write table and page with all that was measured so far.

    Args:
        data: Folder that holds the sets.
        models: Folder that holds ``mobilenet_v2_imagenet/`` and ``minilm_l6_text/``.
        out: Folder for ``visual-memory-choice.json`` and ``.md``; what an earlier run with the same
            rows wrote there is kept for other sets and sections. None writes nothing.
        sets: Names of sets; all four by default.
        sections: Names of sections; all by default.
        rows: Most rows of a memory, from the top of the training file.
        queries: Most questions, from the top of the test file; None means all.
        progress: Called as ``progress(done, total)`` while inputs are encoded.

    Returns:
        Every figure, as plain values for JSON.

    Raises:
        InputError: The data or a model is not there.
        InvalidParameter: A set or a section is not known, or a number is out of range.
        MissingExtra: A library is not installed.
    """
    _check(sets, sections, rows, queries)
    report = _earlier(out, rows, queries)
    for name in sets:
        split, protocol = _split(name, data, models, rows, queries, progress)
        measured = report["sets"].setdefault(name, {"protocol": protocol})
        head = MemoryClassifier().fit(split.keys, split.labels)
        for section in sections:
            begun = time.perf_counter()
            measured[section] = SECTIONS[section](split, head.set_params(**DEFAULTS))
            measured[section]["seconds"] = round(time.perf_counter() - begun, 1)
            if out is not None:
                _write(out, report)
    return report


def _earlier(out: Path | None, rows: int, queries: int | None) -> dict[str, Any]:
    import sklearn

    from recollect import __version__

    protocol = {
        "rows": rows,
        "queries": queries,
        "size": SIZE,
        "recollect": __version__,
        "scikit_learn": sklearn.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    fresh: dict[str, Any] = {"protocol": protocol, "sets": {}}
    if out is None or not (out / f"{STEM}.json").is_file():
        return fresh
    try:
        before = read_earlier(out / f"{STEM}.json")
        same = before["protocol"] == protocol
        kept = before["sets"] if same else {}
    except KeyError as error:
        raise not_ours(out / f"{STEM}.json", "protocol and sets", f"no {error}") from error
    return {"protocol": protocol, "sets": kept}


def _split(
    name: str,
    data: Path,
    models: Path,
    rows: int,
    queries: int | None,
    progress: Progress | None,
) -> tuple[Split, dict[str, Any]]:
    texts = name in TEXTS
    read = read_texts if texts else read_images
    remembered, questions = read(data, name, "train"), read(data, name, "test")
    remembered = remembered.first(min(rows, len(remembered)))
    questions = questions.first(min(queries or len(questions), len(questions)))
    encoder = minilm(models) if texts else mobilenet(models, SIZE)
    inputs = [*remembered.inputs, *questions.inputs]
    keys = encoded(encoder, inputs, cache=cache_file(), progress=progress)
    split = Split(
        keys[: len(remembered)], remembered.labels, keys[len(remembered) :], questions.labels
    )
    return split, {
        "rows": len(remembered),
        "queries": len(questions),
        "classes": len(set(remembered.labels.tolist())),
        "encoder": "MiniLM-L6" if texts else f"MobileNetV2 1.0, {SIZE} px",
        "fingerprint": encoder.fingerprint,
    }


def _write(out: Path, report: dict[str, Any]) -> None:
    make_folder(out)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (out / f"{STEM}.json").write_text(text + "\n", encoding="utf-8")
    (out / f"{STEM}.md").write_text(page(report), encoding="utf-8")
    panels = gains(report["sets"])
    if panels:
        _picture(panels).savefig(out / f"{STEM}-reliability.png", dpi=90)


def _picture(panels: dict[str, dict[str, Any]]) -> Any:
    from recollect.evaluation.plots import plot_curves

    figure = plot_curves(
        panels, x="neighbors k", y="gain over none (points)",
        title="A fifth of the labels wrong: what each reliability gains",
    )  # fmt: skip
    every = [gain for curves in panels.values() for _, gains in curves.values() for gain in gains]
    for axes in figure.axes:  # one scale: a tenth of a point may not look like a gain
        axes.set_ylim(min(0.0, *every) - 0.3, max(0.0, *every) + 0.3)
    return figure


def gains(sets: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each set what each reliability, and the one chosen, gains at each k; mean of all draws.

    Returns:
        Set -> reliability -> ``(ks, points)``; sets whose section was not measured are left out.
    """
    panels: dict[str, dict[str, Any]] = {}
    for name in (name for name in NAMES if "reliability" in sets.get(name, {})):
        lines = sets[name]["reliability"]["lines"]
        ks = sorted({line["k"] for line in lines})
        panels[NAMES[name]] = {
            curve: (ks, [_mean_gain(lines, k, curve) for k in ks])
            for curve in ("soft", "rate", "chosen")
        }
    return panels


def _mean_gain(lines: Sequence[dict[str, Any]], k: int, reliability: str) -> float:
    drawn = [line for line in lines if line["k"] == k]
    if reliability == "chosen":
        return float(sum(line["gain"] for line in drawn)) / len(drawn)
    return 100 * float(sum(line[reliability] - line["None"] for line in drawn)) / len(drawn)


def _check(sets: Sequence[str], sections: Sequence[str], rows: int, queries: int | None) -> None:
    for what, given, known in (("set", sets, SETS), ("section", sections, tuple(SECTIONS))):
        strange = [name for name in given if name not in known]
        if strange:
            raise InvalidParameter(
                f"{what} is not known", expected=f"of {', '.join(known)}", got=strange[0]
            )
    for what, number in (("rows", rows), ("queries", 1 if queries is None else queries)):
        if number < 1:
            raise InvalidParameter(f"{what} is out of range", expected="at least 1", got=number)
