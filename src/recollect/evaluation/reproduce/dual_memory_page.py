"""The page of the dual-memory reproduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from recollect.evaluation.reproduce import dual_memory_sections as sections
from recollect.evaluation.reproduce.dual_memory_figures import (
    LEARNED,
    PROPOSED,
    TRUSTING,
    gap_between,
    mean_over_sets,
    spread,
    stream_gains,
    title,
    values,
)
from recollect.evaluation.reproduce.dual_memory_sections import best_member, missing_draws
from recollect.evaluation.reproduce.markdown import joined, table

Rows: TypeAlias = Sequence[tuple[str, tuple[str, str]]]
# What stands in the tables -> where it stands in the results.
ROWS = (
    ("text alone", ("robust", "text")),
    ("static memory alone", ("robust", "static")),
    ("dynamic memory alone, published", ("published", "dynamic")),
    ("dynamic memory alone, robust", ("robust", "dynamic")),
    ("published, weights (1, 1, 1)", ("published", "fixed")),
    ("published, honest weights", ("published", "fixed, honest")),
    ("published, oracle weights", ("published", "oracle")),
    ("**robust**, weights (1, 1, 1)", ("robust", "fixed")),
    ("robust, by count", ("robust", "count")),
    ("robust, by entropy", ("robust", "entropy")),
    ("robust, logits, weights (1, 1, 1)", ("robust", "logits")),
    ("robust, honest weights", ("robust", "fixed, honest")),
    ("**robust, logits, honest weights**", ("robust", "logits, honest")),
    ("robust, trust 1, logits, honest weights", TRUSTING),
    ("robust, oracle weights", ("robust", "oracle")),
    ("robust, logits, oracle weights", ("robust", "logits, oracle")),
    ("class means", ("other", "class means")),
    ("linear probe", ("other", "linear probe")),
    ("Tip-Adapter", ("other", "Tip-Adapter")),
    ("TDA", ("other", "TDA")),
)
LEARNED_ROWS = (
    ("text alone", (LEARNED + "robust", "text")),
    ("static memory alone", (LEARNED + "robust", "static")),
    ("dynamic memory alone, published", (LEARNED + "published", "dynamic")),
    ("dynamic memory alone, robust", (LEARNED + "robust", "dynamic")),
    ("published, weights (1, 1, 1)", (LEARNED + "published", "fixed")),
    ("published, honest weights", (LEARNED + "published", "fixed, honest")),
    ("published, oracle weights", (LEARNED + "published", "oracle")),
    ("**robust**, weights (1, 1, 1)", (LEARNED + "robust", "fixed")),
    ("robust, logits, weights (1, 1, 1)", (LEARNED + "robust", "logits")),
    ("robust, honest weights", (LEARNED + "robust", "fixed, honest")),
    ("**robust, logits, honest weights**", (LEARNED + "robust", "logits, honest")),
    ("robust, oracle weights", (LEARNED + "robust", "oracle")),
    ("robust, logits, oracle weights", (LEARNED + "robust", "logits, oracle")),
    ("training-free: robust, logits, honest weights", PROPOSED),
)
# Means over eleven sets, ViT-B/16, at 1, 2, 4, 8, 16 shots, as far as they are public.
PAPER = {
    "DMN, learned, weights searched on the test labels": (75.45, 77.13, 79.32, 81.46, 83.49),
    "DMN, learned, fixed weights": (74.32, 76.28, 78.97, 81.12, 83.21),
    "DMN, training-free, weights searched": (72.67, 74.51, 76.97, 78.87, 80.22),
}

_PAGE = """
# Reproduction: dual memory

Zhang et al., *Dual Memory Networks: A Versatile Adaptation Approach for Vision-Language Models*,
CVPR 2024 (arXiv 2403.17589). This page is what the following command wrote.

    recollect reproduce dual-memory --queries {queries} --seeds {seeds} --size {size} --out FOLDER

