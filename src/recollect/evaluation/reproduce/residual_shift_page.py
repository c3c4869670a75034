"""The section on a shift of domain of the page of the residual-memory study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recollect.evaluation.reproduce.markdown import table
from recollect.evaluation.reproduce.residual_memory_cells import (
    gain_with_error,
    percent,
    told_setting,
)

ANEW = "last layer anew"
PUBLISHED = {"cifar10_resnet20": 91.7, "cifar10_resnet56": 93.4}


def shift_section(lines: Sequence[Mapping[str, Any]]) -> str:
    """Write the section: every line, the comparison with the layer fitted anew, and the guard."""
    rows = [
        [
            line["network"].removeprefix("cifar10_"),
            f"{line['rows']:,}",
            line["method"],
            percent(line["resmem"], 2),
            gain_with_error(line),
            f"{line['seconds']:.1f}",
            _chosen(line),
        ]
        for line in lines
    ]
    head = ["network", "rows", "method", "accuracy", "gain", "seconds", "chosen"]
    networks = {line["network"]: line["base"] for line in lines}
    told = "; ".join(
        f"`{name}` {percent(base, 2)} % instead of the published {PUBLISHED.get(name, '?')}"
        for name, base in networks.items()
    )
    return f"""## A shift of domain

Public networks trained on lossless CIFAR-10 pictures, asked about the test file of the JPEG copy:
{told}.
Rows of the JPEG training file come into the memory; everything is chosen on these rows, by
leaving each out in turn. Beside it the last layer is fitted anew on the same rows (logistic
regression on the pooled features, its strength chosen in three folds). The network had seen the
lossless originals of these rows.{_grid(lines)}
In the picture a hollow marker is a memory that is off. Seconds are those of teaching and choosing;
the largest searches ask 10,000 rows about themselves.

{table(head, rows, texts=3)}

{_against_last_layer(lines)}
{_guarded(lines)}
![Accuracy by rows of the new domain](residual-memory-shift.png)
"""


def _against_last_layer(lines: Sequence[Mapping[str, Any]]) -> str:
    """ResMem beside the layer fitted anew: above, below, and how often that is beyond the error."""
    anew = {(line["network"], line["rows"]): line for line in lines if line["method"] == ANEW}
    apart = [
        (line, anew[line["network"], line["rows"]])
        for line in lines
        if line["method"] != ANEW and (line["network"], line["rows"]) in anew
    ]
    if not apart:
        return ""
    told = []
    for rows in sorted({line["rows"] for line, _ in apart}):
        pairs = [pair for pair in apart if pair[0]["rows"] == rows]
        gaps = [line["gain"] - other["gain"] for line, other in pairs]
        errors = [math.hypot(*(each["standard_error"] for each in pair)) for pair in pairs]
        both = list(zip(gaps, errors, strict=True))
        counts = (
            sum(gap > 0 for gap in gaps),
            sum(gap > 2 * error for gap, error in both),
            sum(gap < 0 for gap in gaps),
            sum(gap < -2 * error for gap, error in both),
        )
        told.append([f"{rows:,}", len(pairs), *counts])
    head = ["rows", "comparisons", "above", "beyond error", "below", "beyond error"]
    return f"""Against the layer fitted anew, all networks and places together; *beyond error*: by
more than two standard errors, those of both gains added as if independent.

{table(head, told, texts=0)}"""


def _chosen(line: Mapping[str, Any]) -> str:
    """The setting; where the memory is off, also what it would have done with the guard off."""
    if "k" not in line["setting"]:
        return f"C = {line['setting']['C']}"
    told = told_setting(line["setting"])
    if "unguarded" not in line:
        return told
    return f"{told}; guard off {percent(line['unguarded'], 2)}, {_unguarded(line)}"


def _unguarded(line: Mapping[str, Any]) -> str:
    return gain_with_error(
        {"gain": line["unguarded_gain"], "standard_error": line["unguarded_error"]}
    )


def _guarded(lines: Sequence[Mapping[str, Any]]) -> str:
    """How often the memory is off, how hard rows and questions are, and what the guard costs."""
    memories = [line for line in lines if line["method"] != ANEW]
    off = [line for line in memories if not line["setting"]["active"]]
    text = f"""
The memory is off in {len(off)} of {len(memories)} lines: its gain on the rows given, each left
out in turn, was not above one standard error.
"""
    known = [line for line in memories if "base_on_rows" in line]
    if not known:
        return text
    rows = []
    for network, count in dict.fromkeys((line["network"], line["rows"]) for line in known):
        here = [line for line in known if (line["network"], line["rows"]) == (network, count)]
        tried = [line for line in here if "unguarded" in line]
        rows.append(
            [
                network.removeprefix("cifar10_"),
                f"{count:,}",
                percent(here[0]["base_on_rows"], 2),
                percent(here[0]["base"], 2),
                f"{len(tried)} of {len(here)}",
                *_spread([100 * line["unguarded_gain"] for line in tried]),
            ]
        )
    head = ["network", "rows", "base on these rows", "base on the questions", "off",
            "guard off: mean gain", "least", "largest"]  # fmt: skip
    return f"""{text}
How many of the rows given and of the questions the base gets right, and, *guard off*, what the
best setting on the rows given gains on the questions where the guard turned the memory off; no
other figure here is with the guard off:

{table(head, rows, texts=1)}
"""


def _spread(gains: Sequence[float]) -> list[str]:
    """Mean, least and largest; empty cells where there is none."""
    if not gains:
        return ["", "", ""]
    return [f"{each:+.2f}" for each in (sum(gains) / len(gains), min(gains), max(gains))]


def _grid(lines: Sequence[Mapping[str, Any]]) -> str:
    """Between which edges strengths and temperatures were tried, if the lines tell."""
    tried = next((each["setting"]["tried"] for each in lines if "tried" in each["setting"]), None)
    if tried is None:
        return ""
    strength, temperature = tried["strength"], tried["temperature"]
    return (
        f"\nThe grid is one of its own: strengths from {strength[0]:g} to {strength[1]:g}, "
        f"temperatures\nfrom {temperature[0]:g} to {temperature[1]:g}."
    )
