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


def test_a_text_with_an_unknown_token_leaves_nothing_behind():
    """Pieces before it were written, and stayed."""
    text = np.tile([0, 1, 2], 20)
    text[40] = 7
    memory = TokenMemory(clueless, k=4, entries=0, piece=8)

    with pytest.raises(errors.InputError, match="vocabulary"):
        memory.teach(text)

    assert len(memory) == 0
    taught = memory.teach(CYCLE)
    version = taught.head.memory_.version
    with pytest.raises(errors.InputError, match="vocabulary"):
        taught.teach(text)
    assert taught.head.memory_.version == version


def test_a_model_that_fails_in_a_later_piece_leaves_nothing_behind():
    """All contexts are read before one is written, and then in one version."""

    def short(tokens):
        if len(tokens) > 8 + 2 and tokens[-1] == 1:
            raise IndexError("too far")
        return clueless(tokens)

    memory = TokenMemory(short, k=4, entries=0, piece=9, reach=2)

    with pytest.raises(errors.InputError, match="language model does not answer"):
        memory.teach(np.tile([0, 1, 2, 0], 20))

    assert len(memory) == 0


@pytest.mark.parametrize("entries", [0, 2])
def test_a_text_is_taught_in_one_version(entries):
    """Whole, or not at all."""
    memory = TokenMemory(clueless, k=4, entries=entries, piece=8).teach(CYCLE)

    assert len(memory) == 119
    assert memory.teach(CYCLE).head.memory_.version == memory.head.memory_.version
    assert [each.operation for each in memory.head.memory_.versions()].count("add") == 2


def test_every_question_judges_all_its_tokens():
    """The last token of a text, too, which only foretells."""
    memory = TokenMemory(clueless, k=4, entries=0).teach(CYCLE)

    for ask in (memory.tune, memory.next_token, memory.explain, memory.score, memory.teach):
        with pytest.raises(errors.InputError, match="vocabulary"):
            ask([0, 1, 7])


@pytest.mark.parametrize(
    "tokens", [[[1], [2, 3]], np.array([1, 2**63 + 1], np.uint64), [1, 2**70], [-1, 0]]
)
def test_what_holds_no_tokens_is_refused(tokens):
    """Lists of other lengths, and numbers that int64 cannot hold."""
    with pytest.raises(errors.InputError):
        TokenMemory(clueless).teach(tokens)


@pytest.mark.parametrize(
    "options", [{"piece": "8"}, {"piece": math.nan}, {"piece": 1.5}, {"piece": 0}, {"reach": None}]
)
def test_a_piece_is_a_whole_number(options):
    """Of tokens."""
    with pytest.raises(errors.InvalidParameter, match="out of range"):
        TokenMemory(clueless, **options)


@pytest.mark.parametrize("said", [None, np.zeros((5, 2)), (1, 2, 3)])
def test_a_model_that_does_not_return_a_pair_is_refused(said):
    """Embeddings and logits."""
    with pytest.raises(errors.InvalidParameter, match="no language model"):
        TokenMemory(lambda _: said).teach([0, 1, 2])


def test_a_model_that_changes_the_width_of_its_answers_is_refused():
    """Between two pieces of one text."""

    def widening(tokens):
        return np.zeros((len(tokens), 1 + (tokens[0] == 2))), np.zeros((len(tokens), 4))

    with pytest.raises(errors.DimensionMismatch, match="width"):
        TokenMemory(widening, piece=2, reach=0).teach([0, 1, 2, 0, 1])


@pytest.mark.parametrize(("limit", "piece", "reach"), [(100, 50, 50), (200, 136, 64), (1, 1, 0)])
def test_pieces_are_no_longer_than_the_model_takes(limit, piece, reach):
    """A piece and what is read before it fit the positions that a model knows."""
    torch = pytest.importorskip("torch")

    class Positions(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = SimpleNamespace(n_positions=limit)
            self.place = torch.nn.Embedding(limit, 4)

        def forward(self, input_ids, output_hidden_states):
            assert output_hidden_states
            states = self.place(torch.arange(input_ids.shape[1]))[None]
            return SimpleNamespace(hidden_states=(states,), logits=states)

    memory = TokenMemory(read_causal(Positions()), k=1)

    assert (memory.piece, memory.reach) == (piece, reach)
    assert len(memory.teach(np.tile([0, 1, 2], 70))) == 209


@pytest.mark.parametrize(
    ("entries", "grid", "words"),
    [
        (16, "k", "grid cannot be read"),
        (0, {"strength": ["a"]}, "strength is out of range"),
        (0, {"strength": [1.0]}, "next tokens alone .* this strength: .* below 1, got 1"),
        (0, {"temperature": [3.0]}, "next tokens alone .* this temperature: .* 1 alone, got 3"),
        (16, {"rule": [1]}, "no use for 'rule'"),
        (16, {"k": [-1]}, "k is out of range"),
    ],
    ids=str,
)
def test_a_grid_is_judged_before_a_text_is_read(entries, grid, words):
    """Some ended in errors of Python, one said 'got ()', one was dropped without a word."""
    memory = TokenMemory(clueless, entries=entries, k=4).teach(CYCLE)
    memory.model = lambda _tokens: pytest.fail("the text was read")

    with pytest.raises(errors.InvalidParameter, match=words):
        memory.tune(CYCLE, grid=grid)
    assert memory.head.k == 4
