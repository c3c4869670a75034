"""A memory that a stranger forged: refused with one error of ours, and nothing else happens."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import suppress
from zlib import crc32

import numpy as np
import pytest

from recollect import Memory
from recollect.errors import CorruptMemory, RecollectError
from recollect.memory.store import CATALOG
from recollect.memory.sums import row_sum

DIM = 4
KEYS = np.arange(1, 13, dtype=np.float32).reshape(3, DIM)


@pytest.fixture
def folder(tmp_path):
    """A memory of three rows of vectors, with a removed one and metadata."""
    with Memory.create(tmp_path / "memory", dim=DIM, value="vector", value_dim=2) as memory:
        memory.add(KEYS, KEYS[:, :2], metadata={"year": [1, 2, 3]})
        memory.remove([2])
    return tmp_path / "memory"


def forge(folder, *statements):
    """Change a catalog with all of SQLite's power."""
    db = sqlite3.connect(folder / CATALOG, isolation_level=None)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("PRAGMA ignore_check_constraints = ON")
    for statement in statements:
        db.execute(statement)
    db.close()


def configure(**changes):
    """Statements that replace the configuration by one with a right checksum."""

    def change(folder):
        db = sqlite3.connect(folder / CATALOG)
        (text,) = db.execute("SELECT value FROM about WHERE name = 'configuration'").fetchone()
        db.close()
        forged = json.dumps(json.loads(text) | changes).replace("'", "''")
        forge(
            folder,
            f"UPDATE about SET value = '{forged}' WHERE name = 'configuration'",
            f"UPDATE about SET value = '{crc32(forged.encode())}' WHERE name = 'checksum'",
        )

    return change


ONE = "UPDATE OR REPLACE segments SET"

