"""Small residual networks on pictures: gains by depth and training rows, and where to compare."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.datasets import read_images
from recollect.evaluation.reproduce.residual_measures import (
    PAPER,
    Lines,
    tuned,
)
from recollect.evaluation.small_networks import Recipe, ask_network, train_network
from recollect.heads.residual_memory.layout import ENTRIES
from recollect.types import Floats

HELD = 5000
EPOCHS = 6
# Rows that keep few logits, beside rows that keep all, at the same setting.
FEW = {"entries": ENTRIES}
Job: TypeAlias = tuple[str, int, int, int]
LAYERS = (
    "stage 1, pooled", "stage 2, pooled", "stage 3, pooled", "stages 1 to 3, pooled",
    "stage 3, unit length", "logits", "pixels, 8 x 8",
)  # fmt: skip
# Data set, depth, training rows, seed: the most telling first, as time may run out.
JOBS: tuple[Job, ...] = (
    ("tiny_imagenet100_32", 8, 45_000, 0),
    ("cifar10", 8, 45_000, 0),
    ("tiny_imagenet100_32", 8, 45_000, 1),
    ("tiny_imagenet100_32", 8, 11_250, 0),
    ("tiny_imagenet100_32", 8, 22_500, 0),
    ("tiny_imagenet100_32", 14, 45_000, 0),
    ("cifar10", 8, 45_000, 1),
    ("cifar10", 14, 45_000, 0),
    ("tiny_imagenet100_32", 20, 45_000, 0),
    ("cifar10", 20, 45_000, 0),
    ("cifar10", 8, 11_250, 0),
    ("cifar10", 8, 22_500, 0),
    ("tiny_imagenet100_32", 8, 11_250, 1),
    ("cifar10", 8, 11_250, 1),
    ("tiny_imagenet100_32", 8, 22_500, 1),
    ("cifar10", 8, 22_500, 1),
    ("tiny_imagenet100_32", 14, 45_000, 1),
    ("cifar10", 14, 45_000, 1),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a trained network says of all pictures.

    Attributes:
        train: Embedding and logits of the rows it was trained on.
        held: Those of rows set aside.
        test: Those of the test file.
        labels: Labels of the three.
    """

    train: tuple[Floats, Floats]
    held: tuple[Floats, Floats]
    test: tuple[Floats, Floats]
    labels: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def pictures(data: Path, bases: Path, end: float, lines: Lines) -> list[dict[str, Any]]:
    """Base, ResMem and the paper's constants for every network that is ready."""

    def line(job: Job) -> dict[str, Any]:
        """One network and its figures; a TimeoutError leaves it out until it is trained."""
        asked = _asked(data, bases, job, end, lines.say)
        facts = dict(zip(("data", "depth", "rows", "seed"), job, strict=True))
        return facts | {"epochs": EPOCHS} | measure(asked)

    found = []
    for job in JOBS:
        found += lines.measured(_stem(job), partial(line, job))
    return sorted(found, key=lambda each: (each["data"], each["depth"], each["rows"], each["seed"]))


def measure(asked: Asked) -> dict[str, Any]:
    """Accuracy of the base, of the tuned memory, at fixed settings, and with few logits a row."""
    from recollect.heads.residual_memory.classifier import ResidualMemoryClassifier

    line = tuned(asked.train, asked.held, asked.test, asked.labels)
    chosen = line["setting"]
    few = {name: chosen[name] for name in ("k", "sigma", "temperature", "strength")}
    for name, options in (
        ("defaults", {}), ("paper", PAPER), ("all_logits", few), ("few_logits", few | FEW),
    ):  # fmt: skip
        head = ResidualMemoryClassifier(lambda x: x, **options)
        head.fit(None, asked.labels[0], embedding=asked.train[0], outputs=asked.train[1])
        fixed = head.predict(None, embedding=asked.test[0], outputs=asked.test[1])
        line[name] = round(float((fixed == asked.labels[2]).mean()), 5)
    right = asked.train[1].argmax(axis=1) == asked.labels[0]
    return line | {"base_on_training_rows": round(float(right.mean()), 5)}


