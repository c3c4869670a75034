"""Votes at every level of a hierarchy, and backing off."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import MemoryClassifier, MemoryRegressor
from recollect.errors import InputError, InvalidLabel, InvalidParameter
from recollect.heads.hierarchy import Hierarchy
from recollect.heads.inputs import NotFitted

KINDS = Hierarchy({"cat": "mammal", "dog": "mammal", "carp": "fish"}, levels=("kind", "pet"))
ROWS = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]])


@pytest.fixture
def pets():
    """Around [1, 0]: carp, cat, dog, dog, with one vote each."""
    return MemoryClassifier(k=3, vote="plurality").fit(ROWS, ["carp", "cat", "dog", "dog"])


def test_rows_of_different_labels_vote_together_one_level_up(pets):
    """Carp, cat and dog have a third each; two thirds are mammals."""
    found = KINDS.answer(pets, [[1, 0]])

    assert found.labels.tolist() == [["mammal", "carp"]]
    assert found.confidence[0].tolist() == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("confidence", "answer", "level"),
    [(0.3, "carp", 1), (0.5, "mammal", 0), ((0.5, 0.2), "carp", 1), (0.9, None, -1)],
)
def test_the_answer_is_the_most_specific_one_that_is_sure_enough(pets, confidence, answer, level):
    """Better a mammal for certain than a wrong pet."""
    found = KINDS.answer(pets, [[1, 0]], confidence=confidence)

    assert (found.answers.tolist(), found.level.tolist()) == ([answer], [level])


def test_thresholds_are_chosen_on_the_rows_themselves(pets):
    """Left out, all rows are called mammals, with 1, 2/3, 2/3, 2/3, and all but row 0 are right.

    As pets all are called dog, with 2/3, 2/3, 1/3, 1/3, and only the last two are right: at 0.6 no
    share keeps the promise, and every row is left to the level above; at 0.5 the smallest does.
    """
    near, weights = pets.votes(None)
    labels, shares = KINDS.vote(near, weights)

    chosen = KINDS.calibrate(pets, accuracy=(0.75, 0.6))

    assert labels[:, 0].tolist() == ["mammal"] * 4
    assert shares[:, 0].tolist() == pytest.approx([1, 2 / 3, 2 / 3, 2 / 3])
    assert chosen[0] == pytest.approx(2 / 3)
    assert chosen[1] > 1
    assert KINDS.calibrate(pets, accuracy=0.5)[1] == pytest.approx(1 / 3)


def test_a_table_of_levels_is_read_from_csv(tmp_path):
    """The most general column first, the labels last."""
    path = tmp_path / "pets.csv"
    path.write_text("kingdom,kind,pet\nanimal,mammal,cat\nanimal,fish,carp\n", encoding="utf-8")

    kinds = Hierarchy.from_csv(path)

    assert kinds.levels == ("kingdom", "kind", "pet")
    assert kinds.path("carp") == ("animal", "fish", "carp")


def test_a_table_serves_a_memory_of_integers(tmp_path):
    """A file holds digits; before, no label of such a memory was found."""
    path = tmp_path / "pets.csv"
    path.write_text("kind, pet\nmammal, 1\nmammal, 2\nfish, -3\n", encoding="utf-8")
    pets = MemoryClassifier(k=2).fit([[1, 0], [1, 0.1], [0, 1]], [1, 2, -3])

    found = Hierarchy.from_csv(path).answer(pets, [[1, 0.04]], confidence=0.7)

    assert found.labels.tolist() == [["mammal", 1]]
    assert found.answers.tolist() == ["mammal"]


def test_spaces_around_a_cell_do_not_count(tmp_path):
    """Spreadsheets and people put them there."""
    path = tmp_path / "pets.csv"
    path.write_text(" kind , pet\n mammal, cat \n\n ,\n", encoding="utf-8")

    kinds = Hierarchy.from_csv(path)

    assert kinds.levels == ("kind", "pet")
    assert kinds.path("cat") == ("mammal", "cat")


@pytest.mark.parametrize(
    "text",
    ["", "kind,pet\nmammal\n", "kind,pet\nmammal,cat\nfish,cat\n", "kind,pet\n,cat\n"],
    ids=["empty", "a cell missing", "two paths", "an empty cell"],
)
def test_a_table_that_is_no_hierarchy_is_refused(text, tmp_path):
    """With the line that is wrong."""
    path = tmp_path / "pets.csv"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InputError):
        Hierarchy.from_csv(path)


def test_a_label_without_ancestors_is_refused(pets):
    """A silent None would look like an answer."""
    with pytest.raises(InvalidLabel, match="dog"):
        Hierarchy({"cat": "mammal", "carp": "fish"}).answer(pets, [[1, 0]])


def test_paths_of_different_depth_are_refused():
    """There would be no level to vote at."""
    with pytest.raises(InvalidParameter):
        Hierarchy({"cat": "mammal", "carp": ("animal", "fish")})


def test_a_share_outside_of_one_is_refused(pets):
    """Percents are a common slip."""
    with pytest.raises(InvalidParameter):
        KINDS.answer(pets, [[1, 0]], confidence=50)


@pytest.mark.parametrize("reliability", [None, "rate"])
def test_an_emptied_memory_cannot_be_calibrated_on(reliability):
    """In our words, whatever the options; before, one of them gave numpy's."""
    pets = MemoryClassifier(reliability=reliability).fit([[1, 0]], ["cat"])
    pets.forget([0])

    with pytest.raises(NotFitted):
        Hierarchy({"cat": "mammal"}).calibrate(pets)


