"""The page on what is left to choice in visual memory: the figures of each set, in tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from recollect.evaluation.reproduce.markdown import joined, table

NAMES = {
    "caltech101": "Caltech-101",
    "cifar10": "CIFAR-10",
    "tiny_imagenet100_32": "Tiny-ImageNet-100",
    "banking77": "BANKING77",
}
KS = (10, 50, 100)

_PAGE = """
# Reproduction: what is left to choice

What Geirhos et al., *Towards flexible perception with visual memory* (ICML 2025), leave to a choice
on the test set, or open, chosen here on the memory's own rows. This page is what the following
command wrote, run set by set:

    recollect reproduce visual-memory-choice --rows {rows} --out FOLDER

## Protocol

{sets}

Each memory holds the first {rows:,} rows of its training file, or all; the questions are the whole
test file. Similarity is the cosine, search is exact. Nothing was chosen on the questions, except
where it says *oracle*. Standard errors are binomial over the questions; those of differences are
paired by question. Versions: recollect {recollect}, scikit-learn {scikit_learn}, Python {python}.

## Vote and k

Leave-one-out chooses vote, k, parameter and reliability (`tune()`); the oracle is the best vote and
k from 1 to 100 on the questions themselves, with each vote's default parameter.

{tuning}

*allowed* is one standard error of the oracle's accuracy plus 0.3 points.

## Reliability under label noise

A fifth of the labels of the memory were flipped at random, each other label equally likely; rank
vote with alpha 2; mean over three draws. Changes in points against the vote without reliability.
*chosen* is what leave-one-out on the noisy rows picked at this k; *worst* is its smallest change in
a draw.

{reliability}

Mean gain of what was chosen: {mean_gains}.

{picture}

## Suspected labels

The same flipped labels, looked for by `curate` (a row is suspected if among its nearest others, 50
or as many as a class has rows in the mean, another label has twice the votes of its own), by
confident learning (Northcutt et al., 2021; our implementation) and by cleanlab, the latter two on
the shares of the 50 nearest, each row left out of its own. Mean over three draws.

{label_noise}

Accuracy of the default vote, in percent:

{repaired}

## Novelty

Every second class was withheld. AUROC: how often a question of a withheld class scores higher than
one of a known class. FPR95: share of the withheld that pass where 95 % of the known do.

{novelty}

`predict(..., abstain=rate)` promises that of known questions at most this share stays unanswered;
with `promise="error"`, that of the answers to known questions at most this share is wrong.

{promises}

## Class means

No training run: means and scatter in closed form, their part in the answer chosen on the memory's
own rows. The linear probe is logistic regression on keys of length 1, its C of 1 to 300 chosen on a
fifth of the rows held out, trained until no gradient exceeds 1e-5. Seconds are those of a shared
machine.

{class_means}

## Beside the paper

