"""The estimator: teach, ask, forget, grow, travel."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from recollect import LookupClassifier, Memory
from recollect.errors import (
    DimensionMismatch,
    EmptyBatch,
    EmptyMemory,
    EncoderMismatch,
    InvalidParameter,
    InvalidType,
    LengthMismatch,
    NonFinite,
    UnknownIds,
)
from recollect.heads.lookup import examples

EQUAL = (1.0, 1.0, 1.0)
COLUMNS = ("keys", "states", "answers", "counts", "variants", "parts", "ids", "row_of")


def noisy(count, seed=0):
    images, labels = examples.bars(count)
    random = np.random.default_rng(seed)
    return np.minimum(images + random.integers(0, 60, images.shape), 255).astype(np.uint8), labels


def make(**options):
    return LookupClassifier(examples.network(), **{"weights": EQUAL, **options})


@pytest.fixture
def taught():
    images, labels = noisy(40)
    return make().fit(images, labels)


@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("answers", ["labels", "network"])
def test_forgetting_leaves_the_table_never_recorded_with_them(per_step, answers):
    """Row for row: keys, values, counts and witnesses."""
    images, labels = noisy(40)
    taught = make(per_step=per_step, answers=answers).fit(images, labels)

    taught.forget(taught.ids_[[0, 3, 7, 20]])

    left = np.delete(np.arange(40), [0, 3, 7, 20])
    never = make(per_step=per_step, answers=answers)
    never.fit(images[left], labels[left], ids=left)
    for name in COLUMNS:
        assert np.array_equal(getattr(taught.table_, name), getattr(never.table_, name)), name
    assert taught.predict(images).tolist() == never.predict(images).tolist()


def test_teaching_in_two_parts_is_teaching_at_once():
    """The table depends on the images alone, not on how they came."""
    images, labels = noisy(40)
    once = make().fit(images, labels)

    twice = make().fit(images[:25], labels[:25]).partial_fit(images[25:], labels[25:])

    for name in COLUMNS:
        assert np.array_equal(getattr(once.table_, name), getattr(twice.table_, name)), name


def test_a_recorded_image_is_replayed_at_distance_zero(taught):
    """Exact keys are found, and the network's run is followed to its end."""
    images, _ = noisy(40)

    assert not taught.distances(images).any()


def test_answers_of_the_network_replay_the_network():
    """The published reading: the class that the network named."""
    images, labels = noisy(40)
    network = examples.network()
    taught = make(answers="network", per_step=True).fit(images, labels)

    runs = taught.runs()

    assert taught.predict(images).tolist() == [network.names[c] for c in runs.answers[:, -1]]


def test_reading_the_state_is_reading_the_row_where_the_network_answers():
    """The class of a network follows from its state, so the second table says the same."""
    images, labels = noisy(60)
    taught = make(answers="network").fit(images[:40], labels[:40])
    by_row = taught.table_.answers

    by_state = taught.set_params(readout="state").table_.answers

    assert by_state.tolist() == by_row.tolist()


@pytest.mark.parametrize("per_step", [True, False])
def test_a_state_answers_as_most_runs_that_end_in_it(per_step):
    """Rows that lead to one state give one answer, and forgetting leaves what was never taught."""
    images, labels = noisy(60)
    mixed = labels.copy()
    mixed[::7] = labels[1::7][: len(mixed[::7])]  # some labels are wrong: rows disagree
    taught = make(readout="state", per_step=per_step).fit(images, mixed)
    table = taught.table_

    for step in range(len(table.parts) - 1):
        rows = table.part(step)
        states = [bytes(state) for state in table.states[rows, :-2]]
        named = dict(zip(states, table.answers[rows].tolist(), strict=True))
        assert [named[state] for state in states] == table.answers[rows].tolist()
    few = make(readout="state", per_step=per_step).fit(images[:30], mixed[:30])
    assert taught.forget(taught.ids_[30:]).table_.answers.tolist() == few.table_.answers.tolist()


def test_a_label_the_network_never_saw_is_answered():
    """A new class is taught by recording it; no training run."""
    images, labels = noisy(40)
    taught = make().fit(images, labels)

    taught.partial_fit(np.full((1, 8, 8), 255, np.uint8), ["full"])

    assert taught.predict(np.full((1, 8, 8), 255, np.uint8)).tolist() == ["full"]
    assert taught.classes_.tolist() == ["across", "down", "full"]


def test_correcting_a_label_corrects_the_answer(taught):
    """The value of a row is its label; the table follows."""
    blank = taught.partial_fit(np.zeros((1, 8, 8), np.uint8), ["across"]).ids_[-1]

    taught.memory_.update([blank], values=["down"])

    assert taught.predict(np.zeros((1, 8, 8), np.uint8)).tolist() == ["down"]


