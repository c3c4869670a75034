"""Settings are chosen on rows set aside, and a memory that helps nothing turns itself off."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import ResidualMemoryClassifier, ResidualMemoryRegressor, errors
from recollect.heads.residual_memory.tuning import _honest

RNG = np.random.default_rng(0)
# The truth is the side of zero; a base that always says half and half gets it wrong half the time.
ROWS = RNG.normal(size=(60, 1))
SIDES = (ROWS[:, 0] > 0).astype(int)
HELD = RNG.normal(size=(40, 1))
HELD_SIDES = (HELD[:, 0] > 0).astype(int)


def undecided(rows):
    return np.tile([0.1, 0.0], (len(rows), 1))


def all_knowing(rows):
    return np.stack([-9.0 * rows[:, 0], 9.0 * rows[:, 0]], axis=1)


@pytest.fixture
def head():
    return ResidualMemoryClassifier(undecided, k=50).fit(ROWS, SIDES)


def test_rows_set_aside_choose_the_setting(head):
    """What scored best there is what the head has afterwards."""
    report = head.tune(HELD, HELD_SIDES)

    assert report.active
    assert report.queries == 40
    assert report.base == np.mean(HELD_SIDES == 0)
    assert (head.k, head.sigma, head.temperature, head.strength) == (
        report.best.k, report.best.sigma, report.best.temperature, report.best.strength,
    )  # fmt: skip
    assert head.score(HELD, HELD_SIDES) == report.best.score > 0.9


def test_each_setting_scores_what_the_head_scores_with_it(head):
    """One search for the whole grid gives what a search for each would."""
    grid = {"k": [1, 5], "sigma": [0.5, 2.0], "temperature": [1.0, 3.0], "strength": [1.0, 0.5]}
    report = head.tune(HELD, HELD_SIDES, grid=grid)

    assert len(report.settings) == 16
    for setting in report.settings:
        head.set_params(
            k=setting.k,
            sigma=setting.sigma,
            temperature=setting.temperature,
            strength=setting.strength,
        )
        assert head.score(HELD, HELD_SIDES) == setting.score


def test_without_rows_set_aside_every_row_is_asked_without_itself(head):
    """k = 1 would be perfect if a row could answer for itself."""
    contradicting = ResidualMemoryClassifier(undecided).fit([[0.0], [0.0]], [0, 1])

    report = head.tune()
    with pytest.warns(UserWarning, match="turned off"):
        nothing = contradicting.tune(grid={"k": [1]})

    assert report.queries == 60
    assert report.active
    assert nothing.best.score == 0.0


def test_a_memory_that_cannot_help_turns_itself_off():
    """The base is always right: whatever is added can only do harm."""
    head = ResidualMemoryClassifier(all_knowing, k=5).fit(ROWS, SIDES)

    with pytest.warns(UserWarning, match="the memory is turned off"):
        report = head.tune(HELD, HELD_SIDES)

    assert not report.active
    assert head.strength == 0.0
    assert head.score(HELD, HELD_SIDES) == report.base == 1.0


def test_a_gain_within_its_error_does_not_count():
    """One row of forty-one, far out, is luck; a guard of 0 takes it."""
    rows, labels = np.append(ROWS, [[9.0]], axis=0), np.append(SIDES, 0)
    held, truth = np.append(HELD, [[9.5]], axis=0), np.append(HELD_SIDES, 0)
    grid = {"k": [1], "sigma": [1.0], "temperature": [1.0], "strength": [1.0]}

    eager = ResidualMemoryClassifier(all_knowing).fit(rows, labels)
    careful = ResidualMemoryClassifier(all_knowing).fit(rows, labels)
    with pytest.warns(UserWarning, match="turned off"):
        refused = careful.tune(held, truth, grid=grid, guard=2.0)

    assert refused.gain == pytest.approx(1 / 41)
    assert not refused.active
    assert eager.tune(held, truth, grid=grid, guard=0.0).active


def test_the_gate_saves_searches_without_losing_answers(head):
    """The base is sure on one half of the rows and right there."""

    def half_knowing(rows):
        return np.where(np.abs(rows) > 0.5, all_knowing(rows), [[0.1, 0.0]])

    head = ResidualMemoryClassifier(half_knowing, k=5).fit(ROWS, SIDES)
    report = head.tune(HELD, HELD_SIDES, gate=True)

    assert report.gate == head.gate
    assert 0.3 < report.searches_saved <= 1.0
    assert head.score(HELD, HELD_SIDES) >= report.best.score
    assert head.searches_saved(HELD) == report.searches_saved


def test_log_loss_prefers_settings_that_are_sure_where_they_are_right(head):
    """Scored by minus the logarithm of the clipped score."""
    report = head.tune(HELD, HELD_SIDES, scoring="log_loss")

    clipped = head.predict_proba(HELD, output="clip")
    expected = np.log(clipped[np.arange(40), HELD_SIDES]).mean()
    assert report.best.score == pytest.approx(expected, abs=1e-6)


def test_numbers_are_tuned_by_their_squared_error():
    """The base says 0, the truth is the row's own coordinate."""
    head = ResidualMemoryRegressor(lambda x: np.zeros(len(x))).fit(ROWS, ROWS[:, 0])

    report = head.tune(HELD, HELD[:, 0])
    again = ResidualMemoryRegressor(lambda x: np.zeros(len(x))).fit(ROWS, ROWS[:, 0]).tune()

    assert report.active
    assert again.active
    assert report.base == pytest.approx(-np.mean(HELD**2))
    assert report.best.score == pytest.approx(-np.mean((head.predict(HELD) - HELD[:, 0]) ** 2))


