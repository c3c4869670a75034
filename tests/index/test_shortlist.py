"""Candidates are dropped only when k better rows are known."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.index.shortlist import LOWEST, Shortlist


def offer(shortlist, query, place, score, error=0.0):
    shortlist.offer(
        np.asarray(query),
        np.asarray(place),
        np.asarray(score, np.float32),
        np.full(len(query), error, np.float32),
    )


def test_rows_below_the_kth_best_are_dropped():
    """Two wanted, four offered."""
    shortlist = Shortlist(1, 2, room=100)
    offer(shortlist, [0, 0, 0, 0], [5, 6, 7, 8], [0.1, 0.9, 0.5, 0.7])

    query, place = shortlist.finish()

    assert (query.tolist(), sorted(place.tolist())) == ([0, 0], [6, 8])
    assert shortlist.threshold.tolist() == [np.float32(0.7)]


def test_rows_within_the_error_of_the_kth_best_stay():
    """0.5 + 0.125 reaches 0.7 - 0.125, and 0.1 + 0.125 does not."""
    shortlist = Shortlist(1, 2, room=100)
    offer(shortlist, [0, 0, 0, 0], [5, 6, 7, 8], [0.1, 0.9, 0.5, 0.7], error=0.125)

    _, place = shortlist.finish()

    assert sorted(place.tolist()) == [6, 7, 8]


def test_rows_that_tie_with_the_kth_best_stay():
    """Their ids decide later."""
    shortlist = Shortlist(1, 1, room=100)
    offer(shortlist, [0, 0, 0], [5, 6, 7], [0.5, 0.5, 0.25])

    _, place = shortlist.finish()

    assert sorted(place.tolist()) == [5, 6]


@pytest.mark.parametrize(
    ("scores", "best"), [([-3.0, -1.0], 1), ([-1.0, 2.0], 1), ([0.0, -0.5], 0), ([1e-40, 0.0], 0)]
)
def test_scores_of_either_sign_are_ordered(scores, best):
    """Distances are negative; integers made of floats must sort as the floats do."""
    shortlist = Shortlist(1, 1, room=100)
    offer(shortlist, [0, 0], [0, 1], scores)

    _, place = shortlist.finish()

    assert place.tolist() == [best]


def test_fewer_rows_than_wanted_all_stay():
    """Nothing is known yet that could drop them."""
    shortlist = Shortlist(1, 3, room=100)
    offer(shortlist, [0, 0], [5, 6], [0.1, 0.9])

    _, place = shortlist.finish()

    assert sorted(place.tolist()) == [5, 6]
    assert shortlist.threshold.tolist() == [LOWEST]


def test_each_query_has_its_own_threshold():
    """What is far for one is near for another."""
    shortlist = Shortlist(3, 1, room=100)
    offer(shortlist, [2, 0, 2, 0], [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4])

    query, place = shortlist.finish()

    assert (query.tolist(), place.tolist()) == ([0, 2], [4, 3])


def test_the_longest_list_is_given_up_when_room_runs_out():
    """Query 1 ties with eight rows; query 0 keeps its answer."""
    shortlist = Shortlist(2, 1, room=6)
    offer(shortlist, [0] + [1] * 8, list(range(9)), [0.5] * 9)

    query, place = shortlist.finish()

    assert shortlist.given_up.tolist() == [False, True]
    assert (query.tolist(), place.tolist()) == ([0], [0])


def test_nothing_offered_leaves_nothing():
    """All rows may be excluded."""
    query, place = Shortlist(2, 1, room=6).finish()

    assert (query.tolist(), place.tolist()) == ([], [])
