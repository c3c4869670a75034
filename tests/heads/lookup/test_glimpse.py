"""The eye: which pixels a patch covers, how they are pooled and rounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recollect.errors import InvalidParameter
from recollect.heads.lookup.glimpse import glimpse, integral, quantize
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.recurrent_attention import Eye


def test_the_published_layout_has_170_bits_of_key_and_78_of_value():
    """64 + 2 * 5 + 48 * 2, and 64 + 2 * 5 + 4: section 3."""
    layout = Layout(side=28, classes=10)

    assert (layout.key_bits, layout.value_bits, layout.phi) == (170, 78, 48)


def test_a_patch_covers_half_before_and_half_after_its_place():
    """Two pixels wide around 1: pixels 0 and 1, in columns and in rows."""
    image = np.array([[[1, 2, 9], [3, 4, 9], [9, 9, 9]]], np.uint8)
    layout = Layout(side=3, glimpse=2, patches=1, phi_bits=8)

    codes = glimpse(integral(image), np.array([[1, 1]]), layout)

    assert codes.tolist() == [[1, 2, 3, 4]]


def test_cells_are_averages_and_the_outside_is_zero():
    """A cell of 2 x 2 of which one pixel of 255 lies inside: 255 / 4 of 255, code 1 of 3."""
    image = np.full((1, 2, 2), 255, np.uint8)
    layout = Layout(side=2, glimpse=1, patches=1, cells=(2,), phi_bits=2)

    codes = glimpse(integral(image), np.array([[0, 0]]), layout)

    assert codes.tolist() == [[1]]


def test_half_a_step_is_rounded_up():
    """floor(x + 0.5): exactly between code 0 and code 1."""
    assert quantize(np.array([0.5, 0.4999]), bits=1).tolist() == [1, 0]


def test_what_lies_outside_of_the_range_is_clamped():
    """Brighter than the brightest training pixel is as bright as that."""
    layout = Layout(side=1, glimpse=1, patches=1, low=100.0, high=200.0)
    images = np.array([[[50]], [[150]], [[250]]], np.uint8)

    codes = glimpse(integral(images), np.zeros((3, 2)), layout)

    assert codes.tolist() == [[0], [2], [3]]


def test_float_glimpses_keep_the_average():
    """Zero bits mean no rounding."""
    layout = Layout(side=2, glimpse=1, patches=1, cells=(2,), phi_bits=0, high=1.0)
    image = np.array([[[0.0, 1.0], [0.0, 0.5]]])

    seen = glimpse(integral(image), np.array([[1, 1]]), layout)

    assert seen.tolist() == [[0.375]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_eye_of_training_sees_what_the_table_sees(bits):
    """Otherwise the network would be recorded with other eyes than it was trained with."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 11, 11)).astype(np.uint8)
    layout = Layout(side=11, glimpse=3, cells=(1, 2, 5), phi_bits=bits, low=20.0, high=200.0)
    places = random.integers(0, 12, (20, 2))

    seen = Eye(images, layout).look(torch.arange(20), torch.from_numpy(places))

    codes = glimpse(integral(images), places, layout)
    assert np.array_equal(np.round(seen.numpy() * (2**bits - 1)), codes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": 0}, {"side": 256}, {"side": 2.0}, {"state": 0}, {"glimpses": 0}, {"phi_bits": 9},
        {"h_bits": -1}, {"low": 5.0, "high": 5.0}, {"cells": (1, 2)}, {"cells": (0, 1, 2)},
    ],
    ids=str,
)  # fmt: skip
def test_sizes_out_of_range_are_refused(wrong):
    """A constant range of pixels (hi = lo) among them."""
    with pytest.raises(InvalidParameter):
        Layout(**{"side": 28, **wrong})
