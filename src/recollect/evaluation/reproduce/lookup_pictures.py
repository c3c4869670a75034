"""The pictures of the lookup reproduction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recollect.evaluation.plots import plot_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recollect.evaluation.reproduce.lookup import Lab


def draw(out: Path, report: dict[str, Any], lab: Lab) -> None:
    """Draw what was measured: accuracy by share, the weight search, the glimpses of one image."""
    from recollect.evaluation.reproduce.lookup import STEM

    if "shares" in report:
        _by_share(report).savefig(out / f"{STEM}-by-share.png")
    if "trees" in report:
        _by_comparisons(report).savefig(out / f"{STEM}-by-comparisons.png")
    if "ladder" in report:
        _search(lab).savefig(out / f"{STEM}-weights.png")
        _glimpses(lab).savefig(out / f"{STEM}-glimpses.png")


def _by_share(report: dict[str, Any]) -> Figure:
    lines = report["shares"]["lines"]
    shares = [100 * line["share"] for line in lines]
    curves = {
        name: (
            [100 * line["share"] for line in lines if name in line],
            [100 * line[name]["accuracy"] for line in lines if name in line],
        )
        for name in lines[-1]
        if name not in {"share", "bytes"}
    }
    levels = {"its network": report["networks"]["lines"][1]} if "networks" in report else {}
    levels |= {"1-NN on pixels": report["beside"]["lines"][0]} if "beside" in report else {}
    for name, line in levels.items():
        curves[name] = (shares, [100 * line["accuracy"]] * len(shares))
    return plot_curves(
        {"": curves},
        x="share of the training images recorded, %",
        y="accuracy (%)",
        title="MNIST: accuracy by share",
    )


def _by_comparisons(report: dict[str, Any]) -> Figure:
    lines = report["trees"]["lines"]
    own = [line for line in lines if line["beam"] and not line["slack"]]
    own = sorted(own, key=lambda line: float(line["comparisons"]))
    bound = [line for line in lines if line["slack"]]
    compared = [line["comparisons"] for line in own]
    across, every = [compared[0], compared[-1]], 100 * lines[0]["accuracy"]
    curves = {
        f"tree of {', '.join(str(line['beam']) for line in own)} ways": (
            compared, [100 * line["accuracy"] for line in own],
        ),
        "far ways given up": (
            [line["comparisons"] for line in bound], [100 * line["accuracy"] for line in bound],
        ),
        "all rows": (across, [every] * 2),
        "all rows, less 1 point": (across, [every - 1] * 2),
    }  # fmt: skip
    return plot_curves(
        {"": curves},
        x="comparisons per look-up",
        y="accuracy (%)",
        title="MNIST: accuracy by comparisons",
    )


def _search(lab: Lab) -> Figure:
    from recollect.evaluation.reproduce.lookup import TUNING_K
    from recollect.evaluation.reproduce.lookup_parts import improved

    trace = lab.tuned(improved(lab), per_step=True, labels=True, k=TUNING_K, vote="distance").trace
    reached = [score for _, score in trace]
    best = [max(reached[: place + 1]) for place in range(len(reached))]
    count = list(range(1, len(reached) + 1))
    tried = {"tried": (count, _percent(reached)), "best so far": (count, _percent(best))}
    return plot_curves(
        {"": tried},
        x="evaluation",
        y="accuracy on the images set aside (%)",
        title="Search of the three weights",
    )


def _glimpses(lab: Lab) -> Figure:
    from recollect.evaluation.reproduce.lookup_parts import final
    from recollect.heads.lookup.explanation import explain_trail

    made, image = final(lab), lab.digits.queries[:1]
    return explain_trail(made, made.trail(image), 0).draw(image[0], made.layout)


def _percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]
