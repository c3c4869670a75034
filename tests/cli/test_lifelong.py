"""The commands what-if, no-return and migrate."""

from __future__ import annotations

import shutil

from recollect import Memory


def version_of(path):
    with Memory.open(path, read_only=True) as memory:
        return memory.version


def test_what_if_names_the_answers_that_a_removal_changes(facts, memory, questions):
    """Without the reds every question is answered blue."""
    preview = facts("what-if", memory, questions, "--label", "red")

    assert preview["removed"] == [4, 5, 6, 7]
    assert (preview["queries"], preview["flipped"]) == (6, 3)
    assert {(one["before"], one["after"]) for one in preview["flips"]} == {("red", "blue")}
    assert version_of(memory) == 1


def test_what_if_asks_the_rows_that_stay_when_there_are_no_inputs(run, memory):
    """A privacy officer has a request, not a question."""
    done = run("what-if", memory, "--remove", 0)

    assert done.stdout.startswith("Without 1 row 0 of 7 answers change.")


def test_what_if_needs_rows_to_remove(run, memory):
    """Everything, by mistake, would be a poor default."""
    assert run("what-if", memory).exit_code == 1


def test_a_label_that_no_row_has_is_named_with_those_that_are(run, memory):
    """A slip of the keyboard must not read as "nothing would change"."""
    done = run("what-if", memory, "--label", "rde")

    assert done.exit_code == 1
    assert "no row has this label" in done.stderr
    assert "'red'" in done.stderr
    assert run("remove", memory, "--label", "rde", "--yes").exit_code == 1
    assert version_of(memory) == 1


def test_labels_may_be_named_one_by_one(facts, memory, questions):
    """Before, only the last one counted."""
    preview = facts("what-if", memory, questions, "--label", "blue", "--label", "red")

    assert preview["removed"] == [0, 1, 2, 3, 4, 5, 6, 7]
    narrow = facts("what-if", memory, questions, "--label", "blue", "--label", "red",
                   "--where", "id > 5")  # fmt: skip
    assert narrow["removed"] == [6, 7]


def test_without_all_rows_no_answer_is_left_to_change(run, memory):
    """Nobody stays to be asked."""
    done = run("what-if", memory, "--label", "blue", "--label", "red")

    assert done.exit_code == 0
    assert done.stdout.startswith("Without 8 rows 0 of 0 answers change.")


def test_a_row_erased_for_good_is_refused_until_it_is_named(facts, run, memory, lessons):
    """The whole life of one entry of the list."""
    proof = facts("erase", memory, 0, "--no-return", "--yes")
    picture = lessons / "blue" / "0.png"

    refused = run("add", memory, picture, "--label", "blue")
    listed = facts("no-return", memory)["listed"]
    allowed = facts("no-return", memory, "--allow", 0)
    returned = facts("add", memory, picture, "--label", "blue")

    assert proof["receipt"]["banned"] == [0]
    assert refused.exit_code == 1
    assert "must not return" in refused.stderr
    assert [(one["id"], one["known_by"][:2]) for one in listed] == [(0, ["key", "thumbnail"])]
    assert (allowed["allowed"], allowed["listed"]) == ([0], [])
    assert returned["added"] == 1


def test_the_list_is_shown_as_a_table(run, memory):
    """And an empty one in words."""
    assert run("no-return", memory).stdout == "No row is on the list.\n"
    run("erase", memory, 1, "--no-return", "--yes")

    assert "key, thumbnail" in run("no-return", memory).stdout


def test_migrate_encodes_again_switches_and_can_be_undone(facts, run, memory, lessons):
    """From sources below the folder that was taught."""
    options = ("--encoder", "pixels?size=4", "--root", lessons.parent)
    dry = facts("migrate", memory, *options, "--dry-run")
    done = facts("migrate", memory, *options, "--yes")

    assert (dry["switched"], dry["report"]["encoded"]) == (False, 8)
    assert (done["version"], done["report"]["agreement"]["same"]) == (2, 1.0)
    assert facts("stats", memory)["dim"] == 52
    facts("restore", memory, done["report"]["before"])
    assert facts("stats", memory)["dim"] != 52
    assert run("migrate", memory, *options, answer="n\n").exit_code == 1


def test_migrate_tells_what_it_found_and_how_to_undo_it(run, memory, lessons):
    """For people."""
    done = run("migrate", memory, "--encoder", "pixels?size=4", "--root", lessons.parent, "--yes")

    assert "8 rows" in done.stdout
    assert "100.0% of 8 rows asked" in done.stdout
    assert f"recollect restore {memory} 1" in done.stdout


def test_migrate_refuses_to_switch_when_too_many_answers_change(run, memory, lessons, tmp_path):
    """One picture was replaced by one of the other color since it was taught."""
    shutil.copytree(lessons, tmp_path / lessons.name)
    shutil.copy(lessons / "red" / "0.png", tmp_path / lessons.name / "blue" / "0.png")
    options = ("--encoder", "pixels?size=4", "--root", tmp_path, "--yes")

    done = run("migrate", memory, *options, "--least-agreement", 0.9)

    assert done.exit_code == 1
    assert "too few answers stay the same" in done.stderr
    assert version_of(memory) == 1


def test_migrate_refuses_to_align_when_told_so(run, memory, lessons, tmp_path):
    """Sources that are gone are somebody's decision."""
    shutil.copytree(lessons / "red", tmp_path / lessons.name / "red")
    options = ("--encoder", "pixels?size=4", "--root", tmp_path, "--yes")

    assert run("migrate", memory, *options, "--no-align").exit_code == 1
    assert version_of(memory) == 1
    assert run("migrate", memory, *options).exit_code == 0
