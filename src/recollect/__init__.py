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
    from recollect.heads.dual_memory.classifier import DualMemoryClassifier
    from recollect.heads.residual_memory.classifier import ResidualMemoryClassifier
    from recollect.heads.residual_memory.regressor import ResidualMemoryRegressor
    from recollect.heads.visual_memory import MemoryClassifier
    from recollect.heads.visual_regression import MemoryRegressor
    from recollect.memory.memory import Memory
    from recollect.types import Evidence, Explanation, Neighbors, Receipt, Rows, VersionInfo

__version__ = "0.1.0"

# Public name -> module. Imported on first use, so that `import recollect` stays light.
_HOME = {
    "DualMemoryClassifier": "recollect.heads.dual_memory.classifier",
    "Evidence": "recollect.types",
    "Explanation": "recollect.types",
    "Memory": "recollect.memory.memory",
    "MemoryClassifier": "recollect.heads.visual_memory",
    "MemoryRegressor": "recollect.heads.visual_regression",
    "Neighbors": "recollect.types",
    "Receipt": "recollect.types",
    "ResidualMemoryClassifier": "recollect.heads.residual_memory.classifier",
    "ResidualMemoryRegressor": "recollect.heads.residual_memory.regressor",
    "Rows": "recollect.types",
    "VersionInfo": "recollect.types",
}

__all__ = [
    "DualMemoryClassifier",
    "Evidence",
    "Explanation",
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
]


def __getattr__(name: str) -> Any:
    if name == "encoders":
        return import_module("recollect.encoders")
    if name not in _HOME:
        raise AttributeError(f"module 'recollect' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
