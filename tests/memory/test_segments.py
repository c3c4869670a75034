"""Where the bytes of keys and values lie."""

from __future__ import annotations

import os

import numpy as np
import pytest

from recollect.errors import CorruptMemory
from recollect.memory.segments import FolderFiles, RamFiles, as_bytes, segment_name


def octets(*numbers):
    return np.array(numbers, np.uint8)


@pytest.fixture(params=["folder", "ram"])
def files(request, tmp_path):
    """Segment files of each kind."""
    made = FolderFiles(tmp_path) if request.param == "folder" else RamFiles()
    yield made
    made.close()


NAME = "keys-000001.uint8"


def test_bytes_are_read_as_they_were_written(files):
    """In order, whatever the pieces."""
    files.write(NAME, 0, octets(1, 2, 3))
    files.write(NAME, 3, octets(4))
    files.sync()

    assert files.read(NAME, 4).tolist() == [1, 2, 3, 4]
    assert files.read(NAME, 2).tolist() == [1, 2]
    assert files.read(NAME, 0).tolist() == []


def test_what_was_read_cannot_be_written_to(files):
    """Committed bytes never change."""
    files.write(NAME, 0, octets(1, 2, 3))

    with pytest.raises(ValueError, match="read-only"):
        files.read(NAME, 3)[0] = 9


def test_a_retry_overwrites_what_a_failed_write_left(files):
    """The end of a segment is where the catalog says it is."""
    files.write(NAME, 0, octets(1, 2, 3))
    files.write(NAME, 1, octets(7, 7, 7))
    files.write(NAME, 1, octets(8))

    assert files.read(NAME, 2).tolist() == [1, 8]


def test_bytes_stay_readable_after_their_file_was_deleted(files):
    """A search that is under way finishes with the rows it began with."""
    files.write(NAME, 0, octets(1, 2, 3))
    content = files.read(NAME, 3)

    files.delete(NAME)
    files.delete(NAME)

    assert content.tolist() == [1, 2, 3]
    assert files.names() == []


def test_bytes_stay_as_they_were_while_the_segment_grows(files):
    """Readers keep what they mapped."""
    files.write(NAME, 0, octets(1, 2, 3))
    content = files.read(NAME, 3)

    files.write(NAME, 3, np.arange(100, dtype=np.uint8))

    assert content.tolist() == [1, 2, 3]
    assert files.read(NAME, 103)[-1] == 99


def test_a_cut_takes_the_end_off_and_nothing_else(tmp_path):
    """What a failed write left behind must not stay on the disk when rows are erased."""
    files = FolderFiles(tmp_path)
    files.write(NAME, 0, octets(1, 2, 3))

    files.truncate(NAME, 2)
    files.truncate(NAME, 5)
    files.truncate("values-000009.bin", 5)

    assert (tmp_path / NAME).read_bytes() == b"\1\2"
    assert files.names() == [NAME]
    files.close()


def test_only_files_that_this_library_names_are_listed(tmp_path):
    """What is listed may be deleted by a sweep; a stranger's file must not be."""
    for name in ("notes.txt", "keys-000001.float32.bak", "keys-1.uint8", NAME):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "keys-000002.uint8").mkdir()
    (tmp_path / "keys-000003.uint8").symlink_to(tmp_path / "notes.txt")

    assert FolderFiles(tmp_path).names() == [NAME]


@pytest.mark.parametrize("kind", ["missing", "short", "link", "folder", "pipe"])
def test_what_is_no_whole_file_is_refused(kind, tmp_path):
    """None of these may be mapped, waited for or followed."""
    path = tmp_path / NAME
    (tmp_path / "secret").write_bytes(b"secret")
    {
        "missing": lambda: None,
        "short": lambda: path.write_bytes(b"xx"),
        "link": lambda: path.symlink_to(tmp_path / "secret"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
    }[kind]()

    with pytest.raises(CorruptMemory) as caught:
        FolderFiles(tmp_path).read(NAME, 3)

    assert NAME in str(caught.value)


def test_a_write_does_not_follow_a_link(tmp_path):
    """A folder that someone sent must not lead a write to a file of mine."""
    (tmp_path / "diary").write_bytes(b"dear diary")
    (tmp_path / NAME).symlink_to(tmp_path / "diary")

    with pytest.raises(OSError, match="symbolic"):
        FolderFiles(tmp_path).write(NAME, 0, octets(1))

    assert (tmp_path / "diary").read_bytes() == b"dear diary"


def test_the_name_of_a_segment_says_what_it_holds():
    """Anyone can read one with numpy."""
    assert segment_name(7, "keys", "float16") == "keys-000007.float16"
    assert segment_name(12, "values", "float16") == "values-000012.bin"


def test_the_raw_bytes_of_an_array_are_row_by_row():
    """Also where the array lies in memory in another order."""
    array = np.array([[1, 2], [3, 4]], np.uint8)

    assert as_bytes(array).tolist() == [1, 2, 3, 4]
    assert as_bytes(array.T).tolist() == [1, 3, 2, 4]
