"""Real pretrained models on real pictures and texts: what they are known for must come out."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow.parquet
import pytest
from places import data, models

from recollect.encoders import (
    HogEncoder,
    MapPyramids,
    OnnxEncoder,
    PixelEncoder,
    TextEncoder,
    from_spec,
)


def cifar(count):
    """Test pictures as JPEG bytes, and their labels."""
    rows = pyarrow.parquet.read_table(data("cifar10", "test.parquet")).slice(0, count)
    return rows["image"].to_pylist(), np.array(rows["label"].to_pylist())


def cifar_of(name, count):
    """Test pictures of one class."""
    filters = [("class_name", "=", name)]
    path = data("cifar10", "test.parquet")
    return pyarrow.parquet.read_table(path, filters=filters)["image"].to_pylist()[:count]


def unit(keys):
    return keys / np.linalg.norm(keys, axis=1, keepdims=True)


def nearest_label(keys, labels):
    """Label of each row's nearest other row."""
    similarity = unit(keys) @ unit(keys).T
    np.fill_diagonal(similarity, -np.inf)
    return labels[similarity.argmax(axis=1)]


@pytest.fixture(scope="module")
def mobilenet():
    return OnnxEncoder(
        models("mobilenet_v2_imagenet"),
        preprocess="mobilenet",
        size=96,
        resize="squash",
        interpolation="bicubic",
    )


def test_mobilenet_has_the_outputs_it_is_described_with(mobilenet):
    """1280 features, 1000 classes, maps at strides 2 to 32."""
    pictures, _ = cifar(3)

    outputs = mobilenet.encode_outputs(pictures, ["pooled", "logits", "map_s4", "map_s32_wide"])

    assert mobilenet.dim == 1280
    assert {name: each.shape for name, each in outputs.items()} == {
        "pooled": (3, 1280),
        "logits": (3, 1000),
        "map_s4": (3, 24, 24, 24),
        "map_s32_wide": (3, 1280, 3, 3),
    }
    assert outputs["pooled"].min() >= 0


def test_the_pooled_key_is_the_mean_of_the_last_map(mobilenet):
    """As the description says, so both outputs come out of one run rightly."""
    pictures, _ = cifar(4)

    keys = mobilenet.encode(pictures)
    maps = mobilenet.encode_maps(pictures, ["map_s32_wide"])["map_s32_wide"]

    np.testing.assert_allclose(maps.mean(axis=(2, 3)), keys, atol=1e-5)


def test_mobilenet_keys_are_the_same_bits_alone_and_in_a_batch(mobilenet):
    """Bit for bit, on real weights."""
    pictures, _ = cifar(8)

    alone = np.concatenate([mobilenet.encode([each]) for each in pictures])

    assert mobilenet.encode(pictures).tobytes() == alone.tobytes()


def test_mobilenet_calls_ships_ships(mobilenet):
    """Wrong colors, layout or scaling would scatter the thousand classes."""
    names = json.loads(models("mobilenet_v2_imagenet", "labels.json").read_text())

    logits = mobilenet.encode_outputs(cifar_of("ship", 40), ["logits"])["logits"]

    called = " ".join(names[each] for each in logits.argmax(axis=1)).lower()
    assert len(re.findall("ship|boat|liner|schooner|catamaran|yawl|trimaran|carrier", called)) > 10


def test_mobilenet_is_far_better_than_pixels(mobilenet):
    """Leave-one-out nearest neighbor among 400 pictures of ten classes."""
    pictures, labels = cifar(400)

    deep = (nearest_label(mobilenet.encode(pictures), labels) == labels).mean()
    hog = (nearest_label(HogEncoder().encode(pictures), labels) == labels).mean()
    pixels = (nearest_label(PixelEncoder().encode(pictures), labels) == labels).mean()

    assert deep > hog > pixels > 1 / len(set(labels))


def test_resnet20_classifies_its_own_data():
    """Trained on this data set: with wrong preprocessing it would be near one in ten."""
    encoder = OnnxEncoder(
        models("cifar10_resnet20"), output="logits", preprocess="imagenet", size=32, crop=1.0
    )
    pictures, labels = cifar(200)

    predicted = encoder.encode(pictures).argmax(axis=1)

    assert (predicted == labels).mean() > 0.6


def test_deeplab_gives_a_pyramid_at_its_own_sizes():
    """Sizes of the form 16 k + 1, wide pictures too."""
    encoder = OnnxEncoder(
        models("deeplabv3_mnv2_voc"),
        preprocess="mobilenet",
        size=(97, 129),
        resize="squash",
        maps=["map_s4", "map_s8", "map_s16"],
    )
    pictures, _ = cifar(2)

    maps = encoder.encode_maps(pictures)

    assert [each.shape for each in maps.values()] == [
        (2, 24, 25, 33),
        (2, 32, 13, 17),
        (2, 320, 7, 9),
    ]


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder(models("minilm_l6_text"))


def test_sentences_that_mean_the_same_are_near(minilm):
    """No word is shared by the first two."""
    a, b, c = minilm.encode(
        ["How do I get my money back?", "I want a refund.", "The cat sleeps on the warm roof."]
    )

    assert minilm.dim == 384
    assert a @ b > 0.5
    assert a @ c < 0.3
    np.testing.assert_allclose(np.linalg.norm([a, b, c], axis=1), 1.0, rtol=1e-5)


def test_sentence_keys_are_the_same_bits_alone_and_in_a_batch(minilm):
    """No padding, so no trace of the neighbors in the batch."""
    texts = ["a cat", "a photo of a very small cat on a large roof", "", "dog"]

    alone = np.concatenate([minilm.encode([each]) for each in texts])

    assert minilm.encode(texts).tobytes() == alone.tobytes()


def test_maps_of_both_networks_are_pyramids():
    """Named maps of the ImageNet network and of the segmentation network, at their own strides."""
    red = np.zeros((64, 96, 3), np.uint8)
    red[..., 0] = 200
    sizes = {
        "mobilenet_v2_imagenet": (["map_s32", "map_s16", "map_s8"], [(2, 3), (4, 6), (8, 12)]),
        "deeplabv3_mnv2_voc": (["map_s16_aspp", "map_s8"], [(4, 6), (8, 12)]),
    }
    for name, (maps, grids) in sizes.items():
        network = OnnxEncoder(
            models(name), preprocess="mobilenet", size="native", maps=maps,
            output=None if name.startswith("mobilenet") else "pooled",
        )  # fmt: skip
        encoder = MapPyramids(network)

        [levels] = encoder.encode_pyramids([encoder.open(red)])

        assert [level.shape[:2] for level in levels] == grids
        assert from_spec(encoder.spec).fingerprint == encoder.fingerprint
