"""The durable table: a SQLite catalog that decides what happened, and segments of raw bytes.

A write appends to segments, brings them to the disk, and then commits the catalog once: the
commit is the only moment that counts. Whatever a killed writer left behind is not in the catalog
and is overwritten or deleted by the next one. This module knows no search.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from recollect.errors import (
    Closed,
    CorruptMemory,
    MemoryExists,
    MemoryNotFound,
    ReadOnly,
    RecollectError,
    UnknownVersion,
    WriteFailed,
)
from recollect.memory.lock import WriterLock
from recollect.memory.schema import (
    FORMAT,
    TABLES,
    Configuration,
    check_format,
    parse_configuration,
)
from recollect.memory.segments import FolderFiles, RamFiles, Segment, SegmentFiles, sync_folder
from recollect.memory.table import STATE, LabelBook, RowTable, States
from recollect.types import VersionInfo

CATALOG, SEGMENTS, CACHE, LOCK = "catalog.sqlite", "segments", "cache", "writer.lock"
BUSY_SECONDS = 10.0

SELECT_STATES = """
    SELECT id, segment, record, key_sum, norm, weight, IFNULL(code, -1), IFNULL(number, 0.0),
           IFNULL(value_segment, -1), IFNULL(value_start, 0), IFNULL(value_bytes, 0)
    FROM rows WHERE """
ALIVE = "died IS NULL"
ALIVE_AT = "born <= :v AND (died IS NULL OR died > :v)"


class Store:
    """One open memory on disk or in RAM.

    Args:
        folder: Its folder, or None for RAM.
        read_only: Take no lock and refuse every write.
        timeout: Seconds to wait for another writer.
        clock: Gives the time of a write, in seconds since 1970.
        files: Makes what reads and writes the segments of a folder.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        read_only: bool = False,
        timeout: float = 0.0,
        clock: Callable[[], float] = time.time,
        files: Callable[[Path], SegmentFiles] = FolderFiles,
    ) -> None:
        self.folder, self.read_only, self.clock = folder, read_only, clock
        self.mutex = threading.RLock()
        self.files: SegmentFiles = RamFiles()
        self.lock: WriterLock | None = None
        self._db: sqlite3.Connection | None = None
        self.rewrites = 0  # how often files were replaced; views made before must be read anew
        self._mapped: dict[int, tuple[int, NDArray[np.uint8]]] = {}
        try:
            if folder is None:
                self._db = _connect(":memory:")
                _make_tables(self._db)
            else:
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
        self.files = files(folder / SEGMENTS)
        if not self.read_only:
            self.lock = WriterLock(folder / LOCK, timeout=timeout)
        with guarded_catalog(catalog):
            self._db = _connect(catalog, read_only=self.read_only)
            number = self._db.execute("PRAGMA user_version").fetchone()[0]
            check_format(number, where=str(folder))
            self.load_head()
        if not self.read_only:
            self._sweep()

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
        return self._db

    def load_head(self) -> None:
        """Read the configuration, the newest version and the segments."""
        about = dict(self.db.execute("SELECT name, value FROM about"))
        if "configuration" not in about or "checksum" not in about:
            raise CorruptMemory("the catalog does not say what memory this is")
        self.config = parse_configuration(about["configuration"], about["checksum"])
        self.oldest = int(about.get("oldest", "0"))
        self.version = int(self.db.execute("SELECT MAX(version) FROM versions").fetchone()[0])
        self.segments = {
            row[0]: Segment(*row)
            for row in self.db.execute("SELECT segment, kind, file, bytes FROM segments")
        }
        self.columns: dict[str, tuple[str, str]] = {
            name: (kind, place)
            for name, kind, place in self.db.execute("SELECT name, kind, place FROM columns")
        }
        self.next_id = 1 + max(
            self.db.execute(f"SELECT IFNULL(MAX(id), -1) FROM {table}").fetchone()[0]
            for table in ("rows", "retired")
        )
        self.seen = self._data_version()

    def _data_version(self) -> int:
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def changed_elsewhere(self) -> bool:
        """Has another process committed since the head was read?"""
        return self.read_only and self._data_version() != self.seen

    def _sweep(self) -> None:
        """Delete what a killed writer left: segments that no catalog names."""
        known = {segment.file for segment in self.segments.values()}
        for name in self.files.names():
            if name not in known:
                self.files.delete(name)
        if self.db.execute("SELECT 1 FROM about WHERE name = 'erasing'").fetchone():
            self.scrub()

    def scrub(self) -> bool:
        """Bring deletions down to the bytes: drop caches, empty the log, rebuild the catalog.

        Returns:
            False if a reader stands in the way; the next writer to open the memory tries again.
        """
        self.drop_cache()
        if self.folder is not None:
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
        return guarded_catalog(self.folder or Path(":memory:"))

    # -- reading -------------------------------------------------------------------------------

    def check_version(self, version: int) -> None:
        """Raise ``UnknownVersion`` unless this version can be read."""
        if not (isinstance(version, int) and self.oldest <= version <= self.version):
            raise UnknownVersion(
                "no such version",
                expected=f"{self.oldest} to {self.version}",
                got=repr(version),
                remedy="Memory.versions() lists them; compact() forgets those before it.",
            )

    def load_table(self, version: int | None) -> tuple[RowTable, LabelBook]:
        """Read the rows of one version, or of the newest for None."""
        where = ALIVE if version is None else ALIVE_AT
        cursor = self.db.execute(SELECT_STATES + where, {} if version is None else {"v": version})
        states: States = np.fromiter(cursor, STATE)
        labels = dict(self.db.execute("SELECT code, label FROM labels"))
        codes = states["code"] if self.config.value == "label" else np.zeros(0, np.int64)
        if len(codes) and not (codes.min() >= 0 and codes.max() <= max(labels, default=-1)):
            raise CorruptMemory("a row has a label that the catalog does not name")
        return RowTable(states), LabelBook(labels, codes)

    def bytes_of(self, number: int) -> NDArray[np.uint8]:
        """All committed bytes of a segment, read-only, mapped and not copied."""
        segment = self.segments[number]
        size, content = self._mapped.get(number, (-1, None))
        if content is None or size != segment.size:
            content = self.files.read(segment.file, segment.size)
            self._mapped[number] = (segment.size, content)
        return content

    def keys_of(self, number: int) -> NDArray[Any]:
        """The keys of a segment, ``(records, dim)``, mapped."""
        return self.bytes_of(number).view(self.config.key_dtype).reshape(-1, self.config.dim)

    def forget_mapped(self) -> None:
        """Let go of files that were replaced; arrays made from them stay valid."""
        self._mapped.clear()

    def versions(self) -> list[VersionInfo]:
        """Every version that can be read, oldest first."""
        cursor = self.db.execute(
            "SELECT version, time, operation, rows, changed FROM versions "
            "WHERE version >= ? ORDER BY version",
            (self.oldest,),
        )
        return [VersionInfo(*row) for row in cursor]

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
                refusal = _refusal(error)
                if refusal is error:
                    raise
                raise refusal from error
            self.load_head()

    def _roll_back(self) -> None:
        if self._db is None:
            return
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self.load_head()

    def record_version(self, version: int, operation: str, *, grown: int, changed: int) -> None:
        """Note the version that is being written, with ``grown`` more rows than the last."""
        self.db.execute(
            "INSERT INTO versions SELECT ?, ?, ?, rows + ?, ? FROM versions WHERE version = ?",
            (version, self.clock(), operation, grown, changed, version - 1),
        )

    def close(self) -> None:
        """Release the catalog, the files and the lock; harmless when called again."""
        with self.mutex:
            if self._db is not None:
                self._db.close()
                self._db = None
            self._mapped.clear()
            self.files.close()
            if self.lock is not None:
                self.lock.release()


