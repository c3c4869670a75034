"""PARMESAN: Parameter-Free Memory Search and Transduction for Dense Prediction Tasks.

Winter et al., arXiv 2403.11743. Segmentation, depth, volumes and signals from a memory of pyramids;
beside it, on the same features and in the same run, exact flat search and trained heads. Settings
are chosen on held-out samples, never on those an accuracy is reported for.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.evaluation import dense_baselines as baselines
from recollect.evaluation import dense_metrics as metrics
from recollect.evaluation.dense_data import TASKS, Samples, Task
from recollect.heads.dense_memory.masks import enlarge

STEM = "dense-memory"
PARTS = (*TASKS, "continual")
SEARCHES: tuple[dict[str, Any], ...] = (
    {"score": "level", "k": (32, 16, 8, 4), "position": 0.0},
    {"score": "path", "k": (32, 16, 8, 4), "position": 0.0},
    {"score": "path", "k": (100, 60, 30), "position": 0.0},
    {"score": "path", "k": (100, 60, 30), "position": 0.3},
    {"score": "path", "k": (100, 60, 30), "position": 1.0},
)
READINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "labels": (
        {"temperature": 0.01}, {"temperature": 0.05}, {"temperature": 0.1},
        {"balance": 0.3}, {"balance": 0.5},
    ),
    "numbers": (
        {"temperature": 0.01}, {"temperature": 0.05}, {"temperature": 0.1},
        {"reading": "linear"}, {"reading": "median"},
    ),
}  # fmt: skip
MOST_TO_CHOOSE = 16  # samples asked while settings are chosen
FEW = (1, 5, 20)
FEW_ASKED = 60
FLAT = (10_000, 100_000)
AT_ONCE = 20  # samples between two notes of how far a method has come

Progress = Callable[[int, int], object]


def run(
    *,
    data: Path,
    models: Path,
    out: Path | None = None,
    part: str | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure one part or all; write figures as JSON, a page, and pictures.

    Args:
        data: Folder of all data sets.
        models: Folder of all models.
        out: Folder for ``dense-memory.json``, ``.md`` and pictures; a part is put beside those
            that stand there. None writes nothing.
        part: One of ``PARTS``; None means all.
        limit: Samples of each split, spread evenly; None means all.
        progress: Called as ``progress(done, total)`` as parts are done.

    Returns:
        The whole report, as plain values for JSON.

    Raises:
        InputError: Data or models are not there.
        InvalidParameter: No such part, or a limit below 8.
    """
    if part is not None and part not in PARTS:
        raise InvalidParameter("part is not known", expected=", ".join(PARTS), got=repr(part))
    if limit is not None and limit < 8:
        raise InvalidParameter("limit is out of range", expected=">= 8", got=limit)
    report = _earlier(out)
    wanted = PARTS if part is None else (part,)
    for done, name in enumerate(wanted):
        report["parts"][name] = _measured(name, data, models, out, limit)
        if out is not None:
            _write(out, report)
        if progress is not None:
            progress(done + 1, len(wanted))
    return report


def _measured(
    name: str, data: Path, models: Path, out: Path | None, limit: int | None
) -> dict[str, Any]:
    from recollect.evaluation.reproduce.dense_continual import measure_continual

    begun = time.perf_counter()
    if name == "continual":
        task = shortened(TASKS["camvid"](data, models), limit)
        found = measure_continual(task)
    else:
        task = shortened(TASKS[name](data, models), limit)
        opened = time.perf_counter() - begun
        found = measure(task, out) | {"seconds_of_opening": round(opened, 1)}
    found["seconds"] = round(time.perf_counter() - begun, 1)
    found["load"] = round(os.getloadavg()[0], 1)
    found["cores"], found["python"] = os.cpu_count(), platform.python_version()
    return found


def shortened(task: Task, limit: int | None) -> Task:
    """The task with at most so many samples of each split, spread evenly."""
    if limit is None:
        return task

    def some(samples: Samples) -> Samples:
        return samples.take(spread(len(samples), limit))

    train = some(task.train)
    held = np.arange(4, len(train), 8)
    validation = None if task.validation is None else some(task.validation)
    return Task(
        task.name, task.words, task.kind, task.labels, task.ignore, train, held, validation,
        some(task.test),
    )  # fmt: skip


