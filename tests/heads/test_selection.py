"""Settings are chosen on the memory itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recollect import MemoryClassifier, MemoryRegressor
from recollect.errors import EmptyMemory, InvalidParameter, LengthMismatch
from recollect.readout.reliability import Reliability

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


@pytest.fixture
def noisy():
    """Four rows to the east, one of them mislabeled, and two to the north."""
    return MemoryClassifier().fit([EAST] * 4 + [NORTH] * 2, ["n", "e", "e", "e", "n", "n"])


def test_every_setting_is_scored_by_leaving_each_row_out(noisy):
    """At k = 1 only the norths are right: rows 1 to 3 hear row 0. At k = 3 it is outvoted."""
    report = noisy.tune(grid={"vote": ["plurality"], "k": [1, 3], "reliability": [None]})

    assert report.queries == 6
    assert [(s.rule, s.k, s.score) for s in report.settings] == [
        ("plurality", 3, 5 / 6),
        ("plurality", 1, 2 / 6),
    ]


def test_reliability_is_chosen_where_it_is_better_beyond_doubt():
    """One row of its own label is the nearest of all twelve others, and answers for them all."""
    keys = np.ones((13, 12))
    keys[1:] += 3 * np.eye(12)
    head = MemoryClassifier().fit(keys, ["odd", *["usual"] * 12])
    tried = {"vote": ["plurality"], "k": [2], "reliability": [None, Reliability("hard", 1, 2)]}

    report = head.tune(grid=tried)

    assert [round(13 * setting.score) for setting in report.settings] == [12, 0]
    assert head.reliability == Reliability("hard", 1, 2)


def test_without_a_clear_gain_reliability_stays_off(noisy):
    """What is not better beyond doubt on the memory's rows may be worse on others."""
    noisy.tune(grid={"vote": ["plurality"], "k": [3], "reliability": ["soft", None]})

    assert noisy.reliability is None


def test_of_settings_that_cannot_be_told_apart_the_log_loss_decides():
    """Both are always right, but k = 1 says so with all its weight."""
    keys = [EAST, EAST, [1.0, 0.1], NORTH, NORTH, [0.1, 1.0]]
    head = MemoryClassifier().fit(keys, ["e", "e", "e", "n", "n", "n"])

    report = head.tune(grid={"vote": ["plurality"], "k": [3, 1], "reliability": [None]})

    assert {setting.score for setting in report.settings} == {1.0}
    assert report.best.k == 1


def test_the_best_setting_is_set(noisy):
    """The next answer uses it."""
    report = noisy.tune(grid={"vote": ["softmax"], "k": [3], "temperature": [0.5]})

    assert (noisy.vote, noisy.k, noisy.temperature) == ("softmax", 3, 0.5)
    assert (report.best.rule, report.best.parameter, report.best.value) == (
        "softmax",
        "temperature",
        0.5,
    )


def test_a_duplicate_of_the_row_stays_in():
    """Only the row itself is left out, by its id: its twin answers for it."""
    head = MemoryClassifier().fit([EAST, EAST, NORTH, NORTH], ["e", "e", "n", "n"])

    report = head.tune(grid={"vote": ["rank"], "k": [1], "alpha": [2.0]})

    assert report.best.score == 1.0
    assert report.standard_error == 0.0


def test_of_equal_scores_the_first_in_the_grid_wins():
    """A choice that chance cannot change."""
    head = MemoryClassifier().fit([EAST, EAST, NORTH, NORTH], ["e", "e", "n", "n"])

    report = head.tune(grid={"vote": ["softmax", "rank"], "k": [2, 1]})

    assert (report.best.rule, report.best.k, report.best.value) == ("softmax", 1, 0.02)


def test_every_rule_with_its_parameter_is_tried_by_default(noisy):
    """Plurality has no parameter, so it comes once for each k."""
    report = noisy.tune()

    rules = {setting.rule for setting in report.settings}
    plurality = [setting for setting in report.settings if setting.rule == "plurality"]
    assert rules == {"rank", "softmax", "distance", "plurality"}
    assert {setting.parameter for setting in plurality} == {None}
    assert len({(one.k, one.reliability) for one in plurality}) == len(plurality)


