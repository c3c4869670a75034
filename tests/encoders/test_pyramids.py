"""Pyramids from maps and from plain statistics: which levels, which order, which numbers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from encoders.tiny_models import convnext, dinov2, swin

from recollect import DenseMemorySegmenter
from recollect.encoders import (
    HuggingFaceEncoder,
    LocalStatistics,
    MapPyramids,
    PyramidEncoder,
    TorchEncoder,
    from_spec,
)
from recollect.encoders.pyramids import MapEncoder, pooled_up
from recollect.errors import (
    DimensionMismatch,
    EncoderFault,
    InputError,
    InvalidParameter,
    NonFinite,
)

PICTURE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


class TwoMaps:
    """Means of squares of the red channel, as maps of several strides."""

    maps = ("fine", "coarse")
    fingerprint = "two-maps"
    spec = None

    def encode_maps(self, inputs, names=None):
        red = np.stack([each[..., 0] for each in inputs]).astype(np.float32)
        strides = {"fine": 2, "coarse": 4, "twin": 4, "wide": (2, 8), "tall": (8, 2)}
        return {name: pooled(red, strides[name]) for name in names}


def pooled(values, stride):
    down, across = (stride, stride) if isinstance(stride, int) else stride
    n, height, width = values.shape
    cells = values.reshape(n, height // down, down, width // across, across)
    return cells.mean(axis=(2, 4))[:, None]


def levels_of(encoder, *sources):
    return list(encoder.encode_pyramids([encoder.open(each) for each in sources]))


def test_maps_become_levels_with_channels_last_coarsest_first():
    """Whatever order the network names them in."""
    [levels] = levels_of(MapPyramids(TwoMaps()), PICTURE)

    assert [level.shape for level in levels] == [(2, 2, 1), (4, 4, 1)]
    assert levels[1][0, 0, 0] == PICTURE[:2, :2, 0].mean()


def test_maps_on_one_grid_lie_side_by_side():
    """Two maps of stride 4 are one level of two channels."""
    [levels] = levels_of(MapPyramids(TwoMaps(), ["coarse", "fine", "twin"]), PICTURE)

    assert [level.shape for level in levels] == [(2, 2, 2), (4, 4, 1)]


def test_a_single_grid_is_pooled_into_a_pyramid():
    """As the patches of a vision transformer: each level is the mean of 2 x 2 of the next."""
    [levels] = levels_of(MapPyramids(TwoMaps(), ["fine"], levels=3), PICTURE)

    assert [level.shape for level in levels] == [(1, 1, 1), (2, 2, 1), (4, 4, 1)]
    assert levels[0].item() == PICTURE[..., 0].mean()


def test_pooling_an_odd_side_averages_what_is_there():
    """The last cell of five has no partner."""
    [coarse, _] = pooled_up([np.array([[1.0], [3.0], [5.0]], np.float32)], 2)

    assert coarse[:, 0].tolist() == [2.0, 5.0]


def test_pictures_of_several_sizes_are_encoded_in_order():
    """Those of one size go through the network together."""
    wide = np.zeros((8, 16, 3), np.uint8)

    found = levels_of(MapPyramids(TwoMaps()), PICTURE, wide, PICTURE)

    assert [levels[1].shape for levels in found] == [(4, 4, 1), (4, 8, 1), (4, 4, 1)]
    assert np.array_equal(found[0][1], found[2][1])


def test_maps_that_do_not_grow_together_are_no_pyramid():
    """One is taller, the other wider: neither lies above the other."""
    with pytest.raises(EncoderFault, match="no pyramid"):
        levels_of(MapPyramids(TwoMaps(), ["wide", "tall"]), PICTURE)


@pytest.mark.parametrize(("maps", "levels"), [([], 1), (None, 0)])
def test_no_map_or_no_level_is_refused(maps, levels):
    """When the encoder is made, not when it is used."""
    with pytest.raises(InvalidParameter):
        MapPyramids(TwoMaps(), maps, levels=levels)


def test_what_gives_no_maps_is_refused():
    """A number is no network."""
    with pytest.raises(InvalidParameter):
        MapPyramids(3)


def test_fingerprints_tell_encoders_and_settings_apart():
    """A memory refuses pyramids of another encoder."""
    several = [
        MapPyramids(TwoMaps()), MapPyramids(TwoMaps(), ["fine"]), MapPyramids(TwoMaps(), levels=3),
        LocalStatistics(1), LocalStatistics(2), LocalStatistics(1, stride=4),
    ]  # fmt: skip

    assert len({each.fingerprint for each in several}) == len(several)
    assert MapPyramids(TwoMaps()).fingerprint == several[0].fingerprint
    assert copy.deepcopy(several[0]) is several[0]


def test_both_are_pyramid_encoders_and_no_map_encoders():
    """The heads tell them apart by what they promise."""
    assert isinstance(LocalStatistics(1), PyramidEncoder)
    assert isinstance(MapPyramids(TwoMaps()), PyramidEncoder)
    assert isinstance(TwoMaps(), MapEncoder)
    assert not isinstance(LocalStatistics(1), MapEncoder)


def test_an_encoder_of_maps_can_be_given_to_a_head_as_it_is():
    """It is wrapped; answers come at the size of the picture."""
    head = DenseMemorySegmenter(encoder=TwoMaps(), k=1, message_passing=None, position=9.0)
    mask = np.arange(64).reshape(8, 8) // 32

    assert np.array_equal(head.fit([PICTURE], [mask]).predict([PICTURE])[0], mask)


def test_statistics_halve_the_grid_from_level_to_level():
    """Strides 2 and 4 of a signal of 16; value, deviation and two derivatives at one scale."""
    encoder = LocalStatistics(1, levels=2, stride=2, scales=1)

    [levels] = levels_of(encoder, np.arange(16.0))

    assert [level.shape for level in levels] == [(4, 5), (8, 5)]
    assert (levels[0][:, 0] == 1).all()


@pytest.mark.parametrize(("axes", "per_scale"), [(1, 4), (2, 7), (3, 11)])
def test_statistics_count_first_and_second_derivatives_along_all_axes(axes, per_scale):
    """Value, deviation, first and second derivatives, mixed ones included; two channels."""
    encoder = LocalStatistics(axes, levels=1, stride=2, scales=2)

    [[level]] = levels_of(encoder, np.random.default_rng(0).normal(size=(8,) * axes + (2,)))

    assert level.shape == ((4,) * axes + (1 + 2 * 2 * per_scale,))


def test_statistics_do_not_see_brightness_or_contrast():
    """Every sample is scaled to mean 0 and deviation 1."""
    encoder, signal = LocalStatistics(1, levels=1), np.sin(np.arange(32.0))

    [[plain]], [[loud]] = levels_of(encoder, signal), levels_of(encoder, 7 * signal + 100)

    assert plain == pytest.approx(loud, abs=1e-4)


def test_a_flat_signal_has_finite_statistics():
    """Deviation 0 is not divided by."""
    [[level]] = levels_of(LocalStatistics(1, levels=1), np.full(16, 3.0))

    assert np.isfinite(level).all()


def test_a_rising_signal_has_a_positive_slope():
    """The derivative is in units of the scale, along the axis."""
    [[level]] = levels_of(LocalStatistics(1, levels=1, stride=4, scales=1), np.arange(64.0))

    assert (level[:, 3] > 0).all()


@pytest.mark.parametrize(
    ("source", "error"),
    [(np.ones(3), DimensionMismatch), (np.ones((2, 2, 2)), DimensionMismatch),
     ([1.0, np.nan] * 8, NonFinite), ("abc", InputError), ([[1.0], [1.0, 2.0]], InputError)],
    ids=["too short", "too many axes", "NaN", "text", "ragged"],
)  # fmt: skip
def test_a_sample_that_cannot_be_read_is_refused(source, error):
    """One error, of this library."""
    with pytest.raises(error):
        LocalStatistics(1, levels=2).open(source)


@pytest.mark.parametrize(
    "options", [{"axes": 4}, {"axes": 0}, {"axes": 1, "levels": 0}, {"axes": 1, "scales": 1.5}]
)
def test_options_of_statistics_out_of_range_are_refused(options):
    """When the encoder is made."""
    with pytest.raises(InvalidParameter):
        LocalStatistics(**options)


def test_statistics_can_be_built_again_from_their_recipe():
    """A durable memory keeps it."""
    encoder = LocalStatistics(3, levels=2, stride=3, scales=1)

    again = from_spec(encoder.spec)

    assert again.fingerprint == encoder.fingerprint
    assert repr(again) == repr(encoder)
    assert encoder.modality == "volume"


def test_a_recipe_with_a_value_that_cannot_be_is_refused():
    """It may come from anyone's file."""
    with pytest.raises(EncoderFault):
        from_spec(LocalStatistics(1).spec | {"axes": 9})


