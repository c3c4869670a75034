"""What reliability, abstention and class means cost: `benchmarks/visual_memory.py --json out.json`.

`predict` with soft reliability and abstention against plain `predict`, alternating in one run; the
table of nearest others and the class means after 100 rows came or went, against making them anew. A
large memory asks a sample of its rows about each other first; how long that took is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from recollect import Memory, MemoryClassifier
from recollect.heads.class_statistics import ClassStatistics
from recollect.memory.leave_one_out import LeaveOneOut

CLASSES = 100
CHANGED = 100
BATCHES = (1, 32, 200)
AT_LEAST = 64
"""Queries asked in a round: small batches are asked oftener, as each takes so little."""


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def rows_of(rows: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clusters around a hundred centers, a part at a time."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((CLASSES, dim), dtype=np.float32)
    labels = rng.integers(0, CLASSES, rows)
    keys = np.empty((rows, dim), np.float32)
    for start in range(0, rows, 65_536):
        part = slice(start, start + 65_536)
        noise = rng.standard_normal((len(labels[part]), dim), dtype=np.float32)
        keys[part] = 0.5 * centers[labels[part]] + noise
    return keys, labels


def asking(rows: int, dim: int, rounds: int) -> dict[str, object]:
    """`predict` with and without reliability and abstention."""
    keys, labels = rows_of(rows, dim)
    plain = MemoryClassifier().fit(keys, labels)
    judged = MemoryClassifier(reliability="soft", memory=plain.memory_)
    queries, _ = rows_of(max(BATCHES), dim, seed=1)
    plain.predict(queries[:1])
    first = seconds(lambda: judged.predict(queries[:1], abstain=0.05))
    lines = []
    for batch in BATCHES:
        some = queries[:batch]
        ask, judge = partial(plain.predict, some), partial(judged.predict, some, abstain=0.05)
        pairs = [(seconds(ask), seconds(judge)) for _ in range(rounds * max(1, AT_LEAST // batch))]
        lines.append(
            {
                "batch": batch,
                "plain_ms": 1e3 * statistics.median(pair[0] for pair in pairs),
                "judged_ms": 1e3 * statistics.median(pair[1] for pair in pairs),
                "ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
            }
        )
    load = os.getloadavg()[0]
    return {
        "rows": rows, "dim": dim, "load": load, "seconds_for_the_rows": first, "lines": lines,
    }  # fmt: skip


def following(rows: int, dim: int, rounds: int, *, table: bool) -> dict[str, object]:
    """What a hundred rows more or less cost, against making everything anew."""
    keys, labels = rows_of(rows, dim)
    new, its = rows_of(CHANGED, dim, seed=2)
    memory = Memory.create(":memory:", dim=dim)
    memory.add(keys, labels)
    sums = ClassStatistics(memory)
    facts: dict[str, object] = {"rows": rows, "dim": dim, "changed": CHANGED}
    facts["load"] = os.getloadavg()[0]
    facts["means_anew_s"] = seconds(lambda: sums.discriminant(0.3))
    others = LeaveOneOut(memory)
    if table:
        memory.search(keys[:1], 1)  # builds what the first search builds
        facts["table_anew_s"] = seconds(others.update)
    times: dict[str, list[float]] = {}
    for turn in range(rounds):
        ids = memory.add(new + 0.01 * turn, its)
        times.setdefault("means_added_s", []).append(seconds(lambda: sums.discriminant(0.3)))
        if table:
            times.setdefault("table_added_s", []).append(seconds(others.update))
        memory.remove(ids)
        times.setdefault("means_removed_s", []).append(seconds(lambda: sums.discriminant(0.3)))
        if table:
            times.setdefault("table_removed_s", []).append(seconds(others.update))
    facts |= {name: statistics.median(values) for name, values in times.items()}
    if table:
        facts["table_added_ratio"] = facts["table_anew_s"] / facts["table_added_s"]  # type: ignore[operator]
        facts["table_removed_ratio"] = facts["table_anew_s"] / facts["table_removed_s"]  # type: ignore[operator]
    same = ClassStatistics(memory)
    facts["means_equal_bit_for_bit"] = bool(
        np.array_equal(sums.discriminant(0.3).directions, same.discriminant(0.3).directions)
    )
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows that are asked")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--changing", type=int, default=50_000, help="rows that change")
    parser.add_argument("--wide", type=int, default=1280, help="dim of the class means")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["asking", "table", "means"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    facts: dict[str, object] = {"cores": os.cpu_count()}
    if options.only in {None, "asking"}:
        facts["asking"] = asking(options.rows, options.dim, options.rounds)
    if options.only in {None, "table"}:
        facts["table"] = following(options.changing, options.dim, options.rounds, table=True)
    if options.only in {None, "means"}:
        facts["means"] = following(options.changing, options.wide, options.rounds, table=False)
    print(json.dumps(facts, indent=2))
    if options.json:
        told = options.json.read_text("utf-8") if options.json.is_file() else "{}"
        whole = json.dumps({**json.loads(told), **facts}, indent=2)  # parts of earlier runs stay
        options.json.write_text(whole + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
