"""A language model with a memory of contexts: base, ResMem and kNN-LM are one mechanism."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from recollect import errors
from recollect.heads.residual_memory.language import TextScore, TokenMemory, read_causal

# A cycle of three: the next token follows from the last one.
CYCLE = np.tile([0, 1, 2], 40)


def clueless(tokens):
    """A context is its last token; every next token is equally likely."""
    return tokens[:, None].astype(np.float32), np.zeros((len(tokens), 4), np.float32)


@pytest.mark.parametrize("entries", [0, 2, 16])
def test_a_memory_of_contexts_foretells_what_the_model_cannot(entries):
    """Perplexity four and a quarter right by chance; all right with the memory."""
    memory = TokenMemory(clueless, k=4, sigma=0.1, entries=entries, strength=0.9).teach(CYCLE)

    score = memory.score(CYCLE)

    assert score.accuracy == 1.0
    assert score.perplexity < 2.0
    assert len(memory) == 119


def test_without_strength_the_model_speaks_alone():
    """Perplexity four of four equally likely tokens."""
    memory = TokenMemory(clueless, entries=0, strength=0.9).teach(CYCLE)
    memory.head.set_params(strength=0.0)

    assert memory.score(CYCLE).perplexity == pytest.approx(4.0)


def test_labels_alone_mix_model_and_neighbors():
    """kNN-LM: a quarter of 0.1 from the model and 0.9 from the neighbors."""
    memory = TokenMemory(clueless, k=4, sigma=0.1, entries=0, strength=0.9).teach(CYCLE)

    np.testing.assert_allclose(memory.next_token([3, 0]), [0.025, 0.925, 0.025, 0.025], atol=1e-6)


def test_a_text_read_in_pieces_scores_as_in_one():
    """Each piece is begun some tokens early, so that its contexts have a past."""

    def counting(tokens):
        """A context is the sum of its last two tokens."""
        before = np.concatenate([[0], tokens[:-1]])
        return (tokens + 10.0 * before)[:, None], np.zeros((len(tokens), 4), np.float32)

    whole = TokenMemory(counting, k=1, piece=1000).teach(CYCLE)
    pieces = TokenMemory(counting, k=1, piece=7, reach=1).teach(CYCLE)

    assert np.array_equal(whole.head.memory_.rows().keys, pieces.head.memory_.rows().keys)
    expected = whole.score(CYCLE[:50]).log_likelihood
    assert pieces.score(CYCLE[:50]).log_likelihood.tolist() == expected.tolist()


def test_a_text_can_be_forgotten_by_its_source():
    """Its contexts answer no more."""
    memory = TokenMemory(clueless, k=3, entries=0, strength=0.9)
    memory.teach([0, 1, 0, 1], source="first").teach([0, 2, 0, 2], source="second")

    memory.forget(memory.head.memory_.remove(where="source = 'second'")[:0])

    assert memory.next_token([0]).argmax() == 1
    assert len(memory) == 3


def test_settings_are_chosen_on_another_text():
    """By the log likelihood; what helps nothing is turned off."""
    memory = TokenMemory(clueless, k=2, entries=16).teach(CYCLE)

    report = memory.tune(np.tile([0, 1, 2], 20), grid={"k": [1, 4]})

    assert report.active
    assert memory.score(CYCLE).perplexity < 1.2
    assert report.scoring == "log_loss"


def test_labels_alone_are_never_mixed_so_much_that_a_token_becomes_impossible():
    """A strength of 1 would leave the model out."""
    memory = TokenMemory(clueless, entries=0).teach(CYCLE)

    memory.tune(CYCLE[:30], grid={"k": [1], "sigma": [1.0], "strength": [0.5, 1.0]})

    assert memory.head.strength == 0.5


def test_an_explanation_names_the_contexts():
    """Each says which token followed it."""
    memory = TokenMemory(clueless, k=2, sigma=0.1, entries=0).teach([0, 1, 0, 1, 0])

    why = memory.explain([0])

    assert why.prediction == 1
    assert {row.value for row in why.evidence} == {1}


def test_a_score_says_perplexity_and_accuracy():
    """Likelihoods of one half and one eighth: perplexity four."""
    score = TextScore(2, np.log([0.5, 0.125]), np.array([True, False]))

    assert score.perplexity == pytest.approx(4.0)
    assert score.accuracy == 0.5
    assert math.log(score.perplexity) == pytest.approx(-score.log_likelihood.mean())


def test_a_hugging_face_model_is_read_by_its_hidden_states():
    """Of one sequence, the layer asked for, and the logits."""
    torch = pytest.importorskip("torch")

    class Tiny(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(4, 3)

        def forward(self, input_ids, output_hidden_states):
            assert output_hidden_states
            states = self.embed(input_ids)
            return SimpleNamespace(hidden_states=(states, 2 * states), logits=states @ states[0].T)

    model = Tiny()
    embedding, logits = read_causal(model)(np.array([1, 3]))

    expected = 2 * model.embed.weight.detach().numpy()[[1, 3]]
    np.testing.assert_allclose(embedding, expected, rtol=1e-6)
    assert logits.shape == (2, 2)


@pytest.mark.parametrize(
    ("tokens", "kind"),
    [
        ([0], errors.EmptyBatch),
        ([0.5, 1.5], errors.InputError),
        ([[0, 1]], errors.InputError),
        ([0, -1], errors.InputError),
        ([0, 4], errors.InputError),
    ],
    ids=str,
)
def test_what_is_no_text_is_refused(tokens, kind):
    """Too short, no whole numbers, or not in the vocabulary of four."""
    with pytest.raises(kind):
        TokenMemory(clueless).teach(tokens)


def test_a_model_that_answers_for_some_tokens_only_is_refused():
    """Row t stands for the context that ends with token t."""
    with pytest.raises(errors.LengthMismatch, match="every token"):
        TokenMemory(lambda tokens: clueless(tokens[1:])).teach(CYCLE)


def test_what_is_no_model_is_refused():
    """And a head of tokens is not asked for anything else."""
    with pytest.raises(errors.InvalidParameter, match="no language model"):
        TokenMemory("gpt")
    memory = TokenMemory(clueless).teach(CYCLE)
    with pytest.raises(errors.InvalidParameter, match="asked with tokens"):
        memory.head.predict([[0.0]])
