"""The page and the pictures of the residual-memory study, written from its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recollect.evaluation.reproduce.markdown import table
from recollect.evaluation.reproduce.residual_measures import NAMES
from recollect.evaluation.reproduce.residual_memory_cells import (
    gain_with_error,
    percent,
    told_setting,
)
from recollect.evaluation.reproduce.residual_memory_summary import edges, summary
from recollect.evaluation.reproduce.residual_shift_page import shift_section
from recollect.evaluation.reproduce.residual_tables import (
    ALONE,
    DEPTH,
    HIDDEN,
    LINEAR_STEPS,
    STEPS,
    TREES,
)

TITLE = """# Reproduction: residual memory

Yang et al., *ResMem: Learn what you can and memorize the rest*, NeurIPS 2023 (arXiv
2302.01576). No code of the authors is public. The figures come from one run of the following
command, with all parts and a new folder of notes, on networks that had been trained before.
Seconds are those of measuring, on the machine of the run; what is absent was not run.

    recollect reproduce residual-memory --out FOLDER

Training is part of the program: the command trains what is not there yet. That takes hours, and
can be done in pieces beforehand; each call goes on where the one before stopped, until no line is
called not ready:

    recollect reproduce residual-memory --part images --part language --minutes 60 --out FOLDER

A gain is ResMem's accuracy minus the base's on the same questions, ± the standard error of that
paired difference; one above two standard errors is marked `*`. Settings (k, sigma, temperature,
strength) were chosen on rows that are in no memory and no training set, or by leaving each row
of the memory out where it says so; never on the questions. *off* means that nothing beat the
base on those rows by more than its error, so that the memory turned itself off.
"""

# Points of accuracy that rows of few logits may change.
AIMED = 0.05


def page(report: Mapping[str, Any]) -> str:
    """Write the report of ``run`` as Markdown; parts that were not measured are left out."""
    sections: dict[str, Callable[[Any], str]] = {
        "images": _images,
        "layers": lambda lines: _layers(lines, _network_of(report)),
        "tables": _tables,
        "language": _language,
        "shift": shift_section,
        "theory": _theory,
    }
    parts = [TITLE]
    for name, write in sections.items():
        if report.get(name, {}).get("figures"):
            parts.append(write(report[name]["figures"]))
            if report[name]["seconds"] is not None:
                parts.append(f"*{report[name]['seconds']:,.0f} s in all.*\n")
    if all(report.get(name, {}).get("figures") for name in ("images", "tables")):
        parts[1:1] = [summary(report), *edges(report)]
    versions = ", ".join(f"{name} {value}" for name, value in report.get("versions", {}).items())
    parts.append(f"Versions: {versions}.\n")
    return "\n".join(parts)


def draw(report: Mapping[str, Any], out: Path, stem: str) -> None:
    """Write the pictures of the parts that were measured."""
    from recollect.evaluation.reproduce.residual_images import JOBS
    from recollect.evaluation.reproduce.residual_memory_plots import (
        plot_pictures,
        plot_shift,
        plot_theory,
    )

    def figures(name: str) -> Any:
        """None where a part was not measured."""
        return report.get(name, {}).get("figures")

    if figures("images") and _has_curves(figures("images")):
        whole = max(job[2] for job in JOBS)
        plot_pictures(figures("images"), whole).savefig(out / f"{stem}-pictures.png")
    if figures("shift"):
        plot_shift(figures("shift")).savefig(out / f"{stem}-shift.png")
    if figures("theory"):
        plot_theory(figures("theory")).savefig(out / f"{stem}-theory.png")


def _has_curves(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is anything to compare by depth or by rows."""
    return len({(line["depth"], line["rows"]) for line in lines}) > 1


