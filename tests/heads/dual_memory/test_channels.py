"""The static memory meets a picture only in the channels in which classes differ most."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import DualMemoryClassifier, errors
from recollect.heads.dual_memory.training import Training

# Names and shots differ in the second channel alone.
NAMES = [[1.0, 0.6, 0.0], [1.0, -0.6, 0.0]]
SHOTS, LABELS = [[1.0, 0.2, 0.0], [1.0, -0.2, 0.0]], ["crow", "owl"]


def named(**options):
    return DualMemoryClassifier(NAMES, ["crow", "owl"], **options)


def told(head):
    """Which channels the static memory meets pictures in."""
    chosen = head._current().bank.channels
    return None if chosen is None else np.flatnonzero(chosen).tolist()


def test_the_static_memory_is_read_in_the_telling_channel_alone():
    """<A, x> in the second channel; text and dynamic memory take all three."""
    x = np.array([0.6, 0.8, 0.0])
    some, every = (named(channels=count).fit(SHOTS, LABELS) for count in (1, None))
    few, all_of_them = (
        named(channels=count, scale=1.0).fit(SHOTS, LABELS).members([x]) for count in (1, None)
    )
    bank = every._current().bank
    query = bank.queries(np.array([x], np.float32))
    weights = [bank.slots_of(code, query, 5.5).static for code in (0, 1)]

    def vector(code):
        """The class's vector, by hand: slots times weights, of length 1."""
        slots = np.array([NAMES[code], SHOTS[code]])
        slots /= np.linalg.norm(slots, axis=1, keepdims=True)
        sum_ = weights[code] @ slots
        return sum_ / np.linalg.norm(sum_)

    gap = 0.8 * (vector(0)[1] - vector(1)[1])
    assert told(some) == [1]
    odds = few.static[0, 0] / few.static[0, 1]
    assert np.log(odds) == pytest.approx(gap, abs=1e-5)
    assert np.array_equal(few.text, all_of_them.text)
    assert np.array_equal(few.dynamic, all_of_them.dynamic)


def test_all_channels_in_number_are_all_channels():
    """To the last bit, with learned offsets too."""
    pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(9, 3))
    for offsets in (None, Training(epochs=2, rate=1e-2)):
        three, every = (
            named(channels=count, offsets=offsets).fit(SHOTS, LABELS) for count in (3, None)
        )
        assert np.array_equal(three.predict_proba(x), every.predict_proba(x))


def test_offsets_are_learned_in_the_channels_that_are_read():
    """The loss sees the logits that the answers come from."""
    pytest.importorskip("torch")
    how = Training(epochs=3, rate=1e-2, position="output")
    one, every = (named(channels=c, offsets=how).fit(SHOTS, LABELS) for c in (1, None))

    assert not np.allclose(one.offsets_.output, every.offsets_.output)


def test_without_names_the_means_of_the_shots_choose():
    """They differ in the second channel, by both signs."""
    head = DualMemoryClassifier(channels=1).fit([*SHOTS, [1.0, 0.3, 0.1]], [*LABELS, "crow"])

    assert told(head) == [1]


def test_of_one_class_all_channels_are_taken():
    """Nothing differs from nothing."""
    head = DualMemoryClassifier([NAMES[0]], ["crow"], channels=1).fit(SHOTS[:1], ["crow"])

    assert told(head) is None
    assert head.predict_proba([[0.0, 0.0, 1.0]]).tolist() == [[1.0]]


def test_channels_follow_the_classes_and_forget_them():
    """A class that differs elsewhere moves the choice, and gives it back when it goes."""
    x = np.random.default_rng(0).normal(size=(9, 3))
    head = named(channels=1, channel_balance=0.0).fit(SHOTS, LABELS)
    before = head.predict_proba(x)

    head.add_class("jay", [0.2, 0.0, 5.0])
    assert told(head) == [2]
    head.remove_class("jay")

    assert told(head) == [1]
    assert np.array_equal(head.predict_proba(x), before)


def test_the_share_of_a_slot_is_what_it_adds_in_those_channels():
    """The contributions still add up to the score."""
    head = named(channels=1, weights=(0.0, 0.0, 1.0)).fit(SHOTS, LABELS)
    why = head.explain([[0.6, 0.8, 0.0]])[0]
    toward = {"text": 0.6 / np.sqrt(1.36), "shot": 0.2 / np.sqrt(1.04)}
    slots = head._current().bank.slots_of(
        0, head._current().bank.queries(np.array([[0.6, 0.8, 0.0]], np.float32)), 5.5
    )
    pull = dict(zip(("text", "shot"), slots.static * list(toward.values()), strict=True))

    found = {row.metadata["part"]: row.contribution for row in why.evidence}
    assert sum(found.values()) == pytest.approx(why.score)
    assert found["text"] / found["shot"] == pytest.approx(pull["text"] / pull["shot"], abs=1e-5)


@pytest.mark.parametrize("count", [4, 0, -1, 1.5, "1", True])
def test_a_number_of_channels_that_cannot_be_is_refused_before_anything_is_written(count):
    """Three are there."""
    head = named(channels=count)

    with pytest.raises(errors.InvalidParameter, match="channels"):
        head.fit(SHOTS, LABELS)
    assert not hasattr(head, "memory_") or len(head.memory_) == 0


@pytest.mark.parametrize("balance", [-0.1, 1.1, np.nan, "half"])
def test_a_balance_out_of_range_is_refused(balance):
    """It weighs two criteria against each other."""
    with pytest.raises(errors.InvalidParameter, match="channel_balance"):
        named(channels=1, channel_balance=balance).fit(SHOTS, LABELS)
