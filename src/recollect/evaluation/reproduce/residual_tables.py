"""Texts and tables: small bases of scikit-learn, a memory beside each, and neighbors alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.datasets import encoded, minilm, read_texts
from recollect.evaluation.reproduce.residual_measures import (
    Lines,
    Pair,
    compared,
    setting,
    squared,
)

SEEDS = (0, 1, 2)
# How small the bases are.
TREES = {"classify": 30, "regress": 50}
DEPTH = 2
HIDDEN = {"texts": 64, "classify": 16, "regress": 16}
STEPS = {"texts": 15, "classify": 60, "regress": 300}
LINEAR_STEPS = 50
# What neighbors alone choose among, on the rows set aside.
ALONE = (1, 3, 10, 30)


def tables(data: Path, models: Path, lines: Lines) -> list[dict[str, Any]]:
    """Gradient boosting and a perceptron on tables, a linear model and a perceptron on texts."""
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

    loads = {"digits": load_digits, "breast cancer": load_breast_cancer, "diabetes": load_diabetes}

    @cache
    def texts() -> tuple[Any, Any]:
        """Encoded once, and only if a model of texts is still to be measured."""
        encoder = minilm(models)
        read = (read_texts(data, "banking77", part, label="category") for part in ("train", "test"))
        train, test = (
            (encoded(encoder, each.inputs).astype(np.float64), each.labels.astype(str))
            for each in read
        )
        return train, test

    def split(name: str, seed: int) -> tuple[Any, Any, Any]:
        """Rows, held-out rows, questions; texts keep their test file, tables are shuffled."""
        if name in loads:
            table, truth = loads[name](return_X_y=True)
            return _shuffled(table, truth, seed)
        (keys, labels), test = texts()
        order = np.random.default_rng(seed).permutation(len(keys))
        held, rest = order[: len(order) // 5], order[len(order) // 5 :]
        return (keys[rest], labels[rest]), (keys[held], labels[held]), test

    found = []
    for name in (*loads, "BANKING77"):
        task = "texts" if name not in loads else "regress" if name == "diabetes" else "classify"
        for base, seed in product(_models(task, 0), SEEDS):
            measure = partial(_compared_base, name, base, task, seed, partial(split, name, seed))
            for pair in lines.measured(f"{name}, {base}, seed {seed}", measure):
                found += pair
    return found


def _shuffled(table: NDArray[Any], truth: NDArray[Any], seed: int) -> tuple[Any, Any, Any]:
    """60 % to train on, 20 % to choose on, 20 % to ask."""
    order = np.random.default_rng(seed).permutation(len(table))
    first, second = int(0.6 * len(table)), int(0.8 * len(table))
    parts = (order[:first], order[first:second], order[second:])
    train, held, test = ((table[part], truth[part]) for part in parts)
    return train, held, test


def _models(task: str, seed: int) -> dict[str, Any]:
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kinds: dict[str, Any]
    if task == "texts":
        kinds = {
            "linear": LogisticRegression(C=1.0, max_iter=LINEAR_STEPS),
            "perceptron": MLPClassifier((HIDDEN[task],), max_iter=STEPS[task], random_state=seed),
        }
    elif task == "classify":
        kinds = {
            "boosting": GradientBoostingClassifier(
                n_estimators=TREES[task], max_depth=DEPTH, random_state=seed
            ),
            "perceptron": MLPClassifier((HIDDEN[task],), max_iter=STEPS[task], random_state=seed),
        }
    else:
        kinds = {
            "boosting": GradientBoostingRegressor(
                n_estimators=TREES[task], max_depth=DEPTH, random_state=seed
            ),
            "perceptron": MLPRegressor(
                hidden_layer_sizes=(HIDDEN[task],),
                max_iter=STEPS[task],
                learning_rate_init=0.02,
                random_state=seed,
            ),
        }
    return {name: make_pipeline(StandardScaler(), model) for name, model in kinds.items()}


def _compared_base(
    name: str, base_name: str, task: str, seed: int, split: Callable[[], tuple[Any, Any, Any]]
) -> list[dict[str, Any]]:
    """One base, with residuals of both kinds, and neighbors alone."""
    from recollect import ResidualMemoryClassifier, ResidualMemoryRegressor

    kind = ResidualMemoryRegressor if task == "regress" else ResidualMemoryClassifier
    train, held, test = split()
    base, lines = _models(task, seed)[base_name], []
    alone = nearest_alone(train, held, test, numbers=task == "regress")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few steps suffice for a small base
        base.fit(*train)
        for residuals in ("in-sample", "oof"):
            head = kind(base, residuals=residuals).fit(*train)
            report = head.tune(*held)
            answers, plain = head.predict(test[0]), base.predict(test[0])
            figures = (squared if task == "regress" else compared)(test[1], plain, answers)
            lines.append(
                {"data": name, "base_model": base_name, "residuals": residuals, "seed": seed}
                | {**figures, **alone, "setting": setting(report)}
            )
    return lines


def nearest_alone(train: Pair, held: Pair, test: Pair, *, numbers: bool) -> dict[str, float]:
    """What scikit-learn's nearest neighbors answer without a base, on scaled inputs.

    Args:
        train: Inputs and truth of the rows.
        held: Those to choose k on: the first of the best.
        test: Those of the questions.
        numbers: Whether the truth is numbers.

    Returns:
        ``nearest``, the accuracy or the coefficient of determination, and ``nearest_k``.
    """
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind = KNeighborsRegressor if numbers else KNeighborsClassifier
    found = [
        make_pipeline(StandardScaler(), kind(k)).fit(*train) for k in ALONE if k <= len(train[0])
    ]
    scores = [model.score(*held) for model in found]
    best = int(np.argmax(scores))
    return {"nearest": round(float(found[best].score(*test)), 5), "nearest_k": ALONE[best]}
