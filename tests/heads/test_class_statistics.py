"""Class means and scatter follow the rows exactly; what is forgotten leaves no bit behind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import Memory, MemoryClassifier
from recollect.errors import InvalidParameter
from recollect.heads.class_means import SCALE, class_scores, discriminant, sum_keys
from recollect.heads.class_statistics import ClassStatistics


@pytest.fixture
def memory():
    """Two classes of two rows each."""
    memory = Memory.create(":memory:", dim=2)
    memory.add([[1, 0], [3, 4], [0, 2], [-3, 4]], ["a", "a", "b", "b"])
    return memory


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("counts", "sums", "products")
    )


def test_sums_are_of_keys_of_length_1(memory):
    """(1, 0) + (0.6, 0.8), and (0, 1) + (-0.6, 0.8)."""
    sums = ClassStatistics(memory).follow()

    assert sums.counts.tolist() == [2, 2]
    np.testing.assert_allclose(sums.sums / SCALE, [[1.6, 0.8], [-0.6, 1.8]], atol=1e-4)
    np.testing.assert_allclose(sums.products / SCALE**2, [[1.72, 0.0], [0.0, 2.28]], atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda memory: memory.remove([1]),
        lambda memory: memory.remove([2, 3]),
        lambda memory: memory.erase([1]),
        lambda memory: memory.update([1], values=["b"]),
        lambda memory: memory.update([2, 3], values=["a", "c"]),
        lambda memory: memory.add([[5, 5]], ["0 comes first"]),
        lambda memory: memory.replace([[1, 1], [2, 1]], ["x", "y"]),
        lambda memory: memory.restore(0),
    ],
)
def test_after_a_change_the_sums_are_those_of_the_rows_that_are_there(memory, change):
    """To the last bit: whole numbers are added and taken away."""
    statistics = ClassStatistics(memory)
    statistics.follow()

    change(memory)

    assert same(statistics.follow(), ClassStatistics(memory).follow())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2**16)), max_size=6))
def test_after_any_history_not_a_bit_differs_from_never_taught(history):
    """Order of teaching and what was forgotten since leave no trace, in any derived number."""
    memory = Memory.create(":memory:", dim=5)
    memory.add(np.random.default_rng(1).normal(size=(30, 5)), list("abc") * 10)
    statistics = ClassStatistics(memory)
    statistics.follow()

    for verb, seed in history:
        rng = np.random.default_rng(seed)
        some = rng.choice(memory.ids, 3, replace=False)
        if verb == 0:
            memory.add(rng.normal(size=(4, 5)), ["a", "b", "c", "d"])
        elif verb == 1 and len(memory) > 12:
            memory.remove(some)
        else:
            memory.update(some, values=["a", "b", "e"])
        statistics.follow()

    rows = memory.rows()
    fresh = Memory.create(":memory:", dim=5)
    order = np.argsort(rows.ids)[::-1]
    fresh.add(rows.keys[order], rows.values[order], ids=rows.ids[order])
    anew = ClassStatistics(fresh)
    assert same(statistics.follow(), anew.follow())
    assert np.array_equal(
        statistics.discriminant(0.3).directions, anew.discriminant(0.3).directions
    )


def test_shrunken_to_a_sphere_the_nearest_mean_wins():
    """With shrinkage 1 only the distance to the mean counts."""
    keys = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.8, 0.6]])
    by = discriminant(sum_keys(keys, np.ones(4), np.array([0, 0, 1, 1]), 2), 1.0)
    means = np.array([[0.9, 0.3], [-0.4, 0.8]])

    scores = class_scores(keys, np.ones(4), by)

    distance = ((keys[:, None] - means) ** 2).sum(axis=2)
    assert scores.argmax(axis=1).tolist() == distance.argmin(axis=1).tolist()


def test_a_direction_that_varies_within_classes_counts_less():
    """The classes differ by a little in y and vary much in x: the scatter says so, the mean not."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=200), np.repeat([0.05, -0.05], 100)
    keys = np.stack([x, y, np.full(200, 3.0)], axis=1)
    head = MemoryClassifier(class_means=1.0, shrinkage=0.001).fit(keys, np.repeat([0, 1], 100))
    sphere = MemoryClassifier(class_means=1.0, shrinkage=1.0).fit(keys, np.repeat([0, 1], 100))

    assert head.score(keys, np.repeat([0, 1], 100)) == 1.0
    assert sphere.score(keys, np.repeat([0, 1], 100)) < 0.9


