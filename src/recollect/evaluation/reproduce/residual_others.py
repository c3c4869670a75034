"""Next tokens, a shift of domain, and the theory's linear problem."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.datasets import check_there, read_images
from recollect.evaluation.linear_toy import toy_risks
from recollect.evaluation.reproduce.residual_measures import Lines, compared, setting
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
from recollect.heads.residual_memory.tuning import ResidualTuning
from recollect.types import Floats, Ids

Say = Callable[[str], object]

REMEMBERED, CHOSEN_ON, FORETOLD = 200_000, 2000, 10_000
TEXT_EPOCHS = 3
SHIFTED = (100, 1000, 10_000, 50_000)
# Networks, and how many training rows each is asked about.
SHIFT_NETWORKS = {"cifar10_resnet20": 50_000, "cifar10_resnet56": 50_000}
# Pictures a network is asked about before what it said is kept.
PIECE = 5000
# Where rows are compared: maps of the network, and whether they are whitened.
SHIFT_PLACES = {
    "pooled": (("pooled",), False),
    "pooled, whitened": (("pooled",), True),
    "stage 3, 2 x 2": (("s4",), False),
    "stages 2 and 3": (("s2", "pooled"), False),
    "stages 2 and 3, whitened": (("s2", "pooled"), True),
}
TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
STRENGTHS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0)


# -- next tokens -----------------------------------------------------------------------------------


def language(data: Path, bases: Path, end: float, lines: Lines) -> dict[str, Any]:
    """Base, ResMem and kNN-LM on the words of the Brown corpus; {} if nothing was measured."""
    recipe = TextRecipe(epochs=TEXT_EPOCHS)

    @cache
    def tokens() -> dict[str, Ids]:
        """Read once, and only if needed; all parts use the words of the training part."""
        paths = {
            part: data / "lm_text" / f"brown.{part}.txt.gz" for part in ("train", "valid", "test")
        }
        for path in paths.values():
            check_there(path, "the texts", "RECOLLECT_DATA")
        sentences = {part: read_sentences(path) for part, path in paths.items()}
        vocabulary = make_vocabulary(sentences["train"], recipe.words)
        return {part: to_tokens(read, vocabulary) for part, read in sentences.items()}

    @cache
    def base() -> tuple[Any, int]:
        """The network and its epochs, trained once and only if a method still needs it."""
        return _language_base(tokens()["train"], recipe, bases / "brown-lstm.npz", end, lines.say)

    found = [
        each
        for name, entries in (("kNN-LM", 0), ("ResMem", 16))
        for each in lines.measured(
            f"{name}, {REMEMBERED:,} contexts", partial(_foretold, name, entries, tokens, base)
        )
    ]
    if not found:
        return {}
    facts: dict[str, Any] = found[0]
    return facts | {
        "vocabulary": recipe.words, "width": recipe.width, "planned_epochs": recipe.epochs,
        "methods": [line for each in found for line in each["methods"]],
    }  # fmt: skip


def _language_base(
    train: Ids, recipe: TextRecipe, path: Path, end: float, say: Say
) -> tuple[Any, int]:
    """The language model and the epochs it was trained for; TimeoutError if it has none."""
    network = train_language_model(
        train, recipe, path, minutes=(end - time.monotonic()) / 60,
        progress=lambda done, loss, seconds: say(
            f"language model: epoch {done}, loss {loss:.3f}, {seconds:.0f} s"
        ),
    )  # fmt: skip
    if network is not None:
        return network, recipe.epochs
    network, epochs = unfinished(recipe, path)
    if not epochs:
        raise TimeoutError
    return network, epochs


def _foretold(
    name: str,
    entries: int,
    tokens: Callable[[], dict[str, Ids]],
    base: Callable[[], tuple[Any, int]],
) -> dict[str, Any]:
    """One method, its settings chosen in two ways, beside the base."""
    from recollect.heads.residual_memory.language import TokenMemory

    network, epochs = base()

    def model(part: Ids) -> tuple[Floats, Floats]:
        """State and logits after every token, as a memory of tokens wants both."""
        states = read_contexts(network, part)
        return states, read_logits(network, states)

    texts = tokens()
    rows, asked = texts["train"][: REMEMBERED + 1], texts["test"][: FORETOLD + 1]
    memory = TokenMemory(model, entries=entries, piece=2048)
    begun = time.perf_counter()
    memory.teach(rows, source="brown.train")
    taught = time.perf_counter() - begun
    chosen_on = texts["valid"][: CHOSEN_ON + 1]
    plain, methods = _without(memory, asked), []
    for scoring in ("log_loss", "accuracy"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = memory.tune(chosen_on, scoring=scoring)
        methods.append(
            {"method": name, "chosen_by": scoring, "seconds_to_teach": round(taught, 1)}
            | _beside(plain, memory.score(asked))
            | {"setting": setting(report)}
        )
        memory.head.set_params(strength=1.0)
    return {
        "rows": len(rows) - 1, "chosen_on": CHOSEN_ON, "foretold": plain.tokens, "epochs": epochs,
        "training_tokens": len(texts["train"]), "unknown": round(float((asked == 0).mean()), 4),
        "perplexity": round(plain.perplexity, 3),
        "perplexity_chosen_on": round(_without(memory, chosen_on).perplexity, 3),
        "accuracy": round(plain.accuracy, 5), "methods": methods,
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


def shift(data: Path, models: Path, bases: Path, lines: Lines) -> list[dict[str, Any]]:
    """A network of lossless pictures on JPEG ones: rows of the new domain, or its last layer anew.

    Everything is chosen on the rows given, by leaving each of them out, or in folds.
    """
    found = []
    for name, most in SHIFT_NETWORKS.items():
        maps = cache(partial(_both_maps, data, models, bases, name, most, lines.say))
        for rows in (each for each in SHIFTED if each <= most):
            for place in SHIFT_PLACES:
                measure = partial(_shifted, name, maps, rows, place)
                found += lines.measured(f"{name}, {rows} rows, {place}", measure)
            measure = partial(_refitted, name, maps, rows)
            found += lines.measured(f"{name}, {rows} rows, last layer anew", measure)
    return found


def _shifted(name: str, maps: Callable[[], Any], rows: int, place: str) -> dict[str, Any]:
    """A memory of so many rows of the new domain."""
    train, test = maps()
    columns, whiten = SHIFT_PLACES[place]
    keys, asked = (
        np.concatenate([part[column] for column in columns], axis=1) for part in (train, test)
    )
    if whiten:
        keys, asked = _whitened(keys[:rows], keys, asked)
    begun = time.perf_counter()
    head, report = _adapted(keys[:rows], train, rows)
    answers = head.predict(None, embedding=asked, outputs=test["logits"])
    seconds = time.perf_counter() - begun
    known = train["logits"][:rows].argmax(axis=1) == train["y"][:rows]
    base = test["logits"].argmax(axis=1)
    line = {
        "network": name, "rows": rows, "method": f"ResMem, {place}",
        **compared(test["y"], base, answers),
        "base_on_rows": round(float(known.mean()), 5),
        "seconds": round(seconds, 1), "setting": setting(report),
    }  # fmt: skip
    if report.active:
        return line
    best = report.best
    head.set_params(
        k=best.k, sigma=best.sigma, temperature=best.temperature, strength=best.strength
    )
    figures = compared(test["y"], base, head.predict(None, embedding=asked, outputs=test["logits"]))
    return line | {
        "unguarded": figures["resmem"], "unguarded_gain": figures["gain"],
        "unguarded_error": figures["standard_error"],
    }  # fmt: skip


def _both_maps(
    data: Path, models: Path, bases: Path, name: str, most: int, say: Say
) -> tuple[Any, Any]:
    train = _maps(data, models, bases, name, "train", most, say)
    return train, _maps(data, models, bases, name, "test", None, say)


def _maps(
    data: Path, models: Path, bases: Path, name: str, split: str, most: int | None, say: Say
) -> Any:
    """Pooled features, logits and averaged maps of a public network; kept in a file.

    So many pictures are asked about in pieces, and a stopped run goes on; all of them at once.
    """
    path = bases / f"{name}-{split}.npz"
    kept = _kept_maps(path)
    count = len(kept["y"]) if kept else 0
    if count < (most or 1):
        read = read_images(data, "cifar10", split, label="label")
        wanted = len(read) if most is None else min(most, len(read))
        step = wanted if most is None else PIECE
        for start in range(count, wanted, step):
            part = slice(start, min(start + step, wanted))
            found = _map_pictures(models, name, read.inputs[part])
            found["y"] = read.labels[part].astype(str).astype(np.int64)
            kept = {
                key: np.concatenate([kept[key], fresh]) if kept else fresh
                for key, fresh in found.items()
            }
            bases.mkdir(parents=True, exist_ok=True)
            whole = path.with_suffix(".part.npz")
            arrays: dict[str, Any] = dict(kept)
            np.savez(whole, **arrays)
            whole.replace(path)
            say(f"{name}, {split}: asked about {part.stop:,} pictures")
    return {key: each[:most] for key, each in kept.items()}


def _kept_maps(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        return {key: kept[key] for key in kept.files}


def _map_pictures(models: Path, name: str, pictures: Any) -> dict[str, NDArray[Any]]:
    """Ask a public network about pictures."""
    import onnxruntime

    from recollect.encoders.images import decode_image

    weights = models / name / "model.onnx"
    check_there(weights, "the weights of the network", "RECOLLECT_MODELS")
    session = onnxruntime.InferenceSession(str(weights))
    mean = np.array((0.485, 0.456, 0.406), np.float32)
    scale = np.array((0.229, 0.224, 0.225), np.float32)
    found: dict[str, list[Floats]] = {"pooled": [], "logits": [], "s2": [], "s4": []}
    for start in range(0, len(pictures), 100):
        images = np.stack([decode_image(each) for each in pictures[start : start + 100]])
        given = ((images.astype(np.float32) / 255 - mean) / scale).transpose(0, 3, 1, 2)
        pooled, logits, s2, s4 = session.run(
            ["pooled", "logits", "map_s2", "map_s4"], {"image": np.ascontiguousarray(given)}
        )
        found["pooled"].append(pooled)
        found["logits"].append(logits)
        found["s2"].append(s2.mean((2, 3)))
        halves = s4.reshape(len(s4), s4.shape[1], 2, s4.shape[2] // 2, 2, s4.shape[3] // 2)
        found["s4"].append(halves.mean((3, 5)).reshape(len(s4), -1))
    return {key: np.concatenate(parts) for key, parts in found.items()}


def _whitened(rows: Floats, keys: Floats, asked: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rotate and scale so that the rows given have unit covariance, damped where they are few."""
    mean, covariance = rows.mean(axis=0), np.cov(rows.T)
    values, vectors = np.linalg.eigh(covariance + 0.1 * np.trace(covariance) / len(covariance)
                                     * np.eye(len(covariance)))  # fmt: skip
    turn = vectors / np.sqrt(values)
    return (keys - mean) @ turn, (asked - mean) @ turn


