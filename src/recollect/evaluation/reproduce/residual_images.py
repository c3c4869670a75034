"""Small residual networks on pictures: gains by depth and training rows, and where to compare."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.datasets import read_images
from recollect.evaluation.reproduce.residual_measures import (
    PAPER,
    compared,
    setting,
    tuned,
)
from recollect.evaluation.small_networks import Recipe, ask_network, train_network
from recollect.types import Floats

HELD = 5000
EPOCHS = 6
Job: TypeAlias = tuple[str, int, int, int]
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


def pictures(
    data: Path, bases: Path, end: float, say: Callable[[str], object]
) -> list[dict[str, Any]]:
    """Base, ResMem and the paper's constants for every network that is ready."""
    lines = []
    for name, depth, rows, seed in JOBS:
        asked = _asked(data, bases, (name, depth, rows, seed), end, say)
        if asked is None:
            say(f"{name} ResNet-{depth}, {rows} rows, seed {seed}: not ready")
            continue
        line = {"data": name, "depth": depth, "rows": rows, "seed": seed, "epochs": EPOCHS}
        lines.append(line | measure(asked))
        say(f"{name} ResNet-{depth}, {rows} rows, seed {seed}: {lines[-1]['base']:.4f} -> "
            f"{lines[-1]['resmem']:.4f}")  # fmt: skip
    return lines


def measure(asked: Asked) -> dict[str, Any]:
    """Accuracy of the base, of the tuned memory, and at fixed settings."""
    from recollect.heads.residual_memory.classifier import ResidualMemoryClassifier

    base = asked.test[1].argmax(axis=1)
    answers, report = tuned(asked.train, asked.held, asked.test, asked.labels)
    line = compared(asked.labels[2], base, answers) | {"setting": setting(report)}
    for name, options in (("defaults", {}), ("paper", PAPER)):
        head = ResidualMemoryClassifier(lambda x: x, **options)
        head.fit(None, asked.labels[0], embedding=asked.train[0], outputs=asked.train[1])
        fixed = head.predict(None, embedding=asked.test[0], outputs=asked.test[1])
        line[name] = round(float((fixed == asked.labels[2]).mean()), 5)
    right = asked.train[1].argmax(axis=1) == asked.labels[0]
    return line | {"base_on_training_rows": round(float(right.mean()), 5)}


def layers(
    data: Path, bases: Path, end: float, say: Callable[[str], object]
) -> list[dict[str, Any]]:
    """The same base with rows compared in other places: layers, logits, pixels, whitened."""
    job = JOBS[0]
    network = _trained(data, bases, job, end, say)
    if network is None:
        return []
    parts = _split(data, job[0], job[2])
    labels = (parts[0][1], parts[1][1], parts[2][1])
    say("asking every layer")
    given = [_layers(network, images) for images, _ in parts]
    base = given[2]["logits"].argmax(axis=1)
    lines = []
    for name in given[0]:
        keys = [each[name] for each in given]
        outputs = [each["logits"] for each in given]
        train, held, test = zip(keys, outputs, strict=True)
        answers, report = tuned(train, held, test, labels)
        lines.append(
            {
                "embedding": name,
                "width": int(keys[0].shape[1]),
                **compared(labels[2], base, answers),
                "setting": setting(report),
            }
        )
        say(f"{name}: {lines[-1]['resmem']:.4f}")
    return lines


def _layers(network: Any, images: NDArray[np.uint8]) -> dict[str, Floats]:
    """Every place in which pictures can be compared, one matrix each."""
    from recollect.evaluation.checkpoints import import_torch

    torch = import_torch()
    caught: dict[str, list[Floats]] = {f"stage {n + 1}, pooled": [] for n in range(3)}
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
    found = {name: np.concatenate(kept) for name, kept in caught.items()}
    pooled = found["stage 3, pooled"]
    small = images.reshape(len(images), 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(len(images), -1)
    return {
        **found,
        "stages 1 to 3, pooled": np.concatenate(list(found.values()), axis=1),
        "stage 3, unit length": pooled / np.linalg.norm(pooled, axis=1, keepdims=True),
        "logits": logits,
        "pixels, 8 x 8": (small / 255.0).astype(np.float32),
    }


def _asked(
    data: Path,
    bases: Path,
    job: tuple[str, int, int, int],
    end: float,
    say: Callable[[str], object],
) -> Asked | None:
    """What a network says, from a file where it was asked before."""
    name, depth, rows, seed = job
    path = bases / f"{name}-resnet{depth}-rows{rows}-seed{seed}-asked.npz"
    if not path.is_file():
        network = _trained(data, bases, job, end, say)
        if network is None:
            return None
        parts = _split(data, name, rows)
        arrays: dict[str, Any] = {}
        for part, (images, truth) in zip(("train", "held", "test"), parts, strict=True):
            embedding, logits = ask_network(network, images)
            arrays |= {f"{part}_e": embedding, f"{part}_l": logits, f"{part}_y": truth}
        np.savez(path, **arrays)
    with np.load(path, allow_pickle=False) as kept:
        pairs = [(kept[f"{part}_e"], kept[f"{part}_l"]) for part in ("train", "held", "test")]
        labels = (kept["train_y"], kept["held_y"], kept["test_y"])
    return Asked(pairs[0], pairs[1], pairs[2], labels)


def _trained(
    data: Path,
    bases: Path,
    job: tuple[str, int, int, int],
    end: float,
    say: Callable[[str], object],
) -> Any:
    name, depth, rows, seed = job
    path = bases / f"{name}-resnet{depth}-rows{rows}-seed{seed}.npz"
    minutes = (end - time.monotonic()) / 60
    if minutes <= 0 and not path.is_file():
        return None
    images, labels = _split(data, name, rows)[0]
    return train_network(
        images, labels, Recipe(depth, EPOCHS, seed), path, minutes=minutes,
        progress=lambda done, loss, seconds: say(
            f"{path.stem}: epoch {done}, loss {loss:.3f}, {seconds:.0f} s"
        ),
    )  # fmt: skip


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
