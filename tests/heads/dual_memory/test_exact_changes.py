"""Whatever changes, answers are those of a classifier that was only ever given what is left."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

from recollect import DualMemoryClassifier, Memory, MemoryClassifier, errors
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.training import Training
from recollect.readout.attention import mapped, unit

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
THIRD = 1 / 3


def named(**options):
    return DualMemoryClassifier([EAST, NORTH], ["crow", "owl"], **options)


@pytest.fixture
def stream():
    """Six pictures with three views each, in no order."""
    random = np.random.default_rng(3)
    views = random.normal(size=(6, 3, 2))
    return views[:, 0], views


def offsets(classes):
    nothing = np.zeros((classes, 2))
    return Offsets(nothing, nothing, nothing, nothing, nothing, "all")


# -- views -------------------------------------------------------------------------------------


def test_views_are_chosen_anew_when_a_class_comes(stream):
    """Which views are sure depends on the classes there are."""
    pictures, views = stream
    options = {"scale": 3.0, "view_fraction": THIRD}
    late = named(**options).fit()
    late.observe(pictures, views=views)
    late.add_class("jay", WEST)
    early = DualMemoryClassifier([EAST, NORTH, WEST], ["crow", "owl", "jay"], **options).fit()
    early.observe(pictures, views=views)

    assert np.array_equal(late.predict_proba(pictures), early.predict_proba(pictures))
    assert np.array_equal(late.slot_ids().entropy, early.slot_ids().entropy, equal_nan=True)


def test_views_are_chosen_anew_when_a_class_goes(stream):
    """As if it had never been there."""
    pictures, views = stream
    options = {"scale": 3.0, "view_fraction": THIRD}
    three = DualMemoryClassifier([EAST, NORTH, WEST], ["crow", "owl", "jay"], **options).fit()
    three.observe(pictures, views=views)
    three.remove_class("jay")
    two = named(**options).fit()
    two.observe(pictures, views=views)

    assert np.array_equal(three.predict_proba(pictures), two.predict_proba(pictures))
    assert np.array_equal(three.slot_ids().entropy, two.slot_ids().entropy, equal_nan=True)


def test_views_are_chosen_anew_when_a_shot_goes(stream):
    """Without names the shots say which views are sure."""
    pictures, views = stream
    shots, labels = [EAST, NORTH, [-1.0, 0.4]], ["crow", "owl", "owl"]
    head = DualMemoryClassifier(scale=3.0, view_fraction=THIRD).fit(shots, labels)
    head.observe(pictures, views=views)
    head.forget(head.ids_[2:])
    other = DualMemoryClassifier(scale=3.0, view_fraction=THIRD).fit(shots[:2], labels[:2])
    other.observe(pictures, views=views)

    assert np.array_equal(head.predict_proba(pictures), other.predict_proba(pictures))


def test_what_shows_a_picture_can_be_erased_with_its_views(stream):
    """An erased person may not live on in a view."""
    pictures, views = stream
    head = named().fit()
    said = head.observe(pictures, views=views)

    rows = head.rows_of(said.ids[:1])
    head.memory_.erase(rows)

    assert len(rows) == 1 + 3
    assert head.observed_ids_.tolist() == said.ids[1:].tolist()
    assert len(head.memory_) == 2 + 5 * 4


# -- nothing left ------------------------------------------------------------------------------


def test_pictures_wait_while_there_is_no_class(stream):
    """All shots gone and no names: a clear answer, and shots bring everything back."""
    pictures, views = stream
    shots, labels = [EAST, NORTH], ["crow", "owl"]
    head = DualMemoryClassifier().fit(shots, labels)
    said = head.observe(pictures, views=views)

    head.forget(head.ids_)

    assert head.classes_.tolist() == []
    assert head.observed_ids_.tolist() == said.ids.tolist()
    rows = len(head.memory_)
    for ask in (head.predict, head.observe, head.explain, head.novelty):
        with pytest.raises(errors.EmptyMemory, match="no class is left"):
            ask(pictures)
    assert len(head.memory_) == rows

    head.forget(said.ids[:2])
    head.partial_fit(shots, labels)
    fresh = DualMemoryClassifier().fit(shots, labels)
    fresh.observe(pictures[2:], views=views[2:])
    assert np.array_equal(head.predict_proba(pictures), fresh.predict_proba(pictures))


def test_a_class_that_has_only_a_given_name_can_be_taken_out():
    """The memory held shots alone; the names were given beside it."""
    memory = Memory.create(":memory:", dim=2)
    MemoryClassifier(memory=memory).fit([EAST, NORTH], ["crow", "owl"])
    head = named(memory=memory)

    head.remove_class("owl")

    assert head.classes_.tolist() == ["crow"]


# -- given offsets -----------------------------------------------------------------------------


def test_classes_that_given_offsets_do_not_know_are_not_written():
    """The offsets belong to two classes; a third, or only one, has none."""
    head = named(offsets=offsets(2)).fit([EAST], ["crow"])
    rows, said = len(head.memory_), head.predict_proba([EAST])

    with pytest.raises(errors.DimensionMismatch, match="other classes"):
        head.add_class("jay", WEST)
    with pytest.raises(errors.DimensionMismatch, match="other classes"):
        head.remove_class("owl")

    assert len(head.memory_) == rows
    assert np.array_equal(head.predict_proba([EAST]), said)


def test_shots_that_given_offsets_do_not_know_are_not_taught():
    """Neither by fit nor by partial_fit, and the last shot of a class without a name stays."""
    wrong = DualMemoryClassifier(offsets=offsets(3))
    with pytest.raises(errors.DimensionMismatch, match="other classes"):
        wrong.fit([EAST, NORTH], ["crow", "owl"])
    assert not hasattr(wrong, "memory_")

    head = DualMemoryClassifier(offsets=offsets(2)).fit([EAST, NORTH], ["crow", "owl"])
    with pytest.raises(errors.DimensionMismatch, match="other classes"):
        head.partial_fit([WEST], ["jay"])
    with pytest.raises(errors.DimensionMismatch, match="other classes"):
        head.forget(head.ids_[:1])
    assert head.ids_.tolist() == [0, 1]


def test_training_of_nothing_is_refused_when_it_is_made():
    """And not after the shots were written."""
    with pytest.raises(errors.InvalidParameter, match="nothing to train"):
        Training("none")


def test_a_class_that_cannot_be_added_writes_no_names_either():
    """Names are written by the first call that writes, and a refused call does not."""
    memory = Memory.create(":memory:", dim=2)
    head = named(memory=memory)
    for name, vector in (("crow", WEST), ("jay", [np.nan, 0.0]), ("jay", [1.0] * 3), (7, WEST)):
        with pytest.raises(errors.InputError):
            head.add_class(name, vector)

    assert memory.version == 0


def test_pictures_of_another_width_write_no_names_either():
    """The first observe writes the names, unless it is refused."""
    memory = Memory.create(":memory:", dim=2)

    with pytest.raises(errors.DimensionMismatch):
        named(memory=memory).observe([[1.0, 0.0, 0.0]])

    assert memory.version == 0


# -- names over a memory -----------------------------------------------------------------------


def test_names_that_the_memory_does_not_hold_are_refused(tmp_path):
    """Answers in the memory's names would pass for answers in the given ones."""
    with named(memory=tmp_path / "m").fit().memory_:
        pass
    other = DualMemoryClassifier([EAST, NORTH], ["jay", "kite"], memory=tmp_path / "m")

    for verb in (other.predict, other.observe):
        with pytest.raises(errors.InvalidLabel, match="holds other names"):
            verb([EAST])


