"""The pictures of the dual-memory reproduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recollect.evaluation import plots
from recollect.evaluation.reproduce.dual_memory_figures import (
    LEARNED,
    PROPOSED,
    mean_over_sets,
    spread,
    stream_gains,
    title,
    values,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_COLORS = (plots.BLUE, plots.RED, plots.GREEN, plots.ORANGE)


def pictures(report: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw accuracy by shots, gains over the text by order of the stream, and single parts."""
    return {
        "by-shots": _by_shots(report),
        "streams": _by_order(report),
        "parts": _by_part(report),
    }


def _by_shots(report: Mapping[str, Any]) -> Figure:
    shots = [each for each in report["protocol"]["shots"] if each]
    drawn = (
        ("text", ("robust", "text"), plots.QUIET, "--"),
        ("static", ("robust", "static"), plots.GREEN, "-"),
        ("published, (1, 1, 1)", ("published", "fixed"), plots.RED, "-"),
        ("robust, logits, honest", PROPOSED, plots.BLUE, "-"),
        ("learned offsets", (LEARNED + "robust", "logits, honest"), plots.ORANGE, "-"),
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
            drawn_gains = [stream_gains(report[key][name][order], way) for _, key, name in sets]
            axes.barh(
                np.arange(len(sets)) + 0.27 * place,
                [each.mean() for each in drawn_gains],
                0.25,
                xerr=[spread(each) for each in drawn_gains],
                color=color,
                ecolor=plots.QUIET,
                label=words,
            )
        axes.set_yticks(
            np.arange(len(sets)) + 0.27, [f"{title(name)}\n{text} text" for text, _, name in sets]
        )
        axes.axvline(0, color=plots.INK, lw=1)
        _dress(axes, "points over the text alone", "", order)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(drawn), frameon=False)
    return figure


def _by_part(report: Mapping[str, Any]) -> Figure:
    figure = plots.new_figure(12.0, 8.2)
    panels = figure.subplots(2, 3).ravel()
    for axes, what, across in zip(
        panels, ("length", "beta"), ("memory length", "sharpness beta"), strict=False
    ):
        lines = {
            f"{title(name)}, {count}": {key: one["dynamic"] for key, one in entry[what].items()}
            for name, by in report["ablation"].items()
            for count, entry in by.items()
        }
        _lines(axes, lines, across, "accuracy, dynamic memory (%)", what)
    most = max(report["channels"][next(iter(report["channels"]))], key=int)
    told = {
        f"{title(name)}, {most}": {key: one["static"] for key, one in by[most].items()}
        for name, by in report["channels"].items()
    }
    _lines(panels[2], told, "channels", "accuracy, static memory (%)", "channels")
    viewed = {
        f"{title(name)}, {count}": {key: one["fused"] for key, one in found.items()}
        for name, by in report["views"].items()
        for count, found in by.items()
    }
    _lines(panels[3], viewed, "views of a picture", "accuracy, all members (%)", "views")
    _errors(panels[4], report)
    _unanswered(panels[5], report)
    return figure


def _lines(
    axes: Axes, lines: Mapping[str, Mapping[str, float]], across: str, up: str, heading: str
) -> None:
    for (words, found), color in zip(lines.items(), _COLORS, strict=False):
        axes.plot(
            range(len(found)), [100 * each for each in found.values()], marker="o", ms=4,
            color=color, label=f"{words} shots",
        )  # fmt: skip
        axes.set_xticks(range(len(found)), list(found))
    _dress(axes, across, up, heading)
    _name(axes)


def _errors(axes: Axes, report: Mapping[str, Any]) -> None:
    """Calibration error by shots, as it is and with an honest temperature."""
    drawn = (
        ("robust", ("robust", "fixed, calibration"), plots.BLUE, "-"),
        ("robust, calibrated", ("robust", "fixed, calibrated"), plots.BLUE, "--"),
        ("logits", ("robust", "logits, calibration"), plots.ORANGE, "-"),
        ("logits, calibrated", ("robust", "logits, calibrated"), plots.ORANGE, "--"),
    )
    shots = report["protocol"]["shots"]
    for words, row, color, style in drawn:
        found = [mean_over_sets(report, count, row) for count in shots]
        points = [(at, 100 * each[0]) for at, each in enumerate(found) if each]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=color, marker="o", ms=4, label=words)
    axes.set_xticks(range(len(shots)), [str(count) for count in shots])
    axes.set_ylim(bottom=0)
    _dress(axes, "shots of each class", "expected calibration error (%)", "calibration")
    _name(axes)


def _unanswered(axes: Axes, report: Mapping[str, Any]) -> None:
    """Known and unknown pictures that stay unanswered, before the stream."""
    names, rate = list(report["rejecting"]), "coverage 0.1"
    for place, (words, color) in enumerate((("known", plots.BLUE), ("unknown", plots.RED))):
        shares = [
            [100 * each["before"][f"{rate}, {words} unanswered"] for each in report["rejecting"][n]]
            for n in names
        ]
        axes.bar(
            np.arange(len(names)) + 0.38 * place, [np.mean(each) for each in shares], 0.36,
            yerr=[spread(each) for each in shares], color=color, ecolor=plots.QUIET, label=words,
        )  # fmt: skip
    axes.axhline(10, color=plots.INK, lw=1, ls="--")
    axes.set_xticks(np.arange(len(names)) + 0.19, [title(name).split(",")[0] for name in names])
    _dress(axes, "", "unanswered at abstain=0.1 (%)", "classes without a name")
    _name(axes)


def _name(axes: Axes) -> None:
    """Say below a panel which line is which: above, they would hide each other."""
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=8
    )  # fmt: skip


def _dress(axes: Axes, across: str, up: str, heading: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(heading, fontsize=11, fontweight="bold", color=plots.INK)
    axes.grid(color=plots.PALE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
