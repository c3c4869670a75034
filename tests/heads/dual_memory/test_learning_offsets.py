"""Offsets that are learned from other pictures than the shots."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import DualMemoryClassifier, errors
from recollect.heads.dual_memory.training import Training

pytest.importorskip("torch")

NAMES = np.eye(6)[:3]
HOW = Training(epochs=5, rate=1e-2, precision="float64")
ROLES = ("query", "key", "value", "output", "text")


def near(seed, count, spread=0.5):
    """Pictures around three names, and which."""
    random = np.random.default_rng(seed)
    codes = np.arange(count) % 3
    return NAMES[codes] + spread * random.normal(size=(count, 6)), codes


@pytest.fixture
def head():
    return DualMemoryClassifier(NAMES, mode="robust").fit(*near(0, 9))


def test_shots_that_ask_themselves_learn_nothing_but_the_text_and_crops_do():
    """A shot finds itself at cosine 1: at a scale of 100 its static logits are beyond doubt."""
    shots, codes = near(0, 9)
    own = DualMemoryClassifier(NAMES, offsets=HOW).fit(shots, codes)
    plain = DualMemoryClassifier(NAMES).fit(shots, codes)

    crops = plain.learn_offsets(*near(1, 60, spread=0.8), HOW)

    assert np.abs(own.offsets_.key).max() < 1e-6 < np.abs(own.offsets_.text).max()
    assert all(np.abs(getattr(crops, role)).max() > 1e-3 for role in ROLES)


def test_shots_given_as_the_questions_teach_what_they_teach_by_themselves(head):
    """The same pictures over the same static block: no difference but the way there."""
    shots, codes = near(0, 9)
    order = np.argsort(codes, kind="stable")

    given = head.learn_offsets(shots[order], codes[order], HOW)
    own = DualMemoryClassifier(NAMES, mode="robust", offsets=HOW).fit(shots, codes).offsets_

    for role in ROLES:
        np.testing.assert_allclose(getattr(given, role), getattr(own, role), atol=1e-9)


def test_learning_changes_nothing_until_the_offsets_are_set(head):
    """It reads rows and writes none."""
    x, codes = near(1, 30)
    version, before = head.memory_.version, head.predict_proba(x)

    learned = head.learn_offsets(x, codes, HOW)

    assert head.memory_.version == version
    assert np.array_equal(head.predict_proba(x), before)
    assert not np.array_equal(head.set_params(offsets=learned).predict_proba(x), before)


def test_offsets_are_learned_from_names_alone():
    """Crops of pictures that were never shots, asked of the names."""
    head = DualMemoryClassifier(NAMES).fit()

    learned = head.learn_offsets(*near(1, 30), HOW)

    assert learned.shape == (3, 6)


@pytest.mark.parametrize(
    ("x", "y", "training", "error"),
    [
        ([[1.0] * 6], [7], None, errors.InvalidLabel),
        ([[1.0] * 6], [0, 1], None, errors.LengthMismatch),
        ([[1.0] * 5], [0], None, errors.DimensionMismatch),
        ([[np.nan] * 6], [0], None, errors.NonFinite),
        ([[1.0] * 6], [0], Training(leave_one_out=True), errors.InvalidParameter),
        ([[1.0] * 6], [0], "fast", errors.InvalidParameter),
    ],
)
def test_what_cannot_be_learned_from_is_refused(head, x, y, training, error):
    """One error of the tree, and the head answers as before."""
    version = head.memory_.version

    with pytest.raises(error):
        head.learn_offsets(x, y, training)

    assert head.memory_.version == version
