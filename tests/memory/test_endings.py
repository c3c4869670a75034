"""Rows end in a list beside the table of rows; every past version, write and check knows of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from recollect import Memory
from recollect.memory import writes
from recollect.memory.store import CATALOG

OLD = Path(__file__).resolve().parents[1] / "old_formats" / "format-2.zip"


@pytest.fixture
def memory(tmp_path):
    """Four rows, of which row 1 has changed and row 2 was taken out."""
    with Memory.create(tmp_path / "memory", dim=1, metric="euclidean") as memory:
        memory.add([[0], [1], [2], [3]], ["a", "b", "c", "d"], metadata={"n": [0, 1, 2, 3]})
        memory.update([1], values="B")
        memory.remove([2])
        yield memory


def pending(memory):
    return memory._store.db.execute("SELECT COUNT(*) FROM ended").fetchone()[0]


def content(memory):
    rows = memory.rows()
    return dict(zip(rows.ids.tolist(), rows.values.tolist(), strict=True))


def test_what_has_ended_is_gone_now_and_there_before(memory):
    """A changed row has two states, one of which ended."""
    assert pending(memory) == 2
    assert content(memory) == {0: "a", 1: "B", 3: "d"}
    assert content(memory.at(1)) == {0: "a", 1: "b", 2: "c", 3: "d"}
    assert content(memory.at(2)) == {0: "a", 1: "B", 2: "c", 3: "d"}
    assert memory.find("n >= 1").tolist() == [1, 3]
    assert memory.at(2).find("label = 'c' or label = 'b'").tolist() == [2]
    assert memory.verify().ok


@pytest.mark.parametrize("read_only", [True, False])
def test_an_ending_is_read_by_whoever_opens_the_memory(memory, tmp_path, read_only):
    """Nothing of it is only in the writer's mind."""
    if not read_only:
        memory.close()
    with Memory.open(tmp_path / "memory", read_only=read_only, check=True) as again:
        assert content(again) == {0: "a", 1: "B", 3: "d"}
        assert again.search([[2.0]], k=4).ids.tolist() == [[1, 3, 0, -1]]


def test_a_row_may_change_again_and_again(memory):
    """Each change ends the state before it, and no other."""
    memory.update([1, 3], weights=2.0)
    memory.update([1], values="b")

    assert content(memory) == {0: "a", 1: "b", 3: "d"}
    assert [content(memory.at(version)).get(1) for version in range(1, 6)] == [*"bBBBb"]
    assert memory.verify().ok


def test_a_version_that_comes_back_settles_the_list(memory):
    """States that begin again and end again would be confused with those on it."""
    memory.restore(1)
    assert pending(memory) == 0
    assert content(memory) == {0: "a", 1: "b", 2: "c", 3: "d"}

    memory.remove([2])
    memory.restore(3)
    assert content(memory) == {0: "a", 1: "B", 3: "d"}
    assert content(memory.at(5)) == {0: "a", 1: "b", 3: "d"}
    assert memory.verify().ok


def test_an_erased_row_leaves_no_ending(memory):
    """Not even when it was removed before."""
    memory.erase([2])

    assert pending(memory) == 0
    assert content(memory.at(1)) == {0: "a", 1: "b", 3: "d"}
    assert memory.verify().ok


def test_compaction_drops_what_has_ended(memory):
    """Only the newest states remain."""
    memory.compact()

    assert pending(memory) == 0
    assert memory._store.db.execute("SELECT COUNT(*) FROM rows").fetchone() == (3,)
    assert content(memory) == {0: "a", 1: "B", 3: "d"}
    assert memory.verify().ok


def test_other_keys_end_every_row_once(memory):
    """Rows that had ended keep the version with which they did."""
    memory.rekey(np.eye(3, dtype=np.float32), "other")

    assert content(memory) == {0: "a", 1: "B", 3: "d"}
    assert content(memory.at(2)) == {0: "a", 1: "B", 2: "c", 3: "d"}
    assert memory.verify().ok


def test_many_rows_that_end_together_leave_no_list(memory, monkeypatch):
    """A list as long as the table would cost what it saves."""
    monkeypatch.setattr(writes, "MANY", 2)
    memory.remove([0])
    assert pending(memory) == 3
    memory.remove([1, 3])

    assert pending(memory) == 0
    assert content(memory.at(4)) == {1: "B", 3: "d"}
    assert memory.verify().ok


def test_rows_that_lie_far_apart_end_with_little_written(tmp_path):
    """A page for each of them would be 800 kilobytes."""
    with Memory.create(tmp_path / "memory", dim=1) as memory:
        memory.add(np.ones((20_000, 1)), np.zeros(20_000, int))
        assert memory._store.checkpoint()
        memory.remove(np.arange(0, 20_000, 100))
        log = tmp_path / "memory" / f"{CATALOG}-wal"
        assert log.stat().st_size < 100_000


def test_a_memory_of_format_2_gets_the_list_when_a_row_ends(tmp_path):
    """An older library reads on until then; after it, every version is what it was."""
    shutil.unpack_archive(OLD, tmp_path)
    with Memory.open(tmp_path, check=True) as old:
        before = [content(old.at(version)) for version in range(old.version + 1)]
        old.add([[1, 2, 3]], ["newt"])
        assert old._store.format == 2
        old.remove([3])
        assert old._store.format == 3
        assert [content(old.at(version)) for version in range(7)] == before

    with Memory.open(tmp_path, check=True) as again:
        assert content(again) == {1: "wolf", 4: "owl", 5: "newt"}
        assert again.verify().ok
