"""Networks and language models that are trained in pieces come out as if trained at once."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import errors
from recollect.evaluation.checkpoints import import_torch
from recollect.evaluation.small_language import (
    TextRecipe,
    make_vocabulary,
    read_contexts,
    read_logits,
    read_sentences,
    to_tokens,
    train_language_model,
)
from recollect.evaluation.small_networks import Recipe, ask_network, build_network, train_network

pytest.importorskip("torch")

# Dark and bright pictures.
LABELS = np.tile([0, 1], 128)
IMAGES = np.broadcast_to((40 + 150 * LABELS)[:, None, None, None], (256, 8, 8, 3)).astype(np.uint8)
RECIPE = Recipe(8, epochs=3, rate=0.05, crop=8)
TEXT = np.tile(np.arange(5), 400)
TEXT_RECIPE = TextRecipe(words=5, width=8, epochs=3, rate=0.02, dropout=0.0)


def test_a_network_learns_to_tell_dark_from_bright(tmp_path):
    """Six n plus two layers, an embedding of 64 numbers, one logit a class."""
    network = train_network(IMAGES, LABELS, RECIPE, tmp_path / "net.npz")

    embedding, logits = ask_network(network, IMAGES)

    assert embedding.shape == (256, 64)
    assert (logits.argmax(axis=1) == LABELS).mean() > 0.9


def test_training_in_pieces_gives_the_network_of_training_at_once(tmp_path):
    """Each piece goes on where the last one stopped; no time, no epoch begun after the first."""
    whole = train_network(IMAGES, LABELS, RECIPE, tmp_path / "whole.npz")
    path = tmp_path / "pieces.npz"
    done = []

    pieces = None
    for _ in range(3):
        pieces = train_network(
            IMAGES, LABELS, RECIPE, path, minutes=1e-5, progress=lambda *told: done.append(told[0])
        )

    assert done == [1, 2, 3]
    assert ask_network(whole, IMAGES)[1].tolist() == ask_network(pieces, IMAGES)[1].tolist()


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    """It would give neither of the two networks."""
    train_network(IMAGES[:128], LABELS[:128], Recipe(8, 1, crop=8), tmp_path / "net.npz")

    with pytest.raises(errors.InvalidParameter, match="another recipe"):
        train_network(IMAGES, LABELS, RECIPE, tmp_path / "net.npz")


@pytest.mark.parametrize("depth", [7, 9, 2, 0])
def test_a_depth_that_no_such_network_has_is_refused(depth):
    """Three stages of n blocks of two layers, a first and a last one."""
    with pytest.raises(errors.InvalidParameter, match="no such depth"):
        Recipe(depth, 1)


def test_a_deeper_network_has_more_layers():
    """One convolution in the stem, six n in the stages."""
    torch = import_torch()

    def layers(depth):
        parts = build_network(depth, 10).modules()
        return sum(isinstance(each, torch.nn.Conv2d) for each in parts)

    assert [layers(8), layers(14), layers(20)] == [7, 13, 19]


def test_a_language_model_learns_to_count(tmp_path):
    """Each of five words follows from the one before it."""
    recipe = TextRecipe(words=5, width=8, epochs=60, rate=0.05, dropout=0.0)
    model = train_language_model(TEXT, recipe, tmp_path / "text.npz")

    states = read_contexts(model, TEXT[:50])

    assert states.shape == (50, 8)
    assert (read_logits(model, states[5:-1]).argmax(axis=1) == TEXT[6:50]).all()


def test_a_language_model_trained_in_pieces_is_the_same(tmp_path):
    """Weights, momentum and the schedule go on."""
    whole = train_language_model(TEXT, TEXT_RECIPE, tmp_path / "whole.npz")
    pieces = None
    for _ in range(3):
        pieces = train_language_model(TEXT, TEXT_RECIPE, tmp_path / "pieces.npz", minutes=1e-5)

    first, second = (read_contexts(model, TEXT[:9]) for model in (whole, pieces))
    assert first.tolist() == second.tolist()


def test_words_become_numbers_the_commonest_first(tmp_path):
    """Unknown words share number 0, sentences end with 1."""
    (tmp_path / "text.txt").write_text("The cat sat .\nthe dog ran .\n", encoding="utf-8")

    sentences = read_sentences(tmp_path / "text.txt")
    vocabulary = make_vocabulary(sentences, 4)

    assert vocabulary == ["<unk>", "<end>", ".", "the"]
    assert to_tokens(sentences, vocabulary).tolist() == [3, 0, 0, 2, 1, 3, 0, 0, 2, 1]
