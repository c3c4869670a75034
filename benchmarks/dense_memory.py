"""What dense memory costs beside training: `python benchmarks/dense_memory.py --json out.json`.

CamVid, features of MobileNetV2 at strides 32, 16 and 8, made once; their time is reported apart.
In one process, same features, same threads: adding one labelled frame and all frames against
fitting a linear head (L-BFGS until it converges) and against training end to end (steps measured,
epochs stated); in turns, some queries coarse to fine and the same by exact flat search, among all
hypercolumns of the memory and among 100,000; cost against memory size, on samples made of real ones
plus noise; the peak of a search beside its cap.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recollect import DenseMemorySegmenter
from recollect.evaluation import dense_baselines as baselines
from recollect.evaluation.dense_data import Samples, Task, camvid, camvid_encoder, spread
from recollect.index.policy import Approximate
from recollect.index.scope import default_cores

# What `recollect reproduce dense-memory` chose for CamVid on validation frames: for quality alone,
# the best of the searches that take a twentieth of the time of flat search, and its widest one.
CHOSEN: dict[str, Any] = {"score": "path", "k": (100, 60, 30), "position": 0.3}
QUICK: dict[str, Any] = CHOSEN | {"k": (64, 48, 30), "prefilter": 91}
WIDE: dict[str, Any] = CHOSEN | {"k": (400, 240, 100)}
PUBLISHED: dict[str, Any] = {"score": "level", "k": (32, 16, 8, 4), "position": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "query_seconds": {"prefilter": None, "search": None},
    "query_seconds_with_pre_filter": {"prefilter": 64, "search": None},
    "query_seconds_with_lists": {
        "prefilter": None,
        "search": Approximate(recall=0.9, least=20_000, background=False),
    },
}
PARTS = ("features", "adding", "fitting", "end_to_end", "asking", "growth", "capped")
SIZES = (10, 100, 1000, 10_000)
AT_ONCE = 16  # frames taught by one call
TIMES = 3  # that all frames are taught
LINEAR_CELLS = 300_000  # drawn evenly, as in the reproduction
# Of end-to-end training: as AiTLAS fine-tunes a pretrained HRNet or DeepLabv3 on CamVid, the fewest
# of the public recipes looked at (aitlas configs/camvid/train_and_evaluate.json: 50; PyTorch-ENet,
# from scratch: 300, its best after 160; LMFFNet: 1,000).
EPOCHS = 50


clock: Callable[[], float] = time.perf_counter  # or the time of the processor, with --cpu


def seconds(call: Callable[[], object]) -> float:
    start = clock()
    call()
    return clock() - start


def teach(task: Task, samples: Samples, **options: Any) -> DenseMemorySegmenter:
    head = DenseMemorySegmenter(ignore=task.ignore, **CHOSEN | options)
    for start in range(0, len(samples), AT_ONCE):
        part = samples.take(range(start, min(start + AT_ONCE, len(samples))))
        head.partial_fit(part.pyramids, part.truth)
    head.classes_  # noqa: B018 - lays the cells out
    return head


def adding(task: Task, rounds: int) -> dict[str, Any]:
    """All samples, then one more, again and again."""
    heads: list[DenseMemorySegmenter] = []
    everything = []
    for _ in range(TIMES):  # the first pays for memory that the process has not had yet
        heads.clear()
        everything.append(seconds(lambda: heads.append(teach(task, task.train))))
    [head] = heads
    one = task.test.take([0])

    def add() -> None:
        head.partial_fit(one.pyramids, one.truth)
        head.classes_  # noqa: B018 - the cells are up to date when this returns

    spent = []
    for _ in range(rounds):
        spent.append(seconds(add))
        head.forget(head.ids_[-1:])
        head.classes_  # noqa: B018
    return {
        "samples": len(task.train),
        "add_one_seconds": statistics.median(spent),
        "add_all_seconds": statistics.median(everything),
        "add_all_first_seconds": everything[0],
    }


def fitting(task: Task) -> dict[str, Any]:
    """A linear head until it converges, less the time to gather its cells."""
    labels, rounds = len(task.labels), 0

    def fit() -> None:
        nonlocal rounds
        rounds = baselines.linear_head(task.train, labels, most=LINEAR_CELLS).rounds

    gathering = seconds(lambda: baselines.gather(task.train, labels, most=LINEAR_CELLS))
    return {"seconds": seconds(fit) - gathering, "rounds": rounds, "cells": LINEAR_CELLS}


def end_to_end(task: Task) -> dict[str, Any]:
    """Steps of training the network with a decoder, times frames and epochs."""
    epoch = end_to_end_step(task) * len(task.train)
    return {"epoch_seconds": epoch, "epochs": EPOCHS}


def ratios(report: dict[str, Any]) -> dict[str, float]:
    """How many times longer learning takes elsewhere; of the parts that were measured."""
    found: dict[str, float] = {}
    ours = report.get("adding")
    if ours and "fitting" in report:
        found["linear_over_add_one"] = report["fitting"]["seconds"] / ours["add_one_seconds"]
        found["linear_over_add_all"] = report["fitting"]["seconds"] / ours["add_all_seconds"]
    if ours and "end_to_end" in report:
        trained = report["end_to_end"]["epoch_seconds"] * report["end_to_end"]["epochs"]
        found["end_to_end_over_add_all"] = trained / ours["add_all_seconds"]
    return found


def features(data: Path, models: Path, rounds: int) -> dict[str, Any]:
    """Decoding a frame and running the network on it."""
    from pyarrow import parquet

    encoder = camvid_encoder(models)
    table = parquet.read_table(data / "camvid" / "test.parquet", columns=["image"])
    images = table["image"].to_pylist()[: 4 * rounds]
    list(encoder.encode_pyramids([encoder.open(images[0])]))
    spent = [seconds(lambda i=i: list(encoder.encode_pyramids([encoder.open(i)]))) for i in images]
    return {"frame_seconds": statistics.median(spent)}


def end_to_end_step(task: Task) -> float:
    """One step of training a MobileNetV2 with a small decoder on one 352 x 480 frame."""
    import torch

    net = mobilenet_v2(torch, len(task.labels))
    solver = torch.optim.SGD(net.parameters(), lr=0.01)
    image = torch.randn(1, 3, 352, 480)
    truth = torch.zeros(1, 44, 60, dtype=torch.long)

    def step() -> None:
        solver.zero_grad()
        torch.nn.functional.cross_entropy(net(image), truth).backward()
        solver.step()

    step()
    return statistics.median(seconds(step) for _ in range(3))


def mobilenet_v2(torch: Any, labels: int) -> Any:
    """The architecture of the encoder (width 1.0) and two layers at stride 8; random weights."""
    nn = torch.nn

    def bottleneck(width: int, out: int, stride: int, expand: int) -> Any:
        inner = width * expand
        wide = [nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()]
        deep = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        narrow = [nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)]
        return nn.Sequential(*wide[: 0 if expand == 1 else 3], deep, nn.BatchNorm2d(inner),
                             nn.ReLU6(), *narrow)  # fmt: skip

    layers = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    width = 32
    for expand, out, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for at in range(count):
            layers.append(bottleneck(width, out, stride if at == 0 else 1, expand))
            width = out
    decoder = [nn.Conv2d(320, 96, 3, 1, 1), nn.ReLU(), nn.Upsample((44, 60), mode="bilinear"),
               nn.Conv2d(96, labels, 3, 1, 1)]  # fmt: skip
    return nn.Sequential(*layers, *decoder)


def asking(task: Task, queries: int, rounds: int) -> dict[str, Any]:
    """Some queries in a row each way, and the next way, again and again; whole answers."""
    ways: dict[str, dict[str, Any]] = {
        "chosen": CHOSEN, "quick": QUICK, "wide": WIDE, "published": CHOSEN | PUBLISHED,
    }  # fmt: skip
    heads = {name: teach(task, task.train, **options) for name, options in ways.items()}
    cells = len(heads["chosen"]._layout().cells.levels[-1])  # noqa: SLF001 - what is compared
    for name, many in (("flat_100k_cells", 100_000), ("flat_all_cells", None)):
        heads[name] = baselines.flat_search(task.train, len(task.labels), many)
    asked = [task.test.pyramids[row] for row in spread(len(task.test), queries)]
    times: dict[str, list[float]] = {name: [] for name in heads}
    for _ in range(rounds):
        for name, head in heads.items():
            ask = head.answer if name.startswith("flat") else lambda each, h=head: h.answer([each])
            # A memory that is asked again and again is in the caches: the first only warms them.
            ask(asked[0])
            times[name] += [seconds(lambda each=each, ask=ask: ask(each)) for each in asked]
    medians = {f"{name}_seconds": statistics.median(each) for name, each in times.items()}
    ratios = {
        f"{flat}_over_{ours}": statistics.median(
            a / b for a, b in zip(times[flat], times[ours], strict=True)
        )
        for flat in ("flat_all_cells", "flat_100k_cells")
        for ours in ways
    }
    about = {"samples": len(task.train), "queries": queries, "rounds": rounds, "cells": cells}
    return {**about, "settings": ways, **medians, **ratios}


def augmented(task: Task, taught: int, count: int, rng: np.random.Generator) -> Samples:
    """Random quarters of real frames, on all levels the same, plus noise."""
    pyramids, masks = [], []
    for at in range(taught, taught + count):
        levels, mask = (
            task.train.pyramids[at % len(task.train)],
            task.train.truth[at % len(task.train)],
        )
        at_share = rng.random(2)
        cut = []
        for level in levels:
            height, width = (side // 2 for side in level.shape[:2])
            top, left = (int(s * (n - n // 2)) for s, n in zip(at_share, level.shape, strict=False))
            part = level[top : top + height, left : left + width]
            cut.append(part + rng.normal(size=part.shape).astype(np.float16) * 0.1)
        pyramids.append(cut)
        masks.append(mask[::8, ::8])  # all of it: what is labelled does not change the cost
    return Samples(pyramids, masks, [""] * count)


def growth(task: Task, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Cost against the number of samples, with and without the pre-filter; two sparse levels."""
    rng = np.random.default_rng(0)
    options = CHOSEN | {"sparse_levels": 2, "precision": "float16"}
    lines, head = [], DenseMemorySegmenter(ignore=task.ignore, **options)
    taught, spent = 0, 0.0
    for size in sizes:
        while taught < size:
            part = augmented(task, taught, min(50, size - taught), rng)
            spent += seconds(lambda part=part: head.partial_fit(part.pyramids, part.truth))
            taught += len(part)
        spent += seconds(lambda: head.classes_)
        line: dict[str, Any] = {"samples": size, "teaching_seconds": spent}
        line["coarse_cells"] = len(head._layout().cells.levels[0])  # noqa: SLF001
        asked = [task.test.pyramids[row] for row in spread(len(task.test), 5)]
        for name, way in WAYS.items():
            head.set_params(**way)
            head.answer(asked[:1])
            line[name] = statistics.median(seconds(lambda a=a: head.answer([a])) for a in asked)
        lines.append(line)
        print(line, flush=True)
    return {"lines": lines}


