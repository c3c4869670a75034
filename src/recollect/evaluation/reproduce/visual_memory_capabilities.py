"""The table of every capability: the paper's figure, ours, how ours was taken, why they differ.

Ours come from the JSON files that the other reproductions and the benchmarks wrote into the same
folder; what has not been measured there is left blank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recollect.evaluation.earlier import read_earlier
from recollect.evaluation.reproduce.visual_memory_choice_page import NAMES

CHOICE, LIFE, SCALE = "visual-memory-choice", "visual-memory-lifelong", "visual-memory-scaling"
COST, REMOVAL = "visual-memory-cost", "visual-memory-removal"
PARTS = (CHOICE, LIFE, SCALE, COST, REMOVAL)

Parts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Capability:
    """A line of the table.

    Attributes:
        name: With the section of the paper.
        guide: The page that shows how, seen from ``docs/reproduction``.
        paper: What the paper reports.
        part: Which file holds our figures; empty where there are none.
        ours: Says them in words.
        protocol: How they were taken.
        where: Page and heading with all of them; none where the guide has them.
        differs: Why ours cannot be the paper's.
    """

    name: str
    guide: str
    paper: str
    part: str
    ours: Callable[[Any], str]
    protocol: str
    where: str
    differs: str


def read_parts(folder: Path) -> dict[str, Any]:
    """Read what the other runs wrote into a folder.

    Raises:
        InputError: A file is not JSON.
    """
    parts = {}
    for stem in PARTS:
        place = folder / f"{stem}.json"
        if place.is_file():
            parts[stem] = read_earlier(place)
    return parts


def lines_of(parts: Parts) -> list[list[str]]:
    """Cells of the table, one line for each capability."""
    return [
        [
            f"[{line.name}]({line.guide})", line.paper,
            line.ours(parts[line.part]) if line.part in parts else "", line.protocol,
            f"[all figures]({line.where})", line.differs,
        ]
        for line in CAPABILITIES
    ]  # fmt: skip


HEAD = ("capability", "paper", "ours", "protocol", "", "why they differ")


# -- what our figures say --------------------------------------------------------------------------


def _followed(cost: Any) -> str:
    told = cost.get("table")
    if told is None:
        return ""
    return (
        f"{told['changed']} rows more of {told['rows']:,}: {told['table_added_s']:.2f} s, "
        f"1/{told['table_added_ratio']:.0f} of afresh; {told['changed']} fewer: "
        f"1/{told['table_removed_ratio']:.0f}"
    )


def _judged(choice: Any) -> str:
    drawn = [
        line
        for one in choice["sets"].values()
        for line in one.get("reliability", {"lines": []})["lines"]
    ]
    if not drawn:
        return ""
    told = ", ".join(
        f"{_mean([line['gain'] for line in drawn if line['k'] == k]):+.2f} at k = {k}"
        for k in sorted({line["k"] for line in drawn})
    )
    return f"{told}; worst draw {min(line['gain'] for line in drawn):+.2f}"


def _suspected(choice: Any) -> str:
    told = []
    for name, one in choice["sets"].items():
        drawn = one.get("label_noise", {"lines": []})["lines"]
        shares = [
            f"{100 * _mean([line[by]['precision'] for line in drawn]):.0f} / "
            f"{100 * _mean([line[by]['recall'] for line in drawn]):.0f}"
            for by in ("ours", "cleanlab")
            if drawn and all(by in line for line in drawn)
        ]
        if shares:
            told.append(f"{NAMES[name]} {', cleanlab '.join(shares)}")
    return "; ".join(told)


def _tuned(choice: Any) -> str:
    return "; ".join(
        f"{NAMES[name]} {one['tuning']['gap']['points']:+.2f} "
        f"(allowed {100 * one['tuning']['oracle']['standard_error'] + 0.3:.2f})"
        for name, one in choice["sets"].items()
        if "tuning" in one
    )


def _novel(choice: Any) -> str:
    told = []
    for name, one in choice["sets"].items():
        if "novelty" in one:
            scores = [line["auroc"] for line in one["novelty"]["scores"].values()]
            told.append(f"{NAMES[name]} {100 * min(scores):.0f} to {100 * max(scores):.0f}")
    return "; ".join(told)


def _promised(choice: Any) -> str:
    return "; ".join(
        f"{NAMES[name]} {100 * line['known_unanswered']:.1f} %"
        for name, one in choice["sets"].items()
        for line in one.get("novelty", {"promises": []})["promises"]
        if line["rate"] == 0.05
    )


def _taught(life: Any) -> str:
    return "; ".join(
        f"{part['data']} "
        + ", ".join(
            f"{line['method']} {100 * line['accuracy'][-1]:.1f}" for line in part["methods"]
        )
        for part in life["incremental"]
    )


def _removed(removal: Any) -> str:
    return (
        f"by ids {removal['remove_1000_by_ids_ms_per_row']:.3f} ms, by filter "
        f"{removal['remove_by_filter_ms_per_row']:.3f} ms, a class "
        f"{removal['remove_class_ms_per_row']:.3f} ms, erased "
        f"{removal['erase_100_ms_per_row']:.0f} ms"
    )


def _exactly(life: Any) -> str:
    classes = life["unlearning"]["classes"]
    exact = sum(line["preview_is_exact"] and line["as_if_never_taught"] for line in classes)
    return f"{exact} of {len(classes)} removals as previewed and as if never taught"


def _levels(life: Any) -> str:
    part = life["hierarchy"]
    return (
        f"fine {100 * part['fine']:.1f}, coarse {100 * part['coarse_by_vote']:.1f} by its own "
        f"vote, {100 * part['coarse_of_fine']:.1f} by the fine answer's ancestor"
    )


def _reranked(life: Any) -> str:
    part = life["reranking"]
    return (
        f"{100 * part['accuracy']['vote alone']:.1f} to {100 * part['accuracy']['both']:.1f} "
        f"({100 * part['gain']:+.2f} ± {100 * part['gain_error']:.2f})"
    )


def _migrated(life: Any) -> str:
    part = next(line for line in reversed(life["migration"]) if line["cost"] is not None)
    return (
        f"{100 * part['same']:.1f} % same answers; aligned keys "
        f"{100 * part['cost']['aligned']:.1f} where real ones give {100 * part['cost']['real']:.1f}"
    )


def _grown(scale: Any) -> str:
    return "; ".join(
        f"{line['encoder']} a = {line['a']:.2f}, b = {line['b']:.2f}"
        for line in scale["scaling"]["curves"]
    )


def _noisy(scale: Any) -> str:
    noise = scale["noise"]
    at = noise["shares"].index(0.6)
    return "0 to 60 % random, k = 100: " + ", ".join(
        f"{line['rule']} {100 * (line['accuracy'][at] - line['accuracy'][0]):+.1f}"
        for line in noise["lines"]
        if line["k"] == 100
    )


def _texts(scale: Any) -> str:
    chosen = scale["text"]["chosen"]
    return f"{100 * chosen['accuracy']:.1f} ± {100 * chosen['standard_error']:.1f}, chosen honestly"


def _metric(choice: Any) -> str:
    sets = [one for one in choice["sets"].values() if {"class_means", "linear_probe"} <= set(one)]
    if not sets:
        return ""
    ours = [one["class_means"]["lines"]["vote and class means, chosen"]["accuracy"] for one in sets]
    probes = [one["linear_probe"]["accuracy"] for one in sets]
    return (
        f"mean of {len(sets)} sets: {100 * _mean(ours):.2f}, linear probe {100 * _mean(probes):.2f}"
    )


def _metric_cost(cost: Any) -> str:
    told = cost.get("means")
    if told is None:
        return ""
    return (
        f"{told['changed']} rows more of {told['rows']:,} x {told['dim']}: "
        f"{told['means_added_s']:.2f} s; fewer: {told['means_removed_s']:.2f} s; bit for bit as "
        f"afresh: {'yes' if told['means_equal_bit_for_bit'] else 'no'}"
    )


def _asked(cost: Any) -> str:
    told = cost.get("asking")
    if told is None:
        return ""
    ratios = ", ".join(f"{line['ratio']:.2f} at {line['batch']}" for line in told["lines"])
    return f"{ratios} queries at once ({told['rows']:,} x {told['dim']})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


FOUR_SETS = "four sets, at most 10,000 rows"
CLUSTERS = "clusters, 2 cores; `benchmarks/visual_memory.py`"
NOISE = f"{FOUR_SETS}, a fifth of the labels flipped, three draws"
SMALL = "small encoders and memories here; DINOv2 and ImageNet there"

CAPABILITIES = (
    Capability(
        "leave-one-out table (6)", "../reliability.md", "counted once; no cost, no upkeep", COST,
        _followed, f"50,000 x 384 {CLUSTERS}", "../performance.md#what-the-rows-say-of-each-other",
        "the paper does not follow changes",
    ),
    Capability(
        "reliability (appendix I)", "../reliability.md", "soft, rank vote: 83.6 to 84.1", CHOICE,
        _judged, f"points gained; {NOISE}; chosen by leave-one-out",
        f"{CHOICE}.md#reliability-under-label-noise",
        "1.28 million clean rows there, best k on the test set",
    ),
    Capability(
        "suspected labels", "../reliability.md#curation",
        "39.3 % of errors inspected on ImageNet-A were label errors", CHOICE, _suspected,
        f"precision / recall in percent; {NOISE}", f"{CHOICE}.md#suspected-labels",
        "people judged there; known flips here",
    ),
    Capability(
        "choice of vote and k (appendix I)", "../visual-memory.md#tuning",
        "best k on the test set", CHOICE, _tuned, f"points below the oracle; {FOUR_SETS}",
        f"{CHOICE}.md#vote-and-k", "chosen on the memory alone here",
    ),
    Capability(
        "novelty (appendix G)", "../novelty.md", "box plots of distances", CHOICE, _novel,
        "AUROC of the scores, percent; every second class withheld", f"{CHOICE}.md#novelty",
        "the paper gives no figures",
    ),
    Capability(
        "abstention", "../novelty.md#what-abstain-promises", "no threshold", CHOICE, _promised,
        "known questions unanswered where 5 % were promised", f"{CHOICE}.md#novelty",
        "not in the paper",
    ),
    Capability(
        "cost of both", "../performance.md", "not covered", COST, _asked,
        f"soft reliability and abstention over plain `predict`; {CLUSTERS}",
        "../performance.md#what-the-rows-say-of-each-other", "not in the paper",
    ),
    Capability(
        "new classes (3.1)", "../visual-memory.md",
        "64 classes added: 87.4 on them, ImageNet stays at 83.6", LIFE, _taught,
        "ten classes a step; accuracy after the last", f"{LIFE}.md#new-classes-ten-at-a-time",
        SMALL,
    ),
    Capability(
        "unlearning (3.4)", "../unlearning.md", "exact", LIFE, _exactly,
        "ten classes of Caltech-101, each removed by itself",
        f"{LIFE}.md#removal-shown-beforehand", "nothing to differ",
    ),
    Capability(
        "cost of unlearning (3.4)", "../unlearning.md", "under 20 ms a row", REMOVAL, _removed,
        "a row of 1,000,000 x 384 on disk; `benchmarks/unlearning.py`",
        "../performance.md#unlearning", "another machine; erasure leaves no byte behind",
    ),
    Capability(
        "finer labels (3.5)", "../hierarchies.md", "genus 35.2 with no row of the species", LIFE,
        _levels, "TREC, MiniLM, 20 neighbors vote at each level",
        f"{LIFE}.md#answers-at-two-levels", "other data; votes at each level here",
    ),
    Capability(
        "re-ranking (2.2)", "../reranking.md", "Gemini over 50 rows: 83.5 to 88.5", LIFE,
        _reranked, "CIFAR-10, text vectors of class names over 50 rows",
        f"{LIFE}.md#a-second-opinion-from-texts", "no such model at hand, no prompt published",
    ),
    Capability(
        "a new encoder", "../migration.md", "an open question", LIFE, _migrated,
        "MobileNetV2 from 96 to 160 px, half of the sources gone", f"{LIFE}.md#a-new-encoder",
        "not in the paper",
    ),
    Capability(
        "scaling law (3.3, appendix F)", "../visual-memory.md",
        "L/14: a = -0.94, b = 2.07; S/14: a = -1.09, b = 2.32", SCALE, _grown,
        "CIFAR-10, 10 to 30,000 rows", f"{SCALE}.md#accuracy-by-the-size-of-the-memory", SMALL,
    ),
    Capability(
        "random labels (appendix D)", "../visual-memory.md#votes", "flat until about 60 %", SCALE,
        _noisy, "points lost; 10,000 rows of CIFAR-10", f"{SCALE}.md#random-labels",
        SMALL,
    ),
    Capability(
        "texts", "../visual-memory.md#tuning", "not covered", SCALE, _texts,
        "BANKING77, MiniLM", f"{SCALE}.md#texts", "not in the paper",
    ),
    Capability(
        "a metric without training", "../metric.md", "linear probe 86.3, rank vote 83.6", CHOICE,
        _metric, FOUR_SETS, f"{CHOICE}.md#class-means", SMALL,
    ),
    Capability(
        "cost of the metric", "../metric.md#forgetting-is-exact", "not covered", COST,
        _metric_cost, CLUSTERS, "../performance.md#what-the-rows-say-of-each-other",
        "not in the paper",
    ),
    Capability(
        "residual search (appendix O)", "../attribution.md#what-the-nearest-row-leaves-over",
        "pictures", "", str, "a function that draws them",
        "../attribution.md#what-the-nearest-row-leaves-over", "the paper gives no figures",
    ),
)  # fmt: skip
