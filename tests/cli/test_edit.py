"""Commands that change rows, and those about versions."""

from __future__ import annotations

import json

import pytest

from recollect import Memory


def labels(path):
    with Memory.open(path, read_only=True) as memory:
        return memory.label_counts()


def test_relabel_corrects_rows_by_id(facts, memory):
    """The correction that the explanation led to."""
    changed = facts("relabel", memory, 0, 1, "green")

    assert changed["before"] == ["blue", "blue"]
    assert (changed["ids"], changed["label"], changed["version"]) == ([0, 1], "green", 2)
    assert labels(memory) == {"blue": 2, "green": 2, "red": 4}


def test_relabel_corrects_rows_by_filter(run, memory):
    """A whole batch was labelled wrongly."""
    done = run("relabel", memory, "--where", "source like '%blue%'", "green")

    assert "4 rows now green" in done.stdout
    assert labels(memory) == {"green": 4, "red": 4}


def test_relabel_says_what_the_label_was(run, memory):
    """Undoing it by hand needs to be possible."""
    assert "Row 3: blue is now green." in run("relabel", memory, 3, "green").stdout


def test_relabel_keeps_integers_integers(facts, run, tmp_path):
    """A memory of integers takes no text."""
    table = tmp_path / "x.csv"
    table.write_text("text,label\nseven,7\n")
    run("init", tmp_path / "m", "--encoder", "hashing-text")
    run("add", tmp_path / "m", table)

    assert facts("relabel", tmp_path / "m", 0, 8)["label"] == 8
    assert run("relabel", tmp_path / "m", 0, "eight").exit_code == 1


def test_reweight_changes_how_votes_weigh(facts, memory):
    """A doubtful row need not go."""
    facts("reweight", memory, 0, "0.5")
    facts("reweight", memory, "--where", "label = 'red'", 2)

    weights = [row["weight"] for row in facts("rows", memory)["rows"]]
    assert weights == [0.5, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("command", ["relabel", "reweight"])
def test_a_change_of_no_rows_is_refused(run, memory, command):
    """Forgetting the ids is a slip of the keyboard, not a wish."""
    done = run(command, memory, 5)

    assert done.exit_code == 1
    assert "which rows are meant" in done.stderr


def test_remove_takes_rows_out_and_restore_brings_them_back(facts, memory):
    """Removal is not erasure."""
    removed = facts("remove", memory, "--label", "red", "--yes")
    restored = facts("restore", memory, 1)

    assert removed["ids"] == [4, 5, 6, 7]
    assert restored == {"restored": 1, "version": 3, "rows": 8}
    assert labels(memory) == {"blue": 4, "red": 4}


def test_a_label_with_a_quote_is_a_label(facts, run, memory):
    """The option is put into a filter; it must not become a part of it."""
    run("relabel", memory, 0, "x' or 1=1 --")

    assert facts("remove", memory, "--label", "x' or 1=1 --", "--yes")["ids"] == [0]


def test_label_and_filter_together_mean_both(facts, memory):
    """Narrower, not wider."""
    removed = facts("remove", memory, "--label", "red", "--where", "id < 5 or id > 6", "--yes")

    assert removed["ids"] == [4, 7]


def test_a_filter_that_matches_nothing_changes_nothing(facts, run, memory):
    """No question, no version."""
    done = run("remove", memory, "--where", "id > 100")

    assert done.exit_code == 0
    assert "nothing was changed" in done.stdout
    assert facts("history", memory)["current"] == 1


@pytest.mark.parametrize("command", ["remove", "erase"])
def test_a_no_changes_nothing(run, memory, command):
    """The question is there to be answered."""
    done = run(command, memory, 0, answer="n\n")

    assert done.exit_code == 1
    assert "Nothing was changed" in done.stderr
    assert labels(memory) == {"blue": 4, "red": 4}


@pytest.mark.parametrize("command", ["remove", "erase"])
def test_an_end_of_input_is_no_yes(run, memory, command):
    """A script that forgot --yes must not delete."""
    assert run(command, memory, 0, answer="").exit_code == 1
    assert labels(memory) == {"blue": 4, "red": 4}


def test_a_yes_is_done(run, memory):
    """The question stands on stderr, the result on stdout."""
    done = run("remove", memory, 0, answer="y\n")

    assert done.exit_code == 0
    assert "Remove 1 row of 8?" in done.stderr
    assert "Removed 1 row; 7 remain." in done.stdout


@pytest.mark.parametrize("command", ["remove", "erase"])
def test_json_needs_a_yes_beforehand(run, memory, command):
    """Nobody can be asked in the middle of a JSON object."""
    done = run(command, memory, 0, "--json")

    assert done.exit_code == 2
    assert labels(memory) == {"blue": 4, "red": 4}


def test_erase_issues_a_receipt(facts, memory, tmp_path):
    """What the privacy officer files."""
    file = tmp_path / "receipt.json"

    erased = facts("erase", memory, 2, "--receipt", file, "--yes")
    receipt = json.loads(file.read_text())

    assert erased["receipt"] == receipt
    assert receipt["ids"] == [2]
    assert len(receipt["digests"][0]) == 64
    assert receipt["needles"] > 0
    assert not (memory / "cache").exists()


def test_erase_reaches_rows_that_were_removed_before(facts, run, memory):
    """Past versions still hold them."""
    run("remove", memory, 2, "--yes")

    assert facts("erase", memory, 2, "--yes")["ids"] == [2]


def test_erase_tells_in_words_what_was_searched(run, memory):
    """The receipt for people."""
    done = run("erase", memory, 2, "--yes")

    assert "Erased 1 row, version 2." in done.stdout
    assert "files" in done.stdout


def test_a_receipt_is_never_written_over_another(run, memory, tmp_path):
    """An old receipt is a document; and nothing is erased without a place for the new one."""
    file = tmp_path / "receipt.json"
    file.write_text("kept")

    done = run("erase", memory, 2, "--receipt", file, "--yes")

    assert done.exit_code == 1
    assert file.read_text() == "kept"
    assert labels(memory) == {"blue": 4, "red": 4}


def test_an_erasure_that_is_refused_leaves_no_receipt(run, memory, tmp_path):
    """An empty receipt would be a false one."""
    done = run("erase", memory, 99, "--receipt", tmp_path / "receipt.json", "--yes")

    assert done.exit_code == 1
    assert not (tmp_path / "receipt.json").exists()


@pytest.mark.parametrize("command", [("relabel", 99, "x"), ("remove", 99, "--yes")])
def test_ids_that_do_not_exist_are_refused(run, memory, command):
    """Nothing half-done."""
    done = run(command[0], memory, *command[1:])

    assert done.exit_code == 1
    assert "99" in done.stderr


def test_history_lists_every_version(facts, run, memory):
    """Who changed what, when."""
    run("relabel", memory, 0, "green")

    versions = facts("history", memory)["versions"]

    assert [one["operation"] for one in versions] == ["create", "add", "update"]
    assert [one["rows"] for one in versions] == [0, 8, 8]
    assert "operation" in run("history", memory).stdout


def test_restore_of_a_version_that_never_was_is_refused(run, memory):
    """A wrong number must not empty the memory."""
    assert run("restore", memory, 77).exit_code == 1
