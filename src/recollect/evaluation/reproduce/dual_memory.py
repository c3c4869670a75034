"""Zhang et al., "Dual Memory Networks" (CVPR 2024, arXiv 2403.17589).

Names alone, a few examples, and learned offsets, on Caltech-101, CIFAR-10 and Tiny-ImageNet; with
fixed, honest and oracle weights side by side, streams that come in three orders, ablations, and
the methods it is compared with.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recollect.errors import InvalidParameter
from recollect.evaluation.datasets import cache_file
from recollect.evaluation.earlier import make_folder
from recollect.evaluation.named_images import NamedSet, load_named
from recollect.evaluation.notebook import Notebook
from recollect.evaluation.reproduce import dual_memory_cells as cells
from recollect.evaluation.reproduce.dual_memory_cells import Cell
from recollect.evaluation.reproduce.dual_memory_page import page
from recollect.evaluation.reproduce.dual_memory_plots import pictures
from recollect.evaluation.reproduce.dual_memory_views import (
    COUNTS,
    CROPS,
    PICTURES,
    crops_of,
    viewed,
    views_of,
)
from recollect.types import Codes, Floats

STEM = "dual-memory"
NOTES = 4
"""Counts up when what is measured changes: older notes are not those of this program."""
SETS = ("caltech101", "cifar10", "tiny_imagenet100_32")
SHOTS = (0, 1, 2, 4, 8, 16)
ROWS = 10_000
LONGER = {"cifar10": 2}
"""Sets whose stream is longer than asked for, by this factor; why stands on the page."""
LENGTHS = (1, 5, 10, 30, 50, 70)
BETAS = (0.5, 2.5, 5.5, 10.5, 20.0)
CHANNELS = (8, 4, 2)
"""One channel in so many is compared, besides all of them."""
DEVELOPED = 100
"""Seeds of draws on training pictures begin here, so that they are not those of the tables."""
OPTIONS: dict[str, dict[str, Any]] = {
    "robust": {"mode": "robust"},
    "robust, threshold 0.3": {"mode": "robust", "threshold": 0.3},
    "robust, trust 1": {"mode": "robust", "trust": 1.0},
    "robust, negative 0.117": {"mode": "robust", "negative": 0.117},
    "robust, negative 5": {"mode": "robust", "negative": 5.0},
    "robust, decay 0.001": {"mode": "robust", "decay": 0.001},
    "robust, decay 0.01": {"mode": "robust", "decay": 0.01},
}
ABLATED: dict[str, dict[str, Any]] = {
    "published": {},
    "read, then write": {"order": "read-write"},
    "own slot excluded": {"order": "read-others"},
    "labels from text and static": {"labels": "text+static"},
    **OPTIONS,
    "robust, logits": {"mode": "robust", "fusion": "logits"},
}
RATES = (3e-5, 1e-4, 1e-3, 1e-2)
LEARNED = {
    "offsets": cells.LEARNING,
    "offsets, own slot hidden": replace(cells.LEARNING, leave_one_out=True),
    "offsets and maps": replace(cells.LEARNING, affine=True),
    "offsets and maps, own slot hidden": replace(cells.LEARNING, affine=True, leave_one_out=True),
    "offsets for query, key, value": replace(cells.LEARNING, position="qkv"),
    "offsets for output and text": replace(cells.LEARNING, position="output"),
    "tied offsets": replace(cells.LEARNING, tied=True),
}


def run(
    *,
    data: Path,
    models: Path,
    out: Path | None = None,
    queries: int = 1000,
    seeds: int = 3,
    size: int = 160,
    sets: Sequence[str] = SETS,
    shots: Sequence[int] = SHOTS,
    seconds: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any] | None:
    """Measure the tables and write them as JSON, as a page, and as pictures.

    Args:
        data: Folder of the data sets.
        models: Folder that holds ``mobilenet_v2_imagenet``, ``minilm_l6_text``,
            ``zero_shot_text_map`` and ``clip_text_lvis``.
        out: Folder for the results; None writes nothing.
        queries: At most so many test pictures of a set are streamed, from the top of the file;
            twice as many of CIFAR-10.
        seeds: Draws of shots and orders of the stream.
        size: Side to which pictures are brought, a multiple of 32.
        sets: Data sets.
        shots: Of each class; 0 is zero-shot.
        seconds: Begin no measurement after so long, and keep what was measured; the next run goes
            on. Learned offsets come last, and the page is written without those that are missing.
        progress: Called as ``progress(done, total)``.

    Returns:
        Every figure, as plain values for JSON; None if time was up.

    Raises:
        InputError: The data or a model is not there.
        InvalidParameter: A number is out of range.
    """
    _require_enough(queries, seeds, sets, shots)
    if out is not None:
        make_folder(out)
    cache = cache_file() if out is not None else ":memory:"
    name = f"{STEM}-{NOTES}-{queries}-{size}.jsonl"
    total = len(sets) * seeds * (5 * len(shots) + 25) + 140
    book = Notebook(None if out is None else cache_file().parent / name, progress, total)
    book.until = time.monotonic() + (float("inf") if seconds is None else seconds)
    load = partial(_load, data, models, queries=queries, size=size, cache=cache)
    views = partial(_views, data, models, size=size, cache=cache)
    crops = partial(crops_of, data, models, size=size, cache=cache)

    try:
        mini = {each: load(each, text="minilm") for each in sets}
        clip = {each: load(each, text="clip") for each in sets}
        report = measure(mini, clip, book, seeds, shots, views, crops)
    except TimeoutError:
        return None
    report["protocol"] = _protocol(queries, seeds, size, shots)
    report["seconds"] = round(book.seconds)
    if out is not None:
        _write(report, out)
    return report


def _require_enough(queries: int, seeds: int, sets: Sequence[str], shots: Sequence[int]) -> None:
    if queries < 10 or seeds < 1 or not sets or not shots:
        raise InvalidParameter(
            "there is too little to measure", expected="10 queries, 1 seed, a set and shots",
            got=f"{queries}, {seeds}, {list(sets)}, {list(shots)}",
            remedy="Leave them out for those of the page.",
        )  # fmt: skip


def _load(
    data: Path, models: Path, name: str, *, text: Any, queries: int, size: int, cache: str | Path
) -> NamedSet:
    """One set by one text model; its stream is longer where ``LONGER`` says so."""
    return load_named(
        data,
        models,
        name,
        text=text,
        rows=ROWS,
        queries=queries * LONGER.get(name, 1),
        size=size,
        cache=cache,
    )


def _views(data: Path, models: Path, cell: Cell, *, size: int, cache: str | Path) -> Floats:
    """Views of the first ``PICTURES`` questions of a cell."""
    places = cell.places()[:PICTURES]
    return views_of(data, models, cell.named, places, size=size, cache=cache)


def _write(report: dict[str, Any], out: Path) -> None:
    """Write the figures, and out of what was written the page: it can be made again from it."""
    text = json.dumps(_rounded(report), ensure_ascii=False, separators=(",", ":"))
    (out / f"{STEM}.json").write_text(text + "\n", encoding="utf-8")
    written = json.loads(text)
    (out / f"{STEM}.md").write_text(page(written), encoding="utf-8")
    for stem, figure in pictures(written).items():
        figure.savefig(out / f"{STEM}-{stem}.png", dpi=90)


def measure(
    sets: dict[str, NamedSet],
    clip: dict[str, NamedSet],
    book: Notebook,
    seeds: int,
    shots: Sequence[int],
    views: Callable[[Cell], Floats],
    crops: Callable[[Cell], Floats],
) -> dict[str, Any]:
    """Measure everything on features that are given; views and crops are made when asked for."""
    report: dict[str, Any] = {"sets": {name: _about(each) for name, each in sets.items()}}
    report["clip sets"] = {name: _about(each) for name, each in clip.items()}
    report["main"] = _main(sets, book, seeds, shots, "minilm")
    zero = [0] if 0 in shots else []
    report["clip"] = _main(clip, book, seeds, zero, "clip")
    report["streams"] = _streams(sets, book, seeds, "minilm")
    report["CLIP streams"] = _streams(clip, book, seeds, "clip")
    few = max((each for each in shots if each <= 4), default=max(shots))
    report["ablation"] = _ablation(sets, book, max(shots))
    report["few"] = few
    report["rejecting"] = {
        name: [
            book.note(
                f"reject {name} {few} {seed}", partial(cells.rejecting, Cell(each, few, seed))
            )
            for seed in range(seeds)
        ]
        for name, each in sets.items()
    }
    report["channels"] = _channels(sets, book, shots)
    report["decided"] = _decided(sets, book, seeds, shots)
    report["options on streams"] = _optional(sets, book)
    report["not lengthened"] = _not_lengthened(sets, book, seeds)
    report["viewed pictures"] = PICTURES
    report["views"] = _viewed(sets, book, few, views)
    report["masked"] = {
        name: book.note(f"masked {name} {few}", partial(cells.masked, Cell(each, few, 0)))
        for name, each in sets.items()
    }
    report |= _ways_to_learn(sets, book, few, crops)
    report["learned"] = _learned(sets, book, seeds, shots)
    return report


def _main(
    sets: dict[str, NamedSet], book: Notebook, seeds: int, shots: Sequence[int], text: str
) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, named in sets.items():
        for count in shots:
            results: list[dict[str, Any]] = []
            for seed in range(seeds):
                cell, key = Cell(named, count, seed), f"{name} {text} {count} {seed}"
                free = book.note(f"free {key}", partial(cells.training_free, cell))
                other = book.note(f"other {key}", partial(cells.compared, cell))
                if count:
                    probe = book.note(f"probe {key}", partial(cells.probed, cell))
                    other = {**other, **probe}
                results.append({**free, "other": other})
            table.setdefault(name, {})[str(count)] = _by_figure(results)
    return table


def _by_figure(draws: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Turn draws, each of groups of figures, into groups of figures, each of draws."""
    return {
        group: {key: [each[group][key] for each in draws] for key in figures}
        for group, figures in draws[0].items()
    }


