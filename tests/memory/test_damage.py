"""Bytes that are not those that were written: reported, or without any effect."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from interpreter import SOURCE
from plain_memory import contents_of, history_of

from recollect import Memory
from recollect.errors import (
    CorruptMemory,
    MemoryNotFound,
    RecollectError,
    UnsupportedFormat,
    WriteFailed,
)
from recollect.memory.schema import FORMAT
from recollect.memory.segments import FolderFiles
from recollect.memory.store import CATALOG, Store

DIM = 5
QUERIES = np.array([[1, 2, 3, 4, 5], [-1, 0, 2, 0, 1]], np.float32)


def teach(folder, value="label"):
    """A memory in which everything occurs: changed, removed, erased and retired rows."""
    rng = np.random.default_rng(7)
    values = {
        "label": ["cat", "dog", "capybara"] * 10,
        "vector": rng.normal(size=(30, 3)).astype(np.float32),
        "arrays": [{"mask": np.arange(4) + row} for row in range(30)],
        "number": rng.normal(size=30),
    }[value]
    with Memory.create(
        folder, dim=DIM, value=value, value_dim=3 if value == "vector" else None
    ) as memory:
        memory.add(
            rng.normal(size=(30, DIM)), values, sources=[f"/photos/{row}" for row in range(30)],
            metadata={"year": range(30), "good": [True] * 30, "gone": ["x"] * 30},
            thumbnails=[b"picture %d" % row for row in range(30)],
        )  # fmt: skip
        memory.remove([29])
        memory.compact()
        memory.update([0, 1], values=values[:2], weights=2, metadata={"note": "why", "gone": None})
        memory.remove([3, 4])
        memory.add(rng.normal(size=(2, DIM)), values[:2])
        memory.erase([5, 6])
        memory.erase([20], no_return=True)
        memory.restore(4)
        memory.rekey(rng.normal(size=(len(memory), DIM)), "another encoder")
        memory.update([8], weights=0.5)
    return folder


def look(memory):
    """Everything that can be asked of a memory."""
    near = memory.search(QUERIES, k=40)
    filtered = memory.search(QUERIES, k=3, where="year < 20 and source like '/photos/1%'")
    return (
        contents_of(memory), history_of(memory), [info.time for info in memory.versions()],
        near.ids.tolist(), near.similarity.tobytes(), str(near.values.tolist()),
        filtered.ids.tolist(), [memory.thumbnail(row) for row in memory.ids.tolist()],
        [contents_of(memory.at(info.version)) for info in memory.versions()],
        memory.no_return(), memory.encoder,
    )  # fmt: skip


def try_to_look(folder, **options):
    """What is seen, or None if the damage was reported."""
    try:
        with Memory.open(folder, **options) as memory:
            return look(memory)
    except RecollectError:
        return None


def flip(path, rng):
    """Turn one random bit over, and say which."""
    content = bytearray(path.read_bytes())
    place, bit = int(rng.integers(len(content))), int(rng.integers(8))
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} in {path.name}"


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def flip_many(tmp_path, value, flips, seed):
    folder = teach(tmp_path / "memory", value)
    with Memory.open(folder, check=True) as memory:
        truth = look(memory)
    rng = np.random.default_rng(seed)
    reported = 0
    for number in range(flips):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        files = [path for path in files_of(copy) if path.name != "writer.lock"]
        what = flip(files[number % len(files)], rng)
        seen = try_to_look(copy, check=True, read_only=bool(number % 2))
        assert seen in (None, truth), what
        reported += seen is None
        try_to_look(copy, check=False)
        shutil.rmtree(copy)
    return reported


@pytest.mark.parametrize("value", ["label", "number", "vector", "arrays"])
def test_a_flipped_bit_anywhere_is_reported_or_changes_no_answer(value, tmp_path):
    """Disks do that. The few flips without effect lie in unused space."""
    reported = flip_many(tmp_path, value, flips=75, seed=1)

    assert reported > 25


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("value", ["label", "number", "vector", "arrays"])
def test_thousands_of_flipped_bits_are_reported_or_change_no_answer(value, tmp_path):
    """The same often enough to meet every field of every table."""
    reported = flip_many(tmp_path, value, flips=3000, seed=2)

    assert reported > 1000


def test_a_flipped_bit_in_the_log_of_a_killed_writer_leaves_a_whole_version(tmp_path):
    """SQLite ignores what comes after it: the memory is one of its own past versions."""
    folder = teach(tmp_path / "memory")
    with Memory.open(folder) as memory:
        versions = [contents_of(memory)]
        for row in range(7, 12):
            memory.update([row], weights=row)
            versions.append(contents_of(memory))
        shutil.copytree(folder, tmp_path / "killed")
    rng = np.random.default_rng(3)
    for _ in range(60):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "killed", copy)
        flip(copy / f"{CATALOG}-wal", rng)
        seen = try_to_look(copy, check=True)
        assert seen is None or seen[0] in versions
        shutil.rmtree(copy)


def test_a_file_cut_short_anywhere_is_reported_or_changes_no_answer(tmp_path):
    """A full disk, a broken copy."""
    folder = teach(tmp_path / "memory", "vector")
    with Memory.open(folder, check=True) as memory:
        truth = look(memory)
    for path in files_of(folder):
        name = path.relative_to(folder)
        size = path.stat().st_size
        for length in {0, 1, 15, 16, 100, size // 3, size // 2, size - 1024, size - 1}:
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy)
            os.truncate(copy / name, max(0, min(length, size - 1)))
            for options in ({"check": True}, {"check": "auto", "read_only": True}):
                assert try_to_look(copy, **options) in (None, truth), (name, length)
            try_to_look(copy, check=False)
            shutil.rmtree(copy)


def test_a_missing_file_is_reported(tmp_path):
    """Whichever it is; only the lock is made anew."""
    folder = teach(tmp_path / "memory", "vector")
    for path in files_of(folder):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        (copy / path.relative_to(folder)).unlink()
        expected = MemoryNotFound if path.name == CATALOG else CorruptMemory
        if path.name != "writer.lock":
            for options in ({}, {"check": False}, {"read_only": True}):
                with pytest.raises(expected):
                    Memory.open(copy, **options)
        shutil.rmtree(copy)


def test_a_missing_folder_of_segments_is_reported(tmp_path):
    """The catalog alone is no memory."""
    folder = teach(tmp_path / "memory")
    shutil.rmtree(folder / "segments")

    with pytest.raises(CorruptMemory):
        Memory.open(folder)


@pytest.mark.parametrize(
    "content", [b"", b"this is no SQLite file" * 99, b"\0" * 8192, b"SQLite format 3\0", b"S"]
)
def test_a_catalog_that_is_something_else_is_reported(content, tmp_path):
    """With one error of ours, and the file left as it is."""
    folder = teach(tmp_path / "memory")
    (folder / CATALOG).write_bytes(content)

    for options in ({}, {"read_only": True}, {"check": False}):
        with pytest.raises(CorruptMemory) as caught:
            Memory.open(folder, **options)
        assert caught.value.remedy
    assert (folder / CATALOG).read_bytes() == content


def test_a_memory_of_a_newer_format_is_refused_with_what_to_do(tmp_path):
    """An old library must not guess."""
    folder = teach(tmp_path / "memory")
    with sqlite3.connect(folder / CATALOG) as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    db.close()

    with pytest.raises(UnsupportedFormat) as caught:
        Memory.open(folder)
    assert "pip install --upgrade" in caught.value.remedy


@pytest.mark.parametrize("name", ["keys", "values"])
def test_a_memory_that_was_opened_unchecked_gives_out_no_damaged_bytes(name, tmp_path):
    """Large ones are not read whole when they are opened, but before the first answer."""
    folder = teach(tmp_path / "memory", "vector")
    with Memory.open(folder) as memory:
        memory.add(QUERIES, QUERIES[:, :3])
    path = max((folder / "segments").glob(f"{name}-*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with Memory.open(folder, check=False) as memory:
        damaged = int(memory.ids[-1])
        for call in (lambda: memory.search(QUERIES, k=40), memory.rows):
            with pytest.raises(CorruptMemory) as caught:
                call()
            assert f"of row {damaged} was altered on disk" in str(caught.value)

        memory.remove([damaged])

        assert damaged not in memory.search(QUERIES, k=40).ids
        assert len(memory.rows()) == len(memory)


@pytest.mark.parametrize(
    ("statement", "call"),
    [
        ("UPDATE rows SET source = '/photos/0' WHERE id = 1", lambda memory: memory.rows([1])),
        ("UPDATE rows SET m0 = 1970 WHERE id = 1", lambda memory: memory.rows([1])),
        ("UPDATE thumbnails SET picture = x'00' WHERE id = 1", lambda memory: memory.thumbnail(1)),
    ],
)
def test_text_or_a_picture_that_was_altered_is_not_given_out(statement, call, tmp_path):
    """Nor by a memory that was opened unchecked."""
    folder = teach(tmp_path / "memory")
    db = sqlite3.connect(folder / CATALOG, isolation_level=None)
    db.execute(statement)
    db.close()

    with Memory.open(folder, check=False) as memory:
        with pytest.raises(CorruptMemory) as caught:
            call(memory)
        assert "of row 1" in str(caught.value)
        assert "is not what was written" in str(caught.value).replace("are", "is")


# -- a disk that refuses ---------------------------------------------------------------------------

WRITES = {
    "add": lambda memory: memory.add(QUERIES, ["new", "new"], thumbnails=[b"x", None]),
    "update": lambda memory: memory.update([0], values="changed", metadata={"fresh": 1}),
    "remove": lambda memory: memory.remove([0]),
    "replace": lambda memory: memory.replace(QUERIES, ["new", "new"]),
    "restore": lambda memory: memory.restore(3),
    "erase": lambda memory: memory.erase([0]),
    "compact": lambda memory: memory.compact(),
}


class Refusing(FolderFiles):
    """Segment files on a disk that refuses one kind of call."""

    refused = ""

    def write(self, name, start, content):
        if self.refused == "write":
            super().write(name, start, content[: len(content) // 2])
            raise OSError(28, "No space left on device")
        super().write(name, start, content)

    def sync(self):
        if self.refused == "sync":
            raise OSError(5, "Input/output error")
        super().sync()


@pytest.mark.parametrize("refused", ["write", "sync"])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_the_disk_refuses_changes_nothing(write, refused, tmp_path):
    """The memory answers on, and takes the same write once there is room."""
    folder = teach(tmp_path / "memory")
    with Memory(Store(folder, files=Refusing), uri="m") as memory:
        before = look(memory)
        memory._store.files.refused = refused
        touches_segments = write in {"add", "replace", "erase", "compact"} or refused == "sync"
        with pytest.raises(WriteFailed) if touches_segments else nullcontext() as caught:
            WRITES[write](memory)
        if touches_segments:
            assert "Nothing was changed" in caught.value.remedy
            assert look(memory) == before
            assert memory.verify().ok
            memory._store.files.refused = ""
            WRITES[write](memory)
        after = look(memory)
        assert after != before
    with Memory.open(folder, check=True) as memory:
        assert look(memory) == after


class Unreadable(FolderFiles):
    """Segment files that can be written, and for a while not be read."""

    broken = False

    def read(self, name, size):
        if self.broken:
            raise CorruptMemory("the segment cannot be opened")
        return super().read(name, size)


def test_what_was_committed_is_not_reported_as_refused(tmp_path):
    """The caller would teach it twice; what is wrong is said by the next question."""
    with Memory(Store(teach(tmp_path / "memory"), files=Unreadable), uri="m") as memory:
        memory.search(QUERIES, k=1)
        before, many = len(memory), np.repeat(QUERIES, 3000, axis=0)
        memory._store.files.broken = True

        ids = memory.add(many, ["new"] * len(many))

        with pytest.raises(CorruptMemory):
            memory.search(QUERIES, k=1)
        memory._store.files.broken = False
        assert len(memory) == before + len(ids)
        assert memory.search(QUERIES, k=1).found.all()


LIMITED = """
import resource, signal, sys
from recollect.errors import RecollectError
sys.path.insert(0, sys.argv[1])
from test_damage import WRITES
from recollect import Memory
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in range(0, 1 << 20, 4 << 10):
    with Memory.open(sys.argv[2]) as memory:
        before = (memory.version, memory.rows().weights.tolist())
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            WRITES[sys.argv[3]](memory)
        except RecollectError as error:
            after = (memory.version, memory.rows().weights.tolist())
            print(type(error).__name__, before == after, memory.verify().ok)
            if type(error).__name__ == "ErasureIncomplete":
                break
        else:
            print("written", True, memory.verify().ok)
            break
        finally:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