def test_a_query_has_the_same_bits_alone_and_in_a_batch():
    """A matrix product would not give them."""
    rng = np.random.default_rng(0)
    keys, labels = rng.normal(size=(60, 33)), rng.integers(0, 4, 60)
    head = MemoryClassifier(class_means=0.5).fit(keys, labels)
    queries = rng.normal(size=(7, 33))

    alone = np.concatenate([head.predict_proba(query[None]) for query in queries])

    assert np.array_equal(head.predict_proba(queries), alone)


def test_the_shares_of_both_members_add_up_to_one_and_to_the_explanation():
    """Base and contributions, added from the nearest on, are the share to the last bit."""
    rng = np.random.default_rng(0)
    head = MemoryClassifier(k=5, class_means=0.4).fit(rng.normal(size=(40, 6)), ["a", "b"] * 20)
    query = rng.normal(size=(1, 6))

    [why] = head.explain(query)
    shares = dict(zip(head.classes_.tolist(), head.predict_proba(query)[0].tolist(), strict=True))

    for label, share in shares.items():
        total = why.base[label]
        for row in why.evidence:
            total += row.contribution if row.value == label else 0.0
        assert total == share == why.shares[label]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert why.prediction == head.predict(query)[0]


def test_without_a_part_for_the_means_nothing_changes():
    """The default is the vote alone, to the last bit."""
    rng = np.random.default_rng(0)
    keys, labels = rng.normal(size=(30, 4)), ["a", "b", "c"] * 10
    vote, blend = MemoryClassifier(k=5), MemoryClassifier(k=5, class_means=1e-300)

    shares = vote.fit(keys, labels).predict_proba(keys)

    np.testing.assert_allclose(shares, blend.fit(keys, labels).predict_proba(keys), atol=1e-12)


def test_equal_rows_have_no_scatter_and_still_an_answer():
    """One picture per class, taught twice."""
    head = MemoryClassifier(class_means=1.0).fit([[1, 0], [1, 0], [0, 1], [0, 1]], list("aabb"))

    assert head.predict([[1, 0.2], [0.2, 1]]).tolist() == ["a", "b"]


def test_one_row_and_one_class_answer():
    """The smallest memory."""
    assert MemoryClassifier(class_means=1.0).fit([[1, 0]], ["a"]).predict([[0, 1]]).tolist() == [
        "a"
    ]


def test_another_metric_is_refused():
    """A mean of keys of any length says nothing of a cosine."""
    head = MemoryClassifier(class_means=0.5, metric="euclidean").fit([[1, 0], [0, 1]], ["a", "b"])

    with pytest.raises(InvalidParameter, match="cosine"):
        head.predict([[1, 0]])


def test_tuning_gives_the_means_a_part_where_they_know_better():
    """Two classes as thin parallel lines: each row's neighbors are as often of the other class."""
    rng = np.random.default_rng(0)
    thin = np.repeat([0.2, -0.2], 150) + 0.05 * rng.normal(size=300)
    keys = np.column_stack([rng.normal(size=(300, 8)), thin, np.full(300, 3.0)])
    head = MemoryClassifier().fit(keys, np.repeat([0, 1], 150))

    report = head.tune(grid={"vote": ["rank"], "k": [5], "reliability": [None]}, means=True)

    assert report.means.score > report.means.without + 0.1
    assert head.class_means == report.means.class_means > 0


@pytest.mark.parametrize(("before", "after"), [(["a", "b"], [3, 4]), ([3, 4], ["a", "b"])])
def test_labels_of_another_type_are_learned_anew(before, after):
    """Before, every answer after such a lesson ended in an error of numpy's."""
    head = MemoryClassifier(memory=Memory.create(":memory:", dim=2), class_means=0.5)
    head.fit([[1, 0], [0, 1]], before).predict([[1, 0]])

    head.fit([[1, 0], [0, 1]], after)

    fresh = MemoryClassifier(class_means=0.5).fit([[1, 0], [0, 1]], after)
    assert head.predict([[1, 0.1]]).tolist() == after[:1]
    assert head.predict_proba([[1, 0.1]]).tolist() == fresh.predict_proba([[1, 0.1]]).tolist()
