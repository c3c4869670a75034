"""Readers, writers and threads at once: every answer is that of one whole version."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from interpreter import SOURCE, run_python

from recollect import Memory
from recollect.errors import UnknownVersion

DIM, ROWS = 8, 40
KEYS = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(3, DIM)).astype(np.float32)

HANDLES = Path("/proc/self/fd")

WRITER = """
import sys, time
import numpy as np
from recollect import Memory
keys = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
until = time.monotonic() + float(sys.argv[2])
with Memory.open(sys.argv[1]) as memory:
    step = 0
    while time.monotonic() < until:
        step += 1
        ids = memory.ids
        label, facts = f"label {step}", {"step": step}
        if step % 5 == 0:
            memory.replace(keys, [label] * 40, metadata=facts)
        elif step % 7 == 0:
            memory.erase(ids[:1])
        elif step % 11 == 0:
            memory.compact()
        else:
            memory.update(ids, values=label, weights=step, metadata=facts)
        print(step, flush=True)
"""


def start_writer(folder, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(seconds)],
        stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(SOURCE)},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A memory in which every row has the label, weight and step of the last write."""
    with Memory.create(tmp_path / "memory", dim=DIM) as memory:
        memory.add(KEYS, ["label 0"] * ROWS, weights=1, metadata={"step": 0})
    return tmp_path / "memory"


def read_whole(reader):
    """One question of each kind; what it says must be of one version."""
    near = reader.search(QUERIES, k=ROWS)
    labels = set(near.values[near.found].tolist())
    weights = set(near.weights[near.found].tolist())
    rows = reader.rows()
    steps = set(rows.metadata["step"])
    assert (len(labels), len(weights), len(steps)) == (1, 1, 1)
    assert set(rows.values.tolist()) == {f"label {steps.pop()}"}
    assert len(set(reader.label_counts())) == 1
    found = reader.search(QUERIES, k=1, where="step >= 0 and label like 'label%'")
    assert found.found.all()
    history = reader.versions()
    assert [info.version for info in history] == list(
        range(history[0].version, history[-1].version + 1)
    )
    return history[-1].version


@pytest.mark.timeout(120)
def test_a_reader_never_sees_half_of_a_write_of_another_process(folder):
    """The writer relabels all rows in one update, replaces, erases and compacts, over and over."""
    with start_writer(folder, 1.5) as writer, Memory.open(folder, read_only=True) as reader:
        seen = []
        while writer.poll() is None:
            seen.append(read_whole(reader))
        assert read_whole(reader) == reader.version
    assert writer.returncode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


@pytest.mark.timeout(120)
def test_readers_that_come_and_go_while_a_writer_writes_see_whole_versions(folder):
    """Opening reads the most, and checks every byte of it."""
    with start_writer(folder, 1.5) as writer:
        seen = []
        while writer.poll() is None:
            with Memory.open(folder, read_only=True, check=True) as reader:
                seen.append(read_whole(reader))
    assert writer.returncode == 0
    assert len(set(seen)) > 2


@pytest.mark.timeout(120)
def test_looking_back_and_asking_now_through_one_reader_both_follow_the_writer(folder):
    """What one of the two handles has noticed, the other one must notice too."""
    with Memory.open(folder) as writer, Memory.open(folder, read_only=True) as reader:
        past = reader.at(1)
        reader.search(QUERIES)
        writer.update(np.arange(ROWS), values="changed")
        assert set(past.rows().values.tolist()) == {"label 0"}

        assert set(reader.search(QUERIES).values.ravel().tolist()) == {"changed"}

        writer.compact()
        with pytest.raises(UnknownVersion):
            past.search(QUERIES)
        assert set(reader.rows().values.tolist()) == {"changed"}


def test_a_reader_finishes_its_question_while_the_files_are_made_anew(folder):
    """It keeps what it has mapped until it asks again."""
    with Memory.open(folder, read_only=True) as reader:
        view = reader._view
        reader.search(QUERIES)
        view = reader._view
        before = view.index.search(QUERIES, 3)
        with Memory.open(folder) as writer:
            writer.erase(np.arange(ROWS - 1))

        near = view.neighbors(*view.index.search(QUERIES, 3))

        assert near.ids.tolist() == before[0].tolist()
        assert set(near.values.ravel().tolist()) == {"label 0"}
        assert reader.search(QUERIES, k=2).ids[0].tolist() == [ROWS - 1, -1]


LOCKED = """
import fcntl, sys
with open(sys.argv[1], "rb+") as shared:
    try:
        fcntl.lockf(shared, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)
    except BlockingIOError:
        print("in use")
"""


