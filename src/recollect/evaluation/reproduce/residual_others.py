"""Texts and tables, next tokens, a shift of domain, and the theory's linear problem."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.datasets import check_there, encoded, minilm, read_images, read_texts
from recollect.evaluation.linear_toy import toy_risks
from recollect.evaluation.reproduce.residual_measures import compared, setting, squared
from recollect.evaluation.small_language import (
    TextRecipe,
    make_vocabulary,
    read_contexts,
    read_logits,
    read_sentences,
    to_tokens,
    train_language_model,
    unfinished,
)
from recollect.types import Floats, Ids

Say = Callable[[str], object]

SEEDS = (0, 1, 2)
REMEMBERED, CHOSEN_ON, FORETOLD = 200_000, 2000, 10_000
TEXT_EPOCHS = 3
SHIFTED = (100, 1000, 10_000, 50_000)
SHIFT_NETWORKS = ("cifar10_resnet20",)
TEMPERATURES = (0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
STRENGTHS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5)


# -- texts and tables ------------------------------------------------------------------------------


def tables(data: Path, models: Path, say: Say) -> list[dict[str, Any]]:
    """Gradient boosting and a perceptron on tables, a linear model and a perceptron on texts."""
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

    lines = []
    for name, load in (("digits", load_digits), ("breast cancer", load_breast_cancer)):
        table, truth = load(return_X_y=True)
        for seed in SEEDS:
            lines += _bases(name, *_shuffled(table, truth, seed), "classify", seed)
        say(f"{name}: done")
    table, truth = load_diabetes(return_X_y=True)
    for seed in SEEDS:
        lines += _bases("diabetes", *_shuffled(table, truth, seed), "regress", seed)
    say("diabetes: done")
    encoder = minilm(models)
    train, test = (
        read_texts(data, "banking77", split, label="category") for split in ("train", "test")
    )
    keys = encoded(encoder, train.inputs).astype(np.float64)
    asked = encoded(encoder, test.inputs).astype(np.float64)
    labels, wanted = train.labels.astype(str), test.labels.astype(str)
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(keys))
        held = order[: len(order) // 5]
        rest = order[len(order) // 5 :]
        taught, chosen = (keys[rest], labels[rest]), (keys[held], labels[held])
        lines += _bases("BANKING77", taught, chosen, (asked, wanted), "texts", seed)
        say(f"BANKING77, seed {seed}: done")
    return lines


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
            "linear": LogisticRegression(C=1.0, max_iter=50),
            "perceptron": MLPClassifier((64,), max_iter=15, random_state=seed),
        }
    elif task == "classify":
        kinds = {
            "boosting": GradientBoostingClassifier(n_estimators=30, max_depth=2, random_state=seed),
            "perceptron": MLPClassifier((16,), max_iter=60, random_state=seed),
        }
    else:
        kinds = {
            "boosting": GradientBoostingRegressor(n_estimators=50, max_depth=2, random_state=seed),
            "perceptron": MLPRegressor(
                hidden_layer_sizes=(16,), max_iter=300, learning_rate_init=0.02, random_state=seed
            ),
        }
    return {name: make_pipeline(StandardScaler(), model) for name, model in kinds.items()}


def _bases(
    name: str, train: Any, held: Any, test: Any, task: str, seed: int
) -> list[dict[str, Any]]:
    from recollect import ResidualMemoryClassifier, ResidualMemoryRegressor

    kind = ResidualMemoryRegressor if task == "regress" else ResidualMemoryClassifier
    lines = []
    for base_name, base in _models(task, seed).items():
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
                    | {**figures, "setting": setting(report)}
                )
    return lines


# -- next tokens -----------------------------------------------------------------------------------


def language(data: Path, bases: Path, end: float, say: Say) -> dict[str, Any]:
    """Base, ResMem and kNN-LM on the words of the Brown corpus; {} if the base is not ready."""
    from recollect.heads.residual_memory.language import TextScore, TokenMemory

    texts = {
        split: data / "lm_text" / f"brown.{split}.txt.gz" for split in ("train", "valid", "test")
    }
    for path in texts.values():
        check_there(path, "the texts", "RECOLLECT_DATA")
    sentences = {split: read_sentences(path) for split, path in texts.items()}
    recipe = TextRecipe(epochs=TEXT_EPOCHS)
    vocabulary = make_vocabulary(sentences["train"], recipe.words)
    tokens = {split: to_tokens(read, vocabulary) for split, read in sentences.items()}
    epochs = recipe.epochs
    network = train_language_model(
        tokens["train"], recipe, bases / "brown-lstm.npz", minutes=(end - time.monotonic()) / 60,
        progress=lambda done, loss, seconds: say(
            f"language model: epoch {done}, loss {loss:.3f}, {seconds:.0f} s"
        ),
    )  # fmt: skip
    if network is None:
        network, epochs = unfinished(recipe, bases / "brown-lstm.npz")
    if not epochs:
        return {}

    def model(part: Ids) -> tuple[Floats, Floats]:
        states = read_contexts(network, part)
        return states, read_logits(network, states)

    rows, asked = tokens["train"][:REMEMBERED], tokens["test"][:FORETOLD]
    lines, plain = [], None
    for name, entries in (("kNN-LM", 0), ("ResMem", 16)):
        memory = TokenMemory(model, entries=entries, piece=2048)
        begun = time.perf_counter()
        memory.teach(rows, source="brown.train")
        taught = time.perf_counter() - begun
        say(f"{name}: {len(memory)} contexts in {taught:.0f} s")
        if plain is None:
            plain = _without(memory, asked)
        for scoring in ("log_loss", "accuracy"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = memory.tune(tokens["valid"][:CHOSEN_ON], scoring=scoring)
            score = memory.score(asked)
            lines.append(
                {"method": name, "chosen_by": scoring, "seconds_to_teach": round(taught, 1)}
                | _beside(plain, score)
                | {"setting": setting(report)}
            )
            say(f"{name} by {scoring}: perplexity {score.perplexity:.2f}, "
                f"accuracy {score.accuracy:.4f}")  # fmt: skip
            memory.head.set_params(strength=1.0)
    assert isinstance(plain, TextScore)
    return {
        "rows": len(rows) - 1, "chosen_on": CHOSEN_ON - 1, "foretold": plain.tokens,
        "vocabulary": recipe.words, "width": recipe.width, "epochs": epochs,
        "planned_epochs": recipe.epochs,
        "training_tokens": len(tokens["train"]),
        "unknown": round(float((asked == 0).mean()), 4),
        "perplexity": round(plain.perplexity, 3), "accuracy": round(plain.accuracy, 5),
        "methods": lines,
    }  # fmt: skip


def _without(memory: Any, asked: Ids) -> Any:
    """What the base foretells alone."""
    strength = memory.head.strength
    try:
        memory.head.set_params(strength=0.0)
        return memory.score(asked)
    finally:
        memory.head.set_params(strength=strength)


def _beside(plain: Any, score: Any) -> dict[str, float]:
    """Both measures with the paired error of their gain over the base."""
    likely = score.log_likelihood - plain.log_likelihood
    right = score.right.astype(float) - plain.right
    count = len(likely) ** 0.5
    return {
        "perplexity": round(score.perplexity, 3),
        "nats_gained": round(float(likely.mean()), 5),
        "nats_error": round(float(likely.std() / count), 5),
        "accuracy": round(score.accuracy, 5),
        "gain": round(float(right.mean()), 5),
        "standard_error": round(float(right.std() / count), 5),
    }


# -- a shift of domain -----------------------------------------------------------------------------


def shift(data: Path, models: Path, bases: Path, say: Say) -> list[dict[str, Any]]:
    """A network of lossless pictures on JPEG ones: rows of the new domain, or its last layer anew.

    Everything is chosen on the rows given, by leaving each of them out, or in folds.
    """
    lines = []
    for name in SHIFT_NETWORKS:
        train, test = (_maps(data, models, bases, name, split, say) for split in ("train", "test"))
        truth, plain = test["y"], test["logits"].argmax(axis=1)
        places = {
            "pooled": ("pooled",),
            "pooled, whitened": ("pooled",),
            "stage 3, 2 x 2": ("s4",),
            "stages 2 and 3": ("s2", "pooled"),
        }
        for rows in (each for each in SHIFTED if each <= len(train["y"])):
            for place, columns in places.items():
                keys, asked = (
                    np.concatenate([part[column] for column in columns], axis=1)
                    for part in (train, test)
                )
                if "whitened" in place:
                    keys, asked = _whitened(keys[:rows], keys, asked)
                begun = time.perf_counter()
                answers, chosen = _adapted(keys[:rows], train, rows, asked, test["logits"])
                seconds = time.perf_counter() - begun
                lines.append(
                    {"network": name, "rows": rows, "method": f"ResMem, {place}"}
                    | {**compared(truth, plain, answers), "seconds": round(seconds, 1)}
                    | {"setting": chosen}
                )
                say(f"{rows} rows, {place}: {lines[-1]['resmem']:.4f}")
            lines.append(_refitted(name, train, test, rows, plain))
            say(f"{rows} rows, last layer anew: {lines[-1]['resmem']:.4f}")
    return lines


def _maps(data: Path, models: Path, bases: Path, name: str, split: str, say: Say) -> Any:
    """Pooled features, logits and averaged maps of a public network; kept in a file."""
    path = bases / f"{name}-{split}.npz"
    if not path.is_file():
        import onnxruntime

        from recollect.encoders.images import decode_image

        weights = models / name / "model.onnx"
        check_there(weights, "the weights of the network", "RECOLLECT_MODELS")
        session = onnxruntime.InferenceSession(str(weights))
        read = read_images(data, "cifar10", split, label="label")
        mean = np.array((0.485, 0.456, 0.406), np.float32)
        scale = np.array((0.229, 0.224, 0.225), np.float32)
        found: dict[str, list[Floats]] = {"pooled": [], "logits": [], "s2": [], "s4": []}
        for start in range(0, len(read), 100):
            images = np.stack([decode_image(each) for each in read.inputs[start : start + 100]])
            given = ((images.astype(np.float32) / 255 - mean) / scale).transpose(0, 3, 1, 2)
            pooled, logits, s2, s4 = session.run(
                ["pooled", "logits", "map_s2", "map_s4"], {"image": np.ascontiguousarray(given)}
            )
            found["pooled"].append(pooled)
            found["logits"].append(logits)
            found["s2"].append(s2.mean((2, 3)))
            halves = s4.reshape(len(s4), s4.shape[1], 2, s4.shape[2] // 2, 2, s4.shape[3] // 2)
            found["s4"].append(halves.mean((3, 5)).reshape(len(s4), -1))
        arrays: dict[str, Any] = {key: np.concatenate(parts) for key, parts in found.items()}
        bases.mkdir(parents=True, exist_ok=True)
        np.savez(path, y=read.labels.astype(str).astype(np.int64), **arrays)
        say(f"{name}, {split}: asked")
    with np.load(path, allow_pickle=False) as kept:
        return {key: kept[key] for key in kept.files}


def _whitened(rows: Floats, keys: Floats, asked: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rotate and scale so that the rows given have unit covariance, damped where they are few."""
    mean, covariance = rows.mean(axis=0), np.cov(rows.T)
    values, vectors = np.linalg.eigh(covariance + 0.1 * np.trace(covariance) / len(covariance)
                                     * np.eye(len(covariance)))  # fmt: skip
    turn = vectors / np.sqrt(values)
    return (keys - mean) @ turn, (asked - mean) @ turn


