"""The measurements of the dual-memory reproduction, on synthetic pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recollect.evaluation.baselines import (
    choose_tip,
    class_means,
    linear_probe,
    tda,
    tip_adapter,
)
from recollect.evaluation.named_images import NamedSet, load_named
from recollect.evaluation.notebook import Notebook
from recollect.evaluation.reproduce.dual_memory import measure
from recollect.evaluation.reproduce.dual_memory_cells import Cell
from recollect.evaluation.reproduce.dual_memory_figures import gap_between
from recollect.evaluation.reproduce.dual_memory_page import page
from recollect.evaluation.reproduce.dual_memory_plots import pictures
from recollect.evaluation.reproduce.dual_memory_sections import combinations, promises
from recollect.evaluation.reproduce.dual_memory_views import COUNTS, PICTURES
from recollect.readout.attention import unit

EAST, NORTH = np.eye(2, dtype=np.float32)
BOTH = np.stack([EAST, NORTH])


@pytest.fixture(scope="module")
def named():
    """Four classes of pictures around four names, eight numbers each."""
    random = np.random.default_rng(0)
    text = unit(random.normal(size=(4, 8)))
    codes, truth = np.tile(np.arange(4), 6), np.tile(np.arange(4), 5)
    keys = unit(text[codes] + 0.4 * random.normal(size=(24, 8)))
    queries = unit(text[truth] + 0.4 * random.normal(size=(20, 8)))
    return NamedSet("synthetic", list("abcd"), text, keys, codes, queries, truth)


def blurred(cell):
    """A picture of the stream and 31 others near it, for each."""
    own = cell.named.queries[cell.places()[:PICTURES], None]
    others = own + 0.2 * np.random.default_rng(1).normal(size=(len(own), max(COUNTS) - 1, 8))
    return np.concatenate([own, unit(others)], axis=1)


def near(cell):
    """Three pictures near each shot."""
    shots = cell.drawn()[0][:, None]
    noise = np.random.default_rng(2).normal(size=(len(shots), 3, shots.shape[2]))
    return unit(shots + 0.2 * noise)


@pytest.fixture(scope="module")
def report(named):
    pytest.importorskip("torch")
    book = Notebook(None, None, 1)
    found = measure({"synthetic": named}, {"synthetic": named}, book, 1, (0, 1, 2), blurred, near)
    protocol = {"queries": 20, "seeds": 1, "size": 32, "shots": [0, 1, 2]}
    found["protocol"] = protocol | {"recollect": "0", "python": "3", "cores": 1}
    return json.loads(json.dumps(found | {"seconds": 1}))


def test_the_page_shows_every_measurement(report):
    """A table without lines, or a figure that is missing, is noticed here."""
    text = page(report)

    assert "| text alone |" in text
    assert "With learned offsets:" in text
    assert "| published, oracle weights |" in text
    assert "1 channels" in text
    assert text.count("### ") == 1
    assert " nan" not in text
    assert "{" not in text


def test_a_promise_that_is_not_kept_is_said_not_to_be(report):
    """The table is computed, not written: worse figures give another word."""
    kept = promises(report)
    worse = json.loads(json.dumps(report))
    for draw in worse["streams"]["synthetic"]["blocked"]:
        draw["robust"]["fused"] = draw["robust"]["text"] - 0.004

    told = {line.split("|")[1].strip(): line for line in promises(worse).splitlines()[2:]}

    blocked = next(
        line for what, line in told.items() if what.startswith("one class after another, MiniLM")
    )
    assert "-0.4 | **no** |" in blocked
    assert promises(report) == kept


def test_the_combinations_that_miss_the_best_member_are_named_with_their_figures(report):
    """Fusion as published is the default: that it promises less must stand on the page."""
    worse = json.loads(json.dumps(report))
    for by in worse["main"].values():
        for found in by.values():
            for group in ("robust", "trusting", "published"):
                for member in ("text", "static", "dynamic"):
                    if member in found.get(group, {}):
                        found[group][member] = [0.5]
                found[group] |= {"logits, honest": [0.6], "fixed, honest": [0.6]}
                for member in ("text", "static", "dynamic"):
                    found[group][f"fixed, honest, unlike {member}"] = [0.26]
                    found[group][f"logits, honest, unlike {member}"] = [0.1]
    worse["main"]["synthetic"]["2"]["robust"]["fixed, honest"] = [0.25]
    worse["sets"]["synthetic"]["queries"] = 10_000

    told = combinations(worse)

    # One of both is right on 26 % of 10,000 pictures: sqrt((0.26 - 0.25^2) / 10,000).
    missed = "*robust, honest weights (fusion as published)* (-25.00 ± 0.44 at 2) does not"
    assert told.count(missed) == 1
    assert "*robust, logits, honest weights*" in told.partition("keep what is promised")[0]
    rows = [line for line in promises(worse).splitlines() if line.startswith("| robust, honest")]
    assert rows[0].endswith("| +10.0 ± 0.5, -25.0 ± 0.4 | **no** |")
    assert told in page(worse)


def test_a_gap_counts_what_both_answered_the_same_way(report):
    """Two draws of 100 pictures, 2 points apart, both right or both wrong on all but 4 of them."""
    found = json.loads(json.dumps(report))
    found["sets"]["synthetic"]["queries"] = 100
    group = found["main"]["synthetic"]["2"]["robust"]
    group |= {"static": [0.50, 0.54], "logits, honest": [0.52, 0.56]}
    group["logits, honest, unlike static"] = [0.04, 0.04]

    gap, error = gap_between(found, 2, ("robust", "logits, honest"), "static")

    assert (round(gap, 6), round(error, 6)) == (0.02, round(((0.04 - 0.0004) / 100) ** 0.5, 6))


def test_crops_learn_at_the_rate_that_is_best_for_them_on_training_pictures(report):
    """The rate of shots that ask themselves is not theirs, and the stream has no say."""
    tried = report["decided rates"]["synthetic"]["crops"]

    assert tried[f"{report['ways to learn']['synthetic']['rate of crops']:g}"] == max(
        tried.values()
    )


def test_where_shots_ask_themselves_only_the_text_moves_and_crops_move_the_rest(report):
    """At a scale of 100 a picture that lies in the memory leaves nothing to learn there."""
    found = report["ways to learn"]["synthetic"]

    own, crops = (found[which]["offsets"]["moved"] for which in ("shots", "crops"))

    others = ("query", "key", "value", "output")
    assert max(own[role] for role in others) < 0.01 * own["text"]
    assert min(crops[role] for role in others) > 0.1 * crops["text"]


def test_the_pictures_are_drawn(report):
    """One panel a set, one an order, and one a part."""
    pytest.importorskip("matplotlib")

    drawn = pictures(report)

    assert {name: len(figure.axes) for name, figure in drawn.items()} == {
        "by-shots": 1,
        "streams": 3,
        "parts": 6,
    }


def test_shots_and_stream_depend_on_the_seed_alone(named):
    """The same draw for every method, so that they can be compared in pairs."""
    first, again, other = (Cell(named, 2, seed) for seed in (0, 0, 1))

    assert np.array_equal(first.drawn()[0], again.drawn()[0])
    assert not np.array_equal(first.drawn()[0], other.drawn()[0])
    assert np.bincount(first.drawn()[1]).tolist() == [2, 2, 2, 2]


def test_a_blocked_stream_shows_one_class_after_another(named):
    """The order in which memories of the past do most harm; by name, or which is first is drawn."""
    firsts = set()
    for seed in range(5):
        _, truth = Cell(named, 0, seed, "blocked").stream()
        turns = truth[np.flatnonzero(np.diff(truth, prepend=-1))]
        assert sorted(turns.tolist()) == [0, 1, 2, 3]
        assert seed or turns.tolist() == [0, 1, 2, 3]
        firsts.add(int(turns[0]))

    assert len(firsts) > 1


# -- the methods it is compared with -----------------------------------------------------------


def test_the_mean_of_a_class_has_length_one_and_none_of_an_empty_class():
    """(3, 0) and (0, 4) average to (0.6, 0.8) times 2.5."""
    rows = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)

    means = class_means(rows, np.array([1, 1]), 2)

    assert means.tolist() == [[0.0, 0.0], [pytest.approx(0.6), pytest.approx(0.8)]]


@pytest.mark.filterwarnings("error")
def test_the_probe_ends_and_beats_chance_at_a_hundred_classes_in_float32():
    """Given float32 the solver's line search fails, and the answers are those of chance."""
    random = np.random.default_rng(0)
    centers = unit(random.normal(size=(100, 64)))
    codes, rank = np.repeat(np.arange(100), 8), np.tile(np.arange(8), 100)
    keys = unit(centers[codes] + 0.1 * random.normal(size=(800, 64)))

    probe = linear_probe(keys, codes, centers, rank % 4)

    assert probe.converged
    assert (probe.codes == np.arange(100)).mean() > 0.95


