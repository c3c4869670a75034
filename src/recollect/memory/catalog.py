"""Reading a catalog: bytes to values, values judged, and only then used. Anyone can send us one.

The schema must be the one this library makes, to the letter, so that no view, trigger or default
of a stranger runs; names of files and columns are compared with what they have to be, never
trusted; every number is checked against the sizes of the files before anything is allocated.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zlib import crc32

import numpy as np

from recollect.errors import CorruptMemory, MemoryLocked, RecollectError, WriteFailed
from recollect.memory.faults import RESTORE, check_states
from recollect.memory.schema import (
    COLUMN_KINDS,
    FORMAT,
    TABLES,
    UPGRADES,
    VALUE_COLUMNS,
    Configuration,
    check_format,
    parse_configuration,
)
from recollect.memory.segments import Segment, segment_name
from recollect.memory.sums import version_sum
from recollect.memory.table import STATE, States

BUSY_SECONDS = 10.0
ABOUT = {"configuration", "checksum", "erasing", "no_return_key"}


@dataclass(frozen=True, slots=True)
class Head:
    """What a catalog says of the memory as a whole.

    Attributes:
        format: The format it is written in.
        configs: Configuration of each encoding; 0 is the one it was created with.
        encoding: That of the newest version.
        oldest: The first version that can be read.
        version: The newest.
        segments: Segment of each number.
        columns: Kind and place of each metadata column.
        next_id: The smallest id above all that were ever used.
        last_segment: The largest number that a segment ever had.
    """

    format: int
    configs: dict[int, Configuration]
    encoding: int
    oldest: int
    version: int
    segments: dict[int, Segment]
    columns: dict[str, tuple[str, str]]
    next_id: int
    last_segment: int

    @property
    def config(self) -> Configuration:
        """The configuration of the newest version."""
        return self.configs[self.encoding]


def connect(place: str | Path, *, read_only: bool = False, new: bool = False) -> sqlite3.Connection:
    """Open a catalog, or one in RAM if ``place`` is text. Only a new one is written to."""
    if isinstance(place, str):
        address = place
    else:
        mode = "ro" if read_only else "rwc" if new else "rw"
        log = place.with_name(f"{place.name}-wal")
        if read_only and not log.exists() and not os.access(place.parent, os.W_OK):
            # SQLite needs a file beside the catalog to share it with a writer. There is none, and
            # none can be made here; so there is no writer either, and the file alone is whole.
            mode = "ro&immutable=1"
        address = f"file:{quote(os.fsencode(place.absolute()))}?mode={mode}"
    db = sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
    if new:
        db.execute("PRAGMA journal_mode = WAL")  # recorded in the file
    if not read_only:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA secure_delete = ON")  # deleted content is overwritten with zeros
    db.execute("PRAGMA temp_store = MEMORY")  # nothing of a row is ever written elsewhere
    db.execute("PRAGMA trusted_schema = OFF")  # a foreign catalog runs no functions
    return db


def make_tables(db: sqlite3.Connection, config: Configuration, clock: Callable[[], float]) -> None:
    """Write the tables of an empty memory."""
    tables = TABLES + "".join(UPGRADES.values())
    db.executescript(f"BEGIN; {tables} PRAGMA user_version = {FORMAT}; COMMIT;")
    text, moment = config.to_json(), float(clock())
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO about VALUES (?, ?)",
        [("configuration", text), ("checksum", str(crc32(text.encode())))],
    )
    first = (0, moment, "create", 0, 0)
    db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, 0)", (*first, version_sum(*first)))
    db.execute("COMMIT")


# -- the schema ------------------------------------------------------------------------------------


def check_schema(db: sqlite3.Connection, *, where: str, read_only: bool) -> None:
    """Refuse a catalog that is not laid out exactly as this library does it.

    Raises:
        UnsupportedFormat: A newer version wrote it.
        CorruptMemory: It is something else, or was altered.
    """
    number = _format_of(db)
    check_format(number, where=where)
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal" and not read_only:
        raise CorruptMemory(
            f"the catalog at {where!r} was altered", expected="SQLite's WAL mode", got=f"{mode!r}",
            remedy=RESTORE,
        )  # fmt: skip
    found = _schema(db)
    table = next((line[3] for line in found if line[:2] == ("table", "rows")), "")
    columns = len(re.findall(r",m\d+", table))
    difference = found ^ _expected_schema(columns, number)
    if not difference and db.execute("SELECT COUNT(*) FROM columns").fetchone() != (columns,):
        difference = {("table", "columns", "", "")}
    for line in difference:
        raise CorruptMemory(
            f"the catalog at {where!r} is not laid out as a memory's",
            expected="the tables this library makes, and nothing else",
            got=f"a difference in {line[0]} {line[1]!r}"[:120],
            remedy=RESTORE,
        )


def _schema(db: sqlite3.Connection) -> set[tuple[str, str, str, str]]:
    lines = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    return {(str(a), str(b), str(c), re.sub(r"\s+", "", str(sql))) for a, b, c, sql in lines}


@cache
def _expected_schema(columns: int, number: int) -> frozenset[tuple[str, str, str, str]]:
    db = sqlite3.connect(":memory:")
    try:
        db.executescript(TABLES)
        for added, statements in UPGRADES.items():
            if added <= number:
                db.executescript(statements)
        for place in range(columns):
            db.execute(f"ALTER TABLE rows ADD COLUMN m{place}")
        return frozenset(_schema(db))
    finally:
        db.close()


# -- the head --------------------------------------------------------------------------------------


def read_head(db: sqlite3.Connection) -> Head:
    """Read what a catalog says of the memory as a whole.

    Raises:
        CorruptMemory: Something in it cannot be true.
    """
    about = dict(typed_lines(db, "SELECT name, value FROM about", str, str))
    if not {"configuration", "checksum"} <= about.keys() <= ABOUT:
        raise CorruptMemory("the catalog does not say what memory this is", remedy=RESTORE)
    number = _format_of(db)
    configs = {0: parse_configuration(about["configuration"], about["checksum"])}
    configs |= _read_encodings(db, number, configs[0])
    query = "SELECT MIN(version), MAX(version), COUNT(*) FROM versions"
    ((oldest, version, count),) = typed_lines(db, query, int, int, int)
    if oldest < 0 or version - oldest + 1 != count:
        raise CorruptMemory("the history of versions has gaps", remedy=RESTORE)
    encoding = encoding_of(db, number, version)
    if encoding not in configs:
        raise CorruptMemory(
            "the newest version names an encoding that is not there", remedy=RESTORE
        )
    segments = _read_segments(db, number, configs)
    highest = [
        cell
        for table in ("rows", "retired")
        for cell in next(typed_lines(db, f"SELECT IFNULL(MAX(id), -1) FROM {table}", int))
    ]
    query = "SELECT seq FROM sqlite_sequence WHERE name = 'segments'"
    numbered = [number for (number,) in typed_lines(db, query, int)]
    return Head(
        format=number,
        configs=configs,
        encoding=encoding,
        oldest=oldest,
        version=version,
        segments=segments,
        columns=_read_columns(db),
        next_id=1 + max(highest),
        last_segment=max([0, *numbered, *segments]),
    )


def _format_of(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def encoding_of(db: sqlite3.Connection, number: int, version: int) -> int:
    """Which encoding a version has; ``number`` is the format."""
    if number < 2:
        return 0
    query = "SELECT encoding FROM versions WHERE version = ?"
    ((encoding,),) = typed_lines(db, query, int, given=(version,))
    return int(encoding)


def _read_encodings(
    db: sqlite3.Connection, number: int, first: Configuration
) -> dict[int, Configuration]:
    """Configurations that came after the first; only what concerns the keys may differ."""
    if number < 2:
        return {}
    found = {}
    query = "SELECT encoding, configuration, sum FROM encodings"
    for encoding, text, total in typed_lines(db, query, int, str, int):
        config = parse_configuration(text, str(total))
        kept = (config.metric, config.value, config.value_dim)
        if encoding < 1 or kept != (first.metric, first.value, first.value_dim):
            raise CorruptMemory("the catalog names an encoding that cannot be", remedy=RESTORE)
        found[encoding] = config
    return found


def _read_segments(
    db: sqlite3.Connection, form: int, configs: Mapping[int, Configuration]
) -> dict[int, Segment]:
    segments = {}
    query = f"SELECT segment, kind, file, bytes, {'encoding' if form > 1 else '0'} FROM segments"
    for number, kind, file, size, encoding in typed_lines(db, query, int, str, str, int, int):
        config = configs.get(encoding)
        unit = config.record_bytes if config is not None and kind == "keys" else 1
        # A name out of a catalog is never used as a path: it has to be the one we would give.
        known = (
            config is not None
            and kind in {"keys", "values"}
            and file == segment_name(number, kind, config.dtype)
        )
        if not (known and 0 < number < 1 << 31 and 0 <= size < 1 << 62 and size % unit == 0):
            raise CorruptMemory(
                "the catalog names a segment that cannot be",
                expected="a name of this library's, and whole records",
                got=f"{file!r:.80} with {size} bytes",
                remedy=RESTORE,
            )
        segments[number] = Segment(number, kind, file, size, unit, encoding)
    return segments


def _read_columns(db: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    lines = list(typed_lines(db, "SELECT name, kind, place FROM columns", str, str, str))
    places = {place for _, _, place in lines}
    kinds = {kind for _, kind, _ in lines}
    if not kinds <= COLUMN_KINDS or places != {f"m{number}" for number in range(len(lines))}:
        raise CorruptMemory("the catalog names a metadata column that cannot be", remedy=RESTORE)
    return {name: (kind, place) for name, kind, place in lines}


def typed_lines(
    db: sqlite3.Connection, query: str, *kinds: type | tuple[type, ...], given: Any = ()
) -> Iterator[tuple[Any, ...]]:
    """Rows of a query with its parameters, each cell of a type that it may have.

    Raises:
        CorruptMemory: One is of another type.
    """
    allowed = [kind if isinstance(kind, tuple) else (kind,) for kind in kinds]
    seen = set()  # combinations of types that are right
    for line in db.execute(query, given):
        found = tuple(map(type, line))
        if found in seen:
            yield line
            continue
        if any(kind not in types for kind, types in zip(found, allowed, strict=True)):
            raise CorruptMemory(
                "the catalog holds a value of another type",
                expected=", ".join(types[0].__name__ for types in allowed),
                got=f"{line!r:.80}",
                remedy=RESTORE,
            )
        seen.add(found)
        yield line


# -- the rows --------------------------------------------------------------------------------------


def read_states(
    db: sqlite3.Connection,
    condition: str,
    parameters: Mapping[str, int],
    head: Head,
    encoding: int,
) -> tuple[States, dict[int, str | int]]:
    """Read states of rows and all labels; every place a state names is there.

    Args:
        db: The catalog.
        condition: Which states, in SQL.
        parameters: Of the condition.
        head: What the catalog says of the memory.
        encoding: That of the version to which the states belong.

    Raises:
        CorruptMemory: Something in them cannot be true.
    """
    states = fetch_states(db, condition, parameters, VALUE_COLUMNS[head.config.value])
    labels = read_labels(db)
    check_states(states, labels, head.configs[encoding], head.segments, encoding)
    return states, labels


def read_labels(db: sqlite3.Connection) -> dict[int, str | int]:
    """Read the label of each code.

    Raises:
        CorruptMemory: One is neither text nor integer.
    """
    labels = dict(db.execute("SELECT code, label FROM labels"))
    if min(labels, default=0) < 0 or not {type(label) for label in labels.values()} <= {str, int}:
        raise CorruptMemory("the catalog holds a label that is neither text nor integer")
    return labels


def fetch_states(
    db: sqlite3.Connection, condition: str, parameters: Mapping[str, int], values: tuple[str, ...]
) -> States:
    """Fetch only the columns that this kind of memory uses: each one costs time in every row."""
    names = ["id", "segment", "record", "key_sum", "norm", "weight", *values]
    wanted = np.dtype([(name, STATE[name]) for name in names])
    query = f"SELECT {', '.join(names)} FROM rows WHERE {condition}"
    found = fetch_table(db, query, parameters, wanted)
    states = np.zeros(len(found), STATE)
    states["code"], states["value_segment"] = -1, -1
    for name in names:
        states[name] = found[name]
    return states


def fetch_table(
    db: sqlite3.Connection, query: str, parameters: Any, dtype: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    """Rows of a query as a structured array.

    Raises:
        CorruptMemory: A cell is no number, or none that fits.
    """
    try:
        return np.fromiter(db.execute(query, parameters), dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise CorruptMemory(
            f"the catalog holds a row that cannot be read: {error}", remedy=RESTORE
        ) from error


# -- errors ----------------------------------------------------------------------------------------


@contextmanager
def guarded_catalog(place: Path) -> Iterator[None]:
    """Turn what SQLite says of damaged bytes into one error of the tree."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite quotes damaged bytes in what it says
        raise CorruptMemory(f"the catalog {str(place)!r} cannot be read", remedy=RESTORE) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}:
            raise refusal(error) from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise MemoryLocked(
                f"the catalog {str(place)!r} is busy",
                got=f"{error} for {BUSY_SECONDS:g} seconds",
                remedy="Another program has it open; try again when it is done.",
            ) from error
        raise CorruptMemory(
            f"the catalog {str(place)!r} cannot be read",
            expected="a SQLite file as it was written",
            got=str(error),
            remedy=RESTORE,
        ) from error


def refusal(error: BaseException) -> BaseException:
    """Say in the library's own words why a write did not happen."""
    if isinstance(error, RecollectError) or not isinstance(error, sqlite3.Error | OSError):
        return error
    if type(error) is sqlite3.DatabaseError:  # its subclasses do not speak of damaged bytes
        return CorruptMemory(f"the catalog is damaged: {error}", remedy=RESTORE)
    return WriteFailed(
        "the write could not be made durable",
        got=str(error),
        remedy="Nothing was changed. Make room on the disk or mend it, then retry.",
    )
