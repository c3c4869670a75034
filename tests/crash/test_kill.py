"""kill -9 of a writing process at random moments loses nothing and halves nothing."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from crash.history import DIM, LABELS, Operation, apply_to_plain, draw
from plain_memory import PlainMemory, answer, contents, contents_of, history_of

from recollect import Memory
from recollect.errors import ErasedBefore

ROOT = Path(__file__).resolve().parents[2]
QUERIES = np.array([[1, 0, 0, 2, 0, 0], [-3, 1, 4, 1, -5, 9]], np.float32)


def write_until_killed(folder: Path, seed: int) -> int:
    """Start a writer, kill it at a random moment, and return how many writes it acknowledged."""
    rng = np.random.default_rng([seed, 1])
    begun, delay = int(rng.integers(1, 12)), float(rng.choice([0, 0.001, 0.004, 0.02, 0.1]))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]),
        "OPENBLAS_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "crash.writer", str(folder), str(seed)],
        stdout=subprocess.PIPE, env=environment,
    ) as writer:  # fmt: skip
        assert writer.stdout is not None
        reports = b""
        while reports.count(b"b") < begun:
            report = writer.stdout.read(1)
            assert report, f"the writer ended by itself, with code {writer.wait()}"
            reports += report
        time.sleep(rng.uniform(0, delay))
        writer.send_signal(signal.SIGKILL)
        return (reports + writer.stdout.read()).count(b"a")


def check_after_kill(folder: Path, plain: PlainMemory, seed: int, acknowledged: int) -> PlainMemory:
    """The memory holds every acknowledged write, and the one under way wholly or not at all."""
    rng = np.random.default_rng(seed)
    for _ in range(acknowledged):
        apply_to_plain(next_write(rng, plain), plain)
    after = copy.copy(plain)
    after.versions, after.used = list(plain.versions), set(plain.used)
    after.banned, after.encoders = copy.deepcopy(plain.banned), list(plain.encoders)
    write = next_write(rng, plain)
    apply_to_plain(write, after)
    with Memory.open(folder, read_only=True, check=False) as reader:
        seen = contents_of(reader)  # the first to open it may be a reader
    with Memory.open(folder, check=True) as memory:
        assert seen == contents_of(memory)
        assert memory.version in {plain.version, after.version}
        now = plain if memory.version == plain.version else after
        assert contents_of(memory) == contents(now.rows), write.name
        assert history_of(memory) == now.history(), write.name
        near = memory.search(QUERIES, 5)
        assert (near.ids.tolist(), near.similarity.tolist()) == answer(
            now.rows, QUERIES, 5, "cosine"
        )
        past = int(rng.integers(now.oldest, now.version + 1))
        assert contents_of(memory.at(past)) == contents(now.versions[past].rows)
        assert memory.at(past).encoder == now.encoders[past]
        check_no_return(memory, now, rng)
    return now


def next_write(rng: np.random.Generator, plain: PlainMemory) -> Operation:
    """What the writer draws from the same memory."""
    return draw(rng, sorted(plain.rows), plain.version, plain.oldest, sorted(plain.banned))


def check_no_return(memory: Memory, now: PlainMemory, rng: np.random.Generator) -> None:
    """What was erased for good is refused, under every key it had; nothing else is on the list."""
    assert [row.id for row in memory.no_return()] == sorted(now.banned)
    some = rng.choice(sorted(now.banned), min(3, len(now.banned))) if now.banned else ()
    for row in some:
        for key in now.banned[int(row)]:
            with pytest.raises(ErasedBefore, match=f"of row {row},"):
                memory.add(np.frombuffer(key, np.float32)[None], [LABELS[0]])
    assert (memory.version, memory.encoder) == (now.version, now.encoders[-1])


def kill_writers(folder: Path, kills: int) -> None:
    Memory.create(folder, dim=DIM).close()
    plain = PlainMemory()
    for seed in range(kills):
        acknowledged = write_until_killed(folder, seed)
        plain = check_after_kill(folder, plain, seed, acknowledged)


def test_a_writer_killed_at_fifteen_random_moments_leaves_whole_versions(tmp_path):
    """A crash is normal; the memory must not notice."""
    kill_writers(tmp_path / "memory", 15)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_writer_killed_at_two_hundred_random_moments_leaves_whole_versions(tmp_path):
    """What the fast test promises, with a number that would show a rare window."""
    kill_writers(tmp_path / "memory", 200)
