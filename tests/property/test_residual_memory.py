"""What holds for every residual memory, whatever base, rows and settings."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import ResidualMemoryClassifier, ResidualMemoryRegressor

DIM = 3
CLASSES = 4
ENTRIES = st.sampled_from([None, 0, 2])
EXAMPLES = settings(max_examples=25, derandomize=True, database=None)


def draw(seed, rows):
    rng = np.random.default_rng(seed)
    keys = rng.integers(-3, 4, (rows, DIM)).astype(np.float32)
    return keys, rng.normal(size=(rows, CLASSES)) * 3, rng.integers(0, CLASSES, rows)


def head_over(keys, logits, labels, ids=None, **parameters):
    head = ResidualMemoryClassifier(lambda x: x, **parameters)
    return head.fit(None, labels, embedding=keys, outputs=logits, ids=ids)


def scores(head, keys, logits):
    return head.predict_proba(None, output="score", embedding=keys, outputs=logits)


@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9), temperature=st.floats(0.3, 8.0))
def test_scores_sum_to_one_and_the_simplex_is_valid(seed, k, temperature):
    """Fact (a): residuals sum to 0, so what is added moves probability and makes none."""
    keys, logits, labels = draw(seed, 12)
    head = head_over(keys, logits, labels, k=k, temperature=temperature)
    asked, answers, _ = draw(seed + 1, 5)

    raw = scores(head, asked, answers)
    valid = head.predict_proba(None, embedding=asked, outputs=answers)

    np.testing.assert_allclose(raw.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(valid.sum(axis=1), 1.0, atol=1e-12)
    assert (valid >= 0).all()
    assert np.array_equal(valid.argmax(axis=1), raw.argmax(axis=1))


@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1), temperature=st.floats(0.3, 8.0))
def test_one_neighbor_or_a_tiny_sigma_memorizes_every_row(seed, temperature):
    """Fact (b), for distinct keys: the score of a training row is its label."""
    keys, logits, labels = draw(seed, 12)
    keys, first = np.unique(keys, axis=0, return_index=True)
    logits, labels = logits[first], labels[first]
    truth = np.eye(CLASSES)[labels]

    nearest = head_over(keys, logits, labels, k=1, temperature=temperature)
    narrow = head_over(keys, logits, labels, k=5, sigma=1e-6, temperature=temperature)

    np.testing.assert_allclose(scores(nearest, keys, logits), truth, atol=1e-12)
    np.testing.assert_allclose(scores(narrow, keys, logits), truth, atol=1e-12)


@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1), labels=st.lists(st.integers(0, CLASSES - 1), min_size=2,
                                                       max_size=5))  # fmt: skip
def test_rows_with_one_key_give_the_average_of_their_labels(seed, labels):
    """Fact (b), for duplicates: which of them is nearest would be chance."""
    key, logits, _ = draw(seed, 1)
    count = len(labels)
    head = head_over(np.repeat(key, count, 0), np.repeat(logits, count, 0), labels,
                     k=count, sigma=1e-6)  # fmt: skip

    average = np.bincount(labels, minlength=CLASSES) / count

    np.testing.assert_allclose(scores(head, key, logits)[0], average, atol=1e-9)


@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9))
def test_a_base_that_gets_nothing_wrong_stays_as_it_is(seed, k):
    """Fact (c): zero residuals, to the last bit for numbers."""
    keys, _, _ = draw(seed, 12)
    truth = keys.astype(np.float64).sum(axis=1)
    head = ResidualMemoryRegressor(lambda x: np.asarray(x).sum(axis=1), k=k).fit(keys, truth)
    asked, _, _ = draw(seed + 1, 5)

    assert head.predict(asked).tolist() == asked.sum(axis=1).tolist()


@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1), constant=st.integers(-50, 50))
def test_a_constant_added_to_logits_changes_nothing(seed, constant):
    """Fact (d): softmax knows differences only; whole numbers keep float32 exact."""
    keys, logits, labels = draw(seed, 12)
    logits = np.round(logits)
    plain, moved = head_over(keys, logits, labels), head_over(keys, logits + constant, labels)

    np.testing.assert_allclose(
        scores(plain, keys, logits), scores(moved, keys, logits + constant), atol=1e-12
    )


@EXAMPLES
@given(
    seed=st.integers(0, 2**32 - 1), rows=st.integers(3, 30), k=st.integers(1, 9), entries=ENTRIES
)
def test_forgetting_equals_never_having_taught(seed, rows, k, entries):
    """Every bit of every score, the kernel's width included."""
    keys, logits, labels = draw(seed, rows)
    rng = np.random.default_rng(seed)
    gone = np.sort(rng.choice(rows, rng.integers(1, rows), replace=False))
    stay = np.setdiff1d(np.arange(rows), gone)
    taught = head_over(keys, logits, labels, k=k, entries=entries)
    never = head_over(keys[stay], logits[stay], labels[stay], ids=stay, k=k, entries=entries)
    asked, answers, _ = draw(seed + 1, 5)

    scores(taught, asked, answers)
    taught.forget(gone)

    assert scores(taught, asked, answers).tobytes() == scores(never, asked, answers).tobytes()


@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9), entries=ENTRIES)
def test_a_query_has_the_same_bits_alone_and_in_a_batch(seed, k, entries):
    """What is near is summed in rank order, each query by itself."""
    keys, logits, labels = draw(seed, 25)
    head = head_over(keys, logits, labels, k=k, entries=entries)
    asked, answers, _ = draw(seed + 1, 9)

    together = scores(head, asked, answers)
    alone = [scores(head, asked[[at]], answers[[at]]) for at in range(9)]

    assert np.concatenate(alone).tobytes() == together.tobytes()


@EXAMPLES
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 9),
    entries=ENTRIES,
    strength=st.sampled_from([0.0, 0.3, 1.0]),
    gate=st.sampled_from([None, 0.6]),
)
def test_base_and_rows_add_up_to_the_score(seed, k, entries, strength, gate):
    """To the last bit, added from the nearest row on."""
    keys, logits, labels = draw(seed, 25)
    head = head_over(keys, logits, labels, k=k, entries=entries, strength=strength, gate=gate)
    asked, answers, _ = draw(seed + 1, 6)
    raw = scores(head, asked, answers)

    for query, why in enumerate(head.explain(None, embedding=asked, outputs=answers)):
        total = why.base
        for row in why.evidence:
            total += row.contribution
        assert total == why.score == raw[query].max()
        assert why.prediction == head.classes_[raw[query].argmax()]


@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9))
def test_few_logits_are_wrong_by_no_more_than_their_bound(seed, k):
    """What is left out of the rows bounds what the scores miss."""
    keys, logits, labels = draw(seed, 25)
    whole = head_over(keys, logits, labels, k=k, entries=None)
    few = head_over(keys, logits, labels, k=k, entries=2)
    asked, answers, _ = draw(seed + 1, 6)

    missed = np.abs(scores(whole, asked, answers) - scores(few, asked, answers)).max(axis=1)
    bound = few.error_bound(None, embedding=asked, outputs=answers)

    assert (missed <= bound + 1e-6).all()
    assert whole.error_bound(None, embedding=asked, outputs=answers).tolist() == [0.0] * 6