def _learned(
    sets: dict[str, NamedSet], book: Notebook, seeds: int, shots: Sequence[int]
) -> dict[str, Any]:
    """One seed of everything first, so that a run that is cut short leaves no gap but seeds."""
    table: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed in range(seeds):
        for count in (each for each in shots if each):
            for name, named in sets.items():
                key, cell = f"learned {name} {count} {seed}", Cell(named, count, seed)
                try:
                    result = book.note(key, partial(cells.learned, cell))
                except TimeoutError:
                    continue
                table.setdefault(name, {}).setdefault(str(count), []).append(result)
    return {
        name: {count: _by_figure(draws) for count, draws in by.items()}
        for name, by in table.items()
    }


def _decided(
    sets: dict[str, NamedSet], book: Notebook, seeds: int, shots: Sequence[int]
) -> dict[str, Any]:
    """Training pictures that are no shots, in draws of their own."""
    table: dict[str, Any] = {}
    for name, named in sets.items():
        for count in (each for each in shots if each):
            table.setdefault(name, {})[str(count)] = [
                book.note(
                    f"decided {name} {count} {seed}",
                    partial(cells.decided, Cell(named, count, DEVELOPED + seed)),
                )
                for seed in range(seeds)
            ]
    return table


def _optional(sets: dict[str, NamedSet], book: Notebook) -> dict[str, Any]:
    """The first two sets, zero-shot, one seed: what options do where the stream is unkind."""
    table: dict[str, Any] = {}
    for name, named in list(sets.items())[:2]:
        for order in cells.ORDERS[1:]:
            cell = Cell(named, 0, 0, order)
            table.setdefault(name, {})[order] = {
                way: book.note(
                    f"unkind {name} {order} {way}", partial(cells.streamed, cell, **some)
                )
                for way, some in OPTIONS.items()
            }
    return table