It took {seconds:,} s on {cores} cores that were shared with other work.

## Protocol

- Pictures: MobileNetV2 (ImageNet), pooled, of pictures brought to {size} px, less the mean feature.
  Text: sentences in MiniLM, mapped into that space by a linear map fitted on the classes of
  ImageNet; or the real text vectors of CLIP ViT-B/32, mapped likewise, for the classes whose names
  LVIS knows. No image encoder of CLIP comes with this project: the text is much weaker than CLIP's.
- Shots are drawn from the training file; the stream is at most the first {queries:,} pictures of
  the test file, of CIFAR-10 twice as many, in a random order. {seeds} draws. Memory length 50, beta
  5.5, scale 100, one view, as released where nothing else is said.
- **The stream of CIFAR-10 was lengthened after a figure of the shorter one had been seen**, because
  slots fill one class at a time and it has few classes. {shorter}
- *Published* is the order of the paper: labelled by the text, written, read. *Robust* is
  `mode="robust"`: with shots, labelled by text and static memory, read, then written. *Trust 1*:
  besides, slots weigh by how sure their labels are.
- *Honest weights* are chosen on shots that are left out, before the stream begins; with 0 or 1 shot
  there is nothing to leave out, and they are (1, 1, 1). *Oracle* weights are searched on the test
  labels, as the paper's headline numbers are.
