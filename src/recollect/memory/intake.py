"""What comes into a memory, judged whole before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidLabel, InvalidParameter
from recollect.index.scoring import measure
from recollect.memory import checks, row_checks
from recollect.memory.arrays import pack_arrays
from recollect.memory.schema import Configuration, describe_encoder
from recollect.memory.store import Store
from recollect.memory.table import LabelBook
from recollect.memory.writes import Batch, Change, check_unused
from recollect.types import Ids


def judge_rows(
    store: Store, keys: NDArray[Any], values: Any, book: LabelBook | None, columns: dict[str, Any]
) -> Batch:
    """Judge new rows.

    Args:
        store: The memory they are for.
        keys: ``(rows, dim)``, judged already.
        values: One per row.
        book: Labels that new ones must agree with in type, or None.
        columns: ``ids``, ``weights``, ``sources``, ``metadata`` and ``thumbnails`` as given.

    Raises:
        InputError: Something cannot be stored.
    """
    rows = len(keys)
    metadata, fresh = row_checks.check_metadata(columns["metadata"], rows, column_kinds(store))
    batch = Batch(
        ids=next_ids(store, rows)
        if columns["ids"] is None
        else checks.check_ids(columns["ids"], rows),
        keys=keys,
        norms=measure(keys),
        values=check_values(store.config, values, rows, book),
        weights=row_checks.check_weights(columns["weights"], rows),
        sources=row_checks.check_sources(columns["sources"], rows),
        metadata=metadata,
        fresh=fresh,
        thumbnails=row_checks.check_thumbnails(columns["thumbnails"], rows),
    )
    check_unused(store, batch.ids)
    return batch


def next_ids(store: Store, rows: int) -> Ids:
    """Count ids up from the largest that was ever used."""
    if store.next_id + rows - 1 > checks.INT64.max:
        raise InvalidParameter(
            "there are no ids left above the largest that was used",
            expected=f"at most {checks.INT64.max}",
            got=store.next_id + rows - 1,
            remedy="Pass `ids` that are smaller and were never used.",
        )
    return np.arange(store.next_id, store.next_id + rows, dtype=np.int64)


def judge_change(
    store: Store, rows: int, values: Any, weights: Any, metadata: Any, book: LabelBook
) -> Change:
    """Judge what should change in rows that exist; arguments as in :func:`judge_rows`."""
    columns, fresh = row_checks.check_metadata(metadata, rows, column_kinds(store))
    return Change(
        values=None if values is None else check_values(store.config, values, rows, book),
        weights=None if weights is None else row_checks.check_weights(weights, rows),
        metadata=columns,
        fresh=fresh,
    )


def judge_encoding(config: Configuration, keys: Any, encoder: Any) -> Configuration:
    """What a memory is after its rows were given keys of another encoder.

    Raises:
        InvalidParameter: The metric has a weight for each dimension of the old keys.
    """
    if config.metric_weights is not None:
        raise InvalidParameter(
            "the metric has a weight for each dimension of the keys",
            expected="a memory without metric_weights",
            got=f"{len(config.metric_weights)} weights",
            remedy="Make a new memory with weights for the new keys.",
        )
    shape = np.shape(keys)
    fingerprint, spec = describe_encoder(encoder)
    return replace(
        config,
        dim=shape[1] if len(shape) == 2 and shape[1] else config.dim,
        encoder=fingerprint,
        encoder_spec=spec,
    )


def column_kinds(store: Store) -> dict[str, str]:
    """Kind of every metadata column."""
    return {name: kind for name, (kind, _) in store.columns.items()}


def check_values(config: Configuration, values: Any, rows: int, book: LabelBook | None) -> Any:
    """Judge values by the memory's kind; ``book`` holds the labels they must agree with.

    Raises:
        InvalidLabel: Labels of another type than those in the memory.
        InputError: They cannot be stored.
    """
    if config.value == "number":
        return row_checks.check_numbers(values, rows)
    if config.value == "vector":
        assert config.value_dim is not None
        return row_checks.check_vectors(values, rows, config.value_dim)
    if config.value == "arrays":
        return [pack_arrays(value) for value in row_checks.check_mappings(values, rows)]
    labels = row_checks.check_labels(values, rows)
    if book is not None and len(book.classes):
        expected = "str" if book.classes.dtype == object else "int"
        if type(labels[0]).__name__ != expected:
            raise InvalidLabel(
                "labels of one memory are all text or all integers",
                expected=f"{expected}, as the {len(book.classes)} labels it holds",
                got=type(labels[0]).__name__,
                remedy=f"Convert them with [{expected}(label) for label in labels].",
            )
    return labels
