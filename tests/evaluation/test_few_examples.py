"""A class of a few rows is weighed by what it costs the others."""

from __future__ import annotations

import pytest

from recollect import MemoryClassifier
from recollect.errors import InvalidParameter, UnknownIds
from recollect.evaluation.few_examples import ask_others, weight_of_few
from recollect.heads.inputs import NotFitted

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


@pytest.fixture
def crowded():
    """A new row, id 0, and nine old ones with the same key; three of them vote, equally."""
    head = MemoryClassifier(k=3, vote="plurality")
    return head.fit([EAST] * 10, ["new", *["old"] * 9])


def test_a_class_that_costs_nothing_weighs_up_to_as_much_as_another():
    """Nine rows a class, so at most 9; doubled from 1 that is 8. Nobody hears the new row."""
    head = MemoryClassifier(k=3).fit([EAST] * 9 + [NORTH] * 9 + [WEST], [*"e" * 9, *"n" * 9, "w"])

    assert weight_of_few(head, head.ids_[-1:]) == 8.0


def test_a_weight_that_costs_answers_is_not_taken(crowded):
    """Every old row hears the new one, then two old: they beat 1 vote, but 2 were there first."""
    assert weight_of_few(crowded, crowded.ids_[:1]) == 1.0


@pytest.mark.parametrize(("lost", "weight"), [(1, 128.0), (2, 1.0)])
def test_half_a_point_may_be_lost_and_no_more(lost, weight):
    """Of 200 old rows, those to the north hear the new row and are lost: one may be, two not."""
    keys = [NORTH] * (1 + lost) + [EAST] * (200 - lost)
    head = MemoryClassifier(k=1).fit(keys, ["new", *["old"] * 200])

    assert weight_of_few(head, head.ids_[:1]) == weight


def test_one_more_neighbor_is_found_for_each_new_row():
    """Without the new row, id 0, every old row still has its neighbor; itself it never hears."""
    head = MemoryClassifier(k=1).fit([NORTH, NORTH, EAST], ["new", "old", "old"])

    near, truth = ask_others(head.memory_, head.ids_[:1], 1)

    assert near.ids.tolist() == [[0, 2], [0, 1]]
    assert truth.tolist() == [1, 1]


def test_fewer_rows_can_be_asked_evenly_spread(crowded):
    """Of ids 1 to 9, at most four: every third."""
    near, truth = ask_others(crowded.memory_, crowded.ids_[:1], 1, at_most=4)

    assert near.ids[:, 1].tolist() == [2, 1, 1]
    assert truth.tolist() == [1, 1, 1]


def test_choosing_writes_nothing(crowded):
    """The caller decides."""
    before = crowded.memory_.version

    weight_of_few(crowded, crowded.ids_[:1])

    assert crowded.memory_.version == before


@pytest.mark.parametrize("rows", [[], list(range(10))])
def test_new_rows_and_others_are_both_needed(crowded, rows):
    """There would be nothing to weigh, or nothing to lose."""
    with pytest.raises(InvalidParameter, match="nothing to compare"):
        weight_of_few(crowded, rows)


def test_unknown_rows_are_refused(crowded):
    """They are not weighed as if they were there."""
    with pytest.raises(UnknownIds):
        weight_of_few(crowded, [99])


def test_a_classifier_that_was_not_taught_is_refused():
    """It has no memory to ask."""
    with pytest.raises(NotFitted):
        weight_of_few(MemoryClassifier(), [0])
