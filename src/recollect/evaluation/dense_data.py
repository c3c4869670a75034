"""The data sets of dense prediction, as pyramids with masks; read from a folder, never downloaded.

Pyramids are computed once and kept beside the cache of encodings.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.errors import MissingExtra
from recollect.evaluation.datasets import MOBILENET, cache_file, check_there

if TYPE_CHECKING:
    from recollect.encoders.pyramids import PyramidEncoder

MAPS = ("map_s32", "map_s16", "map_s8")
CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
    "bicyclist",
)  # fmt: skip
NOT_HELD = 8  # one sample in this many is held out where there is no validation split
SCENE = 20  # consecutive frames of NYUv2 show one room: they are held out together


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples with their truth.

    Attributes:
        pyramids: Levels ``(*grid, width)`` of each, float16, coarsest first.
        truth: A mask, or values (NaN for none), of each, at full size.
        names: What each is called.
    """

    pyramids: list[list[NDArray[Any]]]
    truth: list[NDArray[Any]]
    names: list[str]

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Samples:
        """Some of them."""
        return Samples(
            [self.pyramids[row] for row in rows],
            [self.truth[row] for row in rows],
            [self.names[row] for row in rows],
        )


@dataclass(frozen=True, slots=True)
class Task:
    """One data set.

    Attributes:
        name: Short name.
        words: What it is, in a line.
        kind: ``"labels"`` or ``"numbers"``.
        labels: Names of the labels; empty for numbers.
        ignore: Value in masks that stands for no label.
        train: What is taught.
        held: Which of ``train`` are held out to choose settings, where ``validation`` is None.
        validation: To choose settings on.
        test: What is asked.
        one_left_out: The memory's settings are chosen by asking about every sample of ``train``,
            each time with all others in the memory, instead of about those held out.
    """

    name: str
    words: str
    kind: Literal["labels", "numbers"]
    labels: tuple[str, ...]
    ignore: int
    train: Samples
    held: NDArray[np.int64]
    validation: Samples | None
    test: Samples
    one_left_out: bool = False

    def to_choose(self) -> tuple[Samples, Samples]:
        """What is taught and what is asked while settings are chosen."""
        if self.validation is not None:
            return self.train, self.validation
        others = np.setdiff1d(np.arange(len(self.train)), self.held)
        return self.train.take(others), self.train.take(self.held)


def spread(count: int, most: int) -> list[int]:
    """At most so many places out of ``count``, spread evenly."""
    places: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()
    return places


def pyramids(
    encoder: PyramidEncoder, inputs: Sequence[Any], *, folder: Path | None = None
) -> list[list[NDArray[Any]]]:
    """Encode inputs to float16 pyramids, or read them from an earlier run.

    Args:
        encoder: What makes pyramids.
        inputs: Image files as bytes, or arrays.
        folder: Where they are kept; None means beside the cache of encodings.
    """
    total = hashlib.sha256(encoder.fingerprint.encode())
    for each in inputs:
        total.update(each if isinstance(each, bytes) else np.ascontiguousarray(each).tobytes())
    place = cache_file().parent if folder is None else folder
    path = place / f"pyramids-{total.hexdigest()[:32]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            levels = int(kept["levels"])
            return [[kept[f"{at}-{level}"] for level in range(levels)] for at in range(len(inputs))]
    found = [
        [level.astype(np.float16) for level in each]
        for start in range(0, len(inputs), 32)
        for each in encoder.encode_pyramids(
            [encoder.open(source) for source in inputs[start : start + 32]]
        )
    ]
    arrays = {f"{at}-{level}": each for at, one in enumerate(found) for level, each in
              enumerate(one)}  # fmt: skip
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, levels=np.array(len(found[0])), **arrays)  # type: ignore[arg-type]
    part.replace(path)
    return found


def camvid_encoder(models: Path) -> PyramidEncoder:
    """MobileNetV2 on road scenes, 480 x 352."""
    return _mobilenet_maps(models, (352, 480))


def camvid(data: Path, models: Path) -> Task:
    """CamVid road scenes: 11 labels, 480 x 360, as MobileNetV2 sees them at 480 x 352."""
    encoder = camvid_encoder(models)
    parts = [_camvid_part(data, encoder, split) for split in ("train", "val", "test")]
    return Task(
        "camvid", "CamVid (SegNet version), 11 labels, 480 x 360", "labels", CAMVID, 11,
        parts[0], np.empty(0, np.int64), parts[1], parts[2],
    )  # fmt: skip


def _camvid_part(data: Path, encoder: PyramidEncoder, split: str) -> Samples:
    images, masks = camvid_frames(data, split)
    names = _parquet(data / "camvid" / f"{split}.parquet")["name"]
    return Samples(pyramids(encoder, images), masks, names)


def camvid_frames(data: Path, split: str) -> tuple[list[bytes], list[NDArray[Any]]]:
    """Frames of CamVid as image files, and their masks."""
    rows = _parquet(data / "camvid" / f"{split}.parquet")
    return rows["image"], [_picture(each) for each in rows["label_map"]]


