"""Measurements that take hours are written down as they come."""

from __future__ import annotations

import pytest

from recollect import errors
from recollect.evaluation.notebook import Notebook


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    """Hours of measurements are not done twice."""
    path = tmp_path / "cells.jsonl"
    Notebook(path).note("a", lambda: {"accuracy": 0.5})

    again = Notebook(path).note("a", lambda: pytest.fail("measured again"))

    assert again == {"accuracy": 0.5}


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
    """A kill in mid-write costs the one result, and what comes next is not glued to its rest."""
    path = tmp_path / "cells.jsonl"
    path.write_text('["a", {"result": 1, "seconds": 2.5}]\n["b", {"res')

    book = Notebook(path)

    assert (book.note("a", dict), book.note("b", lambda: 3)) == (1, 3)
    assert Notebook(path).done.keys() == {"a", "b"}


def test_nothing_is_begun_when_time_is_up():
    """Results that are there are still given."""
    book = Notebook(None, done={"a": {"result": 1}}, until=0.0)

    assert book.note("a", dict) == 1
    with pytest.raises(TimeoutError):
        book.note("b", dict)


def test_a_run_that_came_to_its_end_leaves_nothing(tmp_path):
    """The next one measures anew: the program may have changed since."""
    path = tmp_path / "cells.jsonl"
    book = Notebook(path)
    book.note("a", lambda: 1)

    book.close()

    assert not path.exists()
    assert Notebook(path).note("a", lambda: 2) == 2


@pytest.mark.parametrize(
    "line", ["{broken", "[1, 2]", '["a", {"result": 1}]', '"a"', '["a", 1, 2]', "[" * 100_000]
)
def test_a_file_of_other_lines_is_refused_by_name(tmp_path, line):
    """It ended in whatever Python made of the line; a file of somebody else is not changed."""
    path = tmp_path / "cells.jsonl"
    text = f'["a", {{"result": 1, "seconds": 2.5}}]\n{line}\n'
    path.write_text(text)

    with pytest.raises(errors.InputError, match=r"cells.jsonl is not what .* got line 2: "):
        Notebook(path)
    assert path.read_text() == text


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    """And a file that is no text."""
    (tmp_path / "bytes").write_bytes(b"\xff\n")
    for path in (tmp_path, tmp_path / "bytes"):
        with pytest.raises(errors.InputError, match="is not what an earlier run wrote"):
            Notebook(path)


def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    """One line without an end looks like a line that was cut off; it must not be dropped."""
    path = tmp_path / "diary"
    path.write_text("my diary, one line without an end", encoding="utf-8")

    with pytest.raises(errors.InputError, match="diary"):
        Notebook(path)

    assert path.read_text(encoding="utf-8") == "my diary, one line without an end"


def test_a_first_line_that_was_cut_off_counts_as_not_written(tmp_path):
    """A run that was killed while it wrote leaves the beginning of a line."""
    path = tmp_path / "notes"
    path.write_text('["a", {"resu', encoding="utf-8")

    assert Notebook(path).done == {}
