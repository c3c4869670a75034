"""The network: trained a little, recorded exactly, refused when it does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recollect import LookupClassifier
from recollect.errors import InvalidParameter, LengthMismatch
from recollect.heads.lookup import examples
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.recurrent_attention import RecurrentAttention
from recollect.heads.lookup.teaching import run_images, train_network

SMALL = Recipe(
    glimpse=2, patches=2, cells=(2, 4), state=8, epochs=6, batch=20, bank=40, rate=0.01, shift=0
)


def noisy(count):
    images, labels = examples.bars(count)
    random = np.random.default_rng(0)
    return np.minimum(images + random.integers(0, 60, images.shape), 255).astype(np.uint8), labels


def test_a_run_alone_has_the_bits_of_a_run_in_a_batch():
    """Sums are exact, so recording some images never changes the runs of others."""
    layout = Layout(side=8, glimpses=3, state=64, classes=3, cells=(1, 2, 3))
    torch.manual_seed(0)
    network = RecurrentAttention(layout).network()
    images, _ = noisy(30)
    whole = run_images(network, images)

    alone = run_images(network, images[7:8])

    assert np.array_equal(alone.keys[0], whole.keys[7])
    assert np.array_equal(alone.states[0], whole.states[7])


def test_the_arrays_compute_what_torch_computes():
    """Up to rounding: the same class scores decide."""
    layout = Layout(side=8, glimpses=2, state=16, classes=3, cells=(1, 2, 3), h_bits=0)
    torch.manual_seed(0)
    model = RecurrentAttention(layout)
    state = np.random.default_rng(0).random((5, 16)).astype(np.float32)
    phi = np.random.default_rng(1).integers(0, 4, (5, 48))
    places = np.array([[0, 8], [1, 2], [3, 4], [5, 6], [8, 8]])

    following, _ = model.network().step(np.concatenate([state, places], axis=1), phi)

    with torch.no_grad():
        here = torch.from_numpy(2 * places / 8 - 1).float()
        raw = model.step(torch.from_numpy(state), here, torch.from_numpy(phi / 3).float())
    assert np.abs(following[:, :-2] - raw.clamp(0, 1).numpy()).max() < 1e-3


@pytest.mark.parametrize("rounded", [True, False])
def test_training_learns_bars(rounded):
    """Across or down, with REINFORCE, straight-through rounding and rehearsal."""
    images, labels = noisy(200)

    network = train_network(
        images, labels, glimpses=2, recipe=replace(SMALL, rounded=rounded, epochs=12)
    )

    codes = run_images(network, images).answers[:, -1]
    assert (np.array(network.labels)[codes] == labels).mean() > 0.9


def test_training_is_the_same_every_time():
    """Seeded, and the global generator is left alone."""
    images, labels = noisy(80)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()

    two = [train_network(images, labels, glimpses=2, recipe=SMALL) for _ in range(2)]

    assert two[0].fingerprint == two[1].fingerprint
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_seed_trains_another_network():
    """The seed is used."""
    images, labels = noisy(80)

    two = [train_network(images, labels, glimpses=2, recipe=SMALL, seed=s) for s in range(2)]

    assert two[0].fingerprint != two[1].fingerprint


def test_the_classifier_trains_records_and_answers():
    """The whole way, weights chosen on images set aside."""
    images, labels = noisy(240)
    seen = []

    taught = LookupClassifier(glimpses=2, recipe=SMALL).fit(
        images[:200], labels[:200], progress=lambda done, total: seen.append((done, total))
    )

    assert (taught.predict(images[200:]) == labels[200:]).mean() > 0.8
    assert seen[-1][0] == seen[-1][1] == len(seen)


def test_the_published_recipe_rounds_after_training():
    """Powers of four, REINFORCE alone."""
    recipe = Recipe.published()

    assert (recipe.cells, recipe.scale, recipe.rounded, recipe.slope) == (None, 4, False, 0)


def test_images_of_one_gray_value_are_refused():
    """Nothing can be told apart (hi = lo)."""
    with pytest.raises(InvalidParameter, match="range of pixel values"):
        train_network(np.full((4, 8, 8), 7, np.uint8), [0, 1, 0, 1], recipe=SMALL)


def test_a_label_too_few_is_refused():
    """Before a network is made."""
    with pytest.raises(LengthMismatch):
        train_network(noisy(4)[0], [0, 1], recipe=SMALL)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch": 1.5}, {"flips": 2.0}, {"rate": 0.0}, {"spread": 0.0}, {"bank": 0}],
    ids=str,
)
def test_recipes_out_of_range_are_refused(wrong):
    """When made, not hours later."""
    with pytest.raises(InvalidParameter):
        Recipe(**wrong)


@pytest.mark.parametrize("layer", ["fc1.weight", "loc2.weight", "h2h.weight"])
def test_weights_that_do_not_fit_are_refused(layer):
    """A missing layer, one of another width, one with NaN."""
    network = examples.network()
    weights = dict(network.weights)
    with pytest.raises(InvalidParameter, match="layer"):
        Network(network.layout, {**weights, layer: np.zeros((3, 99))})
    with pytest.raises(InvalidParameter, match="layer"):
        Network(network.layout, {**weights, layer: weights[layer] * np.nan})
    del weights[layer]
    with pytest.raises(InvalidParameter, match="layer"):
        Network(network.layout, weights)
