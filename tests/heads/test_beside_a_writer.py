"""Questions that read a memory several times see one version of it, whoever writes meanwhile."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from interpreter import SOURCE

from recollect import Memory, MemoryClassifier
from recollect.curation.curate import inspect_rows
from recollect.heads.class_statistics import ClassStatistics
from recollect.heads.hierarchy import Hierarchy
from recollect.heads.reranking.opinion import Function, rerank
from recollect.memory.leave_one_out import LeaveOneOut

KEYS = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
OPTIONS = {"k": 5, "reliability": "rate", "class_means": 0.4}


class Interrupted(Memory):
    """Another thread writes once, just before the next call of one kind."""

    def _strike(self, call):
        write, at = self.__dict__.get("write"), self.__dict__.get("before")
        if write is not None and call == at:
            self.write = None
            writer = threading.Thread(target=write, args=(self,))
            writer.start()
            writer.join(5)

    def search(self, *args, **options):
        """Search, after the write."""
        self._strike("search")
        return super().search(*args, **options)

    def keys(self, ids):
        """Give keys, after the write."""
        self._strike("keys")
        return super().keys(ids)

    def look_up(self, *args):
        """Look up, after the write."""
        self._strike("look_up")
        return super().look_up(*args)

    @property
    def labels(self):
        """Give labels, after the write."""
        self._strike("labels")
        return super().labels


WRITES = {
    "add": lambda memory: memory.add(KEYS[:3] + 0.01, ["c", "d", "a"]),
    "remove": lambda memory: memory.remove([0, 7, 59]),
    "relabel": lambda memory: memory.update([1, 2], values=["z", "b"]),
    "replace": lambda memory: memory.replace(KEYS[:20], ["x", "y"] * 10),
}
CALLS = ("search", "keys", "look_up", "labels")


@pytest.fixture(params=WRITES)
def write(request):
    return WRITES[request.param]


@pytest.fixture(params=CALLS)
def memory(request, write):
    """A memory into which is written just before a call of this kind."""
    memory = Interrupted.create(":memory:", dim=3)
    memory.add(KEYS, ["a", "b", "c"] * 20)
    memory.before, memory.write = request.param, write
    return memory


def same_table(memory, table):
    fresh, held = LeaveOneOut(memory).update()._table.last, table._table.last
    return held.version == memory.version and all(
        np.array_equal(held.arrays()[name], fresh.arrays()[name]) for name in held.arrays()
    )


def test_a_table_that_was_disturbed_equals_a_fresh_one(memory):
    """Before, a row that came meanwhile stood twice in the lists of others, and stayed."""
    table = LeaveOneOut(memory)

    table.update()
    memory.add([[1.0, 2.0, 3.0]], ["a"])

    assert same_table(memory, table.update())


def test_a_table_that_was_disturbed_while_following_equals_a_fresh_one(memory, write):
    """The same for one that only takes in what is new."""
    memory.write = None
    table = LeaveOneOut(memory).update()
    memory.add(KEYS[:2] * 2, ["a", "b"])
    memory.write = write

    table.update()

    assert same_table(memory, table.update())


def test_sums_that_were_disturbed_equal_fresh_ones(memory):
    """Before, ids of one version were paired with labels of another, for good."""
    statistics = ClassStatistics(memory)

    statistics.follow()
    memory.add([[1.0, 2.0, 3.0]], ["e"])

    fresh, found = ClassStatistics(memory).follow(), statistics.follow()
    assert all(
        np.array_equal(getattr(found, name), getattr(fresh, name))
        for name in ("counts", "sums", "products")
    )


def test_an_update_that_fails_leaves_the_last_state(memory):
    """Half of a new one would be worse than none."""
    memory.write = None
    table, statistics = LeaveOneOut(memory).update(), ClassStatistics(memory)
    before, sums = table._table.last, statistics.follow()

    def fail(_memory):
        raise OSError(errno.EIO, "the disk went away")

    memory.add(KEYS[:2] * 2, ["a", "b"])
    memory._strike = fail
    for update in (table.update, statistics.follow):
        with pytest.raises(OSError, match="the disk went away"):
            update()

    assert table._table.last is before
    del memory._strike
    assert statistics.follow().counts.sum() == sums.counts.sum() + 2
    assert same_table(memory, table.update())


def by_hand(memory, options):
    """A classifier over a copy of a version of the rows."""
    rows = memory.rows()
    return MemoryClassifier(**options).fit(rows.keys, rows.values, ids=rows.ids)


QUESTIONS = {
    "predict": lambda head: head.predict(QUERIES).tolist(),
    "abstain": lambda head: head.predict(QUERIES, abstain=0.2).tolist(),
    "few errors": lambda head: head.predict(QUERIES, abstain=0.2, promise="error").tolist(),
    "shares": lambda head: head.predict_proba(QUERIES).tolist(),
    "all k": lambda head: head.predict_all_k(QUERIES).tolist(),
    "explain": lambda head: [(why.prediction, why.shares) for why in head.explain(QUERIES)],
    "votes": lambda head: head.votes()[1].tolist(),
    "neighbors": lambda head: head.kneighbors(n_neighbors=80)[1].tolist(),
    "what if": lambda head: head.what_if(QUERIES, where="label = 'b'").after.tolist(),
    "what if of rows": lambda head: head.what_if(where="id < 3").score_after.tolist(),
    "hierarchy": lambda head: Hierarchy(dict.fromkeys("abcdxyz", "all")).calibrate(head),
    "rerank": lambda head: [
        one.prediction
        for one in rerank(
            head.set_params(class_means=0), QUERIES, Function(lambda asked: asked.shares)
        )
    ],
    "tune": lambda head: head.tune(grid={"k": [1, 5], "vote": ["rank"]}, means=True).best,
    "curate": lambda head: repr(inspect_rows(head.peers_.memory).harmful),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_is_that_of_the_version_after_the_write(memory, question):
    """The write came in the middle of it, so it was asked again as a whole."""
    ask = QUESTIONS[question]

    found = ask(MemoryClassifier(**OPTIONS, memory=memory))

    memory.write = None
    assert found == ask(by_hand(memory, OPTIONS))


@pytest.mark.parametrize("question", QUESTIONS)
def test_so_is_one_of_the_vote_alone(question):
    """It reads less of the memory, but still more than once."""
    memory = Interrupted.create(":memory:", dim=3)
    memory.add(KEYS, ["a", "b", "c"] * 20)
    memory.before, memory.write = "search", WRITES["remove"]
    ask = QUESTIONS[question]

    found = ask(MemoryClassifier(k=5, memory=memory))

    memory.write = None
    assert found == ask(by_hand(memory, {"k": 5}))


WRITER = """
import sys, time
import numpy as np
from recollect import Memory
until, step = time.monotonic() + float(sys.argv[2]), 0
with Memory.open(sys.argv[1]) as memory:
    while time.monotonic() < until:
        step += 1
        rng = np.random.default_rng(step)
        some = rng.choice(memory.ids, 3, replace=False)
        if step % 3 == 0:
            memory.add(rng.normal(size=(3, 3)), [f"new {step}", "a", "b"])
        elif step % 3 == 1:
            memory.remove(some)
        else:
            memory.update(some, values=["a", "b", f"other {step}"])
        time.sleep(0.002)
