"""Visual memory against outputs of the public reference notebooks.

Sizes and parameters come from the files: `pred__rank_a2` is rank voting with alpha 2, one column
for each k. Labels must match exactly, distances to 1e-6, weights to 1e-9 relative.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from places import golden

from recollect import MemoryClassifier
from recollect.readout.voting import VoteRule, vote_all_k, weigh
from recollect.types import Neighbors

NAMED = {"": "", "exp": "sharpness", "t": "temperature", "a": "alpha"}


def load(name):
    with np.load(golden("visual_memory", name)) as arrays:
        return dict(arrays)


def settings(arrays, prefix):
    """Every array of this prefix, with the vote that its name describes."""
    found = [
        (name, re.fullmatch(rf"{prefix}__([a-z]+)(?:_([a-z]+)([0-9.]+))?", name))
        for name in arrays
        if name.startswith(f"{prefix}__")
    ]
    assert found, f"no array named {prefix}__..."
    return [
        (
            name,
            {"vote": match[1], **({NAMED[match[2]]: float(match[3])} if match[2] else {})},
        )
        for name, match in found
    ]


def as_rule(vote, **parameters):
    return VoteRule(vote, **parameters)


def as_neighbors(distance):
    """Neighbors whose distances are these to the last bit, for the rules see nothing else."""
    return Neighbors(
        ids=np.tile(np.arange(distance.shape[1]), (len(distance), 1)),
        similarity=-distance.astype(np.float32),
        values=np.zeros(distance.shape, np.int64),
        weights=np.ones(distance.shape),
    )


def test_every_vote_at_every_k_through_the_classifier():
    """The whole path: rows taught, queries searched, neighbors weighed, votes counted.

    Exact duplicates may stand the other way round than in the reference, whose sums differ in the
    last bit; where that exchanges labels, the larger k of this query are not compared.
    """
    rows, expected = load("knn.npz"), load("voting.npz")
    head = MemoryClassifier().fit(rows["memory_features"], rows["memory_labels"])
    ids = head.kneighbors(rows["query_features"], int(rows["k"]), return_distance=False)
    same = rows["memory_labels"][ids] == expected["neighbor_label"]
    comparable = np.logical_and.accumulate(same, axis=1)

    for name, options in settings(expected, "pred"):
        head = MemoryClassifier(**options).fit(rows["memory_features"], rows["memory_labels"])
        predicted = head.predict_all_k(rows["query_features"], ks=range(1, ids.shape[1] + 1))
        assert np.array_equal(predicted[comparable], expected[name][comparable]), name
    assert comparable[:, 0].all()


def test_every_vote_at_every_k_from_the_reference_neighbors():
    """The rules alone, on exactly the neighbors that the reference found."""
    expected = load("voting.npz")
    near = as_neighbors(expected["neighbor_distance"])

    for name, options in settings(expected, "pred"):
        # Minus the distance is the similarity of the Euclidean metric.
        weights = weigh(near, as_rule(**options), "euclidean")
        winners = vote_all_k(expected["neighbor_label"].astype(np.int64), weights)
        assert np.array_equal(winners, expected[name]), name


def test_the_weight_of_every_neighbor():
    """Up to one factor per query, which changes neither shares nor answers."""
    expected = load("voting.npz")
    near = as_neighbors(expected["neighbor_distance"])

    for name, options in settings(expected, "weight"):
        weights = weigh(near, as_rule(**options), "euclidean")
        ours = weights / weights[:, :1]
        theirs = expected[name] / expected[name][:, :1]
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=name)


def equally_far(labels, distance, **options):
    """A classifier whose rows all lie at one distance from (1, 0), in the order of their ids."""
    cosine = 1.0 - distance
    key = [cosine, np.sqrt(1.0 - cosine**2)]
    return MemoryClassifier(**options).fit([key] * len(labels), labels)


def test_ties_between_labels_at_every_k():
    """All distances are equal, so only the order and the tie rule decide."""
    expected = load("ties.npz")
    distance = float(expected["constant_distance"])

    for name, options in settings(expected, "pred"):
        for row, length in enumerate(expected["length"].tolist()):
            head = equally_far(expected["labels"][row, :length], distance, **options)
            predicted = head.predict_all_k([[1.0, 0.0]], ks=range(1, length + 1))
            assert predicted[0].tolist() == expected[name][row, :length].tolist(), (name, row)


def test_label_zero_is_a_label_like_any_other():
    """The reference takes a winning 0 for "no winner"; what was intended is on file."""
    expected = load("class_zero_quirk.npz")

    for row, length in enumerate(expected["length"].tolist()):
        head = equally_far(expected["labels"][row, :length], 0.25, vote="plurality")
        predicted = head.predict_all_k([[1.0, 0.0]], ks=range(1, length + 1))
        assert predicted[0].tolist() == expected["pred_intended"][row, :length].tolist(), row


@pytest.fixture
def taught():
    rows = load("knn.npz")
    head = MemoryClassifier(k=int(rows["k"]))
    return head.fit(rows["memory_features"], rows["memory_labels"]), rows


def test_the_nearest_rows_and_their_distances(taught):
    """Order may differ only inside ties, so each place is compared by distance."""
    head, rows = taught

    distance, ids = head.kneighbors(rows["query_features"])

    exact = 1.0 - rows["query_features"].astype(float) @ rows["memory_features"].T.astype(float)
    np.testing.assert_allclose(distance, rows["neighbor_distance"], atol=1e-6, rtol=0)
    theirs = np.take_along_axis(exact, rows["neighbor_index"].astype(int), axis=1)
    np.testing.assert_allclose(np.take_along_axis(exact, ids, axis=1), theirs, atol=1e-6, rtol=0)
    same = ids == rows["neighbor_index"]
    assert np.array_equal(rows["memory_labels"][ids][same], rows["neighbor_label"][same])


def test_the_memory_asked_about_itself_leaves_each_row_out(taught):
    """A row is left out by its id; its duplicates stay."""
    head, rows = taught
    theirs = rows["loo_neighbor_index"].astype(int)

    ids = head.kneighbors(n_neighbors=theirs.shape[1], return_distance=False)

    keys = rows["memory_features"].astype(float)
    exact = 1.0 - keys @ keys.T
    assert not (ids == np.arange(len(ids))[:, None]).any()
    np.testing.assert_allclose(
        np.take_along_axis(exact, ids, axis=1),
        np.take_along_axis(exact, theirs, axis=1),
        atol=1e-6,
        rtol=0,
    )
    same = ids == theirs
    assert np.array_equal(rows["memory_labels"][ids][same], rows["loo_neighbor_label"][same])