@pytest.mark.parametrize(
    ("model", "levels"),
    [(convnext, 1), (swin, 1), (dinov2, 3)],
    ids=["ConvNeXt stages", "Swin stages", "DINOv2 patches, pooled"],
)
def test_backbones_of_hugging_face_teach_and_answer(tmp_path, model, levels):
    """From stages, or from patches of one size; the memory remembers who made them."""
    encoder = MapPyramids(HuggingFaceEncoder(model(tmp_path)), levels=levels)
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8))
    masks = [np.arange(1024).reshape(32, 32) // 512, np.arange(1024).reshape(32, 32) % 2]

    head = DenseMemorySegmenter(encoder=encoder, k=2).fit(pictures, masks)

    assert head.predict(pictures).shape == (2, 32, 32)
    assert len(next(encoder.encode_pyramids(pictures[:1]))) >= 2
    assert head.memory_.encoder == encoder.fingerprint
    assert from_spec(head.memory_.encoder_spec).fingerprint == encoder.fingerprint


def test_layers_of_a_torch_module_are_levels():
    """Caught by hooks, which are gone afterwards."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 2, 2), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 2, 2)
    )
    encoder = MapPyramids(TorchEncoder(net, preprocess="unit", size=16, maps=["0", "2"]))

    [levels] = levels_of(encoder, PICTURE)

    assert [level.shape for level in levels] == [(4, 4, 5), (8, 8, 4)]
    assert encoder.spec is None