@pytest.fixture
def blended():
    """Three classes that overlap; the class means have half of the answer."""
    rng = np.random.default_rng(0)
    keys, labels = rng.normal(size=(200, 6)), np.repeat(["cat", "dog", "carp", "dog"], 50)
    return MemoryClassifier(k=5, class_means=0.5).fit(keys + np.eye(6)[:4].repeat(50, 0), labels)


def test_class_means_have_their_part_at_every_level(blended):
    """The finest level is what `predict` answers; before, only the vote was counted."""
    queries = np.random.default_rng(1).normal(size=(100, 6))

    found = KINDS.answer(blended, queries, confidence=0)

    carp, cat, dog = blended.predict_proba(queries).T
    assert found.labels[:, 1].tolist() == blended.predict(queries).tolist()
    assert found.confidence[:, 1].tolist() == np.max([carp, cat, dog], axis=0).tolist()
    assert found.confidence[:, 0] == pytest.approx(np.maximum(carp, cat + dog))
    assert (found.labels[:, 0] == np.where(carp > cat + dog, "fish", "mammal")).all()


def test_thresholds_are_chosen_on_shares_with_the_class_means(blended):
    """At the threshold answers are right as often as asked, of the very shares that are given."""
    blended.set_params(class_means=1.0)
    own = KINDS.answer(blended, None, confidence=0)
    truth = blended.memory_.rows(blended.ids_).values

    _, finest = KINDS.calibrate(blended, accuracy=0.6)

    sure = own.confidence[:, 1] >= finest
    assert sure.any()
    assert np.mean(own.labels[sure, 1] == truth[sure]) >= 0.6


def test_labels_may_be_integers_of_numpy():
    """Before, an ancestor that was one ended in an error of Python's."""
    labels = np.array([1, 2, 3])
    pets = MemoryClassifier(k=2).fit([[1, 0], [1, 0.1], [0, 1]], labels)

    found = Hierarchy(dict(zip(labels, np.array([10, 10, 20]), strict=True))).answer(pets, [[1, 0]])

    assert found.labels.tolist() == [[10, 1]]


@pytest.mark.parametrize(
    "ancestors",
    [
        None,
        ["a"],
        5,
        {"a": 5.0},
        {"a": None},
        {"a": b"x"},
        {"a": {"b"}},
        {"a": [["x"]]},
        {1.5: "a"},
    ],
    ids=repr,
)
def test_what_is_no_hierarchy_is_refused(ancestors):
    """Before, these ended in errors of Python's."""
    with pytest.raises(InvalidParameter, match="this is no hierarchy"):
        Hierarchy(ancestors)


@pytest.mark.parametrize("levels", [5, "ab", [1, 2], ["x", ["y"]], ["x"]], ids=repr)
def test_levels_are_named_by_a_list_of_texts(levels):
    """Before, a number ended in an error of Python's."""
    with pytest.raises(InvalidParameter, match="not named one by one"):
        Hierarchy({"a": "x"}, levels=levels)


@pytest.mark.parametrize("confidence", ["x", None, {"a": 1}, [None, 1], "0.5"], ids=repr)
def test_a_confidence_is_a_number(pets, confidence):
    """Before, a word ended in an error of numpy's."""
    with pytest.raises(InvalidParameter, match="confidence is out of range"):
        KINDS.answer(pets, [[1, 0]], confidence=confidence)
    with pytest.raises(InvalidParameter, match="confidence is out of range"):
        KINDS.calibrate(pets, accuracy=confidence)


def test_what_cannot_be_asked_is_refused():
    """A list is no label, a regressor has none, and None is no file."""
    with pytest.raises(InvalidLabel):
        KINDS.path(["cat"])
    with pytest.raises(InvalidParameter, match="MemoryClassifier"):
        KINDS.answer(MemoryRegressor().fit([[1.0], [2.0]], [1.0, 2.0]), [[1.0]])
    with pytest.raises(InvalidParameter, match="MemoryClassifier"):
        KINDS.calibrate(None)
    with pytest.raises(InputError):
        Hierarchy.from_csv(None)