@pytest.mark.filterwarnings("error")
def test_the_probe_that_cannot_leave_out_a_shot_keeps_its_default():
    """One shot a class."""
    probe = linear_probe(BOTH, np.arange(2), BOTH, np.zeros(2, int))

    assert (probe.codes.tolist(), probe.strength) == ([0, 1], 10.0)


def test_tip_adapter_adds_the_votes_of_all_shots():
    """A query in the east: 100 + 2 (1 + e^-1) for the east with a shot each way."""
    logits = tip_adapter(BOTH, BOTH, np.array([0, 0]), EAST[None], alpha=2.0, beta=1.0)

    assert logits.tolist() == [[pytest.approx(100 + 2 * (1 + np.exp(-1))), 0.0]]


def test_tip_adapter_is_tuned_on_shots_that_are_left_out():
    """The text is wrong by 7.4 logits: 10 (1 - e^-2) of the shots is the first to outweigh it."""
    text = unit([[1.0, 0.9], [0.9, 1.0]])
    keys = np.stack([EAST, NORTH, EAST, NORTH])
    codes, folds = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])

    assert choose_tip(text, keys, codes, folds) == (10.0, 2.0)


def test_tip_adapter_with_a_single_fold_keeps_its_defaults():
    """One shot a class leaves nothing to choose on."""
    assert choose_tip(BOTH, BOTH, np.arange(2), np.zeros(2, int)) == (1.0, 5.5)


