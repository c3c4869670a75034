"""The table of nearest others is kept as a cache: taken up where it fits, never trusted blindly."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import Memory, MemoryClassifier
from recollect.memory.kept_table import FILE, Table, is_table, keep
from recollect.memory.leave_one_out import LeaveOneOut


@pytest.fixture
def memory(tmp_path):
    with Memory.create(tmp_path / "memory", dim=3) as memory:
        memory.add(np.random.default_rng(0).normal(size=(60, 3)), ["a", "b"] * 30)
        yield memory


def searched(memory):
    """How many rows a new table on this memory has to search for."""
    seen = [0]
    table = LeaveOneOut(memory).update(lambda done, total: seen.append(total))
    fresh = Memory.create(":memory:", dim=memory.dim)
    rows = memory.rows()
    fresh.add(rows.keys, rows.values, ids=rows.ids)
    assert np.array_equal(table._table.last.near, LeaveOneOut(fresh).update()._table.last.near)
    return seen[-1]


def test_a_kept_table_is_taken_up(memory):
    """Nothing is searched again, neither here nor after the memory was opened anew."""
    assert LeaveOneOut(memory).update().keep()

    assert searched(memory) == 0


def test_what_happened_since_is_followed(memory):
    """Only rows that are new are searched for."""
    LeaveOneOut(memory).update().keep()

    memory.add([[1, 2, 3], [3, 2, 1]], ["a", "b"])
    memory.remove([5])

    assert searched(memory) == 2


def test_an_erased_row_leaves_the_cache_too(memory):
    """Its similarities to others would tell of it."""
    LeaveOneOut(memory).update().keep()

    memory.erase([7])

    assert not memory.cache_folder.exists()
    assert searched(memory) == 59


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path):
    path.write_bytes(path.read_bytes()[:500])


def replaced_by_pickle(path):
    np.savez(path, about=np.array([{"format": 1}], object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage", [flip, truncate, replaced_by_pickle, lambda p: p.write_text("x")]
)
def test_a_damaged_file_is_computed_again(memory, damage):
    """A cache is no reason to fail, nor to answer from it."""
    LeaveOneOut(memory).update().keep()

    damage(memory.cache_folder / FILE)

    assert searched(memory) == 60


def test_the_table_of_another_memory_is_not_taken_up(memory, tmp_path):
    """Same size, same version, other rows: told apart by the moment they were written."""
    LeaveOneOut(memory).update().keep()
    with Memory.create(tmp_path / "other", dim=3, clock=lambda: 1.0) as other:
        other.add(np.random.default_rng(1).normal(size=(60, 3)), ["a", "b"] * 30)
        other.cache_folder.mkdir()
        (other.cache_folder / FILE).write_bytes((memory.cache_folder / FILE).read_bytes())

        assert searched(other) == 60


def test_a_past_version_does_not_take_up_a_later_table(memory):
    """Rows that came later are unknown to it."""
    memory.add([[1, 2, 3]], ["a"])
    LeaveOneOut(memory).update().keep()

    assert LeaveOneOut(memory.at(1)).update().ids.tolist() == list(range(60))


def test_reading_never_writes(memory, tmp_path):
    """Neither a read-only memory nor a prediction leaves a file behind."""
    with Memory.open(tmp_path / "memory", read_only=True) as reader:
        assert not LeaveOneOut(reader).update().keep()
    MemoryClassifier(reliability="rate", memory=memory).predict([[1, 0, 0]])

    assert not memory.cache_folder.exists()


def test_tuning_keeps_what_it_computed(memory):
    """The next session does not compare all rows again."""
    MemoryClassifier(memory=memory).tune()

    assert searched(memory) == 0


def test_a_memory_in_ram_keeps_nothing():
    """It has no folder."""
    memory = Memory.create(":memory:", dim=2)
    memory.add([[1, 0], [0, 1]], ["a", "b"])

    assert memory.cache_folder is None
    assert not LeaveOneOut(memory).update().keep()


def test_a_link_in_the_cache_leads_no_write_elsewhere(memory, tmp_path):
    """A folder that someone sent may hold one; a file of the user's must not be overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    memory.cache_folder.mkdir(exist_ok=True)
    (memory.cache_folder / f"{FILE}.new").symlink_to(victim)

    assert LeaveOneOut(memory).update().keep()
    assert victim.read_text(encoding="utf-8") == "mine"
    assert not (memory.cache_folder / FILE).is_symlink()
    assert searched(memory) == 0


@pytest.mark.parametrize("place", range(0, 120, 7))
def test_a_damaged_table_is_made_anew(memory, place):
    """Whatever the reader says of the bytes, it is no reason for a question to fail."""
    LeaveOneOut(memory).update().keep()
    content = bytearray((memory.cache_folder / FILE).read_bytes())
    content[place] ^= 0xFF
    (memory.cache_folder / FILE).write_bytes(content)

    assert searched(memory) in {0, 60}


def forged(memory, alter):
    """A table that was altered by someone who can compute its checksum too."""
    held = LeaveOneOut(memory).update()
    table = held._table.last
    arrays = {name: array.copy() for name, array in table.arrays().items()}
    alter(arrays)
    return Table(table.version, **arrays)


def own(arrays):
    arrays["near"][5, 3] = arrays["ids"][5]


def twice(arrays):
    arrays["near"][5, 3] = arrays["near"][5, 2]


def unknown(arrays):
    arrays["near"][5, 3] = 1000


def disorder(arrays):
    arrays["similarity"][5, [0, 1]] = arrays["similarity"][5, [1, 0]] - [0, 0.001]


def above_one(arrays):
    arrays["similarity"][5, 0] = 1.5


def not_a_number(arrays):
    arrays["similarity"][5, 3] = np.nan


def too_certain(arrays):
    arrays["certain"][5] += 1


def negative(arrays):
    arrays["near"][5, 3] = -7


def unsorted(arrays):
    arrays["ids"][[3, 4]] = arrays["ids"][[4, 3]]


def repeated(arrays):
    arrays["known"][3] = arrays["known"][4]


def stranger(arrays):
    arrays["ids"][59] = 99


def one_less_known(arrays):
    """The row at the end stays in the lists, and is named by nobody."""
    arrays["known"] = arrays["known"][:-1]
    for name in ("ids", "near", "similarity", "certain"):
        arrays[name] = arrays[name][:0]


FORGERIES = (
    own, twice, unknown, disorder, above_one, not_a_number, too_certain, negative, unsorted,
    repeated, stranger, one_less_known,
)  # fmt: skip


@pytest.mark.parametrize("alter", FORGERIES)
def test_a_forged_table_is_dropped(memory, alter):
    """Its checksum is right; what it says cannot be."""
    keep(memory, forged(memory, alter), 100)

    assert searched(memory) == 60


def test_every_table_that_was_computed_passes():
    """Twins, ties, short lists and all metrics; else a cache would be of no use."""
    for metric in ("cosine", "dot", "euclidean", "manhattan"):
        memory = Memory.create(":memory:", dim=2, metric=metric)
        memory.add(np.random.default_rng(0).integers(1, 4, (50, 2)) * 1e-3, ["a"] * 50)
        table = LeaveOneOut(memory, deepest=5).update()
        memory.remove([3, 4, 5])
        memory.add([[1, 1], [1e9, 1]], ["b", "c"])
        table.update()

        assert is_table(table._table.last, metric)
