"""Sections of the dual-memory page: what was decided, what was promised, and options by figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from recollect.evaluation.reproduce.dual_memory_figures import (
    COMBINATIONS,
    LEARNED,
    PROPOSED,
    SINGLE,
    gap_between,
    mean_over_sets,
    stream_gains,
    title,
    values,
)
from recollect.evaluation.reproduce.markdown import table

MARGIN = 0.003
"""How far below the text alone a stream may fall, as a share of the pictures."""

_MOVED = 1e-6
"""Smaller numbers are roundings."""

_ORDERS = ("blocked", "drifting")


def promises(report: Mapping[str, Any]) -> str:
    """What the dual memory promises, held against the tables of the same page."""
    lines = [*_against_members(report), *_against_text(report), *_learning(report)]
    shown = [[what, figures, "yes" if kept else "**no**"] for what, figures, kept in lines]
    return table(["promise", "figures, in points", "kept"], shown, texts=3)


def best_member(report: Mapping[str, Any], shots: int, group: str = "robust") -> str | None:
    """The single member that is best in the mean over sets and draws: text, static or dynamic."""
    found = {each: mean_over_sets(report, shots, (group, each)) for each in SINGLE}
    means = {each: mean[0] for each, mean in found.items() if mean}
    return max(means, key=means.__getitem__) if means else None


def _against_members(report: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    for words, row in COMBINATIONS.items():
        held = _beside_members(report, row)
        if held:
            shots = ", ".join(str(each) for each in held)
            what = (
                f"{words}: at {shots} shots never below the best single member by more than one "
                "standard error of the difference"
            )
            told = ", ".join(
                f"{100 * gap:+.1f} ± {100 * error:.1f}" for gap, error in held.values()
            )
            yield what, told, not _misses(held)
            mean = float(np.mean([gap for gap, _ in held.values()]))
            yield "and above it on average", f"{100 * mean:+.2f}", mean > 0


def combinations(report: Mapping[str, Any]) -> str:
    """Which combinations of order, fusion and weights keep the promise, and where others miss."""
    good, parts = [], []
    for words, row in COMBINATIONS.items():
        held = _beside_members(report, row)
        misses = _misses(held)
        mean = float(np.mean([gap for gap, _ in held.values()])) if held else 0.0
        if held and not misses and mean > 0:
            good.append(f"*{words}*")
        elif held:
            told = [
                f"{100 * gap:+.2f} ± {100 * error:.2f} at {count}"
                for count, (gap, error) in misses.items()
            ]
            parts.append(f"*{words}* ({'; '.join(told) or f'{100 * mean:+.2f} on average'})")
    kept = f"Held against the best single member, {_listed(good)} {_verb(good)} what is promised"
    missed = f"; {_listed(parts)} {_verb(parts, 'does', 'do')} not, in points by shots."
    return kept + (missed if parts else ".")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + list(words[-1:])) or "nothing"


def _verb(words: Sequence[str], one: str = "keeps", several: str = "keep") -> str:
    return several if len(words) > 1 else one


Held: TypeAlias = dict[int, tuple[float, float]]
"""Shots -> how far a combination is above the best single member, and the standard error."""


def _beside_members(report: Mapping[str, Any], row: tuple[str, str]) -> Held:
    held: Held = {}
    for count in (each for each in report["protocol"]["shots"] if each):
        best = best_member(report, count, row[0])
        gap = gap_between(report, count, row, best) if best else None
        if gap:
            held[count] = gap
    return held


def _misses(held: Held) -> Held:
    return {count: (gap, error) for count, (gap, error) in held.items() if gap < -error}


def _against_text(report: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    for words, key in (("MiniLM", "main"), ("CLIP", "clip")):
        gaps = {
            name: np.mean(by["0"]["robust"]["dynamic"]) - np.mean(by["0"]["robust"]["text"])
            for name, by in report[key].items()
            if "0" in by
        }
        what = (
            f"names alone, {words}: the dynamic memory above the text on CIFAR-10, and nowhere "
            "below it by more than 0.3"
        )
        if gaps:
            kept = min(gaps.values()) >= -MARGIN and gaps.get("cifar10", 1.0) > 0
            yield what, _named(gaps), bool(kept)
    for words, key in (("MiniLM", "streams"), ("CLIP", "CLIP streams")):
        gaps = {
            name: min(
                float(stream_gains(by["blocked"], "robust", part).min()) / 100
                for part in ("fused", "dynamic")
            )
            for name, by in report[key].items()
        }
        what = (
            f"one class after another, {words}, robust, the worst draw: neither all members nor "
            "the dynamic memory alone below the text by more than 0.3"
        )
        if gaps:
            yield what, _named(gaps), min(gaps.values()) >= -MARGIN


def _named(gaps: Mapping[str, Any]) -> str:
    return ", ".join(f"{title(name)} {100 * gap:+.1f}" for name, gap in gaps.items())


def _learning(report: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    for words, key in (("weights (1, 1, 1)", "logits"), ("honest weights", "logits, honest")):
        gaps = {}
        for count in (each for each in report["protocol"]["shots"] if each >= 4):
            learned = mean_over_sets(report, count, (LEARNED + "robust", key))
            free = mean_over_sets(report, count, PROPOSED)
            if learned and free:
                gaps[count] = learned[0] - free[0]
        if gaps:
            said = ", ".join(f"{100 * gap:+.1f}" for gap in gaps.values())
            shots = ", ".join(str(each) for each in gaps)
            what = (
                f"learned offsets, robust, logits, {words}: at {shots} shots not below "
                "training-free with honest weights"
            )
            yield what, said, min(gaps.values()) >= 0


def decided(report: Mapping[str, Any]) -> str:
    """Rules for weights, and trust, on training pictures that are no shots."""
    found = report["decided"]
    counts = list(dict.fromkeys(count for by in found.values() for count in by))
    rows = (
        ("dynamic memory alone, slots alike", "trust 0", "dynamic"),
        ("dynamic memory alone, **slots by how sure they are**", "trust 1", "dynamic"),
        ("all, weights (1, 1, 1)", "trust 1", "(1, 1, 1)"),
        ("all, the most accurate weights", "trust 1", "most accurate"),
        ("all, **the most even weights within one error**", "trust 1", "one error"),
        ("the same, slots alike", "trust 0", "one error"),
        ("the same, slots alike, probabilities added instead", "trust 0", "one error, fixed"),
    )
    lines = []
    for words, trust, key in rows:
        cells = []
        for count in counts:
            drawn = [[each[trust].get(key) for each in by[count]] for by in found.values()]
            whole = all(value is not None for each in drawn for value in each)
            cells.append(f"{100 * np.mean([np.mean(each) for each in drawn]):.1f}" if whole else "")
        lines.append([words, *cells])
    wins = [
        np.mean([one["trust 1"]["dynamic"] - one["trust 0"]["dynamic"] for one in by[count]])
        for by in found.values()
        for count in counts
    ]
    told = (
        f"Of the {len(wins)} pairs of a set and a number of shots, trust raises the dynamic "
        f"memory in {sum(gain > 0 for gain in wins)} and lowers it in "
        f"{sum(gain < 0 for gain in wins)}."
    )
    return f"{table(['', *[f'{count} shots' for count in counts]], lines)}\n\n{told}"


def unkind(report: Mapping[str, Any]) -> str:
    """Options where classes come one after another or drift."""
    found = report["options on streams"]
    columns = [(name, order) for name in found for order in _ORDERS]
    ways = list(dict.fromkeys(way for name, order in columns for way in found[name][order]))
    lines = []
    for way in ways:
        cells = []
        for name, order in columns:
            one = found[name][order][way]
            gaps = [100 * (one[part] - one["text"]) for part in ("fused", "dynamic")]
            cells.append(f"{gaps[0]:+.1f} / {gaps[1]:+.1f}")
        lines.append([way, *cells])
    return table(["", *[f"{title(name)}, {order}" for name, order in columns]], lines)


def viewed(report: Mapping[str, Any]) -> str:
    """Pseudo labels, dynamic memory and all members, by the number of views."""
    lines: list[Sequence[str]] = []
    head = [""]
    for name, by in report["views"].items():
        for count, found in by.items():
            head = ["", *[f"{views} views" if views != "1" else "1 view" for views in found]]
            cells = [
                " / ".join(f"{100 * one[key]:.1f}" for key in ("pseudo labels", "dynamic", "fused"))
                for one in found.values()
            ]
            lines.append([f"{title(name)}, {count} shots", *cells])
    return table(head, lines)


def rates(report: Mapping[str, Any]) -> str:
    """Learning rates on training pictures that are no shots."""
    found = report["decided rates"]
    lines = [
        [f"{title(name)}, {who} ask", *[f"{100 * share:.1f}" for share in by.values()]]
        for name, each in found.items()
        for who, by in each.items()
    ]
    columns = list(next(iter(found.values()))["shots"])
    means = [np.mean([each["shots"][rate] for each in found.values()]) for rate in columns]
    lines.append(["mean, shots ask", *[f"{100 * mean:.1f}" for mean in means]])
    return table(["", *[f"rate {rate}" for rate in columns]], lines)


def learners(report: Mapping[str, Any]) -> str:
    """Ways to learn offsets, on the first sets: accuracy, and how far each offset went."""
    lines = []
    for name, found in report["ways to learn"].items():
        for who in ("shots", "crops"):
            rate = f" (rate {found['rate of crops']:g})" if who == "crops" else ""
            for way, one in found[who].items():
                moved = ", ".join(
                    f"{role} {size:.2g}" for role, size in one["moved"].items() if size >= _MOVED
                )
                cells = [f"{100 * one[key]:.1f}" for key in ("static", "fused")]
                lines.append([title(name), f"{who}{rate}: {way}", *cells, moved or "nothing"])
    head = ["set", "", "static memory", "all members, logits", "largest number learned"]
    return table(head, lines, texts=2)


def masked(report: Mapping[str, Any]) -> str:
    """What hiding each shot's own slot while offsets are learned does."""
    lines = []
    for name, found in report["masked"].items():
        cells = [
            f"{100 * found[f'{way}, {part}']:.1f}"
            for part in ("static", "fused")
            for way in ("found", "hidden")
        ]
        lines.append([title(name), *cells])
    head = ["set", "static, own slot found", "static, hidden", "all, own slot found", "all, hidden"]
    return table(head, lines)


