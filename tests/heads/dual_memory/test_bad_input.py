"""Bad input gives one error that says what to do, and nothing is half done."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import DualMemoryClassifier, errors

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


@pytest.fixture
def head():
    return DualMemoryClassifier([EAST, NORTH], ["crow", "owl"]).fit([EAST], ["crow"])


def test_a_vector_without_a_name_is_refused():
    """A class has a name, or numbers name all of them."""
    with pytest.raises(errors.LengthMismatch):
        DualMemoryClassifier([EAST, NORTH], ["crow"]).fit()


def test_a_name_without_a_vector_is_refused():
    """The other way round."""
    with pytest.raises(errors.InvalidLabel, match="no text vector"):
        DualMemoryClassifier({"crow": EAST}, ["crow", "owl"]).fit()


def test_a_name_that_comes_twice_is_refused():
    """Which of the two would an example belong to?"""
    with pytest.raises(errors.InvalidLabel, match="named twice"):
        DualMemoryClassifier([EAST, NORTH], ["crow", "crow"]).predict([EAST])


def test_names_without_any_text_encoder_are_refused():
    """Names alone say nothing about pictures."""
    with pytest.raises(errors.InvalidParameter, match="names alone"):
        DualMemoryClassifier(class_names=["crow"]).fit()


@pytest.mark.parametrize("text", [[[0.0, 0.0]], [[np.nan, 1.0]], [1.0, 0.0], np.empty((0, 2))])
def test_text_features_that_cannot_be_used_are_refused(text):
    """Zeros have no direction, NaN no value, a single vector no class."""
    with pytest.raises(errors.InputError):
        DualMemoryClassifier(text).fit()


def test_a_shot_of_a_class_without_a_name_is_refused(head):
    """And the other shots of the call are not taught."""
    with pytest.raises(errors.InvalidLabel, match="has no name"):
        head.partial_fit([NORTH, EAST], ["owl", "dodo"])

    assert head.ids_.tolist() == [2]


def test_text_of_another_width_than_the_pictures_is_refused():
    """They do not lie in one space."""
    with pytest.raises(errors.DimensionMismatch, match="different widths"):
        DualMemoryClassifier([EAST], ["crow"]).fit([[1.0, 0.0, 0.0]], ["crow"])


@pytest.mark.parametrize(
    ("pictures", "error"),
    [
        ([[1.0, 0.0, 0.0]], errors.DimensionMismatch),
        ([[np.nan, 0.0]], errors.NonFinite),
        ([[0.0, 0.0]], errors.ZeroVector),
        (np.empty((0, 2)), errors.EmptyBatch),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "observe"])
def test_pictures_that_cannot_be_used_are_refused(head, verb, pictures, error):
    """And none of the batch is observed."""
    rows = len(head.memory_)

    with pytest.raises(error):
        getattr(head, verb)(pictures)

    assert len(head.memory_) == rows


@pytest.mark.parametrize("views", [np.ones((2, 3, 2)), np.ones((1, 3, 5)), np.ones((1, 2)),
                                   np.full((1, 2, 2), np.nan)])  # fmt: skip
def test_views_that_do_not_fit_are_refused(head, views):
    """One set of views for each picture, of the same width, finite."""
    with pytest.raises(errors.InputError):
        head.observe([EAST], views=views)

    assert head.observed_ids_.tolist() == []


def test_no_shots_at_all_is_an_empty_batch():
    """k = 0 means: teach the names alone, with fit()."""
    with pytest.raises(errors.EmptyBatch):
        DualMemoryClassifier([EAST], ["crow"]).fit(np.empty((0, 2)), [])


@pytest.mark.parametrize(
    "options",
    [
        {"memory_length": 0}, {"beta": -1.0}, {"beta": np.nan}, {"weights": (0, 0, 0)},
        {"weights": (1, 1)}, {"weights": (1, -1, 1)}, {"fusion": "sum"}, {"mode": "fast"},
        {"order": "read"}, {"labels": "static"}, {"view_fraction": 0.0}, {"view_fraction": 1.5},
        {"views": 0}, {"threshold": 2.0}, {"trust": -1.0}, {"decay": -0.1}, {"offsets": "learned"},
        {"scale": 0.0}, {"anchor": 0.0}, {"augmentation": "blur"}, {"seed": -1},
    ],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_refused(options):
    """When they are used, not deep in the arithmetic."""
    with pytest.raises(errors.InvalidParameter):
        DualMemoryClassifier([EAST], ["crow"], **options).predict([EAST])


def test_a_column_of_the_heads_own_cannot_be_given(head):
    """It says which rows are names and which are shots."""
    with pytest.raises(errors.InvalidMetadata):
        head.partial_fit([EAST], ["crow"], metadata={"part": ["text"]})


def test_nothing_taught_and_nothing_named_is_not_fitted():
    """There is nothing to answer from."""
    with pytest.raises(errors.EmptyMemory):
        DualMemoryClassifier().predict([EAST])


def test_a_template_needs_a_place_for_the_name():
    """Otherwise all classes have one text."""
    from recollect.encoders import from_name

    head = DualMemoryClassifier(
        class_names=["crow"], prompts="a bird", text_encoder=from_name("hashing-text")
    )

    with pytest.raises(errors.InvalidParameter, match="no place"):
        head.fit()


def test_tuning_needs_a_second_shot_of_some_class(head):
    """With its only shot left out a class is its name alone."""
    with pytest.raises(errors.InvalidParameter, match="no shot can be left out"):
        head.tune()


def test_an_oracle_needs_the_answers(head):
    """It is labelled as what it is, or it is none."""
    with pytest.raises(errors.InvalidParameter, match="oracle"):
        head.tune(oracle=True)


def test_given_ids_name_the_shots(head):
    """The rows of the names are counted up behind them."""
    taught = DualMemoryClassifier([EAST, NORTH], ["crow", "owl"]).fit(
        [EAST, NORTH], ["crow", "owl"], ids=[70, 7]
    )

    assert taught.ids_.tolist() == [70, 7]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"text_features": [[1.0, 2.0], [1.0]]}, errors.DimensionMismatch),
        ({"text_features": {"crow": [1.0, 2.0], "owl": [1.0]}}, errors.DimensionMismatch),
        ({"text_features": [EAST], "class_names": 5}, errors.InvalidLabel),
        ({"text_features": [EAST], "class_names": "c"}, errors.InvalidLabel),
        ({"text_features": [EAST], "class_names": [" "]}, errors.InvalidLabel),
        ({"text_features": {"crow": EAST}, "class_names": 5}, errors.InvalidLabel),
    ],
    ids=str,
)
def test_names_and_vectors_that_are_none_are_refused(given, error):
    """Vectors of two lengths, a number instead of names, a blank name."""
    with pytest.raises(error):
        DualMemoryClassifier(**given).fit()


def test_views_of_different_numbers_are_refused(head):
    """Two pictures with one and two views are no array."""
    with pytest.raises(errors.DimensionMismatch, match="differ in length"):
        head.observe([EAST, NORTH], views=[[EAST], [NORTH, EAST]])

    assert head.observed_ids_.tolist() == []


def test_labels_without_pictures_are_not_tuned_on(head):
    """They would be ignored, and the shots asked instead."""
    with pytest.raises(errors.InvalidParameter, match="labels alone"):
        head.tune(None, ["crow"])


def test_rows_that_are_not_there_show_nothing(head):
    """Who erases wants to know that it was all."""
    with pytest.raises(errors.UnknownIds):
        head.rows_of([99])
