"""Searching every byte of a folder for many byte strings at once."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEW = 8
"""Up to this many strings are searched one after the other, more of them together."""
BLOCK = 16 << 20
PROBE = 4
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


def scan(folder: Path, needles: list[Needle]) -> Iterator[Hit]:
    """Find every occurrence of every needle in every file below a folder."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or not path.stat().st_size:
            continue
        here = [needle for needle in needles if name.startswith(needle.only)]
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            find = _one_by_one if len(here) <= FEW else _together
            for needle, offset in find(view, here):
                yield Hit(needle, name, offset)


def _one_by_one(view: mmap.mmap, needles: list[Needle]) -> Iterator[tuple[Needle, int]]:
    for needle in needles:
        place = view.find(needle.content)
        while place >= 0:
            yield needle, place
            place = view.find(needle.content, place + 1)


def _together(view: mmap.mmap, needles: list[Needle]) -> Iterator[tuple[Needle, int]]:
    """Look at every four bytes once, in a table of what some needle's probe hashes to."""
    probes: dict[int, list[tuple[Needle, int]]] = {}
    for needle in needles:
        value, offset = _probe(needle.content)
        probes.setdefault(value, []).append((needle, offset))
    table = np.zeros(1 << 16, bool)
    table[_hash(np.array(list(probes), np.uint32))] = True
    for start in range(0, len(view), BLOCK):
        block = np.frombuffer(view[start : start + BLOCK + PROBE - 1], np.uint8)
        for place, value in _candidates(block, table):
            for needle, offset in probes.get(value, ()):
                begin = start + place - offset
                if begin >= 0 and view[begin : begin + len(needle.content)] == needle.content:
                    yield needle, begin


def _candidates(block: NDArray[np.uint8], table: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    for shift in range(PROBE):
        count = (len(block) - shift) // PROBE
        words = block[shift : shift + count * PROBE].view("<u4")
        for at in np.flatnonzero(table[_hash(words)]).tolist():
            yield shift + at * PROBE, int(words[at])


def _hash(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (words * FACTOR) >> np.uint32(16)


def _probe(content: bytes) -> tuple[int, int]:
    """Choose four bytes of a needle that are unlikely elsewhere: those most unlike each other."""
    last = min(len(content), 256) - PROBE
    offset = max(range(last + 1), key=lambda at: len(set(content[at : at + PROBE]) - {0}))
    return int.from_bytes(content[offset : offset + PROBE], "little"), offset
