"""`stats`, `rows`, `verify`, `export`, `import`, `demo` and `reproduce`."""

from __future__ import annotations

import numpy as np
import pytest
from places import data, models

from recollect import Memory
from recollect.index import paths


def test_stats_counts_what_is_there(facts, run, memory):
    """The first look at a memory that somebody else made."""
    told = facts("stats", memory)

    assert (told["rows"], told["labels"], told["metric"]) == (8, 2, "cosine")
    assert told["label_counts"] == {"blue": 4, "red": 4}
    assert "compared by cosine" in run("stats", memory).stdout


def test_rows_lists_ids_to_act_on(facts, memory):
    """relabel and remove need ids; this is where they come from."""
    told = facts("rows", memory, "--where", "label = 'red'", "--limit", 2)

    assert [row["id"] for row in told["rows"]] == [4, 5]
    assert told["total"] == 4


def test_rows_can_be_named_by_id_in_any_order(facts, memory):
    """The order asked for is the order shown."""
    assert [row["id"] for row in facts("rows", memory, 5, 1)["rows"]] == [5, 1]


def test_rows_says_that_there_are_more(run, memory):
    """A list that ends silently is believed to be complete."""
    done = run("rows", memory, "--limit", 3)

    assert len(done.stdout.splitlines()) == 4
    assert "3 of 8 rows" in done.stderr


def test_a_filter_that_cannot_be_read_is_refused_with_a_hint(run, memory):
    """The remedy stands below the error."""
    done = run("rows", memory, "--where", "lable = 'red'")

    assert done.exit_code == 1
    assert "Did you mean 'label'?" in done.stderr


def test_verify_finds_a_sound_memory_sound(facts, memory):
    """Exit code 0 is the answer that a nightly job waits for."""
    told = facts("verify", memory)

    assert (told["ok"], told["problems"], told["states"]) == (True, [], 8)


def test_verify_finds_a_flipped_bit(run, memory):
    """Exit code 1 and a sentence, also where the memory cannot be opened at all."""
    segment = next((memory / "segments").iterdir())
    raw = bytearray(segment.read_bytes())
    raw[5] ^= 1
    segment.write_bytes(raw)

    done = run("verify", memory)

    assert done.exit_code == 1
    assert "the key of row 0" in done.stdout


def test_verify_of_a_memory_that_cannot_be_opened_is_an_answer_too(run, memory):
    """A truncated file is found before anything is read."""
    segment = next((memory / "segments").iterdir())
    segment.write_bytes(segment.read_bytes()[:-1])

    done = run("verify", memory, "--json")

    assert done.exit_code == 1
    assert '"ok": false' in done.stdout


def test_export_and_import_carry_a_memory_elsewhere(facts, memory, questions, tmp_path):
    """The copy gives the same answers, from the same rows."""
    facts("export", memory, tmp_path / "colors.parquet")
    made = facts("import", tmp_path / "copy", tmp_path / "colors.parquet")

    assert made["rows"] == 8
    assert facts("predict", memory, questions) == facts("predict", tmp_path / "copy", questions)


def test_export_replaces_a_file_only_by_force(run, memory, tmp_path):
    """The last copy may be the only one."""
    file = tmp_path / "colors.parquet"
    file.write_text("kept")

    assert run("export", memory, file).exit_code == 1
    assert file.read_text() == "kept"
    assert run("export", memory, file, "--force").exit_code == 0


@pytest.fixture
def features(tmp_path):
    """Embeddings of somebody else's, with labels and without."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    keys = [[1.0, 0.0], [0.0, 1.0]]
    parquet.write_table(pa.table({"embedding": keys, "label": ["a", "b"]}), tmp_path / "x.parquet")
    parquet.write_table(pa.table({"embedding": keys[::-1]}), tmp_path / "asked.parquet")
    return tmp_path / "x.parquet"


def test_import_takes_embeddings_of_others(run, features, tmp_path):
    """The command says how such a memory is asked."""
    done = run("import", tmp_path / "m", features)

    assert done.exit_code == 0
    assert "No encoder is known" in done.stderr
    with Memory.open(tmp_path / "m") as memory:
        assert memory.search(np.eye(2)[:1], k=1).values.tolist() == [["a"]]


def test_a_memory_of_embeddings_is_asked_with_embeddings(facts, run, features, tmp_path):
    """Features of one's own go through the same commands."""
    run("import", tmp_path / "m", features)

    answers = facts("predict", tmp_path / "m", tmp_path / "asked.parquet", "-k", 1)["predictions"]
    measured = facts("evaluate", tmp_path / "m", features, "-k", 1)
    added = facts("add", tmp_path / "m", tmp_path / "asked.parquet", "--label", "c")

    assert [answer["label"] for answer in answers] == ["b", "a"]
    assert answers[0]["input"] == "asked.parquet#0"
    assert measured["accuracy"] == 1.0
    assert added["labels"] == {"c": 2}


def test_a_memory_of_embeddings_refuses_pictures(run, features, questions, tmp_path):
    """Nothing here could encode them."""
    run("import", tmp_path / "m", features)

    done = run("predict", tmp_path / "m", questions)

    assert done.exit_code == 1
    assert "records no encoder" in done.stderr


@pytest.mark.slow
def test_demo_tells_the_story_and_saves_it(facts, tmp_path):
    """The command of the README."""
    told = facts("demo", "--out", tmp_path / "demo")

    assert told["accuracy"] > 0.9
    assert (tmp_path / "demo" / "story.html").exists()


@pytest.mark.slow
def test_reproduce_prints_the_table(run, tmp_path):
    """A small run of the real thing, on real images."""
    done = run(
        "reproduce", "visual-memory", "--data", data(), "--models", models(),
        "--rows", 60, "--queries", 20, "--size", 64, "--out", tmp_path / "out",
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    assert "| rank |" in done.stdout


def test_doctor_says_which_way_a_search_takes(facts, monkeypatch):
    """And why, so that a slow machine can be understood."""
    monkeypatch.setenv("RECOLLECT_SEARCH", "numpy")

    told = facts("doctor")

    assert (told["path"], told["reason"]) == ("numpy", "it was asked for")
    assert told["threads"] >= 1


def test_doctor_remembers_what_it_measured(facts, monkeypatch, tmp_path, request):
    """`--calibrate` once, and every later search takes the fastest way."""
    request.addfinalizer(paths.forget_measured)  # the searches of other tests, too
    monkeypatch.setenv("RECOLLECT_CACHE", str(tmp_path))
    monkeypatch.setattr("recollect.index.calibration.ways", lambda: ["numpy"])
    monkeypatch.setattr("recollect.index.calibration.ROWS", 500)

    told = facts("doctor", "--calibrate")

    assert told["saved"] == str(tmp_path / "search.json")
    assert told["path"] == "numpy"
    assert sorted(told["milliseconds"]["numpy"]) == ["1", "256", "32"]
