"""What a removal would change, shown before it is made."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import MemoryClassifier
from recollect.errors import InvalidParameter, UnknownIds
from recollect.heads.peers import Peers
from recollect.readout.reliability import Reliability

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


@pytest.mark.parametrize("reliability", [None, "soft", "hard", "rate"])
@pytest.mark.parametrize("class_means", [0.0, 0.5, 1.0])
def test_a_single_row_that_stays_has_nobody_to_be_answered_by(reliability, class_means):
    """Before, this ended in an error of numpy's, or in a share that is no number."""
    pets = MemoryClassifier(k=1, reliability=reliability, class_means=class_means)
    pets.fit([[1, 0], [0, 1]], ["a", "b"], ids=[5, 6])

    preview = pets.what_if(remove=[5])

    assert (preview.rows.tolist(), preview.before.tolist()) == ([6], ["a"])
    assert (preview.after.tolist(), preview.score_after.tolist()) == ([None], [0.0])


@pytest.mark.parametrize("reliability", [None, Reliability("hard", threshold=10**9)])
def test_rows_that_tie_are_told_apart_by_who_is_nearest(reliability):
    """Row 2 stands between "z" and "a", both with one vote, "z" nearer.

    Before, under a reliability that changes nothing, the first label by name won.
    """
    keys = [[1, 0], [1, 0.1], [1, 0.3], [0, 1]]
    head = MemoryClassifier(k=2, vote="plurality", reliability=reliability)
    head.fit(keys, ["a", "z", "q", "q"])

    preview = head.what_if(remove=[3])

    assert preview.before.tolist() == ["z", "a", "z"]
    assert preview.before.tolist() == preview.after.tolist()


@pytest.fixture(scope="module")
def crowd():
    """More rows than are asked about each other at ``pairs=1``, which stands for very many."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 4300)
    return rng.normal(size=(4300, 3)) + 3 * np.eye(3)[codes], np.array(["a", "b"])[codes]


def sampled(crowd, **options):
    head = MemoryClassifier(k=5, **options).fit(*crowd)
    head._rows_asked = Peers(head.memory_, pairs=1)
    assert len(head.peers_.follow()) < len(head.memory_)
    return head


def test_every_row_is_told_who_votes_on_it_where_only_a_sample_was_asked(crowd):
    """Before, this ended in an error of numpy's, or in the votes on other rows."""
    head = sampled(crowd, reliability="rate")

    near, weights, labels = head.own_votes()

    memory = head.memory_
    alone = memory.search(memory.keys(head.ids_), 5, exclude=head.ids_)
    assert near.ids.tolist() == alone.ids.tolist()
    assert labels.tolist() == crowd[1].tolist()
    assert weights.shape == (4300, 5)
    assert (weights > 0).all()


def test_every_row_is_answered_for_itself_where_only_a_sample_was_asked(crowd):
    """Without reliability a sample has nothing to say: the answers are those of a small memory."""
    head = sampled(crowd, class_means=0.3)
    whole = MemoryClassifier(k=5, class_means=0.3).fit(*crowd)

    few, all_asked = head.what_if(remove=[0]), whole.what_if(remove=[0])

    assert few.rows.tolist() == all_asked.rows.tolist()
    assert few.before.tolist() == all_asked.before.tolist()
    assert few.score_before.tolist() == all_asked.score_before.tolist()
    assert np.mean(few.before == crowd[1][1:]) > 0.95
