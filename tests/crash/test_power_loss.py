"""Power lost at any step: what was not flushed is gone, and the memory is whole all the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from crash.stepwise import WRITES, look, make_template

from recollect import Memory
from recollect.memory.segments import FolderFiles
from recollect.memory.store import CATALOG, Store


class FlushedFiles(FolderFiles):
    """Segment files that remember which of their bytes a power loss would leave.

    A file that was deleted comes back, as its name may still be on the disk.
    """

    def __init__(self, folder):
        super().__init__(folder)
        self.flushed = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.changed = set()

    def write(self, name, start, content):
        super().write(name, start, content)
        self.changed.add(name)

    def sync(self):
        super().sync()
        self.flushed |= {name: (self.folder / name).read_bytes() for name in self.changed}
        self.changed.clear()


def leave_what_is_flushed(store, place):
    """Copy what a power loss would leave; SQLite answers for the catalog and its log."""
    (place / "segments").mkdir(parents=True)
    for name in (CATALOG, f"{CATALOG}-wal"):
        shutil.copy(store.folder / name, place / name)
    for name, content in store.files.flushed.items():
        (place / "segments" / name).write_bytes(content)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_loses_power_at_any_step_is_there_wholly_or_not_at_all(write, tmp_path):
    """An acknowledged row is on the disk, not in a buffer on its way there."""
    folder = tmp_path / "memory"
    make_template(folder, write)
    before = look(folder)
    store = Store(folder, files=FlushedFiles)
    places = []

    def trace(_statement):
        if len(places) < 100:
            places.append(tmp_path / str(len(places)))
            leave_what_is_flushed(store, places[-1])

    with Memory(store, uri=str(folder)) as memory:
        store.db.set_trace_callback(trace)
        WRITES[write](memory)
        store.db.set_trace_callback(None)
        acknowledged = tmp_path / "acknowledged"
        leave_what_is_flushed(store, acknowledged)

    seen = [look(place) for place in places]
    after = look(acknowledged)
    assert after == look(folder) != before
    changes = sum(first != second for first, second in zip(seen, [*seen[1:], after], strict=True))
    assert seen[0] == before
    assert changes == 1


SCRIPT = """
import sys
from crash.stepwise import WRITES, make_template
from pathlib import Path
from recollect import Memory
folder = Path(sys.argv[1])
make_template(folder)
with Memory.open(folder) as memory:
    for name in WRITES:
        if name != "restore":
            memory.add([[6, 5, 4, 3, 2, 1]] * 7, "x")
            ids = memory.ids
            {"update": lambda: memory.update(ids[:1], values="y"),
             "remove": lambda: memory.remove(ids[:1]),
             "erase": lambda: memory.erase(ids[:1]),
             "compact": memory.compact}.get(name, lambda: None)()
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_every_byte_of_a_segment_is_flushed_before_the_log_is(tmp_path):
    """The operating system itself says in which order things reached the disk."""
    log = tmp_path / "calls"
    calls = "trace=pwrite64,fsync,fdatasync,ftruncate,openat"
    done = subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", str(log), sys.executable, "-c", SCRIPT,
         str(tmp_path / "memory")],
        env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip("this machine does not let strace look")
    assert done.returncode == 0, done.stderr
    dirty, flushes = set(), 0
    for line in log.read_text().splitlines():
        match = re.search(r"(pwrite64|fsync|fdatasync)\(\d+<([^>]*)>", line)
        if match is None:
            continue
        call, path = match.groups()
        if call == "pwrite64" and "/segments/" in path:
            dirty.add(path)
        elif path.endswith("-wal") and call != "pwrite64":
            assert not dirty
            flushes += 1
        elif call != "pwrite64":
            dirty.discard(path)
    assert flushes > len(WRITES)
    assert not dirty
