"""The study of residual memories: what it measures, and the page it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from places import data, models

from recollect import errors
from recollect.evaluation.reproduce.residual_images import Asked, measure
from recollect.evaluation.reproduce.residual_measures import Lines, compared, kept, squared
from recollect.evaluation.reproduce.residual_memory import PARTS, run
from recollect.evaluation.reproduce.residual_memory_page import page
from recollect.evaluation.reproduce.residual_memory_plots import plot_pictures, plot_shift
from recollect.evaluation.reproduce.residual_memory_summary import comparisons, summary
from recollect.evaluation.reproduce.residual_others import _shifted
from recollect.evaluation.reproduce.residual_tables import _models, nearest_alone
from recollect.heads.residual_memory.tuning import GRID

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
    assert "The memory is off in 1 of 3 lines" in text


@pytest.mark.parametrize(
    "text",
    ["{broken", "[1, 2]", '{"images": 3}', '{"images": {"figures": [{"depth": 8}], "seconds": 1}}',
     '{"theory": {"figures": {"d": 2}, "seconds": null}}', '{"tables": {"figures": ["x"]}}'],
)  # fmt: skip
def test_an_earlier_report_that_is_none_is_refused_before_anything_is_measured(tmp_path, text):
    """Each ended in an error of Python, some after hours."""
    (tmp_path / "residual-memory.json").write_text(text, encoding="utf-8")

    with pytest.raises(errors.InputError, match=r"residual-memory.json is not what an earlier run"):
        run(data=tmp_path, models=tmp_path, out=tmp_path, parts=["theory"], bases=tmp_path / "b")
    assert [each.name for each in tmp_path.iterdir()] == ["residual-memory.json"]


def test_a_file_in_place_of_the_folder_of_results_is_refused(tmp_path):
    """So are broken notes of an earlier run."""
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(errors.InputError, match="cannot hold results"):
        run(data=tmp_path, models=tmp_path, out=tmp_path / "out", bases=tmp_path / "b")

    (tmp_path / "residual-memory.notes").write_text("no JSON\n", encoding="utf-8")
    with pytest.raises(errors.InputError, match=r"residual-memory.notes is not .* line 1: no JSON"):
        run(data=tmp_path, models=tmp_path, out=tmp_path / "new", parts=["theory"], bases=tmp_path)


@pytest.mark.parametrize("name", PARTS)
def test_notes_of_an_earlier_edition_are_measured_again(tmp_path, name):
    """Only pictures had a number; what the other parts measure changes as well."""
    path = tmp_path / "notes"
    kept_then = [[f"{edition}/{name}/a", {"result": 1, "seconds": 1.0}] for edition in (1, 2)]
    path.write_text("".join(json.dumps(each) + "\n" for each in kept_then), encoding="utf-8")

    lines = Lines(path, name, float("inf"), lambda _line: None)

    assert lines.measured("a", lambda: 2) == [2]
    assert Lines(path, name, float("inf"), lambda _line: None).measured("a", lambda: 3) == [2]


TRIED = {"k": [1, 10], "sigma": [0.5, 5.0], "temperature": [1.4, 8.0], "strength": [0.5, 1.0]}


def test_the_page_says_how_many_chose_the_edge_of_a_grid():
    """k 10, sigma 0.5, T 1.4 and strength 1 are edges; what cannot be chosen is none."""
    edge = SETTING | {"tried": TRIED}
    inner = edge | {"k": 3, "sigma": 1.0, "temperature": 2.0, "strength": 0.7}
    alone = inner | {"tried": TRIED | {"temperature": [2.0, 2.0]}}
    settings = (edge, edge, inner, alone, edge | {"active": False})
    pictures = [PICTURES[0] | {"seed": seed, "setting": each} for seed, each in enumerate(settings)]

    text = page({"images": part(pictures), "tables": part(TABLES), "versions": {}})

    flowing = text.replace("\n", " ")
    assert "Of 4 active memories, those of the part on layers too, 2 chose the largest k" in flowing
    assert "2 the largest strength, 2 the least and 0 the greatest temperature" in flowing
    assert "2 the least and 0 the greatest sigma. The grids were widened once" in flowing


def test_a_line_holds_the_edges_of_what_was_tried():
    """From the settings themselves, so that it cannot say something else."""
    rng = np.random.default_rng(0)
    labels = tuple(rng.integers(0, 3, count) for count in (90, 40, 60))
    pairs = [(each[:, None] + 0.1 * rng.normal(size=(len(each), 1)),
              np.tile([0.1, 0.0, 0.0], (len(each), 1))) for each in labels]  # fmt: skip

    tried = measure(Asked(pairs[0], pairs[1], pairs[2], labels))["setting"]["tried"]

    assert tried["k"] == [GRID["k"][0], 90]
    assert tried["temperature"] == [GRID["temperature"][0], GRID["temperature"][-1]]
    assert tried["strength"] == [GRID["strength"][0], GRID["strength"][-1]]


def shift_maps(count, right):
    """Rows of two classes; the base is right on so many rows, and on all questions."""
    labels = np.arange(count) % 2
    said = labels.copy()
    said[right:] = 1 - said[right:]
    logits = np.where(said[:, None] == [0, 1], 2.0, 0.0).astype(np.float32)
    return {"pooled": labels[:, None].astype(np.float32), "logits": logits, "y": labels}


def test_where_the_memory_is_off_the_best_setting_is_measured_without_the_guard():
    """A base that is always right; the guess why it is off was a guess."""
    maps = shift_maps(20, 20), shift_maps(30, 30)

    off = _shifted("net", lambda: maps, 20, "pooled")
    on = _shifted("net", lambda: (shift_maps(20, 10), shift_maps(30, 15)), 20, "pooled")

    assert not off["setting"]["active"]
    assert off["base_on_rows"] == off["unguarded"] == 1.0
    assert off["unguarded_gain"] == 0.0
    assert on["base_on_rows"] == 0.5
    assert on["setting"]["active"]
    assert "unguarded" not in on


SHIFT = {"network": "net", "rows": 10, "base": 0.8, "resmem": 0.8, "seconds": 1.0, "gain": 0.0,
         "standard_error": 0.0, "base_on_rows": 0.9, "setting": SETTING}  # fmt: skip
OFF = SHIFT | {"setting": SETTING | {"active": False}, "unguarded": 0.82, "unguarded_gain": 0.02,
               "unguarded_error": 0.004}  # fmt: skip


def test_the_page_says_what_the_guard_cost_and_how_hard_the_rows_are():
    """Measured facts in place of 'why was not measured; likely'."""
    lines = [OFF | {"method": "ResMem, a"}, SHIFT | {"method": "ResMem, b"}]

    text = page({"shift": part(lines), "versions": {}})

    assert "| net | 10 | 90.00 | 80.00 | 1 of 2 | +2.00 | +2.00 | +2.00 |" in text
    assert "off; guard off 82.00, +2.00 ± 0.40 `*`" in text
    assert "likely" not in text


def test_the_picture_of_the_shift_marks_memories_that_are_off():
    """They all lie on the base; a hollow marker says why, and a word beside the picture."""
    off = [OFF | {"method": f"ResMem, {place}", "rows": 10} for place in "ab"]
    on = [SHIFT | {"method": f"ResMem, {place}", "rows": 100} for place in "ab"]

    axes = plot_shift([*off, *on]).axes[0]

    assert [line.get_markevery() for line in axes.lines[:2]] == [[1], [1]]
    hollow = [each for each in axes.collections if len(each.get_offsets())]
    assert [each.get_facecolors().size for each in hollow] == [0, 0]
    assert "hollow: memory off" in axes.get_legend_handles_labels()[1]


def test_neighbors_alone_choose_k_on_rows_set_aside():
    """One wrong row among six: a single neighbor repeats it, three outvote it."""
    train = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]]), np.array([0, 1, 0, 1, 1, 1])
    held = np.array([[0.11], [5.11]]), np.array([0, 1])
    test = np.array([[0.09], [0.12], [5.0], [0.2]]), np.array([0, 0, 1, 1])

    assert nearest_alone(train, held, test, numbers=False) == {"nearest": 0.75, "nearest_k": 3}


def test_the_page_says_how_small_bases_are_and_what_neighbors_alone_answer():
    """As the models themselves say it."""
    line = TABLES[0] | {"nearest": 0.31, "nearest_k": 3}
    trees = _models("classify", 0)["boosting"][-1]
    hidden = _models("classify", 0)["perceptron"][-1]

    text = page({"tables": part([line]), "versions": {}}).replace("\n", " ")

    assert f"{trees.n_estimators} rounds of trees of depth {trees.max_depth}" in text
    assert f"one hidden layer of {hidden.hidden_layer_sizes[0]} units" in text
    assert "| 31.0 (k 3) | off |" in text
    assert "better than ResMem in 0 of these 1 lines, and better than the base in 1" in text


def test_the_page_says_that_settings_were_chosen_on_easier_text():
    """A perplexity of 60 beside one of 90."""
    line = GAIN | {"nats_gained": 0.1, "nats_error": 0.1, "method": "ResMem", "setting": SETTING,
                   "chosen_by": "log_loss", "perplexity": 80.0, "accuracy": 0.3}  # fmt: skip
    facts = {"rows": 10, "chosen_on": 5, "foretold": 6, "epochs": 1, "planned_epochs": 1,
             "training_tokens": 20, "unknown": 0.1, "vocabulary": 9, "width": 4, "accuracy": 0.3,
             "perplexity": 90.0, "perplexity_chosen_on": 60.0, "methods": [line]}  # fmt: skip

    text = page({"language": part(facts), "versions": {}}).replace("\n", " ")

    assert "60.00 on the tokens that settings were chosen on and 90.00 on those" in text
    assert "the validation piece is much easier text." in text