{beside}
"""


_PICTURE = "![Gain of each reliability by k](visual-memory-choice-reliability.png)"


def page(report: Mapping[str, Any]) -> str:
    """Write the report of ``run`` as Markdown; what was not measured is left blank."""
    sets = {name: report["sets"][name] for name in NAMES if name in report["sets"]}
    facts = {
        **report["protocol"],
        "sets": _protocols(sets),
        "tuning": _tuning(_having(sets, "tuning")),
        "reliability": _reliability(_having(sets, "reliability")),
        "mean_gains": _mean_gains(_having(sets, "reliability")),
        "picture": _PICTURE if _having(sets, "reliability") else "",
        "label_noise": _label_noise(_having(sets, "label_noise")),
        "repaired": _repaired(_having(sets, "label_noise")),
        "novelty": _novelty(_having(sets, "novelty")),
        "promises": _promises(_having(sets, "novelty")),
        "class_means": _class_means(_having(sets, "class_means"), _having(sets, "linear_probe")),
        "beside": _beside(_having(sets, "reliability")),
    }
    paragraphs = [joined(part) for part in _PAGE.strip().split("\n\n")]
    return "\n\n".join(paragraphs).format_map(facts) + "\n"


Sets = Mapping[str, Mapping[str, Any]]


def _having(sets: Sets, section: str) -> dict[str, Any]:
    return {NAMES[name]: one[section] for name, one in sets.items() if section in one}


def _protocols(sets: Sets) -> str:
    head = ["set", "rows", "classes", "questions", "keys"]
    lines = []
    for name, one in sets.items():
        facts = one["protocol"]
        counts = [f"{facts[key]:,}" for key in ("rows", "classes", "queries")]
        lines.append([NAMES[name], *counts, facts["encoder"]])
    return table(head, lines)


def _tuning(sets: Mapping[str, Any]) -> str:
    head = ["set", "chosen", "honest", "oracle", "accuracy", "gap, points", "allowed"]
    lines = []
    for name, one in sets.items():
        chosen, oracle, gap = one["chosen"], one["oracle"], one["gap"]
        option = f", {chosen['parameter']} {chosen['value']:g}" if chosen["parameter"] else ""
        trust = f", {chosen['reliability']}" if chosen["reliability"] else ""
        lines.append(
            [
                name,
                f"{chosen['rule']}, k = {chosen['k']}{option}{trust}",
                _figure(one["honest"]),
                f"{oracle['rule']}, k = {oracle['k']}",
                _figure(oracle),
                f"{gap['points']:+.2f} ± {gap['paired_error']:.2f}",
                f"{100 * oracle['standard_error'] + 0.3:.2f}",
            ]
        )
    return table(head, lines)


def _reliability(sets: Mapping[str, Any]) -> str:
    head = ["set", "k", "none", "soft", "rate", "chosen", "gain", "worst"]
    lines = []
    for name, one in sets.items():
        for k in KS:
            drawn = [line for line in one["lines"] if line["k"] == k]
            none = _mean(line["None"] for line in drawn)
            picks = ", ".join(str(line["chosen"] or "none") for line in drawn)
            lines.append(
                [
                    name,
                    str(k),
                    f"{100 * none:.1f}",
                    *(
                        f"{100 * (_mean(line[trust] for line in drawn) - none):+.2f}"
                        for trust in ("soft", "rate")
                    ),
                    picks,
                    f"{_mean(line['gain'] for line in drawn):+.2f}",
                    f"{min(line['gain'] for line in drawn):+.2f}",
                ]
            )
    return table(head, lines)


def _mean_gains(sets: Mapping[str, Any]) -> str:
    told = []
    for k in KS:
        gains = [line["gain"] for one in sets.values() for line in one["lines"] if line["k"] == k]
        if gains:
            told.append(f"{_mean(gains):+.2f} points at k = {k}")
    return ", ".join(told)


def _beside(sets: Mapping[str, Any]) -> str:
    told = []
    for k in KS:
        gains = [
            line["soft"] - line["None"]
            for one in sets.values()
            for line in one["lines"]
            if line["k"] == k
        ]
        told.append(f"{100 * _mean(gains):+.1f}" if gains else "")
    head = ["", "paper", "here", "why they differ"]
    lines = [
        [
            "soft pruning, gain of the rank vote",
            "+0.5 (table 3, ImageNet, best k on the test set)",
            f"{', '.join(told)} at k = 10, 50, 100 (20 % noise, mean of the sets)",
            "1.28 million clean rows there; a few thousand noisy ones here",
        ],
        [
            "choice of k",
            "on the test set",
            "on the memory's own rows",
            "the gap above is what an honest choice costs",
        ],
        [
            "novelty",
            "box plots of mean and median distance (appendix G)",
            "AUROC and FPR95",
            "the paper gives no figures",
        ],
    ]
    return table(head, lines, texts=4)


FINDERS = ("ours", "confident learning", "cleanlab")


def _label_noise(sets: Mapping[str, Any]) -> str:
    head = ["set", "found by", "accused", "precision", "recall", "F1"]
    lines = []
    for name, one in sets.items():
        for finder in FINDERS:
            drawn = [line[finder] for line in one["lines"] if finder in line]
            if drawn:
                shares = [
                    f"{100 * _mean(line[key] for line in drawn):.1f}"
                    for key in ("precision", "recall", "f1")
                ]
                accused = f"{_mean(line['accused'] for line in drawn):,.0f}"
                lines.append([name, finder, accused, *shares])
    return table(head, lines, texts=2)


def _repaired(sets: Mapping[str, Any]) -> str:
    head = ["set", "noisy", "suspects removed", "suspects relabeled", "cleanlab's removed", "clean"]
    lines = []
    for name, one in sets.items():
        drawn = one["lines"]
        theirs = [line["cleanlab"]["without"] for line in drawn if "cleanlab" in line]
        cells = [
            [line["noisy"] for line in drawn],
            [line["ours"]["without"] for line in drawn],
            [line["relabeled"] for line in drawn],
            theirs,
            [line["clean"] for line in drawn],
        ]
        lines.append([name, *(f"{_mean(cell):.1f}" if cell else "" for cell in cells)])
    return table(head, lines)


def _novelty(sets: Mapping[str, Any]) -> str:
    scores = next(iter(sets.values()))["scores"] if sets else {}
    head = ["set", "known / withheld", *(f"{score}: AUROC / FPR95" for score in scores)]
    lines = [
        [
            name,
            f"{one['known']} / {one['withheld']}",
            *(
                f"{100 * told['auroc']:.1f} / {100 * told['fpr95']:.1f}"
                for told in one["scores"].values()
            ),
        ]
        for name, one in sets.items()
    ]
    return table(head, lines)


def _promises(sets: Mapping[str, Any]) -> str:
    head = [
        "set", "rate", "known unanswered", "withheld unanswered", "wrong of the answered",
        "answered",
    ]  # fmt: skip
    lines = []
    for name, one in sets.items():
        for line in one["promises"]:
            wrong = line["error_of_answered"]
            lines.append(
                [
                    name,
                    f"{line['rate']:.0%}",
                    f"{100 * line['known_unanswered']:.1f} %",
                    f"{100 * line['withheld_unanswered']:.1f} %",
                    "" if wrong is None else f"{100 * wrong:.1f} %",
                    f"{100 * line['answered']:.1f} %",
                ]
            )
    return table(head, lines)


def _class_means(sets: Mapping[str, Any], probes: Mapping[str, Any]) -> str:
    names = list(next(iter(sets.values()))["lines"]) if sets else []
    rows = {name: {key: one["lines"][name] for key, one in sets.items()} for name in names}
    if probes:
        rows["linear probe"] = dict(probes)
    lines = []
    for name, shares in rows.items():
        cells = [_figure(shares[key]) if key in shares else "" for key in sets]
        # A mean over some of the sets cannot be compared with one over all.
        whole = all(key in shares for key in sets)
        mean = 100 * _mean(share["accuracy"] for share in shares.values())
        lines.append([name, *cells, f"{mean:.2f}" if whole else ""])
    ready = [f"{one['seconds_to_choose']:.0f}" for one in sets.values()]
    lines.append(["seconds to choose vote and means", *ready, ""])
    trained = [f"{probes[key]['seconds_to_train']:.0f}" if key in probes else "" for key in sets]
    lines.append(["seconds to train the probe", *trained, ""])
    return table(["", *sets, "mean"], lines)


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / max(1, len(every))


def _figure(line: Mapping[str, Any]) -> str:
    return f"{100 * line['accuracy']:.1f} ± {100 * line['standard_error']:.1f}"