"""


def answers(head):
    """What one question says: labels, shares and the classes they stand for."""
    asked = head.peers_.memory
    return asked.in_one_version(
        lambda: (
            asked.version,
            head.predict(QUERIES, abstain=0.3).tolist(),
            head.predict_proba(QUERIES).tolist(),
        )
    )


def check(head, seen):
    """Every answer is that of its version, and the state ends as one made afresh."""
    memory = head.memory_
    assert len({version for version, *_ in seen}) > 2
    for version, labels, shares in seen[:: max(1, len(seen) // 25)]:
        past = by_hand(memory.at(version), OPTIONS)
        assert past.predict(QUERIES, abstain=0.3).tolist() == labels
        assert past.predict_proba(QUERIES).tolist() == shares
    assert same_table(memory, head.peers_._table.update())
    sums, fresh = head._statistics().follow(), ClassStatistics(memory).follow()
    assert np.array_equal(sums.products, fresh.products)
    assert np.array_equal(sums.sums, fresh.sums)


@pytest.mark.timeout(120)
def test_answers_beside_a_writer_in_another_process_are_of_one_version(tmp_path):
    """It adds, removes and relabels; labels come and go."""
    with Memory.create(tmp_path / "memory", dim=3) as memory:
        memory.add(KEYS, ["a", "b", "c"] * 20)
    with (
        Memory.open(tmp_path / "memory", read_only=True) as reader,
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "memory"), "1.5"],
            env=os.environ | {"PYTHONPATH": str(SOURCE)},
        ) as writer,
    ):
        head, seen = MemoryClassifier(**OPTIONS, memory=reader), []
        while writer.poll() is None:
            seen.append(answers(head))
        assert writer.returncode == 0
        check(head, seen)


@pytest.mark.timeout(120)
def test_answers_of_threads_beside_a_writing_thread_are_of_one_version():
    """Three ask the same classifier; nobody waits for ever."""
    memory = Memory.create(":memory:", dim=3)
    memory.add(KEYS, ["a", "b", "c"] * 20)
    head, stop, seen, wrong = MemoryClassifier(**OPTIONS, memory=memory), [], [], []

    def ask():
        try:
            while not stop:
                seen.append(answers(head))
                head.predict(QUERIES)
        except Exception as error:  # noqa: BLE001 - all of them are looked at below
            wrong.append(error)

    readers = [threading.Thread(target=ask) for _ in range(3)]
    for reader in readers:
        reader.start()
    until = time.monotonic() + 2
    step = 0
    while time.monotonic() < until:
        step += 1
        rng = np.random.default_rng(step)
        some = rng.choice(memory.ids, 3, replace=False)
        memory.update(some, values=["a", "b", f"other {step}"])
        memory.remove(some[:1])
        memory.add(rng.normal(size=(1, 3)), [f"new {step}"])
    stop.append(True)
    for reader in readers:
        reader.join(30)

    assert not wrong
    assert not any(reader.is_alive() for reader in readers)
    check(head, seen)
