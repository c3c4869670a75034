"""What the residual heads refuse, each with one error that says what would have been right."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from recollect import Memory, ResidualMemoryClassifier, ResidualMemoryRegressor, errors

X, Y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 1, 1, 0])
BASE = LogisticRegression().fit(X, Y)
LINE = LinearRegression().fit(X, Y)
LOGITS = np.zeros((4, 2))


def plain(x):
    """A base of two logits for X of two columns."""
    return np.asarray(x)


def taught(**parameters):
    return ResidualMemoryClassifier(plain, k=1, **parameters).fit(
        None, Y, embedding=X, outputs=LOGITS
    )


def test_a_row_that_lost_its_label_is_named_with_the_way_back():
    """``update(truth=None)`` used to end in a TypeError about '<' at the next question."""
    head = taught()
    head.memory_.update([2], metadata={"truth": None})

    with pytest.raises(errors.InvalidLabel, match="have no label") as caught:
        head.predict(None, embedding=X, outputs=LOGITS)

    assert "1 rows, such as 2" in str(caught.value)
    head.memory_.update([2], metadata={"truth": 0})
    assert head.predict(None, embedding=X[2:3], outputs=LOGITS[:1]).tolist() == [0]


def test_a_row_that_lost_its_label_can_be_forgotten():
    """The other way back."""
    head = taught()
    head.memory_.update([2], metadata={"truth": None})

    assert head.forget([2]).predict(None, embedding=X[:1], outputs=LOGITS[:1]).tolist() == [0]


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
def test_a_metadata_column_named_truth_is_refused(verb):
    """It used to be overwritten without a word."""
    head = taught()

    with pytest.raises(errors.InvalidMetadata, match="the head's own"):
        getattr(head, verb)(
            None, Y, embedding=X, outputs=LOGITS, metadata={"truth": ["sure", "", "", "sure"]}
        )
    assert len(head.memory_) == 4


def test_a_regressor_leaves_a_column_named_truth_to_its_user():
    """It keeps no labels; it used to read this column as such, and to fail on rows without it."""
    head = ResidualMemoryRegressor(LINE, k=1).fit(X, Y, metadata={"truth": ["a", "b", "c", "d"]})
    head.predict(X)
    head.partial_fit(X + 10.0, Y)

    assert head.predict(X).round(9).tolist() == [0.0, 1.0, 1.0, 0.0]
    assert head.memory_.rows([1]).metadata["truth"] == ["b"]


@pytest.mark.parametrize("metadata", [[1, 2], "colour"])
def test_metadata_that_are_no_columns_are_refused(metadata):
    """With the error of this library, not Python's."""
    with pytest.raises(errors.InvalidMetadata, match="cannot be read"):
        ResidualMemoryClassifier(BASE).fit(X, Y, metadata=metadata)


def test_a_class_in_place_of_a_model_is_refused():
    """A pair of brackets forgotten."""
    with pytest.raises(errors.InvalidParameter, match="is a class"):
        ResidualMemoryClassifier(LogisticRegression).fit(X, Y)


@pytest.mark.parametrize("classes", [["a", "a"], [0, 0]])
def test_a_class_named_twice_is_refused(classes):
    """Its second column could never be answered."""
    with pytest.raises(errors.InvalidParameter, match="named twice"):
        ResidualMemoryClassifier(plain, classes=classes).fit(
            None, [classes[0]] * 4, embedding=X, outputs=LOGITS
        )


def test_one_class_in_place_of_all_is_refused():
    """The number of classes is not their names."""
    with pytest.raises(errors.InputError):
        ResidualMemoryClassifier(plain, classes=2).fit(None, Y, embedding=X, outputs=LOGITS)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"residuals": ["oof"]}, "residuals"), ({"folds": 0}, "folds"), ({"folds": 2.5}, "folds")],
)
def test_an_option_is_refused_under_its_own_name(parameters, words):
    """``folds=0`` used to complain about k, and a list to be unhashable."""
    with pytest.raises(errors.InvalidParameter, match=words):
        taught(**parameters)


def test_an_output_that_is_no_name_is_refused():
    """A list cannot be looked up."""
    with pytest.raises(errors.InvalidParameter, match="output is not known"):
        taught().predict_proba(None, output=["score"], embedding=X, outputs=LOGITS)


def test_no_rows_at_all_are_refused_however_they_are_given():
    """Arrays of no rows used to end in a ValueError about reshaping."""
    with pytest.raises(errors.EmptyBatch):
        taught().predict(None, embedding=X[:0], outputs=LOGITS[:0])


def test_the_row_of_x_that_is_not_finite_is_named():
    """Where rows are compared in X itself the base complains first, and names no row."""
    bad = np.concatenate([X] * 50)
    bad[140] = np.nan
    head = ResidualMemoryClassifier(BASE, k=1).fit(X, Y)

    with pytest.raises(errors.NonFinite, match="row 140 of X is not finite"):
        head.predict(bad)


def test_a_base_that_takes_missing_values_is_asked_about_them():
    """What is finite where rows are compared is all that is needed."""
    holes = X.copy()
    holes[3] = np.nan
    base = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=3.0), LogisticRegression()
    ).fit(holes, Y)

    head = ResidualMemoryClassifier(base, k=1).fit(holes, Y)

    assert head.predict(holes).tolist() == Y.tolist()


