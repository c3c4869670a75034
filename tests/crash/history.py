"""Random writes, drawn alike by the process that makes them and by the one that checks them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from plain_memory import PlainMemory, PlainRow

from recollect import Memory

DIM = 6
LABELS = ("cat", "dog", "capybara", "platypus")
MOST_ROWS = 4000
CHANCES = {
    "add one": 4, "add some": 3, "add many": 2, "update": 4, "remove": 3, "replace": 1,
    "restore": 2, "erase": 3, "compact": 1, "erase for good": 3, "allow": 1, "rekey": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One write, described by plain values."""

    name: str
    rows: list[PlainRow] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    version: int = 0


def draw(
    rng: np.random.Generator, ids: list[int], version: int, oldest: int, banned: list[int]
) -> Operation:
    """Draw the next write from what the memory is now."""
    names = list(CHANCES)
    chances = np.array(list(CHANCES.values()), float)
    if not ids:
        names, chances = names[:3], chances[:3]
    elif len(ids) > MOST_ROWS:
        names, chances = ["replace", "remove", "compact"], np.ones(3)
    name = str(rng.choice(names, p=chances / chances.sum()))
    if name in {"add one", "add some", "add many", "replace"}:
        most = {"add one": 1, "add some": 40, "add many": 2000, "replace": 600}[name]
        return Operation(name, rows=draw_rows(rng, int(rng.integers(1, most + 1))))
    if name == "rekey":
        return Operation(name, rows=draw_rows(rng, len(ids)), version=version)
    if name == "allow" and banned:
        return Operation(name, ids=sorted(rng.choice(banned, 1).tolist()))
    if name in {"update", "remove", "erase", "erase for good", "allow"}:
        name = "erase for good" if name == "allow" else name
        count = min(len(ids), int(rng.integers(1, 50)) if len(ids) <= MOST_ROWS else len(ids) // 2)
        return Operation(name, ids=sorted(rng.choice(ids, count, replace=False).tolist()),
                         rows=draw_rows(rng, count))  # fmt: skip
    return Operation(name, version=int(rng.integers(oldest, version + 1)))


def draw_rows(rng: np.random.Generator, count: int) -> list[PlainRow]:
    """Rows with keys of integers so small that no sum is rounded, and so many that none is twice.

    A second row with the key of an erased one could not be told from its return.
    """
    keys = rng.integers(-99, 100, (count, DIM)).astype(np.float32)
    keys[:, 0] = np.where(keys.any(axis=1), keys[:, 0], 1)
    labels = rng.choice(LABELS, count).tolist()
    weights = rng.integers(1, 4, count).astype(float).tolist()
    return [
        PlainRow(key, label, weight, f"/photos/{label}-{weight}.png", {"fold": int(weight)})
        for key, label, weight in zip(keys, labels, weights, strict=True)
    ]


def apply_to_memory(write: Operation, memory: Memory) -> None:
    """Make the write."""
    rows, ids = write.rows, write.ids
    columns: dict[str, Any] = {
        "values": [row.value for row in rows],
        "weights": [row.weight for row in rows],
        "metadata": {"fold": [row.metadata["fold"] for row in rows]},
    }
    if write.name == "rekey":
        memory.rekey(np.array([row.key for row in rows]), f"encoder {write.version}")
    elif rows and not ids:
        columns |= {"keys": np.array([row.key for row in rows])}
        columns |= {"sources": [row.source for row in rows]}
        (memory.replace if write.name == "replace" else memory.add)(**columns)
    elif write.name == "update":
        memory.update(ids, **columns)
    elif write.name == "remove":
        memory.remove(ids)
    elif write.name in {"erase", "erase for good"}:
        memory.erase(ids, no_return=write.name == "erase for good")
    elif write.name == "allow":
        memory.allow_return(ids)
    elif write.name == "restore":
        memory.restore(write.version)
    else:
        memory.compact()


def apply_to_plain(write: Operation, plain: PlainMemory) -> None:
    """Make the same write to the model."""
    if write.name == "replace":
        plain.replace(write.rows)
    elif write.name == "rekey":
        plain.rekey([row.key for row in write.rows], f"encoder {write.version}")
    elif write.rows and not write.ids:
        plain.add(write.rows)
    elif write.name == "update":
        plain.update({
            row: {"value": new.value, "weight": new.weight, "metadata": new.metadata}
            for row, new in zip(write.ids, write.rows, strict=True)
        })  # fmt: skip
    elif write.name == "remove":
        plain.remove(write.ids)
    elif write.name in {"erase", "erase for good"}:
        plain.erase(write.ids, ban=write.name == "erase for good")
    elif write.name == "allow":
        plain.allow(write.ids)
    elif write.name == "restore":
        plain.restore(write.version)
    else:
        plain.compact()
