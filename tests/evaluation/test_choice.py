"""The measurements behind the page on what is left to choice, on rows that need no download."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recollect import MemoryClassifier
from recollect.errors import InputError, InvalidParameter
from recollect.evaluation import metrics
from recollect.evaluation.reproduce import choice_sections, visual_memory_choice
from recollect.evaluation.reproduce.visual_memory import Split
from recollect.evaluation.reproduce.visual_memory_choice_page import page


@pytest.fixture(scope="module")
def report():
    """Four clear classes, measured in every section."""
    rng = np.random.default_rng(0)
    centers = 2 * np.eye(4, dtype=np.float32)

    def some(count):
        labels = rng.integers(0, 4, count)
        keys = centers[labels] + rng.normal(size=(count, 4)).astype(np.float32)
        return keys, np.array(list("abcd"), object)[labels]

    keys, labels = some(160)
    queries, truth = some(80)
    split = Split(keys, labels, queries, truth)
    head = MemoryClassifier().fit(keys, labels)
    facts = {"rows": 160, "queries": 80, "classes": 4, "encoder": "none", "fingerprint": "none"}
    defaults = head.get_params()
    measured = {
        name: section(split, head.set_params(**defaults)) | {"seconds": 0.0}
        for name, section in visual_memory_choice.SECTIONS.items()
    }
    assert head.memory_.rows().values.tolist() == labels.tolist()
    return {
        "protocol": {
            "rows": 160, "queries": None, "size": 0, "recollect": "0", "scikit_learn": "0",
            "python": "0", "cores": 1,
        },
        "sets": {"cifar10": {"protocol": facts, **measured}},
    }  # fmt: skip


def test_the_oracle_is_never_worse_than_its_own_votes(report):
    """It may choose on the questions; the gap is measured against it."""
    tuning = report["sets"]["cifar10"]["tuning"]

    gap = 100 * (tuning["oracle"]["accuracy"] - tuning["honest"]["accuracy"])
    assert tuning["gap"]["points"] == pytest.approx(gap, abs=0.01)


def test_every_draw_and_k_is_measured_with_every_reliability(report):
    """The gain is that of what was chosen, 0 where nothing was."""
    lines = report["sets"]["cifar10"]["reliability"]["lines"]

    assert [(line["seed"], line["k"]) for line in lines] == [
        (seed, k) for seed in choice_sections.SEEDS for k in choice_sections.KS
    ]
    assert {line["gain"] for line in lines if line["chosen"] is None} <= {0.0}


def test_flipped_labels_are_found(report):
    """On clear classes nearly all of them, by each finder that is installed."""
    for line in report["sets"]["cifar10"]["label_noise"]["lines"]:
        assert line["ours"]["recall"] > 0.7


def test_the_probe_is_tuned_and_converges(report):
    """A weak probe would make what stands beside it look good."""
    probe = report["sets"]["cifar10"]["linear_probe"]

    assert probe["converged"]
    assert probe["held_out"][f"{probe['C']:g}"] == max(probe["held_out"].values())


def test_withheld_classes_score_higher(report):
    """By every score."""
    for told in report["sets"]["cifar10"]["novelty"]["scores"].values():
        assert told["auroc"] > 0.5


def test_the_page_shows_every_section(report):
    """And the figures survive the way through JSON."""
    text = page(json.loads(json.dumps(report)))

    for heading in ("Vote and k", "Reliability", "Suspected", "Novelty", "Class means", "Beside"):
        assert heading in text
    assert "CIFAR-10" in text
    assert "{" not in text


def test_the_picture_has_the_mean_gain_of_all_draws():
    """Two draws at one k, chosen none once and soft once: 0 and 30 points."""
    draws = [
        {"k": 10, "None": 0.5, "soft": 0.7, "rate": 0.4, "gain": 0.0},
        {"k": 10, "None": 0.6, "soft": 0.9, "rate": 0.4, "gain": 30.0},
    ]

    panels = visual_memory_choice.gains(
        {"cifar10": {"reliability": {"lines": draws}}, "banking77": {}}
    )

    assert {name: curve[1] for name, curve in panels["CIFAR-10"].items()} == {
        "soft": [pytest.approx(25)], "rate": [pytest.approx(-15)], "chosen": [pytest.approx(15)]
    }  # fmt: skip
    assert list(panels) == ["CIFAR-10"]


def test_a_page_of_nothing_yet_can_be_written(report):
    """Sets and sections are added run by run."""
    assert "# Reproduction" in page({**report, "sets": {}})


@pytest.mark.parametrize(
    "options", [{"sets": ["mnist"]}, {"sections": ["speed"]}, {"rows": 0}, {"queries": 0}]
)
def test_options_out_of_range_are_refused(options, tmp_path):
    """Before anything is read."""
    with pytest.raises(InvalidParameter):
        visual_memory_choice.run(data=tmp_path, models=tmp_path, **options)


def test_a_file_that_is_not_ours_is_not_overwritten(tmp_path):
    """What an earlier run wrote is added to, and nothing else is."""
    (tmp_path / "visual-memory-choice.json").write_text("[]")

    with pytest.raises(InputError, match="earlier run"):
        visual_memory_choice.run(data=tmp_path, models=tmp_path, out=tmp_path)


def test_ties_count_half_in_the_auroc():
    """Scores that say nothing are at one half."""
    assert metrics.auroc([1.0, 1.0], [1.0, 1.0]) == 0.5
    assert metrics.auroc([0.0, 1.0], [2.0]) == 1.0


def test_the_false_positive_rate_at_full_recall():
    """All known pass, and of the novel those no farther than the farthest known."""
    assert metrics.false_positive_rate([0.1, 0.5], [0.5, 0.6], recall=1.0) == 0.5
    with pytest.raises(InvalidParameter):
        metrics.false_positive_rate([0.1], [0.2], recall=0.0)