def test_names_added_or_taken_out_since_need_not_be_given(tmp_path):
    """This estimator agreed with its memory once; what it changed was meant."""
    head = named(memory=tmp_path / "m").fit()
    head.add_class("jay", WEST)
    head.remove_class("owl")
    head.add_class("owl", [0.1, 1.0])
    assert head.predict([WEST]).tolist() == ["jay"]
    assert pickle.loads(pickle.dumps(head)).predict([WEST]).tolist() == ["jay"]  # noqa: S301
    head.memory_.close()

    again = DualMemoryClassifier([EAST], ["crow"], memory=tmp_path / "m")

    assert again.classes_.tolist() == ["crow", "jay", "owl"]


# -- ids ---------------------------------------------------------------------------------------


def test_names_never_take_an_id_that_was_used_before(tmp_path):
    """Rows 10 to 13 were shots and names once; who gives 8 and 9 has not given 10."""
    head = named(memory=tmp_path / "m").fit([EAST, NORTH], ["crow", "owl"], ids=[10, 11])

    head.fit([EAST, NORTH], ["crow", "owl"], ids=[8, 9])

    assert head.ids_.tolist() == [8, 9]
    assert head.memory_.ids.tolist() == [8, 9, 14, 15]


def test_ids_that_leave_none_for_the_names_are_refused():
    """The names are counted up behind all ids."""
    with pytest.raises(errors.InvalidParameter, match="no ids left"):
        named().fit([EAST], ["crow"], ids=[np.iinfo(np.int64).max])


# -- others at work ----------------------------------------------------------------------------


def test_a_write_between_our_own_and_its_stamp_is_seen(monkeypatch):
    """Another thread teaches the same memory while this one observes."""
    head = named(mode="robust").fit([EAST], ["crow"])
    memory, add = head.memory_, head.memory_.add

    def slow(*args, **kwargs):
        ids = add(*args, **kwargs)
        add([[0.9, 0.8]], ["owl"], metadata={"part": "shot"})
        return ids

    monkeypatch.setattr(memory, "add", slow)
    head.observe([[1.0, 0.7]])
    monkeypatch.undo()

    fresh = DualMemoryClassifier(memory=memory, mode="robust")
    assert len(head.ids_) == 2
    assert np.array_equal(head.predict_proba([[1.0, 1.0]]), fresh.predict_proba([[1.0, 1.0]]))


