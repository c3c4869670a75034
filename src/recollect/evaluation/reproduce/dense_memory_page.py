"""The page of the dense-memory reproduction: figures of every part, misses as plainly as gains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recollect.evaluation.reproduce.dense_speed_page import speed_section

HEAD = """# Reproduction: dense memory

Winter et al., *PARMESAN: Parameter-Free Memory Search and Transduction for Dense Prediction Tasks*
(arXiv 2403.11743). This page is what the following command wrote; it goes on from the parts
that the folder holds.

    recollect reproduce dense-memory --out FOLDER

The paper claims learning 3 to 4 orders of magnitude faster than training at a quality on par with
established baselines; its tables use extractors and splits of its own, so no figure of it is
quoted beside ours. Everything here is measured in one run on the same features: MobileNetV2
(ImageNet) maps at strides 32, 16 and 8 for images, plain multi-scale statistics for volumes and
signals.

- *As published*: cosine on each level alone, k = 32, 16, 8, temperature 0.02, message passing.
- *Chosen*: search, then reading, chosen one after the other on held-out samples (CamVid's
  validation split; of the ECG every training record in turn, with all others in the memory;
  elsewhere every eighth training sample, of NYUv2 whole stretches of 20 frames). Every setting
  tried stands in the JSON file.
- *Linear head*: softmax regression by L-BFGS on whitened features until ten steps move the loss by
  less than 1 in a million (least squares in closed form for depth), on up to 300,000 finest cells
  drawn evenly, each described by the features of all levels there, interpolated. How many steps it
  took and how far its gradient fell stands below its table. *Small convolutional head*: 1 x 1 then
  3 x 3 convolutions by Adam, 8 epochs, the best on held-out samples kept. *Flat search*: exact 30
  nearest cells (cosine, softmax at 0.02) among cells drawn evenly from the memory, as
  open-hummingbird does, or among all of them.
- *Sparse levels*: the paper's nsp, one child of each cell kept on the finest levels. *Children
  kept*: three quarters of them, which with int8 features is a quarter of the bytes.
- *Ready*: seconds from features to the first answer (all training samples). *Query*: seconds per
  test sample, features given, upsampling and scoring included. Feature extraction is measured by
  `benchmarks/dense_memory.py`.
- The machine was shared while this ran: compare times within a part only.
"""

PLOTS = """![few samples, bytes, and growth](dense-memory-plots.png)

