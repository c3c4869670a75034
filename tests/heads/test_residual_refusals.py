"""Every bad input that a residual memory is promised to refuse: one error of ours, nothing done."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from recollect import ResidualMemoryClassifier, ResidualMemoryRegressor, errors
from recollect.heads.inputs import NotFitted

X, Y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 1, 1, 0])
LOGITS = np.zeros((4, 2))
WIDE = np.zeros((4, 2))


def plain(x):
    """A base whose logits are given."""
    return np.asarray(x)


def with_bad(array, row, value):
    bad = array.copy()
    bad[row, -1] = value
    return bad


@pytest.fixture
def head():
    return ResidualMemoryClassifier(plain, k=1).fit(None, Y, embedding=X, outputs=LOGITS)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (ResidualMemoryClassifier, LogisticRegression()),
        (ResidualMemoryRegressor, LinearRegression()),
    ],
)
def test_a_base_that_was_not_fitted_is_refused(kind, model):
    """A residual memory keeps what a trained model gets wrong."""
    with pytest.raises(NotFitted, match="the base is not fitted"):
        kind(model).fit(X, Y)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0], ["a", "b", "b", "a"]])
def test_labels_that_the_base_does_not_know_are_refused(labels):
    """Another set of classes, or another way to name them."""
    base = LogisticRegression().fit(X, Y)

    with pytest.raises(errors.InvalidLabel):
        ResidualMemoryClassifier(base).fit(X, labels)


def test_logits_of_another_number_of_classes_are_refused(head):
    """They are another base's."""
    with pytest.raises(errors.DimensionMismatch, match="one logit for each class"):
        head.predict(None, embedding=X, outputs=np.zeros((4, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("verb", ["predict", "partial_fit"])
@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("the output of row 2", lambda bad: (X, with_bad(LOGITS, 2, bad))),
        ("the embedding of row 3", lambda bad: (with_bad(X, 3, bad), LOGITS)),
    ],
)
def test_the_row_that_is_not_finite_is_named(head, verb, value, words, given):
    """Of logits and of embeddings, asked or taught."""
    labels = () if verb == "predict" else (Y,)
    embedding, outputs = given(value)

    with pytest.raises(errors.NonFinite, match=words):
        getattr(head, verb)(None, *labels, embedding=embedding, outputs=outputs)
    assert len(head.memory_) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sigma", 0), ("sigma", -1.0), ("sigma", float("nan")), ("temperature", 0),
        ("temperature", -2.0), ("k", 0), ("k", -1), ("k", 1.5),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused_by_name_when_taught_and_when_asked(head, name, value):
    """Set before ``fit`` or after."""
    head.set_params(**{name: value})

    with pytest.raises(errors.InvalidParameter, match=f"{name} is out of range"):
        head.predict(None, embedding=X, outputs=LOGITS)
    with pytest.raises(errors.InvalidParameter, match=f"{name} is out of range"):
        head.fit(None, Y, embedding=X, outputs=LOGITS)
    assert len(head.memory_) == 4


def test_a_memory_without_rows_is_refused(head):
    """There is nothing near anything."""
    head.forget(head.ids_)

    with pytest.raises(NotFitted, match="the memory is empty"):
        head.predict(None, embedding=X, outputs=LOGITS)


def test_an_embedding_that_changes_its_width_is_refused(head):
    """Asked or taught; another layer, or another base."""
    with pytest.raises(errors.DimensionMismatch):
        head.predict(None, embedding=WIDE, outputs=LOGITS)
    with pytest.raises(errors.DimensionMismatch, match="changed its width"):
        head.partial_fit(None, Y, embedding=WIDE, outputs=LOGITS)
    assert len(head.memory_) == 4


def test_scores_may_leave_the_range_of_probabilities(head):
    """Fact (a): they sum to 1, but a base that is sure and wrong twice goes below 0."""
    sure = np.array([[4.0, 0.0]])
    head.fit(None, [1] * 4, embedding=X, outputs=np.repeat(sure, 4, axis=0))

    [low, high] = head.predict_proba(
        None, output="score", embedding=X[:1], outputs=np.array([[0.0, 0.0]])
    )[0]

    assert low < 0.0
    assert high > 1.0
    assert low + high == pytest.approx(1.0)
