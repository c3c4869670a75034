"""What was erased and must not come back: a list of keyed digests, never of content.

Each line is a BLAKE2b digest, keyed with a secret of this memory, of one thing that the erased row
held: its key, its thumbnail, the text in its column ``text``, or the file that its source names, if
that can be read. A row that is added later is refused if a digest of what it holds is on the list.

The secret lies in the same folder as the list. So whoever has the folder and a candidate can find
out whether the candidate was erased here; a short text, or a picture that everyone has, can be
guessed. They cannot read anything out of the list, and lists of two memories cannot be joined.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from zlib import crc32

from recollect.errors import CorruptMemory, ErasedBefore, UnknownIds
from recollect.memory.catalog import typed_lines
from recollect.memory.faults import RESTORE
from recollect.memory.store import Store
from recollect.memory.sums import listed_sum
from recollect.memory.writes import Batch
from recollect.types import Banned, Ids

KINDS = ("key", "thumbnail", "text", "file")
TEXT_COLUMN = "text"
"""Where the command line keeps the texts of a memory of texts."""

MOST_BYTES = 256 << 20
"""Larger files are not read; no picture that an encoder takes is as large."""

_CHUNK = 1 << 20
_SECRET = "no_return_key"  # noqa: S105 - the name of an entry, not its value


@dataclass(frozen=True, slots=True)
class Held:
    """What one row holds that could tell it again.

    Attributes:
        keys: Bytes of its key, one for each encoding it was seen in.
        thumbnail: Its small picture, or None.
        text: Its text, or None.
        source: Its source, which may name a file, or None.
    """

    keys: tuple[bytes, ...]
    thumbnail: bytes | None = None
    text: str | None = None
    source: str | None = None


def list_rows(store: Store, version: int, rows: Mapping[int, Held]) -> None:
    """Put erased rows on the list, as part of the write that erases them."""
    store.upgrade()
    secret = _secret(store) or _new_secret(store)
    lines = [
        (digest, row, kind, version, listed_sum(digest, row, kind, version))
        for row, held in rows.items()
        for kind, digest in _digests(secret, held, KINDS)
    ]
    store.db.executemany("INSERT OR IGNORE INTO no_return VALUES (?, ?, ?, ?, ?)", lines)


def refuse(store: Store, batch: Batch) -> None:
    """Refuse rows of which something is on the list.

    Raises:
        ErasedBefore: One of them is; the message names the erased row.
    """
    secret = _secret(store)
    if secret is None:
        return
    query = "SELECT DISTINCT kind FROM no_return"
    kinds = [kind for (kind,) in typed_lines(store.db, query, str)]
    if not kinds:
        return
    for place, held in enumerate(_held_of(batch)):
        for kind, digest in _digests(secret, held, kinds):
            query = "SELECT id, version FROM no_return WHERE digest = ?"
            for row, version in typed_lines(store.db, query, int, int, given=(digest,)):
                raise ErasedBefore(
                    f"row {place} of this batch was erased before and must not return",
                    expected="rows that are not on the list of Memory.no_return()",
                    got=f"the {kind} of row {row}, erased in version {version}",
                    remedy=f"Leave it out. Memory.allow_return([{row}]) lets that row return.",
                )


def listed(store: Store) -> list[Banned]:
    """Lines of the list by erased row, in order of id.

    Raises:
        CorruptMemory: A line is not what was written.
    """
    if store.format < 2:
        return []
    times = {line.version: line.time for line in store.versions()}
    found: dict[int, tuple[int, set[str]]] = {}
    query = "SELECT digest, id, kind, version, sum FROM no_return ORDER BY id"
    for digest, row, kind, version, total in typed_lines(
        store.db, query, bytes, int, str, int, int
    ):
        if listed_sum(digest, row, kind, version) != total:
            raise CorruptMemory(
                f"what must not return of row {row} is not what was written", remedy=RESTORE
            )
        found.setdefault(row, (version, set()))[1].add(kind)
    return [
        Banned(row, version, times.get(version), tuple(k for k in KINDS if k in kinds))
        for row, (version, kinds) in found.items()
    ]


def check(store: Store) -> None:
    """Compare the list and its secret with their checksums.

    Raises:
        CorruptMemory: Something is not what was written.
    """
    if listed(store) and _secret(store) is None:
        raise CorruptMemory(
            "the secret of the list of what must not return is gone", remedy=RESTORE
        )


def strike(store: Store, ids: Ids) -> None:
    """Take erased rows off the list.

    Raises:
        UnknownIds: One of them is not on it; nothing was changed.
    """
    known = {line.id for line in listed(store)}
    missing = sorted(set(ids.tolist()) - known)
    if missing or not len(ids):
        raise UnknownIds(
            "no such row on the list of what must not return",
            expected="ids of rows that were erased with no_return=True",
            got=", ".join(map(str, missing[:5])) or "none",
            remedy="Memory.no_return() lists them.",
        )
    store.db.execute(
        "DELETE FROM no_return WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(ids.tolist()),),
    )


def _secret(store: Store) -> bytes | None:
    if store.format < 2:
        return None
    query = "SELECT value FROM about WHERE name = ?"
    for (text,) in typed_lines(store.db, query, str, given=(_SECRET,)):
        digits, _, total = text.partition(" ")
        if str(crc32(digits.encode())) == total:
            with suppress(ValueError):
                return bytes.fromhex(digits)
        raise CorruptMemory(
            "the secret of the list of what must not return is damaged", remedy=RESTORE
        )
    return None


def _new_secret(store: Store) -> bytes:
    secret = secrets.token_bytes(blake2b.MAX_KEY_SIZE)
    kept = f"{secret.hex()} {crc32(secret.hex().encode())}"
    store.db.execute("INSERT INTO about VALUES (?, ?)", (_SECRET, kept))
    return secret


def _held_of(batch: Batch) -> Iterator[Held]:
    rows = len(batch.ids)
    texts = batch.metadata.get(TEXT_COLUMN) or [None] * rows
    pictures = batch.thumbnails or [None] * rows
    for key, picture, text, source in zip(batch.keys, pictures, texts, batch.sources, strict=True):
        written = text if isinstance(text, str) else None
        yield Held((key.tobytes(),), picture, written, source)


def _digests(secret: bytes, held: Held, kinds: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    if "key" in kinds:
        for key in held.keys:
            yield "key", _digest(secret, "key", key)
    if "thumbnail" in kinds and held.thumbnail is not None:
        yield "thumbnail", _digest(secret, "thumbnail", held.thumbnail)
    if "text" in kinds and held.text:
        yield "text", _digest(secret, "text", held.text.encode())
    if "file" in kinds and held.source:
        digest = _file_digest(secret, held.source)
        if digest is not None:
            yield "file", digest


def _digest(secret: bytes, kind: str, content: bytes) -> bytes:
    return _hasher(secret, kind, content).digest()


def _hasher(secret: bytes, kind: str, content: bytes = b"") -> blake2b:
    # `person` keeps digests of different things apart even where their bytes are equal.
    return blake2b(content, key=secret, person=kind.encode(), digest_size=32)


def _file_digest(secret: bytes, source: str) -> bytes | None:
    """Digest of the file that a source names; None if there is none that can be read."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(OSError, ValueError):
        handle = os.open(source, flags)
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(file.fileno())
            if stat.S_ISREG(facts.st_mode) and 0 < facts.st_size <= MOST_BYTES:
                hasher = _hasher(secret, "file")
                while chunk := file.read(_CHUNK):
                    hasher.update(chunk)
                return hasher.digest()
    return None
