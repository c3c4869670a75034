"""Encoders without weights: their keys can be checked by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from recollect.encoders import HashingTextEncoder, HogEncoder, PixelEncoder
from recollect.errors import InvalidParameter


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_a_pixel_key_is_the_centered_picture_then_brightness_then_one():
    """(0, 1, 1, 0) minus its mean 0.5; the mean minus 0.5 is 0."""
    picture = np.array([[0, 255], [255, 0]], np.uint8)

    key = PixelEncoder(size=2, color=False).encode([picture])

    assert key.tolist() == [[-0.5, 0.5, 0.5, -0.5, 0.0, 1.0]]


def test_pixels_with_color_center_each_channel():
    """One pixel is its own mean, so only the brightness of red, green and blue remains."""
    red = np.array([[[255, 0, 0]]], np.uint8)

    key = PixelEncoder(size=1).encode([red])

    assert key.tolist() == [[0.0, 0.0, 0.0, 2.0, -2.0, -2.0, 1.0]]


def test_pictures_of_one_color_have_directions_of_their_own():
    """The zero vector is refused by the cosine, and black is not white."""
    black, white = PixelEncoder().encode([np.zeros((4, 4)), np.ones((4, 4))])

    assert cosine(black, white) < 0


def test_a_darker_picture_of_the_same_thing_is_near():
    """The cosine of centered pixels compares shapes."""
    ramp = np.tile(np.linspace(0, 1, 16), (16, 1))
    bright, dim, turned = PixelEncoder().encode([ramp, ramp * 0.5, ramp.T])

    assert cosine(bright, dim) > 0.9
    assert cosine(bright, turned) < 0.1


def test_hog_tells_directions_of_edges_apart():
    """Stripes along and stripes across have the same pixels, sorted."""
    stripes = np.tile(np.repeat([0, 255], 8).astype(np.uint8), (64, 4))
    moved = np.roll(stripes, 3, axis=1)
    along, shifted, across = HogEncoder().encode([stripes, moved, stripes.T])

    assert cosine(along, shifted) > 0.9 > cosine(along, across)


def test_the_color_part_of_a_hog_key_is_the_root_of_shares():
    """Half black, half white: the first and the last of 8 bins hold a half each."""
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[8:] = 255

    key = HogEncoder(size=16, cell=8, bins=2, color=1.0).encode([picture])[0]

    expected = [np.sqrt(0.5), 0, 0, 0, 0, 0, 0, np.sqrt(0.5)]
    np.testing.assert_allclose(key[-8:], expected, atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(key[:-8]), 1.0, atol=1e-6)


def test_a_picture_without_edges_has_colors_only():
    """A wall is a wall of a color."""
    key = HogEncoder().encode([np.full((64, 64), 255, np.uint8)])[0]

    assert np.count_nonzero(key) == 1
    assert key[-1] == np.float32(0.7)


def test_shared_words_bring_texts_near():
    """Without case, and whatever the spaces."""
    a, same, near, far = HashingTextEncoder().encode(
        ["a red car", "A  Red CAR ", "the red cars", "tall green trees"]
    )

    assert a.tolist() == same.tolist()
    assert cosine(a, near) > 0.3
    assert cosine(a, far) < 0.1


def test_the_empty_text_has_a_direction():
    """Only the constant entry."""
    key = HashingTextEncoder(dim=16).encode([""])

    assert key.tolist() == [[1.0] + [0.0] * 15]


def test_compatible_spellings_are_one_text():
    """The ligature and the full-width letter are the same words to a reader."""
    plain, odd = HashingTextEncoder().encode(["fine art", "\ufb01ne \uff21rt"])

    assert plain.tolist() == odd.tolist()


def test_hashing_is_the_same_in_every_process():
    """Python's own hash() changes with each start; a memory must not."""
    program = (
        "from recollect.encoders import HashingTextEncoder;"
        "print(HashingTextEncoder(dim=16).encode(['red']).tolist())"
    )

    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert seen == {f"{HashingTextEncoder(dim=16).encode(['red']).tolist()}\n"}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PixelEncoder, {"size": 0}),
        (PixelEncoder, {"size": 2.0}),
        (PixelEncoder, {"size": 10_000}),
        (PixelEncoder, {"color": 1}),
        (HogEncoder, {"size": 8}),
        (HogEncoder, {"cell": 33}),
        (HogEncoder, {"orientations": 0}),
        (HogEncoder, {"bins": 9}),
        (HogEncoder, {"color": 0.0}),
        (HogEncoder, {"color": float("nan")}),
        (HashingTextEncoder, {"dim": 1}),
        (HashingTextEncoder, {"shortest": 0}),
        (HashingTextEncoder, {"longest": 2}),
        (HashingTextEncoder, {"words": None}),
    ],
)
def test_options_outside_their_range_are_refused(kind, options):
    """When the encoder is made, not when the first picture comes."""
    with pytest.raises(InvalidParameter, match=f"the option '{next(iter(options))}'"):
        kind(**options)
