"""The page of what changes in a memory over its life."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recollect.evaluation.reproduce.markdown import joined, table
from recollect.evaluation.reproduce.visual_memory_page import figure


def page(report: Mapping[str, Any]) -> str:
    """Write the report of ``run`` as Markdown."""
    methods = {line["method"] for part in report["incremental"] for line in part["methods"]}
    facts = {
        "shaped": _SHAPED if "memory, class means" in methods else "",
        "incremental": "\n\n".join(_incremental(part) for part in report["incremental"]),
        "unlearning": _unlearning(report["unlearning"]),
        "hierarchy": _hierarchy(report["hierarchy"]),
        "migration": _migration(report["migration"]),
        "reranking": _reranking(report["reranking"]),
    }
    paragraphs = [joined(part) for part in _PAGE.strip().split("\n\n")]
    return "\n\n".join(paragraphs).format_map(facts) + "\n"


_SHAPED = (
    " *memory, class means* answers by [class means](../metric.md) alone, at their defaults "
    "(`class_means=1.0`); what they are made of is summed up at the first question after a step, "
    "which is not among the seconds."
)

_PAGE = """
# Reproduction: visual memory over its life

Geirhos et al., *Towards flexible perception with visual memory*, ICML 2025 (arXiv 2408.08172),
sections 3.1, 3.4 and 3.5 and what they leave open. This page is what the following command wrote;
the [main page](visual-memory.md) has the votes, the page on [scaling](visual-memory-scaling.md)
the rest.

    recollect reproduce visual-memory --lifelong --out FOLDER

Keys of pictures are those of MobileNetV2 at 160 px, keys of texts those of MiniLM-L6. The memory
has the library's defaults: rank vote, k = 20, alpha = 2.

## New classes, ten at a time

Paper (section 3.1, table 1): 64 NINCO classes added to an ImageNet memory; ImageNet stays at 83.6
%, NINCO is answered to 87.4 %. Ours: ten steps of ten classes; after each step all classes so far
are asked about. Forgetting is how far accuracy on a group of ten falls from its own step to the
last one, in points, in the mean; most of it is that there are more labels to mistake it for,
which is why a probe retrained on everything shows it too. The probe's C is chosen once, on
held-out rows of the first group; it stops after 100 iterations. Seconds are those of a shared
machine, the methods one after the other: read their ratios.{shaped}

{incremental}

![Accuracy after each step](visual-memory-lifelong-incremental.png)

## Removal, shown beforehand

Paper (section 3.4): forgetting is exact, the rest unchanged, less than 20 ms a row. The cost at a
million rows stands in [performance](../performance.md). Here single classes are removed: what
`what_if` said would change, and what did.

{unlearning}

## Answers at two levels

Paper (section 3.5): species, genus and so on by the ancestors of the nearest row (k = 1). Ours:
the 20 nearest rows vote at each level.

{hierarchy}

## A new encoder

The paper names embedding model updates as an open question. Each row is asked about itself, left
out, under old and new keys. Where sources are gone the rows get aligned keys; their cost is
measured on rows that have both, one half asked about by the other.

{migration}

## A second opinion from texts

