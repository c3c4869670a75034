"""The pictures of the lookup reproduction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recollect.evaluation.plots import plot_curves

if TYPE_CHECKING:
    from recollect.evaluation.reproduce.lookup import Lab


def draw(out: Path, report: dict[str, Any], lab: Lab) -> None:
    """Draw accuracy by share, the trace of the weight search, and the glimpses of one image."""
    from recollect.evaluation.reproduce.lookup import STEM
    from recollect.evaluation.reproduce.lookup_parts import final, improved
    from recollect.heads.lookup.explanation import explain_trail

    lines = report["shares"]["lines"]
    shares = [100 * line["share"] for line in lines]
    names = [name for name in lines[0] if name != "share"]
    curves = {name: (shares, [100 * line[name]["accuracy"] for line in lines]) for name in names}
    for line in (report["networks"]["lines"][1], report["beside"]["lines"][0]):
        level = 100 * line["accuracy"]
        curves[line["name"] if "1-NN" in line["name"] else "its network"] = (
            shares,
            [level] * len(shares),
        )
    plot_curves(
        {"": curves}, x="share of the training images recorded, %", y="accuracy (%)",
        title="MNIST: accuracy by share",
    ).savefig(out / f"{STEM}-by-share.png")  # fmt: skip
    search = lab.tuned(improved(lab), per_step=True, labels=True, k=1)
    reached = [score for _, score in search.trace]
    best = [max(reached[: place + 1]) for place in range(len(reached))]
    count = list(range(1, len(reached) + 1))
    tried = {"tried": (count, _percent(reached)), "best so far": (count, _percent(best))}
    plot_curves(
        {"": tried}, x="evaluation", y="accuracy on the images set aside (%)",
        title="Search of the three weights",
    ).savefig(out / f"{STEM}-weights.png")  # fmt: skip
    made = final(lab)
    image = lab.digits.queries[:1]
    why = explain_trail(made, made.trail(image), 0)
    why.draw(image[0], made.layout).savefig(out / f"{STEM}-glimpses.png")


def _percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]
