"""What every part of the residual-memory study measures in the same way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import metrics
from recollect.evaluation.notebook import Notebook
from recollect.heads.residual_memory.classifier import ResidualMemoryClassifier
from recollect.heads.residual_memory.tuning import ResidualTuning

# The constants recalled of the paper's CIFAR-100 experiments.
PAPER: dict[str, Any] = {"k": 53, "sigma": 0.7, "temperature": 1.4}

Pair = tuple[NDArray[Any], NDArray[Any]]
# Counts up when anything changes that a part measures: older notes are not those of this program.
EDITION = 3


class Lines:
    """The lines of one part: measured now, or kept from an earlier run.

    Args:
        path: File of everything that was measured.
        part: Of the study.
        until: Moment of ``time.monotonic()`` after which nothing more is begun.
        say: Called with a line of text now and then.

    Attributes:
        missing: How many lines were asked for, but neither known nor measured.
    """

    def __init__(self, path: Path, part: str, until: float, say: Callable[[str], object]) -> None:
        self._book = Notebook(path, None, 0, until=until)
        self._part, self.say = part, say
        self.missing = 0

    @property
    def seconds(self) -> float:
        """How long the lines that were asked for took to measure."""
        return self._book.seconds

    def measured(self, name: str, measure: Callable[[], Any]) -> list[Any]:
        """Return what ``measure`` gives in a list, empty if there is no time for it.

        ``measure`` raises TimeoutError itself where something it needs is not ready.
        """
        key = f"{EDITION}/{self._part}/{name}"
        try:
            result = self._book.note(key, measure)
        except TimeoutError:
            self.missing += 1
            self.say(f"{self._part}, {name}: not ready")
            return []
        self.say(f"{self._part}, {name}: done")
        return [result]


# What tells one line of a part from the others.
NAMES: dict[str, tuple[str, ...]] = {
    "images": ("data", "depth", "rows", "seed"),
    "layers": ("embedding",),
    "tables": ("data", "base_model", "residuals", "seed"),
    "language": ("method", "chosen_by"),
    "shift": ("network", "rows", "method"),
    "theory": ("d", "L", "rows"),
}


def kept(part: str, before: Any, now: Any) -> Any:
    """Put lines of an earlier run, which this one did not measure, back among its own.

    Args:
        part: Of the study.
        before: Its figures in an earlier report; None or empty where there are none.
        now: Those of this run: lines, or a dict that holds them under ``methods``.

    Returns:
        Figures of the form of ``now``: earlier lines in their order, each as it is now where it
        was measured again, then the new ones.
    """
    if not before:
        return now
    if isinstance(before, dict):
        methods = kept(part, before["methods"], now["methods"] if now else [])
        return {**before, **(now or {}), "methods": methods}

    def name(line: dict[str, Any]) -> tuple[Any, ...]:
        """What tells a line from the others of its part."""
        return tuple(line[each] for each in NAMES[part])

    lines = {name(line): line for line in before}
    return list((lines | {name(line): line for line in now}).values())


def tuned(
    train: Pair,
    held: Pair,
    test: Pair,
    labels: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
) -> dict[str, Any]:
    """Teach training rows, choose on rows set aside, answer test rows; with the gate and without.

    Args:
        train: Embedding and logits of the rows to remember.
        held: Those of the rows to choose on.
        test: Those of the questions.
        labels: Labels of the three; those of the questions are not read.

    Returns:
        Base, memory, gain, what was chosen, and what the gate costs and saves.
    """
    head = ResidualMemoryClassifier(lambda x: x)
    head.fit(None, labels[0], embedding=train[0], outputs=train[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says whether the memory is on
        report = head.tune(y=labels[1], embedding=held[0], outputs=held[1], gate=True)
    asked = {"embedding": test[0], "outputs": test[1]}
    gated = head.predict(None, **asked)
    saved = head.searches_saved(None, outputs=test[1]) if report.gate is not None else 0.0
    answers = head.set_params(gate=None).predict(None, **asked)
    return compared(labels[2], test[1].argmax(axis=1), answers) | {
        "gated": round(metrics.accuracy(labels[2], gated), 5),
        "searches_saved": round(saved, 5),
        "setting": setting(report),
    }


def compared(truth: NDArray[Any], base: NDArray[Any], answers: NDArray[Any]) -> dict[str, float]:
    """Accuracy of both, and the gain with the standard error of the paired difference."""
    gain, error = metrics.paired_difference(truth, answers, base)
    return {
        "base": round(metrics.accuracy(truth, base), 5),
        "resmem": round(metrics.accuracy(truth, answers), 5),
        "gain": round(gain, 5),
        "standard_error": round(error, 5),
    }


def squared(truth: NDArray[Any], base: NDArray[Any], answers: NDArray[Any]) -> dict[str, float]:
    """Coefficient of determination of both; the gain with the error of the paired difference."""
    spread = float(np.mean((truth - truth.mean()) ** 2))
    first, second = (base - truth) ** 2 / spread, (answers - truth) ** 2 / spread
    return {
        "base": round(1.0 - float(first.mean()), 5),
        "resmem": round(1.0 - float(second.mean()), 5),
        "gain": round(float((first - second).mean()), 5),
        "standard_error": round(float((first - second).std() / len(truth) ** 0.5), 5),
    }


def setting(report: ResidualTuning) -> dict[str, Any]:
    """What was chosen, on what grounds, and the least and the largest value that was tried."""
    best = report.best
    tried = {
        name: sorted({round(getattr(each, name), 6) for each in report.settings})
        for name in ("k", "sigma", "temperature", "strength")
    }
    return {
        "active": report.active,
        "k": best.k,
        "sigma": round(best.sigma, 6),
        "temperature": best.temperature,
        "strength": best.strength,
        "gate": None if report.gate is None else round(report.gate, 4),
        "searches_saved": round(report.searches_saved, 4),
        "tried": {name: [values[0], values[-1]] for name, values in tried.items()},
    }