def layers(data: Path, bases: Path, end: float, lines: Lines) -> list[dict[str, Any]]:
    """The same base with rows compared in other places: layers, logits, pixels, unit length."""

    @cache
    def given() -> tuple[list[dict[str, Floats]], list[NDArray[np.int64]]]:
        """Read once, and only if a layer is still to be measured."""
        network = _trained(data, bases, JOBS[0], end, lines.say)
        parts = _split(data, JOBS[0][0], JOBS[0][2])
        return [_layers(network, images) for images, _ in parts], [labels for _, labels in parts]

    def line(name: str) -> dict[str, Any]:
        """One layer as the embedding, with the same logits for all of them."""
        asked, labels = given()
        train, held, test = ((each[name], each["logits"]) for each in asked)
        facts = {"embedding": name, "width": int(train[0].shape[1])}
        return facts | tuned(train, held, test, (labels[0], labels[1], labels[2]))

    found = []
    for name in LAYERS:
        found += lines.measured(f"{_stem(JOBS[0])}, {name}", partial(line, name))
    return found


def _layers(network: Any, images: NDArray[np.uint8]) -> dict[str, Floats]:
    """Every place in which pictures can be compared, one matrix each."""
    from recollect.evaluation.checkpoints import import_torch

    torch = import_torch()
    caught: dict[str, list[Floats]] = {name: [] for name in LAYERS[:3]}
    handles = [
        stage.register_forward_hook(
            lambda _m, _i, out, kept=kept: kept.append(out.mean((2, 3)).numpy())
        )
        for stage, kept in zip(network.stages, caught.values(), strict=True)
    ]
    with torch.inference_mode():
        _, logits = ask_network(network, images)
    for handle in handles:
        handle.remove()
    found = dict(zip(LAYERS, (np.concatenate(kept) for kept in caught.values()), strict=False))
    pooled = found[LAYERS[2]]
    small = images.reshape(len(images), 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(len(images), -1)
    length = np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    others = (
        np.concatenate(list(found.values()), axis=1),
        pooled / length,
        logits,
        (small / 255.0).astype(np.float32),
    )
    return found | dict(zip(LAYERS[3:], others, strict=True))


def _stem(job: Job) -> str:
    name, depth, rows, seed = job
    return f"{name}-resnet{depth}-rows{rows}-seed{seed}"


def _asked(data: Path, bases: Path, job: Job, end: float, say: Callable[[str], object]) -> Asked:
    """What a network says, from a file where it was asked before."""
    path = bases / f"{_stem(job)}-asked.npz"
    if not path.is_file():
        network = _trained(data, bases, job, end, say)
        parts = _split(data, job[0], job[2])
        arrays: dict[str, Any] = {}
        for part, (images, truth) in zip(("train", "held", "test"), parts, strict=True):
            embedding, logits = ask_network(network, images)
            arrays |= {f"{part}_e": embedding, f"{part}_l": logits, f"{part}_y": truth}
        np.savez(path, **arrays)
    with np.load(path, allow_pickle=False) as kept:
        pairs = [(kept[f"{part}_e"], kept[f"{part}_l"]) for part in ("train", "held", "test")]
        labels = (kept["train_y"], kept["held_y"], kept["test_y"])
    return Asked(pairs[0], pairs[1], pairs[2], labels)


def _trained(data: Path, bases: Path, job: Job, end: float, say: Callable[[str], object]) -> Any:
    """The network; TimeoutError if it is not ready in time."""
    name, depth, rows, seed = job
    path = bases / f"{_stem(job)}.npz"
    minutes = (end - time.monotonic()) / 60
    images, labels = _split(data, name, rows)[0]
    network = train_network(
        images, labels, Recipe(depth, EPOCHS, seed), path, minutes=minutes,
        progress=lambda done, loss, seconds: say(
            f"{path.stem}: epoch {done}, loss {loss:.3f}, {seconds:.0f} s"
        ),
    )  # fmt: skip
    if network is None:
        raise TimeoutError
    return network


def _split(data: Path, name: str, rows: int) -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Training rows, rows set aside (the first of the training file), test rows."""
    from recollect.encoders.images import decode_image

    parts = []
    for split in ("train", "test"):
        read = read_images(data, name, split, label="label")
        images = np.stack([decode_image(each) for each in read.inputs])
        parts.append((images, read.labels.astype(str).astype(np.int64)))
    (images, labels), test = parts
    chosen = slice(HELD, HELD + rows)
    return [(images[chosen], labels[chosen]), (images[:HELD], labels[:HELD]), test]
