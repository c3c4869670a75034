"""Views of real pictures in the dual-memory reproduction: what labelling by many views gains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recollect.evaluation.datasets import cache_file, encoded, mobilenet, read_images
from recollect.evaluation.named_images import NamedSet, text_vectors
from recollect.evaluation.reproduce.dual_memory_cells import Cell
from recollect.heads.dual_memory.augmentation import augmented
from recollect.readout.attention import unit
from recollect.types import Codes, Floats

COUNTS = (1, 8, 32)
"""Views of each picture, the picture itself among them; the released code takes 32."""

PICTURES = 200
CROPS = 5
"""Of each shot, asked in its place while offsets are learned."""
_BLOCK = 20  # pictures whose views are made at once


def views_of(
    data: Path, models: Path, named: NamedSet, places: Codes, *, size: int,
    cache: str | Path | None = None,
) -> Floats:  # fmt: skip
    """Encode views of test pictures, made as the paper makes them (crop, flip, AugMix).

    Args:
        data: Folder of all data sets.
        models: Folder of all models.
        named: The data set, with every class named, so that its queries are the test file's.
        places: int64 ``(pictures,)``: which of the queries.
        size: Side to which pictures are brought.
        cache: File of encodings; None means the shared one.

    Returns:
        float32 ``(pictures, views, dim)``, of length 1, the first of each the picture itself.
    """
    encoder, place = mobilenet(models, size), cache_file() if cache is None else cache
    center = text_vectors(models, named.classes, "minilm", cache=place)[2]
    files = read_images(data, named.name, "test").inputs
    blocks = []
    for start in range(0, len(places), _BLOCK):
        some = [files[row] for row in places[start : start + _BLOCK].tolist()]
        made = augmented(some, max(COUNTS) - 1, style="augmix", seed=0)
        found = encoded(encoder, made, cache=place).reshape(len(some), max(COUNTS) - 1, -1)
        own = named.queries[places[start : start + _BLOCK], None]
        blocks.append(np.concatenate([own, unit(found - center)], axis=1))
    return np.concatenate(blocks)


def crops_of(
    data: Path, models: Path, cell: Cell, *, size: int, cache: str | Path | None = None
) -> Floats:
    """Encode crops of the shots, as offsets are learned from: float32 ``(shots, crops, dim)``."""
    encoder, place = mobilenet(models, size), cache_file() if cache is None else cache
    center = text_vectors(models, cell.named.classes, "minilm", cache=place)[2]
    files, rows = read_images(data, cell.named.name, "train").inputs, cell.chosen()
    some = [files[row] for row in rows.tolist()]
    found = encoded(encoder, augmented(some, CROPS, style="crop", seed=0), cache=place)
    return unit(found.reshape(len(rows), CROPS, -1) - center)


def viewed(cell: Cell, places: Codes, views: Floats, counts: Sequence[int]) -> dict[str, Any]:
    """Accuracy of pseudo labels, of the dynamic memory, and of all members, by number of views."""
    truth = cell.named.truth[places]
    found = {}
    for count in counts:
        head = cell.head(mode="robust")
        said = head.observe(views[:, 0], views=views[:, :count])
        found[str(count)] = {
            "pseudo labels": float((said.pseudo_labels == truth).mean()),
            "dynamic": float((said.members.dynamic.argmax(axis=1) == truth).mean()),
            "fused": float((said.labels == truth).mean()),
        }
    return found
