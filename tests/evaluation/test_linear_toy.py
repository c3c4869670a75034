"""The theory's linear problem shows what the theory says."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import errors
from recollect.evaluation.linear_toy import ball, constrained_fit, toy_risks


@pytest.mark.parametrize(
    ("width", "longest", "ratio"), [(3, 0.5, 1 / 4), (5, 0.5, 1 / 4), (5, 0.8, 1 / 25)]
)
def test_the_memory_takes_a_fixed_share_of_the_risk_of_the_nearest_point(width, longest, ratio):
    """(1 - L)^2: a quarter at L = 0.5, one in twenty-five at L = 0.8; and the base stops there."""
    risks = toy_risks(width, longest, 1000, seeds=2)

    assert risks.resmem / risks.nearest == pytest.approx(ratio, rel=0.03)
    assert risks.base == pytest.approx(ratio, rel=0.1)
    assert risks.resmem < risks.base / 5


def test_with_few_rows_in_many_dimensions_the_memory_is_no_better():
    """At d = 10 and ten rows the nearest one says little: told, not hidden."""
    risks = toy_risks(10, 0.5, 10, seeds=2)

    assert risks.resmem > 0.8 * risks.base


def test_a_fit_that_is_short_enough_is_plain_least_squares():
    """The constraint does not bind."""
    x = np.array([[1.0, 0.0], [0.0, 2.0]])

    assert constrained_fit(x, x @ np.array([0.3, 0.4]), 1.0).round(9).tolist() == [0.3, 0.4]


def test_a_fit_that_is_too_long_gets_exactly_the_length_allowed():
    """On the sphere of radius L."""
    x = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])

    assert np.linalg.norm(constrained_fit(x, x @ np.array([3.0, 4.0]), 0.5)) == pytest.approx(0.5)


def test_points_of_the_ball_have_unit_covariance():
    """Its radius is sqrt(d + 2)."""
    points = ball(np.random.default_rng(0), 20_000, 3)

    assert np.linalg.norm(points, axis=1).max() <= np.sqrt(5.0)
    np.testing.assert_allclose(np.cov(points.T), np.eye(3), atol=0.05)


def test_a_length_of_nothing_is_refused():
    """There would be no fit."""
    with pytest.raises(errors.InvalidParameter, match="longest"):
        constrained_fit(np.eye(2), np.ones(2), 0.0)
