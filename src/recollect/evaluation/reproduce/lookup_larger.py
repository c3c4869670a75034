"""Lookup on other pictures: colors as grays, and larger ones. The paper leaves the sizes open."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.datasets import read_images
from recollect.evaluation.reproduce.lookup import Digits, Lab, accuracy, figure
from recollect.heads.lookup.recipe import Recipe

# Recorded images, questions and rounds of training: short, and said so on the page.
_ROWS, _ASKED, _EPOCHS, _BATCH = 10_000, 2000, 12, 128
_CLASSES, _SIDE = 10, 64
_WEIGHTS = (3.0, 0.1, 0.3)


def larger(lab: Lab) -> list[dict[str, Any]]:
    """CIFAR-10 in gray at 32 pixels, and ten classes of Caltech-101 at 64."""
    small = replace(Recipe(), bright=1.0, batch=_BATCH, epochs=_EPOCHS)
    # Cells grow with the side, so that a glimpse still covers about half of it.
    wide = replace(small, cells=(4, 6, 9), epochs=3 * _EPOCHS, batch=32)
    return [
        _line(lab, "CIFAR-10, gray, 32 pixels", "cifar10", 32, 10, small),
        _line(lab, "Caltech-101, 10 classes, 64 pixels", "caltech101", _SIDE, _CLASSES, wide),
    ]


def _line(
    lab: Lab, words: str, name: str, side: int, classes: int, recipe: Recipe
) -> dict[str, Any]:
    digits = _read(lab, name, side, classes)
    other = Lab(digits, lab.work, lab.epochs, lab.seed)
    subject = other.subject(f"larger-{name}", recipe)
    made = other.predictor(subject, weights=_WEIGHTS, k=20, vote="distance")
    network = float((subject.asked.answers[:, -1] == digits.truth).mean())
    return {
        "name": words, "rows": len(digits.images), "questions": len(digits.truth),
        "table_rows": len(made.table), "key_bits": made.layout.key_bits,
        "network": round(network, 5), "pixels": round(_by_pixels(digits), 5),
        **figure(accuracy(made, digits.queries, digits.truth), len(digits.truth)),
    }  # fmt: skip


def _by_pixels(digits: Digits) -> float:
    """Share that the nearest image in gray values names right."""
    from sklearn.neighbors import KNeighborsClassifier

    rows, asked = (
        x.reshape(len(x), -1).astype(np.float32) for x in (digits.images, digits.queries)
    )
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(rows, digits.labels)
    return float((nearest.predict(asked) == digits.truth).mean())


def _read(lab: Lab, name: str, side: int, classes: int) -> Digits:
    assert lab.data is not None
    parts = [read_images(lab.data, name, split) for split in ("train", "test")]
    names, counts = np.unique(parts[0].labels, return_counts=True)
    # The classes with most images, so that there is something to learn from.
    chosen = names[np.argsort(-counts, kind="stable")[:classes]]
    arrays: list[NDArray[Any]] = []
    random = np.random.default_rng(lab.seed)
    for part, most in zip(parts, (_ROWS, _ASKED), strict=True):
        places = np.flatnonzero(np.isin(part.labels, chosen))
        places = random.permutation(places)[:most]
        arrays.append(_grays([part.inputs[place] for place in places], side))
        arrays.append(np.searchsorted(np.sort(chosen), part.labels[places]))
    return Digits(*arrays)


def _grays(files: list[bytes], side: int) -> NDArray[np.uint8]:
    """Shrink pictures to gray squares."""
    from PIL import Image

    pictures = (Image.open(io.BytesIO(file)).convert("L").resize((side, side)) for file in files)
    return np.stack([np.asarray(picture) for picture in pictures])
