"""Names, shots and observed pictures, in two dimensions and round numbers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from recollect import DualMemoryClassifier, Memory, MemoryClassifier, errors
from recollect.heads.dual_memory.training import Training

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
NEAR_EAST, NEAR_NORTH = [0.9, 0.2], [0.3, 1.0]


def named(**options):
    return DualMemoryClassifier([EAST, NORTH], ["crow", "owl"], **options)


@pytest.fixture
def pictures():
    """Twelve pictures between east and north, in no order."""
    angles = np.random.default_rng(3).uniform(0.0, np.pi / 2, 12)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def same_answers(one, other, asked):
    return np.array_equal(one.predict_proba(asked), other.predict_proba(asked))


# -- settings ----------------------------------------------------------------------------------


def test_names_alone_answer_without_fit():
    """Zero-shot: nothing was taught but names."""
    assert named().predict([NEAR_EAST, NEAR_NORTH]).tolist() == ["crow", "owl"]


def test_without_names_shots_are_a_classifier_of_their_own():
    """The text member is absent, and a class is there as soon as it has a shot."""
    head = DualMemoryClassifier().fit([EAST, NORTH], ["e", "n"])

    assert head.predict([NEAR_NORTH]).tolist() == ["n"]
    assert head.members([EAST]).text is None


def test_names_without_vectors_are_numbered():
    """Like the columns of an array."""
    assert DualMemoryClassifier([EAST, NORTH]).predict([NEAR_NORTH]).tolist() == [1]


def test_text_features_may_be_a_mapping():
    """Name and vector side by side."""
    head = DualMemoryClassifier({"owl": NORTH, "crow": EAST})

    assert head.predict([NEAR_EAST]).tolist() == ["crow"]
    assert head.fit().classes_.tolist() == ["crow", "owl"]


def test_classes_may_have_different_numbers_of_shots():
    """Also none."""
    head = named().fit([EAST, NEAR_EAST, EAST], ["crow"] * 3)

    assert head.ids_.tolist() == [2, 3, 4]
    assert head.predict([NEAR_NORTH]).tolist() == ["owl"]


def test_a_single_class_has_probability_one():
    """There is nothing else to answer; no error either."""
    head = DualMemoryClassifier([EAST], ["crow"])

    assert head.predict_proba([WEST]).tolist() == [[1.0]]
    assert head.observe([WEST]).labels.tolist() == ["crow"]


def test_one_shot_beside_a_name_counts_as_half_the_class():
    """Static slots of the crow: its name in the east, its shot in the north; beta 0 means both."""
    head = named(beta=0.0, weights=(0.0, 0.0, 1.0), scale=1.0).fit([NORTH], ["crow"])

    crow, owl = np.sqrt(0.5), 1.0
    expected = np.exp(crow) / (np.exp(crow) + np.exp(owl))
    assert head.predict_proba([NORTH])[0, 0] == pytest.approx(expected, abs=1e-6)


# -- the stream --------------------------------------------------------------------------------


def test_predict_never_writes():
    """What learns at test time has its own verb."""
    head = named().fit()
    version = head.memory_.version

    head.predict_proba([NEAR_EAST])
    head.explain([NEAR_EAST])

    assert head.memory_.version == version


@pytest.mark.parametrize("extra", [{}, {"fusion": "count"}, {"negative": 5.0, "scale": 4.0}])
@pytest.mark.parametrize("mode", ["published", "robust"])
@pytest.mark.parametrize("order", ["write-read", "read-write", "read-others"])
def test_a_batch_is_observed_as_its_pictures_one_by_one(extra, mode, order, pictures):
    """To the last bit: answers, slots, and what the memory answers afterwards."""
    options = {"mode": mode, "order": order, "memory_length": 3, **extra}
    together = named(**options).fit([NEAR_EAST], ["crow"])
    apart = named(**options).fit([NEAR_EAST], ["crow"])

    batch = together.observe(pictures)

    singles = [apart.observe(picture[None]) for picture in pictures]
    assert np.array_equal(batch.probability, np.concatenate([one.probability for one in singles]))
    assert batch.slots.tolist() == [int(one.slots[0]) for one in singles]
    assert same_answers(together, apart, pictures)


def test_read_then_write_answers_before_the_picture_is_in_the_memory():
    """So it cannot agree with itself: this is what predict would have said."""
    head = named(mode="robust").fit([NEAR_NORTH], ["owl"])
    before = head.predict_proba([NEAR_EAST])

    assert np.array_equal(head.observe([NEAR_EAST]).probability, before)


def test_write_then_read_lets_a_picture_see_itself():
    """As published: with beta large its own slot decides, at cosine 1."""
    head = named(beta=np.inf, weights=(0.0, 1.0, 0.0), scale=1.0).fit()

    said = head.observe([[0.8, 0.6]]).probability[0]

    assert said[0] == pytest.approx(np.e / (np.e + np.exp(0.6)), abs=1e-6)


def test_own_slot_excluded_reads_the_others():
    """With no other picture in the memory, the names answer."""
    head = named(beta=np.inf, weights=(0.0, 1.0, 0.0), scale=1.0, order="read-others").fit()

    said = head.observe([[0.8, 0.6]]).probability[0]

    assert said[0] == pytest.approx(np.exp(0.8) / (np.exp(0.8) + np.exp(0.6)), abs=1e-6)


def test_a_full_class_gives_up_its_least_sure_slot():
    """Three pictures of the crow for two slots: the second is least sure."""
    head = named(memory_length=2, scale=1.0).fit()

    said = head.observe([[1.0, 0.2], [1.0, 0.5], [1.0, 0.1], [1.0, 0.9]])

    assert said.slots.tolist() == [0, 1, 1, -1]
    assert head.slot_ids().ids[0].tolist() == [said.ids[0], said.ids[2]]


def test_observed_pictures_change_later_answers():
    """Or there would be no point."""
    head = named(weights=(0.0, 1.0, 0.0), scale=10.0).fit()
    before = head.predict_proba([[1.0, 0.8]])[0, 0]

    head.observe([[1.0, 0.7], [1.0, 0.75]])

    assert head.predict_proba([[1.0, 0.8]])[0, 0] > before + 0.01


def test_unsure_pictures_are_not_written_below_the_threshold():
    """A picture half way between two names says nothing about either."""
    head = named(threshold=0.5).fit()

    assert head.observe([[1.0, 1.0], EAST]).slots.tolist() == [-1, 0]


def test_what_an_unsure_picture_resembles_loses_for_all_that_it_might_be():
    """Crow 0.89, owl 0.11, jay 0.001: unsure, and only the jay is ruled out."""
    text, names, asked = [EAST, NORTH, WEST], ["crow", "owl", "jay"], [[0.7, 0.3]]
    options = {"scale": 4.0, "threshold": 0.0, "weights": (0.0, 1.0, 0.0)}
    doubting = DualMemoryClassifier(text, names, negative=3.0, **options).fit()
    plain = DualMemoryClassifier(text, names, **options).fit()
    doubting.observe(asked)

    change = np.log(doubting.predict_proba(asked) / plain.predict_proba(asked))[0]

    crow, jay, owl = change.tolist()
    assert crow == pytest.approx(owl, abs=1e-6)
    assert jay - crow == pytest.approx(3.0, abs=1e-5)


def test_a_slot_that_ages_gives_way_to_a_later_picture():
    """Without decay the first picture, which is surer, would stay for ever."""
    still, ageing = (named(memory_length=1, scale=1.0, decay=d).fit() for d in (0.0, 1.0))

    assert still.observe([EAST, [1.0, 0.2]]).slots.tolist() == [0, -1]
    assert ageing.observe([EAST, [1.0, 0.2]]).slots.tolist() == [0, 0]


def test_views_label_a_picture_but_the_picture_itself_is_written():
    """Two of the three views lie in the north, and the surest is kept."""
    head = named(scale=10.0, view_fraction=0.4).fit()

    said = head.observe([[1.0, 0.9]], views=[[[1.0, 0.9], NORTH, NEAR_NORTH]])

    assert said.pseudo_labels.tolist() == ["owl"]
    held = head.slot_ids().ids[1, 0]
    assert head.memory_.rows([held]).keys.tolist() == [[1.0, np.float32(0.9)]]


def test_one_view_is_kept_where_the_fraction_rounds_down_to_none():
    """The published code would label the picture NaN."""
    assert named().fit().observe([EAST], views=[[EAST]]).pseudo_labels.tolist() == ["crow"]


def test_an_observation_is_its_labels_as_an_array():
    """So that it can be compared with predict."""
    assert np.asarray(named().observe([EAST, NORTH])).tolist() == ["crow", "owl"]


# -- forgetting --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "robust"}, {"decay": 0.01}, {"trust": 1.0}, {"negative": 5.0, "scale": 4.0}],
)
def test_a_forgotten_picture_was_never_observed(options, pictures):
    """A picture that it had displaced comes back."""
    options = {"memory_length": 2, **options}
    head = named(**options).fit([NEAR_EAST], ["crow"])
    other = named(**options).fit([NEAR_EAST], ["crow"])

    said = head.observe(pictures)
    head.forget(said.ids[[1, 4, 5]])
    other.observe(np.delete(pictures, [1, 4, 5], axis=0))

    assert same_answers(head, other, pictures)


@pytest.mark.parametrize("mode", ["published", "robust"])
def test_a_forgotten_shot_was_never_taught(mode, pictures):
    """Pictures that were labelled with its help are labelled anew."""
    head = named(mode=mode).fit([NEAR_NORTH, [0.7, 0.7]], ["owl", "crow"])
    other = named(mode=mode).fit([NEAR_NORTH], ["owl"])
    head.observe(pictures)
    other.observe(pictures)

    head.forget(head.ids_[1:])

    assert same_answers(head, other, pictures)


def test_the_views_of_a_forgotten_picture_go_with_it():
    """They show the same person."""
    head = named(view_fraction=1.0).fit()
    rows = len(head.memory_)
    said = head.observe([EAST], views=[[EAST, NEAR_EAST]])

    head.forget(said.ids)

    assert len(head.memory_) == rows


def test_reset_leaves_names_and_shots(pictures):
    """A new day begins."""
    head = named().fit([NEAR_EAST], ["crow"])
    before = head.predict_proba(pictures)
    head.observe(pictures)

    assert np.array_equal(head.reset().predict_proba(pictures), before)
    assert head.reset().observed_ids_.tolist() == []


def test_an_id_that_is_not_there_leaves_everything_as_it_was(pictures):
    """One call, all or nothing."""
    head = named().fit()
    said = head.observe(pictures)

    with pytest.raises(errors.UnknownIds):
        head.forget([said.ids[0], 999])

    assert head.observed_ids_.tolist() == said.ids.tolist()


def test_a_name_is_taken_out_as_a_class_not_as_a_row():
    """Shots without a name would be left behind."""
    head = named().fit()

    with pytest.raises(errors.InvalidParameter, match="names are not forgotten"):
        head.forget([0])


def test_an_erased_picture_is_out_of_the_answers_too(pictures):
    """Whoever changes the rows, the answers follow."""
    head, other = named(memory_length=2).fit(), named(memory_length=2).fit()
    said = head.observe(pictures)

    head.memory_.erase(said.ids[:1])
    other.observe(pictures[1:])

    assert same_answers(head, other, pictures)


# -- classes -----------------------------------------------------------------------------------


def test_a_class_added_later_is_as_if_it_had_been_there_from_the_start(pictures):
    """Pictures observed before may be taken for it."""
    head = named().fit()
    head.observe(pictures)
    other = DualMemoryClassifier([EAST, NORTH, [1.0, 1.0]], ["crow", "owl", "jay"]).fit()
    other.observe(pictures)

    head.add_class("jay", [1.0, 1.0])

    assert head.classes_.tolist() == ["crow", "jay", "owl"]
    assert same_answers(head, other, pictures)


def test_a_class_taken_out_was_never_there(pictures):
    """Its shots go with its name."""
    head = DualMemoryClassifier([EAST, NORTH, [1.0, 1.0]], ["crow", "owl", "jay"])
    head.fit([[0.6, 0.7]], ["jay"]).observe(pictures)
    other = named().fit()
    other.observe(pictures)

    assert same_answers(head.remove_class("jay"), other, pictures)


def test_the_last_class_and_an_unknown_one_cannot_be_taken_out():
    """A classifier has at least one answer."""
    head = DualMemoryClassifier([EAST], ["crow"]).fit()

    with pytest.raises(errors.InvalidLabel):
        head.remove_class("crow")
    with pytest.raises(errors.InvalidLabel):
        head.remove_class("dodo")


# -- durability --------------------------------------------------------------------------------


def test_names_shots_and_stream_are_there_when_opened_again(tmp_path, pictures):
    """All of it lies in rows."""
    head = named(memory=tmp_path / "birds").fit([NEAR_EAST], ["crow"])
    said = head.observe(pictures)
    answers = head.predict_proba(pictures)
    head.memory_.close()

    again = DualMemoryClassifier(memory=tmp_path / "birds")

    assert np.array_equal(again.predict_proba(pictures), answers)
    assert again.observed_ids_.tolist() == said.ids.tolist()


def test_a_copy_that_travelled_answers_the_same(pictures):
    """Worker processes get plain arrays."""
    head = named().fit([NEAR_EAST], ["crow"])
    head.observe(pictures)

    assert same_answers(pickle.loads(pickle.dumps(head)), head, pictures)  # noqa: S301


def test_a_clone_has_the_settings_and_none_of_the_rows():
    """As in every estimator."""
    head = named(mode="robust").fit([NEAR_EAST], ["crow"])

    assert clone(head).fit().ids_.tolist() == []
    assert clone(head).mode == "robust"


def test_the_memory_of_another_head_is_read_as_shots():
    """Any memory of labels will do."""
    memory = Memory.create(":memory:", dim=2)
    MemoryClassifier(memory=memory).fit([EAST, NORTH], ["crow", "owl"])

    head = named(memory=memory)

    assert head.ids_.tolist() == [0, 1]
    assert head.observe([NEAR_EAST]).labels.tolist() == ["crow"]


def test_other_text_features_than_those_in_the_memory_are_refused(tmp_path):
    """Answers would mix two spaces."""
    named(memory=tmp_path / "birds").fit().memory_.close()
    other = DualMemoryClassifier([NORTH, EAST], ["crow", "owl"], memory=tmp_path / "birds")

    with pytest.raises(errors.InvalidParameter, match="other text features"):
        other.predict([EAST])


# -- learned offsets ---------------------------------------------------------------------------


def test_offsets_are_learned_from_the_shots_and_forgotten_with_them():
    """They are a function of the shots, not a second memory."""
    pytest.importorskip("torch")
    shots, labels = [NEAR_EAST, NEAR_NORTH, [0.7, 0.9]], ["crow", "owl", "crow"]
    head = named(offsets=Training(epochs=3, rate=0.01)).fit(shots, labels)
    other = named(offsets=Training(epochs=3, rate=0.01)).fit(shots[:2], labels[:2])
    assert not same_answers(head, other, [[1.0, 1.0]])

    head.forget(head.ids_[2:])

    assert same_answers(head, other, [[1.0, 1.0]])


def test_offsets_for_other_classes_are_refused():
    """Rows of offsets belong to classes."""
    pytest.importorskip("torch")
    learned = named(offsets=Training(epochs=1)).fit([NEAR_EAST], ["crow"]).offsets_

    with pytest.raises(errors.DimensionMismatch, match="other classes"):
        DualMemoryClassifier([EAST], ["crow"], offsets=learned).predict([EAST])


# -- explanations ------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["fixed", "count", "entropy", "logits"])
def test_contributions_add_up_to_the_score(fusion, pictures):
    """Name, shot and observed pictures share the probability of the answer."""
    head = named(fusion=fusion, scale=5.0).fit([NEAR_EAST], ["crow"])
    head.observe(pictures)

    why = head.explain(pictures[:1])[0]

    assert sum(row.contribution for row in why.evidence) == pytest.approx(why.score, abs=1e-12)
    assert why.score == head.predict_proba(pictures[:1]).max()


def test_the_pictures_behind_an_answer_are_named():
    """These past pictures support it."""
    head = named().fit()
    said = head.observe([[1.0, 0.3]])

    rows = head.explain([[1.0, 0.29]])[0].evidence

    assert [(row.id, row.metadata["part"]) for row in rows] == [(said.ids[0], "seen"), (0, "text")]


def test_what_resembles_no_class_is_novel():
    """The softmax would be sure of one all the same."""
    head = named().fit()

    assert head.novelty([EAST, WEST]).tolist() == [0.0, 1.0]
