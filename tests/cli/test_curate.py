"""The command `curate` looks, proposes, acts on request, and says how to undo it."""

from __future__ import annotations

import io
import json

import pytest

from recollect import Memory
from recollect.cli.app import run


@pytest.fixture
def folder(tmp_path):
    """Fifty rows to the east, two of them called north and two the same; fifty to the north."""
    keys = [[1.0, 0.01 * row] for row in range(50)] + [[0.01 * row, 1.0] for row in range(50)]
    keys[9] = keys[8]
    labels = ["east"] * 50 + ["north"] * 50
    labels[20] = labels[30] = "north"
    with Memory.create(tmp_path / "memory", dim=2) as memory:
        memory.add(keys, labels)
    return str(tmp_path / "memory")


def told(capsys):
    return json.loads(capsys.readouterr().out)


def test_it_lists_what_looks_wrong_and_changes_nothing(folder, capsys):
    """A question leaves no version behind."""
    assert run(["curate", folder, "--json"]) == 0

    facts = told(capsys)
    assert sorted(one["id"] for one in facts["suspects"]) == [20, 30]
    assert {one["suggested"] for one in facts["suspects"]} == {"east"}
    assert facts["redundant"] == [9]
    assert facts["changed"] == 0
    assert facts["version"] == 1


def test_people_get_tables(folder, capsys):
    """With the rows, what is proposed, and what could go."""
    assert run(["curate", folder, "--few", "60", "--top", "3"]) == 0

    out = capsys.readouterr().out
    assert "2 labels contradicted" in out
    assert "1 group of exact duplicates" in out
    assert "small labels" in out


def test_a_proposal_is_carried_out_and_restored(folder, capsys):
    """The line that undoes it is printed and works."""
    assert run(["curate", folder, "--apply", "relabel", "--duplicates", "--yes"]) == 0
    assert f"recollect restore {folder} 1" in capsys.readouterr().out
    with Memory.open(folder) as memory:
        assert memory.label_counts() == {"east": 49, "north": 50}

    assert run(["restore", folder, "1", "--quiet"]) == 0

    with Memory.open(folder) as memory:
        assert memory.label_counts() == {"east": 48, "north": 52}


def test_one_suspect_can_be_picked(folder, capsys):
    """A person has looked at it."""
    assert run(["curate", folder, "--apply", "remove", "--only", "20", "--yes", "--json"]) == 0

    assert told(capsys)["changed"] == 1
    with Memory.open(folder) as memory:
        assert 20 not in memory.ids
        assert 30 in memory.ids


def test_a_row_that_is_no_suspect_is_refused(folder, capsys):
    """A slip of the finger may not remove a good row."""
    assert run(["curate", folder, "--apply", "remove", "--only", "21", "--yes"]) == 2
    assert "21" in capsys.readouterr().err


def test_without_a_yes_nothing_is_changed(folder, capsys, monkeypatch):
    """The end of input is a no."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    assert run(["curate", folder, "--apply", "mute"]) == 1

    with Memory.open(folder) as memory:
        assert memory.version == 1