def _adapted(keys: NDArray[Any], train: Any, rows: int) -> tuple[Any, ResidualTuning]:
    """A head taught so many rows, tuned by leaving each of them out, and what it tried."""
    from recollect import ResidualMemoryClassifier

    head = ResidualMemoryClassifier(lambda x: x)
    given = {"embedding": keys, "outputs": train["logits"][:rows]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head.fit(None, train["y"][:rows], **given)
        report = head.tune(grid={"temperature": TEMPERATURES, "strength": STRENGTHS})
    return head, report


def _refitted(name: str, maps: Callable[[], Any], rows: int) -> dict[str, Any]:
    """Logistic regression on the pooled features; its strength is chosen in three folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = maps()
    plain = test["logits"].argmax(axis=1)
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


def theory(lines: Lines) -> list[dict[str, Any]]:
    """The stylized linear problem: risks of base, ResMem and 1-NN."""

    def line(width: int, longest: float, rows: int) -> dict[str, Any]:
        """Risks of one setting, rounded to six decimals."""
        risks = asdict(toy_risks(width, longest, rows))
        return {"d": width, "L": longest, **{key: round(risk, 6) for key, risk in risks.items()}}

    found = []
    for width, longest in ((2, 0.5), (3, 0.5), (5, 0.5), (5, 0.8), (10, 0.5)):
        for rows in (10, 100, 1000, 10_000):
            measure = partial(line, width, longest, rows)
            found += lines.measured(f"d = {width}, L = {longest}, {rows} rows", measure)
    return found