def create_folder(folder: Path, config: Configuration, clock: Callable[[], float]) -> None:
    """Make an empty memory: built beside its place, then moved there in one step.

    Raises:
        MemoryExists: There is something at this place.
        WriteFailed: The disk refused.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise MemoryExists(
            f"there is something at {str(folder)!r} already",
            expected="a new path, or an empty folder",
            got="a memory" if (folder / CATALOG).exists() else "other files",
            remedy="Open it with Memory.open, or choose another path.",
        )
    building = folder.with_name(f".{folder.name}.creating-{os.getpid()}-{threading.get_ident()}")
    try:
        (building / SEGMENTS).mkdir(parents=True)
        db = _connect(building / CATALOG)
        _make_tables(db)
        _describe(db, config, clock)
        db.close()
        sync_folder(building / SEGMENTS)
        sync_folder(building)
        building.rename(folder)
        sync_folder(folder.parent)
    except (OSError, sqlite3.Error) as error:
        raise WriteFailed(
            f"a memory cannot be made at {str(folder)!r}",
            got=str(error),
            remedy="Check that the parent folder is writable and has room.",
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def create_ram(config: Configuration, clock: Callable[[], float]) -> Store:
    """Make an empty memory that does not outlive the process."""
    store = Store(None, clock=clock)
    _describe(store.db, config, clock)
    store.load_head()
    return store


def _describe(db: sqlite3.Connection, config: Configuration, clock: Callable[[], float]) -> None:
    text = config.to_json()
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO about VALUES (?, ?)",
        [("configuration", text), ("checksum", str(zlib.crc32(text.encode())))],
    )
    db.execute("INSERT INTO versions VALUES (0, ?, 'create', 0, 0)", (clock(),))
    db.execute("COMMIT")


def _make_tables(db: sqlite3.Connection) -> None:
    db.executescript("BEGIN;" + TABLES + f"PRAGMA user_version = {FORMAT}; COMMIT;")


def _connect(place: str | Path, *, read_only: bool = False) -> sqlite3.Connection:
    if isinstance(place, str):
        address = place
    else:
        mode = "ro" if read_only else "rwc"
        if read_only and not os.access(place.parent, os.W_OK):
            # Without a writable folder SQLite cannot share memory with a writer: there is none.
            mode = "ro&immutable=1"
        address = f"file:{quote(str(place.absolute()))}?mode={mode}"
    db = sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
    if not read_only:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA secure_delete = ON")  # deleted content is overwritten with zeros
    db.execute("PRAGMA temp_store = MEMORY")  # nothing of a row is ever written elsewhere
    db.execute("PRAGMA trusted_schema = OFF")  # a foreign catalog runs no functions
    return db


def _refusal(error: BaseException) -> BaseException:
    """Say in the library's own words why a write did not happen."""
    if isinstance(error, RecollectError) or not isinstance(error, sqlite3.Error | OSError):
        return error
    if type(error) is sqlite3.DatabaseError:  # its subclasses do not speak of damaged bytes
        return CorruptMemory(f"the catalog is damaged: {error}")
    return WriteFailed(
        "the write could not be made durable",
        got=str(error),
        remedy="Nothing was changed. Make room on the disk or mend it, then retry.",
    )


@contextmanager
def guarded_catalog(place: Path) -> Iterator[None]:
    """Turn what SQLite says of damaged bytes into one error of the tree."""
    try:
        yield
    except sqlite3.Error as error:
        raise CorruptMemory(
            f"the catalog {str(place)!r} cannot be read",
            expected="a SQLite file as it was written",
            got=str(error),
            remedy="Bring the folder back from a backup, or import an exported copy.",
        ) from error
