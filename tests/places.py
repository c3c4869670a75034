"""Where the tests find real data, real models and reference outputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(variable: str, default: Path, what: str, parts: tuple[str, ...]) -> Path:
    path = Path(os.environ.get(variable) or default).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {what} at {path}: set {variable} to the folder that holds it")
    return path


def data(*parts: str) -> Path:
    """A path below the folder of data sets; skips the test where it is absent."""
    return _folder("RECOLLECT_DATA", SHARED / "data", "data set", parts)


def models(*parts: str) -> Path:
    """A path below the folder of pretrained encoders; skips the test where it is absent."""
    return _folder("RECOLLECT_MODELS", SHARED / "models", "pretrained model", parts)


def golden(*parts: str) -> Path:
    """A path below the folder of reference outputs; skips the test where it is absent."""
    return _folder("RECOLLECT_GOLDEN", SHARED / "golden", "reference output", parts)
