"""How fast a table answers beside its network: `python benchmarks/lookup.py --json out.json`.

Images per second of the torch network, of the table flat and by tree, of packed against unpacked
comparison, and of the compiled header, in one process, alternating; ratios are to torch in the
same run: the whole network with its glimpses, and its layers alone. Images are random strokes, the
network is untrained: time does not depend on what it has learned, only on how many rows there are.

The header answers one image after the other, whatever the batch. At batch 1 the call from Python
(ctypes) is part of its time; "inside C" is what a C program that loops over images has: the time of
the loop over a batch divided by its images, beside torch at batch 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recollect.heads.lookup.glimpse import glimpse, integral
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.native import NativeLookup
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.recurrent_attention import RecurrentAttention
from recollect.heads.lookup.table import make_table
from recollect.heads.lookup.teaching import answering, run_images
from recollect.heads.lookup.words import Words


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def strokes(count: int, side: int) -> np.ndarray:
    """Bright lines from place to place, blurred: about as full as handwritten digits."""
    random = np.random.default_rng(0)
    images = np.zeros((count, side, side))
    for _ in range(3):
        begin, end = random.uniform(4, side - 5, (2, count, 2))
        for part in np.linspace(0, 1, 24):
            at = np.rint(begin + part * (end - begin)).astype(int)
            for down in (0, 1):
                images[np.arange(count), at[:, 0] + down, at[:, 1]] = 255
    return images.astype(np.uint8)


def torch_model(network: Network) -> RecurrentAttention:
    model = RecurrentAttention(network.layout)
    state = {name: torch.from_numpy(block).float() for name, block in network.weights.items()}
    model.load_state_dict(state, strict=False)
    return model.eval()


def by_torch(model: RecurrentAttention, images: np.ndarray) -> None:
    """The network as it answers images: look, step, locate, five times."""
    layout, n = model.layout, len(images)
    levels = (1 << layout.phi_bits) - 1
    with torch.no_grad():
        sums = integral(images)
        state = torch.zeros(n, layout.state)
        pixel = torch.tensor(layout.start).repeat(n, 1)
        for _ in range(layout.glimpses):
            phi = torch.from_numpy(glimpse(sums, pixel.numpy(), layout)).float() / levels
            state = model.round_state(model.step(state, 2 * pixel / layout.side - 1, phi))
            pixel = model.pixel(model.locate(state))
        model.act(state).argmax(1)


def by_torch_alone(model: RecurrentAttention, layout: Layout, batch: int) -> Callable[[], None]:
    """The network without its eye: what torch itself takes."""
    phi, place = torch.rand(batch, layout.phi), torch.zeros(batch, 2)

    def call() -> None:
        with torch.no_grad():
            state = torch.zeros(batch, layout.state)
            for _ in range(layout.glimpses):
                state = model.round_state(model.step(state, place, phi))
                model.locate(state)
            model.act(state).argmax(1)

    return call


def measure(
    calls: dict[str, Callable[[], object]], batch: int, rounds: int
) -> list[dict[str, Any]]:
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    base, bare = times["torch network"], times["torch network, without glimpses"]
    return [
        {
            "batch": batch,
            "what": name,
            "images_per_second": batch / statistics.median(spent),
            "ratio": statistics.median(b / s for b, s in zip(base, spent, strict=True)),
            "ratio_without_glimpses": statistics.median(
                b / s for b, s in zip(bare, spent, strict=True)
            ),
        }
        for name, spent in times.items()
    ]


def packed_against_unpacked(made: LookupPredictor, rounds: int) -> dict[str, float]:
    keys, coder = made.table.keys[made.table.part(0)], Words(made.costs)
    columns, query = made.costs.columns, keys[:1]
    words, asked = coder.write(keys), coder.write(query)[0]

    def unpacked() -> None:
        (np.abs(keys.astype(np.int16) - query) @ columns).argmin()

    def packed() -> None:
        coder.between(words, asked).argmin()

    packed()
    pairs = [(seconds(unpacked), seconds(packed)) for _ in range(rounds)]
    return {
        "rows": len(keys),
        "unpacked_ms": 1e3 * statistics.median(pair[0] for pair in pairs),
        "packed_ms": 1e3 * statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(slow / fast for slow, fast in pairs),
    }


def prepare(options: argparse.Namespace) -> tuple[LookupPredictor, np.ndarray, Any, Network]:
    """Return the table of all rows, images to ask, their labels if known, and the network."""
    truth = None
    if options.mnist:
        with np.load(options.mnist, allow_pickle=False) as arrays:
            images, labels = (arrays[name][: options.images] for name in ("x_train", "y_train"))
            asked, truth = arrays["x_test"], arrays["y_test"][: options.batch]
    else:
        images, labels = strokes(options.images + options.batch, 28), None
        images, asked = images[: options.images], images[options.images :]
    layout = Layout(side=28, cells=(2, 3, 4), high=160.0)
    network = (
        Network.load(options.network) if options.network else RecurrentAttention(layout).network()
    )
    table = make_table(answering(run_images(network, images), labels), per_step=True)
    flat = LookupPredictor(
        network.layout, table, network.labels, tuple(options.weights), options.k, vote=options.vote
    )
    return flat, asked, truth, network


def with_tree(options: argparse.Namespace) -> tuple[LookupPredictor, np.ndarray, Any, Network]:
    """Return what ``prepare`` does, with the tree grown; read from a file where one is kept."""
    if options.table and options.table.is_file() and options.network and options.mnist:
        kept = LookupPredictor.load(options.table)
        if kept.weights != tuple(options.weights):
            raise SystemExit(f"{options.table} was made with the weights {kept.weights}")
        kept = replace(kept, beam=options.beam, slack=options.slack, k=options.k, vote=options.vote)
        with np.load(options.mnist, allow_pickle=False) as arrays:
            return (
                kept, arrays["x_test"], arrays["y_test"][: options.batch],
                Network.load(options.network),
            )  # fmt: skip
    flat, asked, truth, network = prepare(options)
    tree = replace(flat, beam=options.beam, slack=options.slack)
    tree = replace(tree, trees=tree.grown)
    if options.table:
        tree.save(options.table)
    return tree, asked, truth, network


def inside_c(results: list[dict[str, Any]], batch: int) -> dict[str, float]:
    """Images per second of the header alone, as a ratio to torch at batch 1."""
    speed = {(line["batch"], line["what"]): line["images_per_second"] for line in results}
    base = speed[1, "torch network"]
    return {
        what: rate / base for (size, what), rate in speed.items()
        if size == batch and what.startswith("compiled")
    }  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000, help="recorded images")
    parser.add_argument("--network", type=Path, help="a trained network instead of a random one")
    parser.add_argument("--table", type=Path, help="keeps table and tree; measured alone if there")
    parser.add_argument("--mnist", type=Path, help="mnist.npz instead of random strokes")
    parser.add_argument("--weights", type=float, nargs=3, default=[3.0, 1.0, 0.5])
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--slack", type=int, default=None)
    parser.add_argument("--k", type=int, default=1)
    parser.add_argument("--vote", default="last")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def race(
    options: argparse.Namespace, asked: np.ndarray, network: Network,
    made: dict[str, LookupPredictor], fast: dict[str, NativeLookup],
) -> list[dict[str, Any]]:  # fmt: skip
    """Measure every way to answer, one image at a time and in a batch."""
    model, results = torch_model(network), []
    for batch in (1, options.batch):
        some = asked[:batch]
        calls: dict[str, Callable[[], object]] = {
            "torch network, without glimpses": by_torch_alone(model, network.layout, batch),
            "torch network": lambda some=some: by_torch(model, some),
            "packed tree": lambda some=some: made["tree"].predict(some),
            "packed flat": lambda some=some: made["flat"].predict(some),
            **{
                name: lambda some=some, native=native: native.codes(some)
                for name, native in fast.items()
            },
        }
        results += measure(calls, batch, options.rounds * (10 if batch == 1 else 1))
    return results


def show(report: dict[str, Any]) -> None:
    print(f"{'batch':>6}  {'what':34} {'images/s':>12} {'ratio':>8} {'bare':>8}")
    for line in report["results"]:
        print(
            f"{line['batch']:6}  {line['what']:34} {line['images_per_second']:12,.0f} "
            f"{line['ratio']:8.2f} {line['ratio_without_glimpses']:8.2f}"
        )
    for name, value in report.items():
        if name not in {"options", "results", "bytes_touched"}:
            print(f"{name}: {value}")


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    begun = time.perf_counter()
    tree, asked, truth, network = with_tree(options)
    prepared = time.perf_counter() - begun
    flat, narrow = replace(tree, beam=None, slack=None), replace(tree, beam=1, slack=None)
    made = {"flat": flat, "tree": tree, "tree of one way": narrow}
    begun = time.perf_counter()
    fast = {
        "compiled, tree": NativeLookup(tree), "compiled, tree of one way": NativeLookup(narrow),
    }  # fmt: skip
    compiled = time.perf_counter() - begun
    results = race(options, asked, network, made, fast)
    compared = {
        name: float(one.trail(asked[:200]).comparisons.sum(axis=1).mean())
        for name, one in made.items()
    }
    key = network.layout.key_bits / 8
    sizes = {name: native.sizes for name, native in fast.items()}
    report = {
        "options": vars(options), "load": os.getloadavg(), "results": results,
        "inside_c": inside_c(results, options.batch), "rows": len(flat.table),
        "prepare_seconds": prepared, "compile_seconds": compiled,
        "comparisons": compared, "bytes_touched": {n: c * key for n, c in compared.items()},
        "packed": packed_against_unpacked(flat, options.rounds), "sizes": sizes,
        "code": {n: s["library"] - s["table"] - s["tree"] for n, s in sizes.items()},
    }  # fmt: skip
    if options.mnist and options.network:
        report["accuracy"] = {
            name: float((one.predict(asked[: options.batch]) == truth).mean())
            for name, one in made.items()
        }
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, default=str, indent=1))


if __name__ == "__main__":
    main()
