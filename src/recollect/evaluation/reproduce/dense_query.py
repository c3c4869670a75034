"""A quicker query, chosen on held-out samples, and flat search among all cells: what each costs.

The chosen settings of a data set were picked for quality alone. Here narrower and wider searches
are asked about held-out samples; of those that take at most a twentieth of the processor time of
flat search among 100,000 cells the best one is asked about all test samples, and so is the widest.
Flat search among all cells of the memory, by the same score, is asked about a few: it compares each
of a query's cells with every labelled cell of every sample.
"""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any

import numpy as np

from recollect.evaluation.dense_baselines import flat_search
from recollect.evaluation.dense_data import Samples, Task, spread
from recollect.evaluation.reproduce.dense_answers import Answers, Steps
from recollect.heads.dense_memory.plan import Matches
from recollect.heads.dense_memory.search import flat
from recollect.readout.propagation import match_weights

SEARCHED = ((400, 240, 100), (100, 60, 30), (64, 48, 30), (48, 32, 30), (32, 24, 24))
SHARES = (1, 2, 4, 8)  # of the samples one in so many is compared with
WIDER = SEARCHED[0]  # with all samples only
BOUNDED = 100_000  # cells of the flat search that the quick one is set beside
TIMES = 20  # as long as the quick one that flat search may take, or longer
HELD_OUT = 48  # samples asked while it is chosen
FEW = 3  # test samples asked of flat search among all cells


def measure_query(
    task: Task, chosen: dict[str, Any], known: float | None = None, steps: Steps | None = None
) -> dict[str, Any]:
    """Choose a quicker search, and measure it and flat search on test samples.

    Args:
        task: The data set.
        chosen: Settings that were chosen for quality alone.
        known: Their figure on all test samples, where it was measured before.
        steps: Notes of a run that was stopped.
    """
    from recollect.evaluation.reproduce.dense_memory import plain_options, taught

    steps = Steps(None) if steps is None else steps
    memory, held = task.to_choose()
    asked = held.take(spread(len(held), HELD_OUT))
    quick, tried = _quick(task, chosen, memory, asked, steps)
    few = task.test.take(spread(len(task.test), FEW))
    head = cache(partial(taught, task, chosen, task.train))
    settings = {"chosen": chosen, "quick": quick, "wide": chosen | {"k": WIDER}}
    if chosen.get("reading", "mean") != "mean":
        settings["quick, read as mean"] = quick | {"reading": "mean"}
    main = "miou" if task.labels else "rmse"

    def line(name: str, options: dict[str, Any]) -> dict[str, Any]:
        """The figure of one search on all test samples, and on the few that flat search answers."""
        some = _asked(task, _set(head(), chosen | options), few)
        every = known if name == "chosen" else None
        if every is None:
            every = _asked(task, head(), task.test)[main]
        return {"name": name, "options": plain_options(options), main: every, "few": some}

    lines = [
        steps.once(f"{task.name}, {name}, {plain_options(options)}", partial(line, name, options))
        for name, options in settings.items()
    ]
    flat_line = steps.once(
        f"{task.name}, flat",
        lambda: {
            "cells": len(_set(head(), chosen)._layout().cells.levels[-1]),  # noqa: SLF001
            "found": _asked(task, _Flat(head()), few),
        },
    )
    return {
        "words": task.words, "kind": task.kind,
        "quick": plain_options(quick),
        "samples": len(task.train), "tried": tried, "lines": lines, "asked_of_few": len(few),
        "cells": flat_line["cells"],
        "flat": flat_line["found"],
    }  # fmt: skip


def _set(head: Any, options: dict[str, Any]) -> Any:
    """The head with these options; what it does not name is as for all samples."""
    return head.set_params(**{"prefilter": None} | options)