def test_tda_keeps_the_three_surest_pictures_of_a_class():
    """Four pictures in the east, the first least sure: it has gone when the fourth is read."""
    stream = unit([[1.0, 0.9], EAST, EAST, EAST])

    logits = tda(BOTH, stream, negative=None)

    assert logits[3, 0] == pytest.approx(100 + 2.0 * 3)


def test_tda_votes_against_classes_of_unsure_pictures():
    """A picture of entropy 0.2 to 0.5 (of log 2) takes 0.117 from each class it might show."""
    sure_of_east = np.log(0.93 / 0.07) / 100  # difference of cosines that gives 93 %
    angle = np.pi / 4 - sure_of_east / np.sqrt(2)
    x = np.array([[np.cos(angle), np.sin(angle)]], np.float32)

    against = tda(BOTH, x, negative=None) - tda(BOTH, x)

    np.testing.assert_allclose(against, [[0.117, 0.117]], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["minilm", "clip"])
def test_names_of_cifar10_are_better_than_chance_on_real_pictures(text):
    """Real encoders, real maps: four tenths where chance is a tenth."""
    from places import data, models

    found = load_named(data(), models(), "cifar10", text=text, rows=10, queries=300)

    right = (found.queries @ found.text.T).argmax(axis=1) == found.truth
    assert right.mean() > 0.3
