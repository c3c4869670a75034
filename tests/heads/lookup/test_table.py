"""The table: what is recorded, how equal keys are settled, what forgetting leaves."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.errors import EmptyBatch, EmptyMemory, InvalidParameter, UnknownIds
from recollect.heads.lookup.runs import Runs, record
from recollect.heads.lookup.table import answers_of_states, build, make_table

NONE = np.zeros(1, np.uint8)


def parity(state, bit):
    """The step function of a sequence: is the number of ones so far odd?"""
    odd = state ^ bit
    return odd, odd[:, 0].astype(np.int64)


def sequences(*rows):
    return np.array(rows, np.uint8)[:, :, None]


def one_step(keys, values):
    """Runs of one step each, whose values are one number."""
    keys, values = np.array(keys, np.uint8), np.array(values, np.uint8)
    return Runs(
        np.arange(len(keys)), keys[:, None, None], values[:, None, None],
        values[:, None].astype(np.int64),
    )  # fmt: skip


def test_a_sequence_task_is_recorded_and_replayed():
    """Any step function will do: nothing in the table knows about images."""
    table = build(parity, sequences([1, 0, 1], [0, 0, 0]), start=NONE, steps=3)

    assert table.keys.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert table.answers.tolist() == [0, 1, 1, 0]
    assert table.counts.tolist() == [3, 1, 1, 1]


def test_a_table_per_step_keeps_the_steps_apart():
    """A query of the first step is never compared with rows of the last."""
    table = build(parity, sequences([1, 0], [1, 1]), start=NONE, steps=2, per_step=True)

    assert table.parts.tolist() == [0, 1, 3]
    assert table.keys[table.part(0)].tolist() == [[0, 1]]
    assert table.keys[table.part(1)].tolist() == [[1, 0], [1, 1]]


def test_the_value_seen_most_often_wins():
    """Two against one, although the one came first."""
    table = make_table(one_step([7, 7, 7], [1, 2, 2]))

    assert (table.answers.tolist(), table.counts.tolist()) == ([2], [3])
    assert table.variants.tolist() == [2]


def test_the_value_seen_first_wins_a_tie():
    """The order of recording decides, so that the table is the same every time."""
    table = make_table(one_step([7, 7], [5, 2]))

    assert table.answers.tolist() == [5]


def test_rows_are_ordered_by_witnesses_then_by_first_sight():
    """Ties of a look-up go to the lowest row, so the order is part of the answer."""
    table = make_table(one_step([4, 9, 3, 9], [0, 0, 0, 0]))

    assert table.keys.tolist() == [[9], [4], [3]]


def test_a_row_knows_its_witnesses():
    """Whose run went through it, for explanations."""
    table = make_table(one_step([4, 9, 9], [0, 0, 0]))

    assert table.witnesses(0).tolist() == [1, 2]


def test_a_row_whose_only_witness_is_forgotten_goes():
    """And a row that others witnessed too stays, with one count less."""
    runs = one_step([4, 9, 9], [0, 1, 1])

    table = make_table(runs.without([0, 1]))

    assert (table.keys.tolist(), table.counts.tolist()) == ([[9]], [1])


def test_forgetting_brings_back_the_value_that_was_outvoted():
    """The table is that of the runs that are left, not the old one with holes."""
    runs = one_step([7, 7, 7], [1, 2, 2])

    assert make_table(runs.without([1, 2])).answers.tolist() == [1]


def test_a_state_means_the_class_it_is_seen_with_most_often():
    """The two-table form: three runs end in state 1, two of them as class 5; state 2 is alone."""
    states = np.array([[[1, 9]], [[1, 8]], [[1, 9]], [[2, 9]]], np.uint8)
    runs = Runs(np.arange(4), states, states, np.array([[7], [5], [5], [7]]))

    assert answers_of_states(runs, width=1).answers.tolist() == [[5], [5], [5], [7]]
    assert answers_of_states(runs, width=2).answers.tolist() == [[7], [5], [7], [7]]


def test_states_of_steps_are_kept_apart_where_rows_are():
    """State 1 means 5 at the first step and 7 at the second; all in all 5, which is seen first."""
    states = np.array([[[1], [1]]], np.uint8)
    runs = Runs(np.arange(1), states, states, np.array([[5, 7]]))

    assert answers_of_states(runs, width=1, per_step=True).answers.tolist() == [[5, 7]]
    assert answers_of_states(runs, width=1).answers.tolist() == [[5, 5]]


def test_the_first_rows_are_those_most_witnessed():
    """Half of three rows is one: the share is rounded down, but never to none."""
    table = make_table(one_step([4, 9, 3, 9], [0, 0, 0, 0]))

    small = table.first_rows(0.5)

    assert small.keys.tolist() == [[9]]
    assert small.row_of.tolist() == [[-1], [0], [-1], [0]]


def test_minus_zero_is_zero():
    """Float keys are compared as numbers, not as bits."""
    keys = np.array([[[0.0]], [[-0.0]]], np.float32)
    runs = Runs(np.arange(2), keys, keys, np.zeros((2, 1), np.int64))

    assert len(make_table(runs)) == 1


def test_a_share_of_nothing_is_refused():
    """An empty table answers nothing."""
    with pytest.raises(InvalidParameter, match="share"):
        make_table(one_step([1], [1])).first_rows(0.0)


def test_a_table_of_no_runs_is_refused():
    """It could not answer."""
    with pytest.raises(EmptyMemory):
        make_table(one_step([1], [1]).without([0]))


def test_forgetting_an_unknown_image_is_refused():
    """Nothing is half forgotten."""
    with pytest.raises(UnknownIds):
        one_step([1], [1]).without([5])


def test_recording_nothing_is_refused():
    """There is nothing to learn the width from."""
    with pytest.raises(EmptyBatch):
        record(parity, np.zeros((0, 3, 1), np.uint8), start=NONE, steps=3)


def test_a_sense_without_form_is_refused():
    """One row of what is seen for each input."""
    with pytest.raises(InvalidParameter, match="seen"):
        record(parity, sequences([1]), start=NONE, steps=1, sense=lambda *_: np.zeros(3))