def channels(report: Mapping[str, Any]) -> str:
    """Static memory, and all members, by the number of channels they meet the picture in."""
    lines, head = [], [""]
    for name, by in report["channels"].items():
        for count, found in by.items():
            head = ["", *[f"{each} channels" for each in found]]
            cells = [f"{100 * one['static']:.1f} / {100 * one['fused']:.1f}"
                     for one in found.values()]  # fmt: skip
            lines.append([f"{title(name)}, {count} shots", *cells])
    return table(head, lines)


def rejecting(report: Mapping[str, Any]) -> str:
    """Unknown pictures ranked, and what stays unanswered at a rate that was asked for."""
    ranked = ("novelty", "1 - largest probability")
    rates = ("coverage 0.05", "coverage 0.1")
    lines = []
    for name, drawn in report["rejecting"].items():
        for moment in ("before", "after"):
            found = {key: 100 * np.mean([each[moment][key] for each in drawn])
                     for key in drawn[0][moment]}  # fmt: skip
            cells = [f"{found[key]:.1f}" for key in ranked]
            cells += [
                f"{found[f'{rate}, known unanswered']:.1f} / "
                f"{found[f'{rate}, unknown unanswered']:.1f}"
                for rate in rates
            ]
            lines.append([title(name), moment, *cells])
    head = ["set", "the stream", "`novelty`", "1 - largest probability",
            "`abstain=0.05`: known / unknown unanswered",
            "`abstain=0.1`: known / unknown unanswered"]  # fmt: skip
    return table(head, lines, texts=2)


