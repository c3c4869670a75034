"""ResMem against its reference values: everything is read from the files, for any of that form."""

from __future__ import annotations

import re

import numpy as np
import pytest
from places import golden

from recollect import ResidualMemoryClassifier, ResidualMemoryRegressor
from recollect.evaluation.linear_toy import constrained_fit
from recollect.readout.kernel import (
    add_dense,
    class_residuals,
    kernel_shares,
    project_to_simplex,
    soften,
)

EXACT = {"atol": 1e-9, "rtol": 0}
# Keys and distances of a memory are float32.
STORED = {"atol": 5e-6, "rtol": 0}


def load(name):
    with np.load(golden("resmem", name)) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def kinds():
    return load("resmem_classification.npz")


def nearest(queries, rows, k, *, itself=False):
    """Neighbors in float64: distance, then lower row; padded with -1 / inf."""
    distance = np.sqrt(((queries[:, None] - rows[None]) ** 2).sum(axis=2))
    if itself:
        np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(distance, order, axis=1)
    missing = k - order.shape[1]
    order = np.where(np.isfinite(found), order, -1)
    return (
        np.pad(order, ((0, 0), (0, missing)), constant_values=-1),
        np.pad(found, ((0, 0), (0, missing)), constant_values=np.inf),
    )


def cases(arrays):
    return range(len(arrays["case_k"]))


def options(arrays, case):
    return (
        int(arrays["case_k"][case]),
        float(arrays["case_sigma"][case]),
        float(arrays["case_T"][case]),
    )


def test_residuals_weights_scores_and_probabilities_in_every_case(kinds):
    """The pure functions, in double precision, to 1e-9."""
    for case in cases(kinds):
        k, sigma, temperature = options(kinds, case)
        residuals = class_residuals(
            soften(kinds["train_logits"], temperature), kinds["train_labels"]
        )
        base = soften(kinds["test_logits"], temperature)
        order, distance = nearest(kinds["test_emb"], kinds["train_emb"], k)
        shares = kernel_shares(distance, sigma)
        scores = base.copy()
        add_dense(scores, shares, residuals, order)

        def expected(name, case=case):
            return kinds[f"c{case}_{name}"]

        np.testing.assert_allclose(residuals, expected("train_residual"), **EXACT)
        np.testing.assert_allclose(base, expected("base_prob"), **EXACT)
        assert np.array_equal(order, expected("nn_idx"))
        np.testing.assert_allclose(distance, expected("nn_dist"), **EXACT)
        np.testing.assert_allclose(shares, expected("nn_w"), **EXACT)
        np.testing.assert_allclose(scores - base, expected("knn_residual"), **EXACT)
        np.testing.assert_allclose(scores, expected("score"), **EXACT)
        assert np.array_equal(scores.argmax(axis=1), expected("pred"))
        np.testing.assert_allclose(project_to_simplex(scores), expected("simplex"), **EXACT)


def test_each_training_row_asked_without_itself(kinds):
    """What leave-one-out scores when it tunes."""
    for case in cases(kinds):
        k, sigma, temperature = options(kinds, case)
        base = soften(kinds["train_logits"], temperature)
        residuals = class_residuals(base, kinds["train_labels"])
        order, distance = nearest(kinds["train_emb"], kinds["train_emb"], k, itself=True)
        scores = base.copy()
        add_dense(scores, kernel_shares(distance, sigma), residuals, order)

        np.testing.assert_allclose(scores, kinds[f"c{case}_loo_score"], **EXACT)


def head_over(arrays, **parameters):
    """A head whose embedding and logits are given; rows keep all logits, however many there are."""
    head = ResidualMemoryClassifier(lambda _: arrays["train_logits"], entries=None, **parameters)
    return head.fit(
        None,
        arrays["train_labels"],
        embedding=arrays["train_emb"],
        outputs=arrays["train_logits"],
    )


