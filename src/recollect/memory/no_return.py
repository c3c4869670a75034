"""What was erased and must not come back: a list of keyed digests, never of content.

Each line is a BLAKE2b digest, keyed with a secret of this memory, of one thing that the erased row
held: its key, its thumbnail, the text in its column ``text``, or the file that its source names, if
that can be read. A row that is added later is refused if a digest of what it holds is on the list;
so is a new text or key of a row that is there, and a version in which a row would come back that
holds such a thing. A row that holds it already, as a twin of the erased one, may keep it.

The secret lies in the same folder as the list. So whoever has the folder and a candidate can find
out whether the candidate was erased here; a short text, or a picture that everyone has, can be
guessed. They cannot read anything out of the list, and lists of two memories cannot be joined.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any
from zlib import crc32

from recollect.errors import CorruptMemory, ErasedBefore, UnknownIds
from recollect.memory.catalog import typed_lines
from recollect.memory.faults import RESTORE
from recollect.memory.placed import forms, key_forms
from recollect.memory.store import Store
from recollect.memory.sums import listed_sum
from recollect.memory.writes import Batch, Change
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
        keys: Bytes of its key in all `forms`, for each encoding it was seen in.
        thumbnail: Its small picture, or None.
        texts: Its text; several if it was changed.
        sources: Its source, which may name a file.
    """

    keys: tuple[bytes, ...] = ()
    thumbnail: bytes | None = None
    texts: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coming:
    """What a write would bring into a memory.

    Attributes:
        what: What an error calls it.
        held: What would be there.
        now: Gives what the same row holds already, which it may keep; None for a new row.
    """

    what: str
    held: Held
    now: Callable[[], Held] | None = None


def list_rows(store: Store, version: int, rows: Mapping[int, Held]) -> None:
    """Put erased rows on the list, as part of the write that erases them."""
    store.upgrade(2)
    secret = _secret(store) or _new_secret(store)
    lines = [
        (digest, row, kind, version, listed_sum(digest, row, kind, version))
        for row, held in rows.items()
        for kind, digest in _digests(secret, held, KINDS)
    ]
    store.db.executemany("INSERT OR IGNORE INTO no_return VALUES (?, ?, ?, ?, ?)", lines)


def refuse(store: Store, coming: Iterable[Coming]) -> None:
    """Refuse what is on the list.

    Args:
        store: The store that is being written.
        coming: What would come in; not looked at while the list is empty.

    Raises:
        ErasedBefore: Something of it is; the message names the erased row.
    """
    secret = _secret(store)
    if secret is None:
        return
    query = "SELECT DISTINCT kind FROM no_return"
    kinds = [kind for (kind,) in typed_lines(store.db, query, str)]
    if not kinds:
        return
    for one in coming:
        for kind, digest in _digests(secret, one.held, kinds):
            query = "SELECT id, version FROM no_return WHERE digest = ?"
            for row, version in typed_lines(store.db, query, int, int, given=(digest,)):
                if one.now is not None and (kind, digest) in _digests(secret, one.now(), [kind]):
                    continue
                raise ErasedBefore(
                    f"{one.what} was erased before and must not return",
                    expected="rows that are not on the list of Memory.no_return()",
                    got=f"the {kind} of row {row}, erased in version {version}",
                    remedy=f"Leave it out. Memory.allow_return([{row}]) lets that row return.",
                )


def of_batch(batch: Batch) -> Iterator[Coming]:
    """What rows that are added would bring."""
    rows = len(batch.ids)
    texts = batch.metadata.get(TEXT_COLUMN) or [None] * rows
    pictures = batch.thumbnails or [None] * rows
    columns = zip(batch.keys, pictures, texts, batch.sources, strict=True)
    for place, (key, picture, text, source) in enumerate(columns):
        held = Held(forms(key.tobytes(), key.dtype), picture, _text(text), _text(source))
        yield Coming(f"row {place} of this batch", held)


