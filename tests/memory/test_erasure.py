"""Erased rows are gone from every byte of the folder, as an independent search finds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crash.stepwise import make_template

from recollect import Memory
from recollect.errors import ErasureIncomplete, UnknownIds
from recollect.memory.segments import FolderFiles
from recollect.memory.store import CATALOG, Store

ROOT = Path(__file__).resolve().parents[2]
DIM = 24
PICTURE = np.random.default_rng(1).bytes(9000)


def picture(row):
    return np.random.default_rng(row).bytes(9000)


def bytes_of(folder):
    """Every file of a folder, name -> content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def keys(rows, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)


def columns(rows):
    """What identifies a row: text of its own in every column, and a picture."""
    return {
        "values": [f"label-of-{row:04d}" for row in rows],
        "sources": [f"/photos/person-{row:04d}/portrait.png" for row in rows],
        "metadata": {
            "name": [f"Ada Lovelace the {row:04d}th" for row in rows],
            "story": [f"{row:04d} once upon a time " * 400 for row in rows],
        },
        "thumbnails": [picture(row) for row in rows],
    }


def traces(row, key):
    """Byte strings that only this row has; none may be found anywhere."""
    return [
        key.tobytes(), f"label-of-{row:04d}".encode(), f"person-{row:04d}".encode(),
        f"the {row:04d}th".encode(), f"{row:04d} once upon".encode(), picture(row)[:16],
        picture(row)[5000:5016],
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A memory of forty rows, some of them changed since."""
    with Memory.create(tmp_path / "memory", dim=DIM) as memory:
        memory.add(keys(40), **columns(range(40)))
        memory.update([3], values="label-of-0003-changed", weights=2)
    return tmp_path / "memory"


def test_no_byte_of_an_erased_row_is_left_and_the_others_answer_as_before(folder):
    """Neither vector, label, path, text nor thumbnail, in any file, log or cache."""
    gone, stay = [3, 17, 39], [row for row in range(40) if row not in {3, 17, 39}]
    known = b"".join(bytes_of(folder).values())
    for row in gone:
        assert all(trace in known for trace in traces(row, keys(40)[row]))
    (folder / "cache").mkdir()
    (folder / "cache" / "index").write_bytes(keys(40)[3].tobytes())
    with Memory.open(folder) as memory:
        before = memory.search(keys(9, seed=2), k=40)

        receipt = memory.erase(gone)

        left = b"".join(bytes_of(folder).values())
        after = memory.search(keys(9, seed=2), k=37)
        assert memory.verify().ok
    for row in gone:
        assert [trace for trace in traces(row, keys(40)[row]) if trace in left] == []
    for row in stay:
        assert keys(40)[row].tobytes() in left
    stays = ~np.isin(before.ids, gone)
    assert after.ids.tolist() == before.ids[stays].reshape(9, 37).tolist()
    assert after.similarity.tobytes() == before.similarity[stays].tobytes()
    assert after.values.tolist() == before.values[stays].reshape(9, 37).tolist()
    assert receipt.ids == (3, 17, 39)
    assert receipt.shared == ()


def test_a_receipt_says_what_was_searched_and_names_no_content(folder):
    """It may be shown to anyone."""
    with Memory.open(folder) as memory:
        receipt = memory.erase([5])

        files = bytes_of(folder)
        assert dict(receipt.scanned).keys() >= files.keys() - {f"{CATALOG}-wal", f"{CATALOG}-shm"}
        assert receipt.version == memory.version == 3
        assert memory.versions()[-1].operation == "erase"
        assert memory.versions()[-1].time == receipt.time
    assert len(receipt.digests) == 1
    assert len(receipt.digests[0]) == 64
    assert receipt.needles > 5
    assert "keys-000001.float32" in receipt.rewritten
    assert "0005" not in str(receipt)


def test_an_erased_row_is_gone_from_past_versions_too(folder):
    """Looking back must not bring it back, nor must restoring."""
    with Memory.open(folder) as memory:
        past = memory.at(1)
        assert len(past) == 40
        memory.erase([5])

        assert 5 not in past.ids
        assert len(past) == 39
        assert [info.rows for info in memory.versions()] == [0, 39, 39, 39]
        memory.restore(1)
        assert 5 not in memory.ids
        with pytest.raises(UnknownIds):
            memory.erase([5])


def test_a_removed_row_can_be_erased(folder):
    """Removing comes first to mind; the bytes are still there."""
    with Memory.open(folder) as memory:
        memory.remove([5])
        assert keys(40)[5].tobytes() in b"".join(bytes_of(folder).values())

        memory.erase([5])

        left = b"".join(bytes_of(folder).values())
        assert [trace for trace in traces(5, keys(40)[5]) if trace in left] == []


def test_erasing_by_filter_takes_the_rows_that_match(folder):
    """The request names a person, not row ids."""
    with Memory.open(folder) as memory:
        receipt = memory.erase(where="source like '%person-000%'")

        assert receipt.ids == tuple(range(10))
        assert len(memory) == 30


def test_erasing_all_rows_leaves_an_empty_memory_that_can_be_taught(folder):
    """Nothing is left to rewrite."""
    with Memory.open(folder) as memory:
        memory.erase(np.arange(40))

        left = b"".join(bytes_of(folder).values())
        assert not any(key.tobytes() in left for key in keys(40))
        assert b"once upon" not in left
        assert memory.add(keys(1), "new").tolist() == [40]
        assert memory.search(keys(1), k=1).values.tolist() == [["new"]]
    with Memory.open(folder, check=True) as memory:
        assert len(memory) == 1


def test_what_a_row_that_stays_holds_too_is_reported_by_kind_and_id(tmp_path):
    """A twin's bytes stay; the receipt says so without repeating them."""
    with Memory.create(tmp_path / "m", dim=DIM) as memory:
        memory.add(
            keys(2)[[0, 0, 1]], ["a platypus"] * 3, sources=["/photos/twins.png"] * 2 + [None],
            thumbnails=[PICTURE, PICTURE, None],
        )  # fmt: skip

        receipt = memory.erase([0])

        assert set(receipt.shared) == {
            "key of row 0: a row that stays holds the same bytes",
            "label of row 0: a row that stays holds this text",
            "text of row 0: a row that stays holds this text",
            "thumbnail of row 0: a picture that stays holds the same bytes",
        }
        assert memory.thumbnail(1) == PICTURE
        near = memory.search(keys(1), k=2)
        assert near.ids.tolist() == [[1, 2]]


def test_what_is_too_short_to_search_for_is_reported(tmp_path):
    """Three letters turn up in floating-point numbers by chance."""
    with Memory.create(tmp_path / "m", dim=DIM) as memory:
        memory.add(keys(2), ["cat", "dog"])

        receipt = memory.erase([0])

        assert receipt.shared == ("label of row 0: too short to be told from chance",)


@pytest.mark.parametrize(
    "label",
    ["SQLite format 3", "sqlite_autoindex_labels_1", "configuration", "keys-000001.float32",
     "CREATE TABLE rows", "process", "erasing", "rows_by_id"],
)  # fmt: skip
def test_a_label_that_is_a_word_of_the_catalog_can_be_erased(label, tmp_path):
    """What the file format says is no trace of a row."""
    with Memory.create(tmp_path / "m", dim=DIM) as memory:
        memory.add(keys(2), [label, "another label"])

        memory.erase([0])

        assert memory.labels.tolist() == ["another label"]


@pytest.mark.parametrize(("dim", "place"), [(8, 6), (16, 15), (64, 0)])
def test_a_key_of_almost_nothing_but_zeros_can_be_erased(dim, place, tmp_path):
    """Such bytes stand in every catalog by chance; they are searched for where keys lie."""
    key = np.zeros((1, dim), np.uint8)
    key[0, place] = 1
    with Memory.create(tmp_path / "m", dim=dim, dtype="uint8") as memory:
        memory.add(np.concatenate([key, 1 + key]), ["cat", "dog"])

        receipt = memory.erase([0])

        assert "key of row 0: too plain to be searched for in the catalog" in receipt.shared
        assert key.tobytes() not in (tmp_path / "m/segments/keys-000002.uint8").read_bytes()


@pytest.mark.parametrize("kind", ["vector", "arrays"])
def test_the_bytes_of_values_are_erased_too(kind, tmp_path):
    """Old values of a row that was changed included."""
    values = keys(6, seed=5)
    given = list(values) if kind == "vector" else [{"mask": value} for value in values]
    width = {"value_dim": DIM} if kind == "vector" else {}
    with Memory.create(tmp_path / "m", dim=DIM, value=kind, **width) as memory:
        memory.add(keys(3), given[:3])
        memory.update([1], values=given[3:4])
        before = memory.search(keys(3)[[0, 2]], k=1).values

        memory.erase([1])

        left = b"".join(bytes_of(tmp_path / "m").values())
        assert values[1].tobytes() not in left
        assert values[3].tobytes() not in left
        assert values[2].tobytes() in left
        after = memory.search(keys(3)[[0, 2]], k=1).values
        assert str(after.tolist()) == str(before.tolist())
        assert memory.verify().ok


def test_bytes_that_a_failed_write_left_behind_are_erased_with_the_row(tmp_path):
    """They lie behind the end of a segment, or in one that the catalog does not name."""

    class Failing(FolderFiles):
        fails = True

        def sync(self):
            if self.fails:
                raise OSError(28, "No space left on device")
            super().sync()

    Memory.create(tmp_path / "m", dim=DIM).close()
    store = Store(tmp_path / "m", files=Failing, segment_bytes=3 * DIM * 4)
    with Memory(store, uri="m") as memory:
        with pytest.raises(OSError, match="No space"):
            memory.add(keys(8), "a long label")
        assert keys(8)[7].tobytes() in b"".join(bytes_of(tmp_path / "m").values())
        store.files.fails = False
        memory.add(keys(8)[[7]], "a long label")
        memory.erase([0])

        assert keys(8)[7].tobytes() not in b"".join(bytes_of(tmp_path / "m").values())


def test_an_erasure_with_readers_in_between_neither_waits_nor_fails(folder):
    """They hold what they mapped, and see the new version with their next question."""
    with Memory.open(folder, read_only=True) as reader:
        assert reader.search(keys(40)[[5]], k=1).ids.tolist() == [[5]]
        with Memory.open(folder) as memory:
            memory.erase([5])

        assert reader.search(keys(40)[[5]], k=1).ids.tolist() != [[5]]
        assert reader.at(1).ids.tolist() == [row for row in range(40) if row != 5]


def test_a_reader_follows_when_all_files_were_made_anew_with_the_same_sizes(tmp_path):
    """A new segment must not be taken for the old one that it has mapped."""
    with Memory.create(tmp_path / "m", dim=DIM) as memory:
        memory.add(keys(3), "old")
        with Memory.open(tmp_path / "m", read_only=True) as reader:
            reader.search(keys(1))
            memory.erase([0, 1, 2])
            memory.add(keys(3, seed=9), "new")

            assert reader.rows().keys.tobytes() == keys(3, seed=9).tobytes()
            assert reader.search(keys(3, seed=9), k=1).ids.tolist() == [[3], [4], [5]]


def test_no_receipt_is_issued_while_bytes_remain(folder):
    """A foreign copy in the folder is found by the scan, and named."""
    (folder / "backup").mkdir()
    shutil.copy(folder / "segments" / "keys-000001.float32", folder / "backup" / "copy")
    with Memory.open(folder) as memory:
        with pytest.raises(ErasureIncomplete) as caught:
            memory.erase([5])

        assert "key in backup/copy" in str(caught.value)
        assert caught.value.remedy
        assert 5 not in memory.ids
        assert memory.add(keys(1), "x").tolist() == [40]


def test_a_disk_that_refuses_the_cleaning_is_reported_and_the_next_writer_finishes_it(folder):
    """The rows are out of every version; their file could not be deleted yet."""

    class Stubborn(FolderFiles):
        def delete(self, name):
            raise OSError(5, "Input/output error")

    with Memory(Store(folder, files=Stubborn), uri="m") as memory:
        with pytest.raises(ErasureIncomplete) as caught:
            memory.erase([5])
        assert "Input/output error" in str(caught.value)
        assert 5 not in memory.ids

    Memory.open(folder).close()

    left = b"".join(bytes_of(folder).values())
    assert [trace for trace in traces(5, keys(40)[5]) if trace in left] == []


def test_a_killed_erasure_is_finished_by_the_next_writer(folder, tmp_path):
    """At whatever step it was killed after its commit."""
    template = tmp_path / "template"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]),
        "OPENBLAS_NUM_THREADS": "1",
    }
    make_template(template)
    done = subprocess.run(
        [sys.executable, "-m", "crash.stepwise", "erase", str(template), str(tmp_path / "killed")],
        env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    key = np.arange(1, 7, dtype=np.float32).tobytes()
    committed = done.stdout.splitlines().index("COMMIT") + 1
    for number in range(committed, len(done.stdout.splitlines())):
        place = tmp_path / "killed" / str(number)
        Memory.open(place).close()
        assert key not in b"".join(bytes_of(place).values())
        with Memory.open(place, check=True) as memory:
            assert 0 not in memory.ids


def test_compacting_takes_removed_rows_off_the_disk(folder):
    """And past versions with them."""
    with Memory.open(folder) as memory:
        memory.remove([5])
        memory.compact()

        left = b"".join(bytes_of(folder).values())
        assert [trace for trace in traces(5, keys(40)[5]) if trace in left] == []
        assert memory.thumbnail(6) == picture(6)


def test_rows_of_a_memory_in_ram_can_be_erased():
    """There is no disk to search; the receipt says that nothing was scanned."""
    with Memory.create(":memory:", dim=DIM) as memory:
        memory.add(keys(3), ["a label of a row"] * 3)

        receipt = memory.erase([1])

        assert receipt.scanned == ()
        assert memory.ids.tolist() == [0, 2]
        assert memory.search(keys(3)[[1]], k=3).ids[0, 2] == -1