SQL = {
    # the schema
    "a view in the place of a table": [
        "ALTER TABLE versions RENAME TO old",
        "CREATE VIEW versions AS SELECT * FROM old UNION ALL SELECT * FROM old",
    ],
    "a view that never ends": [
        "DROP TABLE labels",
        """CREATE VIEW labels AS WITH RECURSIVE n(code) AS
           (SELECT 0 UNION ALL SELECT code + 1 FROM n) SELECT code, 'x' AS label FROM n""",
    ],
    "a trigger on the rows": [
        "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END",
    ],
    "another index": ["CREATE INDEX i ON rows (weight)"],
    "another table": ["CREATE TABLE secret (x)"],
    "a missing table": ["DROP TABLE thumbnails"],
    "a missing index": ["DROP INDEX rows_by_id"],
    "a virtual table": ["CREATE VIRTUAL TABLE v USING fts5(x)"],
    "a column with a default": ["ALTER TABLE rows ADD COLUMN m1 DEFAULT (1)"],
    "a column that is computed": ["ALTER TABLE rows ADD COLUMN m1 AS (id + 1)"],
    "a column of another name": ["ALTER TABLE rows ADD COLUMN x"],
    "a renamed column": ["ALTER TABLE rows RENAME COLUMN weight TO wait"],
    "a schema that is no SQL": ["UPDATE sqlite_master SET sql = 'CREATE' WHERE name = 'rows'"],
    "a schema that is a blob": ["UPDATE sqlite_master SET sql = x'ff00' WHERE name = 'rows'"],
    "a table of a thousand columns more": [
        """UPDATE sqlite_master SET sql = replace(sql, 'row_sum INTEGER NOT NULL',
           'row_sum INTEGER NOT NULL' || replace(hex(zeroblob(5000)), '00', ', m1'))
           WHERE name = 'rows'""",
    ],
    # names of files and columns
    "a segment outside of the folder": [f"{ONE} file = '../../../etc/passwd'"],
    "a segment with an absolute path": [f"{ONE} file = '/etc/passwd'"],
    "a segment that is the catalog": [f"{ONE} file = '../catalog.sqlite'"],
    "a segment of another number": [
        "UPDATE segments SET file = 'keys-000009.float32' WHERE kind = 'keys'",
    ],
    "a segment of another kind": ["UPDATE segments SET kind = 'secrets'"],
    "a segment of negative size": ["UPDATE segments SET bytes = -16 WHERE kind = 'keys'"],
    "a segment of no whole keys": ["UPDATE segments SET bytes = 17 WHERE kind = 'keys'"],
    "a segment larger than its file": [f"UPDATE segments SET bytes = {1 << 40}"],
    "a segment larger than anything": [f"UPDATE segments SET bytes = {(1 << 63) - 1}"],
    "a segment of text size": ["UPDATE segments SET bytes = 'many'"],
    "a segment of negative number": ["UPDATE segments SET segment = -1 WHERE kind = 'keys'"],
    "a column that is SQL": ["UPDATE columns SET place = '(SELECT hex(zeroblob(1000000000)))'"],
    "a column that is another": ["UPDATE columns SET place = 'weight'"],
    "a column of unknown kind": ["UPDATE columns SET kind = 'object'"],
    "a column whose name is a blob": ["UPDATE columns SET name = x'00ff'"],
    "a column too many": ["INSERT INTO columns VALUES ('b', 'int', 'm1')"],
    # the head
    "no versions": ["DELETE FROM versions"],
    "a gap in the history": ["DELETE FROM versions WHERE version = 1"],
    "a version of text": [
        "UPDATE versions SET rows = 'many' WHERE version = 2",
    ],
    "no configuration": ["DELETE FROM about WHERE name = 'configuration'"],
    "a configuration that is a blob": ["UPDATE about SET value = x'ff'"],
    "a fact too many": ["INSERT INTO about VALUES ('more', '1')"],
    "an altered configuration": [
        "UPDATE about SET value = replace(value, 'cosine', 'dot') WHERE name = 'configuration'",
    ],
    "an empty application": ["PRAGMA user_version = 0"],
    "a format of before the first": ["PRAGMA user_version = -1"],
    "text that is no Unicode": ["UPDATE about SET value = CAST(x'ff' AS TEXT)"],
    "a newest id of text": ["UPDATE rows SET id = 'x'"],
    # the rows
    "a key outside of its segment": ["UPDATE rows SET record = 99"],
    "a key before its segment": ["UPDATE rows SET record = -1"],
    "a key in a segment of values": ["UPDATE rows SET segment = value_segment"],
    "a key in no segment": ["UPDATE rows SET segment = 77"],
    "a key at a place of text": ["UPDATE rows SET record = 'aaaaaaaaaaaaaaaa'"],
    "a key at a place too large": [f"UPDATE rows SET record = {(1 << 63) - 1}"],
    "a segment too large for its column": [f"UPDATE rows SET segment = {1 << 40}"],
    "a checksum of a key that is negative": ["UPDATE rows SET key_sum = -1"],
    "a value outside of its segment": ["UPDATE rows SET value_start = 99"],
    "a value before its segment": ["UPDATE rows SET value_start = -8"],
    "a value that is too long": ["UPDATE rows SET value_bytes = 9999"],
    "a value of negative length": ["UPDATE rows SET value_bytes = -8"],
    "a value between two others": ["UPDATE rows SET value_start = 4"],
    "a value of another width": ["UPDATE rows SET value_bytes = 4"],
    "a value without a place": ["UPDATE rows SET value_start = NULL"],
    "a value in a segment of keys": ["UPDATE rows SET value_segment = segment"],
    "a negative id": ["UPDATE rows SET id = -5 WHERE id = 0"],
    "a blob as an id": ["UPDATE rows SET id = x'00' WHERE id = 0"],
    "a row alive twice": ["UPDATE rows SET id = 0, died = NULL"],
    "an infinite weight": ["UPDATE rows SET weight = 9e999"],
    "a negative weight": ["UPDATE rows SET weight = -1.0"],
    "a weight of text": ["UPDATE rows SET weight = 'heavy'"],
    "a weight of many digits": ["UPDATE rows SET weight = '" + "9" * 5000 + "x'"],
    "a source that is a blob": ["UPDATE rows SET source = x'ff'"],
    "a length of a key that is infinite": ["UPDATE rows SET norm = 9e999"],
    "a birth in the future": ["UPDATE rows SET born = 99"],
    "a death of text": ["UPDATE rows SET died = 'x'"],
    "an ending of no state": ["INSERT INTO ended VALUES (99, 1)"],
    "an ending before the birth": ["INSERT OR REPLACE INTO ended SELECT MIN(state), 0 FROM rows"],
    "an ending in the future": ["INSERT OR REPLACE INTO ended SELECT MIN(state), 99 FROM rows"],
    "an ending of text": ["INSERT OR REPLACE INTO ended SELECT MIN(state), 'x' FROM rows"],
    "an ending that nobody wrote": ["INSERT OR REPLACE INTO ended SELECT MIN(state), 2 FROM rows"],
    "metadata of another type": ["UPDATE rows SET m0 = x'ff'"],
    "a thumbnail that is text": ["INSERT INTO thumbnails VALUES (0, 'x', 1)"],
    "a retired id of another": ["INSERT INTO retired VALUES (0, 1)"],
}  # fmt: skip

FORGERIES = {
    name: lambda folder, s=statements: forge(folder, *s) for name, statements in SQL.items()
}
FORGERIES |= {
    "keys of a width that no file holds": configure(dim=1 << 19),
    "keys of another width": configure(dim=3),
    "keys of no width": configure(dim=0),
    "keys of an impossible width": configure(dim=1 << 40),
    "keys of a width of text": configure(dim="4"),
    "keys of another dtype": configure(dtype="float16"),
    "keys of a dtype that runs code": configure(dtype="object"),
    "an unknown metric": configure(metric="angle"),
    "an unknown kind of value": configure(value="pickle"),
    "vectors of another width": configure(value_dim=1),
    "vectors of an impossible width": configure(value_dim=1 << 40),
    "an unknown option": configure(plugin="os.system"),
    "an encoder that is a number": configure(encoder=7),
    "an encoder whose recipe is text": configure(encoder="x", encoder_spec="rm -rf"),
    "weights that are NaN": configure(metric="manhattan", metric_weights=[float("nan")] * 4),
    "a rollback journal": lambda folder: (folder / f"{CATALOG}-journal").write_bytes(b"x" * 600),
    "a pipe for a segment": lambda folder: swap(folder, os.mkfifo),
    "a folder for a segment": lambda folder: swap(folder, os.mkdir),
}  # fmt: skip


