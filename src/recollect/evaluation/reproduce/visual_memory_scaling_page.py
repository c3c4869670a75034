"""The page of scaling, random labels and texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from recollect.evaluation.reproduce.markdown import joined, table
from recollect.evaluation.reproduce.visual_memory_page import figure

# Appendix F: error = 10^b (log10 N)^a on ImageNet.
PAPER_FITS = {"DINOv2 ViT-L/14": (-0.9434, 2.0704), "DINOv2 ViT-S/14": (-1.0942, 2.3187)}


def page(report: Mapping[str, Any]) -> str:
    """Write the report of ``run`` as Markdown."""
    facts = {
        "queries": report["scaling"]["queries"],
        "curves": _curves(report["scaling"]["curves"]),
        "fits": _fits(report["scaling"]["curves"]),
        "trade": _trade(report["scaling"]["curves"]),
        "noise_rows": report["noise"]["rows"],
        "noise": _noise(report["noise"]),
        "text": _text(report["text"]),
    }
    paragraphs = [joined(part) for part in _PAGE.strip().split("\n\n")]
    return "\n\n".join(paragraphs).format_map(facts) + "\n"


_PAGE = """
# Reproduction: visual memory, scaling and noise

Geirhos et al., *Towards flexible perception with visual memory*, ICML 2025 (arXiv 2408.08172),
sections 3.2 and 3.3, appendices D and F. This page is what the following command wrote; the [main
page](visual-memory.md) has the votes, [another](visual-memory-lifelong.md) what changes in a
memory's life.

    recollect reproduce visual-memory --scaling --out FOLDER

## Accuracy by the size of the memory

CIFAR-10 (JPEG copy), {queries:,} questions, equally many rows of each class drawn at random (mean
of three draws), rank vote with the library's defaults. Error in percent:

{curves}

The paper fits error = 10^b (log10 N)^a, a line through the logarithm of the error over the
*double* logarithm of the rows (appendix F). Fitted to memories of 100 rows and more:

{fits}

The exponents are not comparable one by one: other encoders, ten classes instead of a thousand,
thumbnails of 32 x 32, and at most a thousandth of the paper's rows. What can be compared is how
well one line holds over the whole range, and that a stronger encoder lies lower.

![Error by rows](visual-memory-scaling.png)

## A smaller encoder with a bigger memory

{trade}

## Random labels

{noise_rows:,} rows of CIFAR-10, MobileNetV2 at 160 px. A share of the rows gets a label drawn at
random from all ten (so a tenth of them keeps its own). Paper (appendix D): rank voting is
almost flat
until about 60 %. Accuracy in percent, parameters of the votes at the paper's defaults:

{noise}

![Accuracy by share of random labels](visual-memory-scaling-noise.png)

## Texts

{text}
"""


def _curves(curves: list[Mapping[str, Any]]) -> str:
    sizes = sorted({rows for line in curves for rows in line["rows"]})
    lines = []
    for line in curves:
        known = dict(zip(line["rows"], line["error"], strict=True))
        cells = [f"{known[size]:.1f}" if size in known else "" for size in sizes]
        lines.append([line["encoder"], str(line["dim"]), *cells])
    return table(["encoder", "numbers a key", *(f"{size:,} rows" for size in sizes)], lines)


def _fits(curves: list[Mapping[str, Any]]) -> str:
    head = ["encoder", "a", "b", "error at 1,000 rows", "at 10,000", "worst miss of a point"]
    lines = []
    for line in curves:
        a, b = line["a"], line["b"]
        pairs = [
            (_fitted(a, b, rows), error)
            for rows, error in zip(line["rows"], line["error"], strict=True)
            if rows >= 100
        ]
        miss = max(abs(fitted - error) for fitted, error in pairs)
        lines.append([line["encoder"], *_fit_cells(a, b), f"{miss:.1f} points"])
    lines += [
        [f"paper, ImageNet: {name}", *_fit_cells(*fit), ""] for name, fit in PAPER_FITS.items()
    ]
    return table(head, lines)


def _fit_cells(a: float, b: float) -> list[str]:
    return [f"{a:.3f}", f"{b:.3f}", f"{_fitted(a, b, 1000):.1f}", f"{_fitted(a, b, 10_000):.1f}"]


def _fitted(a: float, b: float, rows: float) -> float:
    return float(10**b * math.log10(rows) ** a)


def _trade(curves: list[Mapping[str, Any]]) -> str:
    """How many rows the weaker encoder needs for what the stronger one reaches with few."""
    lines = []
    for weak, strong in pairwise(curves):
        goal = weak["error"][-1]
        enough = [
            rows
            for rows, error in zip(strong["rows"], strong["error"], strict=True)
            if error <= goal
        ]
        reach = f"{min(enough):,} rows" if enough else "none of its memories"
        lines.append(
            f"- {weak['encoder']} with {weak['rows'][-1]:,} rows errs on {goal:.1f} %; "
            f"{strong['encoder']} does as well from {reach} on."
        )
    words = (
        "Paper (section 3.2): DINOv2 S, B and L reach similar accuracy with 1.28 million, 150,000 "
        "and 70,000 rows. Ours, from one encoder to the next stronger one:"
    )
    return f"{words}\n\n" + "\n".join(lines)


def _noise(part: Mapping[str, Any]) -> str:
    head = ["vote", "k", *(f"{100 * share:.0f} %" for share in part["shares"])]
    lines = [
        [line["rule"], str(line["k"]), *(f"{100 * share:.1f}" for share in line["accuracy"])]
        for line in sorted(part["lines"], key=lambda line: line["k"])
    ]
    falls = "; ".join(_fall(line, part["shares"]) for line in part["lines"])
    return f"{table(head, lines)}\n\nFrom 0 to 60 % of random labels, in points: {falls}."


def _fall(line: Mapping[str, Any], shares: list[float]) -> str:
    accuracy = line["accuracy"]
    at = min(range(len(shares)), key=lambda place: abs(shares[place] - 0.6))
    return f"{line['rule']} at k = {line['k']} {100 * (accuracy[at] - accuracy[0]):+.1f}"


def _text(part: Mapping[str, Any]) -> str:
    chosen = part["chosen"]
    option = "" if chosen["parameter"] is None else f", {chosen['parameter']} = {chosen['value']:g}"
    words = (
        f"{part['data']} with {part['encoder']}: {part['rows']:,} rows of {part['classes']} "
        f"intents, {part['queries']:,} questions. The paper covers images only. "
        f"Leave-one-out chose {chosen['rule']}, k = {chosen['k']}{option}: "
        f"{figure(chosen['accuracy'], chosen['standard_error'])} %."
    )
    lines = [
        [line["rule"], *(f"{100 * share:.1f}" for share in line["accuracy"])]
        for line in part["votes"]
    ]
    return f"{words}\n\n{table(['vote', *(f'k = {k}' for k in part['k'])], lines)}"
