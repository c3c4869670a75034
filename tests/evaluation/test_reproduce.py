"""The reproduction measures what it says, on features one can see through."""

from __future__ import annotations

import json

import numpy as np
import pytest
from places import data, models

from recollect import errors
from recollect.evaluation.reproduce.visual_memory import Split, measure, run
from recollect.evaluation.reproduce.visual_memory_page import page


@pytest.fixture(scope="module")
def report():
    """Two clouds far apart, with one wrong label in the first: row 0 says "b"."""
    rng = np.random.default_rng(0)
    centers = {"a": np.array([10.0, 0.0]), "b": np.array([0.0, 10.0])}
    labels = np.array(["a", "b"] * 30, object)
    keys = np.array([centers[label] for label in labels]) + rng.normal(size=(60, 2))
    taught = labels.copy()
    taught[0] = "b"
    keys, queries = keys.astype(np.float32), keys[:20].astype(np.float32)
    return measure(Split(keys, taught, queries, labels[:20]))


def test_one_neighbor_repeats_a_wrong_label(report):
    """One of twenty questions is the mislabelled row itself: 95 % at k = 1, whatever the vote."""
    assert [line["accuracy"][0] for line in report["votes"]] == [0.95] * 4


def test_ten_neighbors_outvote_a_wrong_label(report):
    """Nine right rows against one wrong one."""
    plurality = report["votes"][0]

    assert plurality["rule"] == "plurality"
    assert plurality["accuracy"][plurality["k"].index(10)] == 1.0


def test_neighborhoods_larger_than_the_memory_are_left_out(report):
    """Sixty rows have no hundred neighbors."""
    assert report["votes"][0]["k"] == [1, 10, 50]
    assert len(report["curves"]["rank"]) == 60


def test_plurality_agrees_with_scikit_learn(report):
    """Two implementations of one rule."""
    assert report["scikit_learn"][0]["accuracy"] == report["votes"][0]["accuracy"]


def test_the_oracle_is_never_worse_than_any_vote_at_its_default_parameter(report):
    """It saw the answers."""
    oracle = next(line for line in report["settings"] if line["name"] == "oracle")

    assert oracle["accuracy"] == max(max(curve) for curve in report["curves"].values())


def test_the_honest_setting_is_chosen_without_the_questions(report):
    """Leave-one-out scores the 60 rows of the memory, of which one is wrong: 59 / 60."""
    assert report["leave_one_out"]["accuracy"] == pytest.approx(59 / 60, abs=1e-5)


def test_every_accuracy_has_a_standard_error(report):
    """A figure without one cannot be compared."""
    lines = [*report["settings"], *report["differences"], report["leave_one_out"]]

    assert [line for line in lines if "standard_error" not in line] == []


def test_data_that_are_not_there_are_asked_for_before_anything_is_done(tmp_path):
    """An hour of encoding must not end in a missing file."""
    with pytest.raises(errors.InputError, match="MobileNetV2"):
        run(data=tmp_path, models=tmp_path, out=tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_size_that_the_network_cannot_halve_five_times_is_refused(tmp_path):
    """The network would fail deep inside with a message about shapes."""
    with pytest.raises(errors.InvalidParameter, match="multiple of 32"):
        run(data=tmp_path, models=tmp_path, size=100)


@pytest.mark.slow
def test_the_reproduction_writes_its_table_its_page_and_its_picture(tmp_path):
    """The whole path on real images and a real network, small."""
    report = run(
        data=data("cifar10").parent,
        models=models("mobilenet_v2_imagenet").parent,
        out=tmp_path,
        rows=300,
        queries=100,
        size=64,
    )

    assert json.loads((tmp_path / "visual-memory.json").read_text("utf-8")) == report
    assert (tmp_path / "visual-memory.md").read_text("utf-8") == page(report)
    assert (tmp_path / "visual-memory-by-k.png").read_bytes().startswith(b"\x89PNG")
    assert report["settings"][0]["accuracy"] > 1 / report["protocol"]["classes"]