def test_the_classifier_answers_as_the_reference_in_every_case(kinds):
    """The whole path through a memory, whose keys and logits are float32."""
    given = {"embedding": kinds["test_emb"], "outputs": kinds["test_logits"]}
    for case in cases(kinds):
        k, sigma, temperature = options(kinds, case)
        head = head_over(kinds, k=k, sigma=sigma, temperature=temperature)

        scores = head.predict_proba(None, output="score", **given)
        simplex = head.predict_proba(None, output="simplex", **given)

        np.testing.assert_allclose(scores, kinds[f"c{case}_score"], **STORED)
        np.testing.assert_allclose(simplex, kinds[f"c{case}_simplex"], **STORED)
        assert np.array_equal(head.predict(None, **given), kinds[f"c{case}_pred"])


def test_one_neighbor_memorizes_the_training_rows(kinds):
    """Fact (b): k = 1 on a training row gives its label, whatever the base said."""
    head = head_over(kinds, k=1, sigma=1.0, temperature=1.4)

    scores = head.predict_proba(
        None, output="score", embedding=kinds["train_emb"], outputs=kinds["train_logits"]
    )

    np.testing.assert_allclose(scores, kinds["memorised_score"], **EXACT)


def test_the_regressor_answers_as_the_reference():
    """Weights to 1e-9 from the distances; the prediction through a memory.

    One column is one number a row to the estimator, as to scikit-learn.
    """
    arrays = load("resmem_regression.npz")
    for name in ("train_target", "train_base", "test_base", "pred"):
        arrays[name] = arrays[name].reshape(len(arrays[name]), -1)
    k, sigma = int(arrays["k"]), float(arrays["sigma"])
    order, distance = nearest(arrays["test_emb"], arrays["train_emb"], k)
    exact = arrays["test_base"].copy()
    residuals = arrays["train_target"] - arrays["train_base"]
    add_dense(exact, kernel_shares(distance, sigma), residuals, order)
    shape = (-1,) if exact.shape[1] == 1 else (-1, exact.shape[1])
    head = ResidualMemoryRegressor(lambda x: x, k=k, sigma=sigma).fit(
        None,
        arrays["train_target"].reshape(shape),
        embedding=arrays["train_emb"],
        outputs=arrays["train_base"].reshape(shape),
    )

    predicted = head.predict(
        None, embedding=arrays["test_emb"], outputs=arrays["test_base"].reshape(shape)
    )

    assert np.array_equal(order, arrays["nn_idx"])
    np.testing.assert_allclose(kernel_shares(distance, sigma), arrays["nn_w"], **EXACT)
    np.testing.assert_allclose(exact, arrays["pred"], **EXACT)
    np.testing.assert_allclose(predicted.reshape(exact.shape), arrays["pred"], **STORED)


def test_the_linear_problem():
    """The norm-constrained fit to 1e-6, and the nearest residual on top of it."""
    arrays = load("resmem_linear_toy.npz")
    widths = [int(match[1]) for name in arrays if (match := re.fullmatch(r"d(\d+)_L", name))]
    assert widths
    for width in widths:
        star, longest = arrays[f"d{width}_theta_star"], float(arrays[f"d{width}_L"])
        asked = arrays[f"d{width}_test_x"]
        for n in arrays["ns"].tolist():
            rows = arrays[f"d{width}_n{n}_x"]
            theta = constrained_fit(rows, rows @ star, longest)
            order, _ = nearest(asked, rows, 1)
            predicted = asked @ theta + (rows @ (star - theta))[order[:, 0]]

            def expected(name, width=width, n=n):
                return arrays[f"d{width}_n{n}_{name}"]

            np.testing.assert_allclose(theta, expected("theta"), atol=1e-6, rtol=0)
            np.testing.assert_allclose(predicted, expected("pred"), atol=1e-6, rtol=0)
            risk = np.mean((asked @ theta - asked @ star) ** 2)
            assert abs(risk - float(expected("risk_base"))) < 1e-6
            risk = np.mean((predicted - asked @ star) ** 2)
            assert abs(risk - float(expected("risk_resmem"))) < 1e-6
