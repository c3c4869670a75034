"""How a memory travels inside a copied estimator: as plain arrays, or as the path of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from recollect.memory.memory import RAM, Memory
from recollect.types import Ids, Rows


@dataclass(frozen=True, slots=True)
class InProcessCopy:
    """All that answers depend on of a memory that lives in the process.

    Attributes:
        options: Keyword arguments of ``Memory.create``.
        rows: All rows, or None if there are none.
    """

    options: dict[str, Any]
    rows: Rows | None

    def build(self) -> Memory:
        """Make a memory of its own from the copy. Its history starts anew."""
        memory = Memory.create(RAM, **self.options)
        if self.rows is not None:
            memory.add(
                self.rows.keys,
                self.rows.values,
                ids=self.rows.ids,
                weights=self.rows.weights,
                sources=self.rows.sources,
                metadata=self.rows.metadata,
            )
        return memory


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a durable memory is; the copy opens it there.

    Attributes:
        uri: Its folder.
        version: A past version that was looked at, or None for the newest.
    """

    uri: str
    version: int | None

    def build(self) -> Memory:
        """Open it for reading; a write opens it for writing."""
        return Memory.open(self.uri, self.version, read_only=True)


def without_rows(memory: Memory, gone: Ids) -> Memory:
    """Copy the rows that would be left if some were removed into a memory in RAM."""
    return memory.in_one_version(lambda: _without(memory, gone)).build()


def _without(memory: Memory, gone: Ids) -> InProcessCopy:
    options = {
        name: getattr(memory, name)
        for name in ("dim", "metric", "value", "value_dim", "metric_weights")
    }
    rows = memory.rows(np.setdiff1d(memory.ids, gone))
    return InProcessCopy({**options, "dtype": memory.dtype.name}, rows)


def describe(memory: Memory) -> InProcessCopy | Reference:
    """Take down what is needed to have this memory elsewhere."""
    return memory.in_one_version(lambda: _described(memory))


def _described(memory: Memory) -> InProcessCopy | Reference:
    if memory.uri != RAM:
        newest = memory.versions()[-1].version
        past = memory.read_only and memory.version != newest
        return Reference(memory.uri, memory.version if past else None)
    options = {
        "dim": memory.dim,
        "metric": memory.metric,
        "value": memory.value,
        "value_dim": memory.value_dim,
        "metric_weights": memory.metric_weights,
        "dtype": memory.dtype.name,
        "encoder": SimpleNamespace(fingerprint=memory.encoder, spec=memory.encoder_spec),
    }
    return InProcessCopy(options, memory.rows() if len(memory) else None)
