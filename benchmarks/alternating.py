"""Engines timed in turn, so that a change in the machine's load meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""Processor time leaves out what waiting for a core takes."""


def measure(
    calls: dict[str, Callable[[], Any]], rounds: int, pause: float, clock: str = "wall"
) -> dict[str, list[float]]:
    """Return seconds per call, one number a round, by name.

    The order is turned by one from round to round. Between two calls there is a pause, because
    worker threads keep a core busy for a while after a call.
    """
    names, now = list(calls), CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            start = now()
            calls[name]()
            if number >= 0:  # the first round warms up
                seconds[name].append(now() - start)
    return seconds


def median_ratio(first: list[float], second: list[float]) -> float:
    """Return the median of the ratios of the single rounds."""
    return statistics.median(one / other for one, other in zip(first, second, strict=True))
