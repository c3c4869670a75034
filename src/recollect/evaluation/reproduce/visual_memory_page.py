"""The page of the visual-memory reproduction: the paper's figures, ours, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recollect.evaluation.reproduce.markdown import joined, table
from recollect.evaluation.reproduce.visual_memory_capabilities import HEAD, lines_of

# Top-1 accuracy on ImageNet, DINOv2 ViT-L/14, in percent: table 4 (k = 10, 50, 100) and table 9
# (best k on the test set) of the paper.
PAPER = {
    "plurality": (83.2, 82.1, 81.4, 83.2),
    "distance": (83.3, 82.2, 81.5, 83.3),
    "softmax": (83.5, 83.2, 82.9, 83.6),
    "rank": (83.5, 83.5, 83.3, 83.6),
}
PAPER_NEAREST = 81.1
PAPER_PROBE = 86.3


def page(report: Mapping[str, Any], parts: Mapping[str, Any] | None = None) -> str:
    """Write the report of ``run`` as Markdown.

    Args:
        report: What ``run`` returned.
        parts: What other runs wrote into the same folder, for the table of capabilities.
    """
    facts = {
        **report["protocol"],
        **report["seconds"],
        "most": len(report["hit_rate"]),
        "hit_rate": report["hit_rate"][-1],
        "votes": _votes(report),
        "settings": _settings(report),
        "honesty": _honesty(report),
        "beside": _beside(report),
        "capabilities": table(HEAD, lines_of(parts or {}), texts=len(HEAD)),
    }
    paragraphs = [joined(part) for part in _PAGE.strip().split("\n\n")]
    return "\n\n".join(paragraphs).format_map(facts) + "\n"


_PAGE = """
# Reproduction: visual memory

Geirhos et al., *Towards flexible perception with visual memory*, ICML 2025 (arXiv 2408.08172). This
page is what the following command wrote.

    recollect reproduce visual-memory --rows {rows} --queries {queries} --size {size} --out FOLDER

It took {encoding:.0f} s to encode the images (less where they are cached) and {measuring:.0f} s to
measure, on {cores} cores.

## Protocol

- Memory: the first {rows:,} pictures of the training file of {data}, {classes} classes. Questions:
  the first {queries:,} pictures of the test file.
- Keys: {encoder}, {dim} numbers, of pictures enlarged to {size} x {size}. Fingerprint
  `{fingerprint}`.
- Similarity: {metric}. Search: exact. Parameters of the votes: the paper's defaults (alpha 2,
  temperature 0.07, sharpness 1), except where leave-one-out chose them.
- Nothing was chosen on the questions, except where it says *oracle*.
- Versions: recollect {recollect}, scikit-learn {scikit_learn}, Python {python}.

## The four votes

Accuracy in percent, ± one standard error. The last column is the best k from 1 to {most}, chosen on
the questions themselves as in the paper's tables 1 and 9: an oracle.

{votes}

scikit-learn's uniform weights are plurality, but of labels with equally many votes it takes the
first by name; this library takes the one that got there first, walking from the nearest row.

The true label is among the first {most} neighbors of {hit_rate:.1%} of the questions: no vote over
them can do better.

![Accuracy by number of neighbors](visual-memory-by-k.png)

## Settings

The oracle knows the answers but keeps each vote's default parameter; leave-one-out chooses that
too.

{settings}

{honesty}

## Beside the paper

{beside}

The paper's figures are for ImageNet, DINOv2 ViT-L/14, 1,281,167 rows of 1,000 classes (tables 4 and
9, section 2.2). They cannot be compared one by one, because three things differ:

- **Encoder.** A network of 3.5 million weights, trained with labels on ImageNet, that sees enlarged
  pictures of 32 x 32; the paper's has 300 million weights and was trained without labels.
- **Data.** {rows:,} rows of {classes} classes. These copies of the pictures were written as JPEG,
  which costs much at 32 x 32.
- **Choice of k.** The paper's best k is chosen on its test set. The honest setting above is chosen
  on the memory alone.

