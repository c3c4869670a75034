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
from recollect.errors import (
    DimensionMismatch,
    EmptyBatch,
    InputError,
    InvalidParameter,
    LengthMismatch,
)
from recollect.heads.inputs import in_our_words
from recollect.heads.residual_memory.bases import as_embedding, as_outputs, failing_in_our_words
from recollect.heads.residual_memory.classifier import ResidualMemoryClassifier
from recollect.heads.residual_memory.tuning import ResidualTuning, read_grid
from recollect.memory.memory import Memory
from recollect.readout.kernel import clip_to_probabilities
from recollect.types import Doubles, Explanation, Floats, Ids

Reader: TypeAlias = Callable[[Ids], tuple[Any, Any]]

PIECE, REACH = 1024, 64
# What a grid tries when none is given: corrections of a language model are weak and wide.
GRID: dict[str, tuple[float, ...]] = {
    "k": (8, 64, 256, 1024),
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
        piece: Tokens read at a time; with ``reach`` at most as many as the model takes, where
            :func:`read_causal` knows that.
        reach: Tokens before a piece that are read again with it, so that its first contexts have
            a past; at most half of what the model takes.

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
        self.model = model
        self.piece, self.reach = _fitting(
            _whole("piece", piece, 1),
            _whole("reach", reach, 0),
            model.limit if isinstance(model, CausalReader) else None,
        )
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

        All of them are read before one is written: a text is remembered whole, or not at all.

        Args:
            tokens: int64 ``(n,)``, at least two.
            source: Where the text came from; ``head.memory_.remove(where=...)`` finds it again.
            progress: Called as ``progress(done, total)``.

        Returns:
            The memory.

        Raises:
            InputError: A token is not in the vocabulary, or the model fails; nothing was kept.
        """
        text = _check_tokens(tokens)

        def pieces() -> Iterator[tuple[Ids, NDArray[Any], NDArray[Any]]]:
            """Next tokens, embeddings and logits, piece by piece."""
            for start, embedding, logits in self._read(text, len(text) - 1):
                labels = text[start + 1 : start + 1 + len(embedding)]
                yield labels, embedding, logits
                if progress is not None:
                    progress(start + len(labels), len(text) - 1)

        self.head.teach_pieces(pieces(), source=source)
        return self

    def forget(self, ids: ArrayLike) -> Self:
        """Take contexts out: every later answer is as if they had never been read."""
        self.head.forget(ids)
        return self

    def next_token(self, tokens: ArrayLike) -> Doubles:
        """Return the probability of every token to come next, ``(vocabulary,)``."""
        text = _check_tokens(tokens, least=1)
        *_, (_, embedding, logits) = self._read(text, len(text))
        asked = {"embedding": embedding[-1:], "outputs": logits[-1:]}
        return np.asarray(self.head.predict_proba(None, output="clip", **asked)[0])

    def explain(self, tokens: ArrayLike) -> Explanation:
        """Say which contexts made the most probable next token so."""
        text = _check_tokens(tokens, least=1)
        *_, (_, embedding, logits) = self._read(text, len(text))
        return self.head.explain(None, embedding=embedding[-1:], outputs=logits[-1:])[0]

    def score(self, tokens: ArrayLike) -> TextScore:
        """Foretell every token of a text from those before it."""
        text = _check_tokens(tokens)
        likely, right = [], []
        for start, embedding, logits in self._read(text, len(text) - 1):
            labels = text[start + 1 : start + 1 + len(embedding)]
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

        Where rows keep next tokens alone, only a temperature of 1 and strengths below 1 are tried;
        of a grid that is given, too.

        Args:
            tokens: int64 ``(n,)``, at least two.
            grid: Values to try by name; what is left out keeps those of ``GRID``.
            scoring: ``"log_loss"`` of the clipped scores, or ``"accuracy"``.
            guard: How many standard errors of the paired difference a gain must exceed.

        Raises:
            InvalidParameter: The grid cannot be used; nothing was read.
            InputError: Tokens cannot be used, or the model fails.
        """
        text = _check_tokens(tokens)
        chosen = _grid_of(grid, labels_only=self.head.entries == 0)
        read = list(self._read(text, len(text) - 1))
        return self.head.tune(
            None,
            text[1:],
            embedding=np.concatenate([each[1] for each in read]),
            outputs=np.concatenate([each[2] for each in read]),
            grid=chosen,
            scoring=scoring,
            guard=guard,
        )

    def _read(self, text: Ids, count: int) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
        """Where a piece starts, the embeddings and the logits of the first contexts of a text."""
        for start in range(0, count, self.piece):
            early = max(0, start - self.reach)
            part = text[early : min(count, start + self.piece)]
            embedded, answered = self._answers(part)
            if not start:
                shapes = embedded.shape[1:], answered.shape[1:]
                self._require_known(text, answered)
            elif (embedded.shape[1:], answered.shape[1:]) != shapes:
                raise DimensionMismatch(
                    "the language model changed the width of its answers",
                    expected=f"embeddings and logits of {shapes}, as for the first piece",
                    got=f"{embedded.shape[1:]} and {answered.shape[1:]}",
                    remedy="Each token has one embedding and the logits of the vocabulary.",
                )
            if len(embedded) != len(part) or len(answered) != len(part):
                raise LengthMismatch(
                    "the language model does not answer for every token",
                    expected=len(part),
                    got=f"{len(embedded)} embeddings, {len(answered)} logits",
                    remedy="Row t stands for the context that ends with token t.",
                )
            yield start, embedded[start - early :], answered[start - early :]

    def _answers(self, part: Ids) -> tuple[Floats, NDArray[Any]]:
        with failing_in_our_words("language model"):
            said = self.model(part)
        if not isinstance(said, tuple | list) or len(said) != 2:
            raise InvalidParameter(
                "this is no language model", expected="embeddings and logits",
                got=type(said).__name__, remedy="Return both, one row for each token.",
            )  # fmt: skip
        return as_embedding(said[0]), as_outputs(said[1])

    def _require_known(self, labels: Ids, logits: NDArray[Any]) -> None:
        if logits.ndim != 2:
            raise DimensionMismatch("logits have the wrong shape", expected="(tokens, vocabulary)",
                                    got=str(logits.shape), remedy="One row a token.")  # fmt: skip
        if labels.max() >= logits.shape[1]:
            raise InputError(
                "a token is not in the vocabulary",
                expected=f"0 to {logits.shape[1] - 1}",
                got=int(labels.max()),
                remedy="Use the tokenizer of this model.",
            )


@dataclass(frozen=True, slots=True)
class CausalReader:
    """Reads tokens with a Hugging Face causal language model; from :func:`read_causal`.

    Attributes:
        model: The model.
        layer: Which of the hidden states is the embedding.
        limit: How many tokens it takes at a time; None where it does not say.
    """

    model: Any
    layer: int
    limit: int | None

    def __call__(self, tokens: Ids) -> tuple[Any, Any]:
        """Read one text in one pass; float32 on the CPU, whatever the model computes in."""
        torch = load_torch()
        with evaluating(self.model):
            given = torch.from_numpy(np.ascontiguousarray(tokens))[None].to(device_of(self.model))
            out = self.model(input_ids=given, output_hidden_states=True)
        return (
            out.hidden_states[self.layer][0].float().cpu().numpy(),
            out.logits[0].float().cpu().numpy(),
        )


def read_causal(model: Any, *, layer: int = -1) -> CausalReader:
    """Make a reader of a Hugging Face causal language model.

    Args:
        model: Called with ``input_ids`` and ``output_hidden_states=True``; gives ``logits`` and
            ``hidden_states``.
        layer: Which of the hidden states is the embedding; -1 is the input of the last linear
            layer, -2 that of the last block.

    Returns:
        A function from tokens to embeddings and logits, for :class:`TokenMemory`, which knows
        how many tokens the model takes (``max_position_embeddings`` or ``n_positions`` of its
        configuration).

    Raises:
        MissingExtra: torch is not installed.
    """
    load_torch()
    config = getattr(model, "config", None)
    told = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions"))
    limits = [each for each in told if isinstance(each, int) and each > 0]
    return CausalReader(model, layer, min(limits, default=None))


def _grid_of(
    given: Mapping[str, Sequence[Any]] | None, *, labels_only: bool
) -> dict[str, tuple[Any, ...]]:
    """What to try, judged before a text is read."""
    judged = read_grid(given)
    chosen = {name: judged[name] if name in (given or {}) else GRID[name] for name in GRID}
    if not labels_only:
        return chosen
    fits: dict[str, tuple[str, Callable[[float], bool]]] = {
        "temperature": ("1 alone", lambda value: value == 1),
        "strength": ("numbers below 1", lambda value: value < 1),
    }
    for name, (expected, fit) in fits.items():
        fitting = tuple(filter(fit, chosen[name]))
        if not fitting:
            raise InvalidParameter(
                f"rows that keep next tokens alone are not read at this {name}",
                expected=expected,
                got=", ".join(f"{value:g}" for value in chosen[name]),
                remedy="Leave it out of the grid, or keep logits with entries=16.",
            )
        chosen[name] = fitting
    return chosen


def _whole(name: str, given: Any, least: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < least:
        raise InvalidParameter(
            f"{name} is out of range", expected=f"a whole number, at least {least}",
            got=repr(given), remedy="Leave it out for the default.",
        )  # fmt: skip
    return int(given)


def _fitting(piece: int, reach: int, limit: int | None) -> tuple[int, int]:
    """Piece and reach, shortened so that both together are no longer than the model takes."""
    if limit is None:
        return piece, reach
    reach = min(reach, limit // 2)
    return min(piece, limit - reach), reach


def _never(_: Any) -> Any:
    raise InvalidParameter(
        "a memory of tokens is asked with tokens", expected="TokenMemory.score or next_token",
        got="its head alone", remedy="Pass embedding= and outputs= to the head.",
    )  # fmt: skip


def _check_tokens(tokens: ArrayLike, least: int = 2) -> Ids:
    with in_our_words():
        array = np.asarray(tokens)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(
            "tokens cannot be read", expected="whole numbers, one after the other",
            got=f"{array.dtype} of shape {array.shape}", remedy="Tokenize the text first.",
        )  # fmt: skip
    if len(array) < least:
        raise EmptyBatch("the text is too short", expected=f"{least} tokens", got=len(array))
    wrong = next((each for each in (array.min(), array.max()) if not 0 <= each < 2**63), None)
    if wrong is not None:
        raise InputError("a token is out of range", expected="0 or more, below 2^63",
                         got=int(wrong), remedy="Tokenize the text first.")  # fmt: skip
    return array.astype(np.int64)
