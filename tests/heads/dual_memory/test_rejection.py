"""Pictures that are better left unanswered, and how sure an answer may be."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from recollect import DualMemoryClassifier, errors
from recollect.heads.dual_memory.fusion import Members, fuse
from recollect.heads.dual_memory.tuning import best_temperature

CENTERS = np.eye(6)[:3]


def blobs(seed, rows, centers=CENTERS, spread=0.25):
    """Pictures around centers, and which."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, len(centers), rows)
    return centers[codes] + spread * random.normal(size=(rows, centers.shape[1])), codes


@pytest.fixture
def head():
    keys, codes = blobs(0, 90)
    return DualMemoryClassifier(CENTERS, mode="robust", scale=10.0).fit(keys, codes)


def unanswered(head, x, rate, promise="coverage"):
    return np.array([each is None for each in head.predict(x, abstain=rate, promise=promise)])


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_at_most_this_share_of_known_pictures_stays_unanswered(head, rate):
    """Within three standard errors, over 2,000 pictures and 90 shots."""
    x, _ = blobs(1, 2000)

    share = unanswered(head, x, rate).mean()

    assert share <= rate + 3 * np.sqrt(rate * (1 - rate) * (1 / 2000 + 1 / 90))
    assert share > rate / 4


def test_a_class_without_a_name_stays_unanswered(head):
    """It lies in another direction, and most of it is refused."""
    strangers, _ = blobs(2, 200, centers=np.eye(6)[4:5])

    assert unanswered(head, strangers, 0.1).mean() > 0.8


def test_at_most_this_share_of_the_answers_is_wrong():
    """Classes that overlap: an eighth of all answers is wrong, a tenth of those given at most."""
    keys, codes = blobs(0, 900, spread=0.5)
    head = DualMemoryClassifier(CENTERS, mode="robust", scale=10.0).fit(keys, codes)
    x, truth = blobs(1, 2000, spread=0.5)
    assert (head.predict(x) != truth).mean() > 0.11

    given = ~unanswered(head, x, 0.1, "error")

    assert given.mean() > 0.5
    assert (head.predict(x)[given] != truth[given]).mean() <= 0.1


def test_what_is_answered_is_what_would_have_been(head):
    """Abstaining takes answers away and changes none."""
    x, _ = blobs(1, 60)
    some, every = head.predict(x, abstain=0.3), head.predict(x)

    assert {None} < set(some.tolist())
    assert all(one in (None, other) for one, other in zip(some, every, strict=True))


def test_strangers_that_were_observed_do_not_make_their_like_familiar(head):
    """They are kept under some name; novelty asks names and shots alone."""
    strangers, _ = blobs(2, 200, centers=np.eye(6)[4:5])
    novelty = head.novelty(strangers)

    head.observe(strangers[:100])

    assert np.array_equal(head.novelty(strangers), novelty)
    assert unanswered(head, strangers, 0.1).mean() > 0.8


def test_without_shots_names_alone_say_how_novel_a_picture_is():
    """1 minus the cosine with the nearest name: 0.6 and 0.8 for a picture at (0.8, 0.6)."""
    head = DualMemoryClassifier(np.eye(2)).fit()
    head.observe([[0.8, 0.6]])

    assert head.novelty([[0.8, 0.6], [0.0, -1.0]]).round(6).tolist() == [0.2, 1.0]


def test_a_name_itself_is_not_less_than_not_novel():
    """A vector's cosine with itself may round to a last digit above 1."""
    names = np.random.default_rng(0).normal(size=(200, 24))
    head = DualMemoryClassifier(names).fit()

    assert head.novelty(names).min() >= 0.0
    assert head.novelty(-names).max() <= 2.0


def test_a_picture_is_refused_alone_as_in_a_batch_and_nothing_is_written(head):
    """The threshold comes from the shots, never from other questions."""
    x, _ = blobs(1, 30)
    version = head.memory_.version

    alone = [head.predict(each[None], abstain=0.3).tolist()[0] for each in x]

    assert head.predict(x, abstain=0.3).tolist() == alone
    assert head.memory_.version == version


