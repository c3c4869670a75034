"""Reliability and neighborhood statistics against outputs of the public reference notebooks.

Sizes, thresholds and parameters come from the names and shapes in the files.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from places import golden

from recollect import MemoryClassifier
from recollect.evaluation.neighborhoods import (
    accuracy_at_rank,
    accuracy_by_votes,
    fit_to_log_rank,
    label_entropy,
)
from recollect.evaluation.reproduce.visual_memory_scaling import fit_double_logarithm
from recollect.heads.explanation import answers_of
from recollect.memory.leave_one_out import DEEPEST
from recollect.readout.novelty import novelty_scores
from recollect.readout.reliability import Reliability, factors, factors_of, skip, tally
from recollect.readout.voting import VoteRule, vote_all_k, weigh
from recollect.types import Neighbors


def load(name):
    with np.load(golden("visual_memory", name)) as arrays:
        return dict(arrays)


@pytest.fixture
def rows():
    return load("knn.npz")


@pytest.fixture
def expected():
    return load("reliability.npz")


def named(arrays, pattern):
    """Every array whose name matches, with the match."""
    found = [(name, re.fullmatch(pattern, name)) for name in sorted(arrays)]
    found = [(name, match) for name, match in found if match]
    assert found, f"no array named like {pattern}"
    return found


def as_neighbors(ids, codes, distance=None):
    """Neighbors with these ids and labels; minus the distance is the Euclidean similarity."""
    far = np.zeros(ids.shape) if distance is None else distance
    codes = codes.astype(np.int64)
    return Neighbors(
        ids.astype(np.int64), -far.astype(np.float32), codes, np.ones(ids.shape), codes
    )


def asked(rows, k=None):
    return as_neighbors(
        rows["neighbor_index"][:, :k],
        rows["neighbor_label"][:, :k],
        rows["neighbor_distance"][:, :k],
    )


def own(rows, m):
    near = as_neighbors(rows["loo_neighbor_index"][:, :m], rows["loo_neighbor_label"][:, :m])
    return tally(near, rows["memory_labels"].astype(np.int64))


def spread(counts, values, rows):
    """One number a row, 0 for those never retrieved."""
    whole = np.zeros(len(rows["memory_labels"]))
    whole[counts.ids] = values
    return whole


def of_row(counts, values, rows):
    return factors_of(np.arange(len(rows["memory_labels"])), counts, values)


def test_how_often_each_row_was_right_and_wrong(rows, expected):
    """The counts on which hard and soft pruning rest."""
    for name, match in named(expected, r"(wrong|correct)_count_k(\d+)"):
        counts = own(rows, int(match[2]))
        values = counts.wrong if match[1] == "wrong" else counts.right
        assert np.array_equal(spread(counts, values, rows), expected[name]), name


def test_which_rows_were_more_often_wrong_than_right(rows, expected):
    """By as much as the name says, over all neighbors that the file counts."""
    most = max(int(match[1]) for _, match in named(expected, r"wrong_count_k(\d+)"))
    counts = own(rows, most)
    surplus = spread(counts, counts.wrong - counts.right, rows)
    for name, match in named(expected, r"exclude__wrong_minus_correct_ge_(\d+)"):
        assert np.array_equal(surplus >= int(match[1]), expected[name]), name


def soft(match):
    return Reliability("soft", c=float(match[1]), d=float(match[2]))


def test_the_soft_weight_of_every_row(rows, expected):
    """d / (c + wrong) over ten neighbors, and 1 for a row that was never wrong."""
    for name, match in named(expected, r"soft_weight__c([\d.]+)_d([\d.]+)"):
        counts = own(rows, soft(match).counted)
        ours = of_row(counts, factors(counts, soft(match)), rows)
        np.testing.assert_allclose(ours, expected[name], rtol=1e-9, err_msg=name)


RULES = {"rank": VoteRule("rank"), "plurality": VoteRule("plurality")}


def test_soft_votes_at_every_k(rows, expected):
    """Each neighbor's weight times its soft weight."""
    near = asked(rows)
    for name, match in named(expected, r"pred__soft_(?:rank_a2|plurality)__c([\d.]+)_d([\d.]+)"):
        counts = own(rows, soft(match).counted)
        judged = factors_of(near.ids, counts, factors(counts, soft(match)))
        rule = RULES["rank" if "rank" in name else "plurality"]
        winners = vote_all_k(near.codes, weigh(near, rule, "euclidean") * judged)
        assert np.array_equal(winners, expected[name]), name


def test_the_rows_that_hard_pruning_excludes(rows, expected):
    """As many wrongs as the threshold or more."""
    most = max(int(match[1]) for _, match in named(expected, r"wrong_count_k(\d+)"))
    for name, match in named(expected, r"exclude__wrong_ge_(\d+)"):
        counts = own(rows, most)
        trust = Reliability("hard", neighbors=min(DEEPEST, most), threshold=int(match[1]))
        ours = of_row(counts, factors(counts, trust), rows) == 0
        assert np.array_equal(ours, expected[name]), name


