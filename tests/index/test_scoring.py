"""The similarity that decides: the same bits however a pair is computed."""

from __future__ import annotations

import math

import hard_rows
import numpy as np
import pytest
import slow_truth
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recollect.index.scoring import measure, similarity, sum_terms

METRICS = ["cosine", "dot", "euclidean", "manhattan"]
WEIGHTS = np.linspace(0.0, 3.0, hard_rows.DIM)


def pairs(metric, queries, rows, weights=None):
    return similarity(
        metric,
        queries,
        rows,
        query_sizes=measure(queries),
        row_sizes=measure(rows),
        weights=weights,
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", hard_rows.CASES)
def test_similarity_has_the_bits_of_plain_python(metric, case):
    """Written down twice, computed twice, equal to the last bit."""
    rows, queries = hard_rows.make(case, rows=20, queries=20)
    expected = [
        slow_truth.similarity(metric, q.tolist(), r.tolist(), WEIGHTS.tolist())
        for q, r in zip(queries, rows, strict=True)
    ]

    found = pairs(metric, queries, rows, WEIGHTS)

    assert found.tolist() == expected


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 2, 7, 8, 9, 17, 100, 383, 384, 9000])
def test_similarity_is_the_same_alone_and_in_any_company(metric, dim):
    """Shape, alignment and strides must not reach the sum."""
    rng = np.random.default_rng(dim)
    rows = rng.standard_normal((65, dim)).astype(np.float32)
    queries = rng.standard_normal((65, dim)).astype(np.float32)
    together = pairs(metric, queries, rows)
    shifted = np.empty(rows.size + 1, np.float32)[1:].reshape(rows.shape)
    shifted[:] = rows
    spread = np.repeat(rows, 2, axis=1)[:, ::2]

    alone = [pairs(metric, queries[i : i + 1], rows[i : i + 1])[0] for i in range(65)]

    assert np.array_equal(together, alone)
    assert np.array_equal(together[3:40], pairs(metric, queries[3:40], rows[3:40]))
    assert np.array_equal(together, pairs(metric, queries, shifted))
    assert np.array_equal(together, pairs(metric, queries, spread))
    assert np.array_equal(together[::-1], pairs(metric, queries[::-1], rows[::-1]))
    assert np.array_equal(together, pairs(metric, np.asfortranarray(queries), rows))


@pytest.mark.parametrize("metric", METRICS)
def test_a_table_of_pairs_has_the_bits_of_the_pairs(metric):
    """The exhaustive search broadcasts, the re-scoring does not."""
    rows, queries = hard_rows.make("clustered", rows=11, queries=5)
    table = similarity(
        metric,
        queries[:, None],
        rows,
        query_sizes=measure(queries)[:, None],
        row_sizes=measure(rows),
    )

    by_pair = pairs(metric, np.repeat(queries, 11, axis=0), np.tile(rows, (5, 1)))

    assert np.array_equal(table, by_pair.reshape(5, 11))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.just(2), st.integers(1, 40)),
        elements=st.floats(-(2.0**60), 2.0**60, width=32).filter(
            lambda x: x == 0 or abs(x) > 1e-18
        ),
    )
)
def test_the_dot_product_is_within_one_float32_step_of_the_true_one(vectors):
    """Float64 sums leave only the last rounding to see, unless terms cancel to nearly nothing."""
    terms = [float(a) * float(b) for a, b in vectors.T]
    true = math.fsum(terms)

    found = float(pairs("dot", vectors[:1], vectors[1:])[0])

    slack = 2**-46 * math.fsum(map(abs, terms)) + 2**-149
    assert abs(found - true) <= 2**-23 * abs(true) + slack


def test_a_vector_and_its_copy_have_cosine_one():
    """Not 0.99999994: novelty and duplicates are judged by it."""
    rows, _ = hard_rows.make("all_scales", rows=200, queries=0)

    assert pairs("cosine", rows, rows.copy()).tolist() == [1.0] * 200


def test_a_vector_and_its_copy_have_distance_zero_without_a_sign():
    """Minus zero prints badly and sorts by luck."""
    rows, _ = hard_rows.make("all_scales", rows=5, queries=0)

    found = pairs("euclidean", rows, rows.copy())

    assert found.tolist() == [0.0] * 5
    assert not np.signbit(found).any()


def test_what_float32_cannot_hold_stays_finite():
    """Minus infinity says that there is no row."""
    far = np.array([[3e38, 3e38]], np.float32)

    assert pairs("euclidean", far, -far).tolist() == [-slow_truth.LARGEST]
    assert pairs("dot", far, far).tolist() == [slow_truth.LARGEST]
    assert pairs("dot", far, -far).tolist() == [-slow_truth.LARGEST]


@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_narrow_keys_score_as_their_float32_copies(dtype):
    """Both convert exactly."""
    rng = np.random.default_rng(1)
    rows = rng.integers(1, 200, (30, 12)).astype(dtype)
    queries = rng.standard_normal((30, 12)).astype(np.float32)

    assert np.array_equal(measure(rows), measure(rows.astype(np.float32)))
    assert np.array_equal(
        pairs("cosine", queries, rows), pairs("cosine", queries, rows.astype(np.float32))
    )


def test_measuring_is_the_same_alone_and_in_any_company():
    """Norms may come from disk, computed in other chunks."""
    rows = np.random.default_rng(2).standard_normal((3000, 100)).astype(np.float32)

    together = measure(rows)

    assert np.array_equal(together[::7], measure(rows[::7]))
    assert together[5] == slow_truth.norm(rows[5].tolist())


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=70))
def test_the_order_of_a_sum_is_fixed(terms):
    """Halving, then left to right."""
    assert sum_terms(np.array([terms]))[0] == slow_truth.folded_sum(terms)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", METRICS)
def test_a_row_that_is_not_finite_has_no_finite_size(metric, bad):
    """The index relies on it to refuse such rows without another pass over them."""
    rows = np.array([[bad, 1.0], [1.0, 1.0]], np.float32)

    assert np.isfinite(measure(rows, metric=metric, weights=np.ones(2))).tolist() == [False, True]
