"""The table of every row's nearest others follows the memory and equals one made afresh."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.memory.leave_one_out import SLACK, LeaveOneOut, asked_about
from recollect.memory.memory import Memory

METRICS = ("cosine", "dot", "euclidean", "manhattan")


@pytest.fixture
def line():
    """Rows 0 to 3 at 0, 1, 3 and 7 on a line."""
    memory = Memory.create(":memory:", dim=1, metric="euclidean")
    memory.add([[0.0], [1.0], [3.0], [7.0]], ["a", "b", "a", "b"])
    return memory


def test_each_row_finds_the_others_and_never_itself(line):
    """Left out by id: whatever lies at the same place stays in."""
    near = LeaveOneOut(line).update().neighbors(3)

    assert near.ids.tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]
    assert near.similarity[0].tolist() == [-1.0, -3.0, -7.0]


def test_a_duplicate_stays_in():
    """Only the row itself is left out; its twin answers for it."""
    memory = Memory.create(":memory:", dim=1, metric="euclidean")
    memory.add([[0.0], [0.0], [5.0]], ["a", "a", "b"])

    assert LeaveOneOut(memory).update().neighbors(1).ids.ravel().tolist() == [1, 0, 0]


def test_places_beyond_the_others_stay_empty(line):
    """Four rows have three others."""
    near = LeaveOneOut(line).update().neighbors(5)

    assert near.ids[0].tolist() == [1, 2, 3, -1, -1]


def test_a_new_row_enters_the_lists_it_belongs_in(line):
    """At 2 it is the nearest of the row at 3 and second to the row at 1."""
    table = LeaveOneOut(line).update()

    line.add([[2.0]], ["b"])

    assert table.update().neighbors(2).ids.tolist() == [[1, 4], [0, 4], [4, 1], [2, 4], [1, 2]]


def test_a_removed_row_leaves_no_trace(line):
    """Neither its list nor its place in the lists of others."""
    table = LeaveOneOut(line).update()

    line.remove([1])

    assert table.update().ids.tolist() == [0, 2, 3]
    assert table.neighbors(3).ids.tolist() == [[2, 3, -1], [0, 3, -1], [2, 0, -1]]
    assert not (table._table.last.near == 1).any()


def test_a_row_whose_neighbors_all_go_does_not_take_newcomers_for_the_nearest():
    """What its list did not name, 9 away, stayed; the newcomer is 100 away."""
    memory = Memory.create(":memory:", dim=1, metric="euclidean")
    table = LeaveOneOut(memory, deepest=1)
    close = memory.add(np.linspace(0.0, 0.1, SLACK + 3)[:, None], ["a"] * (SLACK + 3))
    far = memory.add([[9.0], [9.5]], ["b", "b"])
    table.update()

    memory.remove(close[1:])
    memory.add([[100.0]], ["c"])

    assert table.update().neighbors(1).ids.ravel().tolist() == [far[0], far[1], far[0], far[1]]


def test_a_new_label_is_seen_at_once(line):
    """The table holds no labels; they are those of now."""
    table = LeaveOneOut(line).update()

    line.update([1], values=["c"])

    assert table.update().neighbors(1).values.ravel().tolist() == ["c", "a", "c", "a"]


def test_a_restored_version_is_followed(line):
    """Ids come back with the keys they had."""
    table = LeaveOneOut(line).update()
    before = table.neighbors(3).ids.tolist()
    version = line.version
    line.remove([0, 1])
    table.update()

    line.restore(version)

    assert table.update().neighbors(3).ids.tolist() == before


def same(table, fresh, k):
    return (
        np.array_equal(table.ids, fresh.ids)
        and np.array_equal(table._table.last.near[:, :k], fresh._table.last.near[:, :k])
        and np.array_equal(table._table.last.similarity[:, :k], fresh._table.last.similarity[:, :k])
    )


steps = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "twins"]), st.integers(0, 2**16)), max_size=8
)


@settings(max_examples=25, deadline=None)
@given(metric=st.sampled_from(METRICS), history=steps, deepest=st.sampled_from([2, 5, 100]))
def test_after_any_history_it_equals_one_made_afresh(metric, history, deepest):
    """Bit for bit, ties and duplicates included; coarse keys make many of them."""
    memory = Memory.create(":memory:", dim=3, metric=metric)
    rng = np.random.default_rng(0)
    memory.add(rng.integers(1, 4, (40, 3)), ["a"] * 40)
    table = LeaveOneOut(memory, deepest=deepest).update()

    for verb, seed in history:
        rng = np.random.default_rng(seed)
        if verb == "add":
            memory.add(rng.integers(1, 4, (5, 3)), ["a"] * 5)
        elif verb == "twins":
            memory.add(memory.keys(rng.choice(memory.ids, 2, replace=False)), ["b"] * 2)
        elif len(memory) > 20:
            memory.remove(rng.choice(memory.ids, 9, replace=False))
        table.update()

    assert same(table, LeaveOneOut(memory, deepest=deepest).update(), deepest)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_whose_size_the_first_pass_does_not_cover(metric):
    """Very long and very short keys are compared pair by pair; they may not be lost."""
    memory = Memory.create(":memory:", dim=2, metric=metric)
    memory.add([[1e-18, 1e-18], [1e18, 0.0], [1.0, 1.0]] * 20, ["a"] * 60)
    table = LeaveOneOut(memory, deepest=3).update()

    memory.add([[1e-18, 0.0], [1e18, 1e18], [1.0, 0.9]], ["b"] * 3)

    assert same(table.update(), LeaveOneOut(memory, deepest=3).update(), 3)


def test_of_too_many_rows_a_sample_is_asked():
    """Which rows depends on the rows alone, so what was added and removed since leaves no trace."""
    everyone = np.arange(20_000)

    few = asked_about(everyone, pairs=1)
    with_others = asked_about(np.arange(30_000), pairs=1)

    assert len(few) == len(with_others) == 4096
    assert np.isin(with_others[with_others < 20_000], few).all()


def test_progress_counts_the_rows_that_are_searched(line):
    """A caller can draw a bar."""
    seen = []

    LeaveOneOut(line).update(lambda done, total: seen.append((done, total)))

    assert seen == [(4, 4)]


def test_new_keys_are_noticed_though_a_compaction_forgot_them(line):
    """Before, only the compaction was seen, after which every row has the key it had."""
    table = LeaveOneOut(line).update()

    line.rekey([[0.0], [9.0], [8.0], [1.0]], None)
    line.compact()

    assert table.update().neighbors(1).ids.ravel().tolist() == [3, 2, 1, 0]