@pytest.mark.parametrize("grid", [5, {"k": 5}, {"k": "12"}, {"k": []}, {"depth": [1]}])
def test_a_grid_that_cannot_be_read_is_refused(grid):
    """A number in place of a sequence is the commonest slip."""
    with pytest.raises(errors.InvalidParameter, match="grid"):
        taught().tune(None, Y, embedding=X, outputs=LOGITS, grid=grid)


@pytest.mark.parametrize("given", [{"y": Y}, {"outputs": LOGITS}])
def test_labels_without_their_rows_are_not_ignored(given):
    """They used to be, and the rows of the memory were asked in their place."""
    with pytest.raises(errors.InputError, match="without the rows they belong to"):
        taught().tune(**given)


def test_numbers_of_another_width_do_not_choose_a_setting():
    """Two columns of truth were compared with the one of the base, by stretching it."""
    head = ResidualMemoryRegressor(LINE, k=1).fit(X, Y)

    with pytest.raises(errors.DimensionMismatch, match="other numbers than those given"):
        head.tune(X, np.stack([Y, Y], axis=1))


def test_searches_saved_wants_the_logits_of_this_base():
    """Of another number of classes, another base's."""
    with pytest.raises(errors.DimensionMismatch):
        taught(gate=0.9).searches_saved(None, outputs=np.zeros((4, 3)))


# -- memories made elsewhere -----------------------------------------------------------------------


def test_vectors_without_labels_are_no_residual_memory():
    """Rows taught in another way used to be answered from as if they held logits."""
    memory = Memory.create(":memory:", dim=1, metric="euclidean", value="vector", value_dim=2)
    memory.add(X, LOGITS)

    with pytest.raises(errors.InvalidLabel, match="have no label"):
        ResidualMemoryClassifier(BASE, memory=memory).predict(X)


def test_rows_that_name_classes_as_text_do_not_fit_a_base_of_numbers():
    """They used to end in a TypeError about '<'."""
    memory = Memory.create(":memory:", dim=1, metric="euclidean")
    memory.add(X, ["no", "yes", "yes", "no"])

    with pytest.raises(errors.InvalidLabel, match="different ways"):
        ResidualMemoryClassifier(BASE, memory=memory).predict(X)


def test_rows_that_keep_logits_in_another_form_are_not_mixed(tmp_path):
    """11 logits and 2 of 11 with their normalization are equally wide: 9 + 1 + 1."""
    labels, outputs = np.arange(4), np.eye(4, 11)
    first = ResidualMemoryClassifier(plain, k=1, memory=tmp_path / "rows")
    first.fit(None, labels, embedding=X, outputs=outputs).memory_.close()
    second = ResidualMemoryClassifier(plain, k=1, memory=tmp_path / "rows", entries=2)

    for verb in (second.partial_fit, second.fit):
        with pytest.raises(errors.InvalidParameter, match="keep something else"):
            verb(None, labels, embedding=X, outputs=outputs)
    assert second.predict(None, embedding=X, outputs=outputs).tolist() == [0, 1, 2, 3]


def test_a_memory_that_records_no_base_takes_all_logits_only():
    """It cannot say that its rows keep two of eleven, so they would be read as eleven."""
    memory = Memory.create(":memory:", dim=1, metric="euclidean", value="vector", value_dim=11)
    head = ResidualMemoryClassifier(plain, memory=memory, entries=2)

    with pytest.raises(errors.InvalidParameter, match="keep something else"):
        head.fit(None, np.arange(4), embedding=X, outputs=np.eye(4, 11))
    assert len(memory) == 0


@pytest.mark.parametrize("kind", [ResidualMemoryClassifier, ResidualMemoryRegressor])
def test_a_classifier_and_a_regressor_do_not_share_rows(kind, tmp_path):
    """Logits are no residuals: two columns of either have one shape."""
    wide = LinearRegression().fit(X, np.stack([Y, Y], axis=1))
    if kind is ResidualMemoryClassifier:
        ResidualMemoryRegressor(wide, memory=tmp_path).fit(X, np.stack([Y, Y], 1)).memory_.close()
        head = ResidualMemoryClassifier(BASE, memory=tmp_path)
    else:
        ResidualMemoryClassifier(BASE, memory=tmp_path).fit(X, Y).memory_.close()
        head = ResidualMemoryRegressor(wide, memory=tmp_path)

    with pytest.raises(errors.InvalidParameter, match="the rows are of a"):
        head.predict(X)


@pytest.mark.parametrize(
    "given", [np.array([1.5, 2.0, 3.0]), [1.5, 2.0, 3.0]], ids=["array", "list"]
)
def test_a_single_row_that_is_no_table_is_shown_as_it_was_given(given):
    """The error showed the block that the base is asked in, filled up with one value."""
    head = ResidualMemoryClassifier(BASE, k=1).fit(X, Y)

    with pytest.raises(errors.DimensionMismatch) as caught:
        head.predict(given)

    assert str(caught.value).endswith("expected (rows, dim), got (3,): [1.5, 2, 3]")
    assert "X.reshape(1, -1)" in caught.value.remedy