def test_the_log_loss_judges_the_share_of_the_right_label():
    """Each row has one neighbor of its label among two voters of equal weight."""
    head = MemoryClassifier().fit([EAST, EAST, NORTH, NORTH], ["e", "e", "n", "n"])

    report = head.tune(grid={"vote": ["plurality"], "k": [2]}, scoring="log_loss")

    assert report.best.score == pytest.approx(math.log(0.5))


def test_rows_set_aside_can_be_used_instead(noisy):
    """A label the memory does not know counts as an error."""
    report = noisy.tune(
        [EAST, NORTH, NORTH, EAST], ["e", "n", "n", "?"], grid={"vote": ["plurality"], "k": [3]}
    )

    assert (report.queries, report.best.score) == (4, 0.75)


def test_a_regressor_is_tuned_by_its_error():
    """Each row hears its twin at k = 1, and a stranger too at k = 2."""
    head = MemoryRegressor().fit([EAST, EAST, NORTH, NORTH], [1.0, 1.0, 3.0, 3.0])

    report = head.tune(grid={"weighting": ["plurality"], "k": [1, 2]})

    assert (head.weighting, head.k) == ("plurality", 1)
    assert [setting.score for setting in report.settings] == [0.0, -1.0]


def test_a_regressor_of_vectors_is_tuned_by_the_mean_over_components():
    """One component off by 2, the other right: absolute error 1."""
    head = MemoryRegressor().fit([EAST, NORTH], [[1.0, 5.0], [3.0, 5.0]])

    report = head.tune(grid={"weighting": ["rank"], "k": [1]}, scoring="absolute_error")

    assert report.best.score == -1.0


def test_the_standard_error_is_that_of_a_mean(noisy):
    """Five of six right: sqrt(5/6 * 1/6 / 6)."""
    report = noisy.tune(grid={"vote": ["plurality"], "k": [3]})

    assert report.standard_error == pytest.approx(math.sqrt(5 / 6**3))


def test_many_rows_are_asked_block_by_block():
    """More rows than are held at once give the same scores."""
    rows = 4096 + 10
    angle = np.arange(rows) * (2 * np.pi / rows)
    head = MemoryClassifier().fit(np.stack([np.cos(angle), np.sin(angle)], axis=1), angle > np.pi)

    report = head.tune(grid={"vote": ["plurality"], "k": [1]})

    assert report.queries == rows
    assert report.best.score > 0.99


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"grid": {"votes": ["rank"]}}, "votes"),
        ({"grid": {"k": []}}, "k"),
        ({"grid": {"k": [0]}}, "k is out of range"),
        ({"grid": {"vote": "rank"}}, "vote"),
        ({"grid": {"vote": ["best"]}}, "vote rule"),
        ({"grid": {"alpha": [0.01]}}, "alpha"),
        ({"scoring": "f1"}, "scoring"),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused(noisy, options, said):
    """Before anything is searched, and nothing is set."""
    with pytest.raises(InvalidParameter, match=said):
        noisy.tune(**options)

    assert (noisy.vote, noisy.k) == ("rank", 20)


def test_queries_without_labels_cannot_be_scored(noisy):
    """X needs its y."""
    with pytest.raises(LengthMismatch):
        noisy.tune([EAST], ["e", "n"])


def test_one_row_cannot_be_left_out():
    """Nothing would remain to answer."""
    with pytest.raises(InvalidParameter, match="two rows"):
        MemoryClassifier().fit([EAST], ["e"]).tune()


def test_a_head_that_was_never_taught_cannot_be_tuned():
    """There is nothing to choose on."""
    with pytest.raises(EmptyMemory):
        MemoryClassifier().tune()


@pytest.mark.parametrize(
    "grid",
    [
        5,
        [("k", 1)],
        {"k": 5},
        {"k": None},
        {"k": iter([1])},
        {"vote": [["rank"]]},
        {"vote": [None]},
    ],
)
def test_a_grid_of_another_shape_is_refused(noisy, grid):
    """Before, these ended in errors of Python's."""
    with pytest.raises(InvalidParameter) as told:
        noisy.tune(grid=grid)

    assert told.value.remedy


def test_labels_without_queries_are_refused(noisy):
    """Before, they were silently not read."""
    with pytest.raises(InvalidParameter, match="labels without queries"):
        noisy.tune(None, ["n"] * 6)