Left: figures at few samples, as shares of ours with all of them (of errors the inverse). Middle:
what sparse levels lose, for the share of the bytes they take (squares: several children kept, in
int8). Right: seconds a query against the size of the memory.
"""


def page(report: Mapping[str, Any], speed: Mapping[str, Any] | None = None) -> str:
    """Write the report of ``run`` as Markdown, and what the benchmark measured where it did."""
    parts = [HEAD]
    if any("few" in part for part in report["parts"].values()):
        parts.append(PLOTS)
    if not report["parts"]:
        parts.append("No part has been run to its end yet.\n")
    for name, part in report["parts"].items():
        parts.append(KINDS.get(part["kind"], _part)(name, part))
    if speed:
        parts.append(speed_section(speed))
    return "\n".join(parts).rstrip() + "\n"


NOTES = {
    "ecg": "Records that are taught have no label where no wave is marked for two seconds: no "
    "heart rests as long, so nobody looked. Long records are annotated at their start only, and "
    'as delivered, "none" rises from 42 to 74 % along them; a cue of place then wins on '
    "held-out records by when annotators stopped (.333 over five folds, .306 without it) and "
    "reaches .305 on the test records, where .374 was possible: an oracle's figure, for it was "
    "found by looking at them. That look led to the two seconds. They, and the choice by leaving "
    "one record out, use training records alone; the test records stay as they were delivered."
}
"""What is to be known of a part."""


def _part(name: str, part: Mapping[str, Any]) -> str:
    labels = part["kind"] == "labels"
    samples = part["samples"]
    about = (
        f"{samples['train']} samples taught, {samples['test']} asked; levels of the first sample "
        f"{', '.join(map(str, part['levels']))}. Chosen: {_options(part['chosen'])}. "
        f"{part['seconds']:,.0f} s in the last run, on {part['cores']} cores, load {part['load']}."
    )
    text = [
        f"## {part['words']}",
        "",
        about,
        "",
        *([NOTES[name], ""] if name in NOTES else []),
        _lines(part["lines"], labels=labels),
        "",
        _verdict(part["lines"], labels=labels),
        "",
        *_convergence(part["lines"]),
        f"Variants of *chosen*, and flat search, on {part['asked_of_some']} of the test samples:",
        "",
        _lines(part["some"], labels=labels),
        "",
        _verdict(part["some"], labels=labels),
        "",
    ]
    if labels:
        text += [*_per_label(part), ""]
    text += [
        f"Few samples, asked about the same {part['asked_of_some']}:",
        "",
        _few(part, labels=labels),
        "",
        f"![examples](dense-memory-{name}.png)",
        "",
    ]
    return "\n".join(text)


def _convergence(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    line = next(line for line in lines if line["name"] == "linear head")
    if not line.get("gradient"):
        return []
    share = f"{line['gradient']:.0e} of its length at the start."
    return [f"The linear head took {line['rounds']} steps; its gradient fell to {share}", ""]


def _few(part: Mapping[str, Any], *, labels: bool) -> str:
    main = "miou" if labels else "rmse"
    rows = [[str(f["samples"]), f"{f['ours']:.3f}", f"{f['linear']:.3f}"] for f in part["few"]]
    taught = f"all {part['samples']['train']}"
    for words, lines in ((taught, part["some"]), (f"{taught}, all asked", part["lines"])):
        by_name = {line["name"]: line for line in lines}
        names = ("chosen", "linear head")
        rows.append([words, *(f"{by_name[n][main]:.3f}" if n in by_name else "" for n in names)])
    return _table(("samples", "ours", "linear head"), rows)


def _lines(lines: Sequence[Mapping[str, Any]], *, labels: bool) -> str:
    dense = next(each["bytes"] for each in lines if each["name"] == "chosen")
    return _table(_columns(labels), [_line(line, dense, labels=labels) for line in lines])


def _columns(labels: bool) -> tuple[str, ...]:  # noqa: FBT001 - one of two tables
    figures = ("mIoU", "without messages", "pixel acc.") if labels else (
        "RMSE", "without messages", "AbsRel", "delta < 1.25"
    )  # fmt: skip
    return ("method", *figures, "MB", "ready s", "query s")


def _line(line: Mapping[str, Any], dense: int, *, labels: bool) -> tuple[str, ...]:
    main, other = ("miou", "pixel_accuracy") if labels else ("rmse", "abs_rel")
    before = line.get("without_messages")
    size = line.get("bytes")
    figures = [f"{line[main]:.3f}", f"{before[main]:.3f}" if before else "", f"{line[other]:.3f}"]
    if not labels:
        figures.append(f"{line['delta_1.25']:.3f}")
    room = "" if size is None else f"{size / 1e6:,.0f} ({size / dense:.0%})"
    return (
        line["name"], *figures, room, f"{line['ready_seconds']:,.1f}",
        f"{line['query_seconds']:.3f}",
    )  # fmt: skip


def _verdict(lines: Sequence[Mapping[str, Any]], *, labels: bool) -> str:
    main = "miou" if labels else "rmse"
    by_name = {line["name"]: line for line in lines}
    ours = by_name["chosen"]
    words = []
    for name, line in by_name.items():
        if "bytes" in line:
            continue
        ratio = ours[main] / line[main]
        better = ratio >= 1 if labels else ratio <= 1
        slower = line["query_seconds"] / ours["query_seconds"]
        words.append(
            f"{ratio:.2f}x that of *{name}* ({'better' if better else 'worse'}; "
            f"its query takes {slower:.1f}x as long)"
        )
    return f"*Chosen* reaches a {'mIoU' if labels else 'RMSE'} of " + ", ".join(words) + "."


def _per_label(part: Mapping[str, Any]) -> list[str]:
    names = part["labels"]
    if len(names) > 12:
        return []
    rows = [
        (line["name"], *(("-" if v is None else f"{v:.2f}") for v in line["iou"]))
        for line in part["lines"]
    ]
    text = ["IoU of each label:", "", _table(("method", *names), rows)]
    dice = [line for line in part["lines"] if "dice" in line]
    if dice:
        lines = [(line["name"], *(f"{v:.3f}" for v in line["dice"])) for line in dice]
        text += ["", "Dice, mean over samples:", "", _table(("method", *names), lines)]
    return text


def _continual(_: str, part: Mapping[str, Any]) -> str:
    about = (
        f"CamVid; {_options(part['settings'])}. Mean IoU on all tasks at the end; *plasticity*: on "
        "each task just after it was learned; *retention*: what earlier tasks gained or lost "
        "since. The linear heads learn 60,000 cells of each task by 60 rounds of L-BFGS."
    )
    text = ["## Tasks one after another", "", about, ""]
    for name, protocol in part["protocols"].items():
        stages = "; ".join(f"{each['name']} ({each['taught']})" for each in protocol["stages"])
        rows = [
            (
                line["name"], f"{line['final']:.3f}", f"{line['plasticity']:.3f}",
                f"{line['retention']:+.3f}", ", ".join(f"{s:.2f}" for s in line["seconds"]),
            )
            for line in protocol["lines"]
        ]  # fmt: skip
        ours = protocol["lines"][0]
        same = "the same bits as" if ours["same_bits_as_never_taught"] else "OTHER BITS THAN"
        gone = (
            f"Unlearning the first task took {ours['unlearning_seconds']:.2f} s; answers then have "
            f"{same} those of a memory that never held it. No baseline can do that."
        )
        text += [
            f"### {name.capitalize()}",
            "",
            f"Tasks (samples taught): {stages}.",
            "",
            _table(("method", "final", "plasticity", "retention", "seconds a task"), rows),
            "",
            gone,
            "",
        ]
    if "modality" in part:
        text += _modality(part["modality"])
    return "\n".join(text)


def _modality(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            line["name"], f"{line['labels_before']:.3f}", f"{line['labels_after']:.3f}",
            f"{line['numbers']:.3f}", ", ".join(f"{each:,.1f}" for each in line["seconds"]),
        )
        for line in found["lines"]
    ]  # fmt: skip
    about = (
        f"The {found['taught']} rooms of NYUv2, first with 39 labels, then with depth; "
        f"{found['asked']} test rooms. Each modality has outputs of its own, so nothing here "
        "forgets labels; linear heads learn 60,000 cells."
    )
    columns = ("method", "mIoU before", "mIoU after", "RMSE of depth", "seconds a task")
    return [
        "### A new modality of label",
        "",
        about,
        "",
        _table(columns, rows),
        "",
    ]


def _decoder(_: str, part: Mapping[str, Any]) -> str:
    names = list(part["iou"])
    rows = [("its own decoder", *(f"{part['iou'][name]:.3f}" for name in names))]
    if part["ours"] is not None:
        rows.append(("memory of CamVid", *(f"{part['ours'][name]:.3f}" for name in names)))
    about = (
        f"The network knows the classes of Pascal VOC; on {part['asked']} test frames of CamVid "
        "its answers are scored on the three labels that both have (persons stand for pedestrians, "
        "bicycles for bicyclists, which CamVid draws with their rider). It was never shown CamVid; "
        f"the memory was. {part['seconds_of_asking']:.2f} s a frame, network included."
    )
    table = _table(("IoU of", *names), rows)
    return "\n".join([f"## {part['words']}", "", about, "", table, ""])


def _query(_: str, part: Mapping[str, Any]) -> str:
    about = (
        "Searches of other k, and among fewer samples, those most alike as a whole, were asked "
        "about held-out samples. *Quick* is the best of those that took at most a twentieth of the "
        "processor time of flat search among 100,000 cells; *wide* the widest. *Flat* compares "
        "with every labelled cell of every sample by the same score: what the others would find if "
        "they missed nothing. Seconds of the processor for one query, features given; the times "
        "that count are those of `benchmarks/dense_memory.py`."
    )
    text = [f"## {part['words']}", "", about, ""]
    for found in part["sets"].values():
        main = "miou" if found["kind"] == "labels" else "rmse"
        few = found["asked_of_few"]
        rows = [
            (
                line["name"], _options(line["options"]), f"{line[main]:.3f}",
                f"{line['few'][main]:.3f}", f"{line['few']['processor_seconds']:.3f}",
            )
            for line in found["lines"]
        ]  # fmt: skip
        flat = found["flat"]
        rows.append((
            f"flat, all {found['cells']:,} cells", "as chosen", "", f"{flat[main]:.3f}",
            f"{flat['processor_seconds']:.3f}",
        ))  # fmt: skip
        name = "mIoU" if main == "miou" else "RMSE"
        columns = ("search", "settings", name, f"on {few} samples", "s a query")
        text += [f"{found['words']}, {found['samples']} samples:", "", _table(columns, rows), ""]
        text += [*_tried(found["tried"], main, name)]
    return "\n".join(text)


def _tried(tried: Sequence[Mapping[str, Any]], main: str, name: str) -> list[str]:
    """The figure on held-out samples against the time, quickest first."""
    *ours, flat = sorted(tried, key=lambda each: "flat" in each)
    if "processor_seconds" not in flat:  # as figures were before they held it
        return []
    long = flat["processor_seconds"]
    rows = [
        (
            str(each["options"]["k"]), str(each["options"].get("prefilter", "all")),
            f"{each[main]:.3f}", f"{each['processor_seconds']:.3f}",
            f"{long / max(each['processor_seconds'], 1e-9):.1f}x",
        )
        for each in sorted(ours, key=lambda each: float(each["processor_seconds"]))
    ]  # fmt: skip
    rows.append((f"flat, {flat['flat']:,} cells", "", f"{flat[main]:.3f}", f"{long:.3f}", "1"))
    columns = ("k", "samples", f"{name}, held out", "s a query", "flat takes")
    return ["What was tried, on held-out samples:", "", _table(columns, rows), ""]


KINDS = {"query": _query, "continual": _continual, "decoder": _decoder}


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in options.items())


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(columns)
    lines = [names, ["---"] * len(names), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
