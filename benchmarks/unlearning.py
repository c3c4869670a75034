"""What forgetting costs in a large memory: removal by ids, filter and class, previews, erasure.

    python benchmarks/unlearning.py --rows 1000000 --json benchmarks/results/unlearning.json

Every row has one of --classes labels and a metadata column. Each removal is durable when it is
timed. The paper (section 3.4) reports less than 20 ms a row from disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import recollect as rc

BATCH = 50_000


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return 1e3 * (time.perf_counter() - start), result


def make_memory(folder: Path, rows: int, dim: int, classes: int) -> rc.Memory:
    rng = np.random.default_rng(0)
    memory = rc.Memory.create(folder, dim=dim)
    for start in range(0, rows, BATCH):
        count = min(BATCH, rows - start)
        keys = rng.standard_normal((count, dim), dtype=np.float32)
        numbers = np.arange(start, start + count)
        memory.add(keys, numbers % classes, metadata={"batch": (numbers // 1000).tolist()})
    return memory


def measure(memory: rc.Memory, rounds: int) -> dict[str, Any]:
    head = rc.MemoryClassifier(memory=memory)
    queries = np.random.default_rng(1).standard_normal((100, memory.dim)).astype(np.float32)
    first, _ = timed(lambda: memory.search(queries[:1], k=20))
    search = statistics.median(timed(lambda: memory.search(queries[:1], k=20))[0] for _ in range(9))
    one = [timed(lambda at=at: memory.remove([at])) for at in range(rounds)]
    after = statistics.median(timed(lambda: memory.search(queries[:1], k=20))[0] for _ in range(9))
    many, _ = timed(lambda: memory.remove(np.arange(1000, 2000)))
    found, ids = timed(lambda: memory.find("label = 7"))
    answers, _ = timed(lambda: head.predict(queries))
    preview, flips = timed(lambda: head.what_if(queries, remove=ids))
    of_class, _ = timed(lambda: memory.remove(ids))
    by_filter, gone = timed(lambda: memory.remove(where="batch = 900 or batch = 12"))
    erased = [timed(lambda at=at: memory.erase([at]))[0] for at in range(5000, 5000 + rounds)]
    hundred, _ = timed(lambda: memory.erase(np.arange(6000, 6100)))
    banned, _ = timed(lambda: memory.erase(np.arange(7000, 7100), no_return=True))
    rng = np.random.default_rng(2)
    fresh = rng.standard_normal((1000, memory.dim), dtype=np.float32)
    checked, _ = timed(lambda: memory.add(fresh, np.zeros(1000, int)))
    return {
        "first_search_ms": first,
        "search_ms": search,
        "remove_one_ms": statistics.median(ms for ms, _ in one),
        "search_after_removals_ms": after,
        "remove_1000_by_ids_ms_per_row": many / 1000,
        "find_class_ms": found,
        "class_rows": len(ids),
        "predict_100_ms": answers,
        "what_if_100_ms": preview,
        "what_if_flips": int(flips.flipped.sum()),
        "remove_class_ms_per_row": of_class / len(ids),
        "remove_by_filter_ms_per_row": by_filter / len(gone),
        "erase_one_ms": statistics.median(erased),
        "erase_100_ms_per_row": hundred / 100,
        "erase_100_no_return_ms_per_row": banned / 100,
        "add_1000_with_a_list_ms": checked,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        taught, memory = timed(
            lambda: make_memory(Path(folder) / "memory", args.rows, args.dim, args.classes)
        )
        with memory:
            figures = measure(memory, args.rounds)
    report = {
        "rows": args.rows, "dim": args.dim, "classes": args.classes, "teach_s": taught / 1e3,
        **figures, "load": os.getloadavg()[0], "cores": os.cpu_count(),
        "python": platform.python_version(), "numpy": np.__version__,
    }  # fmt: skip
    for name, value in report.items():
        print(f"{name:32} {value:10.3f}" if isinstance(value, float) else f"{name:32} {value:>10}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
