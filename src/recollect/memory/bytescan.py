"""Searching every byte of a folder for many byte strings at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEW = 8
"""Up to this many strings are searched one after the other, more of them together."""
WINDOW = 16 << 20
PROBE = 4
CHOICES = 64
FACTOR = np.uint32(2654435761)  # spreads four bytes over sixteen bits (Knuth's multiplier)


@dataclass(frozen=True, slots=True)
class Needle:
    """A byte string that must not be found.

    Attributes:
        content: At least four bytes.
        kind: ``key``, ``value``, ``label``, ``text`` or ``thumbnail``.
        row: The row it belongs to.
        only: Search only files whose name begins with this; empty for all.
    """

    content: bytes
    kind: str
    row: int
    only: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A place where a needle was found: file name below the folder, and offset in it."""

    needle: Needle
    file: str
    offset: int


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file for reading as long as the block lasts."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def scan(
    folder: Path,
    needles: Sequence[Needle],
    *,
    opener: Callable[[Path], AbstractContextManager[int]] = opened,
) -> Iterator[Hit]:
    """Find every occurrence of every needle in every file below a folder.

    Args:
        folder: Where to search.
        needles: What to search for.
        opener: Gives the descriptor of a file, which is only read from.
    """
    finders: dict[tuple[str, ...], _Finder] = {}
    kinds = sorted({needle.only for needle in needles})
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file():
            continue
        here = tuple(only for only in kinds if name.startswith(only))
        if here not in finders:
            finders[here] = _Finder([needle for needle in needles if needle.only in here])
        with opener(path) as handle:
            for needle, offset in finders[here].search(handle):
                yield Hit(needle, name, offset)


class _Finder:
    """Needles made ready to be searched for in many files."""

    def __init__(self, needles: Sequence[Needle]) -> None:
        self.needles = needles
        self.overlap = max((len(needle.content) for needle in needles), default=1) - 1
        self.probes: dict[int, list[tuple[Needle, int]]] = {}
        if len(needles) > FEW:
            for needle, (value, offset) in zip(needles, _choose_probes(needles), strict=True):
                self.probes.setdefault(value, []).append((needle, offset))
            self.table = np.zeros(1 << 16, bool)
            self.table[_hash(np.array(list(self.probes), np.uint32))] = True

    def search(self, handle: int) -> Iterator[tuple[Needle, int]]:
        """Find the needles in a file; windows overlap, so that none is missed between two."""
        start = 0
        while window := _read(handle, start, WINDOW + self.overlap):
            find = self._together if self.probes else self._one_by_one
            for needle, place in find(window):
                if place < WINDOW:
                    yield needle, start + place
            start += WINDOW

    def _one_by_one(self, window: bytes) -> Iterator[tuple[Needle, int]]:
        for needle in self.needles:
            place = window.find(needle.content)
            while place >= 0:
                yield needle, place
                place = window.find(needle.content, place + 1)

    def _together(self, window: bytes) -> Iterator[tuple[Needle, int]]:
        """Look at every four bytes once, in a table of what some needle's probe hashes to."""
        for place, value in self._candidates(np.frombuffer(window, np.uint8)):
            for needle, offset in self.probes.get(value, ()):
                begin = place - offset
                if begin >= 0 and window.startswith(needle.content, begin):
                    yield needle, begin

    def _candidates(self, window: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
        for shift in range(PROBE):
            count = (len(window) - shift) // PROBE
            if count > 0:
                words = window[shift : shift + count * PROBE].view("<u4")
                places = np.flatnonzero(self.table[_hash(words)])
                yield from zip(
                    (shift + places * PROBE).tolist(), words[places].tolist(), strict=True
                )


def _read(handle: int, start: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.pread(handle, size, start)):
        parts.append(part)
        start, size = start + len(part), size - len(part)
    return b"".join(parts)


def _hash(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (words * FACTOR) >> np.uint32(16)


def _choose_probes(needles: Sequence[Needle]) -> list[tuple[int, int]]:
    """Choose four bytes of each needle that few others have, and no zeros; and their offset.

    Paths begin alike and end alike; a probe that all of them share would make the search compare
    every one of them at every path that stays.
    """
    places, words, owners = [], [], []
    for number, needle in enumerate(needles):
        last = len(needle.content) - PROBE
        for place in range(0, last + 1, 1 + last // CHOICES):
            places.append(place)
            words.append(needle.content[place : place + PROBE])
            owners.append(number)
    values = np.frombuffer(b"".join(words), "<u4")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    zeros = (values.view(np.uint8).reshape(-1, PROBE) == 0).sum(axis=1)
    cost = counts[inverse] + zeros * len(needles)
    order = np.lexsort((cost, np.array(owners)))
    first = order[np.searchsorted(np.array(owners)[order], np.arange(len(needles)))]
    return [(int(values[at]), places[at]) for at in first.tolist()]
