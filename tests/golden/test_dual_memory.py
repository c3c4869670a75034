"""Dual memory against outputs of the public reference code.

Sizes, settings and names of arrays come from the files. Slots, pseudo labels and counts must be
equal, probabilities within 2e-5, logits within 1e-4, training losses within 1e-8 relative and
trained offsets within 1e-6.
"""

from __future__ import annotations

import numpy as np
import pytest
from places import golden

from recollect import DualMemoryClassifier
from recollect.heads.dual_memory.bank import Bank
from recollect.heads.dual_memory.fusion import Members
from recollect.heads.dual_memory.offsets import ROLES, Offsets
from recollect.heads.dual_memory.training import Lesson, Training, train_offsets
from recollect.heads.dual_memory.tuning import score_weights
from recollect.readout.attention import (
    attention,
    cosines,
    gram,
    select_views,
    softmax,
    telling_channels,
    unit,
)

STREAMS = (
    "stream_zeroshot.npz",
    "stream_zeroshot_oneview.npz",
    "stream_fewshot_trainingfree.npz",
    "stream_fewshot_learned.npz",
)
LESSONS = ("training_all.npz", "training_qkv.npz")


def load(name):
    with np.load(golden("dmn", name)) as arrays:
        return dict(arrays)


def offsets_of(arrays, position, prefix=""):
    rows = {role: arrays.get(f"{prefix}{role}_bias") for role in ROLES}
    some = next(each for each in rows.values() if each is not None)
    filled = {role: np.zeros_like(some) if each is None else each for role, each in rows.items()}
    return Offsets(**filled, position=position)


def read(memory, filled, query, offsets, beta):
    """Cosines of the read-out of one memory block, ``(queries, classes)``."""
    classes, slots, dim = memory.shape
    x = unit(query)
    keys, values = unit(offsets.moved("key", memory)), unit(offsets.moved("value", memory))

    def products(some, rows):
        near = cosines(some, rows.reshape(-1, dim))
        return near.reshape(len(some), classes, slots).transpose(1, 0, 2)

    output = None
    if offsets.acts("output"):
        own = offsets.output
        output = (
            np.einsum("cnd,cd->cn", values, own),
            (own**2).sum(axis=1),
            own @ x.astype(np.float64).T,
        )
    similarity = products(unit(offsets.moved("query", x)), keys)
    toward = products(x, values)
    return attention(similarity, toward, gram(values), filled, beta=beta, output=output).T


def named(arrays, prefix):
    found = [name for name in arrays if name.startswith(prefix)]
    assert found, f"no array named {prefix}..."
    return found


def static_bank(arrays, position, channels=None):
    """Text in the first slot of each class, shots in the others, as a classifier holds them."""
    text, shots = arrays["memory"][:, 0], arrays["memory"][:, 1:]
    classes, each, dim = shots.shape
    codes = np.repeat(np.arange(classes), each)
    return Bank(
        unit(text),
        np.full(classes, -1),
        unit(shots.reshape(-1, dim)),
        codes,
        np.arange(len(codes)),
        length=1,
        offsets=offsets_of(arrays, position),
        channels=None if channels is None else np.isin(np.arange(dim), channels),
    )


def test_logits_of_the_static_read_out_at_every_position_and_sharpness():
    """Text and shots in one block; with and without a subset of the channels."""
    arrays = load("readout_static.npz")

    for name in named(arrays, "logits__"):
        _, position, beta, *subset = name.split("__")
        bank = static_bank(arrays, position, arrays["channels"] if subset else None)
        sharp = float(beta.removeprefix("beta"))
        got, _ = bank.scores(bank.queries(unit(arrays["query"])), sharp, dynamic=False)
        scaled = float(arrays["logit_scale"]) * got
        np.testing.assert_allclose(scaled, arrays[name], atol=1e-4, rtol=0, err_msg=name)


