"""Perception with an explicit memory.

An encoder turns an input into keys; a memory keeps keys with values; an answer is a weighted
reading of the nearest rows.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recollect import errors

if TYPE_CHECKING:
    from recollect import encoders
    from recollect.heads.dense_memory.answers import CellEvidence, DenseAnswer, DenseExplanation
    from recollect.heads.dense_memory.diagnosis import Diagnosis
    from recollect.heads.dense_memory.regressor import DenseMemoryRegressor
    from recollect.heads.dense_memory.segmenter import DenseMemorySegmenter
    from recollect.heads.dual_memory.classifier import DualMemoryClassifier
    from recollect.heads.hierarchy import Hierarchy
    from recollect.heads.lookup.classifier import LookupClassifier
    from recollect.heads.migration import migrate
    from recollect.heads.reranking import rerank
    from recollect.heads.residual_memory.classifier import ResidualMemoryClassifier
    from recollect.heads.residual_memory.regressor import ResidualMemoryRegressor
    from recollect.heads.residual_search import residual_search
    from recollect.heads.visual_memory import MemoryClassifier
    from recollect.heads.visual_regression import MemoryRegressor
    from recollect.index.policy import Approximate
    from recollect.memory.memory import Memory
    from recollect.types import Evidence, Explanation, Neighbors, Receipt, Rows, VersionInfo

__version__ = "0.1.0"

# Public name -> module. Imported on first use, so that `import recollect` stays light.
_HOME = {
    "Approximate": "recollect.index.policy",
    "CellEvidence": "recollect.heads.dense_memory.answers",
    "DenseAnswer": "recollect.heads.dense_memory.answers",
    "DenseExplanation": "recollect.heads.dense_memory.answers",
    "DenseMemoryRegressor": "recollect.heads.dense_memory.regressor",
    "DenseMemorySegmenter": "recollect.heads.dense_memory.segmenter",
    "Diagnosis": "recollect.heads.dense_memory.diagnosis",
    "DualMemoryClassifier": "recollect.heads.dual_memory.classifier",
    "Evidence": "recollect.types",
    "Explanation": "recollect.types",
    "Hierarchy": "recollect.heads.hierarchy",
    "LookupClassifier": "recollect.heads.lookup.classifier",
    "Memory": "recollect.memory.memory",
    "MemoryClassifier": "recollect.heads.visual_memory",
    "MemoryRegressor": "recollect.heads.visual_regression",
    "Neighbors": "recollect.types",
    "Receipt": "recollect.types",
    "ResidualMemoryClassifier": "recollect.heads.residual_memory.classifier",
    "ResidualMemoryRegressor": "recollect.heads.residual_memory.regressor",
    "Rows": "recollect.types",
    "VersionInfo": "recollect.types",
    "migrate": "recollect.heads.migration",
    "rerank": "recollect.heads.reranking",
    "residual_search": "recollect.heads.residual_search",
}

__all__ = [
    "Approximate",
    "CellEvidence",
    "DenseAnswer",
    "DenseExplanation",
    "DenseMemoryRegressor",
    "DenseMemorySegmenter",
    "Diagnosis",
    "DualMemoryClassifier",
    "Evidence",
    "Explanation",
    "Hierarchy",
    "LookupClassifier",
    "Memory",
    "MemoryClassifier",
    "MemoryRegressor",
    "Neighbors",
    "Receipt",
    "ResidualMemoryClassifier",
    "ResidualMemoryRegressor",
    "Rows",
    "VersionInfo",
    "encoders",
    "errors",
    "migrate",
    "rerank",
    "residual_search",
]


def __getattr__(name: str) -> Any:
    if name == "encoders":
        return import_module("recollect.encoders")
    if name not in _HOME:
        raise AttributeError(f"module 'recollect' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
