"""A module of one's own: by layer, and left as it was found."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from recollect.encoders import TorchEncoder
from recollect.errors import EncoderFault, InputError, InvalidParameter

WHITE = np.full((4, 4, 3), 255, np.uint8)


@pytest.fixture
def module():
    """Sums the colors into one channel, then doubles it into two features."""
    first = torch.nn.Conv2d(3, 1, 1, bias=False)
    second = torch.nn.Conv2d(1, 2, 1, bias=False)
    torch.nn.init.ones_(first.weight)
    torch.nn.init.constant_(second.weight, 2.0)
    return torch.nn.Sequential(first, torch.nn.Dropout(0.5), second)


def test_the_output_of_the_module_is_the_key(module):
    """Three ones make 3, twice that is 6."""
    encoder = TorchEncoder(module, preprocess="unit", size=4)

    assert encoder.encode([WHITE, WHITE * 0]).tolist() == [[6.0, 6.0], [0.0, 0.0]]
    assert encoder.dim == 2


def test_a_layer_can_be_the_key(module):
    """The first layer gives 3."""
    encoder = TorchEncoder(module, "0", preprocess="unit", size=4)

    assert encoder.encode([WHITE]).tolist() == [[3.0]]


def test_layers_give_maps(module):
    """Several in one run."""
    encoder = TorchEncoder(module, preprocess="unit", size=(2, 4), maps=["0", "2"])

    maps = encoder.encode_maps([WHITE] * 3)

    assert {name: each.shape for name, each in maps.items()} == {
        "0": (3, 1, 2, 4),
        "2": (3, 2, 2, 4),
    }
    assert maps["0"][0, 0, 0, 0] == 3.0
    assert encoder.encode_maps([WHITE], ["1"])["1"].shape == (1, 1, 2, 4)


def test_tokens_are_averaged_or_the_first_is_taken():
    """Transformers give (n, tokens, dim)."""
    tokens = torch.nn.Flatten(2)
    red = np.zeros((1, 2, 3), np.uint8)
    red[..., 0] = 255

    mean = TorchEncoder(tokens, preprocess="unit", size=(1, 2)).encode([red])
    first = TorchEncoder(tokens, preprocess="unit", size=(1, 2), pooling="cls").encode([red])

    np.testing.assert_allclose(mean, [[1 / 3, 1 / 3]], rtol=1e-6)
    assert first.tolist() == [[1.0, 1.0]]


def test_native_size_keeps_each_pictures_own(module):
    """Pictures of several sizes have keys, and no common map."""
    encoder = TorchEncoder(module, preprocess="unit", size="native", maps=["0"])

    assert encoder.encode([WHITE, WHITE[:2]]).tolist() == [[6.0, 6.0], [6.0, 6.0]]
    with pytest.raises(InputError, match="several shapes in one batch"):
        encoder.encode_maps([WHITE, WHITE[:2]])


def test_the_module_is_left_as_it_was(module):
    """It may be in the middle of its training."""
    module.train()
    module[0].eval()
    encoder = TorchEncoder(module, "2", preprocess="unit", size=4)

    encoder.encode([WHITE])

    assert [each.training for each in module.modules()] == [True, False, True, True]
    assert [len(each._forward_hooks) for each in module.modules()] == [0, 0, 0, 0]
    assert module[0].weight.grad is None


def test_the_module_is_left_as_it_was_after_a_failure(module):
    """Hooks that stay would run in somebody's training."""
    encoder = TorchEncoder(module, "2", preprocess="unit", size=4)
    module.train()
    module[2] = torch.nn.Conv2d(7, 1, 1)

    with pytest.raises(EncoderFault, match="the module Sequential failed"):
        encoder.encode([WHITE])

    assert all(each.training for each in module.modules())
    assert [len(each._forward_hooks) for each in module.modules()] == [0, 0, 0, 0]


def test_a_batch_of_one_gives_the_same_bits_always():
    """For those who need it more than speed."""
    torch.manual_seed(0)
    deep = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64 * 36, 32)
    )
    pictures = list(np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8))
    encoder = TorchEncoder(deep, size=8, batch_size=1)

    alone = np.concatenate([encoder.encode([each]) for each in pictures])

    assert encoder.encode(pictures).tobytes() == alone.tobytes()


def test_training_changes_the_fingerprint(module):
    """The keys in the memory are of the old weights."""
    encoder = TorchEncoder(module, preprocess="unit", size=4)
    before = encoder.fingerprint

    with torch.no_grad():
        module[0].weight += 1

    assert encoder.fingerprint != before


def test_the_same_weights_have_the_same_fingerprint(module):
    """Another process loads them from a checkpoint."""
    other = copy.deepcopy(module)

    one, two = (TorchEncoder(each, preprocess="unit", size=4) for each in (module, other))

    assert one.fingerprint == two.fingerprint


def test_the_structure_is_part_of_the_fingerprint():
    """An activation has no weights, and yet changes every key."""
    one, two = (
        TorchEncoder(torch.nn.Sequential(each, torch.nn.Flatten()), size=2)
        for each in (torch.nn.ReLU(), torch.nn.Sigmoid())
    )

    assert one.fingerprint != two.fingerprint


def test_a_module_has_no_recipe(module):
    """Its code is nobody's file."""
    assert TorchEncoder(module, size=4).spec is None


def test_own_preprocessing_needs_a_name(module):
    """Two functions cannot be told apart in a fingerprint otherwise."""

    def halves(rgb):
        return rgb.transpose(2, 0, 1) / 510

    encoder = TorchEncoder(module, preprocess=halves, name="halves")

    assert encoder.encode([WHITE]).tolist() == [[3.0, 3.0]]
    assert encoder.fingerprint != TorchEncoder(module, preprocess=halves, name="other").fingerprint
    with pytest.raises(InvalidParameter, match="a function with a name="):
        TorchEncoder(module, preprocess=halves)


def test_an_unknown_layer_is_refused_with_those_there_are(module):
    """As named_modules() writes them."""
    with pytest.raises(EncoderFault, match=r"no layer 'layer4': expected 0, 1, 2"):
        TorchEncoder(module, "layer4")


def test_an_output_for_the_whole_batch_is_no_key():
    """A loss, for instance."""
    with pytest.raises(EncoderFault, match="cannot be made one vector an input"):
        TorchEncoder(torch.nn.Flatten(0), size=4)


def test_own_preprocessing_that_gives_several_shapes_is_at_fault(module):
    """An error of the tree, not of NumPy."""
    encoder = TorchEncoder(module, preprocess=lambda rgb: rgb.transpose(2, 0, 1), name="as it is")

    with pytest.raises(EncoderFault, match="the module Sequential failed"):
        encoder.encode([WHITE, WHITE[:2]])


def test_a_module_that_gives_no_tensor_is_refused():
    """Detection models give lists of dictionaries."""

    class Boxes(torch.nn.Module):
        def forward(self, images):
            return [{"boxes": images}]

    with pytest.raises(EncoderFault, match="the module gave no tensor"):
        TorchEncoder(Boxes(), size=4)


def test_maps_need_a_layer(module):
    """There is no guess about which."""
    with pytest.raises(InvalidParameter, match="at least one layer"):
        TorchEncoder(module, size=4).encode_maps([WHITE])


def test_an_unknown_option_is_refused(module):
    """A spelling mistake must not pass as a default."""
    with pytest.raises(InvalidParameter, match="the option 'interpolate'"):
        TorchEncoder(module, size=4, interpolate="bicubic")
