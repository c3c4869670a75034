"""The folder of a run, and what an earlier run left in it: read and judged before anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recollect.errors import InputError


def make_folder(folder: Path) -> Path:
    """Make the folder for results, with those above it, unless it is there.

    Returns:
        The folder.

    Raises:
        InputError: It is a file, lies below one, or must not be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} cannot hold results",
            expected="a folder, or a place for one",
            got=getattr(error, "strerror", None) or str(error),
            remedy="Choose another folder.",
        ) from error
    return folder


def read_earlier(path: Path) -> dict[str, Any]:
    """Read the JSON object that an earlier run wrote; empty if there is no such file.

    Raises:
        InputError: Something else stands there.
    """
    try:
        if not path.exists():
            return {}
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise not_ours(path, "JSON", str(error)) from error
    if not isinstance(whole, dict):
        raise not_ours(path, "a JSON object", type(whole).__name__)
    return whole


def not_ours(path: Path, expected: str, got: str) -> InputError:
    """What to raise of a file that no run of this program wrote so."""
    return InputError(
        f"{path} is not what an earlier run wrote",
        expected=expected,
        got=got,
        remedy="Delete it, or choose another folder.",
    )