def test_few_logits_can_be_tuned_by_leaving_each_row_out():
    """What the rows keep of the base stands for the base."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 300, 400)
    keys, logits = labels[:, None] + 0.1 * rng.random((400, 1)), rng.normal(size=(400, 300))
    head = ResidualMemoryClassifier(lambda x: x, entries=4)

    report = head.fit(None, labels, embedding=keys, outputs=logits).tune()

    assert report.active
    assert report.base < 0.1
    assert report.best.score > 0.4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scoring": "luck"}, "scoring is not known"),
        ({"grid": {"rule": [1]}}, "no use for 'rule'"),
        ({"grid": {"k": []}}, "no use for 'k'"),
        ({"grid": {"k": bytearray(b"12")}}, "no use for 'k'"),
        ({"grid": {"k": [[1], [1, 2]]}}, "k is out of range"),
        ({"grid": {"k": [0]}}, "k is out of range"),
        ({"grid": {"sigma": [0.0]}}, "sigma is out of range"),
        ({"guard": -1.0}, "guard is out of range"),
        ({"guard": 10**400}, "guard is out of range"),
        ({"grid": {"sigma": [10**400]}}, "sigma is out of range"),
        ({"grid": {"temperature": [10**400]}}, "temperature is out of range"),
        ({"grid": {"strength": [10**400]}}, "strength is out of range"),
        (
            {"grid": {"strength": [1e300]}},
            "strength is out of range: expected .* at most 1,000,000",
        ),
        ({"grid": {"k": np.array(3)}}, "no use for 'k'"),
        ({"grid": {"k": b"ab"}}, "no use for 'k'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_tuned_is_refused(head, options, words):
    """And the head stays as it is."""
    with pytest.raises(errors.InvalidParameter, match=words):
        head.tune(HELD, HELD_SIDES, **options)
    assert head.k == 50


def test_one_row_cannot_be_left_out():
    """There would be nothing to ask."""
    with pytest.raises(errors.InvalidParameter, match="too few rows"):
        ResidualMemoryClassifier(undecided).fit(ROWS[:1], SIDES[:1]).tune()


def test_labels_alone_need_rows_set_aside():
    """The rows do not say what the base said of them."""
    head = ResidualMemoryClassifier(undecided, entries=0).fit(ROWS, SIDES)

    with pytest.raises(errors.InvalidParameter, match="keep labels only"):
        head.tune()
    assert head.tune(HELD, HELD_SIDES).active


def test_the_gain_is_measured_on_queries_that_had_no_part_in_the_choice():
    """Settings that are right by luck on one fold each are worth nothing on the others."""
    lucky = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]], np.float32)

    assert lucky.mean(axis=1).max() == np.float32(0.2)
    assert _honest(lucky).tolist() == [0.0] * 5


def half_knowing(rows):
    """Sure, and right, of rows far from zero."""
    return np.where(np.abs(rows) > 0.5, all_knowing(rows), [[0.1, 0.0]])


def test_tuning_without_a_gate_leaves_the_gate_as_it_is(head):
    """It used to be taken away without a word."""
    report = head.set_params(gate=0.75).tune(HELD, HELD_SIDES)

    assert head.gate == report.gate == 0.75


def test_settings_are_scored_with_the_gate_that_is_kept():
    """What is reported is what the head then does."""
    head = ResidualMemoryClassifier(half_knowing, k=5, gate=0.9).fit(ROWS, SIDES)
    report = head.tune(HELD, HELD_SIDES, grid={"k": [5, 50], "sigma": [1.0]})

    for setting in report.settings:
        chosen = {name: getattr(setting, name) for name in ("k", "sigma", "temperature")}
        head.set_params(**chosen, strength=setting.strength)
        assert head.score(HELD, HELD_SIDES) == setting.score
    head.set_params(temperature=report.best.temperature)
    assert report.searches_saved == head.searches_saved(HELD) > 0.3


def test_a_gate_is_not_chosen_by_likelihood(head):
    """There is no right answer that it could cost; it used to be left out without a word."""
    with pytest.raises(errors.InvalidParameter, match="right answers"):
        head.tune(HELD, HELD_SIDES, gate=True, scoring="log_loss")


def test_a_memory_that_was_turned_off_answers_as_the_base_whatever_its_temperature():
    """The temperature of the head stayed, and made its probabilities other than the base's."""
    rng = np.random.default_rng(1)
    base = lambda rows: np.stack([-2 * rows[:, 0], 2 * rows[:, 0]], axis=1)  # noqa: E731
    head = ResidualMemoryClassifier(base, k=10, temperature=8.0).fit(
        ROWS, rng.integers(0, 2, len(ROWS))
    )

    for _ in range(2):
        with pytest.warns(UserWarning, match="turned off"):
            report = head.tune(HELD, HELD_SIDES, scoring="log_loss", grid={"temperature": [8.0]})
        expected = 1 / (1 + np.exp(-4 * HELD[:, 0]))
        np.testing.assert_allclose(head.predict_proba(HELD)[:, 1], expected, atol=1e-6)
        assert not report.active