def of_change(
    store: Store, ids: Ids, change: Change, key_now: Callable[[int], tuple[bytes, ...]]
) -> Iterator[Coming]:
    """What new texts or keys of rows that are there would bring.

    Args:
        store: The store that is being written.
        ids: The rows.
        change: What is to change in them.
        key_now: Gives the `forms` of the key that the row at a place has.
    """
    texts = change.metadata.get(TEXT_COLUMN)
    if texts is None and change.keys is None:
        return

    def now(place: int) -> Held:
        """What the row holds before the change; only looked up when a digest is on the list."""
        return Held(key_now(place), texts=_text(_text_now(store, int(ids[place]))))

    for place, row in enumerate(ids.tolist()):
        keys: tuple[bytes, ...] = ()
        if change.keys is not None:
            keys = forms(change.keys[place].tobytes(), change.keys.dtype)
        held = Held(keys, texts=() if texts is None else _text(texts[place]))
        yield Coming(f"what row {row} would hold", held, partial(now, place))


def of_restored(store: Store, version: int, before: Ids) -> Iterator[Coming]:
    """What a version that is brought back would bring.

    Rows that are not there now bring all they hold. Of those that are, only a text can be new: a
    key of another encoding is of the same thing.

    Args:
        store: The store that is being written, with the states of that version begun.
        version: The version that is being written.
        before: Ids of the rows that were there.
    """
    _, place = store.columns.get(TEXT_COLUMN, ("", "NULL"))
    query = f"SELECT id, segment, record, source, {place} FROM rows WHERE born = ?"
    there = set(before.tolist())
    for row, segment, record, source, text in store.db.execute(query, (version,)).fetchall():
        what = f"row {row} of that version"
        if row in there:
            yield Coming(what, Held(texts=_text(text)), partial(_ended, store, version, row))
        else:
            keys = key_forms(store, {"segment": segment, "record": record})
            yield Coming(what, Held(keys, _picture(store, row), _text(text), _text(source)))


def _ended(store: Store, version: int, row: int) -> Held:
    _, place = store.columns.get(TEXT_COLUMN, ("", "NULL"))
    query = f"SELECT {place} FROM rows WHERE {store.died} = ? AND id = ?"
    return Held(texts=_text(next(iter(store.db.execute(query, (version, row))), (None,))[0]))


def _picture(store: Store, row: int) -> bytes | None:
    query = "SELECT picture FROM thumbnails WHERE id = ?"
    return next((bytes(picture) for (picture,) in store.db.execute(query, (row,))), None)


def _text(text: Any) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else ()


def _text_now(store: Store, row: int) -> Any:
    _, place = store.columns.get(TEXT_COLUMN, ("", "NULL"))
    query = f"SELECT {place} FROM rows WHERE {store.alive} AND id = ?"
    return next(iter(store.db.execute(query, (row,))), (None,))[0]


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


def _digests(secret: bytes, held: Held, kinds: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    if "key" in kinds:
        for key in held.keys:
            yield "key", _digest(secret, "key", key)
    if "thumbnail" in kinds and held.thumbnail is not None:
        yield "thumbnail", _digest(secret, "thumbnail", held.thumbnail)
    if "text" in kinds:
        for text in filter(None, held.texts):
            yield "text", _digest(secret, "text", text.encode())
    if "file" in kinds:
        for source in filter(None, held.sources):
            digest = _file_digest(secret, source)
            if digest is not None:
                yield "file", digest


def _digest(secret: bytes, kind: str, content: bytes) -> bytes:
    return _hasher(secret, kind, content).digest()


def _hasher(secret: bytes, kind: str, content: bytes = b"") -> blake2b:
    # `person` keeps digests of different things apart even where their bytes are equal.
    return blake2b(content, key=secret, person=kind.encode(), digest_size=32)


def _file_digest(secret: bytes, source: str) -> bytes | None:
    """Digest of the file that a source names; None if there is none that can be read."""
    # A link is followed: the bytes it leads to are what an encoder would read.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
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
