"""Example pictures of the dense-memory reproduction: truth, answer, and how new a cell is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.dense_data import Task

SHOWN = 3


def save_pictures(task: Task, head: Any, out: Path) -> None:
    """Draw truth and answer of a few test samples, and save ``dense-memory-<task>.png``."""
    from recollect.evaluation.plots import new_figure

    rows = np.linspace(0, len(task.test) - 1, SHOWN + 2)[1:-1].astype(int)
    axes = task.test.truth[0].ndim
    height = 1.3 if axes == 1 else 1.9
    figure = new_figure(8.4, height * SHOWN + 0.4)
    titles = ("truth", "answer", "1 - similarity of the best match")
    panels = np.atleast_2d(figure.subplots(SHOWN, 3 if axes > 1 else 1, squeeze=False))
    for line, row in enumerate(rows.tolist()):
        levels, truth = task.test.pyramids[row], task.test.truth[row]
        [answer] = head.answer([levels])
        said = head.predict([levels], size=truth.shape)[0]
        if axes == 1:
            _strips(panels[line, 0], truth, said, task)
            continue
        shown = (truth, said, answer.novelty)
        for column, values in enumerate(shown):
            _panel(panels[line, column], _middle(values), task, novelty=column == 2)
            if line == 0:
                panels[line, column].set_title(titles[column], fontsize=9)
    figure.savefig(out / f"dense-memory-{task.name}.png", dpi=80)


def _middle(values: NDArray[Any]) -> NDArray[Any]:
    """A picture as it is; of a volume the slice in the middle."""
    return values if values.ndim == 2 else values[:, :, values.shape[2] // 2]


def _panel(axes: Any, values: NDArray[Any], task: Task, *, novelty: bool) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if novelty:
        axes.imshow(values, cmap="magma", vmin=0.0, interpolation="nearest")
    elif task.kind == "numbers":
        axes.imshow(values, cmap="viridis", vmin=0.7, vmax=7.0, interpolation="nearest")
    else:
        shown = np.ma.masked_equal(values, task.ignore)
        axes.imshow(shown, cmap="tab20", vmin=0, vmax=max(len(task.labels) - 1, 1),
                    interpolation="nearest")  # fmt: skip
        axes.set_facecolor("0.85")


def _strips(axes: Any, truth: NDArray[Any], said: NDArray[Any], task: Task) -> None:
    """Two strips of labels, one over the other, for a stretch of a signal."""
    stretch = slice(0, min(len(truth), 1000))
    both = np.ma.masked_equal(np.stack([truth[stretch], said[stretch]]), task.ignore)
    axes.imshow(both, cmap="tab20", vmin=0, vmax=max(len(task.labels) - 1, 1), aspect="auto",
                interpolation="nearest")  # fmt: skip
    axes.set_facecolor("0.85")
    axes.set_yticks([0, 1], ["truth", "answer"], fontsize=8)
    axes.set_xticks([])
