"""A second opinion from texts: how well the query's key fits what each label is called.

For encoders whose images and texts share one space, such as CLIP's (Radford et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import DimensionMismatch, InvalidParameter, NonFinite
from recollect.heads.reranking.opinion import NoOpinion, Question
from recollect.types import Label

CLIP_SCALE = 100.0
"""The factor before the softmax to which CLIP's training converges (section 2.5)."""


@dataclass(frozen=True, slots=True, eq=False)
class TextScores:
    """Scores a label by the cosine between the query's key and a vector of the label's text.

    Args:
        features: float ``(labels, dim)``, the text vectors, in the space of the keys.
        labels: The label of each vector.
        scale: Factor of the cosines before the softmax; CLIP's own is 100.
        center: ``(dim,)``, taken away from a key before it is scaled to length 1, or None.

    Raises:
        DimensionMismatch: Not one vector for each label.
        InvalidParameter: ``scale`` is not above 0.

    Example:
        >>> from recollect.heads.reranking import Question, Retrieved
        >>> texts = TextScores([[1, 0], [0, 1]], ["cat", "dog"], scale=1.0)
        >>> rows = (Retrieved(0, "cat", 0.9, 0.5), Retrieved(1, "dog", 0.8, 0.5))
        >>> asked = Question(None, np.float32([1, 1]), rows, {"cat": 0.5, "dog": 0.5})
        >>> {label: round(score, 2) for label, score in texts.score(asked).items()}
        {'cat': 0.5, 'dog': 0.5}
    """

    features: ArrayLike
    labels: Sequence[Label]
    scale: float = CLIP_SCALE
    center: ArrayLike | None = None

    def __post_init__(self) -> None:
        vectors = np.asarray(self.features, np.float64)
        if vectors.ndim != 2 or len(vectors) != len(self.labels):
            raise DimensionMismatch(
                "there is not one text vector for each label",
                expected=f"({len(self.labels)}, dim)",
                got=str(vectors.shape),
                remedy="Encode one text for each label.",
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or not lengths.all():
            raise NonFinite("a text vector has no direction", expected="finite vectors, not zero")
        if not self.scale > 0:
            raise InvalidParameter("scale is out of range", expected="above 0", got=self.scale)
        object.__setattr__(self, "features", vectors / lengths)

    def score(self, question: Question) -> Mapping[Label, float]:
        """Softmax of the scaled cosines, over the labels that were found and have a text."""
        place = {label: at for at, label in enumerate(self.labels)}
        known = [label for label in question.shares if label in place]
        if not known:
            raise NoOpinion("none of the labels that were found has a text")
        vectors: NDArray[Any] = np.asarray(self.features)[[place[label] for label in known]]
        key = self._direction(question, vectors.shape[1])
        cosines = self.scale * (vectors @ key)
        scores = np.exp(cosines - cosines.max())
        return dict(zip(known, (scores / scores.sum()).tolist(), strict=True))

    def _direction(self, question: Question, width: int) -> NDArray[np.float64]:
        key = question.key.astype(np.float64)
        if key.shape != (width,):
            raise DimensionMismatch(
                "keys and text vectors lie in different spaces",
                expected=f"keys of width {width}",
                got=f"width {len(key)}",
                remedy="Encode texts and images with the two halves of one model.",
            )
        if self.center is not None:
            key = key - np.asarray(self.center, np.float64)
        return key / max(float(np.linalg.norm(key)), np.finfo(float).tiny)