def _not_lengthened(
    sets: dict[str, NamedSet], book: Notebook, seeds: int
) -> dict[str, list[dict[str, Any]]]:
    """Zero-shot on the sets whose stream is longer than asked for, had it not been."""
    table: dict[str, list[dict[str, Any]]] = {}
    for name in sets.keys() & LONGER.keys():
        named = sets[name]
        count = len(named.truth) // LONGER[name]
        first = replace(named, queries=named.queries[:count], truth=named.truth[:count])
        table[name] = [
            book.note(f"shorter {name} {seed}", partial(cells.streamed, Cell(first, 0, seed)))
            | {"pictures": count}
            for seed in range(seeds)
        ]
    return table


def _viewed(
    sets: dict[str, NamedSet], book: Notebook, few: int, views: Callable[[Cell], Floats]
) -> dict[str, Any]:
    """The first two sets, one seed, names alone and with few shots."""
    table: dict[str, Any] = {}
    for name, named in list(sets.items())[:2]:
        for count in (0, few):
            cell = Cell(named, count, 0)
            places = cell.places()[:PICTURES]

            def measured(cell: Cell = cell, places: Codes = places) -> dict[str, Any]:
                """The cell of this turn of the loop, encoded only if it was not measured before."""
                return viewed(cell, places, views(cell), COUNTS)

            table.setdefault(name, {})[str(count)] = book.note(f"views {name} {count}", measured)
    return table