def test_text_logits_with_and_without_the_learned_offset():
    """The text offset is added before the text vector is scaled to length 1."""
    arrays = load("readout_static.npz")

    for name in named(arrays, "text_logits__"):
        offsets = offsets_of(arrays, "all" if name.endswith("learned") else "none")
        text = unit(offsets.moved("text", arrays["text_features"]))
        got = float(arrays["logit_scale"]) * cosines(unit(arrays["query"]), text)
        np.testing.assert_allclose(got, arrays[name], atol=1e-4, rtol=0, err_msg=name)


def test_probabilities_of_the_static_read_out_without_learned_offsets():
    """Offsets of zero change nothing."""
    arrays = load("readout_static.npz")
    filled = np.ones(arrays["memory"].shape[:2], bool)

    for name in named(arrays, "prob__identity__beta"):
        sharp = float(name.rpartition("beta")[2])
        got = read(arrays["memory"], filled, arrays["query"], offsets_of(arrays, "none"), sharp)
        probability = softmax(float(arrays["logit_scale"]) * got)
        np.testing.assert_allclose(probability, arrays[name], atol=2e-5, rtol=0, err_msg=name)


def test_probabilities_of_the_dynamic_read_out_with_empty_slots():
    """Empty slots take no part, also where an offset would fill them."""
    arrays = load("readout_dynamic.npz")
    dynamic = arrays["dynamic_memory"]
    held = np.arange(dynamic.shape[1]) < arrays["count"][:, None]
    blocks = {
        "textonly": arrays["fixed_text_only"],
        "texttrain": arrays["fixed_text_and_train"],
    }

    for name in named(arrays, "prob__"):
        _, position, block = name.split("__")
        fixed = blocks[block]
        memory = np.concatenate([dynamic, fixed], axis=1)
        filled = np.concatenate([held, np.ones(fixed.shape[:2], bool)], axis=1)
        got = read(memory, filled, arrays["query"], offsets_of(arrays, position), 5.5)
        probability = softmax(float(arrays["logit_scale"]) * got)
        np.testing.assert_allclose(probability, arrays[name], atol=2e-5, rtol=0, err_msg=name)


def test_the_views_that_are_kept_and_their_mean():
    """The order of the views that are kept does not matter."""
    arrays = load("selection.npz")

    for name in named(arrays, "selected_index__p"):
        fraction = name.removeprefix("selected_index__p")
        kept, mean = select_views(arrays["view_prob"], float(fraction))
        assert set(kept.tolist()) == set(arrays[name].tolist()), name
        np.testing.assert_allclose(mean, arrays[f"mean_prob__p{fraction}"], atol=2e-5, rtol=0)


def test_the_channels_in_which_classes_differ():
    """Best first."""
    arrays = load("selection.npz")

    for name in named(arrays, "channels__lambda"):
        balance = float(name.removeprefix("channels__lambda"))
        chosen = telling_channels(arrays["text_features"], len(arrays[name]), balance=balance)
        assert chosen.tolist() == arrays[name].tolist(), name


def test_a_classifier_reads_its_static_memory_in_those_channels():
    """Chosen from its own names, best or not best first: the set is what counts."""
    arrays = load("selection.npz")
    text = arrays["text_features"]

    for name in named(arrays, "channels__lambda"):
        balance = float(name.removeprefix("channels__lambda"))
        count = len(arrays[name])
        head = DualMemoryClassifier(text, channels=count, channel_balance=balance)
        bank = head.fit(text, np.arange(len(text)))._current().bank
        assert np.flatnonzero(bank.channels).tolist() == sorted(arrays[name].tolist()), name


def views_in(given, expected):
    """How many views a stream was labelled by: of a single one nothing is averaged."""
    alone = np.allclose(expected["init_prob"], expected["text_prob"], atol=2e-5, rtol=0)
    return 1 if alone else given["views"].shape[1]