def test_an_erasure_keeps_the_locks_that_sqlite_holds(folder):
    """Closing any descriptor of a file releases them all; a reader would then cut off the shared
    index under the writer's feet, which ends in a bus error."""
    with Memory.open(folder) as writer:
        writer.erase([0])
        writer.erase([1])

        done = subprocess.run(
            [sys.executable, "-c", LOCKED, str(folder / "catalog.sqlite-shm")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert done.stdout == "in use\n"


@pytest.mark.skipif(not HANDLES.exists(), reason="this system does not list what is open")
def test_nothing_is_held_open_after_the_last_handle_was_closed(folder):
    """A long-lived process opens and erases again and again."""
    code = f"""
from pathlib import Path
from recollect import Memory
opened = lambda: len(list(Path("{HANDLES}").iterdir()))
before = opened()
with Memory.open({str(folder)!r}, read_only=True) as reader:
    for row in range(3):
        with Memory.open({str(folder)!r}) as writer:
            writer.erase([row])
    assert len(reader) == {ROWS - 3}
print(opened() - before)
"""
    assert run_python(code) == "0"


def run_threads(*bodies, seconds):
    """Run functions again and again in threads, and hand back what they raised."""
    errors, until = [], time.monotonic() + seconds

    def repeat(body):
        try:
            while time.monotonic() < until:
                body()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", [None, "label like 'label%'"])
def test_an_answer_found_while_another_thread_writes_is_that_of_a_whole_version(where, tmp_path):
    """Adding, relabeling, removing, replacing and restoring, with two threads asking."""
    rng = np.random.default_rng(2)
    answers = []
    with Memory.create(tmp_path / "m", dim=DIM) as memory:
        memory.add(KEYS, ["label"] * ROWS)

        def ask():
            near = memory.search(QUERIES, k=5, where=where)
            answers.append((near.ids.tobytes(), str(near.values), near.weights.tobytes()))

        def write():
            ids = memory.ids
            choice = rng.integers(6)
            if choice == 0 and len(ids) > 5:
                memory.remove(rng.choice(ids, 4, replace=False))
            elif choice == 1:
                memory.replace(KEYS, [f"label {rng.integers(99)}"] * ROWS)
            elif choice == 2:
                memory.restore(int(rng.integers(1, memory.version + 1)))
            elif choice == 3:
                memory.update(ids, values=f"label {rng.integers(99)}", weights=rng.integers(1, 9))
            else:
                keys = rng.normal(size=(3, DIM))
                memory.add(keys, [f"label {rng.integers(99)}"] * 3)

        errors = run_threads(ask, ask, write, seconds=1.2)
        whole = set()
        for info in memory.versions()[1:]:
            near = memory.at(info.version).search(QUERIES, k=5, where=where)
            whole.add((near.ids.tobytes(), str(near.values), near.weights.tobytes()))
    assert errors == []
    assert len(answers) > 10
    assert set(answers) <= whole


@pytest.mark.timeout(120)
@pytest.mark.parametrize("place", ["disk", "ram"])
def test_threads_may_erase_and_compact_while_others_ask(place, tmp_path):
    """No error, and no row that was never there."""
    with Memory.create(tmp_path / "m" if place == "disk" else ":memory:", dim=DIM) as memory:
        memory.add(KEYS, ["label"] * ROWS)

        def ask():
            near = memory.search(QUERIES, k=5)
            assert set(near.values[near.found].tolist()) <= {"label"}
            rows = memory.rows()
            assert len(rows.keys) == len(rows.values)

        def write():
            memory.erase(memory.ids[:2])
            memory.add(KEYS[:2], ["label"] * 2)
            if memory.version % 5 == 0:
                memory.compact()

        assert run_threads(ask, ask, write, seconds=0.8) == []
        assert len(memory) == ROWS
        assert memory.verify().ok


@pytest.mark.timeout(120)
def test_writes_of_many_threads_are_all_there(tmp_path):
    """One after the other, each its own version."""
    with Memory.create(tmp_path / "m", dim=DIM) as memory:
        ids = []

        def write():
            ids.extend(memory.add(KEYS[:3], ["x"] * 3).tolist())
            assert memory.remove(where=f"id = {ids[-1]}").size <= 1

        assert run_threads(write, write, write, seconds=1) == []
        assert sorted(ids) == list(range(len(ids)))
        assert memory.verify().ok


def test_closing_while_another_thread_asks_ends_in_an_answer_or_in_closed(tmp_path):
    """Never in an error of SQLite or NumPy."""
    from recollect.errors import Closed

    memory = Memory.create(tmp_path / "m", dim=DIM)
    memory.add(KEYS, ["x"] * ROWS)
    threading.Timer(0.2, memory.close).start()

    errors = run_threads(
        lambda: memory.search(QUERIES),
        memory.rows,
        memory.versions,
        seconds=0.6,
    )

    assert {type(error) for error in errors} == {Closed}
