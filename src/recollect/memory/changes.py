"""What may have happened to a memory since something was derived from it."""

from __future__ import annotations

from recollect.memory.memory import Memory

SAME_KEYS = {"create", "add", "update", "remove", "replace", "erase", "compact", "allow"}
"""Operations after which a row that is there has the key it had: ids are never used twice."""


def keys_are_as_they_were(memory: Memory, since: int) -> bool:
    """Tell whether every id that was there at a version and is there now has the same key.

    A restoration brings back what keys were then, so it counts as the operations before it.

    Args:
        memory: The memory now.
        since: A version at or before this one; one that was given up since counts as unknown.
    """
    history = memory.versions()
    if history[0].version > since + 1:
        return False  # a compaction gave up versions in between, and what was done in them
    before = {info.operation for info in history if info.version <= since}
    after = {info.operation for info in history if info.version > since}
    if "restore" in after:
        after |= before
    return after - {"restore"} <= SAME_KEYS
