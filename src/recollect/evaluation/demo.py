"""The whole story on real pictures: teach, ask, explain, correct, extend, erase, reopen.

Every figure is computed while the story runs. No network is used.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recollect.errors import InvalidParameter
from recollect.evaluation.datasets import check_there, mobilenet
from recollect.evaluation.page import story_page
from recollect.evaluation.pictures import Pictures, write_cifar10, write_digits
from recollect.evaluation.plots import plot_explanation
from recollect.evaluation.steps import STEPS
from recollect.evaluation.story import Story

if TYPE_CHECKING:
    from recollect.encoders.base import Encoder

DIGIT_PIXELS = 8
CIFAR10_ROWS, CIFAR10_QUERIES, CIFAR10_PIXELS = 10_000, 1_000, 96
FACTS, PICTURE, PAGE = "facts.json", "answer.png", "story.html"
OURS = ("pictures", "memory", FACTS, PICTURE, PAGE)

TITLE = "Recollect: a memory that is taught, asked, corrected and made to forget"


def run_demo(
    *,
    images: bool = False,
    out: Path,
    echo: Callable[[str], object] = print,
    data: Path | None = None,
    models: Path | None = None,
) -> dict[str, Any]:
    """Tell the story and save it as a picture, a page, and a JSON file of its figures.

    Args:
        images: Photographs (CIFAR-10, 10,000 rows, MobileNetV2) instead of handwritten digits.
        out: Folder for the pictures, the memory and the story. It must not exist, be empty, or
            hold an earlier demo, which is replaced.
        echo: Takes each line of the story.
        data: Folder that holds ``cifar10/``; None reads RECOLLECT_DATA, else ``../shared/data``.
        models: Folder that holds ``mobilenet_v2_imagenet/``; None reads RECOLLECT_MODELS, else
            ``../shared/models``.

    Returns:
        Every figure of the story, as plain values for JSON.

    Raises:
        InputError: The photographs or the model are not there.
        InvalidParameter: ``out`` holds something else.
        MissingExtra: A library is not installed.
    """
    started = time.perf_counter()
    place = Path(out)
    _check_place(place)
    encoder = _photograph_encoder(models) if images else _digit_encoder()
    source = _folder(data, "RECOLLECT_DATA", "../shared/data")
    if images:
        check_there(source / "cifar10" / "train.parquet", "the photographs", "RECOLLECT_DATA")
    _clear(place)
    pictures = _write_pictures(place / "pictures", source if images else None)
    echo(TITLE)
    with Story.begin(place / "memory", pictures, encoder, echo) as story:
        for step in STEPS:
            step(story)
        facts = story.facts
        facts["seconds"] = round(time.perf_counter() - started, 1)
        _save(place, story)
    _say_where(place, facts, echo)
    return facts


def _check_place(place: Path) -> None:
    """Refuse a folder that is not ours: what is in it would be deleted."""
    if place.exists() and not place.is_dir():
        found = "a file"
    elif not place.exists() or (place / FACTS).is_file() or not any(place.iterdir()):
        return
    else:
        found = "a folder with other things in it"
    raise InvalidParameter(
        f"the demo cannot be written to {str(place)!r}",
        expected="a new or empty folder, or an earlier demo",
        got=found,
        remedy="Choose another folder.",
    )


def _clear(place: Path) -> None:
    """Delete an earlier demo, and nothing that a demo does not write."""
    place.mkdir(parents=True, exist_ok=True)
    # From here on the folder counts as ours, so that a demo that was stopped can be repeated.
    (place / FACTS).write_text("{}\n", encoding="utf-8")
    for name in OURS:
        if (place / name).is_dir():
            shutil.rmtree(place / name)
        elif name != FACTS:
            (place / name).unlink(missing_ok=True)


def _folder(given: Path | None, variable: str, default: str) -> Path:
    return Path(given or os.environ.get(variable) or default)


def _digit_encoder() -> Encoder:
    from recollect.encoders import PixelEncoder

    # The pictures are aligned and this small: their pixels are a good key as they are.
    return PixelEncoder(size=DIGIT_PIXELS, color=False)


def _photograph_encoder(models: Path | None) -> Encoder:
    return mobilenet(_folder(models, "RECOLLECT_MODELS", "../shared/models"), CIFAR10_PIXELS)


def _write_pictures(folder: Path, data: Path | None) -> Pictures:
    if data is None:
        return write_digits(folder)
    return write_cifar10(folder, data, rows=CIFAR10_ROWS, queries=CIFAR10_QUERIES)


def _save(place: Path, story: Story) -> None:
    query, why, shown = story.explained
    plot_explanation(query, why, shown).savefig(place / PICTURE)
    introduction = (
        f"{story.facts['rows']:,} rows of {story.pictures.name}. Every figure on this page was "
        "computed by the run that wrote it."
    )
    page = story_page(TITLE, introduction, story.steps)
    (place / PAGE).write_text(page, encoding="utf-8")
    text = json.dumps(story.facts, indent=2, ensure_ascii=False)
    (place / FACTS).write_text(text + "\n", encoding="utf-8")


def _say_where(place: Path, facts: dict[str, Any], echo: Callable[[str], object]) -> None:
    echo("")
    echo(f"Done in {facts['seconds']:.1f} s. To look at:")
    for name, words in (
        (PAGE, "the story with its pictures, for a browser"),
        (PICTURE, "one answer and the rows behind it"),
        ("memory", "the memory; open it with rc.Memory.open(...)"),
        (FACTS, "every figure above"),
    ):
        echo(f"   {place / name}  {words}")