def _adapted(
    keys: NDArray[Any], train: Any, rows: int, asked: NDArray[Any], logits: Floats
) -> tuple[NDArray[Any], dict[str, Any]]:
    from recollect import ResidualMemoryClassifier

    head = ResidualMemoryClassifier(lambda x: x)
    given = {"embedding": keys, "outputs": train["logits"][:rows]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head.fit(None, train["y"][:rows], **given)
        report = head.tune(grid={"temperature": TEMPERATURES, "strength": STRENGTHS})
    return head.predict(None, embedding=asked, outputs=logits), setting(report)


def _refitted(name: str, train: Any, test: Any, rows: int, plain: NDArray[Any]) -> dict[str, Any]:
    """Logistic regression on the pooled features; its strength is chosen in three folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
        grid = {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]}
        fitted = GridSearchCV(pipeline, grid, cv=3).fit(train["pooled"][:rows], train["y"][:rows])
    seconds = time.perf_counter() - begun
    answers = fitted.predict(test["pooled"])
    return {
        "network": name, "rows": rows, "method": "last layer anew",
        **compared(test["y"], plain, answers), "seconds": round(seconds, 1),
        "setting": {"C": fitted.best_params_["logisticregression__C"]},
    }  # fmt: skip


# -- theory ----------------------------------------------------------------------------------------


def theory(say: Say) -> list[dict[str, Any]]:
    """The stylized linear problem: risks of base, ResMem and 1-NN."""
    lines = []
    for width, longest, sizes in (
        (2, 0.5, (10, 100, 1000, 10_000)),
        (3, 0.5, (10, 100, 1000, 10_000)),
        (5, 0.5, (10, 100, 1000, 10_000)),
        (5, 0.8, (10, 100, 1000, 10_000)),
        (10, 0.5, (10, 100, 1000, 10_000)),
    ):
        for rows in sizes:
            risks = {
                key: round(value, 6)
                for key, value in asdict(toy_risks(width, longest, rows)).items()
            }
            lines.append({"d": width, "L": longest, **risks})
        say(f"d = {width}, L = {longest}: done")
    return lines
