"""Class names on the command line: `init --names`, `predict`, `observe`."""

from __future__ import annotations

import json

import pytest

from recollect import Memory


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny random CLIP in a folder."""
    pytest.importorskip("transformers")
    from encoders.tiny_models import clip as make

    return f"hf:{make(tmp_path_factory.mktemp('models') / 'clip')}"


@pytest.fixture
def birds(facts, clip, tmp_path):
    """A memory that knows two names and nothing else."""
    path = tmp_path / "birds"
    facts("init", path, "--encoder", clip, "--names", "car,tree", "--prompt", "a photo of a {}")
    return path


def test_init_writes_class_names_that_answer_at_once(facts, birds, questions):
    """Zero-shot in two lines."""
    answer = facts("predict", birds, questions / "red/0.png")["predictions"][0]

    assert answer["label"] in {"car", "tree"}
    assert answer["score"] == max(answer["shares"].values())
    assert sum(row["share"] for row in answer["neighbors"]) == pytest.approx(answer["score"])


def test_names_may_stand_in_a_file(facts, clip, tmp_path):
    """A thousand names do not fit on a line."""
    (tmp_path / "names.txt").write_text("car\n\ntree \n")

    made = facts("init", tmp_path / "m", "--encoder", clip, "--names", tmp_path / "names.txt")

    assert made["classes"] == ["car", "tree"]


def test_names_without_a_text_encoder_leave_no_memory_behind(run, tmp_path):
    """Nothing half done."""
    done = run("init", tmp_path / "m", "--encoder", "hog", "--names", "car,tree", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["type"] == "InvalidParameter"
    assert not (tmp_path / "m").exists()


def test_observe_remembers_pictures_and_remove_takes_them_out(facts, birds, questions):
    """The stream, one command at a time."""
    said = facts("observe", birds, questions)
    facts("remove", birds, "--yes", *(str(row) for row in said["ids"][:2]))

    with Memory.open(birds, read_only=True) as memory:
        assert memory.rows(where="part = 'seen'").ids.tolist() == said["ids"][2:]
    assert set(said["labels"]) <= {"car", "tree"}


def test_explain_shows_names_and_observed_pictures(facts, run, birds, questions):
    """These past pictures support the answer."""
    said = facts("observe", birds, questions / "red/0.png")

    [why] = facts("explain", birds, questions / "red/0.png")["explanations"]

    assert why["prediction"] == said["labels"][0]
    assert [row["metadata"]["part"] for row in why["rows"]] == ["seen", "text"]
    assert "No removal" not in run("explain", birds, questions / "red/0.png").stdout


def test_observe_prints_what_became_of_the_pictures(run, birds, questions):
    """For people."""
    done = run("observe", birds, questions / "red/0.png")

    assert done.stdout.startswith("Observed 1 picture; 1 got a slot.")


def test_observe_needs_names(run, memory, questions):
    """Pseudo labels come from names."""
    done = run("observe", memory, questions / "red/0.png", "--json")

    assert done.exit_code == 1
    assert "no class names" in json.loads(done.stdout)["error"]["message"]


def test_examples_of_a_class_without_a_name_are_not_added(run, birds, questions):
    """The memory could not answer any more: one class would have no text."""
    done = run("add", birds, questions / "red/0.png", "--label", "dodo", "--json")

    assert json.loads(done.stdout)["error"]["type"] == "InvalidLabel"
    with Memory.open(birds, read_only=True) as memory:
        assert memory.version == 1


def test_examples_of_named_classes_are_its_shots(facts, birds, questions):
    """Few-shot learning on the command line."""
    facts("add", birds, questions / "red/0.png", "--label", "tree")

    assert facts("predict", birds, questions / "red/0.png")["predictions"][0]["label"] == "tree"


def test_a_file_of_names_that_is_not_there_is_no_class_name(run, clip, tmp_path):
    """A typo would make a memory that knows the class 'nmaes.txt'."""
    done = run("init", tmp_path / "m", "--encoder", clip, "--names", tmp_path / "x.txt", "--json")

    assert "no file" in json.loads(done.stdout)["error"]["message"]
    assert not (tmp_path / "m").exists()
