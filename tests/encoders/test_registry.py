"""Recipes and names build the encoders of this library and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from encoders.tiny_models import dinov2, onnx_file, text_folder

from recollect.encoders import (
    HashingTextEncoder,
    HogEncoder,
    HuggingFaceEncoder,
    OnnxEncoder,
    PixelEncoder,
    TextEncoder,
    from_name,
    from_spec,
)
from recollect.errors import EncoderFault, InvalidParameter

PIXELS = {"type": "pixels", "size": 8, "color": True}


@pytest.mark.parametrize(
    "spec",
    [
        None,
        [],
        "pixels",
        {},
        {"type": "os.system"},
        {"type": ["pixels"]},
        {"type": "torch"},
        {"type": "pixels"},
        PIXELS | {"extra": 1},
        PIXELS | {"size": "8"},
        PIXELS | {"size": True},
        PIXELS | {"size": 10**9},
        PIXELS | {"color": 1},
        {"type": "hog", "size": 64, "cell": 16, "orientations": 9, "bins": 3, "color": 1e999},
        {"type": "hashing-text", "dim": 10**12, "shortest": 3, "longest": 5, "words": True},
    ],
)
def test_a_recipe_that_cannot_be_is_refused(spec):
    """It may come from anyone's memory."""
    with pytest.raises(EncoderFault) as caught:
        from_spec(spec)

    assert caught.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/dev/zero"},
        {"path": "/nowhere/model.onnx"},
        {"path": "a\0b"},
        {"sha256": 7},
        {"output": "softmax"},
        {"pooling": "max"},
        {"maps": [7]},
        {"maps": ["pooled"]},
        {"preprocessing": {}},
        {"preprocessing": {"size": [2, 2]}},
    ],
)
def test_a_recipe_of_a_model_is_checked_field_by_field(tmp_path, change):
    """Before anything is built from it."""
    spec = OnnxEncoder(onnx_file(tmp_path), size=2).spec

    with pytest.raises(EncoderFault):
        from_spec(spec | change)


@pytest.mark.parametrize(
    "change",
    [
        {"size": [2, -2]},
        {"size": 2},
        {"mean": [1, 2, 3]},
        {"scale": [0.0, 1.0, 1.0]},
        {"crop": "1"},
    ],
)
def test_preprocessing_in_a_recipe_is_checked_field_by_field(tmp_path, change):
    """A size of 10**9 would be an allocation."""
    spec = OnnxEncoder(onnx_file(tmp_path), size=2).spec
    spec["preprocessing"] |= change

    with pytest.raises(EncoderFault, match="holds a value that cannot be"):
        from_spec(spec)


def test_a_recipe_of_a_folder_that_is_gone_is_refused(tmp_path):
    """And nothing is fetched in its place."""
    spec = HuggingFaceEncoder(dinov2(tmp_path / "model")).spec
    (tmp_path / "model").rename(tmp_path / "moved")

    with pytest.raises(EncoderFault, match="a folder, or a name"):
        from_spec(spec)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pixels", PixelEncoder()),
        ("pixels?size=8&color=false", PixelEncoder(size=8, color=False)),
        ("hog", HogEncoder()),
        ("hog?size=32&cell=8&color=1.5", HogEncoder(size=32, cell=8, color=1.5)),
        ("hashing-text?dim=64&words=no", None),
        ("hashing-text?dim=64&words=false", HashingTextEncoder(dim=64, words=False)),
    ],
)
def test_a_name_builds_an_encoder(name, expected):
    """As given on a command line."""
    if expected is None:
        with pytest.raises(InvalidParameter, match="another value for words"):
            from_name(name)
    else:
        assert from_name(name) == expected


def test_a_name_with_a_path_builds_a_model(tmp_path):
    """Options follow the question mark."""
    path = onnx_file(tmp_path)

    encoder = from_name(f"onnx:{path}?output=pooled&size=4x6&preprocess=mobilenet&resize=squash")

    same = OnnxEncoder(path, output="pooled", size=(4, 6), preprocess="mobilenet", resize="squash")
    assert encoder.fingerprint == same.fingerprint


def test_numbers_and_lists_are_separated_by_commas(tmp_path):
    """Mean and scale in 0..255, maps by name."""
    path = onnx_file(tmp_path)

    encoder = from_name(f"onnx:{path}?size=native&preprocess=raw&mean=1,2,3&scale=2&maps=map")

    assert encoder.preprocessing.mean == (1.0, 2.0, 3.0)
    assert encoder.preprocessing.scale == (2.0, 2.0, 2.0)
    assert encoder.preprocessing.size is None
    assert encoder.maps == ("map",)


def test_a_question_mark_in_a_path_is_part_of_it(tmp_path):
    """Folders have all sorts of names."""
    path = onnx_file(tmp_path / "what?")

    assert from_name(f"onnx:{path}").fingerprint == OnnxEncoder(path).fingerprint


def test_texts_and_hugging_face_have_names(tmp_path):
    """The same encoders as built by hand."""
    words, vision = text_folder(tmp_path / "words"), dinov2(tmp_path / "vision")

    text = from_name(f"text:{words}?max_tokens=7")
    image = from_name(f"hf:{vision}?output=cls")

    assert text.fingerprint == TextEncoder(words, max_tokens=7).fingerprint
    assert image.fingerprint == HuggingFaceEncoder(vision, output="cls").fingerprint


def test_a_name_on_the_hub_needs_no_prefix():
    """As it stands on the model's page; it is not here, and nothing is fetched."""
    with pytest.raises(EncoderFault, match="'some-organization/some-model' cannot be loaded"):
        from_name("some-organization/some-model")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet", "hashing-text, hf:PLACE, hog, onnx:PLACE, pixels, text:PLACE"),
        ("", "hashing-text, hf:PLACE, hog, onnx:PLACE, pixels, text:PLACE"),
        (None, "hashing-text, hf:PLACE, hog, onnx:PLACE, pixels, text:PLACE"),
        ("onnx", "onnx:PLACE"),
        ("onnx:", "onnx:PLACE"),
        ("pixels:8", "pixels"),
        ("pixels?width=8", "options out of size, color"),
        ("pixels?size=big", "another value for size"),
        ("pixels?size=", "another value for size"),
    ],
)
def test_a_name_that_cannot_be_lists_the_choices(name, expected):
    """The command line prints this."""
    with pytest.raises(InvalidParameter) as caught:
        from_name(name)

    assert caught.value.expected == expected
    assert caught.value.remedy


def test_encoders_by_name_encode(tmp_path):
    """The whole way."""
    keys = from_name(f"onnx:{onnx_file(tmp_path)}?preprocess=unit&size=2").encode([np.ones((2, 2))])

    assert keys.tolist() == [[1.0, 1.0, 1.0]]
