"""The study of residual memories: what it measures, and the page it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from places import data, models

from recollect import errors
from recollect.evaluation.reproduce.residual_images import Asked, measure
from recollect.evaluation.reproduce.residual_measures import Lines, compared, kept, squared
from recollect.evaluation.reproduce.residual_memory import run
from recollect.evaluation.reproduce.residual_memory_page import page
from recollect.evaluation.reproduce.residual_memory_plots import plot_pictures, plot_shift
from recollect.evaluation.reproduce.residual_memory_summary import comparisons, summary

SETTING = {
    "active": True, "k": 10, "sigma": 0.5, "temperature": 1.4, "strength": 1.0,
    "gate": None, "searches_saved": 0.0,
}  # fmt: skip
GAIN = {"base": 0.3, "resmem": 0.32, "gain": 0.02, "standard_error": 0.004}
PICTURES = [
    GAIN | {"data": "pets", "depth": depth, "rows": 100, "seed": 0, "epochs": 2, "defaults": 0.31,
            "paper": 0.31, "base_on_training_rows": 0.4, "setting": SETTING | {"gate": 0.9},
            "gated": 0.32, "searches_saved": 0.25, "all_logits": 0.32, "few_logits": 0.3195}
    for depth in (8, 14)
]  # fmt: skip
TABLES = [GAIN | {"data": "digits", "base_model": "boosting", "residuals": "oof", "seed": 0,
                  "gain": -0.001, "setting": SETTING | {"active": False}}]  # fmt: skip


def part(figures):
    return {"figures": figures, "seconds": 1.5}


def test_a_gain_has_the_error_of_a_paired_difference():
    """Four questions; one that the base gets wrong is right, the others agree."""
    truth = np.array([0, 0, 1, 1])

    figures = compared(truth, np.array([0, 0, 1, 0]), truth)

    assert (figures["base"], figures["resmem"], figures["gain"]) == (0.75, 1.0, 0.25)
    assert 0.2 < figures["standard_error"] < 0.3


def test_numbers_are_compared_by_the_share_of_the_spread():
    """The mean explains nothing, the truth all."""
    truth = np.array([1.0, 3.0])

    figures = squared(truth, np.array([2.0, 2.0]), truth)

    assert (figures["base"], figures["resmem"], figures["gain"]) == (0.0, 1.0, 1.0)


def test_a_network_is_measured_with_settings_chosen_on_rows_set_aside():
    """A base that knows nothing, and rows whose place tells their class."""
    rng = np.random.default_rng(0)
    labels = tuple(rng.integers(0, 3, count) for count in (90, 40, 60))
    keys = [each[:, None] + 0.1 * rng.normal(size=(len(each), 1)) for each in labels]
    logits = [np.tile([0.1, 0.0, 0.0], (len(each), 1)) for each in labels]
    pairs = list(zip(keys, logits, strict=True))

    line = measure(Asked(pairs[0], pairs[1], pairs[2], labels))

    assert line["base"] == pytest.approx(np.mean(labels[2] == 0), abs=1e-5)
    assert line["resmem"] > 0.95
    assert line["setting"]["active"]


def test_the_page_counts_losses_as_plainly_as_gains():
    """Two gains beyond their error, one loss, one memory that turned itself off."""
    text = page({"images": part(PICTURES), "tables": part(TABLES), "versions": {"numpy": "2"}})

    flowing = text.replace("\n", " ")
    assert "Of 3 comparisons below, ResMem is better by more than two standard errors" in flowing
    assert "errors in 2, turned itself off in 1, and is worse in 1, in 0 of them" in flowing
    assert "| pets, ResNet-8 | 1 | +2.00 | 1 | 0 | 0 | 0 | +2.00 ± 0.40 |" in text
    assert "| digits, boosting | oof, seed 0 | -0.10 | 0.40 | -0.2 |" in text
    assert "+2.00 ± 0.40 `*`" in text
    assert "| off |" in text
    assert "## Next tokens" not in text


def test_the_pictures_hold_a_line_for_base_and_memory():
    """By depth on the left; as many depths as were measured."""
    figure = plot_pictures(PICTURES, 100)

    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [2, 2]


def test_the_picture_of_the_shift_holds_every_network_and_the_layer_fitted_anew():
    """It once showed the first network alone, and dropped the sixth method for want of a color."""
    methods = [*(f"ResMem, {place}" for place in "abcde"), "last layer anew"]
    lines = [
        GAIN | {"network": network, "rows": rows, "method": method}
        for network in ("small", "large")
        for rows in (10, 100)
        for method in methods
    ]

    figure = plot_shift(lines)

    assert [axes.get_title() for axes in figure.axes] == ["small", "large"]
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == [*methods, "base, no row known"]
        assert len({line.get_color() for line in axes.lines}) == 7


def test_the_page_says_what_the_gate_costs_and_saves():
    """Accuracy with it stands beside accuracy without."""
    text = page({"images": part(PICTURES), "versions": {}})

    assert "| pets, ResNet-8, 100 rows, seed 0 | 0.900 | 25.0 | 32.00 | 32.00 |" in text


def test_next_tokens_are_counted_in_the_measure_they_were_chosen_by():
    """A gain in perplexity is no gain in right answers, and the other way round."""
    line = GAIN | {"nats_gained": -0.5, "nats_error": 0.1, "method": "kNN-LM", "setting": SETTING}
    methods = [line | {"chosen_by": by} for by in ("log_loss", "accuracy")]

    lost, won = comparisons({"language": part({"methods": methods})})

    assert (lost.unit, lost.gain, lost.ratio) == ("nats", -0.5, -5.0)
    assert (won.unit, won.gain) == ("points", 2.0)


def test_a_loss_beyond_its_error_is_listed_first():
    """A reader who looks for failures finds the worst at once."""
    small = TABLES[0] | {"gain": -0.002, "seed": 1}
    large = TABLES[0] | {"gain": -0.02, "seed": 2}

    text = summary({"tables": part([small, large])})

    assert "and is worse in 2, in 1 of them" in text
    assert text.index("oof, seed 2 | -2.00 | 0.40 | -5.0") < text.index("oof, seed 1 | -0.20")


def test_a_larger_base_stands_beside_the_memory_of_a_smaller_one():
    """Means over seeds; the largest has none beside it."""
    second = PICTURES[0] | {"seed": 1, "base": 0.4, "resmem": 0.44, "gain": 0.04}

    text = page({"images": part([*PICTURES, second]), "versions": {}})

    row = "| pets, 100 rows | ResNet-8 | 2 | 35.00 | 38.00 | +3.00 ± 0.28 `*` | ResNet-14: 30.00 |"
    assert row in text
    assert "| pets, 100 rows | ResNet-14 | 1 | 30.00 | 32.00 | +2.00 ± 0.40 `*` |  |" in text


def test_the_page_says_what_few_logits_cost():
    """Rows of many classes keep 16; what that changes is measured on the networks trained here."""
    text = page({"images": part(PICTURES), "versions": {}})

    assert "| pets | 2 | -0.05 | -0.05 | -0.05 |" in text


def test_a_line_is_measured_once_and_kept(tmp_path):
    """A run that was stopped goes on; the seconds are those of when it was measured."""
    first = Lines(tmp_path / "notes", "tables", float("inf"), print)
    assert first.measured("a", lambda: {"gain": 1}) == [{"gain": 1}]

    again = Lines(tmp_path / "notes", "tables", 0.0, print)

    assert again.measured("a", lambda: pytest.fail("measured again")) == [{"gain": 1}]
    assert again.measured("b", lambda: pytest.fail("no time was left")) == []
    assert again.seconds == first.seconds


def test_what_is_not_ready_is_left_out_and_not_kept(tmp_path):
    """A network that wants more training says so by TimeoutError."""
    lines = Lines(tmp_path / "notes", "images", float("inf"), print)

    def unfinished():
        raise TimeoutError

    assert lines.measured("a", unfinished) == []
    assert lines.measured("a", lambda: 1) == [1]


def test_an_unknown_part_is_refused(tmp_path):
    """Before anything is measured or written."""
    with pytest.raises(errors.InvalidParameter, match="no such part"):
        run(data=tmp_path, models=tmp_path, out=tmp_path, parts=["everything"])
    assert list(tmp_path.iterdir()) == []


def test_networks_that_are_not_ready_are_left_out(tmp_path):
    """No minute to train: no line, and what an earlier run left stays."""
    earlier = {"tables": part(TABLES)}
    (tmp_path / "residual-memory.json").write_text(json.dumps(earlier), encoding="utf-8")

    report = run(
        data=tmp_path, models=tmp_path, out=tmp_path, parts=["images"], bases=tmp_path, minutes=0
    )

    assert report["images"]["figures"] == []
    assert report["tables"]["figures"] == TABLES
    assert "## Pictures" not in (tmp_path / "residual-memory.md").read_text(encoding="utf-8")
    assert "## Texts and tables" in (tmp_path / "residual-memory.md").read_text(encoding="utf-8")


def test_a_run_without_time_leaves_what_an_earlier_one_measured(tmp_path):
    """``--minutes 0`` beside an empty folder of bases used to empty parts of the page."""
    theory = [{"d": 2, "L": 0.5, "rows": 10, "base": 0.25, "resmem": 0.05, "nearest": 0.2}]
    language = {"perplexity": 90.0, "methods": [{"method": "ResMem", "chosen_by": "log_loss"}]}
    earlier = {"theory": part(theory), "language": part(language), "images": part(PICTURES)}

    for name, figures in earlier.items():
        assert (
            kept(name, figures["figures"], {} if name == "language" else []) == (figures["figures"])
        )
    (tmp_path / "residual-memory.json").write_text(
        json.dumps({name: earlier[name] for name in ("theory", "images")}), encoding="utf-8"
    )
    report = run(
        data=tmp_path, models=tmp_path, out=tmp_path, parts=["images", "theory"],
        bases=tmp_path / "bases", minutes=-1.0,
    )  # fmt: skip

    assert report["theory"] == {"figures": theory, "seconds": None}
    assert report["images"]["figures"] == PICTURES
    assert "+2.00 ± 0.40 `*`" in (tmp_path / "residual-memory.md").read_text(encoding="utf-8")


def test_a_line_that_is_measured_again_takes_the_place_of_the_earlier_one():
    """What is new stands behind what was known."""
    first, second, third = (
        {"d": 2, "L": 0.5, "rows": rows, "base": 0.3} for rows in (10, 100, 1000)
    )

    assert kept("theory", [first, second], [second | {"base": 0.2}, third]) == [
        first, second | {"base": 0.2}, third,
    ]  # fmt: skip


@pytest.mark.slow
def test_the_tables_are_measured(tmp_path):
    """Two bases, two kinds of residuals, three seeds for each of four data sets."""
    report = run(
        data=data(), models=models(), out=tmp_path, parts=["tables"], bases=tmp_path / "bases"
    )

    assert len(report["tables"]["figures"]) == 48


def test_the_page_names_the_network_of_which_layers_are_compared():
    """It said the first of the table, which is sorted otherwise."""
    first, second = PICTURES[0] | {"base": 0.5}, PICTURES[1] | {"base": 0.25}
    layer = GAIN | {"embedding": "logits", "width": 3, "base": 0.25, "setting": SETTING}

    text = page({"images": part([first, second]), "layers": part([layer]), "versions": {}})

    assert "pets, ResNet-14, 100 rows, seed 0\n(base 25.0 %)" in text


def test_the_page_says_how_many_networks_miss_what_few_logits_may_change():
    """An aim of 0.05 points: one stays, one misses; a set of few classes is not counted."""
    missing = PICTURES[1] | {"few_logits": 0.3188}
    other = PICTURES[0] | {"data": "few", "few_logits": 0.32}

    text = page({"images": part([PICTURES[0], missing, other]), "versions": {}})

    assert "1 of 2 networks on pets miss it,\nfrom -0.12 to -0.12." in text


def test_the_page_counts_a_memory_beside_the_layer_fitted_anew():
    """One place above and beyond the error of both, one below and within it, one off."""
    line = {"network": "net", "rows": 10, "base": 0.8, "resmem": 0.8, "seconds": 1.0,
            "standard_error": 0.003, "setting": SETTING}  # fmt: skip
    lines = [
        line | {"method": "ResMem, a", "gain": 0.03},
        line | {"method": "ResMem, b", "gain": 0.008},
        line | {"method": "ResMem, c", "gain": 0.0, "setting": SETTING | {"active": False}},
        line | {"method": "last layer anew", "gain": 0.01, "setting": {"active": True, "C": 1.0}},
    ]

    text = page({"shift": part(lines), "versions": {}})

    assert "| 10 | 3 | 1 | 1 | 2 | 1 |" in text
    assert "The memory is off in 1 of these 3 comparisons" in text