def _images(lines: Sequence[Mapping[str, Any]]) -> str:
    lines = sorted(lines, key=lambda each: [each[name] for name in NAMES["images"]])
    rows = [
        [
            f"{line['data']}, ResNet-{line['depth']}",
            f"{line['rows']:,}",
            line["seed"],
            percent(line["base"]),
            percent(line["resmem"]),
            gain_with_error(line),
            percent(line["defaults"]),
            percent(line["paper"]),
            percent(line["base_on_training_rows"]),
            told_setting(line["setting"]),
        ]
        for line in lines
    ]
    head = ["base", "rows", "seed", "base", "ResMem", "gain", "defaults", "paper's constants",
            "base on its rows", "chosen"]  # fmt: skip
    picture = (
        "\n\n![Accuracy by depth and by training rows](residual-memory-pictures.png)"
        if _has_curves(lines)
        else " Other depths and numbers of rows were not trained."
    )
    epochs = ", ".join(sorted({str(line["epochs"]) for line in lines}))
    return f"""## Pictures

Networks of He et al. (2016) for small pictures, trained here for {epochs} epochs from a seed:
one-cycle schedule, random crops of 24 x 24 and mirroring, bfloat16 where the processor has it
(`recollect.evaluation.small_networks`). So few epochs leave all of them far from what they
could reach; the paper trained to the end. Of 50,000 training rows 5,000 are set aside to choose
settings on; the memory holds the rows the network was trained on. Embedding: pooled output of
the last stage, 64 numbers. CIFAR-10 and Tiny-ImageNet (100 classes at 32 x 32) are copies
written as JPEG.

{table(head, rows, texts=1)}

*Defaults*: k 50, sigma the median distance, temperature 1, without tuning. *Paper's constants*:
k 53, sigma 0.7, temperature 1.4, recalled of its CIFAR-100 experiments; there ResNet-8 rose
from 56.5 to 59.7 (recalled too).{picture}

Beside a larger base, means over the seeds. The error of a mean gain counts its seeds as
independent; they were asked the same questions, whose own answers were not kept, so it is too
small if networks of different seeds gain on the same questions:

{_larger(lines)}
{_gates([line for line in lines if "gated" in line])}{
        _few([line for line in lines if "few_logits" in line])
    }"""


def _larger(lines: Sequence[Mapping[str, Any]]) -> str:
    """By data, rows and depth: base, memory, and the next larger base alone."""
    found: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault((line["data"], line["rows"], line["depth"]), []).append(line)

    def mean(key: tuple[str, int, int], name: str) -> float:
        """Over the seeds."""
        return sum(float(line[name]) for line in found[key]) / len(found[key])

    rows = []
    for key in sorted(found):
        error = sum(line["standard_error"] ** 2 for line in found[key]) ** 0.5 / len(found[key])
        larger = min((each for each in found if each[:2] == key[:2] and each > key), default=None)
        rows.append(
            [
                f"{key[0]}, {key[1]:,} rows",
                f"ResNet-{key[2]}",
                len(found[key]),
                percent(mean(key, "base"), 2),
                percent(mean(key, "resmem"), 2),
                gain_with_error({"gain": mean(key, "gain"), "standard_error": error}),
                f"ResNet-{larger[2]}: {percent(mean(larger, 'base'), 2)}" if larger else "",
            ]
        )
    head = ["data", "base", "seeds", "base alone", "ResMem", "gain", "larger base alone"]
    return table(head, rows, texts=2)


def _few(lines: Sequence[Mapping[str, Any]]) -> str:
    """What rows of few logits change, by data set."""
    if not lines:
        return ""
    rows = []
    for data in dict.fromkeys(line["data"] for line in lines):
        apart = [
            100 * (line["few_logits"] - line["all_logits"])
            for line in lines
            if line["data"] == data
        ]
        told = (
            f"{round(each, 2) + 0.0:+.2f}"
            for each in (sum(apart) / len(apart), min(apart), max(apart))
        )
        rows.append([data, len(apart), *told])
    head = ["data", "networks", "mean", "least", "largest"]
    return f"""
What it changes, in points of accuracy, if rows keep their 16 largest logits in place of all of
them, at the settings chosen above; where there are no more classes than that, all are kept. (Up
to 256 classes all are, unless `entries=` says otherwise.)

{table(head, rows, texts=1)}

{_within(lines)}
"""