def capped(task: Task, caps: tuple[int, ...]) -> dict[str, Any]:
    """The most that Python allocated during one search, beside the cells, for several caps."""
    lines = []
    for cap in caps:
        head = teach(task, task.train.take(range(min(100, len(task.train)))), memory_cap=cap)
        levels = task.test.pyramids[0]
        head.answer([levels])
        tracemalloc.start()
        head.answer([levels])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        lines.append({"cap_bytes": cap, "peak_bytes": peak})
    return {"lines": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("RECOLLECT_DATA", "."))
    parser.add_argument("--models", type=Path, default=os.environ.get("RECOLLECT_MODELS", "."))
    parser.add_argument("--samples", type=int, help="frames taught; all without")
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="largest memory of the sweep")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor, all threads")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.cpu:
        global clock  # noqa: PLW0603 - one clock for all parts
        clock = time.process_time
    begun = time.perf_counter()
    task = camvid(Path(options.data), Path(options.models))
    opened = time.perf_counter() - begun
    if options.samples:
        some = task.train.take(spread(len(task.train), options.samples))
        task = Task(task.name, task.words, task.kind, task.labels, task.ignore, some, task.held,
                    task.validation, task.test)  # fmt: skip
    parts: dict[str, Callable[[], Any]] = {
        "features": lambda: features(Path(options.data), Path(options.models), options.rounds),
        "adding": lambda: adding(task, 5 * options.rounds),
        "fitting": lambda: fitting(task),
        "end_to_end": lambda: end_to_end(task),
        "asking": lambda: asking(task, options.queries, options.rounds),
        "growth": lambda: growth(task, tuple(s for s in SIZES if s <= options.most)),
        "capped": lambda: capped(task, (64 << 20, 256 << 20, 1 << 30)),
    }
    report: dict[str, Any] = {}
    if options.json and options.json.is_file():
        report = json.loads(options.json.read_text())
    report["opening_seconds"] = opened
    for name, part in parts.items():
        if options.only in {None, name}:
            report[name] = part()
            report[name]["load"] = round(os.getloadavg()[0], 1)
            report[name]["clock"] = "processor" if options.cpu else "wall"
            print(f"{name}: {json.dumps(report[name], indent=1)}", flush=True)
    report["ratios"], report["cores"] = ratios(report), os.cpu_count()
    report["threads"] = default_cores()
    report["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
