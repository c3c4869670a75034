"""Keys by the content they came from, so that nothing is encoded twice.

A cache may be deleted at any time. So its file is written without waiting for the disk, a key
whose checksum does not hold counts as absent, and a file that is damaged is thrown away.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from recollect.errors import Closed, InvalidParameter
from recollect.types import Floats

_Result = TypeVar("_Result")

# Marks the file as ours: "rclE" in the header field that SQLite keeps for this purpose.
_APPLICATION = 0x72636C45
_LAYOUT = 1
_MAGIC = b"SQLite format 3\0"
_SUFFIXES = (".cache", ".sqlite")
_BUSY_SECONDS = 10.0
# Locked for too long, or no space left: do without this time.
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)
# Another process may have replaced the file, or it cannot be written: open it again.
_MOVED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
# SQLite takes at least 999 parameters a statement.
_AT_ONCE = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS encodings (
    fingerprint TEXT NOT NULL,
    digest BLOB NOT NULL,
    key BLOB NOT NULL,
    checksum BLOB NOT NULL,
    UNIQUE (fingerprint, digest)
)
"""


class EncodingCache:
    """Keeps keys on disk under (encoder, content), shared by threads and processes.

    Args:
        path: File of the cache, made when absent; ``":memory:"`` for one that ends with the
            process. A damaged cache is replaced by an empty one. A file that is something else
            is refused, unless its name ends in ``.cache`` or ``.sqlite``.

    Raises:
        InvalidParameter: The path cannot hold a cache.

    Example:
        >>> with EncodingCache(":memory:") as cache:
        ...     cache.put("pixels:1", {b"digest": np.array([1.0, 2.0], np.float32)})
        ...     found = cache.get("pixels:1", [b"digest", b"other"])
        >>> found
        {b'digest': array([1., 2.], dtype=float32)}
    """

    def __init__(self, path: str | os.PathLike[str] = ":memory:") -> None:
        self.path = os.fspath(path)
        self._lock = threading.Lock()
        self._closed = False
        self._owner = os.getpid()
        self._connection = self._open()

    def get(self, fingerprint: str, digests: Iterable[bytes]) -> dict[bytes, Floats]:
        """Return the keys that are there, float32 ``(dim,)`` by digest."""
        wanted = list(dict.fromkeys(digests))
        found: dict[bytes, Floats] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            for digest, key, checksum in self._rows(fingerprint, part):
                if _is_whole(fingerprint, digest, key, checksum):
                    found[digest] = np.frombuffer(key, "<f4").astype(np.float32)
        return found

    def _rows(self, fingerprint: str, digests: list[bytes]) -> list[tuple[Any, Any, Any]]:
        marks = ",".join("?" * len(digests))
        query = (
            "SELECT digest, key, checksum FROM encodings"  # noqa: S608 - marks are all "?"
            f" WHERE fingerprint = ? AND digest IN ({marks})"
        )
        return self._run(lambda c: c.execute(query, (fingerprint, *digests)).fetchall(), [])

    def put(self, fingerprint: str, keys: Mapping[bytes, Floats]) -> None:
        """Store keys by digest. A full or read-only disk is no error: they are not kept then."""
        rows = []
        for digest, key in keys.items():
            content = np.ascontiguousarray(key, "<f4").tobytes()
            rows.append((fingerprint, digest, content, _checksum(fingerprint, digest, content)))
        if rows:
            self._run(
                lambda c: c.executemany(
                    "INSERT OR REPLACE INTO encodings VALUES (?, ?, ?, ?)", rows
                ),
                None,
            )

    def forget(self, digests: Iterable[bytes]) -> None:
        """Delete what came from these contents, of every encoder, and overwrite its bytes."""
        rows = [(digest,) for digest in digests]
        self._run(lambda c: c.executemany("DELETE FROM encodings WHERE digest = ?", rows), None)

    def clear(self) -> None:
        """Delete every key and overwrite their bytes."""
        self._run(lambda c: c.execute("DELETE FROM encodings"), None)

    def __len__(self) -> int:
        rows = self._run(lambda c: c.execute("SELECT COUNT(*) FROM encodings").fetchone(), (0,))
        return int(rows[0])

    def close(self) -> None:
        """Close the file. Using the cache afterwards raises ``Closed``."""
        with self._lock:
            self._closed = True
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Callable[[sqlite3.Connection], _Result], otherwise: _Result) -> _Result:
        """Do the work in one transaction; on a damaged file start anew and do it again."""
        with self._lock:
            if self._closed:
                raise Closed(
                    f"the encoding cache {self.path!r} is closed",
                    remedy="Use it inside its `with` block, or make a new one.",
                )
            if self._owner != os.getpid():
                # SQLite forbids a connection to be carried into a forked process.
                self._owner, self._connection = os.getpid(), self._open()
            try:
                with self._connection as connection:
                    return work(connection)
            except sqlite3.DatabaseError as error:
                if _code(error) in _PASSING:
                    return otherwise
                self._connection.close()
                self._connection = self._recover(error)
            with contextlib.suppress(sqlite3.Error), self._connection as connection:
                return work(connection)
            return otherwise

    def _recover(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        try:
            if _code(error) not in _MOVED:
                return self._start_anew()
            return _connect(self.path)
        except (sqlite3.Error, InvalidParameter):
            # Nothing can be kept on this disk now, which is no reason to stop encoding.
            return _connect(":memory:")

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self.path)
        except sqlite3.DatabaseError as error:
            if _code(error) in _PASSING + _MOVED:
                raise self._refused(str(error)) from error
            return self._start_anew()

    def _start_anew(self) -> sqlite3.Connection:
        self._check_replaceable()
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(self.path + suffix).unlink(missing_ok=True)
        try:
            return _connect(self.path)
        except sqlite3.Error as error:
            raise self._refused(str(error)) from error

    def _check_replaceable(self) -> None:
        """A path that was mistyped must not cost anyone a file."""
        try:
            head = Path(self.path).read_bytes()[:100]
        except OSError as error:
            raise self._refused(str(error)) from error
        is_database = head.startswith(_MAGIC)
        is_ours = is_database and int.from_bytes(head[68:72], "big") == _APPLICATION
        if not is_ours and (is_database or not self.path.endswith(_SUFFIXES)):
            raise self._refused("a file that is something else")

    def _refused(self, got: str) -> InvalidParameter:
        return InvalidParameter(
            f"there cannot be an encoding cache at {self.path!r}",
            expected="a writable place, or an encoding cache",
            got=got,
            remedy="Choose another path.",
        )


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    # A crash may cost keys, never a wrong one: each has its checksum.
    connection.execute("PRAGMA synchronous = OFF")
    # What is deleted is overwritten, so that forgotten content leaves no bytes behind.
    connection.execute("PRAGMA secure_delete = ON")
    mark, layout = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if (mark, layout) == (_APPLICATION, _LAYOUT):
        return
    if mark or connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        raise sqlite3.DatabaseError("not a cache of this layout")
    with connection:
        # Two processes may be making the same file: the second finds it made.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_LAYOUT}")


def _code(error: sqlite3.DatabaseError) -> int:
    """Primary result code of SQLite; 0 for errors of our own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _checksum(fingerprint: str, digest: bytes, key: bytes) -> bytes:
    """Covers the row's place too, so that a key under another content is found out."""
    place = f"{fingerprint}\n{digest.hex()}\n".encode()
    return hashlib.blake2b(place + key, digest_size=16).digest()


def _is_whole(fingerprint: str, digest: Any, key: Any, checksum: Any) -> bool:
    """SQLite columns hold any type, and the file may be anyone's."""
    if not all(isinstance(each, bytes) for each in (digest, key, checksum)) or len(key) % 4:
        return False
    return bool(_checksum(fingerprint, digest, key) == checksum)
