"""What a residual memory costs beside the search.

    python benchmarks/residual_memory.py --json out.json

`predict` of a head over given embeddings and logits, beside the search of faiss `IndexFlatL2` alone
for as many neighbors, and scikit-learn's `KNeighborsRegressor` on dense residuals with the same
kernel. Each round asks every engine in turn, the order turned by one from round to round, with a
pause between two of them; a ratio is the median of the ratios of the single rounds.

Where dense residuals of all rows would not fit into memory, `KNeighborsRegressor` is given one
row's residuals for all rows (the same numbers of the same shape are read and added, from a cache).

Before it measures, the script checks that our search finds what faiss finds, and where the
residuals of all rows are given to `KNeighborsRegressor`, that its answers are those of `predict`.

The second table compares rows that keep all logits with rows that keep the largest: bytes of a
row's value, bytes on disk of a whole row without its key (once the memory is closed), and accuracy
on the same queries at three temperatures of a base that is less and less sure: how many answers
differ, and the mean probability that is left out of the rows read.

Teaching a million rows takes minutes. With `--folder` they are kept there, and a second run finds
them; `--rounds 0` only teaches.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from alternating import measure, median_ratio

from recollect import Memory, ResidualMemoryClassifier
from recollect.heads.residual_memory.layout import ENTRIES
from recollect.readout.kernel import class_residuals, soften

DENSE_LIMIT = 1 << 30
HEATS = (1.0, 2.0, 5.0)


def make_rows(rows: int, dim: int, classes: int, queries: int, seed: int) -> dict[str, np.ndarray]:
    """Embeddings around one center a class."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((classes, dim), dtype=np.float32)
    labels = rng.integers(0, classes, rows + queries)
    keys = centers[labels]
    keys += 0.9 * rng.standard_normal(keys.shape, dtype=np.float32)
    return {"keys": keys, "labels": labels, "centers": centers}


def logits_of(keys: np.ndarray, centers: np.ndarray, seed: int) -> np.ndarray:
    """A linear base with blurred weights: it knows the classes, and has something left to learn."""
    rng = np.random.default_rng(seed)
    blurred = centers + 0.9 * rng.standard_normal(centers.shape, dtype=np.float32)
    return (keys @ blurred.T - 0.5 * (blurred**2).sum(axis=1)) / np.sqrt(len(blurred[0]))


def teach(
    made: dict[str, np.ndarray], rows: int, **options: Any
) -> tuple[ResidualMemoryClassifier, int]:
    """Rows in pieces, so that the logits of all of them never stand in memory at once.

    Returns:
        The head, and how many rows it had when it was opened.
    """
    classes = len(made["centers"])
    head = ResidualMemoryClassifier(lambda x: x, classes=np.arange(classes), **options)
    piece = 20_000
    known = len(head.ids_) if head.__sklearn_is_fitted__() else 0
    for start in range(known, rows, piece):
        part = slice(start, min(start + piece, rows))
        keys, labels = made["keys"][part], made["labels"][part]
        write = head.partial_fit if start else head.fit
        write(None, labels, embedding=keys, outputs=logits_of(keys, made["centers"], 1))
    return head, known


def make_engines(
    made: dict[str, np.ndarray], rows: int, head: ResidualMemoryClassifier
) -> dict[str, Callable[[], Any]]:
    import faiss
    from sklearn.neighbors import KNeighborsRegressor

    keys, labels = made["keys"][:rows], made["labels"][:rows]
    asked = np.ascontiguousarray(made["keys"][rows:])
    outputs = logits_of(asked, made["centers"], 1)
    flat = faiss.IndexFlatL2(keys.shape[1])
    flat.add(keys)
    classes = len(made["centers"])
    if 4 * rows * classes <= DENSE_LIMIT:
        shares = soften(logits_of(keys, made["centers"], 1))
        residuals = class_residuals(shares, labels).astype(np.float32)
    else:
        one = class_residuals(soften(logits_of(keys[:1], made["centers"], 1)), labels[:1])
        residuals = np.broadcast_to(one.astype(np.float32), (rows, classes))
    sigma = head.sigma_
    peer = KNeighborsRegressor(
        head.k, weights=lambda d: np.exp(-(d - d[:, :1]) / sigma), algorithm="brute"
    ).fit(keys, residuals)

    def ask_peer() -> Any:
        return (soften(outputs) + peer.predict(asked)).argmax(axis=1)

    return {
        "predict": lambda: head.predict(None, embedding=asked, outputs=outputs),
        "faiss search": lambda: flat.search(asked, head.k),
        "our search": lambda: head.memory_.search(asked, head.k, values=False),
        "KNeighborsRegressor": ask_peer,
    }


def summarize(seconds: dict[str, list[float]]) -> dict[str, Any]:
    def ratio(first: str, second: str) -> float:
        return round(median_ratio(seconds[first], seconds[second]), 3)

    return {
        "ms": {name: round(1e3 * statistics.median(each), 1) for name, each in seconds.items()},
        "predict / faiss search": ratio("predict", "faiss search"),
        "predict / our search": ratio("predict", "our search"),
        "KNeighborsRegressor / predict": ratio("KNeighborsRegressor", "predict"),
    }


