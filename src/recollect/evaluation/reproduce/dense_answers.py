"""Gathering of figures: answers sample by sample, and notes from which a stopped run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation import dense_metrics as metrics
from recollect.evaluation.dense_data import Task
from recollect.evaluation.earlier import read_earlier
from recollect.heads.dense_memory.masks import enlarge


class Steps:
    """What a part has measured so far; a run that was stopped goes on from there.

    Args:
        path: File that holds it while the part is under way; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.done: dict[str, Any] = {}
        if path is not None and path.is_file():
            self.done = read_earlier(path)

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
