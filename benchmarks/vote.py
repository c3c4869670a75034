"""What the vote costs beside the search: `python benchmarks/vote.py --json out.json`.

`predict` is timed once as it is and once with the search answering from what it found before, so
that only the reading of the neighbors is left. Medians; the ratio is `predict` to the search alone,
alternating in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recollect import MemoryClassifier

BATCHES = (1, 32, 1000)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(head: MemoryClassifier, queries: NDArray[np.float32], rounds: int) -> dict[str, float]:
    memory = head.memory_
    search = memory.search
    search(queries, head.k)  # builds what the first search builds
    pairs = [
        (seconds(lambda: search(queries, head.k)), seconds(lambda: head.predict(queries)))
        for _ in range(rounds)
    ]
    near = search(queries, head.k)
    memory.search = lambda *_, **__: near
    votes = [seconds(lambda: head.predict(queries)) for _ in range(20 * rounds)]
    del memory.search
    return {
        "batch": len(queries),
        "search_ms": 1e3 * statistics.median(pair[0] for pair in pairs),
        "predict_ms": 1e3 * statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(asked / found for found, asked in pairs),
        "vote_us": 1e6 * statistics.median(votes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    random = np.random.default_rng(0)
    keys = random.normal(size=(options.rows, options.dim)).astype(np.float32)
    results = []
    print(" classes  batch  search ms  predict ms  ratio  vote us")
    for classes in options.classes:
        labels = [f"class {label}" for label in random.integers(0, classes, options.rows)]
        head = MemoryClassifier(k=options.k).fit(keys, labels)
        for batch in BATCHES:
            queries = random.normal(size=(batch, options.dim)).astype(np.float32)
            result = {
                "classes": classes,
                **measure(head, queries, options.rounds * (20 if batch == 1 else 1)),
            }
            results.append(result)
            print(
                f"{classes:8} {batch:6} {result['search_ms']:10.2f} {result['predict_ms']:11.2f} "
                f"{result['ratio']:6.3f} {result['vote_us']:8.0f}"
            )
    if options.json:
        options.json.write_text(
            json.dumps({"options": vars(options), "results": results}, default=str)
        )


if __name__ == "__main__":
    main()
