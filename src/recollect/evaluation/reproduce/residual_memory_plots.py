"""Pictures of the residual-memory study: functions that return a matplotlib ``Figure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recollect.evaluation.plots import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    QUIET,
    RED,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE)
_MARKERS = "os^Dv"


def plot_theory(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the risks of the linear problem against the number of rows, one panel a problem.

    Args:
        lines: Dicts with ``d``, ``L``, ``rows``, ``base``, ``resmem``, ``nearest``.

    Example:
        >>> line = {"d": 3, "L": 0.5, "base": 0.25, "resmem": 0.02, "nearest": 0.08}
        >>> len(plot_theory([line | {"rows": 10}, line | {"rows": 100}]).axes)
        1
    """
    problems = list(dict.fromkeys((line["d"], line["L"]) for line in lines))
    figure = new_figure(1.4 + 2.5 * len(problems), 3.4)
    panels = figure.subplots(1, len(problems), sharey=True, squeeze=False)[0]
    names = {"base": "base", "nearest": "1-NN", "resmem": "ResMem"}
    for axes, (width, longest) in zip(panels, problems, strict=True):
        here = [line for line in lines if (line["d"], line["L"]) == (width, longest)]
        rows = [line["rows"] for line in here]
        for (key, name), color, marker in zip(names.items(), _COLORS, _MARKERS, strict=False):
            axes.loglog(rows, [line[key] for line in here], color=color, marker=marker, ms=4,
                        label=name)  # fmt: skip
        axes.axhline((1 - longest) ** 2, color=QUIET, ls=":", lw=1.2, label="(1 - L)²")
        _dress(axes, "training rows", f"d = {width}, L = {longest}")
    panels[0].set_ylabel("risk", color=INK)
    panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle("A base that cannot learn all, and what a memory adds", color=INK,
                    fontsize=11, fontweight="bold")  # fmt: skip
    return figure


def plot_pictures(lines: Sequence[Mapping[str, Any]], whole: int) -> Figure:
    """Draw accuracy of base and ResMem by depth, and by training rows of the smallest network.

    Args:
        lines: From the part ``images`` of the study.
        whole: Training rows of those that are compared by depth.

    Example:
        >>> line = {"data": "pets", "seed": 0, "base": 0.3, "resmem": 0.32, "standard_error": 0.01}
        >>> lines = [line | {"depth": 8, "rows": rows} for rows in (100, 200)]
        >>> len(plot_pictures(lines, 200).axes)
        2
    """
    figure = new_figure(9.6, 3.9)
    by_depth, by_rows = figure.subplots(1, 2)
    smallest = min(line["depth"] for line in lines)
    for place, data in enumerate(dict.fromkeys(line["data"] for line in lines)):
        here = [line for line in lines if line["data"] == data]
        style = {"color": _COLORS[place], "marker": _MARKERS[place]}
        _two(by_depth, [line for line in here if line["rows"] == whole], "depth", data, style)
        _two(by_rows, [line for line in here if line["depth"] == smallest], "rows", data, style)
    _dress(by_depth, "depth of the base", f"{whole:,} training rows")
    _dress(by_rows, "training rows", f"ResNet-{smallest}")
    by_rows.set_xscale("log")
    ticks = sorted({line["rows"] for line in lines if line["depth"] == smallest})
    by_rows.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    by_rows.minorticks_off()
    depths = sorted({line["depth"] for line in lines if line["rows"] == whole})
    by_depth.set_xticks(depths, [str(depth) for depth in depths])
    by_depth.set_ylabel("accuracy (%)", color=INK)
    by_rows.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _two(
    axes: Axes, lines: Sequence[Mapping[str, Any]], x: str, data: str, style: Mapping[str, Any]
) -> None:
    """The base dashed, ResMem solid with the error of the gain; seeds are averaged."""
    places = sorted({line[x] for line in lines})
    for key, ls, name in (("base", "--", "base"), ("resmem", "-", "ResMem")):
        means = []
        for place in places:
            found = [line[key] for line in lines if line[x] == place]
            means.append(100 * sum(found) / len(found))
        inside = style["color"] if key == "resmem" else "white"
        axes.plot(places, means, ls=ls, ms=6, mfc=inside, label=f"{data}, {name}", **style)


def plot_shift(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy on a new domain against the rows of it that are known, one panel a network.

    Args:
        lines: Dicts with ``network``, ``rows``, ``method``, ``base`` and ``resmem``, the accuracy
            of the method; where ``setting`` says that a memory is not active, its marker is hollow.

    Example:
        >>> line = {"network": "small", "method": "memory", "base": 0.81, "resmem": 0.83}
        >>> len(plot_shift([line | {"rows": 100}, line | {"rows": 1000}]).axes)
        1
    """
    networks = list(dict.fromkeys(line["network"] for line in lines))
    methods = list(dict.fromkeys(line["method"] for line in lines))
    figure = new_figure(2.6 + 3.8 * len(networks), 4.0)
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        here = [line for line in lines if line["network"] == network]
        _by_known_rows(axes, here, methods)
        _dress(axes, "rows of the new domain", network)
    panels[0].set_ylabel("accuracy (%)", color=INK)
    if not all(map(_is_on, lines)):
        panels[-1].scatter([], [], marker="o", facecolors="none", edgecolors=QUIET,
                           label="hollow: memory off")  # fmt: skip
    panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle("CIFAR-10: networks of lossless pictures on JPEG ones", color=INK,
                    fontsize=11, fontweight="bold")  # fmt: skip
    return figure


def _by_known_rows(axes: Axes, lines: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> None:
    """One network; every memory has its color, hollow markers where it is off."""
    memories = [method for method in methods if method.startswith("ResMem")]
    for method in methods:
        here = [line for line in lines if line["method"] == method]
        if method in memories:
            place = memories.index(method) % len(_COLORS)
            color, marker, ls = _COLORS[place], _MARKERS[place], "-"
        else:
            color, marker, ls = INK, "x", "--"
        axes.plot([line["rows"] for line in here], [100 * line["resmem"] for line in here],
                  label=method, color=color, marker=marker, ls=ls,
                  markevery=[place for place, line in enumerate(here) if _is_on(line)])  # fmt: skip
        off = [line for line in here if not _is_on(line)]
        if off:
            # Memories that are off answer as the base, so their markers lie around each other.
            size = 6 + 2 * (memories.index(method) if method in memories else 0)
            axes.scatter([line["rows"] for line in off], [100 * line["resmem"] for line in off],
                         s=size**2, marker=marker, facecolors="none", edgecolors=color, lw=1.2,
                         zorder=3)  # fmt: skip
    axes.axhline(100 * lines[0]["base"], color=QUIET, ls=":", lw=1.3, label="base, no row known")
    axes.set_xscale("log")
    ticks = sorted({line["rows"] for line in lines})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def _is_on(line: Mapping[str, Any]) -> bool:
    """False where the memory turned itself off; the layer fitted anew is always on."""
    return bool(line.get("setting", {}).get("active", True))


def _dress(axes: Axes, x: str, title: str) -> None:
    axes.set_xlabel(x, color=INK)
    axes.set_title(title, color=INK, fontsize=10, fontweight="bold")
    axes.grid(color=PALE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
