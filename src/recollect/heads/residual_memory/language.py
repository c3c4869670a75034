"""Next tokens: a language model, and a memory of the texts it was trained on, or never saw.

Two readings of one memory of contexts. ResMem (Yang et al., 2023): a row keeps the next token and
the largest logits, and corrects the model by what it got wrong there. kNN-LM (Khandelwal et al.,
"Generalization through memorization", ICLR 2020): a row keeps the next token alone, and the answer
is (1 - strength) p + strength p_neighbors. Both are ``ResidualMemoryClassifier``, with ``entries``
16 and 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.encoders.torch import device_of, evaluating, load_torch
from recollect.errors import EmptyBatch, InputError, InvalidParameter, LengthMismatch
from recollect.heads.residual_memory.bases import as_embedding, as_outputs
from recollect.heads.residual_memory.classifier import ResidualMemoryClassifier
from recollect.heads.residual_memory.tuning import ResidualTuning
from recollect.memory.memory import Memory
from recollect.readout.kernel import clip_to_probabilities
from recollect.types import Doubles, Explanation, Ids

Reader: TypeAlias = Callable[[Ids], tuple[Any, Any]]

PIECE, REACH = 1024, 64
# What a grid tries when none is given: corrections of a language model are weak and wide.
GRID: dict[str, tuple[float, ...]] = {
    "k": (8, 64, 256),
    "sigma": (0.03, 0.1, 0.3, 1.0),
    "temperature": (1.0, 2.0),
    "strength": (0.05, 0.1, 0.2, 0.4, 0.7, 1.0),
}


@dataclass(frozen=True, slots=True)
class TextScore:
    """How well the next tokens of a text were foretold.

    Attributes:
        tokens: How many were foretold: all but the first.
        log_likelihood: float64 ``(tokens,)``: natural logarithm of each token's probability.
        right: bool ``(tokens,)``: whether the most probable token came.
    """

    tokens: int
    log_likelihood: Doubles
    right: NDArray[np.bool_]

    @property
    def perplexity(self) -> float:
        """Exp of minus the mean log likelihood; smaller is better."""
        return math.exp(-float(self.log_likelihood.mean()))

    @property
    def accuracy(self) -> float:
        """Share of tokens that were the most probable one."""
        return float(self.right.mean())


class TokenMemory:
    """Add a memory of contexts to a language model.

    Args:
        model: A function from tokens, int64 ``(n,)``, to embeddings ``(n, dim)`` and logits
            ``(n, vocabulary)``: row t stands for the context that ends with token t, and foretells
            token t + 1. :func:`read_causal` makes one of a Hugging Face causal model.
        entries: 0 keeps next tokens alone (kNN-LM); 16 keeps the largest logits too (ResMem).
        k: How many contexts are read.
        sigma: As in ``ResidualMemoryClassifier``.
        temperature: As there.
        strength: As there; between 0 and 1 for kNN-LM.
        memory: As there.
        piece: Tokens read at a time.
        reach: Tokens before a piece that are read again with it, so that its first contexts have
            a past.

    Example:
        >>> def parrot(tokens):  # foretells nothing; a context is its last token
        ...     return tokens[:, None], np.zeros((len(tokens), 3))
        >>> text = TokenMemory(parrot, k=1, entries=0, strength=0.9).teach([0, 1, 2, 0, 1, 2])
        >>> text.next_token([2, 0, 1]).argmax().item()
        2
    """

    def __init__(
        self,
        model: Reader,
        *,
        entries: int = 16,
        k: int = 64,
        sigma: float | Literal["median"] = "median",
        temperature: float = 1.0,
        strength: float = 0.25,
        memory: Memory | str | Path | None = None,
        piece: int = PIECE,
        reach: int = REACH,
    ) -> None:
        if not callable(model):
            raise InvalidParameter(
                "this is no language model",
                expected="a function from tokens to embeddings and logits",
                got=type(model).__name__,
                remedy="read_causal makes one of a Hugging Face model.",
            )
        if piece < 1 or reach < 0:
            raise InvalidParameter(
                "a piece is out of range", expected="piece >= 1, reach >= 0",
                got=f"{piece}, {reach}", remedy="Leave them out.",
            )  # fmt: skip
        self.model, self.piece, self.reach = model, int(piece), int(reach)
        self.head = ResidualMemoryClassifier(
            _never, k=k, sigma=sigma, temperature=temperature, strength=strength, entries=entries,
            memory=memory,
        )  # fmt: skip

    def __len__(self) -> int:
        """How many contexts are remembered."""
        return len(self.head.memory_) if self.head.__sklearn_is_fitted__() else 0

    def teach(
        self, tokens: ArrayLike, *, source: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Self:  # fmt: skip
        """Remember the contexts of a text with their next tokens; more texts may follow.

        Args:
            tokens: int64 ``(n,)``, at least two.
            source: Where the text came from; ``head.memory_.remove(where=...)`` finds it again.
            progress: Called as ``progress(done, total)``.

        Returns:
            The memory.
        """
        text = _check_tokens(tokens)
        for start, embedding, logits in self._read(text[:-1]):
            labels = text[start + 1 : start + 1 + len(embedding)]
            self._require_known(labels, logits)
            sources = None if source is None else [source] * len(labels)
            given: dict[str, Any] = {"embedding": embedding, "outputs": logits}
            self.head.partial_fit(None, labels, sources=sources, **given)
            if progress is not None:
                progress(start + len(labels), len(text) - 1)
        return self

    def forget(self, ids: ArrayLike) -> Self:
        """Take contexts out: every later answer is as if they had never been read."""
        self.head.forget(ids)
        return self

    def next_token(self, tokens: ArrayLike) -> Doubles:
        """Return the probability of every token to come next, ``(vocabulary,)``."""
        text = _check_tokens(tokens, least=1)
        *_, (_, embedding, logits) = self._read(text)
        asked = {"embedding": embedding[-1:], "outputs": logits[-1:]}
        return np.asarray(self.head.predict_proba(None, output="clip", **asked)[0])

    def explain(self, tokens: ArrayLike) -> Explanation:
        """Say which contexts made the most probable next token so."""
        text = _check_tokens(tokens, least=1)
        *_, (_, embedding, logits) = self._read(text)
        return self.head.explain(None, embedding=embedding[-1:], outputs=logits[-1:])[0]

    def score(self, tokens: ArrayLike) -> TextScore:
        """Foretell every token of a text from those before it."""
        text = _check_tokens(tokens)
        likely, right = [], []
        for start, embedding, logits in self._read(text[:-1]):
            labels = text[start + 1 : start + 1 + len(embedding)]
            self._require_known(labels, logits)
            scores = self.head.predict_proba(
                None, output="score", embedding=embedding, outputs=logits
            )
            shares = clip_to_probabilities(scores)
            likely.append(np.log(shares[np.arange(len(labels)), labels]))
            right.append(scores.argmax(axis=1) == labels)
        return TextScore(len(text) - 1, np.concatenate(likely), np.concatenate(right))

    def tune(
        self, tokens: ArrayLike, *, grid: Mapping[str, Sequence[Any]] | None = None,
        scoring: Literal["accuracy", "log_loss"] = "log_loss", guard: float = 1.0,
    ) -> ResidualTuning:  # fmt: skip
        """Choose k, sigma, temperature and strength on a text that is not in the memory.

        Where rows keep next tokens alone, only a temperature of 1 and strengths below 1 are tried.
        """
        text = _check_tokens(tokens)
        read = list(self._read(text[:-1]))
        chosen = GRID | dict(grid or {})
        if self.head.entries == 0:
            less_than_one = tuple(each for each in chosen["strength"] if each < 1)
            chosen |= {"temperature": (1.0,), "strength": less_than_one}
        return self.head.tune(
            None,
            text[1:],
            embedding=np.concatenate([each[1] for each in read]),
            outputs=np.concatenate([each[2] for each in read]),
            grid=chosen,
            scoring=scoring,
            guard=guard,
        )

    def _read(self, text: Ids) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
        """Where a piece starts, the embeddings and the logits of its contexts."""
        for start in range(0, len(text), self.piece):
            early = max(0, start - self.reach)
            part = text[early : start + self.piece]
            embedding, logits = self.model(part)
            embedded, answered = as_embedding(embedding), as_outputs(logits)
            if len(embedded) != len(part) or len(answered) != len(part):
                raise LengthMismatch(
                    "the language model does not answer for every token",
                    expected=len(part),
                    got=f"{len(embedded)} embeddings, {len(answered)} logits",
                    remedy="Row t stands for the context that ends with token t.",
                )
            yield start, embedded[start - early :], answered[start - early :]

    def _require_known(self, labels: Ids, logits: NDArray[Any]) -> None:
        if labels.max() >= logits.shape[1]:
            raise InputError(
                "a token is not in the vocabulary",
                expected=f"0 to {logits.shape[1] - 1}",
                got=int(labels.max()),
                remedy="Use the tokenizer of this model.",
            )


def read_causal(model: Any, *, layer: int = -1) -> Reader:
    """Make a reader of a Hugging Face causal language model.

    Args:
        model: Called with ``input_ids`` and ``output_hidden_states=True``; gives ``logits`` and
            ``hidden_states``.
        layer: Which of the hidden states is the embedding; -1 is the input of the last linear
            layer, -2 that of the last block.

    Returns:
        A function from tokens to embeddings and logits, for :class:`TokenMemory`.

    Raises:
        MissingExtra: torch is not installed.
    """
    torch = load_torch()

    def read(tokens: Ids) -> tuple[Any, Any]:
        """One text in one pass; float32 on the CPU, whatever the model computes in."""
        with evaluating(model):
            given = torch.from_numpy(np.ascontiguousarray(tokens))[None].to(device_of(model))
            out = model(input_ids=given, output_hidden_states=True)
        return (
            out.hidden_states[layer][0].float().cpu().numpy(),
            out.logits[0].float().cpu().numpy(),
        )

    return read


def _never(_: Any) -> Any:
    raise InvalidParameter(
        "a memory of tokens is asked with tokens", expected="TokenMemory.score or next_token",
        got="its head alone", remedy="Pass embedding= and outputs= to the head.",
    )  # fmt: skip


def _check_tokens(tokens: ArrayLike, least: int = 2) -> Ids:
    array = np.asarray(tokens)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(
            "tokens cannot be read", expected="whole numbers, one after the other",
            got=f"{array.dtype} of shape {array.shape}", remedy="Tokenize the text first.",
        )  # fmt: skip
    if len(array) < least:
        raise EmptyBatch("the text is too short", expected=f"{least} tokens", got=len(array))
    if array.min() < 0:
        raise InputError("a token is negative", expected="0 or more", got=int(array.min()))
    return array.astype(np.int64)
