"""Heads that are copied, pickled by worker processes, or sent elsewhere."""

from __future__ import annotations

import copy
import pickle

import pytest

from recollect import Memory, MemoryClassifier

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def copies(head):
    return [copy.deepcopy(head), pickle.loads(pickle.dumps(head))]  # noqa: S301 - our own bytes


@pytest.fixture
def head():
    head = MemoryClassifier(k=2, metric="euclidean")
    return head.fit(
        [EAST, NORTH, NORTH],
        ["e", "n", "n"],
        ids=[7, 5, 6],
        weights=[3, 1, 0.5],
        sources=["a.png", None, None],
        metadata={"split": ["x", "y", "y"]},
    )


def test_a_copy_answers_as_the_original(head):
    """To the last bit, with the same ids, weights and sources."""
    for twin in copies(head):
        assert twin.explain([[1.0, 0.9]]) == head.explain([[1.0, 0.9]])
        assert twin.ids_.tolist() == [7, 5, 6]


def test_a_copy_is_on_its_own(head):
    """What it forgets the original still knows."""
    for twin in copies(head):
        twin.forget([7])
        assert twin.classes_.tolist() == ["n"]
    assert head.classes_.tolist() == ["e", "n"]


def test_a_forgotten_row_does_not_travel(head):
    """Neither the row nor its id."""
    head.forget([7])

    for twin in copies(head):
        assert twin.partial_fit([EAST], ["e"]).ids_.tolist()[:2] == [5, 6]


def test_a_head_that_forgot_everything_can_be_copied(head):
    """It knows nothing, and still which width it reads."""
    head.forget([5, 6, 7])

    for twin in copies(head):
        assert twin.n_features_in_ == 2
        assert twin.partial_fit([EAST], ["e"]).predict([EAST]).tolist() == ["e"]


def test_a_copy_of_a_head_without_rows_is_one_without_rows():
    """Nothing to take along."""
    for twin in copies(MemoryClassifier(k=3)):
        assert twin.k == 3
        assert not twin.__sklearn_is_fitted__()


def test_a_copy_of_a_durable_head_reads_the_same_folder(tmp_path):
    """It exists once, so the copy opens it; the original keeps the lock."""
    head = MemoryClassifier(k=1, memory=tmp_path / "memory")
    head.fit([EAST, NORTH], ["e", "n"], ids=[3, 1])

    for twin in copies(head):
        assert twin.predict([NORTH]).tolist() == ["n"]
        assert twin.ids_.tolist() == [3, 1]
    head.memory_.close()


@pytest.mark.parametrize("version", [None, 1], ids=["newest", "past"])
def test_a_memory_that_was_given_travels_along(tmp_path, version):
    """A durable one by its path and version."""
    memory = Memory.create(tmp_path / "memory", dim=2)
    memory.add([EAST], ["e"])
    memory.add([NORTH], ["n"])
    seen = memory if version is None else memory.at(version)

    for twin in copies(MemoryClassifier(k=1, memory=seen)):
        assert twin.classes_.tolist() == seen.labels.tolist()
        twin.memory_.close()
    memory.close()


def test_an_in_process_memory_that_was_given_travels_as_its_rows():
    """The copy has one of its own."""
    memory = Memory.create(":memory:", dim=2, encoder="pixels:1")
    memory.add([EAST], ["e"])

    for twin in copies(MemoryClassifier(memory=memory)):
        assert twin.predict([NORTH]).tolist() == ["e"]
        assert twin.memory_ is twin.memory
        assert twin.memory_.encoder == "pixels:1"
        assert twin.memory_ is not memory
