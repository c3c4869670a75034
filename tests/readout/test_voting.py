"""The four vote rules, the tie rule, and what the shares mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recollect.errors import InvalidParameter
from recollect.readout.voting import (
    RULES,
    VoteRule,
    distances,
    label_shares,
    vote,
    vote_all_k,
    vote_shares,
    weigh,
)
from recollect.types import Neighbors


def neighbors(similarity, *, weights=None, ids=None):
    similarity = np.array(similarity, np.float32)
    found = np.isfinite(similarity)
    return Neighbors(
        ids=np.where(found, 1, -1) if ids is None else np.array(ids),
        similarity=similarity,
        values=np.zeros(similarity.shape, np.int64),
        weights=np.where(found, 1.0, 0.0) if weights is None else np.array(weights, np.float64),
    )


def test_plurality_counts_every_neighbor_once():
    """The simplest rule: near and far weigh the same."""
    near = neighbors([[0.9, 0.5, 0.1]])

    votes = weigh(near, VoteRule("plurality"), "cosine")

    assert votes.tolist() == [[1.0, 1.0, 1.0]]


def test_rank_starts_at_zero():
    """The paper writes ranks from 1, its code starts at 0: the nearest weighs 1 / alpha."""
    near = neighbors([[0.9, 0.5, 0.1]])

    votes = weigh(near, VoteRule("rank", alpha=2.0), "cosine")

    assert votes.tolist() == [[1 / 2, 1 / 3, 1 / 4]]


def test_softmax_weights_have_the_ratio_of_the_formula():
    """exp((1 - d) / tau) up to a factor that is the same for the whole query."""
    near = neighbors([[0.75, 0.5]])

    votes = weigh(near, VoteRule("softmax", temperature=0.25), "cosine")

    assert votes.tolist() == [[1.0, np.exp(-1.0)]]


def test_distance_weights_have_the_ratio_of_the_formula():
    """exp(-xi d) up to a factor that is the same for the whole query."""
    near = neighbors([[0.75, 0.5]])

    votes = weigh(near, VoteRule("distance", sharpness=4.0), "cosine")

    assert votes.tolist() == [[1.0, np.exp(-1.0)]]


def test_sharpness_zero_equals_plurality():
    """The reference says so."""
    near = neighbors([[0.75, -0.5]])

    votes = weigh(near, VoteRule("distance", sharpness=0.0), "cosine")

    assert votes.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("rule", RULES)
def test_row_weights_multiply_the_vote(rule):
    """A row taught with weight 3 counts like three rows at its place."""
    plain = weigh(neighbors([[0.8, 0.6]]), VoteRule(rule), "cosine")
    near = neighbors([[0.8, 0.6]], weights=[[1.0, 3.0]])

    votes = weigh(near, VoteRule(rule), "cosine")

    assert votes.tolist() == [[plain[0, 0], 3.0 * plain[0, 1]]]


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_place_votes_nothing_and_takes_no_rank(rule):
    """A neighbor that is not there may not push the next one down."""
    holed = neighbors([[0.8, -np.inf, 0.6, -np.inf]])
    packed = neighbors([[0.8, 0.6]])

    votes = weigh(holed, VoteRule(rule), "cosine")

    assert votes[0, [0, 2]].tolist() == weigh(packed, VoteRule(rule), "cosine")[0].tolist()
    assert votes[0, [1, 3]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("rule", RULES)
def test_a_row_of_weight_zero_votes_nothing(rule):
    """Weight 0 silences a row without removing it."""
    near = neighbors([[0.8, 0.6]], weights=[[0.0, 1.0]])

    votes = weigh(near, VoteRule(rule), "cosine")

    assert votes[0, 0] == 0.0
    assert votes[0, 1] > 0.0


@pytest.mark.parametrize("rule", RULES)
def test_the_nearest_row_votes_alone_where_all_weigh_zero(rule):
    """There are rows, so there is an answer."""
    near = neighbors([[0.8, 0.6]], weights=[[0.0, 0.0]])

    votes = weigh(near, VoteRule(rule), "cosine")

    assert votes.tolist() == [[1.0, 0.0]]


def test_a_sharp_softmax_over_the_whole_range_of_cosine_stays_finite():
    """exp(1 / 0.001) overflows; distances up to 2 must not."""
    near = neighbors([[1.0, -1.0]])

    votes = weigh(near, VoteRule("softmax", temperature=0.001), "cosine")

    assert votes.tolist() == [[1.0, 0.0]]


def test_far_rows_alone_still_vote():
    """Under the Euclidean metric all rows may be 1,000 away: exp(-1000) is 0, their ratio not."""
    near = neighbors([[-1000.0, -1000.0, -1001.0]])

    votes = weigh(near, VoteRule("distance"), "euclidean")

    assert votes.tolist() == [[1.0, 1.0, np.exp(-1.0)]]


def test_enormous_row_weights_do_not_add_up_to_infinity():
    """Shares of infinity would be NaN."""
    near = neighbors([[0.8, 0.6]], weights=[[1e308, 1e308]])

    shares = vote_shares(weigh(near, VoteRule("plurality"), "cosine"))

    assert shares.tolist() == [[0.5, 0.5]]


def test_cosine_distance_just_below_zero_is_zero():
    """Rounding may push a cosine above 1."""
    assert distances(np.array([[1.0000001]], np.float32), "cosine").tolist() == [[0.0]]


def test_the_distance_of_an_empty_place_is_infinite():
    """Also where nothing at all was found."""
    nothing = np.array([[-np.inf, -np.inf]], np.float32)

    assert distances(nothing, "cosine").tolist() == [[np.inf, np.inf]]
    assert distances(nothing, "dot").tolist() == [[np.inf, np.inf]]
    assert distances(nothing, "manhattan").tolist() == [[np.inf, np.inf]]


def test_the_label_that_first_reached_the_winning_total_wins():
    """Not the label seen first: 2 reaches two votes before 1 does."""
    codes = np.array([[1, 2, 2, 1]])

    winners = vote_all_k(codes, np.ones((1, 4)))

    assert winners.tolist() == [[1, 1, 2, 2]]


def test_an_equal_total_does_not_take_the_lead():
    """With alpha 2: 1/2 for label 1 against 1/3 + 1/6 for label 2."""
    codes = np.array([[1, 2, 3, 4, 2]])
    near = neighbors([[0.9, 0.8, 0.7, 0.6, 0.5]])

    winners = vote_all_k(codes, weigh(near, VoteRule("rank", alpha=2.0), "cosine"))

    assert winners.tolist() == [[1, 1, 1, 1, 1]]


def test_label_zero_can_win():
    """The reference takes a winning 0 for "no winner"; here it is a label like any other."""
    codes = np.array([[1, 0, 0]])

    assert vote(codes, np.ones((1, 3))).tolist() == [0]


def test_nothing_found_has_no_winner():
    """-1 stands for no answer, for one query and for many."""
    nothing = np.full((30, 2), -1)

    assert vote(nothing[:1], np.zeros((1, 2))).tolist() == [-1]
    assert vote_all_k(nothing, np.zeros((30, 2))).tolist() == nothing.tolist()


def test_shares_add_up_by_label():
    """3 of 4 parts for label 1, the rest for label 0."""
    codes = np.array([[1, 0, 1, -1]])

    shares = label_shares(codes, vote_shares(np.array([[2.0, 1.0, 1.0, 0.0]])), n_classes=3)

    assert shares.tolist() == [[0.25, 0.75, 0.0]]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"name": "majority"}, "vote rule"),
        ({"alpha": 0.05}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"sharpness": -1.0}, "sharpness"),
        ({"sharpness": "1"}, "sharpness"),
        ({"alpha": True}, "alpha"),
    ],
)
def test_an_option_out_of_range_is_refused_when_made(parameters, said):
    """A wrong option should fail where it is written, not where it is used."""
    with pytest.raises(InvalidParameter, match=said) as refused:
        VoteRule(**parameters)

    assert refused.value.remedy


SETTINGS = st.builds(
    VoteRule,
    name=st.sampled_from(RULES),
    alpha=st.floats(0.1, 20),
    temperature=st.floats(0.005, 2),
    sharpness=st.floats(0, 40),
)


@st.composite
def ballots(draw):
    queries, k, classes = (
        draw(st.integers(1, 60)),
        draw(st.integers(1, 12)),
        draw(st.integers(1, 5)),
    )
    shape = (queries, k)
    similarity = draw(arrays.arrays(np.float32, shape, elements=st.floats(-1, 1, width=32)))
    codes = draw(arrays.arrays(np.int64, shape, elements=st.integers(-1, classes - 1)))
    weights = draw(arrays.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.5, 1.0, 3.0])))
    similarity = np.where(codes < 0, -np.inf, -np.sort(-similarity, axis=1)).astype(np.float32)
    near = neighbors(similarity, weights=np.where(codes < 0, 0.0, weights), ids=codes)
    return near, codes, classes


@given(ballots(), SETTINGS)
def test_a_query_gets_the_same_bits_alone_and_in_a_batch(ballot, rule):
    """Few and many queries take different paths through the code; nobody may notice."""
    near, codes, classes = ballot
    weights = weigh(near, rule, "cosine")
    together = vote_all_k(codes, weights), label_shares(codes, vote_shares(weights), classes)

    for query in range(len(codes)):
        one = slice(query, query + 1)
        alone = weigh(
            neighbors(near.similarity[one], weights=near.weights[one], ids=codes[one]),
            rule,
            "cosine",
        )
        assert alone.tobytes() == weights[one].tobytes()
        assert vote_all_k(codes[one], alone).tolist() == together[0][one].tolist()
        shares = label_shares(codes[one], vote_shares(alone), classes)
        assert shares.tobytes() == together[1][one].tobytes()


@given(ballots(), SETTINGS)
def test_the_vote_at_k_equals_the_vote_among_the_first_k(ballot, rule):
    """Curves over k come from one search; they must tell what a search at that k would tell."""
    near, codes, _ = ballot
    winners = vote_all_k(codes, weigh(near, rule, "cosine"))

    for k in range(1, codes.shape[1] + 1):
        first = neighbors(near.similarity[:, :k], weights=near.weights[:, :k], ids=codes[:, :k])
        assert (
            vote(np.ascontiguousarray(codes[:, :k]), weigh(first, rule, "cosine")).tolist()
            == winners[:, k - 1].tolist()
        )


@given(ballots(), SETTINGS, st.permutations(range(5)))
def test_the_order_of_classes_changes_nothing(ballot, rule, order):
    """A new class may come first in the alphabet; the old answers stay."""
    near, codes, _ = ballot
    order = np.array([*order, -1])
    weights = weigh(near, rule, "cosine")
    shares = vote_shares(weights)

    assert vote(order[codes], weights).tolist() == order[vote(codes, weights)].tolist()
    renamed = label_shares(order[codes], shares, 5)[:, order[:5]]
    assert renamed.tobytes() == label_shares(codes, shares, 5).tobytes()


@given(ballots(), SETTINGS)
def test_shares_sum_to_one_where_anything_was_found(ballot, rule):
    """Contributions add up; a query without neighbors has none."""
    near, _, _ = ballot

    total = vote_shares(weigh(near, rule, "cosine")).sum(axis=1)

    assert np.allclose(total, near.found.any(axis=1).astype(float), rtol=0, atol=1e-12)