def _within(lines: Sequence[Mapping[str, Any]]) -> str:
    """Whether few logits stay within what was aimed at, and by how much they miss it."""
    changed = {line["data"] for line in lines if line["few_logits"] != line["all_logits"]}
    apart = [
        round(100 * (line["few_logits"] - line["all_logits"]), 2)
        for line in lines
        if line["data"] in changed
    ]
    outside = [each for each in apart if abs(each) > AIMED]
    if not outside:
        return f"Every network stays within {AIMED} points, as was aimed at."
    return (
        f"The aim was {AIMED} points: {len(outside)} of {len(apart)} networks on "
        f"{' and '.join(sorted(changed))} miss it,\n"
        f"from {min(outside) + 0.0:+.2f} to {max(outside) + 0.0:+.2f}."
    )


def _gates(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{line['data']}, ResNet-{line['depth']}, {line['rows']:,} rows, seed {line['seed']}",
            "none" if line["setting"]["gate"] is None else f"{line['setting']['gate']:.3f}",
            percent(line["searches_saved"]),
            percent(line["resmem"], 2),
            percent(line["gated"], 2),
        ]
        for line in lines
    ]
    if not rows:
        return ""
    head = ["base", "gate", "searches saved (%)", "without gate", "with gate"]
    return f"""
The gate: how sure the base must be for the memory not to be searched, the smallest at which no
right answer was lost on balance on the rows set aside.

{table(head, rows, texts=1)}
"""


def _layers(lines: Sequence[Mapping[str, Any]], network: str) -> str:
    rows = [
        [line["embedding"], line["width"], percent(line["resmem"]), gain_with_error(line),
         told_setting(line["setting"])]
        for line in lines
    ]  # fmt: skip
    return f"""## Where rows are compared

{network}
(base {percent(lines[0]["base"])} %), with rows compared in other places.

{table(["embedding", "width", "ResMem", "gain", "chosen"], rows, texts=1)}
"""


def _tables(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            line["data"],
            line["base_model"],
            line["residuals"],
            line["seed"],
            percent(line["base"]),
            percent(line["resmem"]),
            gain_with_error(line),
            _alone(line),
            told_setting(line["setting"]),
        ]
        for line in lines
    ]
    head = ["data", "base", "residuals", "seed", "base", "ResMem", "gain", "k-NN alone", "chosen"]
    return f"""## Texts and tables

BANKING77 (77 intents, MiniLM sentence vectors; the public test file), and tables that come with
scikit-learn: digits and breast cancer (accuracy), diabetes (coefficient of determination, times
100). Of the tables 60 % of all rows are for training, 20 % to choose on and 20 % to ask; of the
texts 20 % of the training file are set aside to choose on. Bases are pipelines of a scaler and
the model named; rows are compared in what the model sees, of a perceptron in its last hidden
layer.

The bases are small on purpose. Boosting: {TREES["classify"]} rounds of trees of depth {DEPTH}
({TREES["regress"]} for numbers). Perceptron: one hidden layer of {HIDDEN["classify"]} units and at
most {STEPS["classify"]} epochs ({HIDDEN["regress"]} and {STEPS["regress"]} for numbers,
{HIDDEN["texts"]} and {STEPS["texts"]} for texts). Linear: logistic regression, C = 1, at most
{LINEAR_STEPS} iterations. *k-NN alone*: scikit-learn's nearest neighbors on the scaled inputs,
without any base; k is one of {", ".join(map(str, ALONE))}, chosen on the same rows set aside.
{_against_neighbors(lines)}
{table(head, rows, texts=3)}
"""


def _alone(line: Mapping[str, Any]) -> str:
    """What neighbors alone answer right, and how many they are."""
    return f"{percent(line['nearest'])} (k {line['nearest_k']})" if "nearest" in line else ""


