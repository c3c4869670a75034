"""Exports on real digits: the published layout, answers equal to Python's on 1,000 images."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from places import data

from recollect.heads.lookup import standalone
from recollect.heads.lookup.arrays import write_npz
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.native import NativeLookup
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.teaching import recorded_table, run_images

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wno-overlength-strings", "-Werror")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def digits():
    with np.load(data("mnist", "mnist.npz"), allow_pickle=False) as arrays:
        return arrays["x_train"][:2000], arrays["y_train"][:2000], arrays["x_test"][:1000]


@pytest.fixture(scope="module", params=[{}, {"cells": (2, 3, 4), "high": 160.0}], ids=str)
def made(request, digits):
    """A table of a network as torch starts it: its states say little, its keys are of full size."""
    torch = pytest.importorskip("torch")
    from recollect.heads.lookup.recurrent_attention import RecurrentAttention

    torch.manual_seed(0)
    network = RecurrentAttention(Layout(side=28, **request.param)).network()
    images, labels, _ = digits

    def predictor(*, per_step, **options):
        table = recorded_table(
            run_images(network, images), labels.astype(np.int64), per_step=per_step
        )
        return LookupPredictor(network.layout, table, list(range(10)), (3.0, 0.2, 0.1), **options)

    return predictor


@needs_compiler
@pytest.mark.parametrize(
    "options",
    [
        {"per_step": False}, {"per_step": True, "beam": 4, "k": 5},
        {"per_step": True, "beam": 8, "slack": 220, "k": 80, "vote": "distance"},
    ],
    ids=str,
)  # fmt: skip
def test_the_compiled_header_answers_digits_like_python(made, digits, options):
    """170 bits a key, 1,000 test images of MNIST, every warning an error."""
    predictor = made(**options)

    native = NativeLookup(predictor, flags=STRICT)

    assert native.predict(digits[2]).tolist() == predictor.predict(digits[2]).tolist()


def test_plain_arrays_answer_digits_like_python(made, digits, tmp_path):
    """NumPy alone, on the same images."""
    predictor = made(per_step=True, k=20, vote="distance")
    write_npz(predictor, tmp_path / "digits.npz")

    answers = standalone.predict(standalone.load(tmp_path / "digits.npz"), digits[2][:200])

    assert answers == predictor.predict(digits[2][:200]).tolist()
