"""What an earlier run left is read before anything is measured, and refused in one way."""

from __future__ import annotations

import pytest

from recollect import errors
from recollect.evaluation.earlier import make_folder, read_earlier


@pytest.mark.parametrize("text", ["{broken", "[1, 2]", "3", "", "[" * 100_000])
def test_what_no_run_wrote_is_refused_with_its_path(tmp_path, text):
    """One error of this library, not one of the JSON reader."""
    path = tmp_path / "figures.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(errors.InputError, match=r"figures.json is not what an earlier run wrote"):
        read_earlier(path)


def test_bytes_and_folders_are_refused_as_well(tmp_path):
    """Neither can be read as text."""
    (tmp_path / "bytes").write_bytes(b"\xff")
    for path in (tmp_path, tmp_path / "bytes"):
        with pytest.raises(errors.InputError, match="is not what an earlier run wrote"):
            read_earlier(path)


def test_a_file_that_is_not_there_holds_nothing(tmp_path):
    """A first run has no earlier one."""
    assert read_earlier(tmp_path / "figures.json") == {}


def test_a_file_is_no_folder_for_results(tmp_path):
    """Nor is a place below it; a new folder, with those above, is made."""
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(errors.InputError, match="cannot hold results"):
            make_folder(folder)
    assert make_folder(tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_folder_of_a_name_that_none_can_have_is_refused(tmp_path, name):
    """The system's words, in one error of the tree."""
    with pytest.raises(errors.InputError):
        make_folder(tmp_path / name)


def test_a_report_of_a_name_that_is_too_long_is_refused(tmp_path):
    """Asking whether it is there already fails."""
    with pytest.raises(errors.InputError):
        read_earlier(tmp_path / ("x" * 300))
