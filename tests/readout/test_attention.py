"""The attention of dual memory networks, by numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies

from recollect.readout.attention import (
    attention,
    cosines,
    entropy,
    gram,
    select_views,
    slot_weights,
    softmax,
    unit,
)

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def read(query, slots, beta, filled=None, trust=None):
    """The read-out of one class for one query."""
    rows = unit(slots)
    near = cosines(unit([query]), rows)[None]
    there = np.ones((1, len(rows)), bool) if filled is None else np.array([filled])
    weights = None if trust is None else np.array([trust], np.float32)
    return attention(near, near, gram(rows[None]), there, beta=beta, trust=weights)[0, 0]


def test_one_slot_is_the_class_whatever_the_sharpness():
    """A class of one slot is that slot: its weight cancels."""
    assert read([3.0, 4.0], [EAST], beta=1000.0) == pytest.approx(0.6, abs=1e-7)


def test_sharpness_zero_reads_the_mean():
    """Half way between east and north lies north-east."""
    assert read(EAST, [EAST, NORTH], beta=0.0) == pytest.approx(np.sqrt(0.5), abs=1e-7)


def test_infinite_sharpness_reads_the_nearest_slot():
    """Limit of the exponential; a far slot has no say."""
    assert read([3.0, 4.0], [EAST, NORTH], beta=np.inf) == pytest.approx(0.8, abs=1e-7)


def test_a_slot_at_right_angles_weighs_e_to_minus_beta():
    """exp(-beta (1 - 0)), beside 1 for the slot that equals the query."""
    weights = slot_weights(np.array([[[1.0, 0.0]]]), np.ones((1, 2), bool), beta=2.0)

    assert weights[0, 0].tolist() == pytest.approx([1.0, np.exp(-2.0)], abs=2e-7)


def test_empty_slots_take_no_part():
    """A slot of zeros beside the only real one changes nothing."""
    assert read([3.0, 4.0], [EAST, [0.0, 0.0]], 0.0, [True, False]) == pytest.approx(0.6, abs=1e-7)


def test_a_class_without_slots_gives_zero_evidence():
    """0 / 0 would be NaN and spoil the softmax of all classes."""
    assert read(EAST, [[0.0, 0.0]], 5.5, [False]) == 0.0


def test_a_distrusted_slot_weighs_its_trust():
    """Trust 0 is as good as empty."""
    assert read(EAST, [EAST, NORTH], 0.0, trust=[1.0, 0.0]) == pytest.approx(1.0, abs=1e-7)


def test_an_output_offset_moves_the_class_vector():
    """U(east + north) looked at from the east."""
    rows = unit([EAST])[None]
    near = np.ones((1, 1, 1))
    output = (np.array([[0.0]]), np.array([1.0]), np.array([[0.0]]))

    score = attention(near, near, gram(rows), np.ones((1, 1), bool), beta=1.0, output=output)

    assert score[0, 0] == pytest.approx(np.sqrt(0.5), abs=1e-7)


@given(strategies.integers(0, 2**32 - 1), strategies.integers(1, 70))
def test_a_query_has_the_same_bits_alone_and_in_any_batch(seed, queries):
    """Every product is exact, so that no blocking of BLAS can show."""
    random = np.random.default_rng(seed)
    rows, asked = unit(random.normal(size=(37, 19))), unit(random.normal(size=(queries, 19)))

    together = cosines(asked, rows)

    alone = np.concatenate([cosines(one[None], rows) for one in asked])
    turned = cosines(rows, asked).T
    assert np.array_equal(together, alone)
    assert np.array_equal(together, turned)


@given(strategies.integers(0, 2**32 - 1))
def test_the_read_out_has_the_same_bits_alone_and_in_any_batch(seed):
    """Also with more than 64 slots, which are added in two parts."""
    random = np.random.default_rng(seed)
    values = unit(random.normal(size=(2, 70, 5)))
    near = np.stack([cosines(unit(random.normal(size=(9, 5))), each) for each in values])
    among, filled = gram(values), random.random((2, 70)) < 0.8

    together = attention(near, near, among, filled, beta=5.5)

    alone = [attention(near[:, i : i + 1], near[:, i : i + 1], among, filled, beta=5.5)
             for i in range(9)]  # fmt: skip
    assert np.array_equal(together, np.concatenate(alone, axis=1))


def test_the_read_out_is_that_of_the_formula():
    """Against the class vector itself, formed in float64."""
    random = np.random.default_rng(5)
    slots, query = random.normal(size=(20, 8)), random.normal(size=8)
    rows = slots / np.linalg.norm(slots, axis=1, keepdims=True)
    x = query / np.linalg.norm(query)
    vector = (np.exp(-5.5 * (1 - rows @ x))[:, None] * rows).sum(axis=0)

    assert read(query, slots, 5.5) == pytest.approx(vector @ x / np.linalg.norm(vector), abs=5e-7)


def test_at_least_one_view_is_kept():
    """A tenth of one view rounds down to none, whose mean would be NaN."""
    kept, mean = select_views([[0.5, 0.5]], 0.1)

    assert kept.tolist() == [0]
    assert mean.tolist() == [0.5, 0.5]


def test_three_tenths_of_ten_views_are_three():
    """In binary 0.3 * 10 is a little less than 3."""
    kept, _ = select_views(np.full((10, 2), 0.5), 0.3)

    assert kept.tolist() == [0, 1, 2]


def test_the_entropy_of_a_sure_answer_is_zero_and_of_an_even_one_the_logarithm():
    """-sum p log p."""
    found = entropy(np.array([[1.0, 0.0], [0.5, 0.5]]), 1e-12)

    assert found.tolist() == pytest.approx([0.0, np.log(2)], abs=1e-9)


def test_a_softmax_of_large_logits_does_not_overflow():
    """The scale is 100, so logits are large."""
    assert softmax(np.array([[1e4, 1e4]])).tolist() == [[0.5, 0.5]]


def test_unit_vectors_lie_on_the_grid():
    """Multiples of 2^-24, whose products add up without rounding."""
    found = unit(np.random.default_rng(0).normal(size=(3, 7))).astype(np.float64) * 2**24

    assert np.array_equal(found, np.rint(found))


def test_a_sharpness_beyond_float32_is_as_good_as_infinite():
    """1e39 is a number, but not one of float32: the weights must not become NaN."""
    slots = np.array([[[1.0, 0.5]]])
    filled = np.ones((1, 2), bool)

    assert slot_weights(slots, filled, beta=1e39).tolist() == [[[1.0, 0.0]]]
