"""Figures out of the report of the dual-memory reproduction, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recollect.types import Doubles

TITLES = {
    "caltech101": "Caltech-101",
    "cifar10": "CIFAR-10",
    "tiny_imagenet100_32": "Tiny-ImageNet, 100 classes",
}
SINGLE = ("text", "static", "dynamic")
PROPOSED, TRUSTING = ("robust", "logits, honest"), ("trusting", "logits, honest")
COMBINATIONS = {
    "robust, logits, honest weights": PROPOSED,
    "robust, trust 1, logits, honest weights": TRUSTING,
    "robust, honest weights (fusion as published)": ("robust", "fixed, honest"),
    "published, honest weights": ("published", "fixed, honest"),
}
"""Of order, fusion and weights, each held against the best single member."""

LEARNED = "learned "
"""Groups of rows with learned offsets begin so; behind it stands the mode."""


def values(report: Mapping[str, Any], name: str, shots: int, row: tuple[str, str]) -> list[float]:
    """Every draw of one figure; empty where it was not measured."""
    group, key = row
    if group.startswith(LEARNED):
        measured = report["learned"].get(name, {}).get(str(shots), {})
        found: list[float] = measured.get(group.removeprefix(LEARNED), {}).get(key, [])
    else:
        found = report["main"][name][str(shots)].get(group, {}).get(key, [])
    return found


def mean_over_sets(
    report: Mapping[str, Any], shots: int, row: tuple[str, str]
) -> tuple[float, float] | None:
    """Mean over sets and draws, and its standard error from the draws' spread and the questions."""
    drawn = [values(report, name, shots, row) for name in report["main"]]
    if not all(drawn):
        return None
    means = [float(np.mean(each)) for each in drawn]
    errors = [
        np.sqrt(mean * (1 - mean) / report["sets"][name]["queries"] + spread(each) ** 2 / len(each))
        for name, mean, each in zip(report["main"], means, drawn, strict=True)
    ]
    return float(np.mean(means)), float(np.sqrt(np.sum(np.square(errors)))) / len(errors)


def gap_between(
    report: Mapping[str, Any], shots: int, row: tuple[str, str], member: str
) -> tuple[float, float] | None:
    """Mean gain of a row over a member of its own group, and its standard error.

    Both answered the same pictures: what counts is how many only one of them got right, which is
    nearly the same pictures in every draw, and how the difference varies from draw to draw.
    """
    gaps, variances = [], []
    for name in report["main"]:
        ours, theirs = (values(report, name, shots, (row[0], key)) for key in (row[1], member))
        unlike = values(report, name, shots, (row[0], f"{row[1]}, unlike {member}"))
        if not ours or not len(ours) == len(theirs) == len(unlike):
            return None
        gap = np.subtract(ours, theirs)
        asked = max(0.0, float(np.mean(unlike)) - gap.mean() ** 2) / report["sets"][name]["queries"]
        gaps.append(gap.mean())
        variances.append(asked + spread(gap) ** 2 / len(gap))
    return float(np.mean(gaps)), float(np.sqrt(np.sum(variances))) / len(gaps)


def spread(drawn: Any) -> float:
    """Standard deviation of what draws were taken from, as far as they tell; 0 for a single one."""
    return float(np.std(drawn, ddof=1)) if len(drawn) > 1 else 0.0


def stream_gains(drawn: Sequence[Mapping[str, Any]], way: str, part: str = "fused") -> Doubles:
    """Points over the text alone, of every draw of a stream, float64 ``(draws,)``."""
    return np.array([
        100 * (each[way] if way == "TDA" else each[way][part]) - 100 * each["robust"]["text"]
        for each in drawn
    ])  # fmt: skip


def title(name: str) -> str:
    """Return what a data set is called in a text."""
    return TITLES.get(name, name)
