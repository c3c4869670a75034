"""Example pictures of the dense-memory reproduction: truth, answer, and how new a cell is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.dense_data import Task

SHOWN = 3
NAMED = 12  # labels that a legend has room for


def save_pictures(task: Task, head: Any, out: Path) -> None:
    """Draw truth and answer of a few test samples, and save ``dense-memory-<task>.png``."""
    from recollect.evaluation.plots import new_figure

    rows = np.linspace(0, len(task.test) - 1, SHOWN + 2)[1:-1].astype(int).tolist()
    axes = task.test.truth[0].ndim
    height = 1.3 if axes == 1 else 1.9
    figure = new_figure(8.4, height * SHOWN + 0.7)
    titles = ("truth", "answer", "1 - similarity of the best match")
    panels = np.atleast_2d(figure.subplots(SHOWN, 3 if axes > 1 else 1, squeeze=False))
    novel = [head.answer([task.test.pyramids[row]])[0].novelty for row in rows]
    # One scale for all; a cell that matched nothing (2) would darken all others.
    most = float(np.quantile(np.concatenate([each.ravel() for each in novel]), 0.99))
    for line, row in enumerate(rows):
        levels, truth = task.test.pyramids[row], task.test.truth[row]
        said = head.predict([levels], size=truth.shape)[0]
        if axes == 1:
            _strips(panels[line, 0], truth, said, task)
            continue
        at = _best_slice(truth)
        for column, values in enumerate((truth, said)):
            _panel(panels[line, column], _slice(values, at), task)
        _bare(panels[line, 2]).imshow(
            _slice(novel[line], at), cmap="magma", vmin=0.0, vmax=most, interpolation="nearest"
        )
        if line == 0:
            for panel, title in zip(panels[0], titles, strict=True):
                panel.set_title(title, fontsize=9)
    if 0 < len(task.labels) <= NAMED:
        _legend(figure, task)
    figure.savefig(out / f"dense-memory-{task.name}.png", dpi=80)


def _legend(figure: Any, task: Task) -> None:
    """Say which color stands for which label."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    colors = _colors(task)
    shade = colormaps[colors["cmap"]]
    most = colors["vmax"] - colors["vmin"]
    handles = [
        Patch(color=shade((at + 0.5) / most), label=name) for at, name in enumerate(task.labels)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8
    )


def _bare(axes: Any) -> Any:
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def _best_slice(truth: NDArray[Any]) -> float:
    """Where along the last axis of a volume most labels are seen, and most of the rarest of them.

    0 to 1; the middle one of a picture, or of numbers.
    """
    if truth.ndim == 2:
        return 0.5
    labels = np.unique(truth)
    seen = np.stack([(truth == label).sum(axis=(0, 1)) for label in labels], axis=1)
    least = np.where(seen > 0, seen, truth.size).min(axis=1)
    best = max(range(len(seen)), key=lambda at: (int((seen[at] > 0).sum()), int(least[at])))
    return (best + 0.5) / len(seen)


def _slice(values: NDArray[Any], at: float) -> NDArray[Any]:
    """A picture as it is; of a volume the slice so far along its last axis."""
    return values if values.ndim == 2 else values[:, :, int(at * values.shape[2])]


def _panel(axes: Any, values: NDArray[Any], task: Task) -> None:
    _bare(axes)
    if task.kind == "numbers":
        axes.imshow(values, cmap="viridis", vmin=0.7, vmax=7.0, interpolation="nearest")
        return
    shown = np.ma.masked_equal(values, task.ignore)
    axes.imshow(shown, **_colors(task), interpolation="nearest")
    axes.set_facecolor("white")


def _colors(task: Task) -> dict[str, Any]:
    """A color a label; grey, which would pass for "no label", only where there are many."""
    most = 10 if len(task.labels) <= 7 else 20
    return {"cmap": f"tab{most}", "vmin": -0.5, "vmax": max(len(task.labels), most) - 0.5}


def _strips(axes: Any, truth: NDArray[Any], said: NDArray[Any], task: Task) -> None:
    """Two strips of labels, one over the other, for a stretch of a signal."""
    stretch = slice(0, min(len(truth), 1000))
    both = np.ma.masked_equal(np.stack([truth[stretch], said[stretch]]), task.ignore)
    axes.imshow(both, **_colors(task), aspect="auto",
                interpolation="nearest")  # fmt: skip
    axes.set_facecolor("white")
    axes.set_yticks([0, 1], ["truth", "answer"], fontsize=8)
    axes.set_xticks([])