def test_all_views_may_be_kept_and_are_then_still_several():
    """A share of 1 does not say how many views there were; what they were averaged to does."""
    given = {"views": np.zeros((1, 8, 2))}
    text = np.array([[0.9, 0.1]])
    averaged = {"text_prob": text, "init_prob": np.array([[0.7, 0.3]]), "selection_p": 1.0}

    assert views_in(given, averaged) == 8
    assert views_in(given, {**averaged, "init_prob": text}) == 1


@pytest.fixture(params=STREAMS)
def followed(request):
    """A classifier that observed the whole stream, what it said, and what was expected."""
    given, expected = load("stream_inputs.npz"), load(request.param)
    learned = "learned" in request.param
    head = DualMemoryClassifier(
        given["text_features"],
        memory_length=int(expected["memory_length"]),
        beta=float(expected["beta"]),
        scale=float(given["logit_scale"]),
        view_fraction=float(expected["selection_p"]),
        offsets=offsets_of(given, str(expected["position"])) if learned else None,
    )
    if "train_features" in expected:
        classes, shots, dim = expected["train_features"].shape
        head.fit(expected["train_features"].reshape(-1, dim), np.repeat(range(classes), shots))
    views = given["views"][:, : views_in(given, expected)]
    said = head.observe(views[:, 0], views=views)
    return head, said, given, expected


def test_pseudo_labels_slots_and_counts_of_a_stream(followed):
    """What was written, where, and what was discarded: exactly."""
    head, said, _, expected = followed

    assert said.pseudo_labels.tolist() == expected["pseudo_label"].tolist()
    assert said.slots.tolist() == expected["slot"].tolist()
    assert head.slot_ids().counts.tolist() == expected["final_count"].tolist()
    np.testing.assert_allclose(said.entropy, expected["entropy"], atol=2e-5, rtol=0)


def test_what_the_slots_hold_in_the_end(followed):
    """The same vectors in the same places."""
    head, _, _, expected = followed
    slots = head.slot_ids()

    for code, slot in np.argwhere(slots.ids >= 0).tolist():
        key = unit(head.memory_.rows(slots.ids[code, slot : slot + 1]).keys)[0]
        np.testing.assert_allclose(key, expected["final_memory"][code, slot], atol=1e-6)
    assert (slots.ids >= 0).sum(axis=1).tolist() == expected["final_count"].tolist()
    sure = np.nan_to_num(slots.entropy)
    np.testing.assert_allclose(sure, expected["final_entropy"], atol=2e-5, rtol=0)


def test_what_a_picture_is_written_by(followed):
    """The mean probability of the views that were kept; the text alone decides which."""
    head, _, given, expected = followed
    views = given["views"][:, : views_in(given, expected)]

    plan = head._current().plan(views[:, 0], views)

    np.testing.assert_allclose(plan.guesses.probability, expected["init_prob"], atol=2e-5, rtol=0)


