"""`predict`, `search`, `explain` and `evaluate`."""

from __future__ import annotations

import pytest

from recollect import Memory


def contents(folder):
    """Every file but the one in which readers and writers of the catalog find each other."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".sqlite-shm"]
    return {path: path.read_bytes() for path in files}


def test_predict_answers_with_label_share_and_rows(facts, memory, questions):
    """The rows are half of the answer."""
    answer = facts("predict", memory, questions / "red/0.png", "--k", 3)["predictions"][0]

    assert answer["label"] == "red"
    assert answer["score"] == pytest.approx(1.0)
    assert answer["shares"] == {"red": pytest.approx(1.0)}
    assert {row["id"] for row in answer["neighbors"]} <= {4, 5, 6, 7}
    assert sum(row["share"] for row in answer["neighbors"]) == pytest.approx(1.0)


def test_predict_reads_a_folder_without_needing_its_labels(facts, memory, questions):
    """Files to be sorted lie anywhere."""
    answers = facts("predict", memory, questions)["predictions"]

    assert [answer["label"] for answer in answers] == ["blue"] * 3 + ["red"] * 3
    assert answers[0]["input"] == "questions/blue/0.png"


def test_predict_prints_a_line_per_input(run, memory, questions):
    """People read tables."""
    done = run("predict", memory, questions / "red/0.png", "-k", 2)

    lines = done.stdout.splitlines()
    assert lines[0].split() == ["input", "label", "share", "nearest", "rows"]
    assert "red" in lines[1]
    assert "100.0%" in lines[1]


def test_predict_by_another_vote_weighs_rows_otherwise(facts, memory, questions):
    """Options reach the vote."""
    picture = questions / "red/0.png"

    ranked = facts("predict", memory, picture, "--k", 2, "--alpha", 1)
    plain = facts("predict", memory, picture, "--k", 2, "--vote", "plurality")

    shares = [row["share"] for row in ranked["predictions"][0]["neighbors"]]
    assert shares == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    shares = [row["share"] for row in plain["predictions"][0]["neighbors"]]
    assert shares == [0.5, 0.5]


@pytest.mark.parametrize("command", ["predict", "search", "explain"])
def test_asking_writes_nothing_into_the_memory(run, memory, questions, command):
    """A question may be about somebody; it must leave no trace."""
    before = contents(memory)

    assert run(command, memory, questions).exit_code == 0

    assert contents(memory) == before


@pytest.mark.parametrize("command", ["predict", "search", "explain"])
def test_an_unreadable_input_is_skipped_and_named(facts, run, memory, questions, tmp_path, command):
    """The other questions still deserve their answers."""
    (tmp_path / "bad.png").write_bytes(b"no picture")

    done = run(command, memory, tmp_path / "bad.png", questions / "red/0.png")

    assert done.exit_code == 0
    assert "bad.png" in done.stderr


def test_a_past_version_can_be_asked(facts, memory, run, questions):
    """What would it have said before the correction?"""
    run("relabel", memory, 4, 5, 6, 7, "crimson")
    picture = questions / "red/0.png"

    now = facts("predict", memory, picture, "-k", 1)["predictions"][0]["label"]
    then = facts("predict", memory, picture, "-k", 1, "--version", 1)["predictions"][0]["label"]

    assert (now, then) == ("crimson", "red")


def test_an_empty_memory_asks_to_be_taught(run, questions, tmp_path):
    """Day one."""
    run("init", tmp_path / "m", "--encoder", "pixels")

    done = run("predict", tmp_path / "m", questions)

    assert done.exit_code == 1
    assert "recollect add" in done.stderr


def test_search_finds_rows_that_pass_a_filter(facts, memory, questions):
    """The filter decides who may be found, not who is dropped afterwards."""
    found = facts("search", memory, questions / "red/0.png", "-k", 2, "--where", "label = 'blue'")[
        "results"
    ][0]

    assert [row["value"] for row in found["neighbors"]] == ["blue", "blue"]
    assert found["neighbors"][0]["source"].startswith("lessons/blue/")


def test_search_near_a_row_leaves_the_row_out(facts, memory):
    """Finding duplicates and wrong labels starts from a row."""
    found = facts("search", memory, "--row", 4, "-k", 7)["results"][0]["neighbors"]

    assert len(found) == 7
    assert 4 not in [row["id"] for row in found]


@pytest.mark.parametrize("arguments", [[], ["--row", "1", "x.png"]])
def test_search_needs_inputs_or_a_row(run, memory, arguments):
    """Neither and both are unclear."""
    done = run("search", memory, *arguments)

    assert done.exit_code == 1
    assert "INPUTS or --row ID" in done.stderr


def test_explain_names_the_rows_and_what_would_change_the_answer(facts, memory, questions):
    """Contributions add up, and the removal is one that works."""
    reason = facts("explain", memory, questions / "red/0.png", "-k", 3)["explanations"][0]

    assert reason["prediction"] == "red"
    assert sum(row["contribution"] for row in reason["rows"]) == pytest.approx(1.0)
    assert reason["counterfactual"]["changed_to"] == "blue"
    assert set(reason["counterfactual"]["remove"]) <= {4, 5, 6, 7}


def test_explain_tells_it_in_words(run, memory, questions):
    """The sentence a curator acts on."""
    done = run("explain", memory, questions / "red/0.png", "-k", 3)

    assert "Answer: red (red 100.0%)" in done.stdout
    assert "the answer would be blue" in done.stdout


def test_explain_works_for_numbers(facts, run, lessons, tmp_path):
    """Contributions of a regression sum to the prediction."""
    table = tmp_path / "x.csv"
    table.write_text(f"path,price\n{lessons}/blue/0.png,1.0\n{lessons}/red/0.png,3.0\n")
    run("init", tmp_path / "m", "--encoder", "pixels", "--value", "number")
    run("add", tmp_path / "m", table, "--label-column", "price")
    picture = lessons / "red/1.png"

    answer = facts("predict", tmp_path / "m", picture)["predictions"][0]
    reason = facts("explain", tmp_path / "m", picture)["explanations"][0]

    assert answer["value"] == pytest.approx(reason["prediction"])
    assert sum(row["contribution"] for row in reason["rows"]) == pytest.approx(answer["value"])
    assert "Answer:" in run("explain", tmp_path / "m", picture).stdout


def test_evaluate_measures_on_labelled_inputs(facts, memory, questions):
    """The colors are easy; every figure can be checked by hand."""
    measured = facts("evaluate", memory, questions, "-k", 4)

    assert measured["queries"] == 6
    assert measured["accuracy"] == measured["macro_recall"] == 1.0
    assert measured["accuracy_by_k"] == {"1": 1.0, "2": 1.0, "4": 1.0}
    assert measured["expected_calibration_error"] == pytest.approx(0.0)
    assert measured["per_class"]["red"] == {"queries": 3, "recall": 1.0}
    assert measured["confused"] == []


def test_evaluate_counts_mistakes(facts, run, memory, questions):
    """With all labels swapped everything is wrong, and the table says how."""
    run("relabel", memory, "--where", "label = 'red'", "green")

    measured = facts("evaluate", memory, questions, "-k", 4)

    assert measured["accuracy"] == 0.5
    assert measured["confused"] == [{"truth": "red", "answer": "green", "count": 3}]
    assert measured["unknown_labels"] == ["red"]


def test_evaluate_without_inputs_leaves_each_row_out(facts, run, memory):
    """A row that finds itself is always right; with it left out a wrong label shows."""
    run("relabel", memory, 7, "blue")

    measured = facts("evaluate", memory, "-k", 3)

    assert measured["leave_one_out"]
    assert measured["queries"] == 8
    assert measured["accuracy"] == 7 / 8


def test_evaluate_prints_a_table(run, memory, questions):
    """For people: the figures, the curve, the hardest labels."""
    done = run("evaluate", memory, questions)

    assert "6 questions; k = 20, rank vote" in done.stdout
    assert "macro recall" in done.stdout
    assert "hardest labels" in done.stdout


def test_evaluate_of_numbers_is_refused(run, tmp_path, questions):
    """Accuracy has no meaning for them."""
    run("init", tmp_path / "m", "--encoder", "pixels", "--value", "number")

    done = run("evaluate", tmp_path / "m", questions)

    assert done.exit_code == 1
    assert "memory of labels" in done.stderr


def test_what_was_taught_from_texts_is_shown_as_text(run, tmp_path):
    """A row number means nothing to people; the sentence does."""
    run("init", tmp_path / "m", "--encoder", "hashing-text")
    run("add", tmp_path / "m", "where is my card", "--label", "card")

    found = run("search", tmp_path / "m", "where is the card")

    assert "where is my card" in found.stdout


def test_the_encoder_of_a_memory_is_checked_against_its_keys(run, questions, tmp_path):
    """A recipe that builds another encoder would give answers from nowhere."""
    from recollect.encoders import PixelEncoder

    class Pretender:
        fingerprint, spec = "other:1", PixelEncoder().spec

    with Memory.create(tmp_path / "m", dim=PixelEncoder().dim, encoder=Pretender()) as memory:
        memory.add([[1.0] * memory.dim], ["x"])

    done = run("predict", tmp_path / "m", questions)

    assert done.exit_code == 1
    assert "another encoder" in done.stderr


@pytest.mark.parametrize("command", ["predict", "search", "explain"])
def test_more_neighbors_than_rows_are_all_rows(facts, memory, questions, command):
    """A billion neighbors of eight rows take no room."""
    (answers,) = (
        told
        for told in facts(command, memory, questions / "red/0.png", "--k", 10**12).values()
        if told
    )

    (answer,) = answers
    assert len(answer.get("neighbors") or answer["rows"]) == 8
