"""Rows that are given keys of another encoder, and an old format that learns it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from plain_memory import contents_of

from recollect import Memory
from recollect.errors import (
    CorruptMemory,
    EncoderMismatch,
    InvalidParameter,
    LengthMismatch,
    ZeroVector,
)
from recollect.memory.store import CATALOG

OLD = Path(__file__).resolve().parents[1] / "old_formats" / "format-1.zip"
KEYS = np.array([[1, 0], [0, 1]], np.float32)
WIDE = np.array([[0, 0, 1], [0, 1, 0]], np.float32)


@pytest.fixture
def memory(tmp_path):
    """Two rows of an encoder called small."""
    with Memory.create(tmp_path / "memory", dim=2, encoder="small") as memory:
        memory.add(KEYS, ["cat", "dog"], sources=["a.png", "b.png"], thumbnails=[b"cat", b"dog"])
        yield memory


def test_rows_keep_everything_but_their_keys(memory):
    """Ids in logs and receipts still mean the same rows."""
    version = memory.rekey(WIDE, "large", metadata={"aligned": [False, True]})

    rows = memory.rows()
    assert (version, memory.dim, memory.encoder) == (2, 3, "large")
    assert rows.keys.tolist() == WIDE.tolist()
    assert rows.values.tolist() == ["cat", "dog"]
    assert rows.sources == ["a.png", "b.png"]
    assert rows.metadata == {"aligned": [False, True]}
    assert memory.thumbnail(1) == b"dog"
    assert memory.find("aligned = true").tolist() == [1]


def test_answers_come_from_the_new_keys_at_once(memory):
    """And queries of the old width are refused."""
    memory.search(KEYS, k=1)
    memory.rekey(WIDE, "large")

    assert memory.search([[0, 0, 1]], k=1).values.tolist() == [["cat"]]
    with pytest.raises(ValueError, match=r"\(rows, 3\) for large"):
        memory.search(KEYS, k=1)


def test_the_past_keeps_its_keys_and_its_encoder(memory):
    """A version is what it was when it was written."""
    memory.rekey(WIDE, "large")

    past = memory.at(1)

    assert (past.dim, past.encoder) == (2, "small")
    assert past.search([[0, 1]], k=1).values.tolist() == [["dog"]]
    with pytest.raises(EncoderMismatch):
        past.check_encoder("large")


def test_restoring_the_version_before_undoes_it(memory):
    """Rows taught under the new encoder are gone then, as with any restore."""
    before = contents_of(memory)
    memory.rekey(WIDE, "large")
    memory.add([[1, 1, 1]], "cat")
    memory.restore(1)

    assert contents_of(memory) == before
    assert (memory.dim, memory.encoder) == (2, "small")
    assert memory.add([[1, 1]], "cat").tolist() == [3]


def test_it_lasts_through_closing_erasing_and_compacting(memory):
    """Segments of both encoders are rewritten, each in its own width."""
    memory.rekey(WIDE, "large")
    receipt = memory.erase([0])
    folder = memory.uri
    memory.close()
    with Memory.open(folder, check=True) as again:
        assert again.rows().keys.tolist() == [[0, 1, 0]]
        assert again.at(1).rows().keys.tolist() == [[0, 1]]
        again.compact()
        assert again.verify().ok
        assert (again.dim, again.rows().keys.tolist()) == (3, [[0, 1, 0]])
    assert sum(name.startswith("keys-") for name in receipt.rewritten) == 2


def test_a_reader_elsewhere_follows_to_the_new_keys_or_refuses_its_own_encoder(memory):
    """Queries of the old encoder must never be compared with keys of the new one."""
    with (
        Memory.open(memory.uri, read_only=True) as reader,
        Memory.open(memory.uri, read_only=True, encoder="small") as strict,
    ):
        reader.search(KEYS, k=1)
        strict.search(KEYS, k=1)
        memory.rekey(KEYS[::-1], "large")

        assert reader.search([[1, 0]], k=1).values.tolist() == [["dog"]]
        with pytest.raises(EncoderMismatch):
            strict.search(KEYS, k=1)


@pytest.mark.parametrize(
    ("keys", "error"), [(WIDE[:1], LengthMismatch), (0 * WIDE, ZeroVector)], ids=["few", "zero"]
)
def test_keys_that_cannot_be_kept_change_nothing(memory, keys, error):
    """Not even the encoder."""
    with pytest.raises(error):
        memory.rekey(keys, "large")

    assert (memory.version, memory.dim, memory.encoder) == (1, 2, "small")


def test_a_metric_with_weights_for_each_dimension_cannot_follow():
    """The weights are of the old dimensions."""
    memory = Memory.create(":memory:", dim=2, metric="manhattan", metric_weights=[1, 2])
    memory.add(KEYS, "cat")

    with pytest.raises(InvalidParameter):
        memory.rekey(WIDE, None)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_memory_of_format_1_is_read_as_it_was(read_only, tmp_path):
    """Nothing is written to it by looking."""
    shutil.unpack_archive(OLD, tmp_path)
    content = (tmp_path / CATALOG).read_bytes()
    with Memory.open(tmp_path, read_only=read_only, check=True) as old:
        assert old.label_counts() == {"capybara": 3, "platypus": 4, "wombat": 1}
        assert old.thumbnail(0) == b"a picture of a platypus"
        assert [v.operation for v in old.versions()] == [
            "create", "add", "update", "remove", "add", "erase",
        ]  # fmt: skip
        assert old.no_return() == []
    assert (tmp_path / CATALOG).read_bytes() == content


def test_a_memory_of_format_1_is_written_in_format_1_until_it_needs_more(tmp_path):
    """An older library reads on as long as nothing is in it that it could not know."""
    shutil.unpack_archive(OLD, tmp_path)
    formats = []
    with Memory.open(tmp_path) as old:
        for write in (
            lambda: old.add([[1, 2, 3, 4, 5, 7]], "cat"),
            lambda: old.erase([0]),
            lambda: old.erase([1], no_return=True),
            lambda: old.rekey(np.eye(8)[: len(old)], "large"),
        ):
            write()
            formats.append(old._store.db.execute("PRAGMA user_version").fetchone()[0])

    assert formats == [1, 1, 2, 3]
    with Memory.open(tmp_path, check=True) as again:
        assert again.dim == 8
        assert again.at(6).dim == 6


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE encodings SET configuration = replace(configuration, '3', '4')",
        "UPDATE versions SET encoding = 7 WHERE version = 2",
        "UPDATE segments SET encoding = 7",
        "UPDATE segments SET encoding = 0",
        "DELETE FROM encodings",
        "UPDATE encodings SET encoding = -1",
    ],
)
def test_a_forged_encoding_is_refused(memory, statement):
    """Widths decide where in a file a key is read."""
    memory.rekey(WIDE, "large")
    folder = Path(memory.uri)
    memory.close()
    db = sqlite3.connect(folder / CATALOG)
    with db:
        db.execute(statement)
    db.close()

    with pytest.raises(CorruptMemory), Memory.open(folder, check=True) as forged:
        forged.rows()
