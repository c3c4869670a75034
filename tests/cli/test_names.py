"""Class names on the command line: `init --names`, `predict`, `observe`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recollect import DualMemoryClassifier, Memory


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


def test_init_says_that_names_can_be_asked_and_an_empty_memory_taught(run, clip, tmp_path):
    """The next command is another one."""
    named = run("init", tmp_path / "m", "--encoder", clip, "--names", "car,tree")
    empty = run("init", tmp_path / "n", "--encoder", clip)

    assert f"Ask it: recollect predict {tmp_path / 'm'}" in named.stdout.replace("\n", " ")
    assert f"Teach it: recollect add {tmp_path / 'n'}" in empty.stdout.replace("\n", " ")


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


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"\xef\xbb\xbfcar\ntree\n", ["car", "tree"]), (b"caf\xe9\ntree\n", None)],
)
def test_a_file_of_names_may_begin_with_a_mark_but_must_be_utf_8(
    run, clip, tmp_path, content, expected
):
    """A mark is no part of the first name; other encodings are refused, not guessed."""
    (tmp_path / "names.txt").write_bytes(content)

    done = run(
        "init", tmp_path / "m", "--encoder", clip, "--names", tmp_path / "names.txt", "--json"
    )

    said = json.loads(done.stdout)
    if expected is None:
        assert said["error"]["type"] == "InputError"
        assert not (tmp_path / "m").exists()
    else:
        assert said["classes"] == expected


def test_names_longer_than_any_path_are_names(facts, clip, tmp_path):
    """The machine refuses to look for a file of 6,000 letters."""
    long = ",".join(f"class{i:04}" for i in range(600))

    made = facts("init", tmp_path / "m", "--encoder", clip, "--names", long, "--prompt", "{}")

    assert len(made["classes"]) == 600


@pytest.mark.parametrize(
    "options",
    [
        ("--names", "names.csv"),
        ("--names", "lists/names.txt"),
        ("--names", " , "),
        ("--prompt", "a {}"),
        ("--text-encoder", "hashing-text"),
    ],
)
def test_names_that_are_not_there_are_missed(run, clip, tmp_path, options):
    """A file that is missing is no class, and a template without names is of no use."""
    done = run("init", tmp_path / "m", "--encoder", clip, *options, "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["type"] in {"InputError", "InvalidParameter"}
    assert not (tmp_path / "m").exists()


@pytest.fixture
def flock(facts, birds, questions):
    """Two names, one example of a car (row 2) and one observed picture (row 3)."""
    facts("add", birds, questions / "red/0.png", "--label", "car")
    facts("observe", birds, questions / "red/0.png")
    return birds


@pytest.mark.parametrize(
    "command",
    [
        ("relabel", "0", "tree"),
        ("relabel", "2", "boat"),
        ("relabel", "3", "tree"),
        ("remove", "0", "--yes"),
        ("erase", "0", "--yes"),
        ("evaluate",),
        ("curate",),
    ],
)
def test_what_would_break_a_memory_with_names_is_refused(run, facts, flock, questions, command):
    """Names stay names, each example has one, and rows do not vote where names are rows."""
    verb, *others = command
    before = facts("stats", flock)["version"]

    done = run(verb, flock, *others, "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["type"] in {"InvalidParameter", "InvalidLabel"}
    assert facts("stats", flock)["version"] == before
    assert facts("predict", flock, questions / "red/0.png")["predictions"]


def test_a_whole_class_and_the_views_of_a_picture_are_removed(facts, flock, questions):
    """Its name with its examples; a picture with all that shows it."""
    views = np.random.default_rng(0).normal(size=(1, 2, 16))
    with Memory.open(flock) as memory:
        said = DualMemoryClassifier(memory=memory).observe(
            np.resize(views[:, 0], (1, memory.dim)), views=np.resize(views, (1, 2, memory.dim))
        )

    facts("remove", flock, str(said.ids[0]), "--yes")
    facts("relabel", flock, "2", "tree")
    facts("remove", flock, "--label", "car", "--where", "part = 'text'", "--yes")

    with Memory.open(flock, read_only=True) as memory:
        assert memory.rows(where="part = 'view'").ids.tolist() == []
        assert memory.rows(where="part = 'text'").values.tolist() == ["tree"]
    answers = facts("predict", flock, questions / "red/0.png")["predictions"]
    assert answers[0]["label"] == "tree"