class Steps:
    """What a part has measured so far; a run that was stopped goes on from there.

    Args:
        path: File that holds it while the part is under way; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.done: dict[str, Any] = {}
        if path is not None and path.is_file():
            self.done = json.loads(path.read_text(encoding="utf-8"))

    def once(self, name: str, measured: Callable[[], Any]) -> Any:
        """What was measured under this name, now or before."""
        if name not in self.done:
            self.keep(name, measured())
        return self.done[name]

    def keep(self, name: str, figures: Any) -> None:
        """Write figures down."""
        self.done[name] = figures
        if self.path is not None:
            self.path.write_text(json.dumps(self.done), encoding="utf-8")

    def finish(self) -> None:
        """Take the file away: the part is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def measure(task: Task, out: Path | None = None) -> dict[str, Any]:
    """Measure every figure of one data set."""
    from recollect.evaluation.reproduce.dense_pictures import save_pictures

    steps = Steps(None if out is None else out / f"{STEM}-{task.name}.part.json")
    found = steps.once("settings", lambda: choose(task))
    chosen = {name: tuple(v) if isinstance(v, list) else v for name, v in found[0].items()}
    spec = {"k": (32, 16, 8, 4), "score": "level"}
    settings = [("as published", spec), ("chosen", chosen)]
    settings += [
        (f"chosen, {n} sparse level{'s' if n > 1 else ''}", chosen | {"sparse_levels": n})
        for n in range(1, len(task.train.pyramids[0]))
    ]
    settings += [
        ("chosen, int8", chosen | {"precision": "int8"}),
        ("chosen, pre-filter of 1 in 8", chosen | {"prefilter": max(1, len(task.train) // 8)}),
    ]
    if task.kind == "labels":
        settings.append(("chosen, patches pasted", chosen | {"retrieve": "patch"}))
    lines = [steps.once(name, partial(_ours, task, name, options)) for name, options in settings]
    lines += _baselines(task, steps)
    few = steps.once("few", lambda: _few(task, chosen))
    if out is not None:
        save_pictures(task, taught(task, chosen, task.train), out)
    steps.finish()
    return {
        "words": task.words,
        "kind": task.kind,
        "labels": list(task.labels),
        "samples": {"train": len(task.train), "test": len(task.test)},
        "levels": [list(level.shape) for level in task.train.pyramids[0]],
        "chosen": _plain(chosen),
        "tried": found[1],
        "lines": lines,
        "few": few,
    }


def head_of(task: Task, options: dict[str, Any]) -> Any:
    """The head for a task, with these options."""
    from recollect import DenseMemoryRegressor, DenseMemorySegmenter

    if task.kind == "labels":
        return DenseMemorySegmenter(ignore=task.ignore, **options)
    return DenseMemoryRegressor(**options)


def taught(task: Task, options: dict[str, Any], samples: Samples) -> Any:
    """A head that was taught these samples, its cells laid out."""
    head = head_of(task, options)
    for start in range(0, len(samples), 64):
        part = samples.take(range(start, min(start + 64, len(samples))))
        head.partial_fit(part.pyramids, part.truth, sources=part.names)
    head.predict(samples.pyramids[:1])
    return head


def choose(task: Task) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Choose search, then reading, then messages, on held-out samples, one after the other."""
    memory, asked = task.to_choose()
    asked = asked.take(spread(len(asked), MOST_TO_CHOOSE))
    tried: list[dict[str, Any]] = []
    best: tuple[float, dict[str, Any]] = (-np.inf, {})
    for search in SEARCHES:
        best = max(best, _tried(task, search, memory, asked, tried), key=lambda pair: pair[0])
    head = taught(task, best[1], memory)
    for reading in READINGS[task.kind]:
        head.set_params(**best[1] | reading)
        best = max(
            best, _asked(task, head, best[1] | reading, asked, tried), key=lambda pair: pair[0]
        )
    return best[1], tried


def _tried(
    task: Task, options: dict[str, Any], memory: Samples, asked: Samples, tried: list[Any]
) -> tuple[float, dict[str, Any]]:
    return _asked(task, taught(task, options, memory), options, asked, tried)


def _asked(
    task: Task, head: Any, options: dict[str, Any], asked: Samples, tried: list[Any]
) -> tuple[float, dict[str, Any]]:
    result = Answers(task)
    for levels, truth in zip(asked.pyramids, asked.truth, strict=True):
        [answer] = head.answer([levels])
        result.add(truth, _values(answer, alone=False), head.classes_ if task.labels else None)
    figure = result.main()
    tried.append({"options": _plain(options), "figure": round(figure, 5)})
    return (figure if task.kind == "labels" else -figure), options


@dataclass
class Answers:
    """Gathers the figures of one method over a split."""

    task: Task
    _counts: metrics.PixelCounts | None = None
    _errors: list[tuple[float, float, float, int]] = field(default_factory=list)
    _dice: list[list[float]] = field(default_factory=list)

    def add(self, truth: NDArray[Any], cells: NDArray[Any], classes: Any) -> None:
        """Take in the answer to one sample: values of cells ``(*grid, width)``."""
        grid = cells.shape[:-1]
        full = enlarge(cells.reshape(-1, cells.shape[-1]), grid, truth.shape[: len(grid)])
        if self.task.kind == "labels":
            labels = np.arange(cells.shape[-1]) if classes is None else classes
            self.add_labels(truth, labels[full.argmax(axis=-1)])
            return
        right, answered = truth.astype(np.float64), full[..., 0].astype(np.float64)
        self._errors.append((
            float(np.mean((right - answered) ** 2)),
            metrics.absolute_relative_error(right, answered),
            metrics.within_factor(right, answered), right.size,
        ))  # fmt: skip

    def add_labels(self, truth: NDArray[Any], answered: NDArray[Any]) -> None:
        """Take in the labels of one sample's pixels."""
        labels = range(len(self.task.labels))
        if self._counts is None:
            self._counts = metrics.PixelCounts(labels, self.task.ignore)
        self._counts.add(truth, answered)
        if truth.ndim == 3:
            self._dice.append([
                float(metrics.dice_per_sample([truth], [answered], label)[0])
                for label in labels
            ])  # fmt: skip

    def state(self) -> dict[str, Any]:
        """All that was gathered, as plain values."""
        counts = None if self._counts is None else self._counts.counts.tolist()
        return {"counts": counts, "errors": self._errors, "dice": self._dice}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from what ``state`` gave."""
        if state is None:
            return
        if state["counts"] is not None:
            self._counts = metrics.PixelCounts(range(len(self.task.labels)), self.task.ignore)
            self._counts.counts += np.array(state["counts"], np.int64)
        self._errors = [(float(a), float(b), float(c), int(d)) for a, b, c, d in state["errors"]]
        self._dice = state["dice"]

    def main(self) -> float:
        """Mean IoU, or the root of the mean squared error."""
        if self._counts is not None:
            return self._counts.mean_iou()
        return float(np.sqrt(np.mean([error for error, *_ in self._errors])))

    def figures(self) -> dict[str, Any]:
        """All figures, as plain values."""
        if self._counts is None:
            return {
                "rmse": round(self.main(), 4),
                "abs_rel": round(float(np.mean([each[1] for each in self._errors])), 4),
                "delta_1.25": round(float(np.mean([each[2] for each in self._errors])), 4),
            }
        figures: dict[str, Any] = {
            "miou": round(self.main(), 4),
            "pixel_accuracy": round(self._counts.pixel_accuracy(), 4),
            "iou": [None if np.isnan(each) else round(float(each), 4) for each in
                    self._counts.iou()],
        }  # fmt: skip
        if self._dice:
            figures["dice"] = [round(float(each), 4) for each in np.mean(self._dice, axis=0)]
        return figures


def _ours(task: Task, name: str, options: dict[str, Any]) -> dict[str, Any]:
    begun = time.perf_counter()
    head = taught(task, options, task.train)
    adding = time.perf_counter() - begun
    with_messages, without = Answers(task), Answers(task)
    begun, iterations = time.perf_counter(), 0
    classes = head.classes_ if task.labels else None
    for levels, truth in zip(task.test.pyramids, task.test.truth, strict=True):
        if options.get("retrieve") == "patch":
            with_messages.add_labels(truth, head.predict([levels], size=truth.shape)[0])
            continue
        [answer] = head.answer([levels])
        with_messages.add(truth, _values(answer, alone=False), classes)
        without.add(truth, _values(answer, alone=True), classes)
        iterations += answer.iterations
    seconds = time.perf_counter() - begun
    line = {
        "name": name,
        "options": _plain(options),
        **with_messages.figures(),
        "bytes": _bytes(head),
        "ready_seconds": round(adding, 2),
        "query_seconds": round(seconds / len(task.test), 4),
        "iterations": round(iterations / len(task.test), 1),
    }
    if options.get("retrieve") != "patch":
        line["without_messages"] = without.figures()
    return line


def _bytes(head: Any) -> int:
    """Bytes of the features that the rows hold, with their places and scales."""
    total, ids = 0, head.memory_.ids
    for start in range(0, len(ids), 64):
        for arrays in head.memory_.rows(ids[start : start + 64]).values:
            total += sum(
                each.nbytes for name, each in arrays.items()
                if name.startswith(("features", "cells", "scale"))
            )  # fmt: skip
    return total


def _values(answer: Any, *, alone: bool) -> NDArray[Any]:
    if alone:
        values: NDArray[Any] = answer.alone
        return values
    found: NDArray[Any] = np.nan_to_num(
        answer.prediction if answer.shares is None else answer.shares
    )
    return found


def _baselines(task: Task, steps: Steps) -> list[dict[str, Any]]:
    return [
        steps.once(name, partial(_trained, task, name, train, steps))
        for name, train in _trainers(task)
    ]


def _trainers(task: Task) -> list[tuple[str, Callable[[], baselines.Trained]]]:
    labels = len(task.labels)
    others, held = task.to_choose()
    few = held.take(spread(len(held), MOST_TO_CHOOSE))

    def score(head: baselines.Head, samples: Samples) -> float:
        answers = Answers(task)
        _ask(head, samples, answers)
        return answers.main() if labels else -answers.main()

    linear = partial(baselines.linear_head, task.train, labels, most=1_000_000)
    conv = partial(baselines.conv_head, others, labels, held=few, score=score)
    flat = [
        (f"flat search, {n:,} cells", partial(baselines.flat_search, task.train, labels, n))
        for n in FLAT
    ]
    return [("linear head", linear), ("small convolutional head", conv), *flat]


def _trained(
    task: Task, name: str, train: Callable[[], baselines.Trained], steps: Steps
) -> dict[str, Any]:
    trained, answers = train(), Answers(task)
    begun = steps.done.get(f"{name}, so far", {"asked": 0, "seconds": 0.0})
    answers.restore(begun.get("answers"))
    seconds, asked = begun["seconds"], begun["asked"]
    while asked < len(task.test):
        rows = range(asked, min(asked + AT_ONCE, len(task.test)))
        since = time.perf_counter()
        _ask(trained.answer, task.test.take(rows), answers)
        seconds, asked = seconds + time.perf_counter() - since, rows.stop
        state = {"asked": asked, "seconds": seconds, "answers": answers.state()}
        steps.keep(f"{name}, so far", state)
    return {
        "name": name,
        **answers.figures(),
        "ready_seconds": round(trained.seconds, 2),
        "rounds": trained.rounds,
        "query_seconds": round(seconds / len(task.test), 4),
    }


def _ask(head: baselines.Head, samples: Samples, answers: Answers) -> None:
    for levels, truth in zip(samples.pyramids, samples.truth, strict=True):
        answers.add(truth, head(levels).reshape(*levels[-1].shape[:-1], -1), None)


def _few(task: Task, chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """Few samples: ours and the linear head, on the same samples and questions."""
    asked = task.test.take(spread(len(task.test), FEW_ASKED))
    lines = []
    for count in (*FEW, len(task.train)):
        rows = np.linspace(0, len(task.train) - 1, count + 2)[1:-1].astype(int)
        some = task.train if count >= len(task.train) else task.train.take(rows)
        head, own = taught(task, chosen, some), Answers(task)
        classes = head.classes_ if task.labels else None
        for levels, truth in zip(asked.pyramids, asked.truth, strict=True):
            own.add(truth, _values(head.answer([levels])[0], alone=False), classes)
        decay = 1e-4 if task.labels else 1e-2
        linear = baselines.linear_head(some, len(task.labels), decay=decay, most=300_000)
        theirs = Answers(task)
        _ask(linear.answer, asked, theirs)
        lines.append({
            "samples": len(some), "ours": round(own.main(), 4), "linear": round(theirs.main(), 4)
        })  # fmt: skip
    return lines


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }


def _earlier(out: Path | None) -> dict[str, Any]:
    path = None if out is None else out / f"{STEM}.json"
    if path is not None and path.is_file():
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report
    return {"paper": "PARMESAN, arXiv 2403.11743", "parts": {}}


def _write(out: Path, report: dict[str, Any]) -> None:
    from recollect.evaluation.reproduce.dense_memory_page import page

    report["parts"] = {name: report["parts"][name] for name in PARTS if name in report["parts"]}
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (out / f"{STEM}.json").write_text(text + "\n", encoding="utf-8")
    (out / f"{STEM}.md").write_text(page(report), encoding="utf-8")


def spread(count: int, most: int) -> Sequence[int]:
    """At most so many places out of ``count``, spread evenly."""
    places: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()
    return places
