"""Where keys and large values lie: append-only files of raw little-endian records.

A segment grows at its end only. The catalog says how many of its bytes count; whatever a killed
writer left behind that point is overwritten by the next write and never read. Committed bytes
never change, so readers map a segment into memory and share it with the page cache. Anyone can
read one with ``numpy.memmap(path, "<f4").reshape(-1, dim)``.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory

SEGMENT_BYTES = 64 << 20
"""A segment that has grown past this is full; the next write begins another. An erasure rewrites
the segments it touches, so larger ones make it slower; each one is a file that stays open."""

Bytes = NDArray[np.uint8]
_NAME = re.compile(r"keys-\d{6,}\.(float32|float16|uint8)|values-\d{6,}\.bin")
_REMEDY = "Bring the folder back from a backup, or import an exported copy."


def segment_name(number: int, kind: str, dtype: str) -> str:
    """Name of the file of a segment; its ending says how to read it."""
    return f"{kind}-{number:06d}.{dtype if kind == 'keys' else 'bin'}"


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment as the catalog knows it.

    Attributes:
        number: Its number, never reused.
        kind: ``keys`` or ``values``.
        file: File name inside the folder of segments.
        size: Bytes that count.
        unit: Bytes of one record; 1 for values, whose lengths differ.
        encoding: Which of the memory's configurations its keys are of.
    """

    number: int
    kind: str
    file: str
    size: int
    unit: int = 1
    encoding: int = 0


class SegmentFiles(Protocol):
    """Bytes under a name. Knows no rows and no versions."""

    def write(self, name: str, start: int, content: Bytes) -> None:
        """Put bytes at ``start``, making the file if needed. Not durable before ``sync``."""
        ...

    def sync(self) -> None:
        """Make all writes durable, files first, then the folder that names them."""
        ...

    def read(self, name: str, size: int) -> Bytes:
        """Return the first ``size`` bytes, read-only, without copying them."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens if it is not there."""
        ...

    def truncate(self, name: str, size: int) -> None:
        """Cut a file to ``size`` bytes, durably."""
        ...

    def names(self) -> list[str]:
        """Names of all segments there are, known to the catalog or not, sorted."""
        ...

    def close(self) -> None:
        """Release what is held open. Bytes returned by ``read`` stay valid."""
        ...


class FolderFiles:
    """Segments as files in a folder, written with fsync and read through memory maps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, int] = {}
        self._unsynced: set[str] = set()
        self._new_names = False

    def write(self, name: str, start: int, content: Bytes) -> None:
        """Write at a place; a retry writes the same place again."""
        handle = self._handle(name)
        # Once an fsync failed the kernel may have dropped the pages: a rewrite of the same
        # place, which is what a retry does, is the only way to get them back.
        self._unsynced.add(name)
        remaining = memoryview(np.ascontiguousarray(content).data).cast("B")
        while remaining:
            written = os.pwrite(handle, remaining, start)
            start, remaining = start + written, remaining[written:]

    def _handle(self, name: str) -> int:
        if name not in self._open:
            path = self.folder / name
            self._new_names |= not path.exists()
            # A link in a folder that someone sent must not lead a write to another place.
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            self._open[name] = os.open(path, flags, 0o644)
        return self._open[name]

    def sync(self) -> None:
        """Flush what was written, then the folder if names are new."""
        for name in sorted(self._unsynced):
            flush(self._open[name])
        self._unsynced.clear()
        if self._new_names:
            sync_folder(self.folder)
            self._new_names = False

    def read(self, name: str, size: int) -> Bytes:
        """Map the file; a missing or short one is refused, and so is a link."""
        if size == 0:
            return np.empty(0, np.uint8)
        wanted = f"a plain file of at least {size} bytes"
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            handle = os.open(self.folder / name, flags)
        except OSError as error:
            problem = f"the segment {name!r} cannot be opened"
            raise CorruptMemory(
                problem, expected=wanted, got=error.strerror, remedy=_REMEDY
            ) from error
        try:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size < size:
                got = f"{facts.st_size} bytes"
                raise CorruptMemory(
                    f"the segment {name!r} is cut short", expected=wanted, got=got, remedy=_REMEDY
                )
            return np.frombuffer(mmap.mmap(handle, size, access=mmap.ACCESS_READ), np.uint8)
        except (OSError, ValueError, OverflowError) as error:
            if isinstance(error, CorruptMemory):
                raise
            raise CorruptMemory(f"the segment {name!r} cannot be mapped: {error}") from error
        finally:
            os.close(handle)

    def delete(self, name: str) -> None:
        """Unlink the file; maps of it stay valid."""
        handle = self._open.pop(name, None)
        if handle is not None:
            os.close(handle)
        self._unsynced.discard(name)
        (self.folder / name).unlink(missing_ok=True)

    def truncate(self, name: str, size: int) -> None:
        """Cut the file and flush it; one that is not longer is not touched."""
        path = self.folder / name
        if path.exists() and path.lstat().st_size > size:
            handle = self._handle(name)
            os.ftruncate(handle, size)
            flush(handle)

    def names(self) -> list[str]:
        """List the folder."""
        with os.scandir(self.folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            )

    def close(self) -> None:
        """Close the handles of writing."""
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()


class RamFiles:
    """The same for a memory that does not outlive its process."""

    def __init__(self) -> None:
        self._content: dict[str, Bytes] = {}

    def write(self, name: str, start: int, content: Bytes) -> None:
        """Copy into an array that grows by doubling."""
        old = self._content.get(name)
        end = start + len(content)
        if old is None or end > len(old):
            # The first write takes what it needs; a second one shows that more will follow.
            grown = np.empty(end if old is None else max(end, 2 * len(old)), np.uint8)
            if old is not None:
                grown[:start] = old[:start]
            self._content[name] = old = grown
        old[start:end] = content

    def sync(self) -> None:
        """Nothing to do: there is no disk."""

    def read(self, name: str, size: int) -> Bytes:
        """Return a read-only view."""
        content = self._content.get(name, np.empty(0, np.uint8))[:size]
        content.flags.writeable = False
        return content

    def delete(self, name: str) -> None:
        """Drop the array; views of it stay valid."""
        self._content.pop(name, None)

    def truncate(self, name: str, size: int) -> None:
        """Nothing to do: bytes behind the end are never read and not on any disk."""

    def names(self) -> list[str]:
        """List what is held."""
        return sorted(self._content)

    def close(self) -> None:
        """Nothing is held open."""


def sync_folder(folder: Path) -> None:
    """Make new and removed names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        flush(handle)
    finally:
        os.close(handle)


def flush(handle: int) -> None:
    """Bring a file to the disk itself; macOS needs more than fsync for that."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # pragma: no cover - macOS
        fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
    else:
        os.fsync(handle)


def as_bytes(array: NDArray[Any]) -> Bytes:
    """Return the raw bytes of an array, row by row, without copying a contiguous one."""
    return np.ascontiguousarray(array).view(np.uint8).reshape(-1)
