"""Weighted means of what the nearest rows hold."""

from __future__ import annotations

import numpy as np

from recollect.readout.regression import means_all_k, weighted_mean, weighted_parts


def test_numbers_are_weighed_by_their_shares():
    """3/4 of 8 and 1/4 of 4."""
    values, shares = np.array([[8.0, 4.0]]), np.array([[0.75, 0.25]])

    assert weighted_parts(values, shares).tolist() == [[6.0, 1.0]]
    assert weighted_mean(values, shares).tolist() == [7.0]


def test_vectors_are_weighed_as_a_whole():
    """Every component takes the same share."""
    values = np.array([[[8.0, 0.0], [4.0, 16.0]]], np.float32)
    shares = np.array([[0.75, 0.25]])

    assert weighted_mean(values, shares).tolist() == [[7.0, 4.0]]


def test_an_empty_place_is_not_read():
    """NaN marks places without a row; it must not spread."""
    values, shares = np.array([[8.0, np.nan]]), np.array([[1.0, 0.0]])

    assert weighted_mean(values, shares).tolist() == [8.0]


def test_every_k_comes_from_one_pass():
    """8, then (3 * 8 + 1 * 4) / 4, then the empty place changes nothing."""
    values, weights = np.array([[8.0, 4.0, np.nan]]), np.array([[3.0, 1.0, 0.0]])

    assert means_all_k(values, weights).tolist() == [[8.0, 7.0, 7.0]]


def test_every_k_of_vectors_comes_from_one_pass():
    """The same for each component."""
    values = np.array([[[8.0, 0.0], [4.0, 16.0]]], np.float32)

    assert means_all_k(values, np.array([[3.0, 1.0]])).tolist() == [[[8.0, 0.0], [7.0, 4.0]]]


def test_the_nearest_value_stands_in_while_all_weigh_zero():
    """As in a vote: there are rows, so there is an answer."""
    values, weights = np.array([[8.0, 4.0]]), np.array([[0.0, 1.0]])

    assert means_all_k(values, weights).tolist() == [[8.0, 4.0]]
