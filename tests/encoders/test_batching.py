"""Many inputs: in order, each content once, and bad ones raised or reported."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest
from PIL import Image

from recollect.encoders import EncodingCache, HashingTextEncoder, PixelEncoder, encode_all
from recollect.encoders.batching import ordered
from recollect.errors import (
    BadImage,
    EmptyBatch,
    EncoderFault,
    InputError,
    InvalidParameter,
)

GREY = [np.full((2, 2), level, np.uint8) for level in (0, 51, 102, 153, 204)]


def _sha256(content):
    return hashlib.sha256(content).digest()


class Means:
    """An encoder of somebody's own: the mean of the pixels it is given, and how often it ran."""

    dim = 1
    modality = "image"
    fingerprint = "means:1"
    spec = None

    def __init__(self):
        self.batches = []

    def encode(self, inputs):
        self.batches.append(len(inputs))
        return np.array([[each.mean() / 255] for each in inputs])


class Broken(Means):
    """Gives whatever it is told to."""

    def __init__(self, keys):
        super().__init__()
        self.keys = keys

    def encode(self, inputs):
        return self.keys


def test_an_encoder_of_ones_own_gets_rgb_arrays_in_batches():
    """The protocol asks for nothing but `encode`."""
    encoder = Means()

    encoded = encode_all(encoder, GREY, batch_size=2)

    np.testing.assert_allclose(encoded.keys, [[0.0], [0.2], [0.4], [0.6], [0.8]], rtol=1e-6)
    assert encoded.keys.dtype == np.float32
    assert encoder.batches == [2, 2, 1]


def test_bad_inputs_are_skipped_and_reported_in_order():
    """One broken file among ten thousand should not cost the night."""
    inputs = [GREY[0], b"no picture", GREY[1], "nowhere.png"]

    encoded = encode_all(Means(), inputs, on_error="skip")

    assert encoded.kept.tolist() == [0, 2]
    assert encoded.kept.dtype == np.int64
    np.testing.assert_allclose(encoded.keys, [[0.0], [0.2]], rtol=1e-6)
    assert [index for index, _ in encoded.problems] == [1, 3]
    assert "nowhere.png" in str(encoded.problems[1][1])
    assert all(isinstance(error, BadImage) for _, error in encoded.problems)


def test_the_first_bad_input_is_raised_by_default():
    """Whatever thread found another one earlier."""
    inputs = [*GREY, "first.png", *GREY, "second.png"]

    with pytest.raises(BadImage, match=r"first\.png"):
        encode_all(Means(), inputs, workers=4)


def test_only_bad_inputs_give_no_keys():
    """The shape still says how wide they would have been."""
    encoded = encode_all(PixelEncoder(size=1), ["a.png", "b.png"], on_error="skip")

    assert encoded.keys.shape == (0, 7)
    assert encoded.kept.shape == (0,)
    assert len(encoded.problems) == 2


def test_texts_go_the_same_way():
    """A missing value in a column is reported like a broken file."""
    encoded = encode_all(HashingTextEncoder(), ["red", None, "\ud800"], on_error="skip")

    assert encoded.kept.tolist() == [0]
    assert [error.got for _, error in encoded.problems] == [
        "NoneType None",
        "half a character at position 0",
    ]


def test_progress_counts_to_the_total():
    """A progress bar that stops at 97 % looks like a hang."""
    seen = []

    encode_all(
        Means(),
        [*GREY, "nowhere.png"],
        batch_size=2,
        on_error="skip",
        progress=lambda done, total: seen.append((done, total)),
    )

    assert seen == [(2, 6), (4, 6), (6, 6)]


def test_nothing_is_encoded_twice():
    """Not in a later call, not in the same batch, not in another form of the same content."""
    encoder = Means()
    with EncodingCache() as cache:
        first = encode_all(encoder, [GREY[1], GREY[1], GREY[2]], cache=cache)
        second = encode_all(encoder, [GREY[2], GREY[1].copy()], cache=cache)

    assert encoder.batches == [2]
    np.testing.assert_allclose(first.keys, [[0.2], [0.2], [0.4]], rtol=1e-6)
    np.testing.assert_allclose(second.keys, [[0.4], [0.2]], rtol=1e-6)


