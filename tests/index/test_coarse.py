"""The first pass may err by what it says, and not by more."""

from __future__ import annotations

import hard_rows
import numpy as np
import pytest

from recollect.index import scoring
from recollect.index.coarse import Coarse

METRICS = ["cosine", "dot", "euclidean", "manhattan"]


def excess(coarse, rows, queries):
    """By how much the largest error of a regular pair exceeds its bound, in long doubles."""
    row_sizes, query_sizes = coarse.measure(rows), coarse.measure(queries)
    regular = coarse.regular_rows(row_sizes)
    rows, row_sizes = np.ascontiguousarray(rows[regular]), row_sizes[regular]
    regular = coarse.regular_queries(query_sizes)
    queries, query_sizes = queries[regular], query_sizes[regular]
    scores = np.empty((len(rows), len(queries)), np.float32)
    prepared = coarse.prepare(queries, query_sizes)
    coarse.score(rows, coarse.terms(row_sizes), prepared, scores)
    similarity = scoring.similarity(
        coarse.metric,
        queries,
        rows[:, None],
        query_sizes=query_sizes,
        row_sizes=row_sizes[:, None],
        weights=coarse.weights,
    ).astype(np.longdouble)
    if coarse.metric == "dot":
        similarity /= query_sizes
    elif coarse.metric == "euclidean":
        similarity = np.longdouble(query_sizes) ** 2 - similarity**2
    elif coarse.metric == "manhattan" and coarse.weights is not None:
        similarity /= coarse.weights.max() or 1.0
    bound = coarse.bound(row_sizes[:, None], query_sizes)
    return np.max(np.abs(scores - similarity) - bound, initial=-np.inf)


@pytest.mark.parametrize("queries", [2, 9, 1200])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", hard_rows.CASES)
def test_no_error_exceeds_its_bound(metric, case, queries):
    """Few queries go through dot products, some through small matrix products, many through one."""
    rows, asked = hard_rows.make(case, rows=200, queries=queries)

    assert excess(Coarse(metric, hard_rows.DIM), rows, asked) <= 0


@pytest.mark.parametrize(
    "weights", [[1e-30] * 20, [1e30] * 20, [0.0] * 20, [1e-12, 1, 1e12, 0] * 5]
)
@pytest.mark.parametrize("case", ["clustered", "offset", "outliers", "integers"])
def test_no_error_exceeds_its_bound_whatever_the_weights(weights, case):
    """Weights are scaled for the first pass."""
    rows, queries = hard_rows.make(case, rows=200, queries=9)

    assert excess(Coarse("manhattan", 20, np.array(weights)), rows, queries) <= 0


@pytest.mark.parametrize("metric", METRICS)
def test_no_error_exceeds_its_bound_for_wide_keys(metric):
    """The bound grows with the width; so may the error."""
    rows = np.random.default_rng(0).random((50, 3000)).astype(np.float32)

    assert excess(Coarse(metric, 3000), rows, rows[:6].copy()) <= 0


def test_rows_of_norm_one_need_no_factor():
    """Saves a pass over all scores for embeddings that are normalized already."""
    rows = np.random.default_rng(0).standard_normal((100, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    coarse = Coarse("cosine", 384)

    assert coarse.terms(coarse.measure(rows)) is None
    assert excess(coarse, rows, rows[:9].copy()) <= 0


def test_the_bound_is_narrow_enough_to_be_useful():
    """384 roundings of 2^-24 each."""
    assert Coarse("cosine", 384).bound(None, np.ones(1)) < 3e-5


def test_extreme_rows_are_told_apart():
    """They would overflow float32, or leave it no digits."""
    sizes = np.array([0.0, 1e-20, 1.0, 1e20])

    assert Coarse("cosine", 2).regular_rows(sizes).tolist() == [False, False, True, False]
    assert Coarse("dot", 2).regular_rows(sizes).tolist() == [True, True, True, False]
    assert Coarse("dot", 2).regular_queries(sizes).tolist() == [False, False, True, False]
    assert Coarse("cosine", 2).regular_queries(sizes).tolist() == [True] * 4