def test_the_threshold_is_that_of_the_rows_that_are_left(head):
    """Shots and pictures that are forgotten set no threshold, and one that is taught does."""
    x, _ = blobs(1, 200)
    before = head.predict(x, abstain=0.2).tolist()
    strangers, _ = blobs(2, 40, centers=np.eye(6)[4:5])

    head.partial_fit(strangers, [2] * 40)
    between = head.predict(x, abstain=0.2).tolist()
    head.forget(head.ids_[-40:])
    seen = head.observe(strangers)
    head.forget(seen.ids)

    assert between != before
    assert head.predict(x, abstain=0.2).tolist() == before
    assert copy.deepcopy(head).predict(x, abstain=0.2).tolist() == before


def test_the_threshold_is_not_asked_for_again_while_nothing_changes(head, monkeypatch):
    """Leaving shots out builds the memory four times."""
    head.predict(blobs(1, 2)[0], abstain=0.2)
    monkeypatch.setattr("recollect.heads.dual_memory.core.leave_out", None)

    head.predict(blobs(1, 2)[0], abstain=0.1, promise="error")
    head.tune()


def test_names_alone_can_promise_nothing():
    """No shot says how novel a known picture is."""
    head = DualMemoryClassifier(CENTERS).fit()

    with pytest.raises(errors.InvalidParameter, match="no shot can be left out"):
        head.predict(CENTERS, abstain=0.1)
    assert len(head.predict(CENTERS)) == 3


@pytest.mark.parametrize("rate", [0, 1, -0.1, np.nan, "0.1", True])
def test_a_rate_out_of_range_is_refused(head, rate):
    """As by the visual memory."""
    with pytest.raises(errors.InvalidParameter, match="abstain"):
        head.predict(CENTERS, abstain=rate)


def test_an_unknown_promise_is_refused(head):
    """With those that are known."""
    with pytest.raises(errors.InvalidParameter, match="promise"):
        head.predict(CENTERS, abstain=0.1, promise="certainty")


# -- how sure an answer is ---------------------------------------------------------------------


def test_a_temperature_of_two_takes_the_root_of_the_odds():
    """0.9 and 0.1 are 9 to 1; their roots are 3 to 1."""
    members = Members(None, np.array([[0.9, 0.1]]), None)
    shares = np.array([[0.0], [1.0], [0.0]])

    for logarithms in (False, True):
        warm = fuse(members, shares, logarithms=logarithms, temperature=2.0)
        assert warm.round(12).tolist() == [[0.75, 0.25]]


def test_the_temperature_is_that_of_the_likeliest_labels():
    """Said with odds of 81 to 1, right three times out of four: 81 to the 1/4 is 3 to 1."""
    members = Members(None, np.array([[81 / 82, 1 / 82]] * 4), None)
    shares = np.repeat([[0.0], [1.0], [0.0]], 4, axis=1)

    chosen = best_temperature(members, shares, np.array([0, 0, 0, 1]), logarithms=False)

    assert chosen == 4.0


def test_calibrated_answers_are_the_same_and_as_sure_as_they_are_right():
    """The scale of 100 makes every member too sure."""
    keys, codes = blobs(0, 300, spread=0.6)
    head = DualMemoryClassifier(CENTERS, mode="robust").fit(keys, codes)
    x, truth = blobs(1, 2000, spread=0.6)
    labels, sure = head.predict(x), head.predict_proba(x).max(axis=1).mean()

    temperature = head.calibrate()

    right = (labels == truth).mean()
    assert temperature == head.temperature > 1
    assert head.predict(x).tolist() == labels.tolist()
    cooler = head.predict_proba(x).max(axis=1).mean()
    assert abs(cooler - right) < 0.05 < abs(sure - right)
    why = head.explain(x[:1])[0]
    assert sum(row.contribution for row in why.evidence) == pytest.approx(why.score)


def test_a_temperature_out_of_range_is_refused(head):
    """Nothing is divided by 0."""
    with pytest.raises(errors.InvalidParameter, match="temperature"):
        head.set_params(temperature=0.0).predict(CENTERS)


def test_labels_without_pictures_calibrate_nothing(head):
    """Both, or neither."""
    with pytest.raises(errors.InvalidParameter, match="labels alone"):
        head.calibrate(y=[0, 1])