def agreement(engines: dict[str, Callable[[], Any]], *, whole: bool) -> dict[str, float]:
    """Shares of neighbors and of answers that are the same."""
    _, near = engines["faiss search"]()
    found = {"neighbors as faiss": float(np.mean(near == engines["our search"]().ids))}
    if whole:
        same = engines["KNeighborsRegressor"]() == engines["predict"]()
        found["answers as KNeighborsRegressor"] = float(np.mean(same))
    return found


def bytes_without_key(memory: Memory) -> float:
    """Catalog and values; not the keys, what a search keeps of them, and the catalog's open log."""
    folder = Path(str(memory.stats()["uri"]))
    parts = [folder / "catalog.sqlite", *folder.glob("segments/values-*")]
    return round(sum(each.stat().st_size for each in parts) / len(memory), 1)


def speed(rows: int, dim: int, options: argparse.Namespace) -> dict[str, Any]:
    made = make_rows(rows, dim, options.classes, options.batch, seed=0)
    begun = time.perf_counter()
    place = None if options.folder is None else options.folder / f"{rows}x{dim}"
    head, opened = teach(made, rows, k=options.k, memory=place)
    taught = time.perf_counter() - begun
    # Rows that an earlier run left in the folder were not taught in this time.
    teaching = {"rows opened": opened, "seconds to teach": None if opened else round(taught, 1)}
    if not options.rounds:
        head.memory_.close()
        return {"rows": rows, "dim": dim, **teaching}
    head.predict(None, embedding=made["keys"][:1], outputs=np.zeros((1, options.classes)))
    first = time.perf_counter() - begun - taught
    engines = make_engines(made, rows, head)
    result = {
        "rows": rows,
        "dim": dim,
        **agreement(engines, whole=4 * rows * options.classes <= DENSE_LIMIT),
        **({} if place is None else {"bytes without key": bytes_without_key(head.memory_)}),
        **teaching,
        "seconds to the first answer": round(first, 1),
        **summarize(measure(engines, options.rounds, options.pause)),
    }
    print(json.dumps(result, indent=1))
    return result


def sizes(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes and accuracy of rows that keep all logits, and of rows that keep few."""
    rows, asked = options.size_rows, options.size_queries
    made = make_rows(rows, 64, options.classes, asked, seed=2)
    keys, truth = made["keys"][rows:], made["labels"][rows:]
    outputs = logits_of(keys, made["centers"], 1)
    found: dict[str, Any] = {"rows": rows, "queries": asked}
    answers: dict[str, dict[float, np.ndarray]] = {}
    for name, entries in (("all logits", None), ("largest logits", ENTRIES)):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "rows")
            teach(made, rows, k=options.k, entries=entries, memory=place)[0].memory_.close()
            head = ResidualMemoryClassifier(
                lambda x: x, k=options.k, entries=entries, classes=np.arange(options.classes),
                memory=place,
            )  # fmt: skip
            given = {"embedding": keys, "outputs": outputs}
            answers[name] = {
                heat: head.set_params(temperature=heat).predict(None, **given) for heat in HEATS
            }
            found[name] = {
                "value bytes": 4 * int(head.memory_.value_dim or 0),
                "bytes without key": bytes_without_key(head.memory_),
            }
            bounds = [
                float(head.set_params(temperature=heat).error_bound(None, **given).mean())
                for heat in HEATS
            ]
            head.memory_.close()
    found["base accuracy"] = round(float((outputs.argmax(axis=1) == truth).mean()), 5)
    dense, few = found["all logits"], found["largest logits"]
    for name in ("value bytes", "bytes without key"):
        found[f"{name}, all / largest"] = round(dense[name] / few[name], 2)
    found["at temperature"] = {
        heat: {
            "accuracy, all": round(float((whole == truth).mean()), 5),
            "accuracy, largest": round(float((answers["largest logits"][heat] == truth).mean()), 5),
            "answers that differ": int((answers["largest logits"][heat] != whole).sum()),
            "left out": round(bound, 5),
        }
        for (heat, whole), bound in zip(answers["all logits"].items(), bounds, strict=True)
    }
    print(json.dumps(found, indent=1))
    return found


def told_command(options: argparse.Namespace) -> str:
    """The command with every option as it was in effect; folders and files by what they are."""
    told = []
    for name, value in vars(options).items():
        if value is None:
            continue
        text = " ".join(value) if isinstance(value, list) else str(value)
        text = name.upper() if isinstance(value, Path) else text
        told.append(f"--{name.replace('_', '-')} {text}")
    return f"python benchmarks/residual_memory.py {' '.join(told)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="*", default=["50000x64", "1000000x256"])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.3)
    parser.add_argument("--size-rows", type=int, default=20_000)
    parser.add_argument("--size-queries", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keep the taught rows there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    before = os.getloadavg()
    shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes]
    report = {
        "command": told_command(options),
        "rounds": options.rounds,
        "speed": [speed(rows, dim, options) for rows, dim in shapes],
        "size": sizes(options) if options.size_rows else None,
        "machine": {
            "cores": os.cpu_count(),
            "load before and after": [round(before[0], 1), round(os.getloadavg()[0], 1)],
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "faiss-cpu", "scikit-learn")},
        },
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
