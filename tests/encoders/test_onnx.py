"""ONNX models: outputs by name, maps, preprocessing, and models that are something else."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from encoders.tiny_models import onnx_file
from encoders.tiny_onnx import (
    IMAGE,
    INT64,
    attribute,
    constant,
    external,
    mean_color,
    model,
    node,
    value,
)

from recollect.encoders import OnnxEncoder, from_spec
from recollect.errors import BadImage, EncoderFault, EncoderMismatch, InputError, InvalidParameter

RED = np.zeros((4, 4, 3), np.uint8)
RED[..., 0] = 255
HALVES = np.zeros((4, 8, 3), np.uint8)
HALVES[:, 4:] = 255


@pytest.fixture
def encoder(tmp_path):
    return OnnxEncoder(onnx_file(tmp_path), preprocess="unit", size=2)


def test_the_key_is_the_output_called_pooled(encoder):
    """The mean color of a red picture is red."""
    assert encoder.encode([RED, RED * 0]).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert encoder.dim == 3


def test_a_folder_stands_for_its_model(tmp_path, encoder):
    """As models are handed around: a folder with a README, labels and the model."""
    assert OnnxEncoder(tmp_path, preprocess="unit", size=2).fingerprint == encoder.fingerprint


def test_another_output_can_be_the_key(tmp_path):
    """Logits, or an earlier layer."""
    encoder = OnnxEncoder(onnx_file(tmp_path), output="negative", preprocess="unit", size=2)

    assert encoder.encode([RED]).tolist() == [[-1.0, 0.0, 0.0]]


def test_a_map_as_key_is_averaged(tmp_path):
    """Global average pooling, which most networks end with anyway."""
    encoder = OnnxEncoder(onnx_file(tmp_path), output="map", preprocess="unit", size=2)

    assert encoder.encode([RED]).tolist() == [[1.0, 0.0, 0.0]]
    assert encoder.dim == 3


def test_several_outputs_come_from_one_run(encoder):
    """Features and class scores of ten thousand pictures, for the price of one pass."""
    outputs = encoder.encode_outputs([RED, RED], ["negative", "pooled"])

    assert list(outputs) == ["negative", "pooled"]
    assert outputs["negative"].tolist() == [[-1.0, 0.0, 0.0]] * 2
    assert outputs["pooled"].tolist() == [[1.0, 0.0, 0.0]] * 2


def test_maps_are_the_outputs_with_four_sides(encoder):
    """Dense prediction reads cells."""
    maps = encoder.encode_maps([RED, RED])

    assert encoder.maps == ("map",)
    assert maps["map"].shape == (2, 3, 2, 2)
    assert maps["map"][0, 0].tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_maps_are_part_of_the_fingerprint(tmp_path):
    """A pyramid memory keeps cells of these maps and of no others."""
    path = onnx_file(tmp_path)

    assert OnnxEncoder(path, maps=()).fingerprint != OnnxEncoder(path, maps=["map"]).fingerprint


def test_native_size_keeps_each_pictures_own(tmp_path):
    """Street scenes are not square."""
    encoder = OnnxEncoder(onnx_file(tmp_path), preprocess="unit", size="native")

    assert encoder.encode([RED, HALVES]).tolist() == [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5]]
    assert encoder.encode_maps([HALVES])["map"].shape == (1, 3, 4, 8)
    with pytest.raises(InputError, match="several shapes in one batch"):
        encoder.encode_maps([RED, HALVES])


def test_a_model_with_a_size_of_its_own_prescribes_it(tmp_path):
    """Most exported models do."""
    path = onnx_file(tmp_path, mean_color(shape=(1, 3, 6, 8)))
    encoder = OnnxEncoder(path, preprocess="unit", batch_size=None)

    assert encoder.preprocessing.size == (6, 8)
    assert encoder.encode([RED, RED]).shape == (2, 3)
    with pytest.raises(InvalidParameter, match=r"expected \(6, 8\), which the model prescribes"):
        OnnxEncoder(path, size=32)
    with pytest.raises(InvalidParameter, match="batch_size"):
        OnnxEncoder(path, batch_size=4)


def test_channels_last_models_get_channels_last(tmp_path):
    """Models from TensorFlow."""
    content = model(
        [
            node("ReduceMean", ["image"], ["mean"], attribute("axes", [1, 2])),
            node("Flatten", ["mean"], ["pooled"]),
        ],
        [value("image", ("N", "H", "W", 3))],
        [value("pooled", ("N", 3))],
    )
    encoder = OnnxEncoder(onnx_file(tmp_path, content), preprocess="unit", layout="NHWC", size=2)

    assert encoder.encode([RED]).tolist() == [[1.0, 0.0, 0.0]]


def test_own_mean_and_scale_are_in_units_of_pixels(tmp_path):
    """(255 - 55) / 100 = 2."""
    encoder = OnnxEncoder(onnx_file(tmp_path), preprocess="raw", mean=55, scale=100, size=2)

    np.testing.assert_allclose(encoder.encode([RED]), [[2.0, -0.55, -0.55]], rtol=1e-6)


def test_the_same_file_elsewhere_is_the_same_encoder(tmp_path):
    """Models move; their bytes do not change."""
    one, other = (OnnxEncoder(onnx_file(tmp_path / each), size=8) for each in "ab")

    assert one.fingerprint == other.fingerprint
    assert one.spec != other.spec


def test_threads_and_batches_are_no_part_of_the_fingerprint(tmp_path, encoder):
    """A memory moves to a larger machine."""
    path = onnx_file(tmp_path)
    other = OnnxEncoder(path, preprocess="unit", size=2, threads=1, batch_size=8)

    assert other.fingerprint == encoder.fingerprint
    assert other.encode([RED] * 9).tolist() == encoder.encode([RED] * 9).tolist()


def test_a_changed_file_is_refused_by_the_recipe(tmp_path, encoder):
    """Somebody updated the model in place."""
    onnx_file(tmp_path, mean_color(shape=("N", 3, "H", 4)))

    with pytest.raises(EncoderMismatch, match="has changed: expected SHA-256") as caught:
        from_spec(encoder.spec)

    assert "encode everything anew" in caught.value.remedy


def test_copies_and_worker_processes_get_the_same_encoder(encoder):
    """scikit-learn copies the parameters of its estimators, joblib sends them away."""
    sent = pickle.loads(pickle.dumps(encoder))  # noqa: S301 - our own bytes

    assert copy.deepcopy(encoder) is encoder
    assert sent.fingerprint == encoder.fingerprint


def test_a_bad_picture_is_raised_with_its_path(encoder, tmp_path):
    """Also where many are decoded at once."""
    with pytest.raises(BadImage, match=r"nowhere\.png"):
        encoder.encode([RED, tmp_path / "nowhere.png"])
    with pytest.raises(BadImage, match=r"nowhere\.png"):
        encoder.encode_maps([RED, tmp_path / "nowhere.png"])


@pytest.mark.parametrize(
    "options",
    [
        {"output": "nothing"},
        {"maps": ["pooled"]},
        {"pooling": "max"},
        {"preprocess": "resnet"},
        {"providers": ["AbacusExecutionProvider"]},
        {"providers": []},
        {"threads": 0},
        {"batch_size": 1.5},
        {"size": "native", "batch_size": 2},
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options):
    """When the encoder is made; the message lists what there is."""
    with pytest.raises(InvalidParameter) as caught:
        OnnxEncoder(onnx_file(tmp_path), **options)

    assert caught.value.expected


def test_an_unknown_output_is_refused_with_those_there_are(encoder):
    """A wrong name would otherwise be an error of the runtime."""
    with pytest.raises(InvalidParameter, match="some of pooled, negative, map"):
        encoder.encode_outputs([RED], ["softmax"])
    with pytest.raises(InvalidParameter, match="some of pooled, negative, map"):
        encoder.encode_outputs([RED], [])


def test_an_ambiguous_output_must_be_named(tmp_path):
    """Any choice would be a guess."""
    content = model(
        [node("Neg", ["image"], ["a"]), node("Abs", ["image"], ["b"])],
        [IMAGE],
        [value("a", ("N", 3, "H", "W")), value("b", ("N", 3, "H", "W"))],
    )

    with pytest.raises(InvalidParameter, match="expected one of a, b"):
        OnnxEncoder(onnx_file(tmp_path, content))


def test_a_model_without_maps_says_so(tmp_path):
    """The remedy is an export with more outputs."""
    content = model(
        [
            node("ReduceMean", ["image"], ["mean"], attribute("axes", [2, 3])),
            node("Flatten", ["mean"], ["pooled"]),
        ],
        [IMAGE],
        [value("pooled", ("N", 3))],
    )
    encoder = OnnxEncoder(onnx_file(tmp_path, content), size=4)

    with pytest.raises(EncoderFault, match="gives no feature maps"):
        encoder.encode_maps([RED])


def test_a_model_that_gives_nan_is_at_fault(tmp_path):
    """The logarithm of minus one."""
    content = model(
        [
            node("Log", ["image"], ["log"]),
            node("ReduceMean", ["log"], ["mean"], attribute("axes", [2, 3])),
            node("Flatten", ["mean"], ["pooled"]),
        ],
        [IMAGE],
        [value("pooled", ("N", 3))],
    )
    encoder = OnnxEncoder(onnx_file(tmp_path, content), preprocess="imagenet", size=4)

    with pytest.raises(EncoderFault, match="got NaN or infinity"):
        encoder.encode([RED])


def test_a_model_that_fails_on_its_input_is_at_fault(tmp_path):
    """The error of the runtime arrives as one of ours."""
    content = model(
        [node("Reshape", ["image", "shape"], ["pooled"])],
        [IMAGE],
        [value("pooled", ("N", 7))],
        [constant("shape", np.array([1, 7]))],
    )
    encoder = OnnxEncoder(onnx_file(tmp_path, content), size=4)

    with pytest.raises(EncoderFault, match=r"failed: expected inputs of shape \(1, 3, 4, 4\)"):
        encoder.encode([RED])


@pytest.mark.parametrize(
    ("inputs", "got"),
    [
        ([value("a", ("N", "L"))], "a tensor"),
        ([value("a", ("N", 3, "H", "W"), INT64)], "a tensor"),
        ([value("a", ("N", 3, "H", "W")), IMAGE], "a tensor.*image tensor"),
    ],
)
def test_a_model_of_something_else_is_refused(tmp_path, inputs, got):
    """Text models, models with two inputs."""
    content = model([node("Shape", ["a"], ["pooled"])], inputs, [value("pooled", ("N",), INT64)])

    with pytest.raises(EncoderFault, match=f"one input tensor.*got {got}"):
        OnnxEncoder(onnx_file(tmp_path, content))


def test_a_model_of_grey_pictures_is_refused(tmp_path):
    """Three channels would fail at the first picture."""
    content = mean_color(shape=("N", 1, 28, 28))

    with pytest.raises(EncoderFault, match="3 color channels"):
        OnnxEncoder(onnx_file(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path):
    """With the path that was looked for."""
    with pytest.raises(EncoderFault, match=r"model\.onnx' cannot be read.*no such file"):
        OnnxEncoder(tmp_path / "model.onnx")


def test_weights_in_other_files_are_refused(tmp_path, monkeypatch):
    """The fingerprint could not vouch for them, and the path could lead anywhere."""
    monkeypatch.chdir(tmp_path)
    np.ones(3, "<f4").tofile(tmp_path / "weights.bin")
    content = model(
        [
            node("ReduceMean", ["image"], ["mean"], attribute("axes", [2, 3])),
            node("Flatten", ["mean"], ["flat"]),
            node("Add", ["flat", "weights"], ["pooled"]),
        ],
        [IMAGE],
        [value("pooled", ("N", 3))],
        [external("weights", (3,), "weights.bin")],
    )

    with pytest.raises(EncoderFault, match="cannot be loaded") as caught:
        OnnxEncoder(onnx_file(tmp_path, content))

    assert "with its weights inside" in caught.value.remedy
