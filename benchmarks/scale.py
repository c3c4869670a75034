"""Large memories: search by lists beside others, opening, removing, and more than RAM holds.

    python benchmarks/scale.py approximate --rows 1000000 --json out.json
    python benchmarks/scale.py approximate --rows 200000 --against faiss-flat faiss-8bit hnswlib
    python benchmarks/scale.py approximate --data tiny-imagenet-100 --rows 50000
    python benchmarks/scale.py memory --rows 1000000 --place FOLDER
    python benchmarks/scale.py large --rows 10000000 --place FOLDER --dtype float16

Rows are clusters of unequal size around random centers, each cluster spread along 12 shared
directions with a little noise in all others, normalized; queries are such rows. `--data` takes
features of real pictures or texts from the cache of encodings instead. `approximate` asks
every engine in turn in each round, in one process: times are medians over the rounds, a ratio
is the median of the ratios of the rounds (above 1: we are faster). Raw faiss searches the same
lists as deep as ours does. Rivals are tuned on the queries to reach the recall that ours
has there; ours is tuned on the rows alone. `memory` opens and removes in processes of their own.
`large` can be stopped and begun again: what FOLDER holds is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from alternating import CLOCKS
from search import read_features

import recollect as rc
from recollect.index.approximate import ApproximateIndex
from recollect.index.exact import ExactIndex

DIM = 384
CHUNK = 50_000
Engine = Callable[[np.ndarray], np.ndarray]


class Rows:
    """Rows that are made again from a seed, a chunk at a time."""

    def __init__(self, rows: int, seed: int = 0, directions: int = 12) -> None:
        rng = np.random.default_rng(seed)
        clusters = max(50, rows // 1000)
        self.centers = rng.standard_normal((clusters, DIM), dtype=np.float32)
        self.basis = rng.standard_normal((directions, DIM), dtype=np.float32) / np.float32(
            np.sqrt(directions)
        )
        sizes = rng.pareto(1.5, clusters) + 0.5
        self.shares, self.seed = sizes / sizes.sum(), seed

    def chunk(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and clusters of rows ``number * CHUNK`` and on."""
        rng = np.random.default_rng((self.seed, number))
        who = rng.choice(len(self.centers), CHUNK, p=self.shares)
        keys = self.centers[who]
        along = rng.standard_normal((CHUNK, len(self.basis)), dtype=np.float32)
        keys = keys + np.float32(0.5) * (along @ self.basis)
        keys += np.float32(0.1) * rng.standard_normal(keys.shape, dtype=np.float32)
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        return keys, who

    def chunks(self, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All chunks; the last one may be cut."""
        for number in range(-(-rows // CHUNK)):
            keys, who = self.chunk(number)
            yield keys[: rows - number * CHUNK], who[: rows - number * CHUNK]

    def queries(self, count: int) -> np.ndarray:
        """Rows of a chunk that is not taught, with noise."""
        rng = np.random.default_rng((self.seed, 1 << 20))
        keys = self.chunk(1 << 16)[0][:count]
        keys = keys + np.float32(0.02) * rng.standard_normal(keys.shape, dtype=np.float32)
        return keys / np.linalg.norm(keys, axis=1, keepdims=True)


def alternate(
    engines: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each engine, one number a round; the order is turned by one each time."""
    names = list(engines)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = clock()
            engines[name]()
            if number >= 0:  # the first round warms up
                seconds[name].append(clock() - start)
    return seconds


def recall(ids: np.ndarray, truth: np.ndarray) -> float:
    return float((truth[:, :, None] == ids[:, None, :]).any(axis=2).mean())


# -- search by lists -------------------------------------------------------------------------------


def build(keys: np.ndarray, args: argparse.Namespace, storage: str) -> ApproximateIndex:
    exact = ExactIndex(keys.shape[1])
    exact.attach(np.arange(len(keys)), keys)
    policy = rc.Approximate(
        args.recall, storage, least=1, lists=args.lists, sample=args.sample, background=False
    )
    index = ApproximateIndex(keys.shape[1], policy=policy, exact=exact)
    index.prepare()
    return index


def raw_faiss(index: ApproximateIndex, k: int) -> Engine:
    """Search by faiss alone, in the same lists to the same depth."""
    import faiss

    lists = index.keeper.trained.lists
    depth = index.status()["lists_searched"]
    raw = lists._many  # noqa: SLF001 - the comparison is with what is inside

    def ask(queries: np.ndarray) -> np.ndarray:
        raw.parallel_mode = 0
        params = faiss.IVFSearchParameters(nprobe=depth)
        found = raw.search(queries, k, params=params)[1]
        raw.parallel_mode = 3
        return found

    return ask


def faiss_engine(
    storage: str, keys: np.ndarray, k: int
) -> tuple[Any, Callable[[int], None], Engine, Engine]:
    """Lists that faiss trains by itself."""
    import faiss

    made = f"IVF{int(4 * np.sqrt(len(keys)))},{'Flat' if storage == 'flat' else 'SQ8'}"
    index = faiss.index_factory(keys.shape[1], made, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 32
    index.train(keys)
    index.add(keys)

    def tune(depth: int) -> None:
        index.nprobe = depth

    def remove(ids: np.ndarray) -> np.ndarray:
        index.remove_ids(faiss.IDSelectorBatch(ids))
        return ids

    return index, tune, lambda queries: index.search(queries, k)[1], remove


def hnswlib_engine(keys: np.ndarray, k: int) -> tuple[Any, Callable[[int], None], Engine, Engine]:
    import hnswlib

    index = hnswlib.Index("ip", keys.shape[1])
    index.init_index(len(keys), M=16, ef_construction=100)
    index.add_items(keys, num_threads=os.cpu_count())
    remove = lambda ids: [index.mark_deleted(int(row)) for row in ids]  # noqa: E731
    return index, index.set_ef, lambda q: index.knn_query(q, k)[0].astype(np.int64), remove


def usearch_engine(keys: np.ndarray, k: int) -> tuple[Any, Callable[[int], None], Engine, Engine]:
    from usearch.index import Index

    index = Index(ndim=keys.shape[1], metric="ip", dtype="f16", connectivity=16, expansion_add=100)
    index.add(np.arange(len(keys)), keys, threads=os.cpu_count())

    def tune(depth: int) -> None:
        index.expansion_search = depth

    def ask(queries: np.ndarray) -> np.ndarray:
        found = index.search(queries, k).keys
        return np.atleast_2d(found).astype(np.int64)

    return index, tune, ask, index.remove


def scann_engine(keys: np.ndarray, k: int) -> tuple[Any, Callable[[int], None], Engine, Engine]:
    import scann

    leaves = int(2 * np.sqrt(len(keys)))
    index = (
        scann.scann_ops_pybind.builder(keys, k, "dot_product")
        .tree(num_leaves=leaves, num_leaves_to_search=1, training_sample_size=100_000)
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(100)
        .build()
    )
    depth = [1]

    def tune(leaves_searched: int) -> None:
        depth[0] = leaves_searched

    def ask(queries: np.ndarray) -> np.ndarray:
        how = {"leaves_to_search": depth[0], "pre_reorder_num_neighbors": 100}
        if len(queries) == 1:
            return index.search(queries[0], **how)[0][None].astype(np.int64)
        return index.search_batched_parallel(queries, **how)[0].astype(np.int64)

    return index, tune, ask, lambda _: None


RIVALS = {
    "faiss-flat": partial(faiss_engine, "flat"),
    "faiss-8bit": partial(faiss_engine, "8bit"),
    "hnswlib": hnswlib_engine,
    "usearch": usearch_engine,
    "scann": scann_engine,
}


def approximate(args: argparse.Namespace) -> dict[str, Any]:
    if args.data == "synthetic":
        source = Rows(args.rows, args.seed)
        keys = np.concatenate([keys for keys, _ in source.chunks(args.rows)])
        queries = source.queries(args.queries)
    else:
        keys, queries = read_features(args.data, args.rows, args.queries, args.seed)
    exact = ExactIndex(keys.shape[1])
    exact.attach(np.arange(len(keys)), keys)
    truth = exact.search(queries, args.k)[0]
    report: dict[str, Any] = {"rows": len(keys), "dim": keys.shape[1]}
    for storage in args.storages:
        start = time.perf_counter()
        index = build(keys, args, storage)
        ours = lambda q, index=index: index.search(q, args.k)[0]  # noqa: E731
        wanted = recall(ours(queries), truth)
        report[storage] = {
            "build_s": time.perf_counter() - start, "status": index.status(), "recall": wanted,
        }  # fmt: skip
        engines: dict[str, Engine] = {"recollect": ours, "faiss": raw_faiss(index, args.k)}
        report[storage]["recall_faiss"] = recall(engines["faiss"](queries), truth)
        report[storage] |= compare(engines, queries, args)
        report[storage]["remove_1000_s"] = removal(index, len(keys))
        for name in args.against:
            report[storage][name] = against(name, keys, truth, ours, wanted, queries, args)
        del index, engines, ours
    return report


def compare(
    engines: dict[str, Engine], queries: np.ndarray, args: argparse.Namespace
) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for batch in args.batches:
        blocks = [queries[at : at + batch] for at in range(0, len(queries), batch)]
        blocks = blocks[: max(1, args.calls // batch)]
        calls = {
            name: (lambda ask=ask, blocks=blocks: [ask(block) for block in blocks])
            for name, ask in engines.items()
        }
        seconds = alternate(calls, args.rounds, CLOCKS[args.clock])
        asked = sum(map(len, blocks))
        report[f"batch {batch}"] = {
            name: {
                "queries_per_s": asked / statistics.median(times),
                "ratio": statistics.median(
                    theirs / mine for mine, theirs in zip(seconds["recollect"], times, strict=True)
                ),
            }
            for name, times in seconds.items()
        }
        print(batch, json.dumps(report[f"batch {batch}"]), flush=True)
    return report


def removal(index: ApproximateIndex, rows: int) -> float:
    """Remove 1,000 rows, delete them from the lists, and put them back."""
    ids = np.arange(7, rows, rows // 1000)[:1000]
    snapshot = index._exact.snapshot  # noqa: SLF001 - to put back what is taken out
    keys, sizes = snapshot.gather(snapshot.locate(ids))
    start = time.perf_counter()
    index.remove(ids)
    index.keeper.purge()
    seconds = time.perf_counter() - start
    index.add(ids, keys, norms=sizes)
    return seconds


def against(
    name: str,
    keys: np.ndarray,
    truth: np.ndarray,
    ours: Engine,
    wanted: float,
    queries: np.ndarray,
    args: argparse.Namespace,
) -> dict[str, Any]:
    start = time.perf_counter()
    index, tune, ask, remove = RIVALS[name](keys, args.k)
    report: dict[str, Any] = {"build_s": time.perf_counter() - start}
    reached, depth = 0.0, 1 if "faiss" in name else args.k
    while reached < min(wanted, args.recall) and depth < 4096:
        depth = int(depth * 1.3) + 1
        tune(depth)
        reached = recall(ask(queries), truth)
    report |= {
        "depth": depth,
        "recall": reached,
        "version": version("faiss-cpu" if "faiss" in name else name),
    }
    report |= compare({"recollect": ours, name: ask}, queries, args)
    start = time.perf_counter()
    remove(np.arange(7, len(keys), len(keys) // 1000)[:1000])
    report["remove_1000_s"] = time.perf_counter() - start
    if name == "scann":
        report["remove_1000_s"] = "none: it must be built anew"
    print(name, json.dumps(report), flush=True)
    del index
    return report


# -- a memory on disk ------------------------------------------------------------------------------

OPEN = """
import sys, time
import numpy as np
from recollect import Memory
query = np.random.default_rng(1).standard_normal((1, int(sys.argv[2]))).astype(np.float32)
start = time.perf_counter()
memory = Memory.open(sys.argv[1], read_only=True, search=sys.argv[3])
opened = time.perf_counter()
memory.search(query, 20)
answered = time.perf_counter()
print(opened - start, answered - start)
"""


def teach(args: argparse.Namespace) -> dict[str, Any]:
    """Fill the folder, from where an earlier run stopped."""
    place = args.place / "memory"
    source, seconds, rows = Rows(args.rows, args.seed), 0.0, 0
    if place.exists():
        memory = rc.Memory.open(place, check=False)
    else:
        memory = rc.Memory.create(place, dim=DIM, dtype=args.dtype)
    with memory:
        first = len(memory) // CHUNK
        stop = min(args.rows, len(memory) + args.at_most) // CHUNK
        for number in range(first, stop):
            keys, who = source.chunk(number)
            labels = [f"c{cluster % 1000}" for cluster in who.tolist()]
            start = time.perf_counter()
            memory.add(keys, labels)
            seconds += time.perf_counter() - start
            rows += len(keys)
        done = len(memory)
        start = time.perf_counter()
    report = {"rows": done, "close_s": time.perf_counter() - start}
    return report | ({"add_rows_per_s": rows / seconds} if rows else {})


def opened(place: Path, search: str, rounds: int) -> dict[str, float]:
    times = []
    for _ in range(rounds):
        call = [sys.executable, "-c", OPEN, str(place), str(DIM), search]
        done = subprocess.run(call, check=True, capture_output=True, text=True)
        times.append([float(part) for part in done.stdout.split()])
    return {
        "open_ms": 1e3 * statistics.median(open_s for open_s, _ in times),
        "open_and_first_answer_ms": 1e3 * statistics.median(first for _, first in times),
        "best_ms": 1e3 * min(first for _, first in times),
    }


def memory(args: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {"teach": teach(args)}
    place = args.place / "memory"
    report["opening"] = {"cached": opened(place, "exact", args.rounds)}
    aside = args.place / "aside"
    (place / "cache").rename(aside)
    report["opening"]["without the cache"] = opened(place, "exact", args.rounds)
    aside.rename(place / "cache")
    report["removing"] = removing(place, args)
    print(json.dumps(report, indent=2))
    return report


def removing(place: Path, args: argparse.Namespace) -> dict[str, float]:
    """Remove 1,000 rows in effect for the next answer, beside making the index anew."""
    query = Rows(args.rows, args.seed).queries(1)
    with rc.Memory.open(place, check=False) as memory:
        memory.search(query, 10)
        calls, asked, version = [], [], memory.version
        for number in range(args.rounds):
            ids = np.arange(number, args.rows, args.rows // 1000)[:1000]
            start = time.perf_counter()
            memory.remove(ids)
            calls.append(time.perf_counter() - start)
            start = time.perf_counter()
            memory.search(query, 10)
            asked.append(time.perf_counter() - start)
        start = time.perf_counter()
        memory.restore(version)
        memory.search(query, 10)
        rebuild = time.perf_counter() - start
        memory._view = None  # noqa: SLF001 - the folder is left as it was found: no cache anew
    return {
        "remove_1000_ms": 1e3 * statistics.median(calls),
        "next_answer_ms": 1e3 * statistics.median(asked),
        "index_anew_ms": 1e3 * rebuild,
    }


# -- more than RAM holds ---------------------------------------------------------------------------


def peak_gb() -> dict[str, float]:
    """Most memory held so far, and what of it is anonymous now, in GB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "anonymous_gb": int(facts["RssAnon"].split()[0]) * 1024 / 1e9,
        "mapped_gb": int(facts["RssFile"].split()[0]) * 1024 / 1e9,
    }


def large(args: argparse.Namespace) -> dict[str, Any]:
    """Do one step of the experiment: teach, then train, then ask and edit."""
    report: dict[str, Any] = {"step": args.step}
    if args.step == "teach":
        return report | teach(args) | peak_gb()
    place, source = args.place / "memory", Rows(args.rows, args.seed)
    queries = source.queries(args.queries)
    policy = rc.Approximate(
        args.recall, lists=args.lists, sample=args.sample, background=False, least=1000
    )
    start = time.perf_counter()
    memory = rc.Memory.open(place, check=False, search=policy)
    status = memory.prepare()
    report |= {"open_and_prepare_s": time.perf_counter() - start, "status": status} | peak_gb()
    if args.step == "ask":
        report |= ask_large(memory, queries, args)
    start = time.perf_counter()
    memory.close()
    return report | {"close_s": time.perf_counter() - start} | peak_gb()


def ask_large(memory: Any, queries: np.ndarray, args: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {}
    times = []
    for query in queries:
        start = time.perf_counter()
        memory.search(query[None], 10)
        times.append(1e3 * (time.perf_counter() - start))
    report["answer_ms"] = {
        "p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95)),
        "best": min(times),
    }  # fmt: skip
    start = time.perf_counter()
    ids = np.arange(11, args.rows, args.rows // 1000)[:1000]
    memory.remove(ids)
    report["remove_1000_ms"] = 1e3 * (time.perf_counter() - start)
    start = time.perf_counter()
    memory.add(queries, ["new"] * len(queries))
    report["add_rows_ms"] = 1e3 * (time.perf_counter() - start)
    near = memory.search(queries, 1)
    report["new_rows_found"] = float((near.values == "new").mean())
    report |= peak_gb()
    start = time.perf_counter()
    found = memory.search(queries[:64], 10)
    exact = memory._view.index._exact.search(queries[:64], 10)[0]  # noqa: SLF001 - the truth
    report["exact_64_queries_s"] = time.perf_counter() - start
    report["recall"] = recall(found.ids, exact)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description="Large memories.")
    parser.add_argument("part", choices=["approximate", "memory", "large"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--data", default="synthetic", help="or texts, cifar10, ...")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 1000])
    parser.add_argument("--calls", type=int, default=200, help="queries asked in a round, at least")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: what waiting for a core leaves out"
    )
    parser.add_argument("--storages", nargs="+", default=["flat", "8bit"])
    parser.add_argument("--against", nargs="*", choices=sorted(RIVALS), default=[])
    parser.add_argument("--place", type=Path, help="a folder for memories on disk")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--step", choices=["teach", "train", "ask"], default="teach")
    parser.add_argument("--at-most", type=int, default=1 << 40, help="rows taught in this run")
    parser.add_argument("--lists", type=int)
    parser.add_argument("--sample", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    args = parser.parse_args()
    if args.part != "approximate" and args.place is None:
        parser.error("--place is needed")
    load = os.getloadavg()[0]
    report = {"approximate": approximate, "memory": memory, "large": large}[args.part](args)
    whole = {
        "arguments": {name: str(value) for name, value in vars(args).items() if name != "json"},
        "load": {"before": load, "after": os.getloadavg()[0]},
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("numpy", "faiss-cpu")},
        "report": report,
    }
    print(json.dumps(whole, indent=2))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()
