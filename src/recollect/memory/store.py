"""The durable table: a SQLite catalog that decides what happened, and segments of raw bytes.

A write appends to segments, brings them to the disk, and then commits the catalog once: the
commit is the only moment that counts. Whatever a killed writer left behind is not in the catalog
and is overwritten or deleted by the next one. This module knows no search.
"""

from __future__ import annotations

import operator
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from recollect.errors import (
    Closed,
    CorruptMemory,
    MemoryNotFound,
    ReadOnly,
    UnknownVersion,
)
from recollect.locks import ProcessLock
from recollect.memory.catalog import (
    check_schema,
    connect,
    encoding_of,
    guarded_catalog,
    make_tables,
    read_head,
    read_states,
    refusal,
    typed_lines,
)
from recollect.memory.faults import RESTORE
from recollect.memory.held import Identity, connected, disconnected
from recollect.memory.lock import WriterLock
from recollect.memory.schema import STATE_COLUMNS, UPGRADES, Configuration
from recollect.memory.segments import (
    SEGMENT_BYTES,
    FolderFiles,
    RamFiles,
    SegmentFiles,
    sync_folder,
)
from recollect.memory.sums import version_sum
from recollect.memory.table import LabelBook, RowTable
from recollect.types import VersionInfo

CATALOG, SEGMENTS, CACHE, LOCK = "catalog.sqlite", "segments", "cache", "writer.lock"
OURS = (CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm", SEGMENTS, CACHE, LOCK)
JOURNAL = f"{CATALOG}-journal"

VERSION_TYPES = (int, float, str, int, int)
NOWHERE = Path(":memory:")
NEVER = (1 << 63) - 1


class Store:
    """One open memory on disk or in RAM.

    Args:
        folder: Its folder, or None for RAM.
        read_only: Take no lock and refuse every write.
        timeout: Seconds to wait for another writer.
        clock: Gives the time of a write, in seconds since 1970.
        files: Makes what reads and writes the segments of a folder.
        segment_bytes: A segment that has grown past this is full.

    Attributes:
        generation: Counts how often the rows were read anew or moved to other files; a view made
            before must be made again.
        held_by: The thread that holds the rows still for a question of several calls; all others
            wait for the mutex meanwhile.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        read_only: bool = False,
        timeout: float = 0.0,
        clock: Callable[[], float] = time.time,
        files: Callable[[Path], SegmentFiles] = FolderFiles,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.folder, self.read_only, self.clock = folder, read_only, clock
        self.segment_bytes = segment_bytes
        self.mutex = ProcessLock(threading.RLock)
        self.held_by: int | None = None
        self.files: SegmentFiles = RamFiles()
        self.lock: WriterLock | None = None
        self._db: sqlite3.Connection | None = None
        self.generation = 0
        self._process = os.getpid()
        self._connected: Identity | None = None
        self._mapped: dict[int, tuple[int, NDArray[np.uint8]]] = {}
        try:
            if folder is not None:
                self._open_folder(folder, timeout, files)
        except BaseException:
            self.close()
            raise

    def _open_folder(
        self, folder: Path, timeout: float, files: Callable[[Path], SegmentFiles]
    ) -> None:
        catalog = folder / CATALOG
        if not catalog.is_file():
            raise MemoryNotFound(
                f"there is no memory at {str(folder)!r}",
                expected=f"a folder that holds {CATALOG}",
                got="a folder without it" if folder.is_dir() else "no such folder",
                remedy="Check the path, or make one with Memory.create or `recollect init`.",
            )
        _refuse_strange(folder)
        self.files = files(folder / SEGMENTS)
        if not self.read_only:
            self.lock = WriterLock(folder / LOCK, timeout=timeout)
        self._connected = connected(folder)
        with guarded_catalog(catalog):
            self._db = connect(catalog, read_only=self.read_only)
            with self.snapshot():
                check_schema(self._db, where=str(folder), read_only=self.read_only)
                self.load_head()
            if not self.read_only:
                self._sweep()

    def found(self, config: Configuration) -> None:
        """Begin an empty memory in RAM."""
        self._db = connect(":memory:")
        make_tables(self._db, config, self.clock)
        self.load_head()

    @property
    def db(self) -> sqlite3.Connection:
        """The catalog's connection.

        Raises:
            Closed: After :meth:`close`.
        """
        if self._db is None:
            raise Closed(
                "the memory is closed", remedy="Open it again with Memory.open, or use `with`."
            )
        self.require_own_process()
        return self._db

    def require_own_process(self) -> None:
        """Refuse a copy that came with a fork: two processes must not share one catalog.

        Raises:
            Closed: This process is not the one that opened it.
        """
        if self.folder is not None and self._process != os.getpid():
            raise Closed(
                "the memory was opened by another process, of which this one is a fork",
                expected=f"process {self._process}",
                got=f"process {os.getpid()}",
                remedy="Open it here, with read_only=True if the other process writes.",
            )

    def load_head(self) -> None:
        """Read the configuration, the newest version and the segments."""
        head = read_head(self.db)
        self.format, self.configs, self.encoding = head.format, dict(head.configs), head.encoding
        self.config, self.oldest, self.version = head.config, head.oldest, head.version
        self.segments, self.columns = dict(head.segments), dict(head.columns)
        self.next_id, self.last_segment = head.next_id, head.last_segment
        self._head = head
        self.seen = self._data_version()

    def _data_version(self) -> int:
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def changed_elsewhere(self) -> bool:
        """Has another process committed since the head was read?"""
        return self.read_only and self._data_version() != self.seen

    def follow(self) -> None:
        """Read the head anew if another process has committed."""
        if self.changed_elsewhere():
            self.load_head()
            self.generation += 1
            self._mapped = {
                number: kept for number, kept in self._mapped.items() if number in self.segments
            }

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One version for everything that is read inside, whatever a writer elsewhere commits."""
        if not self.read_only or self.db.in_transaction:
            yield
            return
        self.db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _sweep(self) -> None:
        """Clean up what a killed writer left behind."""
        with suppress(OSError):  # left where it is, it is never read
            self.drop_strays()
        if self.db.execute("SELECT 1 FROM about WHERE name = 'erasing'").fetchone():
            # On a full disk this waits for the next writer.
            with suppress(sqlite3.OperationalError, OSError):
                self.scrub()

    def drop_strays(self) -> None:
        """Delete bytes that no row refers to: segments the catalog does not name, and tails."""
        known = {segment.file: segment.size for segment in self.segments.values()}
        for name in self.files.names():
            if name in known:
                self.files.truncate(name, known[name])
            else:
                self.files.delete(name)

    def scrub(self) -> bool:
        """Bring deletions down to the bytes: drop caches, empty the log, rebuild the catalog.

        Returns:
            False if a reader stands in the way; the next writer to open the memory tries again.
        """
        self.drop_cache()
        if self.folder is not None:
            sync_folder(self.folder / SEGMENTS)
            self.db.execute("VACUUM")
            if not self.checkpoint():
                return False
            sync_folder(self.folder)
        self.db.execute("DELETE FROM about WHERE name = 'erasing'")
        return True

    def checkpoint(self) -> bool:
        """Move the log into the catalog and empty it; False if a reader stands in the way."""
        busy: int = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return busy == 0

    def drop_cache(self) -> None:
        """Throw away everything that can be computed again."""
        if self.folder is not None:
            shutil.rmtree(self.folder / CACHE, ignore_errors=True)

    def guarded(self) -> AbstractContextManager[None]:
        """Turn what SQLite says of damaged bytes into one error of the tree."""
        return guarded_catalog(self.folder or NOWHERE)

    # -- reading -------------------------------------------------------------------------------

    def check_version(self, version: Any) -> int:
        """Return a version that can be read as int; raise ``UnknownVersion`` for any other."""
        with suppress(TypeError):
            number = operator.index(version)
            if self.oldest <= number <= self.version and not isinstance(version, bool):
                return number
        raise UnknownVersion(
            "no such version",
            expected=f"{self.oldest} to {self.version}",
            got=f"{version!r:.80}",
            remedy="Memory.versions() lists them; compact() forgets those before it.",
        )

    @property
    def died(self) -> str:
        """SQL: the version with which a state of ``rows`` ended, or NULL."""
        if self.format < 3:
            return "died"
        return "IFNULL(died, (SELECT version FROM ended WHERE ended.state = rows.state))"

    @property
    def state_columns(self) -> str:
        """SQL: every column of a state, those of the metadata last."""
        names = (f"{self.died} AS died" if name == "died" else name for name in STATE_COLUMNS)
        return ", ".join([*names, *(place for _, place in self.columns.values())])

    @property
    def alive(self) -> str:
        """SQL: a state of ``rows`` has not ended."""
        if self.format < 3:
            return "died IS NULL"
        return "died IS NULL AND state NOT IN (SELECT state FROM ended)"

    @property
    def alive_at(self) -> str:
        """SQL: a state of ``rows`` was alive in version ``:v``."""
        return f"born <= :v AND IFNULL({self.died}, {NEVER}) > :v"

    def encoding_at(self, version: int | None) -> int:
        """Which encoding the keys of a version are of, or those of the newest for None."""
        if version is None:
            return self.encoding
        encoding = encoding_of(self.db, self.format, version)
        if encoding not in self.configs:
            raise CorruptMemory(
                f"version {version} names an encoding that is not there", remedy=RESTORE
            )
        return encoding

    def load_table(self, version: int | None) -> tuple[RowTable, LabelBook]:
        """Read the rows of one version, or of the newest for None."""
        condition, at = (self.alive, {}) if version is None else (self.alive_at, {"v": version})
        states, labels = read_states(self.db, condition, at, self._head, self.encoding_at(version))
        codes = states["code"] if self.config.value == "label" else np.zeros(0, np.int64)
        return RowTable(states), LabelBook(labels, codes)

    def bytes_of(self, number: int) -> NDArray[np.uint8]:
        """All committed bytes of a segment, read-only, mapped and not copied."""
        segment = self.segments[number]
        size, content = self._mapped.get(number, (-1, None))
        if content is None or size != segment.size:
            content = self.files.read(segment.file, segment.size)
            self._mapped[number] = (segment.size, content)
        return content

    def forget_mapped(self) -> None:
        """Let go of files that were replaced; arrays made from them stay valid."""
        self._mapped.clear()

    def versions(self) -> list[VersionInfo]:
        """Every version that can be read, oldest first."""
        query = "SELECT version, time, operation, rows, changed FROM versions ORDER BY version"
        return [VersionInfo(*line) for line in typed_lines(self.db, query, *VERSION_TYPES)]

    def encodings(self) -> dict[int, int]:
        """Encoding of each version that can be read; empty if there never was but one."""
        if self.format < 2:
            return {}
        return dict(typed_lines(self.db, "SELECT version, encoding FROM versions", int, int))

    # -- writing -------------------------------------------------------------------------------

    def refuse_write(self) -> NoReturn:
        """Say that this handle only reads.

        Raises:
            ReadOnly: Always.
        """
        raise ReadOnly(
            "this handle only reads",
            expected="a memory opened for writing",
            got="read_only=True, or a past version",
            remedy="Open it with Memory.open(uri); restore(version) brings a version back.",
        )

    @contextmanager
    def write(self) -> Iterator[int]:
        """Make everything inside one atomic version; yields its number.

        On any error the catalog is rolled back and bytes that were appended do not count.
        """
        if self.read_only:
            self.refuse_write()
        with self.mutex:
            db = self.db
            try:
                db.execute("BEGIN IMMEDIATE")
                if db.execute("SELECT MAX(version) FROM versions").fetchone()[0] != self.version:
                    self.load_head()  # an interrupt came between a commit and reading it back
                yield self.version + 1
                self.files.sync()
                db.execute("COMMIT")
            except BaseException as error:
                with self.guarded():
                    self._roll_back()
                said = refusal(error)
                if said is error:
                    raise
                raise said from error
            self.load_head()

    def _roll_back(self) -> None:
        if self._db is None:
            return
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self.load_head()

    def record_version(self, version: int, operation: str, *, grown: int, changed: int) -> None:
        """Note the version that is being written, with ``grown`` more rows than the last."""
        query = "SELECT rows FROM versions WHERE version = ?"
        ((rows,),) = typed_lines(self.db, query, int, given=(version - 1,))
        line = (version, float(self.clock()), operation, rows + grown, changed)
        total = version_sum(*line, self.encoding)
        if self.format < 2:
            self.db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)", (*line, total))
        else:
            self.db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", (*line, total, self.encoding)
            )

    def upgrade(self, wanted: int) -> None:
        """Bring the tables to a format, unless they have it, as part of the write that needs it."""
        for number in range(self.format + 1, wanted + 1):
            for statement in UPGRADES[number].split(";")[:-1]:
                self.db.execute(statement)
            self.db.execute(f"PRAGMA user_version = {number}")
            self.format = number

    def settle(self) -> None:
        """Let every state say itself that it has ended, as part of a write."""
        if self.format > 2:
            self.db.execute(
                f"UPDATE rows SET died = {self.died} WHERE state IN (SELECT state FROM ended)"
            )
            self.db.execute("DELETE FROM ended")

    def begin_encoding(self, config: Configuration) -> None:
        """Let the version that is being written have keys of another encoder."""
        self.upgrade(2)
        number, text = 1 + max(self.configs), config.to_json()
        self.db.execute(
            "INSERT INTO encodings VALUES (?, ?, ?)", (number, text, crc32(text.encode()))
        )
        self.configs[number] = config
        self.use_encoding(number)

    def use_encoding(self, number: int) -> None:
        """Let the version that is being written have keys of an encoding that is there."""
        self.encoding, self.config = number, self.configs[number]

    def close(self) -> None:
        """Release the catalog, the files and the lock; harmless when called again."""
        if self._process != os.getpid():
            return  # the files and the lock belong to the process that opened them
        with self.mutex:
            if self._db is not None:
                self._db.close()
                self._db = None
            if self._connected is not None:
                disconnected(self._connected)
                self._connected = None
            self._mapped.clear()
            self.files.close()
            if self.lock is not None:
                self.lock.release()


def _refuse_strange(folder: Path) -> None:
    """Refuse a folder in which something is not what this library puts there.

    A link could lead a write to any file of the user's, and a rollback journal can make SQLite
    delete one; a memory has neither.
    """
    for name in OURS:
        if (folder / name).is_symlink():
            raise CorruptMemory(
                f"{name!r} in {str(folder)!r} is a link", expected="the file or folder itself",
                remedy="Move what it points to into its place, if you trust it.",
            )  # fmt: skip
    if (folder / JOURNAL).exists() or not (folder / SEGMENTS).is_dir():
        raise CorruptMemory(
            f"the folder {str(folder)!r} is not one of a memory",
            expected=f"a folder {SEGMENTS!r}, and no {JOURNAL!r}",
            remedy=RESTORE,
        )
