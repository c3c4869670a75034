"""The smallest removal that changes an answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.errors import InvalidParameter
from recollect.readout.attribution import Flip, smallest_flip
from recollect.readout.voting import RULES, VoteRule, vote, weigh
from recollect.types import Neighbors


def labeled(codes, *, weights=None):
    """Neighbors with these classes, ever farther away."""
    rows = len(codes)
    return Neighbors(
        ids=np.arange(rows)[None],
        similarity=np.linspace(0.9, 0.1, rows, dtype=np.float32)[None],
        values=np.array([codes]),
        weights=np.ones((1, rows)) if weights is None else np.array([weights]),
        codes=np.array([codes]),
    )


def test_one_row_can_be_the_whole_reason():
    """Without the nearest row, both voters say 0."""
    flip = smallest_flip(labeled([1, 0, 0]), VoteRule("rank"), "cosine", 2, whole=True)

    assert flip == Flip(ranks=(0,), code=0, minimal=True, tried=0)


def test_the_next_row_moves_up_into_the_vote():
    """Removing one of two 1s brings in another 1: two rows have to go, not one."""
    codes = [1, 1, 0, 1, 0, 0]

    flip = smallest_flip(labeled(codes), VoteRule("plurality"), "cosine", 3, whole=True)

    assert flip == Flip(ranks=(0, 1), code=0, minimal=True, tried=1)


def test_removing_a_row_of_another_label_can_change_the_answer():
    """2, 2, 3 | 0, 0 ... nothing of label 3 supports 2, yet its place goes to a 0."""
    codes = [2, 0, 3, 0, 0]

    flip = smallest_flip(labeled(codes), VoteRule("plurality"), "cosine", 3, whole=True)

    assert flip == Flip(ranks=(0,), code=0, minimal=True, tried=0)


def test_a_memory_of_one_label_has_no_other_answer():
    """No removal that leaves a row can change the answer."""
    flip = smallest_flip(labeled([1, 1, 1]), VoteRule("rank"), "cosine", 2, whole=True)

    assert flip == Flip(ranks=(), code=-1, minimal=True, tried=2)


def test_rows_beyond_those_read_are_never_assumed():
    """Four read and two voting: only two may go, for nobody knows who would move up."""
    flip = smallest_flip(labeled([1, 1, 1, 0]), VoteRule("plurality"), "cosine", 2, whole=False)

    assert flip.ranks == ()


def test_beyond_the_budget_the_search_is_greedy_and_says_so():
    """Four 1s have to go until two 0s are among three; only sets of one were tried."""
    codes = [1, 1, 0, 1, 1, 1, 0]

    flip = smallest_flip(labeled(codes), VoteRule("plurality"), "cosine", 3, whole=True, budget=3)

    assert flip == Flip(ranks=(0, 1, 3, 4), code=0, minimal=False, tried=1)


def test_rows_that_all_agree_are_known_to_be_needed_without_trying():
    """Nine 1s have to go until a 0 votes alone: no set of eight can do it."""
    codes = [1] * 9 + [0]

    flip = smallest_flip(labeled(codes), VoteRule("rank"), "cosine", 1, whole=True, budget=0)

    assert flip == Flip(ranks=tuple(range(9)), code=0, minimal=True, tried=8)


def test_a_greedy_search_takes_the_heaviest_vote_first():
    """Without the 1 of weight 5 the 1s have 3 votes against 5."""
    weights = [3.0, 4.0, 5.0, 1.0]

    flip = smallest_flip(
        labeled([1, 0, 1, 0], weights=weights),
        VoteRule("plurality"),
        "cosine",
        4,
        whole=True,
        budget=0,
    )

    assert flip == Flip(ranks=(2,), code=0, minimal=True, tried=0)


def test_a_row_of_weight_zero_changes_nothing():
    """Only rows that vote can be a reason."""
    near = labeled([0, 1, 0], weights=[0.0, 1.0, 0.5])

    flip = smallest_flip(near, VoteRule("plurality"), "cosine", 3, whole=True)

    assert flip == Flip(ranks=(1,), code=0, minimal=True, tried=0)


def test_numbers_have_no_label_to_change():
    """A regressor's neighbors carry no codes."""
    near = Neighbors(
        ids=np.array([[0]]),
        similarity=np.array([[1.0]], np.float32),
        values=np.array([[0.5]]),
        weights=np.array([[1.0]]),
    )

    with pytest.raises(InvalidParameter, match="labels"):
        smallest_flip(near, VoteRule("rank"), "cosine", 1, whole=True)


@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=7),
    st.integers(1, 4),
    st.sampled_from(RULES),
    st.data(),
)
def test_no_smaller_removal_exists_than_the_one_reported(codes, k, rule, draws):
    """Against the slow truth: every set of rows removed, the list rebuilt, the vote taken."""
    size = {"min_size": len(codes), "max_size": len(codes)}
    weights = draws.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), **size))
    near, rule = labeled(codes, weights=weights), VoteRule(rule)

    flip = smallest_flip(near, rule, "cosine", k, whole=True)

    changing = [
        removed
        for removed in itertools.chain.from_iterable(
            itertools.combinations(range(len(codes)), size) for size in range(1, len(codes))
        )
        if slow_answer(near, rule, k, removed) != slow_answer(near, rule, k, ())
    ]
    assert flip.ranks == (changing[0] if changing else ())
    assert flip.minimal or not changing


@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=12), st.integers(1, 4), st.sampled_from(RULES)
)
def test_a_greedy_removal_really_changes_the_answer(codes, k, rule):
    """It may be larger than need be, never wrong; and it is found whenever there is one."""
    near, rule = labeled(codes), VoteRule(rule)

    flip = smallest_flip(near, rule, "cosine", k, whole=True, budget=0)

    assert bool(flip.ranks) == (len(set(codes)) > 1)
    assert slow_answer(near, rule, k, flip.ranks) == (flip.code if flip.ranks else codes[0])


def slow_answer(near, rule, k, removed):
    kept = [rank for rank in range(near.ids.shape[1]) if rank not in removed][:k]
    near = Neighbors(
        ids=near.ids[:, kept],
        similarity=near.similarity[:, kept],
        values=near.values[:, kept],
        weights=near.weights[:, kept],
        codes=near.codes[:, kept],
    )
    return int(vote(near.codes, weigh(near, rule, "cosine"))[0])