@pytest.mark.parametrize("options", [{}, {"tree": 1}, {"tree": 3, "k": 3}, {"k": 5}], ids=str)
def test_one_image_is_answered_as_in_a_batch(options):
    """Same question, same bits."""
    images, labels = noisy(60)
    taught = make(**options).fit(images[:40], labels[:40])
    whole = taught.predict_proba(images[40:])

    alone = np.concatenate([taught.predict_proba(images[i : i + 1]) for i in range(40, 60)])

    assert np.array_equal(alone, whole)


def test_votes_of_the_last_step_are_the_probabilities():
    """Ranks 0, 1, 2 weigh 1/2, 1/3, 1/4: shares of 6, 4 and 3 thirteenths, in whole numbers."""
    images, labels = noisy(40)
    taught = make(k=3).fit(images, labels)

    shares = taught.predict_proba(images[:5])

    assert shares.sum(axis=1).tolist() == [1.0] * 5
    assert taught.predict(images[:5]).tolist() == taught.classes_[shares.argmax(axis=1)].tolist()


def test_an_explanation_adds_up_and_names_the_images(taught):
    """Contributions of a label are its share; every look-up names row, distance and image."""
    images, _ = noisy(60)
    taught.set_params(k=3)

    [why] = taught.explain(images[50:51])

    assert why.prediction == taught.predict(images[50:51])[0]
    mine = [part.contribution for part in why.evidence if part.value == why.prediction]
    assert why.score == pytest.approx(sum(mine), abs=1e-12)
    assert [step.table_row for step in why.steps] == taught.predictor().trail(images[50:51]).rows[
        0
    ].tolist()
    assert set(why.steps[0].images) <= set(taught.ids_.tolist())
    assert len(why.steps) == 2


def test_an_explanation_draws_the_glimpses(taught):
    """One panel a look, one square a patch."""
    images, _ = noisy(1)

    figure = taught.explain(images)[0].draw(images[0], taught.layout_)

    assert [len(panel.patches) for panel in figure.axes] == [2, 2]


def test_the_network_answers_where_rows_are_too_far():
    """With the distance at 0 every image that was not recorded falls back."""
    images, labels = noisy(60)
    taught = make(fallback=0.0).fit(images[:20], labels[:20])
    far = taught.distances(images) > 0

    answers = taught.predict(images)

    network = make(answers="network").fit(images, labels).predict(images)
    assert answers[far].tolist() == network[far].tolist()
    assert taught.fallback_share(images) == far.mean() > 0
    assert [why.fell_back for why in taught.explain(images)] == far.tolist()
    assert (taught.predict_proba(images)[far].max(axis=1) == 1.0).all()


def test_predict_does_not_write_and_observe_does():
    """The table grows from the network's answers, and then knows these images."""
    images, labels = noisy(60)
    taught = make(fallback=0.0).fit(images[:20], labels[:20])
    before = taught.memory_.version
    taught.predict(images)
    assert taught.memory_.version == before

    taught.observe(images)

    assert taught.fallback_share(images) == 0.0
    assert len(taught.ids_) > 20


def test_observing_without_a_distance_is_refused(taught):
    """Nothing would ever be recorded."""
    with pytest.raises(InvalidParameter, match="too far"):
        taught.observe(noisy(1)[0])


def test_the_search_of_weights_begins_with_equal_ones(taught):
    """So the result is never worse on the images it saw; and the report says what it saw."""
    images, labels = noisy(60, seed=1)

    report = taught.set_params(weights=None).tune(images, labels, evaluations=4, oracle=True)

    assert report.trace[0][0] == EQUAL
    assert report.score >= report.unweighted
    assert report.oracle
    assert taught.weights_ == report.weights
    assert sum(report.weights) == pytest.approx(3.0)


def test_the_search_of_weights_is_the_same_every_time(taught):
    """Seeded."""
    images, labels = noisy(40, seed=1)
    taught.set_params(weights=None)

    again = [taught.tune(images, labels, evaluations=7).trace for _ in range(2)]

    assert again[0] == again[1]


def test_fit_sets_images_aside_to_choose_weights():
    """Of 200 images 20 choose; all 200 are recorded in the end."""
    images, labels = noisy(200)

    taught = LookupClassifier(examples.network()).fit(images, labels)

    assert len(taught.ids_) == 200
    assert sum(taught.weights_) == pytest.approx(3.0)


def test_a_durable_memory_answers_without_a_network(tmp_path):
    """Layout and names travel with the rows; only new images need the network."""
    images, labels = noisy(40)
    first = make(memory=tmp_path / "runs").fit(images, labels)
    answers = first.predict(images)
    first.memory_.close()

    second = LookupClassifier(weights=EQUAL, memory=tmp_path / "runs")

    assert second.predict(images).tolist() == answers.tolist()
    assert second.memory_.dtype == np.uint8


