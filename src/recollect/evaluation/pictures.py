"""Real pictures for the demo, written as image files into one folder a class."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import MissingExtra
from recollect.evaluation.datasets import read_images

CIFAR10 = "cifar10"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Two folders of pictures, each with one subfolder a class.

    Attributes:
        name: What they show and where they come from, for people.
        teach: Folder of the pictures to teach.
        ask: Folder of the pictures to ask about; none of them is among those to teach.
    """

    name: str
    teach: Path
    ask: Path


def write_digits(folder: Path) -> Pictures:
    """Write scikit-learn's bundled handwritten digits as PNG files, 8 x 8 grey.

    The last third of the set, in its own order, is to be asked about.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    start = len(grey) * 2 // 3
    pictures = Pictures(
        "handwritten digits (bundled with scikit-learn)", folder / "teach", folder / "ask"
    )
    labels = [str(label) for label in digits.target]
    files = [_png(pixels) for pixels in grey]
    _write(pictures.teach, files[:start], labels[:start], ".png")
    _write(pictures.ask, files[start:], labels[start:], ".png")
    return pictures


def write_cifar10(folder: Path, data: Path, *, rows: int, queries: int) -> Pictures:
    """Write the first pictures of CIFAR-10's two files as they are, as JPEG files, 32 x 32.

    Args:
        folder: Where to write.
        data: Folder that holds ``cifar10/train.parquet`` and ``cifar10/test.parquet``.
        rows: Pictures to teach, from the training file.
        queries: Pictures to ask about, from the test file.

    Raises:
        InputError: The files are not there.
    """
    pictures = Pictures("CIFAR-10 photographs", folder / "teach", folder / "ask")
    parts = ((pictures.teach, "train", rows), (pictures.ask, "test", queries))
    for place, split, count in parts:
        chosen = read_images(data, CIFAR10, split).first(count)
        _write(place, chosen.inputs, chosen.labels, ".jpg")
    return pictures


def _write(folder: Path, files: Iterable[bytes], labels: Iterable[str], suffix: str) -> None:
    for number, (content, label) in enumerate(zip(files, labels, strict=True)):
        place = folder / label / f"{number:05d}{suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def _png(pixels: NDArray[Any]) -> bytes:
    try:
        from PIL import Image
    except ImportError as missing:
        raise MissingExtra(
            "writing pictures needs Pillow", remedy="pip install 'recollect[images]'"
        ) from missing
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
