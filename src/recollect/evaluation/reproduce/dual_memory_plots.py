"""The pictures of the dual-memory reproduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recollect.evaluation import plots
from recollect.evaluation.reproduce.dual_memory_figures import PROPOSED, title, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pictures(report: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw accuracy by shots, and gains over the text by order of the stream."""
    return {"by-shots": _by_shots(report), "streams": _by_order(report)}


def _by_shots(report: Mapping[str, Any]) -> Figure:
    shots = [each for each in report["protocol"]["shots"] if each]
    drawn = (
        ("text", ("robust", "text"), plots.QUIET, "--"),
        ("static", ("robust", "static"), plots.GREEN, "-"),
        ("published, (1, 1, 1)", ("published", "fixed"), plots.RED, "-"),
        ("robust, logits, honest", PROPOSED, plots.BLUE, "-"),
        ("learned offsets", ("learned", "logits"), plots.ORANGE, "-"),
    )
    figure = plots.new_figure(4.0 * len(report["main"]), 3.9)
    for axes, name in zip(
        np.atleast_1d(figure.subplots(1, len(report["main"]))), report["main"], strict=True
    ):
        for words, row, color, style in drawn:
            found = [(count, values(report, name, count, row)) for count in shots]
            points = [(count, 100 * float(np.mean(each))) for count, each in found if each]
            if points:
                axes.plot(
                    *zip(*points, strict=True), style, color=color, marker="o", ms=4, label=words
                )
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, [str(count) for count in shots])
        _dress(axes, "shots of each class", "accuracy (%)", title(name))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(drawn), frameon=False)
    return figure


def _by_order(report: Mapping[str, Any]) -> Figure:
    sets = [("MiniLM", "streams", name) for name in report["streams"]]
    sets += [("CLIP", "CLIP streams", name) for name in report["CLIP streams"]]
    drawn: Sequence[tuple[str, str, str]] = (
        ("robust", "robust", plots.BLUE),
        ("read, then write", "read, then write", plots.GREEN),
        ("TDA", "TDA", plots.ORANGE),
    )
    figure = plots.new_figure(11.0, 4.6)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, order in zip(panels, ("shuffled", "blocked", "drifting"), strict=True):
        for place, (words, way, color) in enumerate(drawn):
            gains = [_gain(report[key][name][order], way) for _, key, name in sets]
            axes.barh(np.arange(len(sets)) + 0.27 * place, gains, 0.25, color=color, label=words)
        axes.set_yticks(
            np.arange(len(sets)) + 0.27, [f"{title(name)}\n{text} text" for text, _, name in sets]
        )
        axes.axvline(0, color=plots.INK, lw=1)
        _dress(axes, "points over the text alone", "", order)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(drawn), frameon=False)
    return figure


def _gain(found: Mapping[str, Any], way: str) -> float:
    reached = found[way] if way == "TDA" else found[way]["fused"]
    return 100 * float(reached - found["robust"]["text"])


def _dress(axes: Axes, across: str, up: str, heading: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(heading, fontsize=11, fontweight="bold", color=plots.INK)
    axes.grid(color=plots.PALE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
