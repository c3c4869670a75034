"""Competition, fusion, tuning, names, offsets and views, each by itself."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import DualMemoryClassifier, errors
from recollect.encoders import from_name
from recollect.heads.dual_memory.augmentation import augmented
from recollect.heads.dual_memory.competition import Slots
from recollect.heads.dual_memory.fusion import Members, fuse, member_weights
from recollect.heads.dual_memory.names import embed_names, sentences
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.training import Training
from recollect.heads.dual_memory.tuning import score_weights

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]
EVEN, SURE = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])


# -- competition -------------------------------------------------------------------------------


def test_of_equally_unsure_slots_the_first_gives_way():
    """The published code leaves it to an unstable sort."""
    slots = Slots(1, 2)

    assert [slots.offer(0, each, row) for row, each in enumerate([0.7, 0.7, 0.1])] == [0, 1, 0]


def test_a_picture_that_is_only_as_sure_is_discarded():
    """What is there stays."""
    slots = Slots(1, 1)

    assert [slots.offer(0, 0.3, row) for row in range(2)] == [0, -1]


# -- fusion ------------------------------------------------------------------------------------


def weights_of(members, fusion, weights=(1.0, 1.0, 1.0), counts=(2.0, 4.0)):
    return member_weights(members, weights, fusion, counts=counts, anchor=2.0)[:, 0].tolist()


def test_fixed_weights_are_shares_of_their_sum():
    """Without static memory its weight does not count."""
    assert weights_of(Members(EVEN, SURE, None), "fixed", (1.0, 3.0, 9.0)) == [0.25, 0.75, 0.0]


def test_by_count_members_weigh_as_the_pictures_they_hold():
    """A name is worth two pictures; the dynamic memory holds 2 + 4, the static one 4."""
    shares = weights_of(Members(EVEN, SURE, EVEN), "count")

    assert shares == pytest.approx([2 / 12, 6 / 12, 4 / 12])


def test_by_entropy_a_member_that_knows_nothing_has_no_say():
    """The entropy of an even answer is log 2, the largest there is."""
    shares = weights_of(Members(EVEN, SURE, None), "entropy")

    assert shares == pytest.approx([0.0, 1.0, 0.0], abs=2e-6)


def test_where_the_only_weight_is_that_of_an_absent_member_the_others_answer():
    """Weights are set before it is known who will be there."""
    assert weights_of(Members(EVEN, SURE, None), "fixed", (0, 0, 1)) == [0.5, 0.5, 0.0]


def test_adding_logits_multiplies_probabilities():
    """0.8 : 0.2 and 0.5 : 0.5 at equal shares: the square root of 4 : 1."""
    members = Members(np.array([[0.8, 0.2]]), EVEN, None)

    fused = fuse(members, np.array([[0.5], [0.5], [0.0]]), logarithms=True)

    assert fused[0].tolist() == pytest.approx([2 / 3, 1 / 3])


# -- tuning ------------------------------------------------------------------------------------


def test_the_weight_of_a_member_that_is_right_is_raised_until_it_decides():
    """The text is wrong and sure; both memories are right and say the same."""
    right = np.array([[0.6, 0.4]])
    report = score_weights(Members(np.array([[0.0, 1.0]]), right, right), np.array([0]))

    assert report.best.accuracy == 1.0
    assert report.best.weights[1] == report.best.weights[2] > 1


def test_of_equally_good_weights_the_even_ones_are_kept():
    """All are right, so nothing speaks against (1, 1, 1)."""
    report = score_weights(Members(SURE, SURE, SURE), np.array([0]))

    assert report.best.weights == (1.0, 1.0, 1.0)


def test_tuning_on_the_shots_sets_the_weights():
    """Names stand for each other, so the memories must outweigh them."""
    head = DualMemoryClassifier([NORTH, EAST], ["east", "north"], mode="robust", beta=20.0)
    shots = [EAST, [1.0, 0.1], [1.0, 0.2], NORTH, [0.1, 1.0], [0.2, 1.0]]
    head.fit(shots, ["east"] * 3 + ["north"] * 3)

    report = head.tune()

    assert (report.source, report.pictures) == ("shots", 6)
    assert report.chosen.accuracy == report.best.accuracy > 0.5
    assert head.weights == report.chosen.weights == (1.0, 3.0, 3.0)


def test_an_honest_choice_keeps_even_weights_that_few_pictures_do_not_speak_against():
    """Of four pictures one more is right without the text: 0.25, and its standard error is 0.25.

    Of two of four, 0.5 is more than its error of 0.29.
    """
    wrong, right = [0.0, 1.0], [0.6, 0.4]
    both = np.array([right] * 4)
    for mistakes, even in ((1, True), (2, False)):
        text = np.array([wrong] * mistakes + [right] * (4 - mistakes))
        report = score_weights(Members(text, both, both), np.zeros(4, int))
        gap = next(each for each in report.settings if each.weights == (1.0, 1.0, 1.0))
        assert gap.behind == mistakes / 4
        assert (report.chosen.weights == (1.0, 1.0, 1.0)) is even


def test_an_oracle_is_labelled_as_one():
    """Every report says where its weights come from."""
    head = DualMemoryClassifier([EAST, NORTH], ["east", "north"]).fit()

    assert head.tune([EAST], ["east"], oracle=True).source == "oracle"
    assert head.tune([EAST], ["east"]).source == "given"


def test_what_was_observed_takes_part_in_the_tuning():
    """Dynamic and static memory differ then, so that each gets a weight of its own."""
    shots = [EAST, [1.0, 0.1], NORTH, [0.1, 1.0]]
    head = DualMemoryClassifier([EAST, NORTH], ["e", "n"], scale=5.0).fit(shots, list("eenn"))
    before = head.left_out()[0]

    head.observe([[1.0, 0.9], [0.8, 1.0]])

    after = head.left_out()[0]
    assert np.array_equal(before.dynamic, before.static)
    assert not np.array_equal(after.dynamic, after.static)
    assert np.array_equal(after.static, before.static)


def test_tuning_writes_nothing():
    """It asks."""
    head = DualMemoryClassifier([EAST, NORTH], ["east", "north"]).fit([EAST, EAST], ["east"] * 2)
    version = head.memory_.version

    head.tune()

    assert head.memory_.version == version


# -- names -------------------------------------------------------------------------------------


def test_sentences_of_ones_own_are_used_as_they_are():
    """A mapping from names to sentences."""
    assert sentences("crow", {"crow": ["a black bird"]}) == ["a black bird"]


def test_a_class_without_sentences_is_refused():
    """Where every other class has some."""
    with pytest.raises(errors.InvalidParameter, match="no sentence"):
        sentences("owl", {"crow": ["a black bird"]})


def test_each_sentence_counts_the_same_whatever_its_length():
    """Vectors are scaled to length 1 before they are averaged, and again afterwards."""
    encoder = from_name("hashing-text?dim=64")

    both = embed_names(["crow"], ["a {}", "the {}"], encoder)[0].astype(float)
    each = [embed_names(["crow"], way, encoder)[0].astype(float) for way in ("a {}", "the {}")]

    middle = (each[0] + each[1]) / np.linalg.norm(each[0] + each[1])
    np.testing.assert_allclose(both, middle, atol=1e-6)


def test_an_encoder_of_pictures_encodes_no_names():
    """The kind of mistake that would only show in the answers."""
    with pytest.raises(errors.InvalidParameter, match="encoder of texts"):
        embed_names(["crow"], None, from_name("pixels"))


def test_text_of_another_width_than_the_picture_encoder_is_refused():
    """Before anything is encoded."""
    head = DualMemoryClassifier(
        class_names=["crow"], encoder=from_name("pixels"), text_encoder=from_name("hashing-text")
    )

    with pytest.raises(errors.EncoderMismatch, match="one space"):
        head.fit()


# -- offsets -----------------------------------------------------------------------------------


@pytest.fixture
def offsets():
    return Offsets(*np.arange(20.0).reshape(5, 2, 2), "qkv", {"key": 2 * np.eye(2)})


def test_offsets_come_back_from_their_file(offsets, tmp_path):
    """Plain arrays."""
    offsets.save(tmp_path / "offsets.npz")

    again = Offsets.load(tmp_path / "offsets.npz")

    assert again.position == "qkv"
    assert np.array_equal(again.value, offsets.value)
    assert np.array_equal(again.maps["key"], 2 * np.eye(2))


def test_a_file_of_something_else_holds_no_offsets(tmp_path):
    """One error, whatever is in it."""
    (tmp_path / "other.npz").write_bytes(b"PK\x03\x04 not quite")

    with pytest.raises(errors.CorruptMemory, match="no offsets"):
        Offsets.load(tmp_path / "other.npz")


def test_the_query_is_moved_by_the_mean_of_its_offsets(offsets):
    """They are stored for each class, but only their mean acts."""
    assert offsets.moved("query", np.zeros((1, 2))).tolist() == [[1.0, 2.0]]


def test_a_key_is_moved_by_map_and_offset(offsets):
    """x + 2 x + b."""
    moved = offsets.moved("key", np.ones((2, 1, 2)))

    assert moved.tolist() == [[[7.0, 8.0]], [[9.0, 10.0]]]


def test_offsets_that_do_not_act_move_nothing(offsets):
    """Output and text take no part at "qkv"."""
    assert offsets.moved("text", np.ones((2, 2))).tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    "change", [{"position": "left"}, {"key": np.zeros((3, 2))}, {"maps": {"text": np.eye(2)}},
               {"value": np.full((2, 2), np.nan)}],
    ids=str,
)  # fmt: skip
def test_offsets_that_cannot_be_used_are_refused(change):
    """When they are made."""
    zero = np.zeros((2, 2))
    given = dict.fromkeys(("query", "key", "value", "output", "text"), zero)

    with pytest.raises(errors.InputError):
        Offsets(**given | change)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch": 0}, {"rate": -1.0},
                                     {"precision": "int8"}])  # fmt: skip
def test_training_out_of_range_is_refused(options):
    """When it is described, not after the first epoch."""
    with pytest.raises(errors.InvalidParameter):
        Training(**options)


@pytest.mark.parametrize(
    "options",
    [{"leave_one_out": True}, {"affine": True}, {"tied": True}, {"position": "qkv"},
     {"precision": "float32"}],
    ids=str,
)  # fmt: skip
def test_every_way_to_learn_lowers_the_loss_on_its_shots(options):
    """Names say the opposite of the shots, so there is something to learn."""
    pytest.importorskip("torch")
    shots, labels = [EAST, [1.0, 0.1], NORTH, [0.1, 1.0]], ["e", "e", "n", "n"]
    options = {"epochs": 40, "rate": 0.05, **options}
    settings = {"weights": (0.0, 0.0, 1.0), "scale": 3.0, "beta": 1.0}
    plain = DualMemoryClassifier([NORTH, EAST], ["e", "n"], **settings).fit(shots, labels)
    learned = DualMemoryClassifier(
        [NORTH, EAST], ["e", "n"], offsets=Training(**options), **settings
    ).fit(shots, labels)

    asked = [[1.0, 0.3]]
    assert learned.predict_proba(asked)[0, 0] > plain.predict_proba(asked)[0, 0] + 0.01


# -- views -------------------------------------------------------------------------------------


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("style", ["crop", "augmix"])
def test_views_have_the_size_of_the_picture_and_differ(style, photo):
    """A crop is enlarged again."""
    views = augmented([photo], 3, style=style, seed=0)

    assert [view.shape for view in views] == [(24, 32, 3)] * 3
    assert len({view.tobytes() for view in views}) == 3


def test_a_picture_has_the_same_views_alone_and_in_any_batch(photo):
    """Chance depends on the picture and the seed."""
    alone = augmented([photo], 2, style="augmix", seed=5)
    together = augmented([255 - photo, photo], 2, style="augmix", seed=5)

    assert [view.tobytes() for view in alone] == [view.tobytes() for view in together[2:]]


def test_views_of_a_picture_are_encoded_and_kept_with_it(photo):
    """With an encoder of pictures nothing has to be prepared by hand."""
    encoder = from_name("pixels?size=8")
    text = encoder.encode([photo, 255 - photo])
    head = DualMemoryClassifier(
        text, ["it", "other"], encoder=encoder, views=6, view_fraction=0.5, augmentation="crop"
    ).fit()

    said = head.observe([photo])

    assert said.labels.tolist() == ["it"]
    assert head.memory_.rows(where="part = 'view'").metadata["serial"] == [said.ids[0]] * 6


# -- CLIP --------------------------------------------------------------------------------------


def test_names_are_encoded_by_the_text_side_of_an_image_encoder_of_clip(photo, tmp_path):
    """A tiny random CLIP: real code from the names to the answer."""
    pytest.importorskip("transformers")
    from encoders.tiny_models import clip

    from recollect.encoders import HuggingFaceEncoder

    folder = clip(tmp_path / "clip")
    head = DualMemoryClassifier(
        class_names=["car", "tree"], prompts="a photo of a {}", encoder=HuggingFaceEncoder(folder)
    )

    said = head.observe([photo])

    text = HuggingFaceEncoder(folder, modality="text").encode(
        ["a photo of a car", "a photo of a tree"]
    )
    picture = HuggingFaceEncoder(folder).encode([photo])
    cosine = (text @ picture.T)[:, 0] / np.linalg.norm(text, axis=1)
    assert said.labels.tolist() == [["car", "tree"][int(cosine.argmax())]]


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_offsets_are_learned_where_others_ask_without_gradients(mode):
    """A service that answers under torch.no_grad() may be taught there too."""
    torch = pytest.importorskip("torch")
    how = Training(epochs=2, rate=1e-2)
    shots, labels = [[1.0, 0.3], [0.2, 1.0]], ["crow", "owl"]
    usual = DualMemoryClassifier([EAST, NORTH], ["crow", "owl"], offsets=how).fit(shots, labels)

    with getattr(torch, mode)():
        other = DualMemoryClassifier([EAST, NORTH], ["crow", "owl"], offsets=how)
        other.fit(shots, labels)

    assert np.array_equal(other.offsets_.value, usual.offsets_.value)
    assert np.abs(usual.offsets_.value).max() > 0


def test_offsets_are_the_same_whether_products_are_kept_or_computed_in_each_step(monkeypatch):
    """What does not fit into memory is multiplied again, to the same result up to rounding."""
    pytest.importorskip("torch")
    random = np.random.default_rng(0)
    shots, labels = random.normal(size=(9, 4)), np.tile(range(3), 3)
    options = {"offsets": Training(epochs=4, rate=1e-2, batch=4), "channels": 3}
    kept = DualMemoryClassifier(np.eye(4)[:3], **options).fit(shots, labels).offsets_

    monkeypatch.setattr("recollect.heads.dual_memory.training._KEPT", 0)
    again = DualMemoryClassifier(np.eye(4)[:3], **options).fit(shots, labels).offsets_

    for role in ("query", "key", "value", "output", "text"):
        assert np.abs(getattr(again, role)).max() > 0
        np.testing.assert_allclose(getattr(again, role), getattr(kept, role), atol=1e-9)
