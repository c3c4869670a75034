"""The kernel, the residuals and the ways to valid probabilities, with numbers one can check."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import errors
from recollect.readout.kernel import (
    add_dense,
    add_dense_many,
    add_sparse,
    check_above_zero,
    check_strength,
    class_residuals,
    clip_to_probabilities,
    kernel_shares,
    project_to_simplex,
    soften,
)


def test_a_neighbor_twice_as_far_weighs_less_by_the_kernel():
    """exp(0) : exp(-log 3) is 3 : 1."""
    shares = kernel_shares(np.array([[0.0, np.log(3.0)]]), sigma=1.0)

    np.testing.assert_allclose(shares, [[0.75, 0.25]], rtol=1e-15)


def test_adding_a_constant_to_all_distances_changes_no_share():
    """Only differences of distances count, so far rows never vanish all together."""
    near = kernel_shares(np.array([[0.0, 1.0]]), sigma=0.5)
    far = kernel_shares(np.array([[1e6, 1e6 + 1.0]]), sigma=0.5)

    np.testing.assert_allclose(far, near, rtol=1e-9)


def test_a_tiny_sigma_leaves_the_nearest_row_and_an_infinite_one_the_mean():
    """The two ends of the kernel."""
    distances = np.array([[1.0, 2.0]])

    assert kernel_shares(distances, sigma=1e-300).tolist() == [[1.0, 0.0]]
    assert kernel_shares(distances, sigma=np.inf).tolist() == [[0.5, 0.5]]


def test_an_empty_place_weighs_nothing():
    """Fewer than k rows: distance infinity."""
    assert kernel_shares(np.array([[1.0, np.inf]]), sigma=1.0).tolist() == [[1.0, 0.0]]
    assert kernel_shares(np.array([[np.inf, np.inf]]), sigma=1.0).tolist() == [[0.0, 0.0]]


def test_the_weight_of_a_row_multiplies_its_kernel():
    """Equal distances, weights 3 and 1; a row of weight 0 is not the nearest one either."""
    equal = np.array([[1.0, 1.0]])

    assert kernel_shares(equal, 1.0, np.array([[3.0, 1.0]])).tolist() == [[0.75, 0.25]]
    assert kernel_shares(np.array([[0.0, 1e9]]), 1.0, np.array([[0.0, 1.0]])).tolist() == [
        [0.0, 1.0]
    ]


@pytest.mark.parametrize("sigma", [0, -1.0, float("nan"), "wide", True, None])
def test_a_kernel_of_no_width_is_refused(sigma):
    """Division by zero would give NaN scores."""
    with pytest.raises(errors.InvalidParameter, match="sigma is out of range"):
        kernel_shares(np.array([[1.0]]), sigma)


def test_logits_become_probabilities():
    """log 3 against 0 is 3 : 1; at temperature 2 the square root of that."""
    logits = np.array([[np.log(3.0), 0.0]])

    np.testing.assert_allclose(soften(logits), [[0.75, 0.25]], rtol=1e-15)
    root = np.sqrt(3.0)
    np.testing.assert_allclose(
        soften(logits, 2.0), [[root / (1 + root), 1 / (1 + root)]], rtol=1e-15
    )


@pytest.mark.parametrize("temperature", [0, -2.0, float("inf"), "hot"])
def test_a_temperature_of_no_use_is_refused(temperature):
    """softmax(f / 0) is not a number."""
    with pytest.raises(errors.InvalidParameter, match="temperature is out of range"):
        soften(np.zeros((1, 2)), temperature)


def test_a_residual_is_the_label_minus_what_the_base_believed():
    """Rows sum to zero."""
    assert class_residuals(np.array([[0.75, 0.25]]), np.array([1])).tolist() == [[-0.75, 0.75]]


def test_dense_and_sparse_residuals_add_up_alike():
    """Two neighbors, three quarters and one quarter; columns 0 and 2 are all there is."""
    shares, places = np.array([[0.75, 0.25]]), np.array([[1, 0]])
    dense, sparse = np.array([[0.5, 0.25, 0.25]]), np.array([[0.5, 0.25, 0.25]])

    add_dense(dense, shares, np.array([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]]), places)
    add_sparse(
        sparse,
        shares,
        np.array([[-1.0, 1.0], [1.0, -1.0]]),
        np.array([[0, 2], [0, 2]]),
        places,
    )

    assert dense.tolist() == sparse.tolist() == [[1.0, 0.25, -0.25]]


def test_the_simplex_keeps_valid_probabilities_and_the_largest_class():
    """1.25 and 0.25 are 0.5 too much: a quarter off each; what falls below 0 is 0."""
    valid = np.array([[0.25, 0.75]])

    assert project_to_simplex(valid).tolist() == valid.tolist()
    assert project_to_simplex(np.array([[1.0, 0.5, -0.5]])).tolist() == [[0.75, 0.25, 0.0]]


def test_clipping_leaves_no_class_impossible():
    """0.75, 0.5 and a quarter for the negative one, over their sum."""
    clipped = clip_to_probabilities(np.array([[0.75, 0.5, -0.25]]), least=0.25)

    np.testing.assert_allclose(clipped, [[0.5, 1 / 3, 1 / 6]], rtol=1e-15)


def test_several_weighings_add_up_as_each_alone(monkeypatch):
    """Rows are read once for all of them, and in pieces."""
    monkeypatch.setattr("recollect.readout.kernel._CELLS", 20)
    rng = np.random.default_rng(0)
    shares, residuals = rng.random((5, 3, 4)), rng.normal(size=(9, 2))
    places = rng.integers(0, 9, (5, 4))
    together = np.ones((3, 5, 2))

    add_dense_many(together, shares, residuals, places)

    for weighing in range(3):
        alone = np.ones((5, 2))
        add_dense(alone, shares[:, weighing], residuals, places)
        np.testing.assert_allclose(together[weighing], alone, rtol=0.0, atol=1e-14)


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**400), np.longdouble("1e4000"), 10**5000, True, "1"],
    ids=["long", "negative", "longdouble", "longer", "bool", "text"],
)
def test_what_no_float_can_hold_is_no_number_above_zero(value):
    """A whole number of four hundred digits ended in an OverflowError of Python."""
    with pytest.raises(errors.InvalidParameter, match="x is out of range"):
        check_above_zero("x", value)
    with pytest.raises(errors.InvalidParameter, match="strength is out of range"):
        check_strength(value)


def test_a_strength_has_a_largest_value():
    """Beyond a million a correction is none, and sums need not be finite."""
    assert check_strength(1e6) == 1e6
    with pytest.raises(errors.InvalidParameter, match=r"at most 1,000,000, got 1000001\.0"):
        check_strength(1000001.0)
