"""What every part of the residual-memory study measures in the same way."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import metrics
from recollect.heads.residual_memory.classifier import ResidualMemoryClassifier
from recollect.heads.residual_memory.tuning import ResidualTuning

# The constants recalled of the paper's CIFAR-100 experiments.
PAPER: dict[str, Any] = {"k": 53, "sigma": 0.7, "temperature": 1.4}

Pair = tuple[NDArray[Any], NDArray[Any]]


def tuned(
    train: Pair,
    held: Pair,
    test: Pair,
    labels: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
) -> tuple[NDArray[Any], ResidualTuning]:
    """Teach training rows, choose on rows set aside, answer test rows.

    Args:
        train: Embedding and logits of the rows to remember.
        held: Those of the rows to choose on.
        test: Those of the questions.
        labels: Labels of the three; those of the questions are not read.

    Returns:
        The answers, and what was chosen.
    """
    head = ResidualMemoryClassifier(lambda x: x)
    head.fit(None, labels[0], embedding=train[0], outputs=train[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says whether the memory is on
        report = head.tune(y=labels[1], embedding=held[0], outputs=held[1])
    return head.predict(None, embedding=test[0], outputs=test[1]), report


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
    """What was chosen, and on what grounds."""
    best = report.best
    return {
        "active": report.active,
        "k": best.k,
        "sigma": round(best.sigma, 4),
        "temperature": best.temperature,
        "strength": best.strength,
        "gate": None if report.gate is None else round(report.gate, 4),
        "searches_saved": round(report.searches_saved, 4),
    }