def test_rows_of_the_memory_are_left_out_of_what_is_chosen_on():
    """Each finds itself, so that one neighbor would look best."""
    head = ResidualMemoryClassifier(undecided, k=5).fit(ROWS, SIDES)
    both, truth = np.concatenate([ROWS[:20], HELD]), np.concatenate([SIDES[:20], HELD_SIDES])

    with pytest.warns(UserWarning, match="20 of 60 rows"):
        report = head.tune(both, truth)
    alone = ResidualMemoryClassifier(undecided, k=5).fit(ROWS, SIDES).tune(HELD, HELD_SIDES)

    assert report == alone


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_settings_are_not_chosen_on_the_rows_of_the_memory_alone(kind):
    """All of them would find themselves."""
    head = (
        ResidualMemoryClassifier(undecided, k=5)
        if kind == "classes"
        else ResidualMemoryRegressor(lambda rows: rows[:, 0], k=5)
    ).fit(ROWS, SIDES)

    with pytest.raises(errors.InvalidParameter, match="in the memory"):
        head.tune(ROWS[:30], SIDES[:30])
    assert head.k == 5


@pytest.mark.parametrize("entries", [None, 2, 0])
def test_the_grid_is_scored_in_pieces_as_at_once(monkeypatch, entries):
    """So few queries at a time that pieces end within them, of rows of every form."""
    rng = np.random.default_rng(3)
    labels, held = rng.integers(0, 4, 70), rng.integers(0, 4, 30)
    keys, asked = (each[:, None] + 0.4 * rng.normal(size=(len(each), 1)) for each in (labels, held))
    outputs = {len(each): rng.normal(size=(len(each), 4)) for each in (labels, held)}
    grid = {"k": [1, 5, 40], "sigma": [0.3, 3.0], "temperature": [1.0, 2.0]}

    def report():
        """Tune a new head."""
        head = ResidualMemoryClassifier(lambda x: x, entries=entries, classes=range(4))
        head.fit(None, labels, embedding=keys, outputs=outputs[70])
        given = {"embedding": asked, "outputs": outputs[30]}
        return head.tune(None, held, grid=grid, **given), head, given

    whole, head, given = report()
    monkeypatch.setattr("recollect.heads.residual_memory.tuning._CELLS", 7 * 2 * 40)
    monkeypatch.setattr("recollect.readout.kernel._CELLS", 3)

    assert report()[0] == whole
    assert len(whole.settings) == 3 * 2 * 2 * 4
    for each in whole.settings[::7]:
        head.set_params(
            k=each.k, sigma=each.sigma, temperature=each.temperature, strength=each.strength
        )
        assert np.mean(head.predict(None, **given) == held) == pytest.approx(each.score)


@pytest.mark.parametrize("name", ["sigma", "temperature", "strength", "gate"])
def test_a_number_beyond_all_floats_is_refused_in_our_words(head, name):
    """Python raised an OverflowError of its own."""
    with pytest.raises(errors.InvalidParameter, match=f"{name} is out of range"):
        head.set_params(**{name: 10**400}).predict(HELD)


def test_a_strength_that_would_make_answers_infinite_is_refused(head):
    """1e300 gave probabilities that are none; the largest that is allowed gives some."""
    with pytest.raises(errors.InvalidParameter, match="strength is out of range"):
        head.set_params(strength=1e300).predict_proba(HELD)

    assert np.isfinite(head.set_params(strength=1e6).predict_proba(HELD)).all()
