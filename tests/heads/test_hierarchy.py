"""Votes at every level of a hierarchy, and backing off."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import MemoryClassifier
from recollect.errors import InputError, InvalidLabel, InvalidParameter
from recollect.heads.hierarchy import Hierarchy

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
