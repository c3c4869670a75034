"""The demo tells the truth: what it says happened has happened, on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from places import data, models

import recollect as rc
from recollect import errors
from recollect.encoders import PixelEncoder
from recollect.evaluation.demo import run_demo
from recollect.evaluation.few_examples import weight_of_few
from recollect.memory.sources import read_folder


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    lines = []
    facts = run_demo(out=out, echo=lines.append)
    return out, facts, "\n".join(lines)


def test_the_story_has_seven_steps_and_says_where_its_files_are(told):
    """A newcomer reads this and nothing else."""
    out, _, text = told

    assert "\n7  " in text
    assert str(out / "story.html") in text
    assert str(out / "answer.png") in text


def test_the_figures_are_saved_as_they_were_told(told):
    """The JSON file is what scripts read."""
    out, facts, _ = told

    assert json.loads((out / "facts.json").read_text(encoding="utf-8")) == facts


def test_a_class_that_was_never_taught_is_never_answered(told):
    """The before of the before and after."""
    _, facts, _ = told

    assert facts["new_before"] == 0.0


def test_the_settings_are_those_that_the_taught_rows_choose(told):
    """Taught again from the files: nothing that is asked about can have had a say."""
    out, facts, _ = told
    taught = read_folder(out / "pictures" / "teach")
    labels, keys = np.array(taught.labels), PixelEncoder(size=8, color=False).encode(taught.inputs)
    known, few = labels != "0", np.flatnonzero(labels == "0")[: facts["examples"]]
    classifier = rc.MemoryClassifier().fit(keys[known], labels[known])

    report = classifier.tune(grid={"vote": ["rank"], "alpha": [2.0], "k": facts["ks"]})
    classifier.partial_fit(keys[few], labels[few])

    assert (report.best.k, report.best.score) == (facts["k"], facts["expected_accuracy"])
    assert weight_of_few(classifier, classifier.ids_[-len(few) :]) == facts["weight"]


def test_a_turn_of_a_class_measures_what_the_story_measured_with_it(told):
    """Turns read neighbors instead of changing a memory; for the class that came late both ran."""
    _, facts, _ = told

    turn = facts["turns"][facts["late"]]

    assert (turn["k"], turn["weight"]) == (facts["k"], facts["weight"])
    assert turn["new"] == [facts["new_before"], facts["new_unweighted"], facts["new_after"]]
    assert turn["old"] == [facts["old_before"], facts["old_unweighted"], facts["old_after"]]


def test_five_examples_teach_a_new_class_and_leave_the_old_ones_alone(told):
    """The promise that no training run is needed."""
    _, facts, _ = told

    assert facts["new_after"] > 0.5
    assert facts["old_after"] > facts["old_before"] - 0.01


def test_a_corrected_label_corrects_the_answer(told):
    """Before, the answer was wrong; after, it is the truth."""
    _, facts, _ = told

    assert facts["answer_before"] != facts["mistaken_truth"]
    assert facts["answer_after"] == facts["mistaken_truth"]


def test_the_planted_mistake_is_found_by_asking_the_rows_about_themselves(told):
    """The search for it does not know where it was planted."""
    _, facts, _ = told

    assert facts["suspect_row"] == facts["mistaken_row"]


def test_the_erased_row_is_no_longer_found_by_its_own_picture(told):
    """Its picture was its nearest neighbor; now it is somebody else's."""
    _, facts, _ = told

    assert facts["nearest_before"] == facts["erased_row"]
    assert facts["nearest_after"] != facts["erased_row"]


def test_a_reopened_memory_gives_every_answer_as_before(told):
    """Bit for bit, for every question."""
    _, facts, _ = told

    assert facts["same_answers"] == facts["queries"]


def test_the_memory_that_is_left_is_whole(told):
    """The demo's folder is a real memory that can be opened and verified."""
    out, facts, _ = told

    with rc.Memory.open(out / "memory", read_only=True) as memory:
        assert memory.verify().ok
        assert len(memory) == facts["reopened_rows"]


def test_a_demo_replaces_an_earlier_one(told, tmp_path):
    """`make demo` is typed more than once."""
    (tmp_path / "facts.json").write_text("{}", encoding="utf-8")
    (tmp_path / "story.html").write_text("old", encoding="utf-8")

    run_demo(out=tmp_path, echo=lambda line: None)

    assert (tmp_path / "story.html").read_text(encoding="utf-8") != "old"


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    """The demo deletes what it finds of an earlier one, so it must know that it is one."""
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")

    with pytest.raises(errors.InvalidParameter, match="other things"):
        run_demo(out=tmp_path, echo=lambda line: None)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_photographs_that_are_not_there_are_asked_for_by_name(tmp_path):
    """The error says which folder and which variable; nothing is written."""
    with pytest.raises(errors.InputError) as caught:
        run_demo(images=True, out=tmp_path / "out", data=tmp_path, models=tmp_path, echo=print)

    assert "RECOLLECT_MODELS" in caught.value.remedy
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_same_story_is_told_with_photographs(tmp_path):
    """A pretrained network instead of pixels, and ten thousand rows."""
    facts = run_demo(
        images=True,
        out=tmp_path,
        data=data("cifar10").parent,
        models=models("mobilenet_v2_imagenet").parent,
        echo=lambda line: None,
    )

    assert facts["new_after"] > facts["new_before"]
    assert facts["old_after"] <= facts["old_before"]
    assert facts["answer_after"] == facts["mistaken_truth"]
    assert facts["same_answers"] == facts["queries"]