def swap(folder, make):
    path = folder / "segments" / "keys-000001.float32"
    path.unlink()
    make(path)


def everything(folder, **options):
    """Open a memory and use all of it; only errors of ours may come out."""
    with Memory.open(folder, **options) as memory:
        for call in (
            lambda: memory.search(KEYS, k=5), lambda: memory.search(KEYS, where="year > 0"),
            memory.rows, memory.versions, memory.stats, lambda: memory.at(1).rows(),
            lambda: memory.thumbnail(0), lambda: memory.ids, lambda: memory.verify().problems,
        ):  # fmt: skip
            with suppress(RecollectError):
                call()
        if not memory.read_only:
            for write in (
                lambda: memory.update([0], weights=2), lambda: memory.restore(1),
                lambda: memory.add(KEYS[:1], KEYS[:1, :2]), lambda: memory.erase([2]),
                memory.compact,
            ):  # fmt: skip
                with suppress(RecollectError):
                    write()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_memory_is_refused_and_the_rest_of_the_disk_is_safe(name, folder, tmp_path):
    """With a check it does not open; without one, only errors of ours come out of any call."""
    (tmp_path / "diary").write_text("dear diary")
    FORGERIES[name](folder)

    for options in ({"check": True}, {"check": True, "read_only": True}, {"check": "auto"}):
        with pytest.raises(CorruptMemory) as caught:
            Memory.open(folder, **options)
        assert len(str(caught.value)) < 600
    for options in ({"check": False, "read_only": True}, {"check": False}):
        copy = tmp_path / "copy"
        if "pipe" not in name:
            shutil.copytree(folder, copy)
            with suppress(RecollectError):
                everything(copy, **options)
            shutil.rmtree(copy)

    assert (tmp_path / "diary").read_text() == "dear diary"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diary", "memory"]


@pytest.mark.parametrize("name", ["catalog.sqlite", "writer.lock", "segments"])
def test_a_link_in_the_folder_is_refused_and_its_target_left_alone(name, folder, tmp_path):
    """A sweep through a linked folder would delete what is in it."""
    target = tmp_path / "target"
    shutil.move(folder / name, target)
    (folder / name).symlink_to(target)
    before = sorted(path.name for path in tmp_path.rglob("*"))

    for options in ({}, {"read_only": True}, {"check": False}):
        with pytest.raises(CorruptMemory) as caught:
            Memory.open(folder, **options)
        assert "is a link" in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_files_of_the_users_own_survive_in_the_folder_of_segments(folder):
    """What a sweep deletes has a name that only this library gives."""
    (folder / "segments" / "notes.txt").write_text("mine")
    (folder / "segments" / "keys-000077.float32").write_bytes(b"left by a killed writer")
    (folder / "segments" / "folder").mkdir()

    with Memory.open(folder) as memory:
        memory.erase([0])

    names = sorted(path.name for path in (folder / "segments").iterdir())
    assert "notes.txt" in names
    assert "folder" in names
    assert "keys-000077.float32" not in names


def test_labels_that_are_blobs_are_refused_even_with_a_right_checksum(tmp_path):
    """Only text and integers are labels."""
    with Memory.create(tmp_path / "m", dim=2) as memory:
        memory.add([[1, 2]], ["cat"])
    total = row_sum(0, 1.0, b"cat", None, [])
    forge(
        tmp_path / "m",
        "UPDATE labels SET label = CAST(label AS BLOB)",
        f"UPDATE rows SET row_sum = {total}",
    )

    for check in (True, False):
        with pytest.raises(CorruptMemory), Memory.open(tmp_path / "m", check=check) as memory:
            memory.search([[1, 2]])


@pytest.mark.parametrize(
    "statement",
    ["UPDATE labels SET label = NULL", "UPDATE rows SET code = NULL", "UPDATE rows SET code = 99",
     "DELETE FROM labels", "UPDATE labels SET label = 7.5", f"UPDATE labels SET code = {2**62}",
     "UPDATE labels SET code = -1", "UPDATE rows SET code = -1"],
)  # fmt: skip
def test_a_row_whose_label_is_none_is_refused(statement, tmp_path):
    """No class, no vote, no crash."""
    with Memory.create(tmp_path / "m", dim=2) as memory:
        memory.add([[1, 2]], ["cat"])
    strict, loose = "label NOT NULL", "label /*    */"
    for old, new, change in ((strict, loose, "SELECT 1"), (loose, strict, statement)):
        forge(
            tmp_path / "m",
            change,
            f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}')",
        )

    for check in (True, False):
        with pytest.raises(CorruptMemory), Memory.open(tmp_path / "m", check=check) as memory:
            memory.search([[1, 2]])