def _ways_to_learn(
    sets: dict[str, NamedSet], book: Notebook, few: int, crops: Callable[[Cell], Floats]
) -> dict[str, Any]:
    """Rates on training pictures, every set; settings of the training, the first two; one draw.

    Crops of the shots ask on the first two sets, at the rate that is best for them there.
    """
    rates, ways = {}, {}
    for number, (name, named) in enumerate(sets.items()):
        tried, cell = Cell(named, few, DEVELOPED), Cell(named, few, 0)
        rates[name] = {
            "shots": book.note(f"rates {name} {few} shots", partial(cells.rated, tried, RATES))
        }
        if number > 1:
            continue
        by_rate = book.note(f"rates {name} {few} crops", partial(_rated, tried, crops))
        rates[name]["crops"] = by_rate
        rate = float(max(by_rate, key=by_rate.__getitem__))
        ways[name] = {
            "shots": book.note(f"ways {name} {few}", partial(cells.variants, cell, LEARNED)),
            "crops": book.note(
                f"ways {name} {few} crops {rate:g}", partial(_cropped, cell, crops, rate)
            ),
            "rate of crops": rate,
        }
    return {"decided rates": rates, "ways to learn": ways, "crops": CROPS}


def _rated(cell: Cell, crops: Callable[[Cell], Floats]) -> dict[str, float]:
    """Rates for crops, which are encoded only if this was not measured before."""
    return cells.rated(cell, RATES, crops(cell))


def _cropped(cell: Cell, crops: Callable[[Cell], Floats], rate: float) -> dict[str, Any]:
    """Ways to learn from crops, likewise."""
    return cells.cropped(cell, crops(cell), LEARNED, rate)


def _channels(sets: dict[str, NamedSet], book: Notebook, shots: Sequence[int]) -> dict[str, Any]:
    """Every set, one draw: the static memory read in fewer channels."""
    table: dict[str, Any] = {}
    for name, named in sets.items():
        dim = named.text.shape[1]
        counts = [*(max(1, dim // each) for each in CHANNELS), None]
        for count in (each for each in shots if each):
            cell = Cell(named, count, 0)
            table.setdefault(name, {})[str(count)] = book.note(
                f"channels {name} {count}", partial(cells.told_apart, cell, counts)
            )
    return table


def _streams(sets: dict[str, NamedSet], book: Notebook, seeds: int, text: str) -> dict[str, Any]:
    """Zero-shot, in three orders, every draw."""
    table: dict[str, Any] = {}
    ways: dict[str, dict[str, Any]] = {"published": {}, "robust": {"mode": "robust"},
            "read, then write": {"order": "read-write"}}  # fmt: skip
    for name, named in sets.items():
        for order in cells.ORDERS:
            drawn = []
            for seed in range(seeds):
                cell, key = Cell(named, 0, seed, order), f"{name} {text} {order} {seed}"
                line = {
                    way: book.note(f"stream {key} {way}", partial(cells.streamed, cell, **options))
                    for way, options in ways.items()
                }
                line["TDA"] = book.note(f"tda {key}", partial(cells.compared_stream, cell))
                drawn.append(line)
            table.setdefault(name, {})[order] = drawn
    return table


def _ablation(sets: dict[str, NamedSet], book: Notebook, shots: int) -> dict[str, Any]:
    """The first two sets, one seed each: options, memory length and sharpness."""
    table: dict[str, Any] = {}
    for name, named in list(sets.items())[:2]:
        for count in (0, shots):
            cell, key = Cell(named, count, 0), f"{name} {count}"
            options = {way: some for way, some in ABLATED.items() if count or "static" not in way}
            entry = {
                "options": {
                    way: book.note(f"option {key} {way}", partial(cells.streamed, cell, **some))
                    for way, some in options.items()
                }
            }
            swept: tuple[tuple[str, Sequence[float], str], ...] = (
                ("length", LENGTHS, "memory_length"),
                ("beta", BETAS, "beta"),
            )
            for what, values, parameter in swept:
                entry[what] = {
                    str(value): book.note(
                        f"{what} {key} {value}",
                        partial(cells.streamed, cell, **{"mode": "robust", parameter: value}),
                    )
                    for value in values
                }
            table.setdefault(name, {})[str(count)] = entry
    return table


def _rounded(figures: Any) -> Any:
    """Leave four digits behind the point: a tenth of the last that the page shows."""
    if isinstance(figures, dict):
        return {key: _rounded(each) for key, each in figures.items()}
    if isinstance(figures, list | tuple):
        return [_rounded(each) for each in figures]
    return round(figures, 4) if isinstance(figures, float) else figures


def _about(named: NamedSet) -> dict[str, Any]:
    return {
        "classes": len(named.classes),
        "rows": len(named.keys),
        "queries": len(named.queries),
        "dim": int(named.text.shape[1]),
        "chance": round(1 / len(named.classes), 5),
        "largest": float(np.bincount(named.truth).max() / len(named.truth)),
    }


def _protocol(queries: int, seeds: int, size: int, shots: Sequence[int]) -> dict[str, Any]:
    from recollect import __version__

    return {
        "queries": queries,
        "seeds": seeds,
        "unsureness": "entropy / log2(classes)",
        "size": size,
        "shots": list(shots),
        "recollect": __version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