def test_runs_of_another_network_are_refused(tmp_path):
    """Their states mean something else."""
    images, labels = noisy(40)
    make(memory=tmp_path / "runs").fit(images, labels).memory_.close()

    with pytest.raises(EncoderMismatch):
        LookupClassifier(examples.network(seed=1), memory=tmp_path / "runs").predict(images)


def test_a_saved_network_is_taken_by_its_path(tmp_path):
    """As safetensors."""
    images, labels = noisy(40)
    examples.network().save(tmp_path / "network.safetensors")

    taught = LookupClassifier(tmp_path / "network.safetensors", weights=EQUAL).fit(images, labels)

    assert taught.predict(images).tolist() == make().fit(images, labels).predict(images).tolist()


def test_copies_answer_alike(taught):
    """Pickled into another process; cloned with the parameters alone."""
    images, _ = noisy(60)

    copy = pickle.loads(pickle.dumps(taught))  # noqa: S301 - our own bytes

    assert copy.predict(images).tolist() == taught.predict(images).tolist()
    with pytest.raises(EmptyMemory):
        clone(taught).predict(images)


def test_float_keys_are_searched_too():
    """Zero bits: no packing, but the same look-ups."""
    from dataclasses import replace

    network = examples.network()
    floats = replace(network, layout=replace(network.layout, phi_bits=0, h_bits=0))
    images, labels = noisy(40)

    taught = LookupClassifier(floats, weights=EQUAL).fit(images, labels)

    assert not taught.distances(images).any()
    assert taught.memory_.dtype == np.float32


def test_forgetting_everything_leaves_nothing_to_ask(taught):
    """And says so."""
    taught.forget(taught.ids_)

    with pytest.raises(EmptyMemory, match="empty"):
        taught.predict(noisy(1)[0])


def test_forgetting_unknown_images_is_refused(taught):
    """Nothing was forgotten."""
    with pytest.raises(UnknownIds):
        taught.forget([0, 999])

    assert len(taught.ids_) == 40


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (np.zeros((0, 8, 8)), EmptyBatch),
        (np.zeros((2, 9, 9)), DimensionMismatch),
        (np.zeros((2, 8, 7)), DimensionMismatch),
        (np.zeros((2, 8, 8, 3)), DimensionMismatch),
        (np.zeros((8, 8)), DimensionMismatch),
        ([np.zeros((8, 8)), np.zeros((7, 7))], DimensionMismatch),
        (np.full((1, 8, 8), np.nan), NonFinite),
        (np.full((1, 8, 8), np.inf), NonFinite),
        (np.array([[["a"] * 8] * 8]), InvalidType),
    ],
    ids=str,
)
def test_images_that_cannot_be_looked_at_are_refused(taught, images, error):
    """One error each, and nothing was recorded."""
    with pytest.raises(error):
        taught.predict(images)
    with pytest.raises(error):
        taught.partial_fit(images, ["across"] * len(images))

    assert len(taught.ids_) == 40


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": (0, 0, 0)}, {"k": 0}, {"tree": 0}, {"fallback": -1.0}, {"answers": "both"},
        {"k": 1.5},
    ],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_refused(taught, wrong):
    """When asked, before anything is looked up."""
    with pytest.raises(InvalidParameter):
        taught.set_params(**wrong).predict(noisy(1)[0])


def test_labels_that_do_not_match_are_refused(taught):
    """One label per image; the classifier answers as before."""
    images, labels = noisy(4)

    with pytest.raises(LengthMismatch):
        taught.fit(images, labels[:3])

    assert len(taught.ids_) == 40


def test_a_network_with_other_classes_needs_names():
    """Two outputs cannot be called by three labels."""
    from dataclasses import replace

    images, _ = noisy(3)

    with pytest.raises(InvalidParameter, match="called"):
        LookupClassifier(replace(examples.network(), names=None)).fit(images, ["a", "b", "c"])


def test_a_memory_of_other_rows_is_refused():
    """Features are no runs."""
    with Memory.create(":memory:", dim=2, metric="manhattan") as memory:
        memory.add([[1, 0]], ["cat"])
        with pytest.raises(InvalidParameter, match="runs"):
            LookupClassifier(memory=memory).predict(noisy(1)[0])


def test_the_name_that_the_network_gives_is_whole():
    """Short names in the table do not cut it."""
    images, labels = examples.bars(20)
    head = make(fallback=0.0).fit(images[:1], ["no"])

    assert set(head.predict(images[1:]).tolist()) <= {"no", *labels.tolist()}
    assert head.fallback_share(images[1:]) > 0
