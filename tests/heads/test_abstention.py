"""What `abstain` promises holds on rows that were never in the memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from recollect import MemoryClassifier
from recollect.errors import InvalidParameter


def blobs(rng, rows, centers=((2.5, 0, 0), (0, 2.5, 0), (0, 0, 2.5)), spread=1.0):
    """Rows around centers, and which."""
    labels = rng.integers(0, len(centers), rows)
    return np.array(centers)[labels] + spread * rng.normal(size=(rows, 3)), labels


@pytest.fixture
def head():
    keys, labels = blobs(np.random.default_rng(0), 600)
    return MemoryClassifier(k=30).fit(keys, labels)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_at_most_this_share_of_known_questions_stays_unanswered(head, rate):
    """Coverage on 4,000 held-out rows: within three standard errors of the rate."""
    keys, _ = blobs(np.random.default_rng(1), 4000)

    unanswered = np.mean([answer is None for answer in head.predict(keys, abstain=rate)])

    assert abs(unanswered - rate) <= 3 * np.sqrt(rate * (1 - rate) * (1 / 4000 + 1 / 600))


@pytest.mark.parametrize("options", [{}, {"reliability": "rate"}, {"class_means": 0.5}])
def test_at_most_this_share_of_the_answers_is_wrong(head, options):
    """Of 4,000 held-out rows; one in fourteen would be answered wrong."""
    keys, labels = blobs(np.random.default_rng(1), 4000)
    head.set_params(**options)
    assert head.score(keys, labels) < 0.935

    answers = head.predict(keys, abstain=0.05, promise="error")

    answered = np.array([answer is not None for answer in answers])
    assert np.mean(answers[answered] != labels[answered]) <= 0.05
    assert answered.mean() > 0.3


def test_what_is_unlike_all_rows_stays_unanswered(head):
    """A class that was withheld, on the other side."""
    strangers, _ = blobs(np.random.default_rng(2), 200, centers=((-3, -3, -3),), spread=0.3)

    assert np.mean([answer is None for answer in head.predict(strangers, abstain=0.05)]) > 0.95
    assert head.novelty(strangers).min() > np.median(head.novelty(head.memory_.rows().keys))


def test_what_is_answered_is_what_would_have_been(head):
    """Abstaining takes answers away and changes none."""
    keys, _ = blobs(np.random.default_rng(1), 50)

    some, every = head.predict(keys, abstain=0.3), head.predict(keys)

    assert {(a, b) for a, b in zip(some.tolist(), every.tolist(), strict=True) if a != b} == {
        (None, label)
        for label, one in zip(every.tolist(), some.tolist(), strict=True)
        if one is None
    }


def test_a_question_is_judged_alone_as_in_a_batch(head):
    """The threshold comes from the rows, never from the other questions."""
    keys, _ = blobs(np.random.default_rng(1), 40)

    alone = [head.predict(key[None], abstain=0.3)[0] for key in keys]

    assert head.predict(keys, abstain=0.3).tolist() == alone


def test_a_memory_too_small_to_promise_answers_nothing_wrong():
    """Three rows prove no error rate; they can't make a question strange at 5 % either."""
    head = MemoryClassifier(k=1).fit([[1, 0], [0, 1], [1, 1]], ["a", "b", "a"])

    assert head.predict([[1, 0]], abstain=0.05, promise="error").tolist() == [None]
    assert head.predict([[-1, -1]], abstain=0.05).tolist() != [None]


def test_an_unknown_promise_is_refused(head):
    """With those that are known."""
    with pytest.raises(InvalidParameter, match="promise"):
        head.predict([[1, 0, 0]], abstain=0.05, promise="certainty")


def test_thresholds_follow_the_rows(head):
    """Teaching the strangers makes them known."""
    strangers, _ = blobs(np.random.default_rng(2), 200, centers=((-3, -3, -3),), spread=0.3)
    head.predict(strangers, abstain=0.05)

    head.partial_fit(strangers[:100], [7] * 100)

    assert np.mean([answer is None for answer in head.predict(strangers[100:], abstain=0.05)]) < 0.2


def test_a_copy_computes_its_own(head):
    """What is derived does not travel."""
    keys, _ = blobs(np.random.default_rng(1), 20)
    head.set_params(reliability="rate", class_means=0.3)
    expected = head.predict(keys, abstain=0.2).tolist()

    assert copy.deepcopy(head).predict(keys, abstain=0.2).tolist() == expected


@pytest.mark.parametrize("options", [{"reliability": "soft"}, {"class_means": 0.5}])
def test_a_removal_is_previewed_with_reliability_and_class_means_too(head, options):
    """As if the rows had been forgotten: what they said of others is gone as well."""
    keys, _ = blobs(np.random.default_rng(1), 60)
    head.set_params(**options)
    gone = head.ids_[::3]

    preview = head.what_if(keys, remove=gone)

    assert preview.before.tolist() == head.predict(keys).tolist()
    assert preview.after.tolist() == head.forget(gone).predict(keys).tolist()
    assert preview.score_after.tolist() == head.predict_proba(keys).max(axis=1).tolist()


def test_the_promise_holds_where_votes_tie():
    """Two votes of equal weight: the nearer row answers, and is wrong more often than "a" is.

    Before, the threshold was set as if the first label by name had answered.
    """
    rng = np.random.default_rng(1)

    def rows(count):
        return rng.normal(size=(count, 4)), np.where(rng.random(count) < 0.1, "z", "a")

    head = MemoryClassifier(k=2, vote="plurality", metric="euclidean").fit(*rows(6000))
    keys, labels = rows(4000)

    answers = head.predict(keys, abstain=0.12, promise="error")

    answered = np.array([answer is not None for answer in answers])
    assert answered.any()
    assert np.mean(answers[answered] != labels[answered]) <= 0.12
