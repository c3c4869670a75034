"""Re-ranking: the memory finds rows, something else looks at them and scores their labels.

Geirhos et al. (section 2.2) put the 50 nearest rows and the query before Gemini, which named the
label. What they asked it is not published. Here the second opinion is a protocol of one method, and
it is only ever asked by calling `rerank`: no classifier does so by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter, LengthMismatch
from recollect.readout.voting import label_shares, vote, vote_shares
from recollect.types import Doubles, Floats, Label, Neighbors

if TYPE_CHECKING:
    from recollect.heads.visual_memory import MemoryClassifier
    from recollect.memory.memory import Memory

_BLOCK = 32
"""Queries looked up at once: their rows' pictures are held until each was asked about."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """One of the rows before the second opinion.

    Attributes:
        id: Row id.
        label: Its label.
        similarity: Larger is nearer.
        share: Its share of the vote.
        image: Its thumbnail as an encoded picture, or None.
        source: Where it came from, or None.
    """

    id: int
    label: Label
    similarity: float
    share: float
    image: bytes | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a second opinion is asked.

    Attributes:
        query: The input as it was given: an image, a text, or features.
        key: float32 ``(dim,)``: its key.
        neighbors: The rows that were found, nearest first.
        shares: Share of the vote of every label among them, largest first.
    """

    query: Any
    key: Floats
    neighbors: tuple[Retrieved, ...]
    shares: Mapping[Label, float]


class NoOpinion(Exception):
    """Raised by a re-ranker that cannot say: a time-out, a refusal, an answer without sense."""


@runtime_checkable
class Reranker(Protocol):
    """Scores the labels of some rows for a query. Knows no memory and no vote."""

    def score(self, question: Question) -> Mapping[Label, float]:
        """Return a finite score of 0 or more for some labels of the neighbors; others score 0.

        Raises:
            NoOpinion: There is none for this question.
        """
        ...


@dataclass(frozen=True, slots=True)
class Function:
    """Any callable as a re-ranker.

    Args:
        call: Takes a `Question` and returns scores, label -> number of 0 or more.

    Raises:
        InvalidParameter: It cannot be called.
    """

    call: Callable[[Question], Mapping[Label, float]]

    def __post_init__(self) -> None:
        if not callable(self.call):
            raise InvalidParameter(
                "this cannot be called",
                expected="a function of a Question",
                got=repr(self.call)[:80],
                remedy="Function(lambda question: {...}) returns a score for each label.",
            )

    def score(self, question: Question) -> Mapping[Label, float]:
        """Call it."""
        return self.call(question)


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """The answer to one query after re-ranking.

    Attributes:
        prediction: The label with the largest score; of equal ones, the one with more of the vote.
        first: What the vote alone answers.
        scores: Score of each label, largest first; they sum to 1.
        problem: Why there was no second opinion and the vote alone decided, or None.
    """

    prediction: Label
    first: Label
    scores: Mapping[Label, float]
    problem: str | None = None


def rerank(
    classifier: MemoryClassifier,
    X: Any,
    reranker: Reranker,
    *,
    trust: float = 1.0,
    on_error: Literal["vote", "raise"] = "vote",
    images: bool = True,
) -> list[SecondOpinion]:
    """Ask for a second opinion on each query.

    Args:
        classifier: Finds the rows, as many as its ``k``; the paper shows 50. Its vote is what the
            second opinion is mixed with, so ``class_means`` has to be 0.
        X: Queries, as for its ``predict``.
        reranker: Scores labels.
        trust: Share of the second opinion in the score, in [0, 1]; the rest is the vote's.
        on_error: ``"vote"`` lets the vote decide where there is no opinion and says why in
            ``problem``; ``"raise"`` raises the `NoOpinion`.
        images: Whether the rows' thumbnails are read for the re-ranker.

    Raises:
        InvalidParameter: An option out of range, a classifier with class means, or a re-ranker
            that returned no usable scores.

    Example:
        >>> from recollect import MemoryClassifier
        >>> pets = MemoryClassifier(k=2).fit([[1, 0], [0.9, 0.3]], ["cat", "dog"])
        >>> [found] = rerank(pets, [[1, 0.1]], Function(lambda question: {"dog": 1.0}))
        >>> found.first, found.prediction
        ('cat', 'dog')
    """
    _check_classifier(classifier)
    if not isinstance(reranker, Reranker) or on_error not in ("vote", "raise"):
        raise InvalidParameter(
            "this cannot be asked for a second opinion",
            expected="an object with score(question), and on_error 'vote' or 'raise'",
            got=f"{type(reranker).__name__}, {on_error!r}",
            remedy="Wrap a function: Function(call).",
        )
    if not (isinstance(trust, int | float | np.integer | np.floating) and 0 <= trust <= 1):
        raise InvalidParameter(
            "trust is out of range", expected="a number in [0, 1]", got=repr(trust)[:80],
            remedy="1 takes the second opinion alone, 0 the vote alone.",
        )  # fmt: skip
    queries = _several(X)
    keys = classifier.keys(queries)
    if len(keys) != len(queries):
        raise LengthMismatch(
            "queries and keys differ in number", expected=len(keys), got=len(queries),
            remedy="Pass one query for each row of X.",
        )  # fmt: skip

    answers = []
    for start in range(0, len(keys), _BLOCK):
        part = slice(start, start + _BLOCK)
        asked = _questions(classifier, queries[part], keys[part], images=images)
        answers += [_ask(reranker, question, first, trust, on_error) for question, first in asked]
    return answers


