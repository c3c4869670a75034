"""Reading SQLite's files without taking its locks away.

When a process closes *any* descriptor of a file, POSIX releases all locks that the process holds
on that file, those of SQLite among them. A reader elsewhere then takes the memory for unused and
makes its shared index anew under the writer's feet, which ends in a bus error or worse ("How To
Corrupt An SQLite Database File", section 2.2). So what we open of these files stays open until no
connection of this process is left.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path
from typing import TypeAlias

Identity: TypeAlias = tuple[int, int]

_guard = threading.Lock()
_connections: Counter[Identity] = Counter()
_held: dict[Identity, dict[Identity, int]] = {}


def connected(folder: Path) -> Identity:
    """Note one more connection to the catalog in a folder; returns what to tell `disconnected`."""
    identity = _identify(folder.stat())
    with _guard:
        _connections[identity] += 1
    return identity


def disconnected(identity: Identity) -> None:
    """Note that a connection was closed; after the last one nothing is held any more."""
    with _guard:
        _connections[identity] -= 1
        if not _connections[identity]:
            del _connections[identity]
            for handle in _held.pop(identity, {}).values():
                os.close(handle)


def hold(folder: Path, name: str) -> int:
    """Return a descriptor of a file of the catalog's, for reading, not to be closed."""
    identity = _identify(folder.stat())
    with _guard:
        handles = _held.setdefault(identity, {})
        known = handles.get(_identify((folder / name).stat()))
        if known is not None:
            return known
        handle = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        handles[_identify(os.fstat(handle))] = handle
        return handle


def _identify(facts: os.stat_result) -> Identity:
    return facts.st_dev, facts.st_ino
