"""Class-per-folder: ``animals/cat/1.png`` is a cat."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from recollect.errors import EmptyBatch, InputError
from recollect.memory.sources.labelled import LabelledInputs
from recollect.types import Label

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read_folder(path: str | os.PathLike[str], *, labelled: bool = True) -> LabelledInputs:
    """List the images of a folder with one subfolder per class.

    The label of an image is the name of the first folder below ``path``; folders may be nested
    further. Classes come in sorted order, the images of a class sorted by path. Hidden files and
    files that are no images by their suffix are passed over. Links to folders are not followed.

    Args:
        path: The folder.
        labelled: False to take images that lie in no class folder as well, and to give no labels.

    Returns:
        Paths as inputs; sources are paths that begin with the folder's own name.

    Raises:
        InputError: There is no such folder, a link leads out of it, or an image lies in no class.
        EmptyBatch: It holds no images.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(
            f"there is no folder at {path!s}", remedy="Give a folder with one subfolder per class."
        )
    name = root.resolve().name
    files = sorted(_images(root), key=lambda file: file.relative_to(root).parts)
    if not files:
        raise EmptyBatch(
            f"no images in the folder {path!s}",
            expected=f"files that end in {', '.join(IMAGE_SUFFIXES)}",
            remedy="Put the images of each class into a subfolder that is named after it.",
        )
    inside = [file.relative_to(root) for file in files]
    labels: list[Label] | None = None
    if labelled:
        stray = next((file for file in inside if len(file.parts) == 1), None)
        if stray is not None:
            raise InputError(
                f"the image {name}/{stray} lies in no class folder",
                expected=f"{name}/CLASS/{stray}",
                remedy="Move it into a folder that is named after its class, or give its label.",
            )
        labels = [file.parts[0] for file in inside]
    sources = [f"{name}/{file.as_posix()}" for file in inside]
    return LabelledInputs([str(file) for file in files], labels, sources)


def read_files(paths: Iterable[str | os.PathLike[str]], *, label: Label | None) -> LabelledInputs:
    """Take image files as they are named, all with one label or without.

    Raises:
        InputError: A file does not exist.
        EmptyBatch: No paths were given.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise EmptyBatch("no image files were given", remedy="Name at least one.")
    for file in files:
        if not file.is_file():
            raise InputError(f"there is no file at {file}", remedy="Check the path.")
        _check_name(file)
    labels: list[Label] | None = None if label is None else [label] * len(files)
    return LabelledInputs([str(file) for file in files], labels, [str(file) for file in files])


def _images(root: Path) -> Iterator[Path]:
    """Image files below the folder, in no particular order; walks without recursion."""
    home = root.resolve()
    folders = [root]
    while folders:
        for entry in _entries(folders.pop()):
            file = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                _check_link(file, home)
            if entry.is_dir(follow_symlinks=False):
                folders.append(file)
            elif file.suffix.lower() in IMAGE_SUFFIXES and entry.is_file():
                _check_name(file)
                yield file


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be read",
            got=error.strerror,
            remedy="Check its permissions.",
        ) from error


def _check_link(file: Path, home: Path) -> None:
    try:
        target = file.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the link {file} leads nowhere", remedy="Remove the link or restore its target."
        ) from error
    if not target.is_relative_to(home):
        raise InputError(
            f"the link {file} leaves the folder",
            expected=f"a target below {home}",
            got=target,
            remedy="Copy the file into the folder, if it is meant to be there.",
        )


def _check_name(file: Path) -> None:
    """Names are kept as sources, so they must be text."""
    try:
        str(file).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the file name {str(file)!r} is not valid UTF-8", remedy="Rename the file."
        ) from error