def _check_classifier(given: object) -> None:
    from recollect.heads.voting_classifier import VotingClassifier

    if not isinstance(given, VotingClassifier):
        raise InvalidParameter(
            "only a classifier's answers can be re-ranked",
            expected="a MemoryClassifier",
            got=type(given).__name__,
            remedy="Teach a MemoryClassifier, or give it the memory.",
        )
    if given.class_means != 0:
        raise InvalidParameter(
            "re-ranking looks at rows, and class means are none",
            expected="a classifier with class_means=0",
            got=f"class_means={given.class_means!r}",
            remedy="Set class_means=0, or ask a MemoryClassifier over the same memory_.",
        )


def _several(X: Any) -> Any:
    if hasattr(X, "shape") and np.ndim(X):
        return np.asarray(X)
    if isinstance(X, str | bytes) or not isinstance(X, Iterable):
        raise InvalidParameter(
            "re-ranking takes several queries",
            expected="a sequence of what the classifier answers",
            got=type(X).__name__,
            remedy="Put a single query into a list.",
        )
    return list(X)


def _questions(
    classifier: MemoryClassifier, queries: Any, keys: NDArray[Any], *, images: bool
) -> list[tuple[Question, Label]]:
    """What the re-ranker is shown, and what the vote answers: of one version of the rows."""
    memory = classifier.memory_

    def ask() -> list[tuple[Question, Label]]:
        """Neighbors and the rows shown with them come from one version."""
        near, weights = classifier.votes_by_key(keys)
        return [
            _question(memory, near, weights, place, query, keys[place], images=images)
            for place, query in enumerate(queries)
        ]

    return memory.in_one_version(ask)


def _ask(
    reranker: Reranker, question: Question, first: Label, trust: float, on_error: str
) -> SecondOpinion:
    try:
        given = _judged(reranker.score(question), question)
    except NoOpinion as none:
        if on_error == "raise":
            raise
        return SecondOpinion(first, first, dict(question.shares), str(none) or "no opinion")
    total = sum(given.values())
    mixed = {
        label: (1 - trust) * share + trust * given.get(label, 0.0) / total
        for label, share in question.shares.items()
    }
    # Sorting is stable, and the shares come largest first: of equal scores the vote decides.
    scores = dict(sorted(mixed.items(), key=lambda item: -item[1]))
    return SecondOpinion(next(iter(scores)), first, scores)


def _judged(given: Any, question: Question) -> dict[Label, float]:
    """Scores of labels that were found, finite and not all 0."""
    if not isinstance(given, Mapping):
        raise InvalidParameter(
            "a re-ranker returns a score for each label", expected="a mapping",
            got=type(given).__name__, remedy="Raise NoOpinion where there is none.",
        )  # fmt: skip
    named = {label: score for label, score in given.items() if label in question.shares}
    try:
        scores = {label: float(score) for label, score in named.items()}
    except (TypeError, ValueError, OverflowError):
        scores = {}
    good = all(np.isfinite(score) and score >= 0 for score in scores.values())
    if len(scores) < len(named) or not good:
        raise InvalidParameter(
            "a re-ranker's scores are out of range", expected="finite numbers of 0 or more",
            got=str(named)[:80], remedy="Scale them, for example by a softmax.",
        )  # fmt: skip
    if not any(scores.values()):
        raise NoOpinion("it scored none of the labels that were found")
    # A power of two changes no ratio; without it huge scores would add up to infinity.
    down = -math.frexp(max(scores.values()))[1]
    return {label: math.ldexp(score, down) for label, score in scores.items()}


def _question(
    memory: Memory,
    near: Neighbors,
    weights: Doubles,
    place: int,
    query: Any,
    key: NDArray[Any],
    *,
    images: bool,
) -> tuple[Question, Label]:
    assert near.codes is not None
    assert near.classes is not None
    found = near.found[place]
    shares = vote_shares(weights[place : place + 1])
    totals = label_shares(near.codes[place : place + 1], shares, len(near.classes))[0]
    classes = near.classes.tolist()
    winner = classes[int(vote(near.codes[place : place + 1], weights[place : place + 1])[0])]
    ids = near.ids[place][found]
    rows = memory.rows(ids)
    neighbors = tuple(
        Retrieved(
            id=int(row),
            label=classes[int(near.codes[place, rank])],
            similarity=float(near.similarity[place, rank]),
            share=float(shares[0, rank]),
            image=memory.thumbnail(int(row)) if images else None,
            source=rows.sources[rank],
        )
        for rank, row in enumerate(ids.tolist())
    )
    labels = dict.fromkeys(row.label for row in neighbors)
    by_label = {label: float(totals[classes.index(label)]) for label in labels}
    ranked = sorted(by_label.items(), key=lambda item: (item[0] != winner, -item[1]))
    return Question(query, np.asarray(key, np.float32), neighbors, dict(ranked)), winner
