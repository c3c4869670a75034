"""Tables of rows that Recollect did not write: which column is what.

* keys: ``key, keys, embedding, embeddings, vector, vectors, feature, features``, in any case, or
  the only column of lists of numbers. float32, float16 and uint8 are kept; others become float32.
* values: a label, chosen as `recollect.memory.sources.columns` does; failing that, a column of
  floats named ``value`` or ``target`` makes a memory of numbers.
* ``id`` (integers from 0, each once), ``weight`` (finite, not negative) and ``source`` (text) are
  used if they are there; ids count from 0 otherwise, and weights are 1.
* all other columns of text, numbers, truth values and times become metadata, times as text; a
  column that can be none of these is left out.

The metric is cosine and no encoder is known, because nothing in such a table tells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import EmptyBatch, InputError
from recollect.memory.arrow_columns import (
    as_doubles,
    as_ids,
    as_labels,
    as_matrix,
    as_metadata,
    as_texts,
    is_matrix,
)
from recollect.memory.sources.columns import LABEL_NAMES, RESERVED, Kind
from recollect.memory.sources.parquet import arrow_kind
from recollect.types import Rows

KEY_NAMES = (
    "key",
    "keys",
    "embedding",
    "embeddings",
    "vector",
    "vectors",
    "feature",
    "features",
)


def read(table: Any, *, valued: bool = True) -> tuple[Rows, dict[str, Any]]:
    """Turn a foreign table into rows and the facts that a memory of them needs.

    Args:
        table: A ``pyarrow.Table``.
        valued: False if labels and numbers may be absent; the values are then zeros.
    """
    names = list(table.column_names)
    if len(set(names)) < len(names):
        raise InputError(
            "the table names two columns alike", got=", ".join(names), remedy="Rename one of them."
        )
    if not table.num_rows:
        raise EmptyBatch("the table holds no rows", remedy="Write one row per input.")
    key = _key(table, names)
    kinds = {name: arrow_kind(table.schema.field(name).type) for name in names if name != key}
    value, kind = _value(kinds)
    if value is not None:
        values = _values(table.column(value), value, kind)
    elif valued:
        raise _no_value(names)
    else:
        values = np.zeros(table.num_rows)
    keys = as_matrix(table.column(key), key)
    used = {key, value}
    ids = np.arange(table.num_rows)
    if kinds.get("id") == "int":
        ids = as_ids(table.column("id"))
        used.add("id")
    weights = np.ones(table.num_rows)
    if kinds.get("weight") in {"int", "float"}:
        weights = as_doubles(table.column("weight"), "weight", least=0.0)
        used.add("weight")
    sources: list[str | None] = [None] * table.num_rows
    if kinds.get("source") == "text":
        sources = as_texts(table.column("source"), "source")
        used.add("source")
    metadata, metadata_kinds = _metadata(table, kinds, used)
    facts = {
        "format": 1,
        "dim": keys.shape[1],
        "dtype": str(keys.dtype),
        "metric": "cosine",
        "value": kind,
        "metadata": metadata_kinds,
        "value_dim": None,
        "metric_weights": None,
        "encoder": None,
        "encoder_spec": None,
    }
    return Rows(ids, keys, values, weights, sources, metadata), facts


def _key(table: Any, names: list[str]) -> str:
    vectors = [name for name in names if is_matrix(table.schema.field(name).type)]
    lowered = {name.lower(): name for name in reversed(vectors)}
    for wanted in KEY_NAMES:
        if wanted in lowered:
            return lowered[wanted]
    if len(vectors) == 1:
        return vectors[0]
    raise InputError(
        "it is not clear which column holds the keys",
        expected=f"a column of lists of numbers named {', '.join(KEY_NAMES)}",
        got=f"the columns {', '.join(names)}",
        remedy="Rename the column of embeddings to key.",
    )


def _value(kinds: dict[str, Kind]) -> tuple[str | None, str]:
    lowered = {name.lower(): name for name in reversed(list(kinds))}
    for kind in ("text", "int"):
        for wanted in LABEL_NAMES:
            if wanted in lowered and kinds[lowered[wanted]] == kind:
                return lowered[wanted], "label"
    for wanted in ("value", "target"):
        if wanted in lowered and kinds[lowered[wanted]] in {"int", "float"}:
            return lowered[wanted], "number"
    return None, "number"


def _values(column: Any, name: str, kind: str) -> NDArray[Any]:
    return as_labels(column, name) if kind == "label" else as_doubles(column, name)


def _no_value(names: list[str]) -> InputError:
    return InputError(
        "it is not clear which column holds the values",
        expected="a column named label, or value for numbers",
        got=f"the columns {', '.join(names)}",
        remedy="Rename the column of labels to label.",
    )


def _metadata(
    table: Any, kinds: dict[str, Kind], used: set[str | None]
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    import pyarrow as pa

    metadata: dict[str, list[Any]] = {}
    metadata_kinds = {}
    words = {"text": "str", "int": "int", "float": "float", "bool": "bool", "time": "str"}
    for name, kind in kinds.items():
        if name in used or kind not in words:
            continue
        kept = name
        while kept.lower() in RESERVED or (kept != name and kept in kinds):
            kept += "_"
        column = table.column(name)
        column = column.cast(pa.string()) if kind == "time" else column
        metadata[kept] = as_metadata(column, name, words[kind])
        metadata_kinds[kept] = words[kind]
    return metadata, metadata_kinds
