"""A small word-level LSTM, trained here from a seed, in pieces: the base of the text study.

One recurrent layer whose output is compared with the embedding of every word (tied weights, Press
and Wolf 2017). The embedding of a context is the layer's last state, the vector from which the
logits are computed.
"""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.evaluation.checkpoints import import_torch, resume, train
from recollect.types import Floats, Ids

UNKNOWN, END = "<unk>", "<end>"
STREAMS, STEPS = 32, 35


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """How a language model is trained.

    Attributes:
        words: Size of the vocabulary, with ``<unk>`` and ``<end>``.
        width: Of the embedding and of the recurrent state.
        epochs: Passes over the text.
        seed: Of the weights and the dropout.
        rate: Highest learning rate; it falls to nothing along a cosine.
        dropout: Share of numbers left out while learning.
    """

    words: int = 8000
    width: int = 160
    epochs: int = 4
    seed: int = 0
    rate: float = 3e-3
    dropout: float = 0.2


def read_sentences(path: Path) -> list[list[str]]:
    """Read one sentence a line, tokens split by spaces, in lower case; ``.gz`` is unpacked."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    return [line.lower().split() for line in text.splitlines()]


def make_vocabulary(sentences: Iterable[list[str]], words: int) -> list[str]:
    """The commonest words, ``<unk>`` and ``<end>`` first; of equal count the earlier in order."""
    counts = Counter(word for sentence in sentences for word in sentence)
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: words - 2]
    return [UNKNOWN, END, *(word for word, _ in common)]


def to_tokens(sentences: Iterable[list[str]], vocabulary: list[str]) -> Ids:
    """Text as one row of word numbers, ``<end>`` after every sentence."""
    number = {word: place for place, word in enumerate(vocabulary)}
    return np.array(
        [number.get(word, 0) for sentence in sentences for word in [*sentence, END]], np.int64
    )


def build_language_model(words: int, width: int, dropout: float) -> Any:
    """Return an untrained model: tokens ``(n, t)`` and a state to states ``(n, t, width)``."""
    torch = import_torch()

    class LanguageModel(torch.nn.Module):  # type: ignore[misc, name-defined]
        """One LSTM; its output layer is the embedding of the words once more."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(words, width)
            torch.nn.init.normal_(self.embed.weight, std=width**-0.5)
            self.recur = torch.nn.LSTM(width, width, batch_first=True)
            self.drop = torch.nn.Dropout(dropout)
            self.bias = torch.nn.Parameter(torch.zeros(words))

        def forward(self, tokens: Any, state: Any = None) -> tuple[Any, Any]:
            """States as the LSTM gives them; their dropout comes in :meth:`logits`."""
            states, state = self.recur(self.drop(self.embed(tokens)), state)
            return states, state

        def logits(self, states: Any) -> Any:
            """Score every word as the next one after states."""
            return self.drop(states) @ self.embed.weight.T + self.bias

    return LanguageModel()


def train_language_model(
    tokens: Ids,
    recipe: TextRecipe,
    checkpoint: Path,
    *,
    minutes: float = math.inf,
    progress: Callable[[int, float, float], object] | None = None,
) -> Any:
    """Train a model, or go on with one that was begun; None if the time ran out before the end.

    Args:
        tokens: int64 ``(n,)`` in [0, words).
        recipe: How.
        checkpoint: ``.npz`` file with the weights of the last whole epoch.
        minutes: After which no further epoch is begun.
        progress: Called as ``progress(epochs done, mean loss, seconds)`` after every epoch.
    """
    torch = import_torch()
    torch.manual_seed(recipe.seed)
    model = build_language_model(recipe.words, recipe.width, recipe.dropout)
    teacher = torch.optim.Adam(model.parameters(), recipe.rate)

    def epoch(number: int) -> float:
        """Seeded by its number, so that what is dropped does not depend on where a run began."""
        torch.manual_seed((recipe.seed << 16) + number)
        return _epoch(model, teacher, tokens, recipe, number)

    return train(model, teacher, checkpoint, recipe, epoch, minutes=minutes, progress=progress)


def unfinished(recipe: TextRecipe, checkpoint: Path) -> tuple[Any, int]:
    """Return the model as far as it was trained, and how many epochs that are; 0 without a file."""
    torch = import_torch()
    model = build_language_model(recipe.words, recipe.width, recipe.dropout)
    done = resume(model, torch.optim.Adam(model.parameters()), checkpoint, recipe)
    return model.eval(), done


def read_contexts(model: Any, tokens: Ids, *, reach: int = 64) -> Floats:
    """Return the state after every token, float32 ``(n, width)``.

    The text is read in pieces of some thousand tokens, each begun ``reach`` tokens early, so that
    a state depends on its own past alone and not on how the text was cut.
    """
    torch = import_torch()
    piece, parts = 4096, []
    with torch.inference_mode():
        for start in range(0, len(tokens), piece):
            early = max(0, start - reach)
            states, _ = model(torch.from_numpy(tokens[None, early : start + piece]))
            parts.append(states[0, start - early :].numpy())
    return np.concatenate(parts)


def read_logits(model: Any, states: Floats) -> Floats:
    """Return logits float32 ``(n, words)`` of states."""
    torch = import_torch()
    with torch.inference_mode():
        logits: Floats = model.logits(torch.from_numpy(np.ascontiguousarray(states))).numpy()
    return logits


def _epoch(model: Any, teacher: Any, tokens: Ids, recipe: TextRecipe, epoch: int) -> float:
    torch = import_torch()
    model.train()
    streams, targets = _streams(tokens)
    starts = range(0, streams.shape[1], STEPS)
    state, total = None, 0.0
    for step, start in enumerate(starts):
        share = (epoch + step / len(starts)) / recipe.epochs
        for group in teacher.param_groups:
            group["lr"] = recipe.rate * 0.5 * (1 + math.cos(math.pi * share))
        part = slice(start, start + STEPS)
        with torch.autocast("cpu", torch.bfloat16):
            states, state = model(torch.from_numpy(streams[:, part]), state)
            logits = model.logits(states)
        state = tuple(each.detach() for each in state)
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), torch.from_numpy(targets[:, part]).flatten()
        )
        teacher.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        teacher.step()
        total += loss.item()
    return total / len(starts)


def _streams(tokens: Ids) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut the text into parallel streams, and the same one token later."""
    length = (len(tokens) - 1) // STREAMS
    used = tokens[: STREAMS * length + 1]
    shape = (STREAMS, length)
    return (
        np.ascontiguousarray(used[:-1].reshape(shape)),
        np.ascontiguousarray(used[1:].reshape(shape)),
    )