def test_probabilities_of_a_stream(followed):
    """Text, dynamic and static member, each picture after it was written."""
    _, said, _, expected = followed

    np.testing.assert_allclose(said.members.text, expected["text_prob"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(said.members.dynamic, expected["dynamic_prob"], atol=2e-5, rtol=0)
    assert (said.members.static is not None) == ("static_prob" in expected)
    if said.members.static is not None:
        np.testing.assert_allclose(said.members.static, expected["static_prob"], atol=2e-5, rtol=0)


def test_fused_probabilities_and_the_weights_that_a_search_on_the_answers_finds(followed):
    """The published sum of probabilities, here divided by the sum of the weights."""
    head, said, given, expected = followed
    text, dynamic, static = said.members.all()

    for weights, fused in zip(expected["alphas"], expected["fused"], strict=True):
        head.set_params(weights=tuple(weights.tolist()))
        total = weights[0] + weights[1] + weights[2] * (static is not None)
        got = head.fused(said.members)
        np.testing.assert_allclose(total * got, fused, atol=2e-5 * max(total, 1), rtol=0)
    found = score_weights(Members(text, dynamic, static), given["labels"].astype(int)).best
    assert abs(100 * found.accuracy - float(expected["searched_accuracy"])) < 1e-4
    head.set_params(weights=tuple(expected["searched_alphas"].tolist()))
    right = head.fused(said.members).argmax(axis=1) == given["labels"]
    assert abs(100 * right.mean() - float(expected["searched_accuracy"])) < 1e-4


def test_accuracies_of_the_members(followed):
    """In percent."""
    _, said, given, expected = followed

    for name in named(expected, "accuracy_"):
        probability = getattr(said.members, name.removeprefix("accuracy_"))
        if probability is None:  # without shots there is no static member
            continue
        right = 100 * (probability.argmax(axis=1) == given["labels"]).mean()
        assert abs(right - float(expected[name])) < 1e-4, name


def plain_logits(arrays, offsets):
    """Static and text logits in float64, without the rounding of a memory."""

    def long(vectors):
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    x = arrays["features"].astype(float)
    query = long(offsets.moved("query", x))
    keys, values = (long(offsets.moved(role, arrays["memory"])) for role in ("key", "value"))
    weights = np.exp(-float(arrays["beta"]) * (1 - np.einsum("bd,cnd->bcn", query, keys)))
    classes = long(np.einsum("bcn,cnd->bcd", weights, values))
    if offsets.acts("output"):
        classes = long(classes + offsets.output)
    text = long(offsets.moved("text", arrays["text_features"]))
    scale = float(arrays["logit_scale"])
    return scale * np.einsum("bcd,bd->bc", classes, x), scale * x @ text.T


@pytest.fixture
def steps(monkeypatch):
    """Learning rate and gradients of each step that the optimizer takes."""
    torch = pytest.importorskip("torch")
    taken, step = [], torch.optim.AdamW.step

    def noted(self, *args, **kwargs):
        [group] = self.param_groups
        taken.append((group["lr"], [each.grad.numpy().copy() for each in group["params"]]))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    return taken


@pytest.mark.parametrize("name", LESSONS)
def test_losses_and_trained_offsets(name, steps):
    """Full batches in float64, so that nothing is left to chance."""
    arrays = load(name)
    classes, slots, _ = arrays["memory"].shape
    labels = arrays["labels"].astype(np.int64)
    lesson = Lesson(
        arrays["features"],
        labels,
        arrays["text_features"],
        arrays["memory"],
        np.ones((classes, slots), bool),
        np.full(len(labels), -1),
    )
    position = name.removeprefix("training_").removesuffix(".npz")
    how = Training(
        position,
        epochs=int(arrays["steps"]),
        rate=float(arrays["lr"]),
        batch=len(labels),
        weight_decay=float(arrays["weight_decay"]),
        epsilon=float(arrays["eps"]),
    )

    offsets, losses = train_offsets(
        lesson, how, beta=float(arrays["beta"]), scale=float(arrays["logit_scale"])
    )

    np.testing.assert_allclose(losses, arrays["loss"], rtol=1e-8)
    for role in (role for role in ROLES if f"final__{role}_bias" in arrays):
        expected = arrays[f"final__{role}_bias"]
        np.testing.assert_allclose(getattr(offsets, role), expected, atol=1e-6, rtol=0)
    rates = [rate for rate, _ in steps]
    np.testing.assert_allclose(rates, arrays["lr_used"], rtol=1e-8)
    trained = [role for role in ROLES if offsets.acts(role)]
    for role, gradient in zip(trained, steps[0][1], strict=True):
        expected = arrays[f"first_grad__{role}_bias"]
        np.testing.assert_allclose(gradient, expected, atol=1e-9, rtol=1e-8, err_msg=role)
    static, text = plain_logits(arrays, offsets)
    np.testing.assert_allclose(static, arrays["final_static_logits"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(text, arrays["final_text_logits"], atol=1e-6, rtol=0)
    got = read(lesson.memory, lesson.filled, arrays["features"], offsets, float(arrays["beta"]))
    scaled = float(arrays["logit_scale"]) * got
    np.testing.assert_allclose(scaled, arrays["final_static_logits"], atol=1e-4, rtol=0)