def proving(report: Mapping[str, Any]) -> str:
    """Wrong answers among those that are given, known pictures only."""
    lines = []
    for name, drawn in report["rejecting"].items():
        found = {key: 100 * np.mean([each["before"][key] for each in drawn])
                 for key in drawn[0]["before"]}  # fmt: skip
        cells = [
            f"{100 - found[f'error {rate}, known unanswered']:.1f} / "
            f"{found[f'error {rate}, wrong of the answers']:.1f}"
            for rate in ("0.05", "0.1")
        ]
        lines.append([title(name), f"{100 - found['right']:.1f}", *cells])
    head = ["set", "wrong, all answered", "at 0.05: answered / wrong of these",
            "at 0.1: answered / wrong of these"]  # fmt: skip
    return table(head, lines)


def shorter(report: Mapping[str, Any]) -> str:
    """What would stand in the tables had no stream been lengthened."""
    parts = []
    for name, drawn in report["not lengthened"].items():
        text, dynamic, fused = (
            100 * float(np.mean([each[key] for each in drawn]))
            for key in ("text", "dynamic", "fused")
        )
        parts.append(
            f"On the first {drawn[0]['pictures']:,} of {title(name)}: text {text:.1f}, dynamic "
            f"memory {dynamic:.1f}, all {fused:.1f}"
        )
    return "; ".join(parts) + "." if parts else ""


def probes(report: Mapping[str, Any]) -> str:
    """Which strengths the linear probe chose, and whether it always came to an end."""
    drawn = [found["other"] for by in report["main"].values() for found in by.values()
             if "converged" in found["other"]]  # fmt: skip
    ended = [each for found in drawn for each in found["converged"]]
    strengths = sorted({each for found in drawn for each in found["strength"]})
    chosen = ", ".join(f"{each:g}" for each in strengths)
    return f"chosen: {chosen}; {sum(ended)} of {len(ended)} fits converged"


def missing_draws(report: Mapping[str, Any]) -> str:
    """Draws of learned offsets that were not measured."""
    row, draws = (LEARNED + "robust", "logits"), report["protocol"]["seeds"]
    cells = [(name, count) for name in report["main"]
             for count in report["protocol"]["shots"] if count]  # fmt: skip
    found = {cell: len(values(report, *cell, row)) for cell in cells}
    missing = [f"{title(name)} at {count}: {number} of {draws}"
               for (name, count), number in found.items() if number < draws]  # fmt: skip
    return f" Draws of learned offsets that were measured: {'; '.join(missing)}." if missing else ""