class _Flat:
    """A head that reads the best of all cells, by the same score and as its own reading does."""

    def __init__(self, head: Any) -> None:
        self._head = head

    @property
    def classes_(self) -> Any:
        """As of the head."""
        return self._head.classes_

    def answer(self, inputs: list[Any]) -> list[Any]:
        """Answer as the head would if its search had missed nothing."""
        head = self._head
        settings, layout = head._settings(), head._layout()  # noqa: SLF001 - all but its search
        [sample] = head._samples(inputs, (layout.widths, layout.axes))  # noqa: SLF001
        shapes, plan = sample.pyramid.shapes, settings.plan(len(sample.pyramid.shapes))
        found = flat(layout.cells, shapes, layout.query(sample.pyramid), plan, plan.ks[-1])
        reading = _read(head, layout, sample, found, settings)
        return [head._answer(layout, sample, reading)]  # noqa: SLF001


def _read(head: Any, layout: Any, sample: Any, found: Matches, settings: Any) -> Any:
    from recollect.heads.dense_memory.answers import Reading

    weights = match_weights(found.score, settings.temperature)
    empty, there = np.zeros((len(weights), 0)), weights.sum(axis=1) > 0
    reading = Reading([found], weights, empty, there, empty, there)
    combined = head._combine(layout, sample, reading, settings)  # noqa: SLF001
    return head._messages(combined, sample.pyramid, settings)  # noqa: SLF001


def _quick(
    task: Task, chosen: dict[str, Any], memory: Samples, asked: Samples, steps: Steps
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The best search on held-out samples of those that are quick enough; else the quickest."""
    from recollect.evaluation.reproduce.dense_memory import plain_options, taught

    head = cache(partial(taught, task, chosen, memory))

    def one(options: dict[str, Any]) -> dict[str, Any]:
        """One search on the held-out samples."""
        return _asked(task, _set(head(), options), asked)

    searches = [
        chosen | ({"prefilter": max(1, len(memory) // share)} if share > 1 else {}) | {"k": ks}
        for share in SHARES
        for ks in SEARCHED
        if ks != WIDER or share == 1
    ]
    tried = [
        steps.once(f"{task.name}, held out, {plain_options(each)}", partial(one, each))
        for each in searches
    ]
    bounded = steps.once(f"{task.name}, held out, flat", lambda: _bounded(task, memory, asked))
    limit = bounded["processor_seconds"] / TIMES
    fine = [at for at, each in enumerate(tried) if each["processor_seconds"] <= limit]
    fine = fine or [int(np.argmin([each["processor_seconds"] for each in tried]))]
    main, sign = ("miou", 1) if task.labels else ("rmse", -1)
    quick = searches[max(fine, key=lambda at: sign * float(tried[at][main]))]
    listed = [
        {"options": plain_options(options), **each}
        for options, each in zip(searches, tried, strict=True)
    ]
    return quick, [*listed, bounded]


def _bounded(task: Task, memory: Samples, asked: Samples) -> dict[str, Any]:
    """Flat search among some cells, asked the same."""
    head, answers, spent = flat_search(memory, len(task.labels), BOUNDED), Answers(task), []
    for levels, truth in zip(asked.pyramids, asked.truth, strict=True):
        begun = time.process_time()
        cells = head.answer(levels)
        spent.append(time.process_time() - begun)
        answers.add(truth, cells.reshape(*levels[-1].shape[:-1], -1), None)
    main = "miou" if task.labels else "rmse"
    figures = {main: round(answers.main(), 4)}
    return {"flat": BOUNDED, **figures, "processor_seconds": round(float(np.median(spent)), 4)}


def _asked(task: Task, head: Any, asked: Samples) -> dict[str, Any]:
    from recollect.evaluation.reproduce.dense_memory import values_of

    answers, spent, classes = Answers(task), [], head.classes_ if task.labels else None
    for levels, truth in zip(asked.pyramids, asked.truth, strict=True):
        begun = time.process_time()
        [answer] = head.answer([levels])
        spent.append(time.process_time() - begun)
        answers.add(truth, values_of(answer, alone=False), classes)
    found = answers.figures()
    main = "miou" if task.labels else "rmse"
    return {main: found[main], "processor_seconds": round(float(np.median(spent)), 4)}
