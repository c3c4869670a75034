"""What a durable memory costs: teaching, forgetting, opening, answering.

    python benchmarks/memory.py --json benchmarks/results/memory.json

Each case runs in a process of its own, so that its peak memory is its own. `predict` is a whole
answer (search and rank vote); beside it stand the search alone of faiss-cpu IndexFlatIP and
scikit-learn's brute-force KNeighborsClassifier, asked in turn in the same process. Times are
medians; a ratio is the median of the ratios of the single rounds (above 1: we are faster).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from search import make_rows, measure, summarize

import recollect as rc

CLASSES = 100
BATCH = 1000
CASES = ("teach", "remove", "open", "predict")


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def make_memory(folder: Path, rows: int, dim: int) -> tuple[rc.Memory, list[float]]:
    """Teach rows in durable batches; returns the memory and milliseconds for each batch."""
    keys, _ = make_rows(BATCH * 10, dim, 1, seed=0)
    labels = np.arange(BATCH) % CLASSES
    memory = rc.Memory.create(folder, dim=dim)
    times = []
    for start in range(0, rows, BATCH):
        at = start % len(keys)
        part = keys[at : at + min(BATCH, rows - start)]
        times.append(timed(lambda part=part: memory.add(part, labels[: len(part)])))
    return memory, times


def teach(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    memory, times = make_memory(folder / "teach", args.rows, args.dim)
    keys, _ = make_rows(BATCH, args.dim, 1, seed=1)
    single = [timed(lambda at=at: memory.add(keys[at : at + 1], [0])) for at in range(100)]
    erased = [timed(lambda at=at: memory.erase([at])) for at in range(args.rounds)]
    many = timed(lambda: memory.erase(np.arange(100, 200)))
    memory.close()
    return {
        "add_rows_per_second": BATCH / (statistics.median(times) / 1e3),
        "add_one_row_ms": statistics.median(single),
        "erase_one_row_ms": statistics.median(erased),
        "erase_100_rows_ms_per_row": many / 100,
    }


def remove(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    memory, _ = make_memory(folder / "remove", args.many_rows, args.dim)
    query = memory.rows([0]).keys
    memory.search(query, k=20)
    times, after = [], []
    for _ in range(20):
        nearest = memory.search(query, k=1).ids[0, 0]
        times.append(timed(lambda nearest=nearest: memory.remove([nearest])))
        after.append(timed(lambda: memory.search(query, k=1)))
        if memory.search(query, k=1).ids[0, 0] == nearest:
            sys.exit("a removed row was found again")
    remaining = memory.ids[:BATCH]
    thousand = timed(lambda: memory.remove(remaining))
    memory.close()
    return {
        "rows": args.many_rows,
        "remove_one_ms": statistics.median(times),
        "remove_1000_ms": thousand,
        "next_search_ms": statistics.median(after),
    }


def open_cold(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A new process opens the memory and answers, import not counted: once with the files in the
    page cache, once after the system was asked to forget them."""
    memory, _ = make_memory(folder / "open", args.rows, args.dim)
    memory.close()
    program = (
        "import sys, time, numpy as np, recollect as rc; rc.Memory; start = time.perf_counter();"
        "memory = rc.Memory.open(sys.argv[1]); opened = time.perf_counter();"
        "memory.search(np.ones((1, memory.dim)), k=20);"
        "print(1e3 * (opened - start), 1e3 * (time.perf_counter() - start))"
    )

    def run() -> tuple[float, float]:
        command = [sys.executable, "-c", program, str(folder / "open")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        opened, answered = map(float, done.stdout.split())
        return opened, answered

    warm, cold = [], []
    for _ in range(args.rounds):
        warm.append(run())
        forget_pages(folder / "open")
        cold.append(run())
    return {
        "open_ms": statistics.median(opened for opened, _ in warm),
        "open_and_first_answer_ms": statistics.median(answered for _, answered in warm),
        "the_same_from_the_disk_ms": statistics.median(answered for _, answered in cold),
        "peak_mb_of_opening": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def forget_pages(folder: Path) -> None:
    """Ask the system to drop the files of a folder from its page cache; not all systems can."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def predict(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    keys, queries = make_rows(args.rows, args.dim, max(args.batches), seed=0)
    labels = np.random.default_rng(1).integers(0, CLASSES, len(keys))
    memory = rc.Memory.create(folder / "predict", dim=args.dim)
    memory.add(keys, labels)
    classifier = rc.MemoryClassifier(k=args.k, memory=memory)
    classifier.predict(queries[:1])
    ours_mb = peak_mb()

    import faiss
    from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

    flat = faiss.IndexFlatIP(args.dim)
    flat.add(keys)
    brute = KNeighborsClassifier(args.k, algorithm="brute", metric="cosine").fit(keys, labels)
    nearest = NearestNeighbors(n_neighbors=args.k, algorithm="brute", metric="cosine").fit(keys)
    engines: dict[str, Callable[[np.ndarray], Any]] = {
        "recollect": classifier.predict,
        "our search": lambda asked: memory.search(asked, args.k),
        "faiss search": lambda asked: flat.search(asked, args.k),
        "sklearn": brute.predict,
        "sklearn search": nearest.kneighbors,
    }
    results = {
        batch: summarize(measure(engines, queries[:batch], args.rounds, args.pause))
        for batch in args.batches
    }
    memory.close()
    return {"batches": results, "peak_mb_before_the_others": ours_mb}


def peak_mb() -> float:
    """Peak resident memory of this process; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_case(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one case in a process of its own."""
    with tempfile.TemporaryDirectory(dir=args.folder, prefix=".benchmark-") as folder:
        command = [sys.executable, __file__, *sys.argv[1:], "--case", name, "--folder", folder]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def show(report: dict[str, Any]) -> None:
    for name, case in report["cases"].items():
        print(f"\n{name} (peak {case['peak_mb']:.0f} MiB)")
        for figure, value in case.items():
            if figure not in {"batches", "peak_mb"}:
                print(f"  {figure:<28} {value:>12,.2f}")
        for batch, engines in case.get("batches", {}).items():
            for engine, row in engines.items():
                print(
                    f"  batch {batch:>5} {engine:<14} {row['median_ms']:>10.2f} ms"
                    f" {row['ratio']:>8.2f} x recollect"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description="What a durable memory costs.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--many-rows", type=int, default=1_000_000, help="for removal")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 1000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pause", type=float, default=0.06, help="seconds between two engines")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to be measured")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        case = {"teach": teach, "remove": remove, "open": open_cold, "predict": predict}[args.case]
        print(json.dumps(case(args, args.folder) | {"peak_mb": peak_mb()}))
        return
    report = {
        "arguments": {
            name: value for name, value in vars(args).items() if name not in {"json", "folder"}
        },
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "faiss-cpu", "scikit-learn")},
        "cases": {name: run_case(name, args) for name in CASES},
    }
    show(report)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n")


def cpu() -> str:
    """Name of the processor."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
