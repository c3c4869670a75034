"""`init` and `add`: from images on disk to rows with sources, metadata and small pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from recollect import Memory
from recollect.cli.teach import thumbnail


def test_init_makes_a_memory_for_what_the_encoder_reads(facts, tmp_path):
    """What is said at the start is what every later command relies on."""
    made = facts("init", tmp_path / "m", "--encoder", "pixels?size=4", "--metric", "euclidean")

    with Memory.open(tmp_path / "m") as memory:
        assert memory.encoder == made["encoder"]
        assert memory.encoder_spec["size"] == 4
        assert memory.metric == "euclidean"
    assert made["modality"] == "image"


def test_init_over_a_memory_is_refused(run, memory):
    """A typing error may not replace a memory."""
    done = run("init", memory)

    assert done.exit_code == 1
    assert "something at" in done.stderr


def test_add_teaches_a_folder_in_one_version(facts, run, lessons, tmp_path):
    """Either all of a folder is taught or nothing is."""
    run("init", tmp_path / "m", "--encoder", "pixels")

    added = facts("add", tmp_path / "m", lessons)

    assert added["added"] == added["rows"] == 8
    assert added["labels"] == {"blue": 4, "red": 4}
    assert added["ids"] == list(range(8))
    assert added["version"] == 1


def test_add_records_where_each_row_came_from(memory):
    """An answer must lead back to a file."""
    with Memory.open(memory) as taught:
        rows = taught.rows([0, 7])

    assert rows.sources == ["lessons/blue/0.png", "lessons/red/3.png"]


def test_add_keeps_a_small_picture_of_each_row(memory):
    """Explanations show pictures even where the files have gone."""
    with Memory.open(memory) as taught:
        picture = Image.open(io.BytesIO(taught.thumbnail(4)))

    assert picture.size == (16, 16)
    assert np.asarray(picture.convert("RGB")).mean(axis=(0, 1)).argmax() == 0


def test_add_keeps_no_pictures_if_told_so(run, lessons, tmp_path):
    """Whoever may not keep pictures can say so."""
    run("init", tmp_path / "m", "--encoder", "pixels")
    run("add", tmp_path / "m", lessons, "--no-previews")

    with Memory.open(tmp_path / "m") as taught:
        assert taught.thumbnail(0) is None


def test_a_small_picture_has_no_side_above_64():
    """A memory of a million rows must not hold a million photographs."""
    picture = Image.open(io.BytesIO(thumbnail(np.zeros((100, 300, 3), np.uint8))))

    assert picture.size == (64, 21)


def test_add_gives_single_files_the_label_it_is_told(facts, memory, questions):
    """A new class from a few examples, without a folder for it."""
    added = facts("add", memory, questions / "red/0.png", questions / "red/1.png", "--label", "new")

    assert added["labels"] == {"new": 2}
    assert added["ids"] == [8, 9]


def test_add_of_a_file_without_a_label_is_refused(run, memory, questions):
    """No label can be guessed from a single file."""
    done = run("add", memory, questions / "red/0.png")

    assert done.exit_code == 1
    assert "--label" in done.stderr


def test_add_skips_what_cannot_be_read_and_names_it(run, memory, tmp_path):
    """One broken file among thousands is no reason to stop, if that was asked for."""
    folder = tmp_path / "new" / "green"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8), (0, 200, 0)).save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"no picture")

    refused = run("add", memory, tmp_path / "new")
    skipped = run("add", memory, tmp_path / "new", "--on-error", "skip")

    assert refused.exit_code == 1
    assert "bad.png" in refused.stderr
    assert skipped.exit_code == 0
    assert "Skipped new/green/bad.png" in skipped.stderr
    assert "Added 1 row (id 8)" in skipped.stdout


def test_add_of_nothing_readable_is_refused(run, memory, tmp_path):
    """A version without rows would be a puzzle in the history."""
    (tmp_path / "new" / "green").mkdir(parents=True)
    (tmp_path / "new" / "green" / "bad.png").write_bytes(b"no picture")

    done = run("add", memory, tmp_path / "new", "--on-error", "skip")

    assert done.exit_code == 1
    assert "none of the inputs could be read" in done.stderr


def test_add_reads_texts_and_columns_of_a_table(facts, run, tmp_path):
    """A memory of texts keeps the text with the row, to show what an answer came from."""
    table = tmp_path / "asked.csv"
    table.write_text("text,label,year\nwhere is my card,card,2020\nwhat is the fee,fee,\n")
    run("init", tmp_path / "m", "--encoder", "hashing-text")

    added = facts("add", tmp_path / "m", table)
    rows = facts("rows", tmp_path / "m")["rows"]

    assert added["labels"] == {"card": 1, "fee": 1}
    assert rows[0]["metadata"] == {"text": "where is my card", "year": 2020}
    assert rows[1]["source"] == "asked.csv#1"


def test_add_takes_texts_from_the_command_line(facts, run, tmp_path):
    """The quickest lesson of all."""
    run("init", tmp_path / "m", "--encoder", "hashing-text")

    added = facts("add", tmp_path / "m", "where is it", "where was it", "--label", "place")

    assert added["labels"] == {"place": 2}


def test_inputs_of_the_wrong_kind_are_refused(run, lessons, tmp_path):
    """Pictures cannot be read by an encoder of texts."""
    run("init", tmp_path / "m", "--encoder", "hashing-text")

    done = run("add", tmp_path / "m", lessons)

    assert done.exit_code == 1
    assert "holds images: expected texts" in done.stderr


def test_numbers_from_a_file_become_text_where_the_memory_holds_text(facts, run, tmp_path):
    """A CSV writes 7 for the class that is named "7" elsewhere."""
    table = tmp_path / "x.csv"
    table.write_text("text,label\nseven,7\n")
    run("init", tmp_path / "m", "--encoder", "hashing-text")
    run("add", tmp_path / "m", "a", "--label", "x")

    assert facts("add", tmp_path / "m", table)["labels"] == {"7": 1}


def test_a_memory_of_numbers_is_taught_from_a_column_of_numbers(facts, run, lessons, tmp_path):
    """Regression by the same commands."""
    table = tmp_path / "x.csv"
    table.write_text(f"path,price\n{lessons}/blue/0.png,1.5\n{lessons}/red/0.png,3\n")
    run("init", tmp_path / "m", "--encoder", "pixels", "--value", "number")

    facts("add", tmp_path / "m", table, "--label-column", "price")

    assert [row["number"] for row in facts("rows", tmp_path / "m")["rows"]] == [1.5, 3.0]


def test_encodings_are_kept_beside_the_memory_unless_told_otherwise(run, lessons, memory, tmp_path):
    """Nothing is encoded twice, and whoever wants no cache has none."""
    run("init", tmp_path / "m", "--encoder", "pixels")
    run("add", tmp_path / "m", lessons, "--no-cache")

    assert (memory / "cache" / "encodings.sqlite").exists()
    assert not (tmp_path / "m" / "cache").exists()


def test_a_memory_without_an_encoder_says_how_it_can_be_taught(run, lessons, tmp_path):
    """Keys that come from elsewhere cannot be made here."""
    Memory.create(tmp_path / "m", dim=2).close()

    done = run("add", tmp_path / "m", lessons)

    assert done.exit_code == 1
    assert "records no encoder" in done.stderr


def test_a_limit_takes_the_same_number_of_each_class(facts, run, lessons, tmp_path):
    """Few-shot experiments are one option away."""
    run("init", tmp_path / "m", "--encoder", "pixels")

    assert facts("add", tmp_path / "m", lessons, "--per-class", 2)["labels"] == {
        "blue": 2,
        "red": 2,
    }


@pytest.mark.parametrize("name", ["--image-column", "--text-column", "--label-column"])
def test_a_column_of_a_folder_is_refused(run, memory, lessons, name):
    """An option without effect hides a misunderstanding."""
    done = run("add", memory, lessons, name, "x")

    assert done.exit_code == 1
    assert "has no columns" in done.stderr


@pytest.mark.parametrize("command", ["add", "evaluate"])
def test_a_file_that_is_not_there_is_told_before_its_missing_label(run, memory, tmp_path, command):
    """A mistyped path is no question of labels."""
    done = run(command, memory, tmp_path / "mistyped.csv")

    assert done.exit_code == 1
    assert "there is no file at" in done.stderr