def test_what_is_in_the_cache_is_not_even_decoded(tmp_path):
    """Looking a file up costs its digest alone, so a key stands for a file that was good once."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"these bytes are no picture")
    encoder = PixelEncoder(size=1)
    with EncodingCache() as cache:
        with pytest.raises(BadImage):
            encode_all(encoder, [path], cache=cache)
        cache.put(encoder.fingerprint, {_sha256(path.read_bytes()): np.arange(7)})

        keys = encode_all(encoder, [path], cache=cache).keys

    assert keys.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]


def test_a_pillow_image_and_its_pixels_are_one_content():
    """Data sets hand out Pillow images; the limits of this call hold for them too."""
    encoder = Means()
    picture = Image.fromarray(np.full((2, 2, 3), 51, np.uint8))
    with EncodingCache() as cache:
        encode_all(encoder, [picture, np.asarray(picture)], cache=cache)

        with pytest.raises(BadImage, match="expected at most 3 pixels"):
            encode_all(encoder, [picture], cache=cache, max_pixels=3)

    assert encoder.batches == [1]


def test_a_cached_key_of_another_width_is_encoded_again():
    """A broken cache may cost time, never a wrong shape."""
    encoder = HashingTextEncoder(dim=16)
    with EncodingCache() as cache:
        cache.put(encoder.fingerprint, {_sha256(b"red"): np.ones(3)})

        assert encode_all(encoder, ["red"], cache=cache).keys.shape == (1, 16)


def test_one_array_is_many_pictures():
    """As data sets come: (n, H, W) is grey, (n, H, W, 3) is RGB."""
    grey = np.zeros((5, 8, 8), np.uint8)

    assert len(encode_all(Means(), grey).keys) == 5
    assert len(encode_all(Means(), grey[..., None].repeat(3, axis=3)).keys) == 5


@pytest.mark.parametrize(
    "single",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8), "a.png", b"bytes", 7, None],
)
def test_a_single_input_is_refused(single):
    """Its rows, or its letters, would be taken for pictures."""
    with pytest.raises(InputError, match="an encoder takes several inputs at once"):
        encode_all(Means(), single)


def test_nothing_to_encode_is_refused():
    """Whatever kind of nothing."""
    with pytest.raises(EmptyBatch):
        encode_all(Means(), [])
    with pytest.raises(EmptyBatch):
        encode_all(Means(), iter(()))


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"workers": 0}, {"workers": 1.5}, {"on_error": "ignore"}]
)
def test_options_outside_their_range_are_refused(options):
    """Before the first input is read."""
    with pytest.raises(InvalidParameter, match=f"the option '{next(iter(options))}'"):
        encode_all(Means(), GREY, **options)


@pytest.mark.parametrize(
    ("keys", "got"),
    [
        ([[1.0]], r"float64 of shape \(1, 1\)"),
        (np.zeros((5, 2)), r"float64 of shape \(5, 2\)"),
        (np.zeros((5, 1), int), r"int64 of shape \(5, 1\)"),
        (np.full((5, 1), np.nan), "NaN or infinity"),
        (np.full((5, 1), 1e300), "NaN or infinity"),
        (None, r"object of shape \(\)"),
    ],
)
def test_an_encoder_that_gives_no_keys_is_at_fault(keys, got):
    """A memory must never see them."""
    with pytest.raises(EncoderFault, match=f"Broken gave something other than keys.*{got}"):
        encode_all(Broken(keys), GREY)


def test_work_in_threads_comes_back_in_order():
    """The slowest may be the first."""
    second_is_done = threading.Event()

    def work(number):
        if number == 0:
            assert second_is_done.wait(10)
        second_is_done.set()
        return number * 10

    assert list(ordered(work, [0, 1, 2], workers=2, window=3)) == [0, 10, 20]


def test_no_more_than_the_window_is_read_ahead():
    """Pictures are large: ten thousand of them do not fit into memory."""
    started = []

    def work(number):
        started.append(number)
        return number

    stream = ordered(work, range(100), workers=2, window=4)
    next(stream)
    stream.close()

    assert len(started) <= 6