What can be compared is the shape: what each vote gains or loses as k grows from 10 to 100 and rows
from far away are let in. That the votes themselves are the paper's is tested against the outputs of
its reference implementation, in `tests/golden/`.

## Every capability

Each line leads to a page that shows how, with code that runs. Figures of ours come from the other
runs of `recollect reproduce visual-memory` and `visual-memory-choice` and from two benchmarks,
written into the same folder; each page tells its command. Accuracy in percent.

{capabilities}
"""


def _votes(report: Mapping[str, Any]) -> str:
    ks = report["votes"][0]["k"]
    head = ["vote", *[f"k = {k}" for k in ks], "oracle k"]
    lines = []
    for line in (*report["votes"], *report["scikit_learn"]):
        cells = [
            figure(share, error)
            for share, error in zip(line["accuracy"], line["standard_error"], strict=True)
        ]
        best = line.get("oracle")
        last = "" if best is None else f"{_figure_of(best)} (k = {best['k']})"
        lines.append([line["rule"], *cells, last])
    return table(head, lines)


def _settings(report: Mapping[str, Any]) -> str:
    head = ["answer", "setting", "accuracy", "macro recall", "calibration error", "made ready in"]
    lines = []
    for line in report["settings"]:
        recall = figure(line["macro_recall"], line["macro_recall_standard_error"])
        calibration, ready = line.get("calibration_error"), line.get("ready_seconds")
        lines.append([
            line["name"],
            line["setting"],
            _figure_of(line),
            recall,
            "" if calibration is None else f"{100 * calibration:.1f}",
            "" if ready is None else f"{ready:.1f} s",
        ])  # fmt: skip
    return table(head, lines, texts=2)


def _honesty(report: Mapping[str, Any]) -> str:
    chosen = report["leave_one_out"]
    gaps = "; ".join(
        f"{100 * line['accuracy']:+.2f} ± {100 * line['standard_error']:.2f} to {line['to']}"
        for line in report["differences"]
    )
    return (
        f"Leave-one-out tried {chosen['settings_tried']} settings on the rows of the memory and "
        f"expects {_figure_of(chosen)} % of the one it chose. Its accuracy on the questions minus "
        f"that of the others, paired by question, in points: {gaps}. Calibration error: 15 bins of "
        "equal width, confidence is the winner's share of the vote. Standard error of macro "
        "recall: bootstrap, 1,000 resamples."
    )


def _beside(report: Mapping[str, Any]) -> str:
    head = ["", "paper: k = 10", "50", "100", "best k", "change 10 to 100", "ours: k = 10", "50",
            "100", "best k", "change 10 to 100"]  # fmt: skip
    lines = []
    for line in report["votes"]:
        ours = dict(zip(line["k"], line["accuracy"], strict=True))
        ten, fifty, hundred, best = PAPER[line["rule"]]
        cells = [
            f"{ten:.1f}",
            f"{fifty:.1f}",
            f"{hundred:.1f}",
            f"{best:.1f}",
            f"{hundred - ten:+.1f}",
        ]
        cells += [f"{100 * ours[k]:.1f}" if k in ours else "" for k in (10, 50, 100)]
        cells.append(f"{100 * line['oracle']['accuracy']:.1f}")
        drop = 100 * (ours[100] - ours[10]) if 100 in ours else None
        lines.append([line["rule"], *cells, "" if drop is None else f"{drop:+.1f}"])
    nearest = {line["name"]: line["accuracy"] for line in report["settings"]}
    lines.append(["1-NN", "", "", "", f"{PAPER_NEAREST:.1f}", "", "", "", "",
                  f"{100 * nearest['1-NN']:.1f}", ""])  # fmt: skip
    lines.append(["linear probe", "", "", "", f"{PAPER_PROBE:.1f}", "", "", "", "",
                  f"{100 * nearest['linear probe']:.1f}", ""])  # fmt: skip
    return table(head, lines)


def _figure_of(line: Mapping[str, Any]) -> str:
    return figure(line["accuracy"], line["standard_error"])


def figure(share: float, error: float) -> str:
    """A share and its standard error in percent."""
    return f"{100 * share:.1f} ± {100 * error:.1f}"
