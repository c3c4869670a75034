"""What every encoder promises, held against every encoder there is."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest
from encoders import tiny_models

from recollect.encoders import (
    Encoder,
    HashingTextEncoder,
    HogEncoder,
    HuggingFaceEncoder,
    OnnxEncoder,
    PixelEncoder,
    TextEncoder,
    TorchEncoder,
    encode_all,
    from_spec,
)
from recollect.errors import BadImage, EmptyBatch, InputError

PICTURES = [
    np.random.default_rng(seed).integers(0, 256, (20 + seed, 30, 3), dtype=np.uint8)
    for seed in range(7)
]
TEXTS = ["a red car", "a photo of a tree", "blue", "", "red red red red blue", "of", "car tree"]


def _torch_encoder(folder, **changes):
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    return TorchEncoder(module, **({"preprocess": "unit", "size": 8} | changes))


# Name -> how it is built, and the same with one setting changed.
ENCODERS = {
    "pixels": (lambda _: PixelEncoder(), lambda _: PixelEncoder(color=False)),
    "hog": (lambda _: HogEncoder(), lambda _: HogEncoder(color=0.5)),
    "hashing-text": (lambda _: HashingTextEncoder(), lambda _: HashingTextEncoder(words=False)),
    "onnx": (
        lambda folder: OnnxEncoder(tiny_models.onnx_file(folder), size=16),
        lambda folder: OnnxEncoder(tiny_models.onnx_file(folder), size=16, resize="squash"),
    ),
    "onnx-batches": (
        lambda folder: OnnxEncoder(tiny_models.onnx_file(folder), size=16, batch_size=3),
        lambda folder: OnnxEncoder(tiny_models.onnx_file(folder), size=15, batch_size=3),
    ),
    "onnx-text": (
        lambda folder: TextEncoder(tiny_models.text_folder(folder)),
        lambda folder: TextEncoder(tiny_models.text_folder(folder), normalize=False),
    ),
    "torch": (_torch_encoder, lambda folder: _torch_encoder(folder, layer="0")),
    "dinov2": (
        lambda folder: HuggingFaceEncoder(tiny_models.dinov2(folder)),
        lambda folder: HuggingFaceEncoder(tiny_models.dinov2(folder), output="mean"),
    ),
    "clip-image": (
        lambda folder: HuggingFaceEncoder(tiny_models.clip(folder)),
        lambda folder: HuggingFaceEncoder(tiny_models.clip(folder), normalize=True),
    ),
    "clip-text": (
        lambda folder: HuggingFaceEncoder(tiny_models.clip(folder), modality="text"),
        lambda folder: HuggingFaceEncoder(tiny_models.clip(folder), modality="text", max_tokens=5),
    ),
    "bert": (
        lambda folder: TextEncoder(tiny_models.bert(folder)),
        lambda folder: TextEncoder(tiny_models.bert(folder), output="cls"),
    ),
}
# ONNX on the CPU and the weight-free ones promise the same bits; torch sums in another order for
# another batch. The tolerance is on keys whose entries are of order 1.
TOLERANCE = {"torch": 1e-5, "dinov2": 1e-5, "clip-image": 1e-5, "clip-text": 1e-5, "bert": 1e-5}
INPUTS = {"image": PICTURES, "text": TEXTS}


@pytest.fixture(params=ENCODERS)
def name(request):
    return request.param


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Builds each encoder once: they never change."""
    return lru_cache(lambda name: ENCODERS[name][0](tmp_path_factory.mktemp(name)))


@pytest.fixture
def encoder(name, build):
    return build(name)


def test_it_is_an_encoder(encoder):
    """The rest of the library knows nothing but the protocol."""
    assert isinstance(encoder, Encoder)


def test_keys_are_finite_float32_of_the_width_it_says(encoder):
    """A memory is created with this width before the first key is seen."""
    keys = encoder.encode(INPUTS[encoder.modality])

    assert keys.dtype == np.float32
    assert keys.shape == (7, encoder.dim)
    assert np.isfinite(keys).all()


def test_no_key_is_without_direction(encoder):
    """The default metric is the cosine, under which a zero vector is refused."""
    keys = encoder.encode(INPUTS[encoder.modality])

    assert np.linalg.norm(keys, axis=1).min() > 0


def test_a_key_is_the_same_alone_and_in_any_batch(encoder, name):
    """An answer may not depend on which other queries were asked with it."""
    inputs = INPUTS[encoder.modality]

    together = encoder.encode(inputs)
    alone = np.concatenate([encoder.encode([each]) for each in inputs])
    backwards = encoder.encode(inputs[::-1])[::-1]

    np.testing.assert_allclose(alone, together, rtol=0, atol=TOLERANCE.get(name, 0))
    np.testing.assert_allclose(backwards, together, rtol=0, atol=TOLERANCE.get(name, 0))


def test_encode_all_gives_the_keys_of_encode(encoder, name):
    """Batches, threads and the cache are no part of a key."""
    inputs = INPUTS[encoder.modality]

    encoded = encode_all(encoder, inputs, batch_size=2, workers=2)

    expected = encoder.encode(inputs)
    np.testing.assert_allclose(encoded.keys, expected, rtol=0, atol=TOLERANCE.get(name, 0))
    assert encoded.kept.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert encoded.problems == []


def test_the_fingerprint_is_stable(encoder, name, tmp_path):
    """A memory that was reopened must know its encoder again, wherever the model lies now."""
    moved = ENCODERS[name][0](tmp_path / "elsewhere")

    assert moved.fingerprint == encoder.fingerprint


def test_the_fingerprint_differs_when_a_setting_differs(encoder, name, tmp_path):
    """Keys of other settings would be compared in silence."""
    changed = ENCODERS[name][1](tmp_path / "model")

    assert changed.fingerprint != encoder.fingerprint


def test_the_recipe_builds_the_same_encoder(encoder, name, tmp_path):
    """A memory keeps the recipe as JSON, and `predict` on images needs the encoder again."""
    if encoder.spec is None:
        pytest.skip("a module of one's own has no recipe")

    again = from_spec(json.loads(json.dumps(encoder.spec)))

    inputs = INPUTS[encoder.modality]
    assert again.fingerprint == encoder.fingerprint
    assert (again.dim, again.modality) == (encoder.dim, encoder.modality)
    np.testing.assert_allclose(
        again.encode(inputs), encoder.encode(inputs), rtol=0, atol=TOLERANCE.get(name, 0)
    )


def test_an_empty_batch_is_refused(encoder):
    """An empty folder is a mistake that should be heard of at once."""
    with pytest.raises(EmptyBatch, match="nothing to encode"):
        encoder.encode([])


def test_a_single_input_is_refused_with_advice(encoder):
    """A text is a sequence too: its letters would be encoded one by one."""
    with pytest.raises(InputError, match="takes several inputs") as caught:
        encoder.encode("a red car")

    assert caught.value.remedy == "Put a single input into a list: [x]."


def test_what_cannot_be_read_is_refused(encoder):
    """One error of the tree, whatever the encoder."""
    error = {"image": BadImage, "text": InputError}[encoder.modality]

    with pytest.raises(error):
        encoder.encode([*INPUTS[encoder.modality], 3.14])


def test_encoding_writes_no_files(encoder, tmp_path, monkeypatch):
    """Only a cache writes, and only where it was asked to."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    encoder.encode(INPUTS[encoder.modality])

    assert sorted(tmp_path.rglob("*")) == before