def nyuv2(data: Path, models: Path, kind: Literal["labels", "numbers"]) -> Task:
    """NYUv2 rooms: depth in meters, or 39 labels, as MobileNetV2 sees them at 320 x 224."""
    encoder = _mobilenet_maps(models, (224, 320))
    parts = []
    for split in ("train", "test"):
        rows = _parquet(data / "nyuv2_depth" / f"{split}.parquet")
        column = "depth" if kind == "numbers" else "label_map"
        truth: list[NDArray[Any]] = [_picture(each) for each in rows[column]]
        if kind == "numbers":
            truth = [(each / 25.5).astype(np.float32) for each in truth]
        names = [f"frame {index}" for index in rows["index"]]
        parts.append(Samples(pyramids(encoder, rows["image"]), truth, names))
    scene = np.arange(len(parts[0])) // SCENE
    held = np.flatnonzero(scene % NOT_HELD == NOT_HELD // 2)
    what = "depth" if kind == "numbers" else "39 labels"
    labels = () if kind == "numbers" else tuple(map(str, range(39)))
    return Task(
        f"nyuv2-{'depth' if kind == 'numbers' else 'labels'}", f"NYUv2, {what}, 320 x 240", kind,
        labels, 39, parts[0], held, None, parts[1],
    )  # fmt: skip


def hippocampus(data: Path) -> Task:
    """MRI volumes around the hippocampus: 3 labels a voxel, by plain statistics of 3-D windows."""
    from recollect.encoders.pyramids import LocalStatistics

    encoder = LocalStatistics(3, levels=3, stride=2, scales=3)

    def read(split: str) -> Samples:
        """Cut the one long row of voxels into volumes, each of its own shape."""
        rows = _npz(data / "hippocampus3d" / f"{split}.npz")
        bounds, shapes = rows["offsets"].tolist(), rows["shapes"].tolist()
        cut = [slice(*pair) for pair in pairwise(bounds)]
        volumes = [rows["images"][c].reshape(s) for c, s in zip(cut, shapes, strict=True)]
        masks = [rows["labels"][c].reshape(s) for c, s in zip(cut, shapes, strict=True)]
        return Samples(pyramids(encoder, volumes), masks, rows["names"].tolist())

    train = read("train")
    return Task(
        "hippocampus", "hippocampus MRI volumes, 3 labels, about 36 x 50 x 36", "labels",
        ("background", "anterior", "posterior"), 255, train, _every(len(train)), None, read("test"),
    )  # fmt: skip


def ecg(data: Path) -> Task:
    """Two-lead ECG: which wave each sample belongs to, by plain statistics of 1-D windows.

    Where a record that is taught has no wave for two seconds nobody looked for one: no heart rests
    as long. Those samples have no label then; in records that are asked they stay as delivered.
    """
    from recollect.encoders.pyramids import LocalStatistics

    encoder = LocalStatistics(1, levels=4, stride=4, scales=4)

    def read(split: str) -> Samples:
        """Cut the one long row into signals, in microvolts and of their own lengths."""
        rows = _npz(data / "qtdb_ecg" / f"{split}.npz")
        bounds, longest = rows["offsets"].tolist(), 2 * int(rows["fs"])
        cut = [slice(*pair) for pair in pairwise(bounds)]
        signals = [rows["signal_uV"][each].astype(np.float32) for each in cut]
        masks = [rows["labels"][each] for each in cut]
        if split == "train":
            masks = [unlabelled_where_long(mask, 0, longest, ignore=255) for mask in masks]
        return Samples(pyramids(encoder, signals), masks, rows["names"].tolist())

    train = read("train")
    return Task(
        "ecg", "QT database, two-lead ECG at 250 Hz, 5 labels a sample", "labels",
        ("none", "P", "QRS", "T", "U"), 255, train, _every(len(train)), None, read("test"),
        one_left_out=True,
    )  # fmt: skip


def unlabelled_where_long(
    mask: NDArray[Any], label: int, longest: int, *, ignore: int
) -> NDArray[Any]:
    """Take a label away where it runs on for more than so many samples.

    Example:
        >>> unlabelled_where_long(np.array([0, 0, 1, 0, 0, 0]), 0, 2, ignore=9).tolist()
        [0, 0, 1, 9, 9, 9]
    """
    there = np.concatenate([[False], mask == label, [False]])
    edges = np.flatnonzero(there[1:] != there[:-1])
    cleaned = mask.copy()
    for start, stop in edges.reshape(-1, 2).tolist():
        if stop - start > longest:
            cleaned[start:stop] = ignore
    return cleaned


TASKS: dict[str, Callable[[Path, Path], Task]] = {
    "camvid": camvid,
    "nyuv2-depth": lambda data, models: nyuv2(data, models, "numbers"),
    "nyuv2-labels": lambda data, models: nyuv2(data, models, "labels"),
    "hippocampus": lambda data, _: hippocampus(data),
    "ecg": lambda data, _: ecg(data),
}


def _every(count: int) -> NDArray[np.int64]:
    return np.arange(NOT_HELD // 2, count, NOT_HELD)


def _mobilenet_maps(models: Path, size: tuple[int, int]) -> PyramidEncoder:
    from recollect.encoders import MapPyramids, OnnxEncoder

    model = Path(models) / MOBILENET
    check_there(model, "the weights of MobileNetV2", "RECOLLECT_MODELS")
    network = OnnxEncoder(model, preprocess="mobilenet", size=size, resize="squash", maps=MAPS)
    return MapPyramids(network)


def _parquet(path: Path) -> dict[str, list[Any]]:
    check_there(path, f"the samples of {path.parent.name}", "RECOLLECT_DATA")
    try:
        from pyarrow import parquet
    except ImportError as missing:
        raise MissingExtra(
            "reading Parquet files needs pyarrow", remedy="pip install 'recollect[arrow]'"
        ) from missing
    rows: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    return rows


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    check_there(path, f"the samples of {path.parent.name}", "RECOLLECT_DATA")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _picture(content: bytes) -> NDArray[np.uint8]:
    from recollect.encoders.images import load_pillow

    with load_pillow().open(io.BytesIO(content)) as picture:
        return np.asarray(picture)
