"""Matches to values, and messages between cells: numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.readout.propagation import (
    influence,
    linear_weights,
    match_weights,
    median_weights,
    message_graph,
    propagate,
    unit_rows,
    weighted_mean,
)

NONE = -np.inf
PAIR = np.array([[1], [0]])
EVEN = np.ones((2, 1))


def test_weights_are_a_softmax_of_similarity():
    """A gap of one temperature is a factor of e."""
    weights = match_weights(np.array([[0.5, 0.4]]), temperature=0.1)

    assert weights[0, 0] / weights[0, 1] == pytest.approx(np.e)
    assert weights.sum() == pytest.approx(1.0)


def test_an_infinite_temperature_weighs_alike():
    """tau = inf is the plain mean of what was found."""
    assert match_weights(np.array([[0.9, 0.1, NONE]]), np.inf).tolist() == [[0.5, 0.5, 0.0]]


def test_a_tiny_temperature_does_not_overflow():
    """The largest score is taken off first."""
    assert match_weights(np.array([[1.0, 0.9]]), 1e-6).tolist() == [[1.0, 0.0]]


def test_a_cell_without_a_match_has_no_weights():
    """Never a silent first class."""
    assert match_weights(np.array([[NONE, NONE]]), 0.02).tolist() == [[0.0, 0.0]]


def test_what_has_no_weight_is_not_read():
    """Padding may hold anything, NaN too."""
    values = np.array([[[2.0], [np.nan]]])

    assert weighted_mean(values, np.array([[1.0, 0.0]])).tolist() == [[2.0]]


def test_the_median_shrugs_off_an_outlier():
    """1, 2 and 1000 alike: 2."""
    weights = median_weights(np.array([[1.0, 1000.0, 2.0]]), np.full((1, 3), 1 / 3))

    assert weights.tolist() == [[0.0, 0.0, 1.0]]


def test_the_median_of_two_halves_lies_between_them():
    """Exactly half of the weight is reached at 1: 1 and 3 count alike."""
    assert median_weights(np.array([[3.0, 1.0]]), np.array([[0.5, 0.5]])).tolist() == [[0.5, 0.5]]


def test_no_match_has_no_median():
    """Weights of zero stay zero."""
    assert median_weights(np.array([[3.0, 1.0]]), np.zeros((1, 2))).tolist() == [[0.0, 0.0]]


def test_a_local_linear_fit_goes_on_beyond_its_matches():
    """Values 1 at 0 and 3 at 1; at 2 a line says 5, a mean would say 2."""
    weights = linear_weights(
        np.array([[2.0]]), np.array([[[0.0], [1.0]]]), np.array([[0.5, 0.5]]), ridge=0.0
    )

    assert (weights @ [1.0, 3.0]).item() == pytest.approx(5.0)
    assert weights.sum() == pytest.approx(1.0)


def test_matches_that_are_all_alike_keep_their_weights():
    """No direction to fit along."""
    weights = linear_weights(
        np.array([[2.0]]), np.array([[[1.0], [1.0]]]), np.array([[0.25, 0.75]])
    )

    assert weights.tolist() == [[0.25, 0.75]]


def test_what_rounding_leaves_of_matches_that_are_alike_is_no_direction():
    """The center of equal vectors differs from them in the last bit, which a fit would follow."""
    rng = np.random.default_rng(0)
    alike = np.repeat(unit_rows(rng.normal(size=(9, 1, 40))).astype(np.float32), 7, axis=1)
    given = rng.random((9, 7))
    given /= given.sum(axis=1, keepdims=True)

    weights = linear_weights(unit_rows(rng.normal(size=(9, 40))).astype(np.float32), alike, given)

    assert weights.tolist() == given.tolist()


def test_a_fit_in_single_precision_is_the_fit_in_double_precision():
    """Products around the center follow from those around zero, at the price of rounding."""
    rng = np.random.default_rng(0)
    query = unit_rows(rng.normal(size=(6, 40)))
    matched = unit_rows(query[:, None] + 0.05 * rng.normal(size=(6, 7, 40)))
    weights = np.full((6, 7), 1 / 7)

    single = linear_weights(query.astype(np.float32), matched.astype(np.float32), weights)

    assert single == pytest.approx(linear_weights(query, matched, weights), abs=1e-5)


def test_links_go_to_the_most_similar_cells_around():
    """The middle of three: its twin on the right before the stranger on the left."""
    links, weights = message_graph(np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]]), (3,), k=1)

    assert links[1].tolist() == [2]
    assert weights[1].tolist() == [1.0]


def test_equal_links_go_to_the_lower_cell():
    """Ties by cell, as everywhere."""
    links, _ = message_graph(np.ones((3, 2)), (3,), k=1)

    assert links[1].tolist() == [0]


def test_a_zero_vector_is_linked_with_similarity_zero():
    """Cosine with nothing is 0, not NaN."""
    _, weights = message_graph(np.array([[0.0], [1.0], [0.0]]), (3,), k=2)

    assert weights[1].tolist() == [0.5, 0.5]


def test_anchored_messages_end_in_their_fixed_point():
    """y0 = 1, y1 = 0, alpha 1/2: y0 = 1/2 + y1/2 and y1 = y0/2 give 2/3 and 1/3."""
    done = propagate(np.array([[1.0], [0.0]]), PAIR, EVEN, tolerance=1e-12)

    assert done.values[:, 0] == pytest.approx([2 / 3, 1 / 3])
    assert done.converged


def test_anchored_messages_need_no_more_rounds_than_the_contraction_allows():
    """A factor of alpha a round: ceil(log(tol / first change) / log alpha) + 1."""
    done = propagate(np.array([[1.0], [0.0]]), PAIR, EVEN, alpha=0.5, tolerance=1e-6)

    assert done.iterations <= np.ceil(np.log(1e-6 / 0.5) / np.log(0.5)) + 1


def test_step_messages_move_on_from_the_last_state():
    """One step of 1/4 towards the other: 3/4 and 1/4; the next mixes these."""
    done = propagate(
        np.array([[1.0], [0.0]]), PAIR, EVEN, mode="step", alpha=0.25, tolerance=0.0,
        max_iterations=2,
    )  # fmt: skip

    assert done.values[:, 0].tolist() == [0.625, 0.375]
    assert (done.iterations, done.converged) == (2, False)


def test_rows_stay_shares():
    """Messages mix shares, so they still sum to 1."""
    done = propagate(np.array([[0.7, 0.3], [0.1, 0.9]]), PAIR, EVEN)

    assert done.values.sum(axis=1) == pytest.approx([1.0, 1.0])


def test_a_cell_without_a_state_is_filled_and_sends_nothing():
    """It takes what its neighbor has; the neighbor hears nothing and keeps its own."""
    done = propagate(np.array([[1.0], [0.0]]), PAIR, EVEN, valid=np.array([True, False]))

    assert done.values[:, 0].tolist() == [1.0, 1.0]
    assert done.valid.tolist() == [True, True]


def test_a_cell_that_nobody_fills_stays_without_an_answer():
    """Two empty cells have nothing to tell each other."""
    done = propagate(np.zeros((2, 1)), PAIR, EVEN, valid=np.array([False, False]))

    assert done.valid.tolist() == [False, False]
    assert done.values.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("mode", ["anchored", "step"])
def test_influence_is_the_linear_map_of_the_messages(mode):
    """What an explanation shows is what the messages did, an unanswered cell included."""
    links = np.array([[1, 2], [0, 2], [1, -1], [2, -1]])
    weights = np.array([[0.3, 0.7], [0.5, 0.5], [1.0, 0.0], [1.0, 0.0]])
    valid = np.array([True, True, False, True])
    start = np.array([[0.2], [0.9], [0.0], [0.4]])

    done = propagate(start, links, weights, valid=valid, mode=mode, alpha=0.4, max_iterations=7)
    shares = [
        influence(cell, links, weights, valid=valid, mode=mode, alpha=0.4, iterations=7)
        for cell in range(4)
    ]

    assert done.iterations == 7
    assert np.stack(shares) @ start == pytest.approx(done.values)


def test_unit_rows_survive_very_large_and_very_small_numbers():
    """Squares of 1e30 do not fit float32; their direction does."""
    rows = np.array([[3e30, 4e30], [3e-30, 4e-30]], np.float32)

    assert unit_rows(rows) == pytest.approx(np.array([[0.6, 0.8], [0.6, 0.8]]))
