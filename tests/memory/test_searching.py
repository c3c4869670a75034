"""A memory that is asked by lists: the rows decide what an answer may hold."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from recollect import Approximate, Memory
from recollect.errors import CorruptMemory, InvalidParameter, MissingExtra

POLICY = Approximate(recall=0.95, least=500, lists=32, sample=100, background=False)


@pytest.fixture
def keys():
    rng = np.random.default_rng(5)
    centers = rng.standard_normal((50, 16))
    return (centers[rng.integers(0, 50, 2000)] + 0.4 * rng.standard_normal((2000, 16))).astype(
        np.float32
    )


@pytest.fixture
def place(tmp_path, keys):
    with Memory.create(tmp_path / "m", dim=16) as memory:
        memory.add(keys, (np.arange(2000) % 7).tolist())
    return tmp_path / "m"


def test_a_handle_searches_by_lists_if_it_is_asked_to(place, keys):
    """The memory itself knows nothing of it: another handle searches exactly."""
    with Memory.open(place, search=POLICY) as memory, Memory.open(place, read_only=True) as other:
        assert memory.prepare()["engine"] == "lists"
        assert memory.stats()["search"]["measured_recall"] >= 0.95
        assert other.prepare() == {"engine": "exact"}
        near, truth = memory.search(keys[:200], 10), other.search(keys[:200], 10)

    assert (near.similarity >= truth.similarity[:, -1:]).mean() >= 0.95
    assert near.values[:, 0].tolist() == (np.arange(200) % 7).tolist()


def test_what_is_added_removed_and_restored_counts_in_the_next_answer(place, keys):
    """Lists follow every write of the handle."""
    with Memory.open(place, search=POLICY) as memory:
        memory.prepare()
        version = memory.version
        memory.add(-keys[:1], [99])
        added = memory.search(-keys[:1], 1)
        memory.remove([3])
        removed = memory.search(keys[3:4], 50)
        memory.restore(version)
        restored = memory.search(keys[3:4], 1)

    assert added.values.tolist() == [[99]]
    assert 3 not in removed.ids
    assert restored.ids.tolist() == [[3]]


def test_an_erased_row_is_in_no_list(place, keys):
    """Erasing reads the rows anew; the lists that were trained stay, without the row."""
    with Memory.open(place, search=POLICY) as memory:
        memory.prepare()
        memory.erase([3])

        assert 3 not in memory.search(keys[3:4], 50).ids
        assert 3 not in memory._view._index.keeper.trained.ids


def test_a_reader_follows_a_writer_without_training_again(place, keys):
    """Each commit gives the reader a new view; lists outlive it."""
    with (
        Memory.open(place) as writer,
        Memory.open(place, read_only=True, search=POLICY) as reader,
    ):
        reader.prepare()
        lists = reader._view._index.keeper.trained.lists
        writer.remove([3])
        writer.add(-keys[:1], [99], ids=[5000])

        assert 3 not in reader.search(keys[3:4], 50).ids
        assert reader.search(-keys[:1], 1).ids.tolist() == [[5000]]
        assert reader._view._index.keeper.trained.lists is lists


def test_readers_writers_and_a_training_never_wait_for_each_other_in_a_ring(place, keys):
    """Searches, writes and the thread that trains share two locks; 60 s would be a deadlock."""
    policy = Approximate(recall=0.9, least=500, lists=32, sample=50)
    with Memory.open(place, search=policy, check=False) as memory, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask_often, memory, keys) for _ in range(2)]
        pool.submit(write_often, memory, keys).result(60)
        answers = [answer for each in asked for answer in each.result(60)]

    assert len(answers) == 120
    assert all((ids >= 0).all() for ids in answers)


def ask_often(memory, keys):
    return [memory.search(keys[at : at + 5], 5).ids for at in range(60)]


def write_often(memory, keys):
    """Half as many rows again come and some go, so that lists are trained, measured and purged."""
    for at in range(40):
        ids = memory.add(keys[at * 30 : at * 30 + 30] + np.float32(0.01), [9] * 30)
        memory.remove(ids[:10])


def test_a_filter_and_leave_one_out_work_by_lists(place, keys):
    """The whole of `search` is there."""
    with Memory.open(place, search=POLICY) as memory:
        near = memory.search(keys[:20], 5, where="label = 3", exclude=np.arange(20))

    assert (near.values == 3).all()
    assert not (near.ids == np.arange(20)[:, None]).any()


def test_closing_ends_a_training_in_the_background(place, keys):
    """The thread would go on for minutes in a large memory, and hold its rows."""
    memory = Memory.open(place, search=Approximate(least=500, lists=512, sample=500))
    memory.search(keys[:1], 1)
    worker = memory._view._index.keeper._worker

    memory.close()

    assert not worker.is_alive()


def test_lists_from_a_file_are_not_searched_for_a_recall_they_were_not_measured_for(tmp_path, keys):
    """What was measured for 0.5 says nothing of 0.99."""
    low = Approximate(recall=0.5, least=500, lists=32, sample=100)
    with Memory.create(tmp_path / "m", dim=16, search=low) as memory:
        memory.add(keys, [0] * 2000)
        memory.prepare()

    high = Approximate(recall=0.95, least=500, lists=32, sample=100, background=False)
    with Memory.open(tmp_path / "m", search=high) as memory:
        memory._current().index.keeper.follow = lambda: None  # as while that is going on
        assert memory.stats()["search"]["engine"] == "exact"


def test_past_versions_are_searched_exactly(place, keys):
    """They are looked at once; training lists for them would take longer."""
    with Memory.open(place, search=POLICY) as memory:
        memory.remove([3])

        assert memory.at(1).prepare() == {"engine": "exact"}
        assert memory.at(1).search(keys[3:4], 1).ids.tolist() == [[3]]


def test_a_damaged_key_among_the_candidates_is_noticed(place, keys):
    """Every key that is scored by lists is compared with its checksum before."""
    memory = Memory.open(place, search=POLICY, check=False)
    memory.prepare()
    memory._view.table.vouched[:] = False  # as after opening with lists from a file
    path = next((place / "segments").iterdir())
    with path.open("r+b") as file:
        file.seek(3 * 64 + 5)
        file.write(b"\xff")

    with memory, pytest.raises(CorruptMemory, match="the key of row 3 was altered"):
        memory.search(keys[3:4], 5)


def test_a_memory_in_ram_can_search_by_lists(keys):
    """For an experiment that needs no disk."""
    memory = Memory.create(":memory:", dim=16, search=POLICY)
    memory.add(keys, [0] * 2000)

    assert memory.prepare()["engine"] == "lists"
    assert memory.search(keys[:1], 1).ids.tolist() == [[0]]


def test_an_unknown_search_is_refused_before_anything_is_made(tmp_path):
    """A typing error must leave no empty memory behind."""
    with pytest.raises(InvalidParameter, match="search is out of range"):
        Memory.create(tmp_path / "m", dim=2, search="aproximate")

    assert not (tmp_path / "m").exists()


def test_a_missing_faiss_is_named_when_the_memory_is_opened(place, monkeypatch):
    """Not in the middle of the first search."""
    monkeypatch.setitem(sys.modules, "faiss", None)

    with pytest.raises(MissingExtra, match="needs faiss") as caught:
        Memory.open(place, search="approximate")

    assert caught.value.remedy == "pip install 'recollect[faiss]'"


def test_a_filter_keeps_rows_out_that_no_list_can_hold(keys):
    """Keys too long for the lists are looked at for every query, if the filter lets them pass."""
    keys[0] = 1e30
    with Memory.create(":memory:", dim=16, metric="dot", search=POLICY) as memory:
        memory.add(keys, ["secret"] + ["known"] * 1999)
        assert memory.prepare()["engine"] == "lists"
        everything = memory.search(np.ones((1, 16)), 2)
        filtered = memory.search(np.ones((1, 16)), 2, where="label = 'known'")

    assert everything.values.tolist()[0][0] == "secret"
    assert filtered.values.tolist() == [["known", "known"]]
