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
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.evaluation import dense_baselines as baselines
from recollect.evaluation.dense_data import TASKS, Samples, Task, spread
from recollect.evaluation.earlier import make_folder, not_ours, read_earlier
from recollect.evaluation.reproduce.dense_answers import Answers, Steps

STEM = "dense-memory"
MODALITIES = ("labels", "depth")
QUERIED = ("camvid", "nyuv2-depth")  # data sets of the part on what a query costs
PARTS = (*TASKS, "continual", "decoder", "query")
SEARCHES: tuple[dict[str, Any], ...] = (
    {"score": "level", "k": (32, 16, 8, 4), "position": 0.0},
    {"score": "path", "k": (32, 16, 8, 4), "position": 0.0},
    {"score": "path", "k": (100, 60, 30), "position": 0.0},
    {"score": "path", "k": (100, 60, 30), "position": 0.3},
    {"score": "path", "k": (100, 60, 30), "position": 1.0},
)
# Of a signal, whose cells are few, a wide search costs little.
OF_SIGNALS: tuple[dict[str, Any], ...] = (
    {"score": "path", "k": (400, 240, 100), "position": 0.0},
    {"score": "path", "k": (400, 240, 100), "position": 0.3},
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
MOST_TO_CHOOSE = 12  # samples asked while settings are chosen
KEPT = 0.75  # share of the children that stay of each cell, where more than the paper's one do
PUBLISHED: dict[str, Any] = {"k": (32, 16, 8, 4), "score": "level"}
FEW = (1, 5, 20)
LINEAR_CELLS = 300_000
SOME = 40  # test samples that variants and flat search are asked about
FLAT = (10_000, 100_000, None)  # cells that flat search goes through; None: all
AT_ONCE = 10  # samples between two notes of how far a method has come

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
        part: One of ``PARTS``, measured anew; None means all that ``out`` does not hold yet with
            the same ``limit``.
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
    if out is not None:
        make_folder(out)
    report = _earlier(out)
    wanted = PARTS if part is None else (part,)
    for done, name in enumerate(wanted):
        if part is not None or _is_new(report, name, limit):
            report["parts"][name] = _measured(name, data, models, out, limit)
        if out is not None:
            _write(out, report)
        if progress is not None:
            progress(done + 1, len(wanted))
    return report


def _measured(
    name: str, data: Path, models: Path, out: Path | None, limit: int | None
) -> dict[str, Any]:
    from recollect.evaluation.reproduce import dense_continual, dense_decoder, dense_query

    begun = time.perf_counter()
    if name == "continual":
        task = shortened(TASKS["camvid"](data, models), limit)
        found = dense_continual.measure_continual(task)
        both = [shortened(TASKS[f"nyuv2-{kind}"](data, models), limit) for kind in MODALITIES]
        found["modality"] = dense_continual.measure_modality(*both)
    elif name == "decoder":
        found = dense_decoder.measure(data, models, _line_of(out, "camvid", "chosen"), limit)
    elif name == "query":
        found = {"words": "What a query costs", "kind": "query", "sets": {}}
        steps = Steps(None if out is None else out / f"{STEM}-query.part.json")
        for each in QUERIED:
            task = shortened(TASKS[each](data, models), limit)
            line = _line_of(out, each, "chosen") or {}
            known = line.get("miou" if task.labels else "rmse")
            chosen = _chosen(out, task)
            found["sets"][each] = dense_query.measure_query(task, chosen, known, steps)
        steps.finish()
    else:
        task = shortened(TASKS[name](data, models), limit)
        opened = time.perf_counter() - begun
        found = measure(task, out) | {"seconds_of_opening": round(opened, 1)}
    found["seconds"] = round(time.perf_counter() - begun, 1)
    found["limit"] = limit
    found["load"] = round(os.getloadavg()[0], 1)
    found["cores"], found["python"] = os.cpu_count(), platform.python_version()
    return found


def _line_of(out: Path | None, part: str, name: str) -> dict[str, Any] | None:
    """A line that an earlier part holds."""
    lines = _earlier(out)["parts"].get(part, {"lines": []})["lines"]
    return next((line for line in lines if line["name"] == name), None)


def _chosen(out: Path | None, task: Task) -> dict[str, Any]:
    """The settings that an earlier part chose, or chosen now."""
    earlier = _earlier(out)["parts"].get(task.name)
    options = choose(task)[0] if earlier is None else earlier["chosen"]
    return {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}


def _is_new(report: dict[str, Any], name: str, limit: int | None) -> bool:
    return name not in report["parts"] or report["parts"][name].get("limit") != limit


def shortened(task: Task, limit: int | None) -> Task:
    """The task with at most so many samples of each split, spread evenly."""
    if limit is None:
        return task

    def some(samples: Samples) -> Samples:
        """Samples from all over the split, not its first ones."""
        return samples.take(spread(len(samples), limit))

    train = some(task.train)
    held = np.arange(4, len(train), 8)
    validation = None if task.validation is None else some(task.validation)
    return Task(
        task.name, task.words, task.kind, task.labels, task.ignore, train, held, validation,
        some(task.test), task.one_left_out,
    )  # fmt: skip


def measure(task: Task, out: Path | None = None) -> dict[str, Any]:
    """Measure every figure of one data set."""
    from recollect.evaluation.reproduce.dense_pictures import save_pictures

    steps = Steps(None if out is None else out / f"{STEM}-{task.name}.part.json")
    found = steps.once("settings", lambda: choose(task))
    chosen = {name: tuple(v) if isinstance(v, list) else v for name, v in found[0].items()}
    some = task.test.take(spread(len(task.test), SOME))
    heads = _trained_heads(task)
    # What matters most comes first, should a run be stopped.
    ours = [("chosen", chosen), *sparser(task, chosen), ("as published", dict(PUBLISHED))]
    on_all = [(name, partial(_ours, task, name, o, task.test, steps)) for name, o in ours]
    on_all[1:1] = [
        (name, partial(_trained, task, name, head, task.test, steps))
        for name, head in (*heads, _flat(task)[1])
    ]
    lines = [steps.once(name, measured) for name, measured in on_all]
    on_some = [
        (n, partial(_ours, task, n, o, some, steps)) for n, o in (ours[0], *variants(task, chosen))
    ]
    on_some += [(n, partial(_trained, task, n, head, some, steps)) for n, head in _flat(task)]
    fewer = [steps.once(f"{name} on some", measured) for name, measured in on_some]
    few = steps.once("few", lambda: _few(task, chosen))
    linear = partial(_trained, task, *heads[0], some, steps)
    fewer.append(steps.once("linear head on some", linear))
    if out is not None:
        save_pictures(task, taught(task, chosen, task.train), out)
    steps.finish()
    return {
        "words": task.words,
        "kind": task.kind,
        "labels": list(task.labels),
        "samples": {"train": len(task.train), "test": len(task.test)},
        "levels": [list(level.shape) for level in task.train.pyramids[0]],
        "chosen": plain_options(chosen),
        "tried": found[1],
        "lines": lines,
        "asked_of_some": len(some),
        "some": fewer,
        "few": few,
    }


def sparser(task: Task, chosen: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The chosen settings with fewer cells: the paper's rule, and more children in fewer bytes."""
    levels, axes = len(task.train.pyramids[0]), task.train.pyramids[0][0].ndim - 1
    keep = int(KEPT * 2**axes)
    found = []
    for count in range(1, levels):
        name = f"{count} sparse level{'s' if count > 1 else ''}"
        found.append((name, chosen | {"sparse_levels": count}))
        if keep > 1:
            more = {"sparse_levels": count, "sparse_keep": keep, "precision": "int8"}
            found.append((f"{name}, {keep} children kept, int8", chosen | more))
    return found


def variants(task: Task, chosen: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What changes cost or quality of the chosen settings."""
    two = {"sparse_levels": min(2, len(task.train.pyramids[0]) - 1)}
    return [
        ("1 sparse level, int8", chosen | {"sparse_levels": 1, "precision": "int8"}),
        ("2 sparse levels, float16", chosen | two | {"precision": "float16"}),
        ("2 sparse levels, novelty by maximum", chosen | two | {"novelty": "max"}),
        ("2 sparse levels, finest first", chosen | two | {"order": "fine_first"}),
        ("1 sparse level, labels of blocks", chosen | {"sparse_levels": 1, "block_labels": True}),
        ("int8", chosen | {"precision": "int8"}),
        ("pre-filter of 1 in 8", chosen | {"prefilter": max(1, len(task.train) // 8)}),
        *([("patches pasted", chosen | {"retrieve": "patch"})] if task.labels else []),
    ]


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
    memory, asked = (task.train, task.train) if task.one_left_out else task.to_choose()
    if not task.one_left_out:
        asked = asked.take(spread(len(asked), MOST_TO_CHOOSE))
    tried: list[dict[str, Any]] = []
    best: tuple[float, dict[str, Any]] = (-np.inf, {})
    axes = memory.pyramids[0][0].ndim - 1
    for search in (*SEARCHES, *(OF_SIGNALS if axes == 1 else ())):
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
    result, ids = Answers(task), head.ids_
    for row in range(len(asked)):
        one = asked.take([row])
        if task.one_left_out:
            head.forget(ids[row : row + 1])
        [answer] = head.answer(one.pyramids)
        classes = head.classes_ if task.labels else None
        result.add(one.truth[0], values_of(answer, alone=False), classes)
        if task.one_left_out:
            head.partial_fit(one.pyramids, one.truth)
    figure = result.main()
    tried.append({"options": plain_options(options), "figure": round(figure, 5)})
    return (figure if task.kind == "labels" else -figure), options


def _ours(
    task: Task, name: str, options: dict[str, Any], asked: Samples, steps: Steps
) -> dict[str, Any]:
    note = f"{name}, {len(asked)} asked, so far"
    so_far = steps.done.get(note, {"asked": 0, "seconds": 0.0, "iterations": 0})
    with_messages, without = Answers(task), Answers(task)
    with_messages.restore(so_far.get("answers"))
    without.restore(so_far.get("without"))
    begun = time.perf_counter()
    head = taught(task, options, task.train)
    ready = time.perf_counter() - begun
    classes = head.classes_ if task.labels else None
    while so_far["asked"] < len(asked):
        rows = range(so_far["asked"], min(so_far["asked"] + AT_ONCE, len(asked)))
        since, part = time.perf_counter(), asked.take(rows)
        for levels, truth in zip(part.pyramids, part.truth, strict=True):
            if options.get("retrieve") == "patch":
                with_messages.add_labels(truth, head.predict([levels], size=truth.shape)[0])
                continue
            [answer] = head.answer([levels])
            with_messages.add(truth, values_of(answer, alone=False), classes)
            without.add(truth, values_of(answer, alone=True), classes)
            so_far["iterations"] += answer.iterations
        so_far["seconds"] += time.perf_counter() - since
        so_far["asked"] = rows.stop
        states = {"answers": with_messages.state(), "without": without.state()}
        steps.keep(note, so_far | states)
    line = {
        "name": name,
        "options": plain_options(options),
        **with_messages.figures(),
        "bytes": _bytes(head),
        "ready_seconds": round(ready, 2),
        "query_seconds": round(so_far["seconds"] / len(asked), 4),
        "iterations": round(so_far["iterations"] / len(asked), 1),
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


def values_of(answer: Any, *, alone: bool) -> NDArray[Any]:
    """Shares or numbers of an answer's cells; ``alone`` before cells exchanged messages."""
    if alone:
        values: NDArray[Any] = answer.alone
        return values
    found: NDArray[Any] = np.nan_to_num(
        answer.prediction if answer.shares is None else answer.shares
    )
    return found


def _trained_heads(task: Task) -> list[tuple[str, Callable[[], baselines.Trained]]]:
    labels = len(task.labels)
    others, held = task.to_choose()
    few = held.take(spread(len(held), MOST_TO_CHOOSE))

    def score(head: baselines.Head, samples: Samples) -> float:
        """Larger is better; of numbers, whose measure is an error, the negative."""
        answers = Answers(task)
        _ask(head, samples, answers)
        return answers.main() if labels else -answers.main()

    # Asked twice, trained once.
    linear = cache(partial(baselines.linear_head, task.train, labels, most=LINEAR_CELLS))
    conv = partial(baselines.conv_head, others, labels, held=few, score=score)
    return [("linear head", linear), ("small convolutional head", conv)]


def _flat(task: Task) -> list[tuple[str, Callable[[], baselines.Trained]]]:
    return [
        (
            "flat search, all cells" if cells is None else f"flat search, {cells:,} cells",
            partial(baselines.flat_search, task.train, len(task.labels), cells),
        )
        for cells in FLAT
    ]


def _trained(
    task: Task, name: str, train: Callable[[], baselines.Trained], samples: Samples, steps: Steps
) -> dict[str, Any]:
    trained, answers = train(), Answers(task)
    note = f"{name}, {len(samples)} asked, so far"
    begun = steps.done.get(note, {"asked": 0, "seconds": 0.0})
    answers.restore(begun.get("answers"))
    seconds, asked = begun["seconds"], begun["asked"]
    while asked < len(samples):
        rows = range(asked, min(asked + AT_ONCE, len(samples)))
        since = time.perf_counter()
        _ask(trained.answer, samples.take(rows), answers)
        seconds, asked = seconds + time.perf_counter() - since, rows.stop
        state = {"asked": asked, "seconds": seconds, "answers": answers.state()}
        steps.keep(note, state)
    return {
        "name": name,
        **answers.figures(),
        "ready_seconds": round(trained.seconds, 2),
        "rounds": trained.rounds,
        **({} if trained.gradient is None else {"gradient": float(f"{trained.gradient:.1e}")}),
        "query_seconds": round(seconds / len(samples), 4),
    }


def _ask(head: baselines.Head, samples: Samples, answers: Answers) -> None:
    for levels, truth in zip(samples.pyramids, samples.truth, strict=True):
        answers.add(truth, head(levels).reshape(*levels[-1].shape[:-1], -1), None)


def _few(task: Task, chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """Few samples: ours and the linear head, on the same samples and questions."""
    asked = task.test.take(spread(len(task.test), SOME))
    lines = []
    for count in FEW:
        rows = np.linspace(0, len(task.train) - 1, count + 2)[1:-1].astype(int)
        some = task.train if count >= len(task.train) else task.train.take(rows)
        head, own = taught(task, chosen, some), Answers(task)
        classes = head.classes_ if task.labels else None
        for levels, truth in zip(asked.pyramids, asked.truth, strict=True):
            own.add(truth, values_of(head.answer([levels])[0], alone=False), classes)
        decay = 1e-4 if task.labels else 1e-2
        linear = baselines.linear_head(some, len(task.labels), decay=decay, most=LINEAR_CELLS)
        theirs = Answers(task)
        _ask(linear.answer, asked, theirs)
        lines.append({
            "samples": len(some), "ours": round(own.main(), 4), "linear": round(theirs.main(), 4)
        })  # fmt: skip
    return lines


def plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON holds them."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }


def _earlier(out: Path | None) -> dict[str, Any]:
    path = None if out is None else out / f"{STEM}.json"
    if path is not None and path.is_file():
        report = read_earlier(path)
        if not isinstance(report.get("parts"), dict):
            raise not_ours(path, "parts by name", type(report.get("parts")).__name__)
        return report
    return {"paper": "PARMESAN, arXiv 2403.11743", "parts": {}}


def _write(out: Path, report: dict[str, Any]) -> None:
    from recollect.evaluation.reproduce.dense_memory_page import page
    from recollect.evaluation.reproduce.dense_speed_page import save_plots

    report["parts"] = {name: report["parts"][name] for name in PARTS if name in report["parts"]}
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (out / f"{STEM}.json").write_text(text + "\n", encoding="utf-8")
    speed = out / f"{STEM}-speed.json"
    measured = read_earlier(speed) or None
    save_plots(report, measured, out)
    (out / f"{STEM}.md").write_text(page(report, measured), encoding="utf-8")
