"""Heads over a memory that lasts, or that was given."""

from __future__ import annotations

import gc

import pytest

from recollect import Memory, MemoryClassifier, MemoryRegressor
from recollect.errors import (
    DimensionMismatch,
    DuplicateIds,
    EmptyMemory,
    InvalidMetadata,
    InvalidParameter,
    MemoryLocked,
    ReadOnly,
)

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


@pytest.fixture
def taught(tmp_path):
    """The path of a memory that an earlier process taught."""
    head = MemoryClassifier(k=1, memory=tmp_path / "memory")
    head.fit([EAST, NORTH], ["east", "north"])
    head.memory_.close()
    return tmp_path / "memory"


def test_a_memory_that_holds_rows_answers_without_fit(taught):
    """That is what it lasts for."""
    head = MemoryClassifier(k=1, memory=taught)

    assert head.predict([[0.1, 1.0]]).tolist() == ["north"]
    assert head.classes_.tolist() == ["east", "north"]
    assert head.ids_.tolist() == [0, 1]
    assert head.n_features_in_ == 2


def test_what_is_taught_now_is_there_next_time(taught):
    """partial_fit on a memory from before adds to it."""
    head = MemoryClassifier(k=1, memory=taught).partial_fit([WEST], ["west"])
    assert head.ids_.tolist() == [0, 1, 2]
    head.memory_.close()

    assert MemoryClassifier(k=1, memory=str(taught)).predict([WEST]).tolist() == ["west"]


def test_what_is_forgotten_now_is_forgotten_next_time(taught):
    """Also without having taught anything first."""
    head = MemoryClassifier(k=1, memory=taught).forget([0])
    head.memory_.close()

    assert MemoryClassifier(k=1, memory=taught).classes_.tolist() == ["north"]


def test_fit_replaces_all_rows_in_one_version_that_can_be_undone(taught):
    """fit means these rows and no others; restore brings the others back."""
    head = MemoryClassifier(k=1, memory=taught)
    before = head.predict([EAST]).tolist()
    version = Memory.open(taught, read_only=True).version

    head.fit([WEST], ["west"])
    assert head.memory_.version == version + 1
    assert head.predict([EAST]).tolist() == ["west"]
    head.memory_.restore(version)

    assert head.predict([EAST]).tolist() == before
    head.memory_.close()


def test_readers_follow_a_writer(taught):
    """A service answers from the newest version without being restarted."""
    reader = MemoryClassifier(k=1, memory=taught)
    assert reader.predict([WEST]).tolist() == ["north"]

    writer = MemoryClassifier(memory=taught).partial_fit([WEST], ["west"])

    assert reader.predict([WEST]).tolist() == ["west"]
    writer.memory_.close()


def test_a_second_writer_is_refused_and_goes_on_reading(taught):
    """One writer at a time; the error names the holder."""
    writer = MemoryClassifier(memory=taught).partial_fit([WEST], ["west"])
    second = MemoryClassifier(k=1, memory=taught)

    with pytest.raises(MemoryLocked):
        second.forget([0])

    assert second.predict([EAST]).tolist() == ["east"]
    writer.memory_.close()


def test_a_head_that_is_gone_holds_no_lock(taught):
    """Estimators are dropped, not closed; the next one must be able to learn."""
    head = MemoryClassifier(memory=taught).partial_fit([WEST], ["west"])
    del head
    gc.collect()

    Memory.open(taught).close()


def test_a_closed_memory_is_opened_again_when_asked(taught):
    """Closing gives the writer's lock back; it is not the end of the head."""
    head = MemoryClassifier(k=1, memory=taught).partial_fit([WEST], ["west"], ids=[9])
    head.memory_.close()

    assert head.predict([WEST]).tolist() == ["west"]
    assert head.ids_.tolist() == [0, 1, 9]


def test_another_memory_can_be_set(taught, tmp_path):
    """set_params(memory=...) takes effect on the next answer."""
    other = Memory.create(tmp_path / "other", dim=2)
    other.add([WEST], ["west"], ids=[5])
    head = MemoryClassifier(k=1, memory=taught)
    assert head.predict([EAST]).tolist() == ["east"]

    head.set_params(memory=other)

    assert head.predict([EAST]).tolist() == ["west"]
    assert head.ids_.tolist() == [5]
    other.close()


def test_there_is_no_answer_where_there_is_no_memory(tmp_path):
    """Asking creates nothing."""
    head = MemoryClassifier(memory=tmp_path / "nowhere")

    with pytest.raises(EmptyMemory, match="not fitted"):
        head.predict([EAST])
    assert not (tmp_path / "nowhere").exists()


def test_an_empty_memory_has_to_be_taught_first():
    """A memory without rows is no knowledge."""
    head = MemoryClassifier(memory=Memory.create(":memory:", dim=2))

    with pytest.raises(EmptyMemory, match="not fitted"):
        head.predict([EAST])
    assert head.partial_fit([EAST], ["east"]).predict([NORTH]).tolist() == ["east"]


def test_a_memory_that_was_given_is_used_as_it_is():
    """Other parts of the program see what the head was taught."""
    memory = Memory.create(":memory:", dim=2)

    MemoryClassifier(memory=memory).fit([EAST], ["east"])

    assert len(memory) == 1


def test_a_view_of_the_past_answers_and_refuses_to_learn():
    """at(version) is for looking."""
    memory = Memory.create(":memory:", dim=2)
    memory.add([EAST], ["east"])
    memory.add([NORTH], ["north"])
    head = MemoryClassifier(k=1, memory=memory.at(1))

    assert head.predict([NORTH]).tolist() == ["east"]
    with pytest.raises(ReadOnly):
        head.partial_fit([WEST], ["west"])


@pytest.mark.parametrize(
    ("columns", "error"),
    [({"ids": [1, 1]}, DuplicateIds), ({"metadata": {"id": [1, 2]}}, InvalidMetadata)],
)
def test_refused_rows_leave_no_memory_behind(tmp_path, columns, error):
    """A first fit that failed has not even made a folder."""
    head = MemoryClassifier(memory=tmp_path / "memory")

    with pytest.raises(error):
        head.fit([EAST, NORTH], ["east", "north"], **columns)

    assert not (tmp_path / "memory").exists()


def test_refused_rows_leave_the_lock_free(taught):
    """A failed write may not block the next writer."""
    with pytest.raises(DimensionMismatch):
        MemoryClassifier(memory=taught).fit([[1.0, 0.0, 0.0]], ["up"])

    Memory.open(taught).close()


@pytest.mark.parametrize(
    "head", [MemoryClassifier(metric="euclidean"), MemoryRegressor()], ids=["metric", "values"]
)
def test_a_memory_of_another_kind_is_refused(taught, head):
    """Cosine is not Euclidean distance, and labels are no numbers."""
    head.set_params(memory=taught)

    with pytest.raises(InvalidParameter):
        head.predict([EAST])
    with pytest.raises(InvalidParameter):
        head.fit([EAST], [1])

    assert len(Memory.open(taught, read_only=True)) == 2
