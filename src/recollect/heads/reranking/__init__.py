"""A second opinion over the rows that were found: any callable, CLIP text scores, or a model's."""

from __future__ import annotations

from recollect.heads.reranking.clip import TextScores
from recollect.heads.reranking.endpoint import PROMPT, VisionLanguageEndpoint
from recollect.heads.reranking.opinion import (
    Function,
    NoOpinion,
    Question,
    Reranker,
    Retrieved,
    SecondOpinion,
    rerank,
)

__all__ = [
    "PROMPT",
    "Function",
    "NoOpinion",
    "Question",
    "Reranker",
    "Retrieved",
    "SecondOpinion",
    "TextScores",
    "VisionLanguageEndpoint",
    "rerank",
]
