"""Options that the ``reproduce`` commands share, and the folders they mean when left out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer


def data_option(folder: str) -> Any:
    """``--data``; a command says what the folder holds, as a sentence."""
    return _folder_option("--data", f"{folder} Default: RECOLLECT_DATA, ../shared/data.")


def models_option(folder: str) -> Any:
    """``--models``; a command says what the folder holds, as a sentence."""
    return _folder_option("--models", f"{folder} Default: RECOLLECT_MODELS, ../shared/models.")


def out_option(folder: str) -> Any:
    """``--out`` of a command that writes nothing without it."""
    return _folder_option("--out", folder)


def _folder_option(name: str, text: str) -> Any:
    return typer.Option(name, help=text, show_default=False)


MobileNet: TypeAlias = Annotated[
    Path | None, models_option("Folder that holds mobilenet_v2_imagenet/.")
]
Out: TypeAlias = Annotated[Path | None, out_option("Folder for table and pictures.")]


def data_folder(given: Path | None) -> Path:
    """The folder of data sets: as given, or of the environment, or beside the checkout."""
    return given or Path(os.environ.get("RECOLLECT_DATA", "../shared/data"))


def models_folder(given: Path | None) -> Path:
    """The folder of public networks: as given, or of the environment, or beside the checkout."""
    return given or Path(os.environ.get("RECOLLECT_MODELS", "../shared/models"))
