"""The measurements of a memory's life and of scaling, on features one can see through."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recollect.errors import InputError, InvalidParameter
from recollect.evaluation.plots import plot_curves, plot_residual_search
from recollect.evaluation.reproduce import visual_memory_lifelong as lifelong
from recollect.evaluation.reproduce import visual_memory_scaling as growth
from recollect.evaluation.reproduce.visual_memory_lifelong_page import page as lifelong_page
from recollect.evaluation.reproduce.visual_memory_scaling_page import page as scaling_page
from recollect.heads.residual_search import residual_search
from recollect.memory.memory import Memory


def clouds(rows, *, classes=4, spread=0.1, seed=0):
    """Clouds around the axes: classes that cannot be mistaken for each other."""
    rng = np.random.default_rng(seed)
    codes = np.arange(rows) % classes
    keys = np.eye(classes)[codes] + rng.normal(scale=spread, size=(rows, classes))
    return keys.astype(np.float32), np.array([f"class {code}" for code in codes], object)


@pytest.fixture(scope="module")
def report():
    """All parts of the page of a memory's life."""
    taught, asked = clouds(80, classes=8), clouds(40, classes=8, seed=1)
    fine, coarse = taught[1], np.array([label[-1] in "01" for label in taught[1]], object)
    names = sorted(set(taught[1]))
    return {
        "incremental": [lifelong.incremental("clouds", taught, asked, steps=4)],
        "unlearning": lifelong.unlearning("clouds", taught, asked, classes=2),
        "hierarchy": lifelong.hierarchy(
            "clouds", (taught[0], fine, coarse.astype(str).astype(object)),
            (taught[0][:20], fine[:20], coarse[:20].astype(str).astype(object)),
        ),
        "migration": [{
            "from": "a", "to": "b", "rows": 9, "aligned": 4, "asked": 9, "same": 1.0,
            "accuracy_before": 0.5, "accuracy_after": 0.75,
            "cost": {"rows": 4, "real": 0.5, "aligned": 0.25, "cosine": 0.9},
        }],
        "reranking": lifelong.reranking(
            "clouds", taught, clouds(24, classes=8, seed=2), asked, np.eye(8), names, None
        ),
    }  # fmt: skip


def test_classes_that_lie_apart_are_all_known_after_every_step(report):
    """Each method answers everything right, so nothing is forgotten."""
    for line in report["incremental"][0]["methods"]:
        assert line["accuracy"] == [1.0] * 4
        assert line["forgetting"] == 0.0
        assert len(line["seconds"]) == 4


def test_the_order_of_teaching_changes_no_answer(report):
    """The rows are the same, whenever they came."""
    assert report["incremental"][0]["order_changes"] == 0


def test_a_class_that_takes_over_shows_as_forgetting():
    """The second group lies where the first one does: half of its questions go over."""
    keys = np.array([[1, 0], [1, 0.01], [0, 1], [1, 0]], np.float32)
    labels = np.array(["a", "a", "b", "c"], object)
    asked = np.array([[1, 0], [1, -0.01]], np.float32), np.array(["a", "c"], object)

    line = lifelong._walk(
        lambda _, seen: lifelong.class_means(keys[seen], labels[seen]),
        [np.array(["a", "b"]), np.array(["c"])], (keys, labels), asked,
    )  # fmt: skip

    assert line["accuracy"] == [1.0, 0.5]
    assert line["forgetting"] == 1.0


def test_what_a_removal_was_said_to_change_is_what_it_changed(report):
    """Every question about the class, and no other."""
    for line in report["unlearning"]["classes"]:
        assert line["preview_is_exact"]
        assert line["as_if_never_taught"]
        assert (line["rows"], line["flips_previewed"], line["flips_made"]) == (10, 5, 5)
        assert line["others_before"] == line["others_after"] == 1.0


def test_both_levels_are_answered_where_classes_lie_apart(report):
    """Full marks, and everything is answered finely up to a share of nine tenths."""
    part = report["hierarchy"]

    assert (part["fine"], part["coarse_by_vote"], part["coarse_of_fine"]) == (1.0, 1.0, 1.0)
    assert part["back_off"][0]["fine"] == 1.0


def test_scale_and_trust_are_chosen_without_the_questions(report):
    """Of equal settings the first: the vote alone is right already."""
    assert report["reranking"]["trust"] == 0.0
    assert report["reranking"]["gain"] == 0.0


def test_the_pages_are_written_from_plain_values(report):
    """What stands in the JSON file is enough to write them again."""
    text = lifelong_page(json.loads(json.dumps(report)))

    assert "| memory | 100.0 |" in text
    assert "| a | 9 | 4 | 100.0 | 50.0 | 75.0 | 50.0 | 25.0 | 0.900 |" in text


@pytest.fixture(scope="module")
def scaled():
    """All parts of the page of scaling."""
    taught, asked = clouds(400, spread=0.5), clouds(100, spread=0.5, seed=1)
    curve = growth.scaling(*taught, *asked, per_class=(1, 25, 50, 100, 1000), seeds=1)
    return {
        "scaling": {
            "data": "clouds", "queries": 100,
            "curves": [{"encoder": name, "dim": 4, **curve} for name in ("weak", "strong")],
        },
        "noise": {"data": "clouds", **growth.random_labels(*taught, *asked, shares=(0.0, 1.0))},
        "text": {"data": "clouds", "encoder": "none", **growth.votes(*taught, *asked)},
    }  # fmt: skip


def test_sizes_that_a_class_does_not_have_are_left_out(scaled):
    """A hundred rows a class is all there is."""
    assert scaled["scaling"]["curves"][0]["rows"] == [4, 100, 200, 400]


def test_random_labels_leave_nothing_but_chance(scaled):
    """Four classes: about a quarter, and almost everything without noise."""
    for line in scaled["noise"]["lines"]:
        clean, random = line["accuracy"]
        assert clean > 0.7
        assert random < 0.5


def test_the_page_of_scaling_is_written_from_plain_values(scaled):
    """The trade names the smallest memory of the stronger encoder that does as well."""
    text = scaling_page(json.loads(json.dumps(scaled)))

    assert "strong does as well from" in text
    assert "paper, ImageNet: DINOv2 ViT-L/14 | -0.943 | 2.070 | 41.7" in text


def test_curves_are_drawn_one_panel_for_each_data_set():
    """With a fit dashed in the color of its curve."""
    curve = ([1, 10, 100], [50.0, 20.0, 10.0])
    figure = plot_curves(
        {"one": {"a": curve}, "two": {"a": curve}}, lines={"one": {"a": curve}}, x="x", y="y",
        title="t", log=True,
    )  # fmt: skip

    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]
    with pytest.raises(InvalidParameter):
        plot_curves({}, x="x", y="y", title="t")


def test_a_residual_search_is_drawn_one_line_for_each_search():
    """Places without a row stay empty."""
    memory = Memory.create(":memory:", dim=2)
    memory.add([[1, 0], [0, 1]], ["sky", "boat"])
    steps = residual_search(memory, [[2, 1]], k=2)

    figure = plot_residual_search(None, steps, {})

    assert [axes.get_visible() for axes in figure.axes] == [True] * 5 + [False]


@pytest.mark.parametrize("part", [lifelong, growth])
def test_a_reproduction_without_its_data_says_what_is_missing(part, tmp_path):
    """One error that names the variable, not a traceback."""
    with pytest.raises(InputError, match="are not there") as caught:
        part.run(data=tmp_path, models=tmp_path)

    assert "RECOLLECT_" in caught.value.remedy
