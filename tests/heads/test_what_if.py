"""What a removal would change, shown before it is made."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import MemoryClassifier
from recollect.errors import InvalidParameter, UnknownIds

LINE = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3], [0, 1]])


@pytest.fixture
def pets():
    """Four rows near each other, one far away; the nearest of three answers by rank."""
    return MemoryClassifier(k=3).fit(LINE, ["cat", "cat", "dog", "dog", "fish"])


def test_the_rows_behind_a_removed_one_move_up(pets):
    """Without row 0 and 1 the three nearest are two dogs and a fish."""
    preview = pets.what_if([[1, 0]], remove=[1, 0])

    assert (preview.before.tolist(), preview.after.tolist()) == (["cat"], ["dog"])
    assert preview.score_before[0] == pytest.approx((1 / 2 + 1 / 3) / (1 / 2 + 1 / 3 + 1 / 4))
    assert preview.score_after[0] == pytest.approx((1 / 2 + 1 / 3) / (1 / 2 + 1 / 3 + 1 / 4))
    assert preview.removed.tolist() == [0, 1]


def test_nothing_is_written(pets):
    """A preview is a question."""
    before = pets.memory_.version
    pets.what_if(LINE, where="label = 'cat'")

    assert pets.memory_.version == before
    assert pets.predict([[1, 0]]).tolist() == ["cat"]


def test_a_class_is_named_by_a_filter(pets):
    """As in remove and erase."""
    preview = pets.what_if([[1, 0], [0, 1]], where="label = 'cat'")

    assert preview.flipped.tolist() == [True, False]


def test_without_queries_the_rows_that_stay_are_asked_about_themselves(pets):
    """Row 3 is answered by a dog and two cats now, 1/2 against 1/3 + 1/4."""
    preview = pets.what_if(remove=[0, 1])

    assert preview.rows.tolist() == [2, 3, 4]
    assert preview.before.tolist() == ["cat", "cat", "dog"]
    assert preview.after.tolist() == ["dog", "dog", "dog"]


def test_where_no_row_is_left_there_is_no_answer(pets):
    """None, not a label that is gone."""
    preview = pets.what_if([[1, 0]], remove=pets.ids_)

    assert preview.after.tolist() == [None]
    assert preview.score_after.tolist() == [0.0]


@pytest.mark.parametrize("vote", ["rank", "softmax", "distance", "plurality"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_preview_is_what_forgetting_gives_to_the_last_bit(vote, metric):
    """Exact is a promise: the same labels and the same shares as after the removal."""
    rng = np.random.default_rng(5)
    keys, labels = rng.normal(size=(300, 4)), rng.choice(list("abcde"), 300)
    queries = rng.normal(size=(60, 4))
    head = MemoryClassifier(k=7, vote=vote, metric=metric).fit(keys, labels)
    gone = rng.permutation(300)[:200]

    preview = head.what_if(queries, remove=gone)
    head.forget(gone)

    assert preview.after.tolist() == head.predict(queries).tolist()
    assert preview.score_after.tolist() == head.predict_proba(queries).max(axis=1).tolist()
    assert preview.flipped.sum() > 10


@pytest.mark.parametrize(
    "options",
    [
        {"reliability": "soft"},
        {"reliability": "hard"},
        {"reliability": "rate"},
        {"class_means": 0.5},
        {"class_means": 0.3, "reliability": "rate"},
    ],
)
def test_what_other_rows_say_of_a_row_is_previewed_too(options):
    """A removal changes the reliability of rows that stay, and the means of their class."""
    rng = np.random.default_rng(6)
    keys, labels = rng.normal(size=(150, 4)), rng.choice(list("abc"), 150)
    queries = rng.normal(size=(40, 4))
    head = MemoryClassifier(k=5, **options).fit(keys, labels)
    gone = rng.permutation(150)[:60]
    of_queries, of_rows = head.what_if(queries, remove=gone), head.what_if(remove=gone)

    assert of_queries.before.tolist() == head.predict(queries).tolist()
    head.forget(gone)

    assert of_queries.after.tolist() == head.predict(queries).tolist()
    assert of_queries.score_after.tolist() == head.predict_proba(queries).max(axis=1).tolist()
    assert of_queries.flipped.any()
    assert of_rows.rows.tolist() == sorted(head.ids_.tolist())
    assert of_rows.after.tolist() == head.what_if(remove=[]).before.tolist()


def test_votes_on_the_rows_themselves_follow_reliability():
    """Row 2 is mislabeled: its vote weighs less than a third; the order is that of teaching."""
    keys = [[1, 0], [1, 0.1], [1, 0.2], [1, 0.15], [0, 1], [0.1, 1]]
    head = MemoryClassifier(k=2, reliability="soft").fit(
        keys, ["a", "a", "a", "b", "b", "b"], ids=[5, 4, 3, 2, 1, 0]
    )
    near, weights = head.votes()

    assert near.ids[0].tolist() == [4, 2]
    assert 0 < weights[0, 1] < 1 / 3


def test_rows_are_named_in_one_way_and_have_to_be_there(pets):
    """A typo must not pass for "nothing changes"."""
    with pytest.raises(InvalidParameter):
        pets.what_if(LINE)
    with pytest.raises(InvalidParameter):
        pets.what_if(LINE, remove=[0], where="label = 'cat'")
    with pytest.raises(UnknownIds):
        pets.what_if(LINE, remove=[9])


@pytest.mark.parametrize("options", [{}, {"reliability": "soft"}, {"class_means": 0.5}])
def test_without_all_rows_nobody_is_left_to_ask(options):
    """Before, this ended in an error of Python's."""
    pets = MemoryClassifier(k=1, **options).fit([[1, 0], [0.9, 0.1], [0, 1]], ["a", "b", "c"])

    preview = pets.what_if(remove=[0, 1, 2])

    assert (len(preview), preview.flipped.tolist(), preview.rows.tolist()) == (0, [], [])
    assert pets.what_if([[1, 0]], remove=[0, 1, 2]).after.tolist() == [None]
