"""What rows hold, byte for byte, where it lies in the segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recollect.errors import CorruptMemory
from recollect.memory.store import Store


def key_of(store: Store, state: Mapping[str, Any]) -> bytes:
    """Bytes of the key of a state, of whatever encoding."""
    segment = store.segments.get(state["segment"])
    size = 0 if segment is None else segment.unit
    start = state["record"]
    return bytes_at(store, state["segment"], start * size if type(start) is int else None, size)


def key_forms(store: Store, state: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Bytes under which the key of a state is known to the list of what must not return."""
    key = key_of(store, state)
    config = store.configs[store.segments[state["segment"]].encoding]
    return forms(key, config.key_dtype)


def bytes_at(store: Store, number: Any, start: Any, size: Any) -> bytes:
    """Bytes of a segment, from a start on.

    Raises:
        CorruptMemory: There is no such place.
    """
    segment = store.segments.get(number)
    if segment is None or not all(type(cell) is int and cell >= 0 for cell in (start, size)):
        raise CorruptMemory("a row lies in no segment", got=f"segment {number!r:.40}")
    content = store.bytes_of(number)[start : start + size]
    if len(content) != size:
        raise CorruptMemory(f"a row lies behind the end of the segment {segment.file!r}")
    return content.tobytes()


def forms(key: bytes, dtype: np.dtype[Any]) -> tuple[bytes, ...]:
    """Bytes under which a key is known: as they are, and with -0.0 as the equal 0.0.

    Example:
        >>> [len(forms(np.array([x, 1], "<f4").tobytes(), np.dtype("<f4"))) for x in (0.0, -0.0)]
        [1, 2]
    """
    plain = (np.frombuffer(key, dtype) + np.zeros(1, dtype)).tobytes()
    return (key,) if plain == key else (key, plain)
