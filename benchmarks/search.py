"""Exact search beside faiss-cpu IndexFlatIP and scikit-learn brute force, in one process.

    python benchmarks/search.py --rows 100000 --dim 384 -k 20 --batches 1 32 1000 --json out.json

Each round asks every engine in turn, so that a change in the machine's load meets all of them; the
order is turned by one from round to round. Between two engines there is a pause, because their
worker threads keep a core busy for a while after a call. Times are medians over the rounds, a
ratio is the median of the ratios of the single rounds (above 1: we are faster). Before it measures,
the script checks that the engines agree.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from recollect.index.exact import ExactIndex

Answer = tuple[np.ndarray, np.ndarray]
Engine = Callable[[np.ndarray], Answer]


def make_rows(rows: int, dim: int, queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of unequal size around random centers, normalized; queries lie near rows."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((1000, dim), dtype=np.float32)
    sizes = rng.pareto(1.5, 1000) + 0.1
    keys = centers[rng.choice(1000, rows, p=sizes / sizes.sum())]
    keys += 0.7 * rng.standard_normal(keys.shape, dtype=np.float32)
    asked = keys[rng.integers(0, rows, queries)]
    asked += 0.3 * rng.standard_normal(asked.shape, dtype=np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return keys, asked


def make_engines(keys: np.ndarray, k: int) -> dict[str, Engine]:
    import faiss
    from sklearn.neighbors import NearestNeighbors

    index = ExactIndex(keys.shape[1])
    index.attach(np.arange(len(keys)), keys)
    flat = faiss.IndexFlatIP(keys.shape[1])
    flat.add(keys)
    brute = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(keys)

    def ask_faiss(queries: np.ndarray) -> Answer:
        similarity, ids = flat.search(queries, k)
        return ids, similarity

    def ask_sklearn(queries: np.ndarray) -> Answer:
        distance, ids = brute.kneighbors(queries)
        return ids, 1.0 - distance

    return {
        "recollect": lambda queries: index.search(queries, k),
        "faiss": ask_faiss,
        "sklearn": ask_sklearn,
    }


def check(engines: dict[str, Engine], queries: np.ndarray) -> None:
    """Stop if an engine finds anything nearer or farther than the others do."""
    _, expected = engines["recollect"](queries)
    for name, ask in engines.items():
        _, similarity = ask(queries)
        worst = float(np.abs(similarity - expected).max())
        if worst > 1e-5:
            sys.exit(f"{name} differs by {worst} in similarity")


def measure(
    engines: dict[str, Engine], queries: np.ndarray, rounds: int, pause: float
) -> dict[str, list[float]]:
    """Return seconds per call, one number a round, by engine."""
    names = list(engines)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            start = time.perf_counter()
            engines[name](queries)
            if number >= 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def summarize(seconds: dict[str, list[float]]) -> dict[str, Any]:
    ours = seconds["recollect"]
    return {
        name: {
            "median_ms": 1e3 * statistics.median(times),
            "min_ms": 1e3 * min(times),
            "ratio": statistics.median(b / a for a, b in zip(ours, times, strict=True)),
        }
        for name, times in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Exact search against faiss and scikit-learn.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 1000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two engines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    args = parser.parse_args()

    keys, queries = make_rows(args.rows, args.dim, max(args.batches), args.seed)
    engines = make_engines(keys, args.k)
    check(engines, queries[:10])
    results = {}
    print(f"{args.rows} rows, width {args.dim}, k = {args.k}, {args.rounds} rounds")
    print(f"{'batch':>6} {'engine':<10} {'median ms':>10} {'min ms':>10} {'x recollect':>12}")
    for batch in args.batches:
        results[batch] = summarize(measure(engines, queries[:batch], args.rounds, args.pause))
        for name, row in results[batch].items():
            print(
                f"{batch:>6} {name:<10} {row['median_ms']:>10.2f} {row['min_ms']:>10.2f}"
                f" {row['ratio']:>12.2f}"
            )
    if args.json:
        packages = ("numpy", "faiss-cpu", "scikit-learn")
        report = {
            "arguments": {name: value for name, value in vars(args).items() if name != "json"},
            "machine": {"cpu": platform.processor(), "cores": os.cpu_count()},
            "python": platform.python_version(),
            "versions": {name: version(name) for name in packages},
            "batches": results,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
