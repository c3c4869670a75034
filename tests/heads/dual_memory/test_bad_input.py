"""Bad input gives one error that says what to do, and nothing is half done."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import DualMemoryClassifier, Memory, errors
from recollect.heads.dual_memory.bank import require_room
from recollect.heads.dual_memory.training import Training, train_offsets

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


# -- nothing is half done ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"position": "bogus"},
        {"epochs": 2.5},
        {"epochs": "3"},
        {"batch": 1.5},
        {"rate": "fast"},
        {"rate": float("inf")},
        {"rate": 1e30},
        {"rate": None},
        {"seed": -1},
        {"seed": "x"},
        {"epsilon": "a"},
        {"epsilon": -1.0},
        {"weight_decay": float("inf")},
        {"precision": 3},
        {"affine": "yes"},
    ],
)
def test_settings_of_a_training_are_judged_when_they_are_made(options):
    """Not when the shots have been written already."""
    with pytest.raises(errors.InvalidParameter):
        Training(**options)


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
def test_a_training_that_fails_has_taught_nothing(monkeypatch, verb):
    """Whatever happens in it: it runs before the rows are written."""

    def failing(*_args, **_kwargs):
        raise errors.NonFinite("the key offsets must be finite")

    head = DualMemoryClassifier([EAST, NORTH], ["crow", "owl"]).fit([EAST], ["crow"])
    head.set_params(offsets=Training())
    before = head.memory_.version
    monkeypatch.setattr("recollect.heads.dual_memory.derived.train_offsets", failing)

    with pytest.raises(errors.NonFinite):
        getattr(head, verb)([NORTH], ["owl"])

    assert head.memory_.version == before


def test_what_is_learned_before_the_write_is_what_answers_after_it(monkeypatch):
    """Once, not twice: the rows that were written are the lesson that was learned."""
    pytest.importorskip("torch")
    learned = []
    monkeypatch.setattr(
        "recollect.heads.dual_memory.derived.train_offsets",
        lambda *args, **kwargs: learned.append(1) or train_offsets(*args, **kwargs),
    )
    random = np.random.default_rng(0)
    head = DualMemoryClassifier([EAST, NORTH], ["owl", "crow"], offsets=Training(epochs=1))

    head.fit(random.normal(size=(6, 2)), ["owl", "crow"] * 3, ids=[9, 4, 5, 3, 8, 6])
    head.predict([EAST])
    head.partial_fit(random.normal(size=(2, 2)), ["owl", "crow"])
    head.predict([EAST])

    assert len(learned) == 2


@pytest.mark.parametrize("length", [10**12, 10**400, 20_000, np.array([1, 2])])
def test_slots_that_no_machine_has_room_for_are_refused(length):
    """Before a memory that was taught is replaced."""
    memory = Memory.create(":memory:", dim=2)
    memory.add([EAST], ["old"])

    with pytest.raises(errors.InvalidParameter, match="memory_length"):
        DualMemoryClassifier(
            [EAST, NORTH], ["crow", "owl"], memory=memory, memory_length=length
        ).fit([EAST], ["crow"])

    assert memory.rows().values.tolist() == ["old"]


def test_slots_of_many_classes_are_refused_where_the_machine_has_no_room():
    """Each for itself would fit."""
    with pytest.raises(errors.InvalidParameter, match="no room"):
        require_room(10**6, 4096, 10**5)


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 10**400},
        {"weights": (10**400, 1, 1)},
        {"weights": (1e308, 1e308, 1e308)},
        {"weights": "123"},
        {"seed": np.array([1, 2])},
        {"views": 10**400},
    ],
)
def test_numbers_that_are_no_numbers_are_refused(options):
    """In our words, whatever they are."""
    with pytest.raises(errors.InvalidParameter):
        DualMemoryClassifier([EAST, NORTH], ["crow", "owl"], **options).fit([EAST], ["crow"])


@pytest.mark.parametrize("weights", [[10**400], [1e308]])
def test_weights_to_try_that_overflow_are_refused(weights):
    """They would be infinite, or no numbers, once multiplied by a count."""
    head = DualMemoryClassifier([EAST, NORTH], ["crow", "owl"], fusion="count")
    head.fit([EAST, EAST], ["crow", "crow"])

    with pytest.raises(errors.InvalidParameter, match="to try"):
        head.tune(weights=weights)


def test_a_set_of_names_is_refused():
    """Its order changes from run to run, and with it which vector is whose."""
    with pytest.raises(errors.InvalidLabel, match="no order"):
        DualMemoryClassifier([EAST, NORTH], {"crow", "owl"}).fit()


def test_views_of_another_picture_are_refused(head):
    """The first view is the picture itself; a rounding of the encoder is no matter."""
    head.observe([EAST], views=[[[1.0, 1e-6], NORTH]])
    rows = len(head.memory_)

    with pytest.raises(errors.InvalidParameter, match="picture itself"):
        head.observe([EAST], views=[[NORTH, NORTH]])

    assert len(head.memory_) == rows


def test_metadata_that_is_no_mapping_and_a_class_that_is_no_name_are_refused(head):
    """Not by an error from inside."""
    with pytest.raises(errors.InvalidMetadata):
        head.partial_fit([EAST], ["crow"], metadata=[1])
    with pytest.raises(errors.InvalidLabel):
        head.remove_class(np.array(["crow", "x"]))


def test_neither_names_nor_shots_are_nothing_to_answer_with():
    """scikit-learn's words were of a scalar array of nan."""
    with pytest.raises(errors.InvalidParameter, match="nothing to answer with"):
        DualMemoryClassifier().fit()
