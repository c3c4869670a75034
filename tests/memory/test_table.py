"""The rows of one version as columns, and the labels they have."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.errors import UnknownIds
from recollect.memory.table import STATE, LabelBook, RowTable


def states(*ids):
    made = np.zeros(len(ids), STATE)
    made["id"] = ids
    made["record"] = np.array(ids) * 10
    return made


def test_rows_are_kept_in_order_of_id():
    """Whatever order they were taught in."""
    table = RowTable(states(5, 2, 9))

    assert table.ids.tolist() == [2, 5, 9]
    assert table.states["record"].tolist() == [20, 50, 90]
    assert table.find(np.array([9, 2])).tolist() == [2, 0]


def test_a_removed_row_is_not_found_and_the_message_names_it():
    """Some of many ids may be wrong."""
    table = RowTable(states(0, 1, 2))
    table.remove(table.find(np.array([1])))

    assert table.ids.tolist() == [0, 2]
    assert table.rows == 2
    with pytest.raises(UnknownIds) as caught:
        table.find(np.array([0, 1, 7]))
    assert caught.value.got == "1, 7"


@pytest.mark.parametrize("ids", [[-1], [3], [2**62]])
def test_an_id_outside_of_a_gapless_table_is_not_found(ids):
    """There an id is its own position, as long as it is one."""
    with pytest.raises(UnknownIds):
        RowTable(states(0, 1, 2)).find(np.array(ids))


def test_nothing_is_found_in_an_empty_table():
    """Nor does asking for nothing fail."""
    table = RowTable(states())

    assert table.find(np.zeros(0, np.int64)).tolist() == []
    with pytest.raises(UnknownIds):
        table.find(np.array([0]))


def test_appended_rows_are_found_whether_their_ids_follow_or_come_between():
    """The common case costs no sorting; the other one must work too."""
    table = RowTable(states(0, 5))
    table.append(states(7, 6))
    table.append(states(2))

    assert table.ids.tolist() == [0, 2, 5, 6, 7]
    assert table.states["record"][table.find(np.array([6, 2]))].tolist() == [60, 20]


def test_many_removals_and_additions_leave_what_a_list_would():
    """The table drops removed rows once they are the greater part."""
    table, ids = RowTable(states()), set()
    for start in range(0, 5000, 100):
        fresh = list(range(start, start + 100))
        table.append(states(*fresh))
        gone = sorted(ids | set(fresh))[::2]
        table.remove(table.find(np.array(gone)))
        ids = (ids | set(fresh)) - set(gone)

    assert table.ids.tolist() == sorted(ids)
    assert table.states[table.find(table.ids)]["id"].tolist() == sorted(ids)
    assert len(table.states) < 1000


def test_a_changed_row_keeps_its_place():
    """Keys stay where they are when a label changes."""
    table = RowTable(states(0, 1))
    other = states(1)
    other["weight"] = 3.0

    table.change(table.find(np.array([1])), other)

    assert table.states["weight"].tolist() == [0.0, 3.0]


def test_labels_are_listed_in_order_with_their_counts():
    """Of those only that rows have."""
    book = LabelBook({0: "b", 1: "a", 2: "c"}, np.array([0, 0, 2]))

    assert book.classes.tolist() == ["b", "c"]
    assert book.counts() == {"b": 2, "c": 1}
    assert book.index(np.array([2, 0])).tolist() == [1, 0]
    assert book.next_code == 3


def test_codes_with_gaps_between_them_cost_no_room():
    """A catalog that names the label 2^60 must not fill the memory of the machine."""
    book = LabelBook({3: "b", 2**60: "a"}, np.array([2**60, 3, 3]))

    assert book.counts() == {"a": 1, "b": 2}
    assert book.index(np.array([3, 2**60])).tolist() == [1, 0]
    assert book.next_code == 2**60 + 1


def test_labels_come_and_go():
    """A label without rows is no class, and comes back with its first row."""
    book = LabelBook({}, np.zeros(0, np.int64))
    book.learn({0: 7, 1: -3})
    assert book.classes.tolist() == []

    book.count(np.array([0, 1, 1]), +1)
    assert book.classes.tolist() == [-3, 7]
    assert book.classes.dtype == np.int64

    book.count(np.array([1, 1]), -1)
    assert book.counts() == {7: 1}
