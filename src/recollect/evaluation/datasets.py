"""The data sets that the reproductions share, read from a folder and never downloaded.

Each set lies in a folder of its own (``<data>/<name>/<split>.parquet`` or ``.csv``); where the
folder is absent, the error says which variable leads to it.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InputError, MissingExtra
from recollect.types import Floats

if TYPE_CHECKING:
    from collections.abc import Callable

    from recollect.encoders.base import Encoder

MOBILENET = Path("mobilenet_v2_imagenet", "model.onnx")
MINILM = Path("minilm_l6_text")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Inputs of a data set with what they show.

    Attributes:
        inputs: Image files as bytes, or texts.
        labels: Object array ``(n,)`` of str.
    """

    inputs: list[Any]
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, count: int | None) -> Labelled:
        """Return the first inputs, or all of them when ``count`` is None.

        Raises:
            InputError: There are fewer.
        """
        if count is None:
            return self
        if count > len(self):
            raise InputError(
                "the data set is too small",
                expected=f"at least {count} inputs",
                got=len(self),
                remedy="Ask for fewer.",
            )
        return Labelled(self.inputs[:count], self.labels[:count])


def read_images(data: Path, name: str, split: str, *, label: str = "class_name") -> Labelled:
    """Read the image files and labels of one split of a data set.

    Args:
        data: Folder of all data sets.
        name: Folder of this one, such as ``"cifar10"``.
        split: ``"train"``, ``"val"`` or ``"test"``: the name of a Parquet file.
        label: Column that holds the label.

    Raises:
        InputError: The file is not there.
        MissingExtra: pyarrow is not installed.
    """
    path = Path(data) / name / f"{split}.parquet"
    check_there(path, f"the pictures of {name}", "RECOLLECT_DATA")
    try:
        from pyarrow import parquet
    except ImportError as missing:
        raise MissingExtra(
            "reading Parquet files needs pyarrow", remedy="pip install 'recollect[arrow]'"
        ) from missing
    table = parquet.read_table(path, columns=["image", label])
    return Labelled(table["image"].to_pylist(), _names(table[label].to_pylist()))


def read_texts(data: Path, name: str, split: str, *, label: str = "label") -> Labelled:
    """Read the texts and labels of one split from ``<data>/<name>/<split>.csv``.

    Raises:
        InputError: The file is not there.
    """
    path = Path(data) / name / f"{split}.csv"
    check_there(path, f"the texts of {name}", "RECOLLECT_DATA")
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return Labelled([row["text"] for row in rows], _names([row[label] for row in rows]))


def mobilenet(models: Path, size: int = 160) -> Encoder:
    """The small public image network of the reproductions: MobileNetV2, pooled, 1,280 numbers.

    Args:
        models: Folder of all models.
        size: Side to which the shorter side of a picture is brought; a multiple of 32.

    Raises:
        InputError: The model is not there.
        MissingExtra: onnxruntime is not installed.
    """
    from recollect.encoders import OnnxEncoder

    model = Path(models) / MOBILENET
    check_there(model, "the weights of MobileNetV2", "RECOLLECT_MODELS")
    return OnnxEncoder(model, output="pooled", size=size, preprocess="mobilenet")


def minilm(models: Path) -> Encoder:
    """The small public sentence encoder of the reproductions: MiniLM-L6, 384 numbers.

    Raises:
        InputError: The model is not there.
        MissingExtra: onnxruntime or tokenizers is not installed.
    """
    from recollect.encoders import TextEncoder

    folder = Path(models) / MINILM
    check_there(folder / "model.onnx", "the weights of MiniLM", "RECOLLECT_MODELS")
    return TextEncoder(folder)


def encoded(
    encoder: Encoder,
    inputs: list[Any],
    *,
    cache: str | Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Floats:
    """Encode inputs, each only once: what was encoded before is read from a cache.

    Args:
        encoder: What turns inputs into keys.
        inputs: Images or texts.
        cache: File of the cache; None means :func:`cache_file`.
        progress: Called as ``progress(done, total)``.

    Returns:
        float32 ``(n, dim)``.
    """
    from recollect.encoders import EncodingCache, encode_all

    with EncodingCache(cache_file() if cache is None else cache) as known:
        return encode_all(encoder, inputs, cache=known, progress=progress).keys


def cache_file() -> Path:
    """File in which encodings are kept between runs; its folder is made when absent.

    ``RECOLLECT_CACHE`` names the folder; else it is ``recollect`` in the user's folder of caches.
    It may be deleted at any time.
    """
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("RECOLLECT_CACHE") or Path(user) / "recollect")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "encodings.cache"


def check_there(path: Path, what: str, variable: str) -> None:
    """Raise ``InputError`` unless the file exists; says which variable leads to it."""
    if not path.is_file():
        raise InputError(
            f"{what} are not there",
            expected=f"a file at {path}",
            got="none",
            remedy=f"Set {variable} to the folder that holds {path.parent.name}/{path.name}.",
        )


def _names(labels: list[Any]) -> NDArray[Any]:
    return np.array([str(label) for label in labels], object)
