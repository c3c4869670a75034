"""One writer at a time; a dead one blocks nobody."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from interpreter import SOURCE

from recollect import Memory
from recollect.errors import CorruptMemory, MemoryLocked, WriteFailed
from recollect.memory.lock import WriterLock

HOLD = """
import sys, time
from recollect import Memory
memory = Memory.open(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    """A memory with one row."""
    with Memory.create(tmp_path / "memory", dim=1) as memory:
        memory.add([[1]], ["cat"])
    return tmp_path / "memory"


@pytest.fixture
def holder(folder):
    """Another process that has the memory open for writing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(SOURCE)},
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_writer_is_told_which_process_on_which_host_holds_the_memory(folder, holder):
    """So that one knows what to close."""
    with pytest.raises(MemoryLocked) as caught:
        Memory.open(folder)

    assert f"process {holder.pid} on host " in str(caught.value)
    assert "read_only=True" in caught.value.remedy


def test_readers_are_not_blocked_by_a_writer(folder, holder):
    """Many readers, one writer."""
    with Memory.open(folder, read_only=True) as memory:
        assert memory.search([[1]], k=1).values.tolist() == [["cat"]]


def test_a_killed_writer_blocks_nobody(folder, holder):
    """The operating system releases the lock; no file needs deleting."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    with Memory.open(folder) as memory:
        assert memory.add([[2]], ["dog"]).tolist() == [1]


def test_a_second_writer_waits_as_long_as_it_was_told(folder):
    """And goes on as soon as the first is done."""
    first = Memory.open(folder)
    threading.Timer(0.2, first.close).start()

    with Memory.open(folder, timeout=30) as second:
        assert len(second) == 1


def test_a_wait_that_is_over_names_the_holder(folder):
    """Here it is this process itself."""
    with Memory.open(folder), pytest.raises(MemoryLocked) as caught:
        Memory.open(folder, timeout=0.05)

    assert f"process {os.getpid()} on host " in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b"{}", b'{"pid": 1, "host": 2, "since": 1e300}', b"[" * 999],
)
def test_a_lock_file_full_of_nonsense_is_only_shown_never_trusted(content, tmp_path):
    """It says who holds the memory; it does not decide it."""
    path = tmp_path / "writer.lock"
    path.write_bytes(content)
    with path.open("rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(MemoryLocked) as caught:
            WriterLock(path)
    assert caught.value.got == "a process that did not say its name"

    lock = WriterLock(path)

    assert json.loads(path.read_bytes())["pid"] == os.getpid()
    lock.release()
    lock.release()


def test_a_lock_that_is_a_link_is_refused_and_what_it_points_to_is_safe(folder, tmp_path):
    """Somebody's memory must not empty a file of mine."""
    (tmp_path / "diary").write_text("dear diary")
    (folder / "writer.lock").unlink()
    (folder / "writer.lock").symlink_to(tmp_path / "diary")

    with pytest.raises(CorruptMemory):
        Memory.open(folder)
    with pytest.raises(WriteFailed):
        WriterLock(folder / "writer.lock")

    assert (tmp_path / "diary").read_text() == "dear diary"


def test_a_folder_where_no_lock_can_be_made_is_refused(tmp_path):
    """A file in the place of the lock's folder stands for a missing permission."""
    with pytest.raises(WriteFailed) as caught:
        WriterLock(tmp_path / "missing" / "writer.lock")

    assert "read_only=True" in caught.value.remedy


FORK = """
import os, signal, sys
from recollect import Memory
from recollect.errors import Closed
parent = os.getpid()
memory = Memory.open(sys.argv[1])
if os.fork() == 0:
    try:
        memory.add([[3]], ["owl"])
    except Closed as error:
        print(error.problem, flush=True)
    memory.close()
    os.kill(parent, signal.SIGKILL)
    Memory.open(sys.argv[1], timeout=10).close()
    print("the lock is free", flush=True)
    os._exit(0)
os.wait()
"""


def test_a_fork_neither_uses_nor_keeps_the_memory_of_its_parent(folder):
    """Two processes with one SQLite connection would destroy the catalog."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORK, str(folder)],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(SOURCE)},
    ) as process:  # fmt: skip
        said = process.stdout.read()

    assert "opened by another process" in said
    assert "the lock is free" in said


def test_a_thread_may_wait_for_another(folder):
    """Waiting does not hold up the interpreter."""
    opened = []

    def wait():
        with Memory.open(folder, timeout=30) as memory:
            opened.append(len(memory))

    with Memory.open(folder):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        assert opened == []
    thread.join()
    assert opened == [1]
