"""A published network's own decoder beside the memory, on the labels that both know.

DeepLabv3 with MobileNetV2, trained on Pascal VOC, has no idea of roads or skies; cars, persons and
bicycles it was taught. Its answer on CamVid's test frames is scored on these.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.datasets import check_there
from recollect.evaluation.dense_data import CAMVID, camvid_frames, spread
from recollect.evaluation.dense_metrics import PixelCounts
from recollect.heads.dense_memory.masks import enlarge

MODEL, SCORES = "deeplabv3_mnv2_voc/model.onnx", "seg_logits_s16"
SIZE = (353, 481)  # 16 n + 1 on each side, as its padding wants, nearest to what the memory sees
IN_COMMON = {"car": 7, "pedestrian": 15, "bicyclist": 2}  # label of CamVid -> class of VOC
NONE = len(CAMVID)


def measure(
    data: Path, models: Path, ours: Mapping[str, Any] | None, limit: int | None
) -> dict[str, Any]:
    """Score the decoder on the test frames.

    Args:
        data: Folder of all data sets.
        models: Folder of all models.
        ours: The line of the memory on the same frames; None where it was not measured.
        limit: Frames, spread evenly; None means all.
    """
    from recollect.encoders import OnnxEncoder
    from recollect.encoders.images import decode_image

    model = models / MODEL
    check_there(model, "the weights of DeepLabv3", "RECOLLECT_MODELS")
    network = OnnxEncoder(
        model, preprocess="mobilenet", mean=128.0, scale=128.0, size=SIZE, resize="squash",
        maps=(SCORES,),
    )  # fmt: skip
    images, masks = camvid_frames(data, "test")
    rows = spread(len(images), limit or len(images))
    counts, begun = PixelCounts(range(NONE), NONE), time.perf_counter()
    for row in rows:
        scores = network.encode_maps([decode_image(images[row])])[SCORES][0]
        counts.add(masks[row], labels_of(np.moveaxis(scores, 0, -1), masks[row].shape))
    spent = time.perf_counter() - begun
    iou = dict(zip(CAMVID, counts.iou().tolist(), strict=True))
    return {
        "words": "CamVid by a published decoder (DeepLabv3, Pascal VOC)",
        "kind": "decoder",
        "asked": len(rows),
        "iou": {name: round(iou[name], 4) for name in IN_COMMON},
        "ours": None if ours is None else {
            name: ours["iou"][CAMVID.index(name)] for name in IN_COMMON
        },
        "seconds_of_asking": round(spent / len(rows), 4),
    }  # fmt: skip


def labels_of(logits: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.int64]:
    """CamVid's labels out of scores ``(rows, columns, 21)``; ``NONE`` for all other classes."""
    grid = logits.shape[:2]
    best = enlarge(logits.reshape(-1, logits.shape[-1]), grid, size).argmax(axis=-1)
    names = np.full(logits.shape[-1], NONE)
    for name, voc in IN_COMMON.items():
        names[voc] = CAMVID.index(name)
    labels: NDArray[np.int64] = names[best]
    return labels
