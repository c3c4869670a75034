"""Pictures of answers: functions that return a matplotlib ``Figure`` and touch no global state.

No window is opened and ``pyplot`` is never imported, so they work on a server as in a notebook:
``figure.savefig("answer.png")``. Without matplotlib they raise ``MissingExtra``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.encoders.images import decode_image
from recollect.errors import EmptyBatch, InvalidParameter, LengthMismatch, MissingExtra
from recollect.evaluation.metrics import Confusion, Reliability
from recollect.types import Doubles, Evidence, Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from recollect.heads.residual_search import Step

# Okabe and Ito's palette: its colors stay distinct for every common kind of color blindness.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
INK, QUIET, PALE = "#222222", "#767676", "#E6E6E6"
_CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, "#56B4E9", INK)
_MARKERS = "os^Dv*P"

Picture: TypeAlias = "NDArray[Any] | bytes | None"
Curve: TypeAlias = tuple[Sequence[float], Sequence[float]]


def plot_explanation(
    query_image: Picture,
    explanation: Explanation,
    images: Mapping[int, Picture],
    *,
    shown: int = 10,
    title: str | None = None,
) -> Figure:
    """Draw a query, the rows that answered it, and how they voted.

    Each row shows its picture, label, similarity and share of the vote. The bars below stack these
    shares by label, so that their lengths are the scores. Rows of the smallest set whose removal
    changes the answer are marked with a diamond, and hatched in the bars.

    Args:
        query_image: uint8 ``(height, width)`` or ``(height, width, 3)``, the bytes of an image
            file, or None where there is no picture.
        explanation: From ``explain``.
        images: Row id -> picture, as above; rows that are missing get an empty frame.
        shown: At most this many rows are drawn, nearest first; the bars count all of them.
        title: Above the picture; None names the answer.

    Example:
        >>> row = Evidence(id=3, value="cat", similarity=0.9, weight=1.0, contribution=1.0)
        >>> why = Explanation("cat", 1.0, {"cat": 1.0}, (row,), (3,), None)
        >>> figure = plot_explanation(np.zeros((8, 8), np.uint8), why, {})
        >>> len(figure.axes)
        3
    """
    if shown < 1:
        raise InvalidParameter("shown is out of range", expected="at least 1", got=shown)
    if not explanation.evidence:
        raise EmptyBatch("the explanation has no rows", expected="at least one row of evidence")
    rows = explanation.evidence[:shown]
    columns = min(5, max(2, len(rows)))
    lines = -(-len(rows) // columns)
    bars = min(len(explanation.shares), 6) or min(len(rows), 12)
    heights = (2.3 * lines, 0.36 * bars + 0.9)
    figure = _figure(1.75 * columns + 2.6, sum(heights) + 0.5)
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    grid = above.add_gridspec(lines, columns + 1, width_ratios=(1.3, *[1.0] * columns))
    _draw_query(above.add_subplot(grid[:, 0]), query_image, explanation)
    for place, row in enumerate(rows):
        axes = above.add_subplot(grid[place // columns, place % columns + 1])
        _draw_row(axes, row, images.get(row.id), explanation)
    _draw_votes(below.subplots(), explanation)
    hidden = len(explanation.evidence) - len(rows)
    heading = title or f"Answer: {_short(explanation.prediction)}, and the rows behind it"
    if hidden:
        heading += f"  ({len(rows)} of {len(explanation.evidence)} rows shown)"
    figure.suptitle(heading, color=INK, fontsize=12, fontweight="bold", parse_math=False)
    return figure


def plot_accuracy_by_k(
    curves: Mapping[str, ArrayLike],
    *,
    errors: Mapping[str, ArrayLike] | None = None,
    reference: Mapping[str, float] | None = None,
    title: str = "Accuracy by number of neighbors",
) -> Figure:
    """Draw accuracy against k for several rules.

    Args:
        curves: Name -> accuracy ``(K,)`` in [0, 1] at k = 1 ... K, at most seven of them.
        errors: Name -> standard errors ``(K,)``, drawn as a band.
        reference: Name -> an accuracy that does not depend on k, drawn as a level line.
        title: Above the picture.

    Example:
        >>> figure = plot_accuracy_by_k({"rank": [0.7, 0.8], "plurality": [0.7, 0.75]})
        >>> figure.axes[0].get_xlabel()
        'neighbors k'
    """
    if not 1 <= len(curves) <= len(_CYCLE):
        raise InvalidParameter(
            "the number of curves is out of range",
            expected=f"1 to {len(_CYCLE)}",
            got=len(curves),
            remedy="More lines cannot be told apart; draw them in two pictures.",
        )
    _check_bands(curves, errors or {})
    figure = _figure(7.2, 4.4)
    axes = figure.subplots()
    for (name, curve), color, marker in zip(curves.items(), _CYCLE, _MARKERS, strict=False):
        heights = 100 * np.asarray(curve, np.float64)
        ks = np.arange(1, len(heights) + 1)
        dots = np.unique(np.geomspace(1, len(ks), 9).astype(int)) - 1
        axes.plot(ks, heights, color=color, marker=marker, markevery=list(dots), label=name)
        if errors is not None and name in errors:
            band = 100 * np.asarray(errors[name], np.float64)
            axes.fill_between(ks, heights - band, heights + band, color=color, alpha=0.13, lw=0)
    for (name, level), style in zip((reference or {}).items(), ("--", ":", "-."), strict=False):
        axes.axhline(100 * level, color=QUIET, ls=style, lw=1.3, label=name)
    axes.set_xscale("log")
    longest = max(len(np.asarray(curve)) for curve in curves.values())
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= longest]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    _dress(axes, "neighbors k", "accuracy (%)", title)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_curves(
    panels: Mapping[str, Mapping[str, Curve]],
    *,
    x: str,
    y: str,
    title: str,
    log: bool = False,
    lines: Mapping[str, Mapping[str, Curve]] | None = None,
) -> Figure:
    """Draw curves in panels that share their axes' names.

    Args:
        panels: Panel -> name -> ``(xs, ys)``, at most seven curves in a panel.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        title: Above the picture.
        log: Whether both axes are logarithmic.
        lines: Panel -> name of one of its curves -> ``(xs, ys)``: a fit, drawn dashed in its color.

    Example:
        >>> figure = plot_curves({"pets": {"memory": ([1, 2], [50, 60])}}, x="n", y="%", title="")
        >>> len(figure.axes)
        1
    """
    if not panels or not all(1 <= len(curves) <= len(_CYCLE) for curves in panels.values()):
        raise InvalidParameter(
            "there are too few or too many curves",
            expected=f"1 to {len(_CYCLE)} in each panel",
            got={name: len(curves) for name, curves in panels.items()},
            remedy="More lines cannot be told apart; draw them in two pictures.",
        )
    figure = _figure(1.6 + 4.1 * len(panels), 4.3)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, curves) in zip(grid, panels.items(), strict=True):
        for (curve, (xs, ys)), color, marker in zip(curves.items(), _CYCLE, _MARKERS, strict=False):
            fit = (lines or {}).get(name, {}).get(curve)
            style = "" if fit is not None else "-"
            axes.plot(xs, ys, style, color=color, marker=marker, ms=5, label=curve)
            if fit is not None:
                axes.plot(*fit, "--", color=color, lw=1.2)
        if log:
            axes.set_xscale("log")
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            ticks = [
                tick for tick in (2, 5, 10, 20, 30, 40, 50, 60, 80, 100) if low <= tick <= high
            ]
            axes.set_yticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
        _dress(axes, x, y, name)
    grid[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(title, color=INK, fontsize=12, fontweight="bold")
    return figure


def plot_residual_search(
    query_image: Picture,
    steps: Sequence[Step],
    images: Mapping[int, Picture],
    *,
    query: int = 0,
    title: str = "What the nearest row leaves over",
) -> Figure:
    """Draw what each search of a residual search found for one query, one line a search.

    Args:
        query_image: As in `plot_explanation`.
        steps: From ``recollect.heads.residual_search.residual_search``.
        images: Row id -> picture.
        query: Which of the queries.
        title: Above the picture.

    Example:
        >>> from recollect import Memory
        >>> from recollect.heads.residual_search import residual_search
        >>> memory = Memory.create(":memory:", dim=2)
        >>> ids = memory.add([[1, 0], [0, 1]], ["sky", "boat"])
        >>> figure = plot_residual_search(None, residual_search(memory, [[2, 1]], k=1), {})
        >>> [axes.get_title() for axes in figure.axes]
        ['query', 'sky', 'left 0.46', 'boat']
    """
    near = [step.near for step in steps]
    columns = max(int(found.found[query].sum()) for found in near) + 1
    figure = _figure(1.7 * columns + 0.5, 2.3 * len(steps) + 0.4)
    grid = figure.subplots(len(steps), columns, squeeze=False)
    for line, (step, found) in enumerate(zip(steps, near, strict=True)):
        _draw_picture(grid[line, 0], query_image if line == 0 else None, INK)
        heading = "query" if line == 0 else f"left {step.left[query]:.2f}"
        grid[line, 0].set_title(heading, fontsize=10, color=INK, fontweight="bold")
        for place in range(columns - 1):
            axes = grid[line, place + 1]
            row = int(found.ids[query, place])
            if row < 0:
                axes.set_visible(False)
                continue
            _draw_picture(axes, images.get(row), BLUE if place == 0 else QUIET)
            value = _short(found.values[query, place], 15)
            axes.set_title(value, fontsize=10, color=INK, parse_math=False)
            axes.set_xlabel(f"#{row}   sim {found.similarity[query, place]:.2f}", fontsize=8)
    figure.suptitle(title, color=INK, fontsize=12, fontweight="bold", parse_math=False)
    return figure


def plot_confusion(table: Confusion, *, title: str = "Answers by true label") -> Figure:
    """Draw a confusion matrix; color is the share of each true label's rows.

    Up to 20 labels, the counts are written into the cells.

    Example:
        >>> table = Confusion(np.array(["cat", "dog"]), np.array([[8, 2], [1, 9]]))
        >>> [text.get_text() for text in plot_confusion(table).axes[0].texts]
        ['8', '2', '1', '9']
    """
    size = len(table.labels)
    total = np.maximum(table.counts.sum(axis=1, keepdims=True), 1)
    share = 100 * table.counts / total
    side = float(np.clip(1.9 + 0.52 * size, 4.2, 11.0))
    figure = _figure(side + 0.9, side)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    step = -(-size // 40)
    names = [_short(label) for label in table.labels[::step].tolist()]
    axes.set_xticks(range(0, size, step), names, rotation=45 if size > 3 else 0, ha="right")
    if size <= 3:
        axes.set_xticks(range(size), names, ha="center")
    axes.set_yticks(range(0, size, step), names)
    for tick in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        tick.set_parse_math(False)
    if size <= 20:
        for (true, answered), count in np.ndenumerate(table.counts):
            color = "white" if share[true, answered] > 55 else INK if count else "#B0B0B0"
            axes.text(answered, true, str(count), ha="center", va="center", color=color, fontsize=9)
    _dress(axes, "answer", "true label", title)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.75)
    bar.set_label("% of the true label's rows", color=INK)
    bar.outline.set_visible(False)
    return figure


def plot_reliability(curve: Reliability, *, title: str = "Confidence against accuracy") -> Figure:
    """Draw how often answers are right at each level of confidence.

    Example:
        >>> from recollect.evaluation.metrics import reliability_curve
        >>> figure = plot_reliability(reliability_curve([True, False], [0.9, 0.6]))
        >>> figure.axes[1].get_xlabel()
        'confidence'
    """
    figure = _figure(5.4, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left, width = curve.edges[:-1], np.diff(curve.edges)
    filled = curve.counts > 0
    above.bar(
        left[filled], curve.accuracy[filled], width[filled], align="edge", color=BLUE,
        edgecolor="white", label="accuracy in the bin",
    )  # fmt: skip
    above.plot(
        curve.confidence[filled], curve.accuracy[filled], "D", color=ORANGE, mec=INK, mew=0.6, ms=5,
        label="at its mean confidence",
    )  # fmt: skip
    above.plot([0, 1], [0, 1], "--", color=INK, lw=1.2, label="calibrated")
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    above.legend(frameon=False, loc="upper left")
    _dress(above, "", "accuracy", f"{title} (ECE {100 * curve.error:.1f} %)")
    below.bar(left, curve.counts, width, align="edge", color=QUIET, edgecolor="white")
    _dress(below, "confidence", "answers", "")
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure in the style of this module, in inches.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return _figure(width, height)


def _check_bands(curves: Mapping[str, ArrayLike], errors: Mapping[str, ArrayLike]) -> None:
    for name in errors.keys() & curves.keys():
        points, bars = np.shape(curves[name]), np.shape(errors[name])
        if points != bars:
            raise LengthMismatch(
                f"the standard errors of {name!r} do not fit its curve", expected=points, got=bars
            )


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise MissingExtra(
            "pictures need matplotlib", remedy="pip install 'recollect[plots]'"
        ) from missing
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    margins = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.07)
    return Figure(figsize=(width, height), dpi=120, layout=margins, facecolor="white")


def _dress(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.set_title(title, color=INK, fontsize=11, fontweight="bold")
    axes.grid(color=PALE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def _draw_query(axes: Axes, picture: Picture, explanation: Explanation) -> None:
    _draw_picture(axes, picture, INK)
    score = explanation.score
    line = f"answer {_short(explanation.prediction)}"
    if explanation.shares:
        line += f"\n{100 * float(score):.0f} % of the vote"
    axes.set_title("query", color=INK, fontsize=11, fontweight="bold")
    axes.set_xlabel(line, color=INK, fontsize=10, parse_math=False)


def _draw_row(axes: Axes, row: Evidence, picture: Picture, explanation: Explanation) -> None:
    agrees = not explanation.shares or bool(row.value == explanation.prediction)
    color = BLUE if agrees else RED
    _draw_picture(axes, picture, color)
    mark = "◆ " if row.id in explanation.counterfactual else ""
    axes.set_title(mark + _short(row.value, 15), fontsize=10, color=color, parse_math=False)
    share = f"vote {100 * row.contribution:.1f} %"
    adds = share if explanation.shares else f"adds {row.contribution:.3g}"
    axes.set_xlabel(f"#{row.id}   sim {row.similarity:.2f}\n{adds}", fontsize=8, color=INK)


def _draw_picture(axes: Axes, picture: Picture, color: str) -> None:
    if picture is None:
        axes.set_facecolor("#F4F4F4")
        axes.set_aspect("equal")
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", color=QUIET, fontsize=8)
    else:
        pixels = _pixels(picture)
        axes.imshow(pixels, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(color)
    axes.spines[:].set_linewidth(2.4)


def _pixels(picture: NDArray[Any] | bytes) -> NDArray[Any]:
    # Thumbnails come out of a memory that anyone may have sent: they are decoded like any file.
    return decode_image(picture)


def _draw_votes(axes: Axes, explanation: Explanation) -> None:
    if not explanation.shares:
        _draw_contributions(axes, explanation)
        return
    labels = list(explanation.shares)[:6]
    pivotal = set(explanation.counterfactual)
    for line, label in enumerate(labels):
        votes = [row for row in explanation.evidence if row.value == label]
        color = BLUE if label == explanation.prediction else RED
        _stack(axes, line, votes, color, pivotal)
        share = 100 * explanation.shares[label]
        axes.text(share + 1, line, f"{share:.1f} %", va="center", color=INK, fontsize=9)
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    rest = len(explanation.shares) - len(labels)
    more = f"; {rest} more labels below these" if rest else ""
    _dress(axes, f"share of the vote (%), one segment a row{more}", "", "")
    axes.grid(visible=False, axis="y")
    _say_what_flips(axes, explanation)


def _stack(axes: Axes, line: int, votes: Sequence[Evidence], color: str, pivotal: set[int]) -> None:
    start = 0.0
    for row in votes:
        width = 100 * float(row.contribution)
        hatch = "////" if row.id in pivotal else None
        axes.barh(line, width, 0.66, start, color=color, edgecolor="white", lw=0.8, hatch=hatch)
        start += width


def _draw_contributions(axes: Axes, explanation: Explanation) -> None:
    rows = explanation.evidence[:12]
    heights: Doubles = np.array([float(row.contribution) for row in rows])
    axes.barh(range(len(rows)), heights, 0.66, color=BLUE, edgecolor="white")
    axes.set_yticks(range(len(rows)), [f"#{row.id}: {_short(row.value)}" for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    _dress(axes, "contribution to the prediction", "", "")
    axes.grid(visible=False, axis="y")


def _say_what_flips(axes: Axes, explanation: Explanation) -> None:
    if not explanation.counterfactual:
        return
    names = ", ".join(f"#{row}" for row in explanation.counterfactual[:8])
    if len(explanation.counterfactual) > 8:
        names += f" and {len(explanation.counterfactual) - 8} more"
    text = f"Without {names} (◆, hatched) the answer is {_short(explanation.changed_to)}."
    axes.set_title(text, fontsize=9, color=INK, loc="left", parse_math=False)


def _short(value: object, limit: int = 18) -> str:
    """One printable line: a label may be long, or hold line breaks."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"