Paper (section 2.2, table 2): Gemini 1.5 Flash over 50 neighbors, 88.5 % against 83.5 % for the
votes. Its prompt is not published and no such model is at hand, so this is not comparable: here
text vectors of class names (MiniLM, mapped linearly to MobileNetV2's space) score the labels of
the 50 nearest rows.

{reranking}
"""


def _incremental(part: Mapping[str, Any]) -> str:
    head = ["method", "after step 1", "5", "10", "forgetting", "seconds: step 1", "5", "10"]
    lines = []
    for line in part["methods"]:
        shares, seconds = line["accuracy"], line["seconds"]
        places = [0, len(shares) // 2 - 1, len(shares) - 1] if len(shares) > 1 else [0, 0, 0]
        last = figure(shares[-1], line["standard_error"])
        lines.append([
            line["method"], *(f"{100 * shares[place]:.1f}" for place in places[:2]), last,
            f"{100 * line['forgetting']:.1f}", *(f"{seconds[place]:.3f}" for place in places),
        ])  # fmt: skip
    changes = part["order_changes"]
    order = (
        "Taught in reverse order, the memory gives the same answers."
        if not changes
        else f"Taught in reverse order, {changes} answers differ: ties between equal rows."
    )
    words = (
        f"**{part['data']}**: {part['rows']:,} rows of {part['classes']} classes, "
        f"{part['queries']:,} questions; probe with C = {part['probe_c']:g}. {order}"
    )
    return f"{words}\n\n{table(head, lines)}"


def _unlearning(part: Mapping[str, Any]) -> str:
    head = ["class removed", "rows", "flips previewed", "flips made", "preview exact",
            "as if never taught", "others before", "others after"]  # fmt: skip
    lines = [
        [
            line["label"], str(line["rows"]), str(line["flips_previewed"]),
            str(line["flips_made"]), _yes(line["preview_is_exact"]),
            _yes(line["as_if_never_taught"]), f"{100 * line['others_before']:.2f}",
            f"{100 * line['others_after']:.2f}",
        ]
        for line in part["classes"]
    ]  # fmt: skip
    words = (
        f"{part['data']}, {part['rows']:,} rows, {part['queries']:,} questions. The last two "
        "columns are the accuracy on questions of all other classes, in percent."
    )
    return f"{words}\n\n{table(head, lines)}"


def _hierarchy(part: Mapping[str, Any]) -> str:
    coarse, fine = part["classes"]
    words = (
        f"{part['data']}: {part['rows']:,} questions in the memory, {part['queries']:,} asked; "
        f"{coarse} coarse and {fine} fine classes. Fine accuracy {100 * part['fine']:.1f} %; "
        f"coarse accuracy by voting at that level {100 * part['coarse_by_vote']:.1f} %, by the "
        f"ancestor of the fine answer {100 * part['coarse_of_fine']:.1f} %. Backing off to the "
        "most specific level whose share of the vote passes, in percent of the questions:"
    )
    head = ["share asked for", "answered fine", "coarse", "not at all", "right when fine",
            "right when coarse", "right when answered"]  # fmt: skip
    lines = [
        [
            line["confidence"], *(f"{100 * line[name]:.1f}" for name in ("fine", "coarse", "none")),
            *(_percent(line[name]) for name in ("right_when_fine", "right_when_coarse", "right")),
        ]
        for line in part["back_off"]
    ]  # fmt: skip
    chosen = " and ".join(f"{share:.2f}" for share in part["chosen"])
    return f"{words}\n\n{table(head, lines)}\n\nLeave-one-out chose the shares {chosen}."


def _migration(lines: list[Mapping[str, Any]]) -> str:
    head = ["from", "rows", "sources gone", "same answer", "accuracy before", "after",
            "cost: real keys", "aligned keys", "cosine"]  # fmt: skip
    cells = []
    for line in lines:
        cost = line["cost"]
        parts = ["", "", ""] if cost is None else [
            f"{100 * cost['real']:.1f}", f"{100 * cost['aligned']:.1f}", f"{cost['cosine']:.3f}",
        ]  # fmt: skip
        cells.append([
            line["from"], f"{line['rows']:,}", f"{line['aligned']:,}", _percent(line["same"]),
            _percent(line["accuracy_before"]), _percent(line["accuracy_after"]), *parts,
        ])  # fmt: skip
    words = f"To {lines[0]['to']}; {lines[0]['asked']:,} rows asked, in percent."
    return f"{words}\n\n{table(head, cells)}"


def _reranking(part: Mapping[str, Any]) -> str:
    words = (
        f"{part['data']}: {part['rows']:,} rows, {part['queries']:,} questions. Scale "
        f"{part['scale']:g} and trust {part['trust']:g} were chosen on {part['held_out']:,} other "
        f"rows. Both together against the vote alone: {100 * part['gain']:+.2f} ± "
        f"{100 * part['gain_error']:.2f} points, paired."
    )
    lines = [[name, figure(share, part["standard_error"])] for name, share in
             part["accuracy"].items()]  # fmt: skip
    return f"{words}\n\n{table(['scored by', 'accuracy'], lines)}"


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"
