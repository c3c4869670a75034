"""The estimators keep scikit-learn's rules."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from recollect import DualMemoryClassifier, Memory, MemoryClassifier, MemoryRegressor

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def expected_failures(estimator):
    if estimator.metric != "cosine":
        return {}
    return {"check_estimators_dtypes": "teaches a row of zeros, which has no cosine"}


@parametrize_with_checks(
    [
        DualMemoryClassifier(beta=1000.0),
        MemoryClassifier(),
        MemoryClassifier(k=3, vote="softmax", metric="euclidean"),
        MemoryRegressor(),
        MemoryRegressor(k=3, weighting="distance", metric="euclidean"),
    ],
    expected_failed_checks=expected_failures,
)
def test_an_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    """So that it works wherever an estimator works."""
    check(estimator)


def test_a_grid_search_chooses_by_cross_validation():
    """Each fold teaches a memory of its own."""
    rows, labels = [EAST, EAST, EAST, NORTH, NORTH, NORTH], ["e", "e", "e", "n", "n", "n"]

    search = GridSearchCV(MemoryClassifier(), {"k": [1, 4]}, cv=3).fit(rows, labels)

    assert search.best_params_ == {"k": 1}
    assert search.best_score_ == 1.0


def test_a_grid_search_runs_in_worker_processes():
    """Estimators travel to the workers and back."""
    rows, labels = [EAST, EAST, NORTH, NORTH], ["e", "e", "n", "n"]

    scores = cross_val_score(MemoryClassifier(k=1), rows, labels, cv=2, n_jobs=2)

    assert scores.tolist() == [1.0, 1.0]


def test_a_pipeline_scales_before_it_asks():
    """A head is the last step of a pipeline."""
    pipeline = make_pipeline(StandardScaler(), MemoryClassifier(k=1))

    pipeline.fit([[1.0, 100.0], [2.0, 100.0], [1.0, 300.0]], ["a", "b", "c"])

    assert pipeline.predict([[1.0, 290.0]]).tolist() == ["c"]


def test_a_clone_shares_the_memory_that_was_given():
    """A memory is a handle to something that exists once; a deep copy would split it."""
    memory = Memory.create(":memory:", dim=2)

    copy = clone(MemoryClassifier(k=3, memory=memory))

    assert copy.memory is memory
    assert copy.k == 3


def test_column_names_are_kept_and_compared():
    """scikit-learn warns where names differ; so does a head."""
    pd = pytest.importorskip("pandas")
    head = MemoryClassifier(k=1).fit(pd.DataFrame({"x": [1.0, 0.0], "y": [0.0, 1.0]}), ["e", "n"])

    assert head.feature_names_in_.tolist() == ["x", "y"]
    assert head.predict(pd.DataFrame({"x": [2.0], "y": [0.1]})).tolist() == ["e"]
    assert np.array_equal(head.classes_, ["e", "n"])