"""


@pytest.mark.parametrize("write", WRITES)
def test_a_full_disk_at_any_point_of_a_write_leaves_the_memory_whole(write, tmp_path):
    """The operating system itself refuses to let files grow, SQLite's among them."""
    folder = teach(tmp_path / "memory")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(Path(__file__).parent), str(folder), write],
        env=os.environ | {"PYTHONPATH": f"{SOURCE}:{Path(__file__).parents[1]}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    lines = [line.split() for line in done.stdout.splitlines()]

    assert done.returncode == 0, done.stderr
    assert len(lines) > 1
    assert lines[:-1] == [["WriteFailed", "True", "True"]] * (len(lines) - 1)
    assert lines[-1] in (["written", "True", "True"], ["ErasureIncomplete", "False", "True"])
    with Memory.open(folder, check=True) as memory:
        assert memory.verify().ok


READ_ONLY = """
import os, sys
from recollect import Memory
from recollect.errors import RecollectError
os.setgid(65534); os.setuid(65534)
try:
    Memory.open(sys.argv[1])
except RecollectError as error:
    print(type(error).__name__)
with Memory.open(sys.argv[1], read_only=True) as memory:
    print(len(memory), memory.search([[1, 2, 3, 4, 5]], k=1).ids.shape)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("writer", ["a writer works", "nobody works"])
def test_somebody_without_permission_to_write_can_read(writer):
    """On a shared disk, with or without a writer at work."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = teach(Path(place) / "memory")
        memory = Memory.open(folder)
        memory.update([0], weights=3)
        rows = len(memory)
        if writer == "nobody works":
            memory.close()

        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(folder)],
            env=os.environ | {"PYTHONPATH": str(SOURCE)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

        memory.close()
    if "Permission denied" in done.stderr and "recollect" not in done.stderr:
        pytest.skip("nobody cannot even start this interpreter")
    assert done.stdout.splitlines() == ["WriteFailed", f"{rows} (1, 1)"], done.stderr
