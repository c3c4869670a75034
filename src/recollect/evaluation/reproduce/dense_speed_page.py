"""What dense memory costs, as `benchmarks/dense_memory.py` measured it: a section, and plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recollect.evaluation.reproduce.markdown import table

WAYS = {
    "query_seconds": "all cells of level 0",
    "query_seconds_with_pre_filter": "64 samples most alike",
    "query_seconds_with_lists": "lists",
}


def speed_section(speed: Mapping[str, Any]) -> str:
    """Write the report of the benchmark as Markdown; parts that were not measured are left out."""
    about = (
        "CamVid, features of MobileNetV2 made beforehand; measured alone on a machine of "
        f"{speed.get('cores', '?')} cores, {speed.get('threads', '?')} threads, by"
    )
    command = "    python benchmarks/dense_memory.py --json dense-memory-speed.json"
    text = ["## What it costs", "", about, "", command, ""]
    writers = (_learning, _asking, _growth, _capped)
    return "\n".join([*text, *(line for write in writers for line in write(speed))])


def _learning(speed: Mapping[str, Any]) -> list[str]:
    if not {"adding", "fitting", "end_to_end"} <= speed.keys():
        return []
    adding, fitting, whole = (speed[name] for name in ("adding", "fitting", "end_to_end"))
    one, every = adding["add_one_seconds"], adding["add_all_seconds"]
    trained = whole["epoch_seconds"] * whole["epochs"]
    linear = f"a linear head, {fitting['cells']:,} cells, {fitting['rounds']} steps of L-BFGS"
    rows = [
        ("one more labelled frame", f"{one:.4f}", "1", ""),
        (f"all {adding['samples']} frames", f"{every:.2f}", f"{every / one:,.0f}", "1"),
        (
            linear, f"{fitting['seconds']:,.1f}", f"{fitting['seconds'] / one:,.0f}",
            f"{fitting['seconds'] / every:,.1f}",
        ),
        (
            (f"network and decoder end to end, {whole['epochs']} epochs of "
            f"{whole['epoch_seconds']:,.0f} s"), f"{trained:,.0f}", f"{trained / one:,.0f}",
            f"{trained / every:,.0f}",
        ),
    ]  # fmt: skip
    columns = ("learning", "seconds", "times one frame", "times all frames")
    enough = 1000 * every / whole["epoch_seconds"]
    after = (
        f"A thousand times as long as all frames is {enough:.0f} epochs. Public recipes for CamVid "
        "take 50 (AiTLAS, fine-tuning HRNet), 300 (PyTorch-ENet from scratch, best after 160) and "
        "1,000 (LMFFNet). Making features is in neither side of the first three lines"
    )
    if "features" in speed:
        after += (
            ": decoding a frame and running the network on it takes "
            f"{speed['features']['frame_seconds']:.3f} s, once; training end to end runs it in "
            "every epoch"
        )
    return [table(columns, rows), "", after + ".", ""]


def _asking(speed: Mapping[str, Any]) -> list[str]:
    if "asking" not in speed:
        return []
    found = speed["asking"]
    names = {
        "chosen": "chosen", "quick": "quick", "wide": "wide", "published": "as published",
        "flat_100k_cells": "flat, 100,000 cells",
        "flat_all_cells": f"flat, all {found['cells']:,} cells",
    }  # fmt: skip
    rows = []
    for name, words in names.items():
        if f"{name}_seconds" not in found:
            continue
        ratios = [
            f"{found[f'{other}_over_{name}']:.1f}x" if f"{other}_over_{name}" in found else ""
            for other in ("flat_100k_cells", "flat_all_cells")
        ]
        options = found.get("settings", {}).get(name, {})
        shown = (
            f"k = {options['k']}, {options.get('prefilter') or 'all'} samples" if options else ""
        )
        rows.append((words, shown, f"{found[f'{name}_seconds']:.3f}", *ratios))
    clock = "seconds of the processor" if found.get("clock") == "processor" else "seconds"
    about = (
        f"A query with {found['samples']} frames in the memory, {clock}, median of "
        f"{found['queries'] * found.get('rounds', 1)}; each way is asked {found['queries']} in a "
        "row, in turns, with all that belongs to an answer. Flat search is exact, compares "
        "hypercolumns, and takes the same compiled kernel; all its cells are laid out beforehand."
    )
    columns = (
        "query",
        "settings",
        "seconds",
        "flat on 100,000 cells takes",
        "flat on all cells takes",
    )
    return [about, "", table(columns, rows), ""]


def _growth(speed: Mapping[str, Any]) -> list[str]:
    if "growth" not in speed:
        return []
    lines = speed["growth"]["lines"]
    rows = [
        (
            f"{line['samples']:,}", f"{line['coarse_cells']:,}", f"{line['teaching_seconds']:.1f}",
            *(f"{line[name]:.4f}" for name in WAYS),
        )
        for line in lines
    ]  # fmt: skip
    about = (
        "Cost against the size of the memory: quarters of real frames with noise, two sparse "
        "levels, float16. Seconds for all of teaching, and for a query by three ways of searching "
        "the coarsest level."
    )
    columns = ("samples", "cells of level 0", "teaching s", *WAYS.values())
    return [about, "", table(columns, rows), ""]


def _capped(speed: Mapping[str, Any]) -> list[str]:
    if "capped" not in speed:
        return []
    said = ", ".join(
        f"{line['peak_bytes'] / 2**20:,.0f} of {line['cap_bytes'] / 2**20:,.0f} MiB"
        for line in speed["capped"]["lines"]
    )
    return [f"The most that one query allocated, and `memory_cap`: {said}.", ""]


def save_plots(report: Mapping[str, Any], speed: Mapping[str, Any] | None, out: Path) -> bool:
    """Draw few samples, bytes and growth as ``dense-memory-plots.png``; False without figures."""
    from recollect.evaluation.plots import new_figure

    parts = {name: part for name, part in report["parts"].items() if "few" in part}
    if not parts:
        return False
    figure = new_figure(10.5, 3.2)
    panels = figure.subplots(1, 3)
    for at, (name, part) in enumerate(parts.items()):
        _draw_few(panels[0], name, part, f"C{at}")
        _draw_bytes(panels[1], name, part, f"C{at}")
    panels[0].set(xscale="log", xlabel="samples", title="few samples: ours (line), linear (dots)")
    panels[0].set_ylabel("figure / that of all samples")
    panels[1].set(xlabel="share of the bytes", title="sparse levels", xlim=(0, 1))
    panels[1].set_ylabel("figure / that of the whole memory")
    panels[0].legend(fontsize=7)
    if speed and "growth" in speed:
        lines = speed["growth"]["lines"]
        for name, words in WAYS.items():
            sizes = [line["samples"] for line in lines]
            panels[2].plot(sizes, [line[name] for line in lines], marker="o", label=words)
        panels[2].set(xscale="log", yscale="log", xlabel="samples", title="seconds a query")
        panels[2].legend(fontsize=7)
    else:
        panels[2].set_axis_off()
    figure.savefig(out / "dense-memory-plots.png", dpi=80)
    return True


def _draw_few(panel: Any, name: str, part: Mapping[str, Any], color: str) -> None:
    labels = part["kind"] == "labels"
    main = "miou" if labels else "rmse"
    every = next(line[main] for line in part["some"] if line["name"] == "chosen")
    sizes = [few["samples"] for few in part["few"]] + [part["samples"]["train"]]

    def share(value: float) -> float:
        """Larger is better, of an error too."""
        return float(value / every if labels else every / value)

    own = [share(few["ours"]) for few in part["few"]]
    others = [share(few["linear"]) for few in part["few"]]
    panel.plot(sizes, [*own, 1.0], color=color, label=name)
    linear = [line[main] for line in part["some"] if line["name"] == "linear head"]
    others += [share(value) for value in linear]
    panel.plot(sizes[: len(others)], others, color=color, linestyle=":", marker=".")


def _draw_bytes(panel: Any, name: str, part: Mapping[str, Any], color: str) -> None:
    labels = part["kind"] == "labels"
    main = "miou" if labels else "rmse"
    whole = next(line for line in part["lines"] if line["name"] == "chosen")
    for line in part["lines"]:
        if "sparse" not in line["name"]:
            continue
        value = line[main] / whole[main] if labels else whole[main] / line[main]
        marker = "s" if "kept" in line["name"] else "o"
        panel.plot(line["bytes"] / whole["bytes"], value, marker, color=color, label=name)