- The rule for honest weights was decided on training pictures that are no shots, and so was trust
  ([below](#what-was-decided-on-training-pictures)). Before that, the tables of options had been
  seen on the test pictures, in one draw, and the tables of all sets with weights that were simply
  the most accurate on what was left out: at 2 and 4 shots of CIFAR-10 these lost to (1, 1, 1).
- Learned offsets: AdamW, 20 epochs at a rate of 0.001, chosen on training pictures
  ([below](#ways-to-learn-offsets)). The shots ask themselves. For honest weights offsets are
  learned anew without the shots that are left out.
- Tip-Adapter: its alpha (0.1 to 10,000) and beta (0.5 to 20) are the most accurate on shots that
  are left out, the first of equal ones; with a single shot they are 1 and 5.5.
- Linear probe: logistic regression in float64, its C the best of 1, 10, 100 and 1,000 on shots that
  are left out, 10 with a single shot ({probes}).
- Versions: recollect {recollect}, Python {python}.{note}

{about}

## What is promised, and what is kept

{promises}

{combinations}

## Names, shots and stream together

Mean accuracy in percent over the sets and draws, by shots of each class.

{overall}

{gains}

With learned offsets:

{learners}

![Accuracy by number of shots](dual-memory-by-shots.png)

{each}

## Beside the paper

{paper}

The paper's figures are means over eleven sets with CLIP ViT-B/16 and 32 to 128 views. They cannot
be compared one by one. What can be compared is the shape: what the stream adds to names and shots,
and what honest weights cost against weights searched on the test labels.

## Zero-shot, with the text of CLIP

{clip}

## Streams in three orders

Zero-shot. *Blocked*: one class after another. *Drifting*: classes come and go slowly. In the first
draw the classes come in the order of their names, in each other in one of its own. In points
against the text alone, with the standard deviation over draws; TDA is our implementation of the
published method at its ImageNet settings.

{streams}

![Gain over the text by order of the stream](dual-memory-streams.png)

## What was decided on training pictures

Shots and stream from the training file, in draws of their own; accuracy over the sets, in percent,
logits added.

{decided}

The most accurate weights are a bet on few pictures: with two shots of ten classes, twenty are left
out, and they hold one shot of each class while they are asked. So of all weights that are behind
the best by no more than one standard error of the difference the most even ones are taken.

## What each part does

One draw, weights (1, 1, 1): accuracy of all members together, and of the dynamic memory alone.

{options}

Which order holds when: with shots and a weak text, the published order repeats the text, because a
picture's own slot, at cosine 1, carries the label that the text gave it (`published` at 16 shots).
Reading before writing cures most of that, and so do labels from text and static memory together;
`robust` does both. With names alone there is no second opinion. There, reading first gains on some
sets and loses on others ([streams](#streams-in-three-orders)); without labels there is no telling
which, so it has to be asked for, as `order="read-write"`, and the robust mode writes first like the
published one. Pseudo labels are given anew whenever names or shots change; nothing else rescores
them.

What options do, with names alone, where the stream is unkind (points over the text, one draw: all
members / dynamic memory alone):

{unkind}

Memory length (robust, dynamic memory alone):

{length}

Sharpness beta (robust, dynamic memory alone):

{beta}

Channels: the static memory meets the picture only in those in which the class names differ most
(`channels=`, balance 0.7, robust; static memory alone / all members, one draw):

{channels}

![What single parts do](dual-memory-parts.png)

## Views

The first {pictures} pictures of one stream, robust, weights (1, 1, 1); a picture is labelled by the
surest tenth of its views, at least one, made by crop, flip and AugMix as in the paper. Accuracy of
the pseudo labels / the dynamic memory / all members; the standard error of each is at most {coarse}
points.

{views}

## Ways to learn offsets

{learned}

{few} shots, one draw. With `offsets=Training()` each shot asks the memory in which it lies itself,
at cosine 1; at a scale of 100 the static logits are then right beyond doubt from the first step on,
and next to nothing but the offset of the text is learned. (With more shots a little is: static
memory alone changes by a tenth of a point at most.) So the tables of learned offsets above show
what moving the text does. The released code asks random crops of the shots; *crops* are
`learn_offsets` with {crops} crops of each shot, made once, at the rate that is best for them below.

The rates were chosen on training pictures that are no shots, {few} shots, one draw, accuracy of all
members: of shots that ask themselves 0.001, for the mean over the sets, of crops the best of each
set:

{rates}

What hiding each shot's own slot (`leave_one_out=True`) does:

{masked}

## Calibration

Expected calibration error in percent, 15 bins, mean over sets and draws. The scale of 100 makes
every member too sure, the more so the weaker it is.

{calibration}

*Calibrated*: with the temperature of `calibrate()`, chosen on shots that are left out, which have
fewer shots beside them and no stream behind them.

## Pictures of classes that have no name

Every second class loses its name and its shots, {few} shots, robust, logits. Half of the test
pictures, known and unknown, is asked about, before and after the other half was observed. Area
under the ROC curve, and shares that stay unanswered at a threshold taken from shots that are left
out (`predict(X, abstain=...)`), all in percent.

{rejecting}

What was asked for is what should stay unanswered of known pictures, as far as these are like the
shots. `novelty` reads names and shots alone: in the stream every second picture is a stranger,
which is kept under the name it resembles most, and would make its like familiar.

`promise="error"`: of the answers to known pictures at most this share is wrong, before the stream.

{proving}
"""


def page(report: Mapping[str, Any]) -> str:
    """Write the report of ``run`` as Markdown."""
    facts = {
        **report["protocol"],
        "note": _note(report),
        "seconds": report["seconds"],
        "about": _about(report),
        "overall": _overall(report, ROWS),
        "learners": _overall(report, LEARNED_ROWS),
        "gains": _gains(report),
        "each": _each(report),
        "shorter": sections.shorter(report),
        "probes": sections.probes(report),
        "promises": sections.promises(report),
        "combinations": sections.combinations(report),
        "decided": sections.decided(report),
        "unkind": sections.unkind(report),
        "pictures": report["viewed pictures"],
        "views": sections.viewed(report),
        "masked": sections.masked(report),
        "paper": _paper(report),
        "clip": _clip(report),
        "streams": _streams(report),
        "options": _options(report),
        "length": _swept(report, "length"),
        "beta": _swept(report, "beta"),
        "learned": sections.learners(report),
        "rates": sections.rates(report),
        "coarse": f"{100 * 0.5 / report['viewed pictures'] ** 0.5:.1f}",
        "calibration": _calibration(report),
        "few": report["few"],
        "crops": report["crops"],
        "channels": sections.channels(report),
        "rejecting": sections.rejecting(report),
        "proving": sections.proving(report),
    }
    parts = [joined(part) for part in _PAGE.strip().split("\n\n")]
    return "\n\n".join(parts).format_map(facts) + "\n"


def _note(report: Mapping[str, Any]) -> str:
    """What a report that was put together of several runs says about that."""
    note = report["protocol"].get("note")
    return f"\n- {note}" if note else ""


def _about(report: Mapping[str, Any]) -> str:
    lines = []
    for words, key in (("MiniLM", "sets"), ("CLIP", "clip sets")):
        lines += [
            [title(name), words, f"{each['classes']}", f"{each['rows']:,}", f"{each['queries']:,}"]
            for name, each in report[key].items()
        ]
    return table(["set", "text", "classes", "training pictures", "stream"], lines, texts=2)


def _overall(report: Mapping[str, Any], rows: Rows) -> str:
    shots = [each for each in report["protocol"]["shots"] if each or rows is ROWS]
    lines = []
    for words, row in rows:
        cells = [mean_over_sets(report, count, row) for count in shots]
        if any(cells):
            lines.append([words, *[_figure(cell) for cell in cells]])
    return table(["", *[f"{count} shots" for count in shots]], lines)


def _gains(report: Mapping[str, Any]) -> str:
    """Against the best single member, chosen with hindsight for each number of shots."""
    parts = []
    for count in (each for each in report["protocol"]["shots"] if each):
        best = best_member(report, count)
        gap = gap_between(report, count, PROPOSED, best) if best else None
        if gap:
            parts.append(f"{100 * gap[0]:+.1f} ± {100 * gap[1]:.1f} at {count}")
    return (
        "Robust, logits, honest weights, against the best single member of each column (which one "
        f"is best is known only afterwards), in points: {'; '.join(parts)}. The error is that "
        "of the difference: both answer the same pictures after "
        f"the same shots.{missing_draws(report)}"
    )


def _each(report: Mapping[str, Any]) -> str:
    parts = []
    for name in report["main"]:
        free, learned = (_of_one(report, name, rows) for rows in (ROWS, LEARNED_ROWS))
        parts.append(f"### {title(name)}\n\n{free}\n\nWith learned offsets:\n\n{learned}")
    return "\n\n".join(parts)


def _of_one(report: Mapping[str, Any], name: str, rows: Rows) -> str:
    shots = [each for each in report["protocol"]["shots"] if each or rows is ROWS]
    lines = []
    for words, row in rows:
        drawn = [values(report, name, count, row) for count in shots]
        if any(drawn):
            lines.append([words, *[_drawn(each) for each in drawn]])
    return table(["", *[f"{count} shots" for count in shots]], lines)


def _paper(report: Mapping[str, Any]) -> str:
    shots = (1, 2, 4, 8, 16)
    lines = [[words, *[f"{each:.1f}" for each in figures]] for words, figures in PAPER.items()]
    for words, row in (
        ("ours, learned, oracle weights", (LEARNED + "published", "oracle")),
        ("ours, learned, weights (1, 1, 1)", (LEARNED + "robust", "logits")),
        ("ours, learned, honest weights", (LEARNED + "robust", "logits, honest")),
        ("ours, training-free, oracle weights", ("published", "oracle")),
        ("ours, training-free, honest weights", PROPOSED),
    ):
        cells = [
            mean_over_sets(report, count, row) if count in report["protocol"]["shots"] else None
            for count in shots
        ]
        lines.append([words, *["" if each is None else f"{100 * each[0]:.1f}" for each in cells]])
    return table(["", *[f"{count} shots" for count in shots]], lines)


def _clip(report: Mapping[str, Any]) -> str:
    head = ["set", "text", "published", "published, logits", "read, then write", "TDA"]
    lines = []
    for name, by_shots in report["clip"].items():
        if drawn := by_shots.get("0"):
            stream = report["CLIP streams"][name]["shuffled"]
            lines.append([
                title(name),
                _drawn(drawn["published"]["text"]),
                _drawn(drawn["published"]["fixed"]),
                _drawn(drawn["published"]["logits"]),
                _drawn([each["read, then write"]["fused"] for each in stream]),
                _drawn(drawn["other"]["TDA"]),
            ])  # fmt: skip
    return table(head, lines)


def _streams(report: Mapping[str, Any]) -> str:
    head = ["set", "text", "order", "text alone", "robust", "robust, dynamic alone",
            "read, then write", "TDA"]  # fmt: skip
    ways = (("robust", "fused"), ("robust", "dynamic"), ("read, then write", "fused"), ("TDA", ""))
    lines = []
    for words, key in (("MiniLM", "streams"), ("CLIP", "CLIP streams")):
        for name, orders in report[key].items():
            for order, drawn in orders.items():
                text = 100 * float(np.mean([each["robust"]["text"] for each in drawn]))
                gains = [stream_gains(drawn, way, part) for way, part in ways]
                cells = [f"{each.mean():+.1f} ± {spread(each):.1f}" for each in gains]
                lines.append([title(name), words, order, f"{text:.1f}", *cells])
    return table(head, lines, texts=3)


def _options(report: Mapping[str, Any]) -> str:
    columns = [(name, count) for name, by in report["ablation"].items() for count in by]
    ways = list(dict.fromkeys(way for name, count in columns
                              for way in report["ablation"][name][count]["options"]))  # fmt: skip
    lines = []
    for way in ways:
        cells = []
        for name, count in columns:
            found = report["ablation"][name][count]["options"].get(way)
            cells.append(
                ""
                if found is None
                else f"{100 * found['fused']:.1f} / {100 * found['dynamic']:.1f}"
            )
        lines.append([way, *cells])
    return table(["", *[f"{title(name)}, {count} shots" for name, count in columns]], lines)


def _swept(report: Mapping[str, Any], what: str) -> str:
    lines, head = [], [""]
    for name, by in report["ablation"].items():
        for count, entry in by.items():
            head = ["", *entry[what]]
            cells = [f"{100 * each['dynamic']:.1f}" for each in entry[what].values()]
            lines.append([f"{title(name)}, {count} shots", *cells])
    return table(head, lines)


def _calibration(report: Mapping[str, Any]) -> str:
    shots = report["protocol"]["shots"]
    learner = LEARNED + "robust"
    lines = []
    for words, row in (
        ("text alone", ("robust", "text, calibration")),
        ("static memory alone", ("robust", "static, calibration")),
        ("dynamic memory alone, robust", ("robust", "dynamic, calibration")),
        ("published, honest weights", ("published", "fixed, calibration")),
        ("robust, honest weights", ("robust", "fixed, calibration")),
        ("robust, honest weights, calibrated", ("robust", "fixed, calibrated")),
        ("robust, logits, honest weights", ("robust", "logits, calibration")),
        ("robust, logits, honest weights, calibrated", ("robust", "logits, calibrated")),
        ("learned, logits, honest weights", (learner, "logits, calibration")),
        ("learned, logits, honest weights, calibrated", (learner, "logits, calibrated")),
    ):
        cells = [mean_over_sets(report, count, row) for count in shots]
        lines.append([words, *["" if each is None else f"{100 * each[0]:.1f}" for each in cells]])
    return table(["", *[f"{count} shots" for count in shots]], lines)


def _figure(cell: tuple[float, float] | None) -> str:
    return "" if cell is None else f"{100 * cell[0]:.1f} ± {100 * cell[1]:.1f}"


def _drawn(shares: Sequence[float]) -> str:
    if not shares:
        return ""
    told = f" ± {100 * spread(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * np.mean(shares):.1f}{told}"