def _against_neighbors(lines: Sequence[Mapping[str, Any]]) -> str:
    """How often neighbors alone do better than ResMem."""
    known = [line for line in lines if "nearest" in line]
    if not known:
        return ""
    better, above = (
        sum(line["nearest"] > line[other] for line in known) for other in ("resmem", "base")
    )
    return f"""They do better than ResMem in {better} of these {len(known)} lines,
and better than the base in {above}.
"""


def _language(facts: Mapping[str, Any]) -> str:
    rows = [
        [
            line["method"],
            line["chosen_by"].replace("_", " "),
            f"{line['perplexity']:.2f}",
            f"{line['nats_gained']:+.4f} ± {line['nats_error']:.4f}",
            percent(line["accuracy"], 2),
            gain_with_error(line),
            told_setting(line["setting"]),
        ]
        for line in facts["methods"]
    ]
    rows.insert(0, ["base", "", f"{facts['perplexity']:.2f}", "",
                    percent(facts["accuracy"], 2), "", ""])  # fmt: skip
    unknown = round(100 * facts["unknown"])
    epochs = facts["epochs"]
    if epochs < facts["planned_epochs"]:
        epochs = f"{epochs} of the {facts['planned_epochs']} epochs of its schedule,"
    else:
        epochs = f"{epochs} epochs"
    head = ["method", "chosen by", "perplexity", "nats gained a token", "next token right", "gain",
            "chosen"]  # fmt: skip
    return f"""## Next tokens

A word-level LSTM (one layer of {facts["width"]}, {facts["vocabulary"]:,} words, tied weights)
trained here for {epochs} on the {facts["training_tokens"]:,} tokens of the
Brown corpus's training part, then a memory of its first {facts["rows"]:,} contexts. Settings
were chosen on {facts["chosen_on"]:,} tokens of the validation part; the table is for
{facts["foretold"]:,} tokens of the test part, {unknown} % of them unknown words, which count as
one word. ResMem keeps the 16 largest logits of a row, kNN-LM the next token alone;
probabilities are the clipped scores.
{_how_alike(facts)}
{table(head, rows, texts=2)}
"""


def _how_alike(facts: Mapping[str, Any]) -> str:
    """How hard the text settings were chosen on is, beside that of the table."""
    known = facts.get("perplexity_chosen_on")
    if known is None:
        return ""
    ratio = known / facts["perplexity"]
    much = "much " if not 0.8 < ratio < 1.25 else ""
    kind = f"{much}{'easier' if ratio < 1 else 'harder'}"
    return f"""The base's perplexity is {known:.2f} on the tokens that settings were chosen on and
{facts["perplexity"]:.2f} on those of the table: the validation piece is
{kind} text.
"""


def _network_of(report: Mapping[str, Any]) -> str:
    """Name the network of the part on layers: the one among the pictures with its base accuracy."""
    base = report["layers"]["figures"][0]["base"]
    pictures = report.get("images", {}).get("figures") or []
    names = [
        f"{line['data']}, ResNet-{line['depth']}, {line['rows']:,} rows, seed {line['seed']}"
        for line in pictures
        if line["base"] == base
    ]
    return names[0] if len(names) == 1 else "One of these networks"


def _theory(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [f"{line['d']}, {line['L']}", f"{line['rows']:,}", *(f"{line[key]:.4f}" for key in
         ("base", "resmem", "nearest")), f"{line['resmem'] / line['nearest']:.3f}",
         f"{(1 - line['L']) ** 2:.2f}"]
        for line in lines
    ]  # fmt: skip
    head = ["d, L", "rows", "base", "ResMem", "1-NN", "ResMem / 1-NN", "(1 - L)²"]
    return f"""## The linear problem

x uniform in a ball, y = theta x with a theta of length 1; the base may only use a length of L.
Its risk tends to (1 - L)², ResMem's is (1 - L)² times that of 1-NN and tends to 0. Mean over 5
draws, 1,000 questions each.

{table(head, rows, texts=1)}

![Risks by training rows](residual-memory-theory.png)
"""
