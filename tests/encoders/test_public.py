"""What the package shows, and what it loads for that."""

from __future__ import annotations

import subprocess
import sys

import pytest

from recollect import encoders

HEAVY = (
    "PIL",
    "onnxruntime",
    "skimage",
    "sklearn",
    "sqlite3",
    "tokenizers",
    "torch",
    "transformers",
)


def run(program):
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_the_public_names_are_sorted_and_all_there():
    """The list is the promise."""
    assert encoders.__all__ == sorted(encoders.__all__)
    assert dir(encoders) == encoders.__all__
    assert [name for name in encoders.__all__ if getattr(encoders, name, None) is None] == []


def test_a_name_that_is_not_there_is_an_attribute_error():
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'VideoEncoder'"):
        encoders.VideoEncoder  # noqa: B018 - the attribute is the point


def test_the_package_alone_loads_nothing_heavy():
    """Starting a command line must not wait for torch."""
    program = f"import sys, recollect.encoders; print([m for m in {HEAVY} if m in sys.modules])"

    assert run(program) == "[]"


def test_the_encoders_load_their_libraries_when_they_are_made():
    """Not when their class is imported."""
    program = (
        "import sys; from recollect.encoders import *;"
        f"print([m for m in {HEAVY} if m != 'sqlite3' and m in sys.modules])"
    )

    assert run(program) == "[]"


@pytest.mark.parametrize(
    ("library", "work", "extra"),
    [
        ("PIL", "decode_image(b'\\xff\\xd8\\xff')", "images"),
        ("skimage", "HogEncoder().encode([np.zeros((64, 64, 3), np.uint8)])", "images"),
        ("onnxruntime", "OnnxEncoder(sys.executable)", "onnx"),
        ("torch", "TorchEncoder(None)", "torch"),
        ("torch", "HuggingFaceEncoder('.')", "torch"),
        ("transformers", "HuggingFaceEncoder('.')", "hf"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(library, work, extra):
    """The message is the command to type."""
    program = f"""
import sys
sys.modules[{library!r}] = None
import numpy as np
from recollect.encoders import *
from recollect.errors import MissingExtra
try:
    {work}
except MissingExtra as error:
    print(error.remedy)
"""

    assert run(program) == f"Install it with: pip install 'recollect[{extra}]'"