def test_answers_beside_a_writer_are_those_of_one_moment():
    """Labels and probabilities of different moments would name classes that nobody meant."""
    head = DualMemoryClassifier({"b": NORTH}).fit()
    failures = []

    def ask():
        try:
            for _ in range(60):
                said = head.observe([NORTH, WEST])
                assert set(said.labels[:1].tolist()) == {"b"}
                assert head.predict([NORTH]).tolist() == ["b"]
        except BaseException as error:  # noqa: BLE001 - reported by the main thread
            failures.append(error)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for each in asking:
        each.start()
    for _ in range(30):
        head.add_class("a", WEST)
        head.remove_class("a")
    for each in asking:
        each.join()

    assert failures == []


def test_a_row_taken_out_while_it_is_explained_is_left_out(monkeypatch):
    """Another process was quicker: the answer is that of the rows that are left."""
    head = named().fit([EAST, [0.9, 0.1]], ["crow", "crow"])
    memory, rows = head.memory_, head.memory_.rows
    said = []

    def late(ids=None, where=None):
        if not said:
            said.append(memory.remove(head.ids_[1:]))
        return rows(ids, where)

    monkeypatch.setattr(memory, "rows", late)

    why = head.explain([EAST])[0]

    assert sorted(row.id for row in why.evidence) == [0, 2]


def test_a_copy_has_a_lock_of_its_own():
    """Locks cannot be copied, estimators can."""
    head = named().fit()
    head.predict([EAST])

    assert copy.deepcopy(head).predict([EAST]).tolist() == ["crow"]


# -- findings of a fresh reading -----------------------------------------------------------------


def stream_of(seed, classes, dim, pictures):
    """Text vectors, and pictures that scatter about them."""
    random = np.random.default_rng(seed)
    text = random.normal(size=(classes, dim))
    return text, text[random.integers(classes, size=pictures)] + random.normal(size=(pictures, dim))


@pytest.mark.parametrize(("classes", "dim", "pictures"), [(3, 8, 60), (4, 24, 120), (10, 64, 100)])
@pytest.mark.parametrize("options", [{}, {"trust": 1.0}, {"fusion": "logits"}])
def test_a_long_batch_is_observed_as_one_by_one_while_classes_grow_apart(
    classes, dim, pictures, options
):
    """Empty slots behind the last, of which a fuller class brings more, change no sum."""
    text, stream = stream_of(0, classes, dim, pictures)
    one_by_one = DualMemoryClassifier(text, **options).fit()

    at_once = DualMemoryClassifier(text, **options).fit().observe(stream).probability

    alone = [one_by_one.observe(picture[None]).probability for picture in stream]
    assert np.array_equal(at_once, np.concatenate(alone))


def test_two_estimators_over_one_memory_never_mix_their_pictures(monkeypatch):
    """One observes while the other is between its label and its write."""
    ours = named().fit()
    memory, add = ours.memory_, ours.memory_.add
    theirs = DualMemoryClassifier(memory=memory)
    views = np.random.default_rng(1).normal(size=(2, 1, 3, 2))

    def slow(*args, **kwargs):
        monkeypatch.undo()
        theirs.observe(views[1][:, 0], views=views[1])
        return add(*args, **kwargs)

    monkeypatch.setattr(memory, "add", slow)
    said = ours.observe(views[0][:, 0], views=views[0])

    serials = memory.rows(where="part = 'seen'").metadata["serial"]
    assert serials == memory.rows(where="part = 'seen'").ids.tolist()
    own = memory.rows(ours.rows_of(said.ids)).keys
    assert np.array_equal(own[1:], views[0][0].astype(np.float32))
    ours.forget(said.ids)
    assert memory.rows().metadata["part"] == ["text", "text", "seen", "view", "view", "view"]


def test_a_linear_map_gives_a_vector_the_same_bits_alone_and_in_a_batch():
    """A matrix product of one row adds in another order than that of many."""
    random = np.random.default_rng(0)
    vectors, matrix = unit(random.normal(size=(500, 64))), random.normal(size=(64, 64))

    together = mapped(vectors, matrix)

    alone = np.concatenate([mapped(each[None], matrix) for each in vectors])
    assert np.array_equal(together, alone)
    np.testing.assert_allclose(together, vectors.astype(float) @ matrix, atol=1e-5)


def test_a_view_is_not_forgotten_without_its_picture():
    """Otherwise the picture would be labelled by the views that happen to be left."""
    head = named().fit()
    views = np.random.default_rng(1).normal(size=(1, 3, 2))
    said = head.observe(views[:, 0], views=views)
    view = head.rows_of(said.ids)[1:2]

    with pytest.raises(errors.InvalidParameter, match="a view"):
        head.forget(view)

    assert len(head.rows_of(said.ids)) == 4


def test_shots_that_others_taught_are_listed_behind_our_own():
    """Whoever wants to forget them needs to know them."""
    head = named().fit([EAST], ["crow"])

    other = head.memory_.add([NORTH], ["owl"])

    assert head.ids_.tolist() == [2, *other.tolist()]
