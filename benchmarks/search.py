"""Exact search beside other libraries, in one process, with the machine's limits of the same run.

    python benchmarks/search.py --rows 100000 --dim 384 --json benchmarks/results/search.json
    python benchmarks/search.py --data cifar10 --rows 50000 --json out.json
    python benchmarks/search.py --sweep benchmarks/results/search.png

Each round asks every engine in turn, so that a change in the machine's load meets all of them; the
order is turned by one from round to round. Between two engines there is a pause, because their
worker threads keep a core busy for a while after a call. Times are medians over the rounds, a
ratio is the median of the ratios of the single rounds (above 1: we are faster). Before it measures,
the script checks that the exact engines agree. Engines that are not installed are named as such.

The limits: ``read`` is the speed at which all cores together read memory; ``sgemm`` and ``int8``
are the speeds of large products of float32 (NumPy) and int8 (torch). ``of_limit`` is the share of
the nearer limit that our search reaches: int8 codes read once, or int8 products.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from alternating import CLOCKS, measure, median_ratio

from recollect import MemoryClassifier
from recollect.index.exact import ExactIndex
from recollect.index.paths import choose

Answer = tuple[np.ndarray, np.ndarray]
Engine = Callable[[np.ndarray, int], Answer]
TOLERANCE = 1e-5
LABELS = 100
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# -- data ---------------------------------------------------------------------------------------


def make_rows(rows: int, dim: int, queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of unequal size around random centers, normalized; queries lie near rows."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((1000, dim), dtype=np.float32)
    sizes = rng.pareto(1.5, 1000) + 0.1
    keys = centers[rng.choice(1000, rows, p=sizes / sizes.sum())]
    keys += 0.7 * rng.standard_normal(keys.shape, dtype=np.float32)
    asked = keys[rng.integers(0, rows, queries)]
    asked += 0.3 * rng.standard_normal(asked.shape, dtype=np.float32)
    return normalized(keys), normalized(asked)


def normalized(vectors: np.ndarray) -> np.ndarray:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def read_features(name: str, rows: int, queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """MobileNetV2 features of pictures, or MiniLM features of all texts, from the cache."""
    from recollect.evaluation import datasets

    data, models = (Path(os.environ[f"RECOLLECT_{what}"]) for what in ("DATA", "MODELS"))
    if name == "texts":
        encoder = datasets.minilm(models)
        sets = {"banking77": "label", "trec": "coarse"}
        parts = {
            split: [
                datasets.encoded(encoder, datasets.read_texts(data, one, split, label=label).inputs)
                for one, label in sets.items()
            ]
            for split in ("train", "test")
        }
        keys, asked = (np.concatenate(parts[split]) for split in ("train", "test"))
    else:
        encoder = datasets.mobilenet(models)
        keys, asked = (
            datasets.encoded(encoder, datasets.read_images(data, name, split).inputs)
            for split in ("train", "test")
        )
    order = np.random.default_rng(seed).permutation(len(asked))[:queries]
    return normalized(keys[:rows].copy()), normalized(asked[order])


# -- engines ------------------------------------------------------------------------------------


def ours(keys: np.ndarray, path: str) -> Engine:
    index = ExactIndex(keys.shape[1], path=path)
    index.attach(np.arange(len(keys)), keys)
    return index.search


def make_faiss(keys: np.ndarray) -> Engine:
    import faiss

    flat = faiss.IndexFlatIP(keys.shape[1])
    flat.add(keys)
    return lambda queries, k: flat.search(queries, k)[::-1]


def make_sklearn(keys: np.ndarray) -> Engine:
    from sklearn.neighbors import NearestNeighbors

    brute = NearestNeighbors(algorithm="brute", metric="cosine").fit(keys)

    def ask(queries: np.ndarray, k: int) -> Answer:
        distance, ids = brute.kneighbors(queries, k)
        return ids, 1.0 - distance

    return ask


def make_torch(keys: np.ndarray) -> Engine:
    """Matrix product and topk: the recipe by which DINO is evaluated."""
    import torch

    table = torch.from_numpy(keys).t()

    def ask(queries: np.ndarray, k: int) -> Answer:
        similarity, ids = (torch.from_numpy(queries) @ table).topk(k, dim=1)
        return ids.numpy(), similarity.numpy()

    return ask


def make_usearch(keys: np.ndarray) -> Engine:
    from usearch.index import MetricKind, search

    def ask(queries: np.ndarray, k: int) -> Answer:
        found = search(keys, queries, k, MetricKind.IP, exact=True, threads=CORES)
        shape = (len(queries), -1)
        return found.keys.reshape(shape), 1.0 - found.distances.reshape(shape)

    return ask


def make_scann(keys: np.ndarray) -> Engine:
    import scann

    brute = scann.scann_ops_pybind.builder(keys, 10, "dot_product").score_brute_force().build()
    return lambda queries, k: brute.search_batched_parallel(queries, final_num_neighbors=k)


RIVALS: dict[str, Callable[[np.ndarray], Engine]] = {
    "faiss": make_faiss,
    "sklearn": make_sklearn,
    "torch": make_torch,
    "usearch": make_usearch,
    "scann": make_scann,
}


def make_engines(keys: np.ndarray, wanted: list[str]) -> tuple[dict[str, Engine], dict[str, str]]:
    """Build every engine that is installed; the others with the reason why not."""
    engines, missing = {"recollect": ours(keys, "auto")}, {}
    for name in ("numpy", "torch-int8"):
        if name in wanted:
            engines[name] = ours(keys, name.removesuffix("-int8"))
    for name, make in RIVALS.items():
        if name in wanted:
            try:
                engines[name] = make(keys)
            except ImportError as problem:
                missing[name] = str(problem)
    return engines, missing


def check(engines: dict[str, Engine], queries: np.ndarray, k: int) -> None:
    """Stop if an engine finds anything nearer or farther than the others do."""
    _, expected = engines["recollect"](queries, k)
    for name, ask in engines.items():
        _, similarity = ask(queries, k)
        worst = float(np.abs(similarity - expected).max())
        if worst > TOLERANCE:
            sys.exit(f"{name} differs by {worst} in similarity")


# -- measuring ----------------------------------------------------------------------------------


def summarize(seconds: dict[str, list[float]], base: str) -> dict[str, Any]:
    first = seconds[base]
    return {
        name: {
            "median_ms": 1e3 * statistics.median(times),
            "min_ms": 1e3 * min(times),
            "ratio": median_ratio(times, first),
        }
        for name, times in seconds.items()
    }


def best_of(call: Callable[[], Any], times: int = 7) -> float:
    call()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def limits() -> dict[str, float]:
    """Measure what the machine can do: GB/s read, 10^9 multiplications a second."""
    side, size = 2048, 1 << 28
    block = np.ones(size // 4, np.int32)
    parts = np.array_split(block, CORES)
    with ThreadPoolExecutor(CORES) as pool:
        read = best_of(lambda: list(pool.map(np.max, parts)))
    left = np.ones((side, side), np.float32)
    found = {
        "read_gb_s": size / read / 1e9,
        "sgemm_gmac_s": side**3 / best_of(lambda: left @ left) / 1e9,
    }
    try:
        import torch

        whole = torch.ones((side, side), dtype=torch.int8)
        times = best_of(lambda: torch._int_mm(whole, whole.t()))  # noqa: SLF001
        found["int8_gmac_s"] = side**3 / times / 1e9
    except (ImportError, RuntimeError, AttributeError):
        pass
    return found


def share_of_limit(
    seconds: float, rows: int, dim: int, batch: int, peak: dict[str, float]
) -> float:
    """Compare with the least time in which the codes can be read, or multiplied."""
    read = rows * dim / peak["read_gb_s"] / 1e9
    multiply = rows * dim * batch / peak.get("int8_gmac_s", np.inf) / 1e9
    return max(read, multiply) / seconds


def run(args: argparse.Namespace) -> dict[str, Any]:
    keys, queries = (
        make_rows(args.rows, args.dim, max(args.batches), args.seed)
        if args.data == "synthetic"
        else read_features(args.data, args.rows, max(args.batches), args.seed)
    )
    rows, dim = keys.shape
    engines, missing = make_engines(keys, args.engines)
    check(engines, queries[:10], max(args.k))
    peak = limits()
    print(f"{rows} rows, width {dim}, {args.rounds} rounds, load {os.getloadavg()[0]:.1f};", peak)
    print(f"{'batch':>6} {'k':>4} {'engine':<11} {'median ms':>10} {'min ms':>10} {'x ours':>8}")
    results = []
    for batch in args.batches:
        for k in args.k:
            calls = {name: partial(ask, queries[:batch], k) for name, ask in engines.items()}
            found = summarize(measure(calls, args.rounds, args.pause, args.clock), "recollect")
            seconds = found["recollect"]["min_ms"] / 1e3
            share = share_of_limit(seconds, rows, dim, batch, peak)
            results.append({"batch": batch, "k": k, "of_limit": share, "engines": found})
            for name, row in found.items():
                told = f"{row['median_ms']:>10.2f} {row['min_ms']:>10.2f} {row['ratio']:>8.2f}"
                print(f"{batch:>6} {k:>4} {name:<11} {told}", flush=True)
            print(f"{'':>11} of the limit: {share:.2f}", flush=True)
    return {
        "rows": rows, "dim": dim, "path": choose().path, "limits": peak, "missing": missing,
        "results": results, "predict": predict(args, keys, queries),
    }  # fmt: skip


def predict(args: argparse.Namespace, keys: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
    """Time a whole answer, rank vote over 100 labels, beside the index alone; k = 20."""
    labels = np.random.default_rng(args.seed).integers(0, LABELS, len(keys))
    head = MemoryClassifier(k=20).fit(keys, labels)
    alone = ours(keys, "auto")
    found = {}
    for batch in args.batches:
        asked = queries[:batch]
        calls = {"search": partial(alone, asked, 20), "predict": partial(head.predict, asked)}
        found[str(batch)] = summarize(measure(calls, args.rounds, args.pause, args.clock), "search")
        print(f"predict, batch {batch}: {found[str(batch)]['predict']['ratio']:.3f} x search alone")
    return found


# -- curves -------------------------------------------------------------------------------------


def sweep(args: argparse.Namespace) -> dict[str, Any]:
    """Time us and faiss over rows, batch sizes and k, one varied at a time."""
    base = {"rows": args.rows, "batch": 32, "k": 10}
    grid = {
        "rows": [args.rows // 32, args.rows // 8, args.rows // 2, args.rows],
        "batch": [1, 4, 16, 64, 256, 1000],
        "k": [1, 10, 100, 1000],
    }
    keys, queries = make_rows(args.rows, args.dim, 1000, args.seed)
    curves: dict[str, Any] = {}
    for name, values in grid.items():
        curves[name] = []
        for value in values:
            point = base | {name: value}
            engines, _ = make_engines(keys[: point["rows"]], ["faiss"])
            calls = {
                which: partial(ask, queries[: point["batch"]], point["k"])
                for which, ask in engines.items()
            }
            found = summarize(measure(calls, args.rounds, args.pause, args.clock), "recollect")
            curves[name].append({"at": value, **{e: r["median_ms"] for e, r in found.items()}})
            print(name, curves[name][-1], flush=True)
    return curves


def draw(curves: dict[str, Any], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, 3), curves.items(), strict=True):
        for engine, color in (("faiss", "#E69F00"), ("recollect", "#0072B2")):
            at, times = [p["at"] for p in points], [p[engine] for p in points]
            axes.loglog(at, times, "o-", color=color, label=engine)
        axes.set_xlabel({"rows": "rows", "batch": "queries at once", "k": "neighbors, k"}[name])
        axes.grid(visible=True, alpha=0.3)
    figure.axes[0].set_ylabel("milliseconds")
    figure.axes[0].legend(frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def versions() -> dict[str, str]:
    found = {}
    for name in ("numpy", "torch", "faiss-cpu", "scikit-learn", "usearch", "scann"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Exact search against other libraries.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384, help="of synthetic rows")
    parser.add_argument("--data", default="synthetic", help="or texts, cifar10, ...")
    parser.add_argument("-k", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 1000])
    parser.add_argument(
        "--engines", nargs="*", default=["numpy", "torch-int8", *RIVALS], help="beside ours"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two engines")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of all threads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--sweep", type=Path, help="draw time over rows, batch and k instead")
    args = parser.parse_args()

    load = os.getloadavg()[0]
    facts = {"curves": sweep(args)} if args.sweep else run(args)
    if args.sweep:
        draw(facts["curves"], args.sweep)
    if args.json:
        report = {
            "arguments": {name: str(value) for name, value in vars(args).items()},
            "machine": {"cpu": platform.processor(), "cores": CORES, "load": load},
            "python": platform.python_version(),
            "versions": versions(),
            **facts,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
