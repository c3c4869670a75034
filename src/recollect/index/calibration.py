"""Measure the ways to search once, and remember the fastest of this machine.

The result is a small file of the user's, ``search.json`` beside the cache of encodings; it may be
deleted at any time, and is not used where the machine or the library is another.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recollect.index import kernel

FILE = "search.json"
ROWS, DIM, K = 20_000, 256, 10
BATCHES = (1, 32, 256)
ROUNDS = 5


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        machine: What it holds for.
        milliseconds: Way -> batch size -> median time of a search.
        path: The fastest way, over all batch sizes.
    """

    machine: dict[str, Any]
    milliseconds: dict[str, dict[str, float]]
    path: str


def this_machine() -> dict[str, Any]:
    """Describe what a measurement holds for."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count() or 1,
        "kernel": list(kernel.find("").known),
        "sources": kernel.source_mark(),
        "torch": importlib.util.find_spec("torch") is not None,
    }


def ways() -> list[str]:
    """Name the ways to search that this machine has, GPUs included."""
    found = [f"kernel:{name}" for name in kernel.find("").known] + ["numpy"]
    if importlib.util.find_spec("torch") is not None:
        import torch

        found += ["torch"] + (["cuda"] if torch.cuda.is_available() else [])
    return found


def calibrate(rounds: int = ROUNDS, rows: int = ROWS) -> Calibration:
    """Time every way on made-up rows, in turn.

    Args:
        rounds: How often each is timed.
        rows: How many rows are searched.
    """
    from recollect.index.exact import ExactIndex

    rng = np.random.default_rng(0)
    keys = rng.standard_normal((rows, DIM), dtype=np.float32)
    queries = rng.standard_normal((max(BATCHES), DIM), dtype=np.float32)
    indexes = {}
    for name in ways():
        indexes[name] = ExactIndex(DIM, path=name)
        indexes[name].attach(np.arange(rows), keys)
    seconds: dict[str, dict[int, list[float]]] = {
        name: {batch: [] for batch in BATCHES} for name in indexes
    }
    for number in range(rounds + 1):
        for batch in BATCHES:
            for name, index in indexes.items():
                start = time.perf_counter()
                index.search(queries[:batch], K)
                if number:  # the first round warms up
                    seconds[name][batch].append(time.perf_counter() - start)
    medians = {
        name: {str(batch): 1e3 * statistics.median(times) for batch, times in batches.items()}
        for name, batches in seconds.items()
    }
    # The product over the batch sizes: each counts alike, whatever its scale.
    path = min(medians, key=lambda name: float(np.prod(list(medians[name].values()))))
    return Calibration(this_machine(), medians, path)


def folder() -> Path:
    """Folder in which the result is kept: ``RECOLLECT_CACHE``, else the user's for caches."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RECOLLECT_CACHE") or Path(user) / "recollect")


def save(measured: Calibration, place: Path) -> Path:
    """Write a result into a folder; returns the file."""
    place.mkdir(parents=True, exist_ok=True)
    facts = {
        "machine": measured.machine,
        "milliseconds": measured.milliseconds,
        "path": measured.path,
    }
    staged = place / f"{FILE}.{os.getpid()}"
    staged.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    staged.replace(place / FILE)
    return place / FILE


def remembered(place: Path) -> str | None:
    """Return the way that was fastest when it was measured here; None where that is not known."""
    try:
        facts = json.loads((place / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or facts.get("machine") != this_machine():
        return None
    path = facts.get("path")
    known = ["numpy", "torch", "cuda", *(f"kernel:{name}" for name in kernel.find("").known)]
    return path if path in known else None
