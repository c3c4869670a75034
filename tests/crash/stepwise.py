"""A write killed at its first step, its second, and so on until it gets through.

``python -m crash.stepwise WRITE TEMPLATE FOLDER`` copies the memory at TEMPLATE to FOLDER/0,
FOLDER/1, ..., makes the write in each with a kill at that step, and prints the steps as lines. A
step is a call on the segment files or an SQL statement; the kill comes before it, or half-way.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from crash.history import DIM
from plain_memory import contents_of, history_of

from recollect import Memory
from recollect.memory.segments import FolderFiles
from recollect.memory.store import Store

OLD = Path(__file__).resolve().parents[1] / "old_formats" / "format-1.zip"


class Trap:
    """Kills this process at one step."""

    def __init__(self, last: int, report: int) -> None:
        self.last, self.report, self.steps, self.names = last, report, 0, [""]

    def step(self, name: str) -> None:
        self.names.append(name)
        if self.names[-3:] == [name] * 3:
            return  # one row of many: the first two stand for the rest
        self.steps += 1
        if self.steps > self.last:
            os.write(self.report, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)


class TrappedFiles(FolderFiles):
    """Segment files with a step before each call, and one in the middle of each write."""

    trap: Trap
    catalogs: ClassVar[list[sqlite3.Connection]] = []

    def names(self) -> list[str]:
        # The first call of all: the catalog is open, and what a kill left is about to be swept.
        self.catalogs[0].set_trace_callback(lambda statement: self.trap.step(statement[:60]))
        return super().names()

    def write(self, name: str, start: int, content: Any) -> None:
        self.trap.step(f"write {name}")
        half = len(content) // 2
        super().write(name, start, content[:half])
        self.trap.step(f"write the rest of {name}")
        super().write(name, start + half, content[half:])

    def sync(self) -> None:
        self.trap.step("sync")
        super().sync()

    def delete(self, name: str) -> None:
        self.trap.step(f"delete {name}")
        super().delete(name)

    def truncate(self, name: str, size: int) -> None:
        self.trap.step(f"truncate {name}")
        super().truncate(name, size)


def rows(count: int, value: str) -> dict[str, Any]:
    # Other keys for other values: one of the erased rows must not return.
    keys = np.arange(1, 1 + count * DIM, dtype=np.float32).reshape(count, DIM) + len(value) / 16
    return {"keys": keys, "values": [value] * count, "sources": [f"/photos/{value}.png"] * count}


def rekey(memory: Memory) -> int:
    keys = np.arange(1, 1 + len(memory) * (DIM + 1), dtype=np.float32)
    return memory.rekey(
        keys.reshape(-1, DIM + 1), "another encoder", metadata={"aligned": [True] * len(memory)}
    )


WRITES = {
    "add": lambda memory: memory.add(**rows(3, "new"), metadata={"fresh": [1, 2, 3]}),
    "add many": lambda memory: memory.add(**rows(1500, "many")),
    "update": lambda memory: memory.update([0, 3], values="changed", metadata={"note": "why"}),
    "remove": lambda memory: memory.remove([1, 2]),
    "replace": lambda memory: memory.replace(**rows(2, "instead")),
    "restore": lambda memory: memory.restore(1),
    "erase": lambda memory: memory.erase([0, 4]),
    "compact": lambda memory: memory.compact(),
    "erase for good": lambda memory: memory.erase([0, 4], no_return=True),
    "allow": lambda memory: memory.allow_return([6]),
    "rekey": rekey,
    "rekey undone": lambda memory: memory.restore(memory.version - 1),
}
"""Each write, by name."""

FROM_FORMAT_1 = ("erase for good", "rekey")
"""Writes that bring a memory of the first format to the newest."""


def make_template(folder: Path, write: str = "", form: str = "newest") -> None:
    """A memory with rows that were added, changed, removed and erased."""
    if form == "format 1":
        shutil.unpack_archive(OLD, folder)
        return
    with Memory.create(folder, dim=DIM) as memory:
        memory.add(**rows(6, "platypus"), thumbnails=[b"a picture of a platypus"] * 6)
        memory.update([3], values="wombat")
        memory.remove([5])
        memory.add(**rows(4, "capybara"))
        memory.erase([6], no_return=True)
        if write == "rekey undone":
            rekey(memory)


def look(folder: Path) -> tuple[Any, ...]:
    """Everything that can be asked of a memory, checked byte by byte."""
    with Memory.open(folder, check=True) as memory:
        near = memory.search(np.arange(1, 1 + memory.dim)[None], k=4)
        pictures = [memory.thumbnail(row) for row in memory.ids.tolist()]
        past = [contents_of(memory.at(version.version)) for version in memory.versions()]
        return (
            contents_of(memory), history_of(memory), near.ids.tolist(), near.similarity.tolist(),
            pictures, past, [(row.id, row.known_by) for row in memory.no_return()],
            memory.dim, memory.encoder,
            sorted(path.name for path in (folder / "segments").iterdir()),
        )  # fmt: skip


def write_with_kill(folder: Path, write: str, last: int, report: int) -> None:
    TrappedFiles.trap = Trap(last, report)
    sys.addaudithook(note_catalog)
    store = Store(folder, files=TrappedFiles)
    with Memory(store, uri=str(folder)) as memory:
        WRITES[write](memory)
        TrappedFiles.trap.step("close")


def note_catalog(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect/handle":
        TrappedFiles.catalogs.append(arguments[0])


def main(write: str, template: str, folder: str) -> None:
    for last in range(10_000):
        place = Path(folder) / str(last)
        shutil.copytree(template, place)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            write_with_kill(place, write, last, writer)
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as report:
            print(report.read().replace("\n", " ") or "through", flush=True)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
