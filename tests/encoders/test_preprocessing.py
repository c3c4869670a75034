"""Pictures become what a network was trained on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recollect.encoders import Preprocessing
from recollect.encoders.preprocessing import PRESETS, preprocessing
from recollect.errors import InvalidParameter

GREY = np.full((4, 6, 3), 128, np.uint8)


def test_mobilenet_maps_pixels_to_minus_1_to_1():
    """(pixel - 128) / 128."""
    ready = preprocessing("mobilenet", size="native")
    picture = np.array([[[0, 128, 192]]], np.uint8)

    assert ready(picture).tolist() == [[[-1.0]], [[0.0]], [[0.5]]]


def test_imagenet_subtracts_the_mean_and_divides_by_the_deviation():
    """In 0..1 units these are 0.485 and 0.229 for red."""
    ready = preprocessing("imagenet", size="native")
    white = np.full((1, 1, 3), 255, np.uint8)

    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(ready(white).ravel(), expected, rtol=1e-6)


def test_layout_puts_colors_first_or_last():
    """Networks from PyTorch want them first, those from TensorFlow last."""
    assert preprocessing("unit", size=2)(GREY).shape == (3, 2, 2)
    assert preprocessing("unit", size=2, layout="NHWC")(GREY).shape == (2, 2, 3)


def test_squash_keeps_the_whole_picture():
    """Left half black, right half white, four times as wide as high."""
    picture = np.zeros((2, 8, 3), np.uint8)
    picture[:, 4:] = 255

    small = preprocessing("raw", size=2, resize="squash", interpolation="box").shrink(picture)

    assert small[:, :, 0].tolist() == [[0, 255], [0, 255]]


def test_crop_keeps_the_center_and_the_proportions():
    """Of 2 x 6 pixels the middle 2 x 2 remain."""
    picture = np.zeros((2, 6, 3), np.uint8)
    picture[:, 2:4] = 255

    small = preprocessing("raw", size=2, interpolation="box").shrink(picture)

    assert small[:, :, 0].tolist() == [[255, 255], [255, 255]]


def test_crop_share_cuts_the_border_off():
    """Half of the sides of 4 x 4 is the inner 2 x 2."""
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[1:3, 1:3] = 255

    small = preprocessing("raw", size=2, crop=0.5, interpolation="box").shrink(picture)

    assert small[:, :, 0].tolist() == [[255, 255], [255, 255]]


def test_a_picture_that_fits_is_not_resampled():
    """CIFAR pictures go into a CIFAR network untouched."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    assert preprocessing("unit", size=32).shrink(picture) is picture


def test_a_very_long_picture_is_cropped_without_a_huge_intermediate():
    """Scaling its short side up first would need 10,000 times its pixels."""
    picture = np.zeros((1, 1_000_000, 3), np.uint8)

    assert preprocessing("imagenet").shrink(picture).shape == (224, 224, 3)


@pytest.mark.parametrize("name", PRESETS)
def test_every_known_name_survives_its_description(name):
    """A recipe keeps preprocessing as JSON."""
    ready = preprocessing(name)

    assert Preprocessing.from_spec(json.loads(json.dumps(ready.as_spec()))) == ready


def test_sizes_are_a_side_two_sides_or_native():
    """Street scenes are wide, and dense prediction wants them so."""
    assert preprocessing("unit", size=8).size == (8, 8)
    assert preprocessing("unit", size=(8, 12)).size == (8, 12)
    assert preprocessing("unit", size="native").size is None


@pytest.mark.parametrize(
    "options",
    [
        {"name": "resnet"},
        {"name": 7},
        {"size": 0},
        {"size": 2.5},
        {"size": True},
        {"size": (8, 8, 8)},
        {"size": 100_000},
        {"size": "big"},
        {"mean": "abc"},
        {"mean": [1.0, 2.0]},
        {"mean": float("nan")},
        {"scale": 0},
        {"resize": "stretch"},
        {"interpolation": "sinc"},
        {"layout": "CHW"},
        {"crop": 0},
        {"crop": 1.5},
        {"crop": 0.5, "resize": "squash"},
    ],
)
def test_options_outside_their_range_are_refused(options):
    """When they are made, not when the first picture comes."""
    with pytest.raises(InvalidParameter) as caught:
        preprocessing(**({"name": "unit"} | options))

    assert caught.value.expected is not None
    assert caught.value.remedy