def test_hard_votes_at_every_k(rows, expected):
    """Excluded rows take no rank; all excluded, none is; before a survivor the nearest answers."""
    near = asked(rows)
    for name, match in named(expected, r"pred__(rank|plurality)(?:_a2)?__wrong_ge_(\d+)"):
        excluded = expected[f"exclude__wrong_ge_{match[2]}"][near.ids]
        left = skip(near, excluded)
        winners = vote_all_k(left.codes, weigh(left, RULES[match[1]], "euclidean"))
        assert np.array_equal(answers_of(near, winners), expected[name]), name


def test_when_all_are_excluded_none_is(rows, expected):
    """The reference then ignores the exclusion."""
    near = asked(rows)
    left = skip(near, np.ones(near.ids.shape, bool))

    winners = vote_all_k(left.codes, weigh(left, RULES["plurality"], "euclidean"))

    assert np.array_equal(winners, expected["pred__plurality__all_excluded"])


def test_reliability_through_the_classifier(rows, expected):
    """Rows taught, asked about each other, judged, and voted with, in one estimator.

    Exact duplicates may stand the other way round than in the reference; where that exchanges
    labels, the larger k of this query are not compared.
    """
    head = MemoryClassifier().fit(rows["memory_features"], rows["memory_labels"])
    ks = range(1, int(rows["k"]) + 1)
    ids = head.kneighbors(rows["query_features"], int(rows["k"]), return_distance=False)
    same = np.logical_and.accumulate(ids == rows["neighbor_index"], axis=1)
    most = max(int(match[1]) for _, match in named(expected, r"wrong_count_k(\d+)"))

    for name, match in named(expected, r"pred__soft_rank_a2__c([\d.]+)_d([\d.]+)"):
        head.set_params(reliability=soft(match))
        assert np.array_equal(
            head.predict_all_k(rows["query_features"], ks)[same], expected[name][same]
        ), name
    if most > DEEPEST:
        pytest.skip(f"hard pruning counted over {most} neighbors; an estimator counts {DEEPEST}")
    for name, match in named(expected, r"pred__rank_a2__wrong_ge_(\d+)"):
        head.set_params(reliability=Reliability("hard", most, int(match[1])))
        assert np.array_equal(
            head.predict_all_k(rows["query_features"], ks)[same], expected[name][same]
        ), name
    assert same.any()


def test_how_often_the_neighbor_at_each_rank_is_right(rows):
    """Appendix H: close to a line over the logarithm of the rank."""
    expected = load("statistics.npz")

    accuracy = accuracy_at_rank(rows["query_labels"], rows["neighbor_label"])

    np.testing.assert_allclose(accuracy, expected["neighbor_accuracy_at_rank"], rtol=1e-9)
    fit = (expected["log_fit_slope"], expected["log_fit_intercept"])
    np.testing.assert_allclose(fit_to_log_rank(accuracy), fit, rtol=1e-9)


def test_the_error_falls_along_a_line_over_the_double_logarithm():
    """Appendix F: log10 of the error over log10 of log10 of the rows."""
    expected = load("statistics.npz")

    fit = fit_double_logarithm(expected["scaling_memory_size"], expected["scaling_error_percent"])

    np.testing.assert_allclose(
        fit, (expected["scaling_fit_a"], expected["scaling_fit_b"]), rtol=1e-9
    )


def test_confidence_by_counts_and_by_entropy(rows):
    """Appendix M; the reference leaves out the unanimous bin."""
    expected, labels = load("statistics.npz"), rows["neighbor_label"].astype(np.int64)

    answers = vote_all_k(labels, np.ones(labels.shape))[:, -1]
    counts, accuracy = accuracy_by_votes(rows["query_labels"], answers, labels)

    assert np.array_equal(answers, expected["plurality_label"])
    assert np.array_equal((labels == answers[:, None]).sum(axis=1), expected["plurality_count"])
    split = counts < labels.shape[1]
    assert np.array_equal(counts[split], expected["plurality_count_bin"])
    np.testing.assert_allclose(accuracy[split], expected["plurality_count_accuracy"], rtol=1e-9)
    np.testing.assert_allclose(
        label_entropy(labels), expected["neighbor_label_entropy_bits"], rtol=1e-9
    )


@pytest.mark.parametrize("score", ["mean", "median"])
def test_novelty_is_how_far_the_neighbors_are(rows, score):
    """Appendix G, by the function and by the classifier; over a hundred neighbors at most."""
    expected = load("statistics.npz")[f"ood_{score}_distance"]
    head = MemoryClassifier().fit(rows["memory_features"], rows["memory_labels"])
    over = min(DEEPEST, int(rows["k"]))

    scores = novelty_scores(asked(rows, over), "euclidean", score)
    asked_of_head = head.novelty(rows["query_features"], score=score, neighbors=over)

    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(asked_of_head, expected, atol=1e-6)
