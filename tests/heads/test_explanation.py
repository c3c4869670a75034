"""Explanations add up, and what they say would happen does happen."""

from __future__ import annotations

import functools
import operator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import MemoryClassifier, MemoryRegressor

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def test_an_explanation_names_the_rows_and_what_each_adds():
    """East weighs 1/2 of 13/12, the norths 1/3 and 1/4."""
    head = MemoryClassifier(k=3)
    head.fit(
        [EAST, NORTH, NORTH],
        ["east", "north", "north"],
        sources=["sun.png", None, "star.png"],
        metadata={"year": [2019, 2020, None]},
    )

    why = head.explain([[1.0, 0.9]])[0]

    assert why.prediction == "north"
    assert why.score == 4 / 13 + 3 / 13
    assert why.shares == {"north": 4 / 13 + 3 / 13, "east": 6 / 13}
    assert list(why.shares) == ["north", "east"]
    assert [row.id for row in why.evidence] == [0, 1, 2]
    assert [row.value for row in why.evidence] == ["east", "north", "north"]
    assert [row.contribution for row in why.evidence] == [6 / 13, 4 / 13, 3 / 13]
    assert [row.source for row in why.evidence] == ["sun.png", None, "star.png"]
    assert why.evidence[0].metadata == {"year": 2019}


def test_one_row_can_carry_an_answer():
    """Without it the other label has every vote."""
    head = MemoryClassifier(k=2).fit([EAST, NORTH, NORTH], ["east", "north", "north"])

    why = head.explain([[1.0, 0.5]])[0]

    assert (why.prediction, why.counterfactual, why.changed_to) == ("east", (0,), "north")
    assert why.minimal


def test_a_single_label_leaves_no_other_answer():
    """No removal that leaves a row changes anything."""
    why = MemoryClassifier(k=2).fit([EAST] * 200, [1] * 200).explain([EAST])[0]

    assert (why.counterfactual, why.changed_to, why.minimal) == ((), None, True)


def test_an_answer_deep_inside_its_class_hangs_on_many_rows():
    """The search reads on until another label comes into sight."""
    keys = [[1.0, 0.001 * row] for row in range(300)] + [NORTH]
    head = MemoryClassifier(k=1).fit(keys, [*["east"] * 300, "north"])

    why = head.explain([EAST])[0]

    assert why.counterfactual == tuple(range(300))
    assert why.changed_to == "north"


def test_the_parts_of_a_mean_add_up_to_it():
    """1/2 of 13/12 of 10, and so on."""
    head = MemoryRegressor(k=3).fit([EAST, NORTH, NORTH], [13.0, 26.0, 0.0])

    why = head.explain([[1.0, 0.9]])[0]

    assert why.prediction == why.score == 6.0 + 8.0
    assert [row.contribution for row in why.evidence] == [6.0, 8.0, 0.0]
    assert (why.shares, why.counterfactual, why.changed_to) == ({}, (), None)


KEYS = st.tuples(st.integers(-4, 4), st.integers(-4, 4)).filter(any)
VOTES = st.sampled_from(["rank", "plurality", "softmax", "distance"])


@settings(deadline=None)
@given(
    st.lists(st.tuples(KEYS, st.sampled_from("abc")), min_size=1, max_size=16),
    st.lists(KEYS, min_size=1, max_size=3),
    VOTES,
    st.integers(1, 7),
)
def test_removing_the_counterfactual_really_changes_the_answer(rows, queries, vote, k):
    """Not the arithmetic's opinion: the rows are forgotten and the head is asked again."""
    keys, labels = [np.array(column) for column in zip(*rows, strict=True)]
    head = MemoryClassifier(k=k, vote=vote).fit(keys, labels)

    for query, why in zip(queries, head.explain(queries), strict=True):
        assert bool(why.counterfactual) == (len(set(labels)) > 1)
        if why.counterfactual:
            other = MemoryClassifier(k=k, vote=vote).fit(keys, labels)
            other.forget(why.counterfactual)
            assert other.predict([query]).tolist() == [why.changed_to]
            assert why.changed_to != why.prediction


@settings(deadline=None)
@given(
    st.lists(st.tuples(KEYS, st.sampled_from("abc")), min_size=1, max_size=16),
    st.lists(KEYS, min_size=1, max_size=4),
    VOTES,
    st.integers(1, 7),
)
def test_contributions_are_the_shares_to_the_last_bit(rows, queries, vote, k):
    """Added from the nearest row on; predict, predict_proba and explain tell one story."""
    keys, labels = [np.array(column) for column in zip(*rows, strict=True)]
    head = MemoryClassifier(k=k, vote=vote).fit(keys, labels)
    shares = head.predict_proba(queries)
    names = head.classes_.tolist()

    for why, label, share in zip(
        head.explain(queries), head.predict(queries), shares.tolist(), strict=True
    ):
        parts = {name: [0.0] for name in names}
        for row in why.evidence:
            parts[row.value].append(row.contribution)
        added = [functools.reduce(operator.add, parts[name]) for name in names]
        assert added == share
        assert why.prediction == label
        assert why.score == added[names.index(label)] == why.shares[label]


@settings(deadline=None)
@given(
    st.lists(st.tuples(KEYS, st.floats(-1e6, 1e6)), min_size=1, max_size=12),
    st.lists(KEYS, min_size=1, max_size=4),
    VOTES,
    st.integers(1, 7),
)
def test_contributions_are_the_mean_to_the_last_bit(rows, queries, weighting, k):
    """The same promise for numbers."""
    keys, numbers = [np.array(column) for column in zip(*rows, strict=True)]
    head = MemoryRegressor(k=k, weighting=weighting).fit(keys, numbers)

    for why, mean in zip(head.explain(queries), head.predict(queries).tolist(), strict=True):
        parts = [row.contribution for row in why.evidence]
        assert functools.reduce(operator.add, parts) == why.prediction == why.score == mean
