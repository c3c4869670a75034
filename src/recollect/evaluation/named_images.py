"""Pictures and class names in one space, made of small public models: a stand-in for CLIP.

The features of MobileNetV2 and a linear map from text vectors to them: of MiniLM, or of the real
CLIP text encoder for the class names of LVIS. The score of a picture for a class is the cosine of
the picture's centered feature and the mapped text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.datasets import (
    Labelled,
    cache_file,
    check_there,
    encoded,
    minilm,
    mobilenet,
    read_images,
)
from recollect.readout.attention import unit
from recollect.types import Floats

Text: TypeAlias = Literal["minilm", "clip"]

TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "{}")
"""The sentences that the map from MiniLM was fitted with."""

# What CIFAR-10 calls a class -> what LVIS calls it, as in the notes that come with the vectors.
_LVIS_NAMES = {"automobile": "car_(automobile)", "ship": "boat"}


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A data set whose pictures and class names lie in one space.

    Attributes:
        name: Of the data set.
        classes: Class names, sorted.
        text: float32 ``(classes, dim)``, of length 1.
        keys: float32 ``(rows, dim)``: training pictures, of length 1.
        codes: int64 ``(rows,)``: their classes.
        queries: float32 ``(queries, dim)``: test pictures.
        truth: int64 ``(queries,)``.
    """

    name: str
    classes: list[str]
    text: Floats
    keys: Floats
    codes: NDArray[np.int64]
    queries: Floats
    truth: NDArray[np.int64]


def load_named(
    data: Path,
    models: Path,
    name: str,
    *,
    text: Text = "minilm",
    rows: int | None = None,
    queries: int | None = None,
    size: int = 160,
    cache: str | Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> NamedSet:
    """Encode a data set and the names of its classes.

    Args:
        data: Folder of all data sets.
        models: Folder of all models.
        name: Such as ``"cifar10"``.
        text: ``"minilm"`` takes every class; ``"clip"`` those whose name LVIS knows.
        rows: Training pictures, from the top of the file; None means all.
        queries: Test pictures, from the top of the file; None means all.
        size: Side to which pictures are brought.
        cache: File of encodings; None means the shared one.
        progress: Called as ``progress(done, total)``.

    Raises:
        InputError: The data or a model is not there.
        MissingExtra: A library is not installed.
    """
    train = _upto(read_images(data, name, "train"), rows)
    test = _upto(read_images(data, name, "test"), queries)
    names = sorted({*train.labels.tolist(), *test.labels.tolist()})
    known, vectors, center = text_vectors(models, names, text, cache=cache)
    encoder = mobilenet(models, size)
    place = cache_file() if cache is None else cache
    pooled = encoded(encoder, [*train.inputs, *test.inputs], cache=place, progress=progress)
    x = unit(pooled - center)
    codes = _codes(known, np.concatenate([train.labels, test.labels]))
    here = codes >= 0
    first = np.arange(len(codes)) < len(train)
    return NamedSet(
        name, known, vectors, x[first & here], codes[first & here], x[~first & here],
        codes[~first & here],
    )  # fmt: skip


def text_vectors(
    models: Path, names: Sequence[str], text: Text, *, cache: str | Path | None = None
) -> tuple[list[str], Floats, Floats]:
    """Map class names into the space of the pictures.

    Returns:
        The names that are known, in the order given; their directions, float32
        ``(classes, dim)`` of length 1; and the feature that is taken from every picture first.
    """
    if text == "clip":
        return _clip(Path(models) / "clip_text_lvis", names)
    path = Path(models) / "zero_shot_text_map" / "map.npz"
    check_there(path, "the map from MiniLM", "RECOLLECT_MODELS")
    with np.load(path) as arrays:
        to_image, shift, center = (
            arrays[key].astype(np.float64) for key in ("A", "c", "image_mean")
        )
    sentences = [line.format(name.replace("_", " ")) for name in names for line in TEMPLATES]
    vectors = encoded(minilm(models), sentences, cache=cache)
    mean = unit(unit(vectors).reshape(len(names), len(TEMPLATES), -1).mean(axis=1))
    return list(names), unit(mean @ to_image + shift), center.astype(np.float32)


def _clip(folder: Path, names: Sequence[str]) -> tuple[list[str], Floats, Floats]:
    check_there(folder / "clip_text.npz", "the text vectors of CLIP", "RECOLLECT_MODELS")
    with np.load(folder / "clip_text.npz") as arrays:
        rows, to_image, shift, center = (
            arrays[key].astype(np.float64) for key in ("text", "A", "c", "image_mean")
        )
    place: dict[str, int] = {}
    entries: list[dict[str, Any]] = json.loads((folder / "classes.json").read_text("utf-8"))
    for row, entry in enumerate(entries):
        for spelling in (entry["name"], *entry["synonyms"]):
            place.setdefault(_plain(spelling), row)
    found = {name: place.get(_plain(_LVIS_NAMES.get(name, name))) for name in names}
    known = [name for name in names if found[name] is not None]
    chosen = rows[[found[name] for name in known]]
    return known, unit(chosen @ to_image + shift), center.astype(np.float32)


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").strip()


def _codes(names: list[str], labels: NDArray[Any]) -> NDArray[np.int64]:
    code = {name: number for number, name in enumerate(names)}
    return np.array([code.get(label, -1) for label in labels.tolist()], np.int64)


def _upto(labelled: Labelled, count: int | None) -> Labelled:
    return labelled.first(None if count is None else min(count, len(labelled)))
