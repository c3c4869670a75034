"""What once went wrong, each by name."""

from __future__ import annotations

import struct
import subprocess
import threading
from dataclasses import replace

import numpy as np
import pytest

from recollect import LookupClassifier, Memory
from recollect.errors import (
    CorruptMemory,
    EncoderMismatch,
    InvalidParameter,
    RecollectError,
)
from recollect.heads.lookup import examples, packed
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.readout import votes_of_rows

EQUAL = (1.0, 1.0, 1.0)


def noisy(count, seed=0):
    images, labels = examples.bars(count)
    random = np.random.default_rng(seed)
    return np.minimum(images + random.integers(0, 60, images.shape), 255).astype(np.uint8), labels


def make(**options):
    return LookupClassifier(**{"model": examples.network(), "weights": EQUAL, **options})


@pytest.mark.parametrize(
    "options",
    [{"answers": "network"}, {"fallback": 0.0}, {"fallback": 0.0, "answers": "network"}, {}],
    ids=str,
)
def test_columns_of_the_shares_are_the_classes(options):
    """One label only is recorded, and the network may name two: a column for each of `classes_`."""
    images, labels = noisy(40)
    one = labels == "down"
    head = make(**options).fit(images[one], labels[one])

    shares = head.predict_proba(images)

    assert shares.shape == (40, len(head.classes_))
    assert shares.sum(axis=1).tolist() == [1.0] * 40
    assert head.predict(images).tolist() == head.classes_[shares.argmax(axis=1)].tolist()


def test_forgetting_a_class_keeps_the_column_of_the_network_that_may_name_it():
    """Under fall-back the network still answers what the table no longer knows."""
    images, labels = noisy(40)
    head = make(fallback=0.0).fit(images, labels)

    head.forget(head.ids_[labels == "across"])

    assert head.classes_.tolist() == ["across", "down"]
    assert head.predict_proba(images).shape == (40, 2)


def test_tuning_sets_the_weights_that_it_reports():
    """Even where weights were passed before."""
    images, labels = noisy(60)
    head = make().fit(images[:40], labels[:40])

    report = head.tune(images[40:], labels[40:], evaluations=8)

    assert head.weights_ == report.weights == head.predictor().weights


def test_chosen_weights_are_there_when_the_memory_is_opened_again(tmp_path):
    """Chosen by fit, then by tune, then kept by what is taught later."""
    images, labels = noisy(240)
    head = LookupClassifier(examples.network(), memory=tmp_path / "runs").fit(
        images[:200], labels[:200]
    )
    chosen = head.weights_
    assert LookupClassifier(memory=tmp_path / "runs").weights_ == chosen
    head.tune(images[200:], labels[200:], evaluations=3)
    head.partial_fit(images[200:210], labels[200:210])
    answers, tuned = head.predict_proba(images), head.weights_
    head.memory_.close()

    again = LookupClassifier(memory=tmp_path / "runs")

    assert again.weights_ == tuned
    assert np.array_equal(again.predict_proba(images), answers)


def test_weights_that_cannot_be_read_are_refused_by_name():
    """The column of a memory that came from elsewhere."""
    images, labels = noisy(20)
    head = make().fit(images, labels).set_params(weights=None)
    head.memory_.update(head.ids_, metadata={"distance_weights": "[1, -2, 0]"})

    with pytest.raises(CorruptMemory, match="weights"):
        head.predict(images)


def test_the_name_of_the_column_of_weights_is_taken():
    """A user's column of that name would be overwritten."""
    images, labels = noisy(4)

    with pytest.raises(InvalidParameter, match="distance_weights"):
        make().fit(images, labels, metadata={"distance_weights": "mine"})


def test_another_model_is_taken_up():
    """And its runs are another's, so that the memory refuses it until it is taught."""
    images, labels = noisy(40)
    head = make().fit(images, labels)
    other = examples.network(seed=1)

    head.set_params(model=other)

    assert head.network_ is other
    with pytest.raises(EncoderMismatch):
        head.predict(images)


def test_a_saved_network_keeps_its_grid(tmp_path):
    """Six bits behind the point compute another network than sixteen."""
    network = replace(examples.network(), grid=6)
    network.save(tmp_path / "n.safetensors")

    back = Network.load(tmp_path / "n.safetensors")

    assert back.grid == 6
    assert back.fingerprint == network.fingerprint != examples.network().fingerprint


def test_names_of_classes_belong_to_the_fingerprint():
    """Runs answered by name would change their meaning."""
    turned = replace(examples.network(), names=("down", "across"))

    assert turned.fingerprint != examples.network().fingerprint


def forged(path, change):
    """Write a file again with other arrays and the right checksum."""
    about, arrays = packed.read_file(path)
    change(about, arrays)
    packed.write_file(path, about, arrays)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("child", 0, 0), ("child", 0, 99), ("child", 0, -7), ("node_start", 1, 0),
        ("leaf_rows", 0, 10_000), ("leaf_rows", 0, -1), ("leaf_start", 1, 99),
        ("node_start", -1, 1),
    ],
)  # fmt: skip
def test_a_tree_that_leads_in_a_circle_or_nowhere_is_refused(tmp_path, name, place, value):
    """The checksum is right; walking it would never end, or read beside the table."""
    images, labels = noisy(40)
    make(tree=2).fit(images, labels).save(tmp_path / "t.table")

    forged(tmp_path / "t.table", lambda _, a: a[f"tree 0 {name}"].__setitem__(place, value))

    with pytest.raises(CorruptMemory):
        LookupPredictor.load(tmp_path / "t.table")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", ["a", "a"]), ("classes", [["a"], "b"]), ("classes", "ab"), ("classes", []),
        ("k", 0), ("k", "1"), ("k", 1.5), ("beam", "all"), ("vote", "most"), ("vote", None),
        ("slack", 0), ("slack", "1"),
        ("weights", [1]), ("weights", 3), ("layout", []), ("layout", {"side": 1}),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_said_about_a_table_is_judged(tmp_path, name, value):
    """One error of ours, whatever stands there."""
    images, labels = noisy(40)
    make(tree=2).fit(images, labels).save(tmp_path / "t.table")

    forged(tmp_path / "t.table", lambda about, _: about.__setitem__(name, value))

    with pytest.raises(CorruptMemory):
        LookupPredictor.load(tmp_path / "t.table")


@pytest.mark.parametrize("name", ["counts", "ids", "row_of", "rows", "parts"])
@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: a.astype(np.float64), np.ravel])
def test_arrays_of_another_form_are_refused(tmp_path, name, change):
    """Cut short, of floats, or flat; where nothing is wrong the table is read."""
    images, labels = noisy(40)
    make().fit(images, labels).save(tmp_path / "t.table")
    before = packed.read_file(tmp_path / "t.table")[1][name]

    forged(tmp_path / "t.table", lambda _, a: a.__setitem__(name, change(a[name])))

    after = packed.read_file(tmp_path / "t.table")[1][name]
    if np.array_equal(before, after) and before.dtype == after.dtype:
        LookupPredictor.load(tmp_path / "t.table")
    else:
        with pytest.raises(CorruptMemory):
            LookupPredictor.load(tmp_path / "t.table")


def test_names_in_c_are_told_apart_and_are_utf_8(tmp_path):
    """Both were one underscore."""
    from recollect.heads.lookup.native import NativeLookup

    images, _ = noisy(40)
    names = np.array(["ä", "ö"] * 20, object)
    head = LookupClassifier(replace(examples.network(), names=("ä", "ö")), weights=EQUAL)
    head.fit(images, names).export_c(tmp_path / "lookup.h")
    (tmp_path / "main.c").write_text(
        '#include "lookup.h"\n#include <stdio.h>\n'
        "int main(void) { const unsigned char none[64] = {0}; (void)lookup_predict(none);"
        ' printf("%s %s", lookup_names[0], lookup_names[1]); return 0; }\n'
    )

    subprocess.run(["cc", "main.c", "-o", "main"], cwd=tmp_path, check=True)
    said = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True)

    assert said.stdout.decode() == "ä ö"
    assert NativeLookup(head.predictor()).predict(images).tolist() == head.predict(images).tolist()


def test_a_label_that_c_would_cut_is_refused(tmp_path):
    """A zero byte ends a name there, and two labels would be one."""
    images, _ = noisy(4)
    head = LookupClassifier(replace(examples.network(), names=("a\0b", "a\0c")), weights=EQUAL)

    with pytest.raises(InvalidParameter, match="zero byte"):
        head.fit(images, ["a\0b", "a\0c"] * 2).export_c(tmp_path / "lookup.h")


def test_a_vote_of_more_rows_than_there_are_is_one_of_all():
    """k of a trillion took memory for as many."""
    images, labels = noisy(40)
    all_of_them = make(k=40).fit(images, labels)

    shares = make(k=10**12).fit(images, labels).predict_proba(images)

    assert np.array_equal(shares, all_of_them.predict_proba(images))


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": True}, {"k": "3"}, {"tree": 2.0}, {"fallback": "far"}, {"fallback": float("nan")},
        {"answers": ["labels"]}, {"per_step": "yes"}, {"seed": -1}, {"seed": None},
        {"glimpses": 0}, {"glimpses": "5"}, {"bits": 2}, {"bits": (2, 1, 1)}, {"bits": (2, 9)},
        {"recipe": {}}, {"growth": 4}, {"model": 5}, {"vote": "most"}, {"slack": 0}, {"slack": 1.5},
        {"readout": "table"}, {"readout": ["row"]}, {"weights": "abc"}, {"weights": (1, 1)},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_mean_nothing_are_refused_with_one_error(wrong):
    """When asked and when taught, and nothing was recorded."""
    images, labels = noisy(20)
    head = make().fit(images, labels)

    with pytest.raises(InvalidParameter):
        head.set_params(**wrong).predict(images)
    fresh = make(**wrong)
    with pytest.raises(InvalidParameter):
        fresh.fit(images, labels)
    assert "memory_" not in fresh.__dict__


@pytest.mark.parametrize("evaluations", [0, "many", 2.5, None, True])
def test_evaluations_are_a_whole_number(evaluations):
    """Before anything is searched."""
    images, labels = noisy(20)

    with pytest.raises(InvalidParameter, match="evaluations"):
        make().fit(images, labels).tune(images, labels, evaluations=evaluations)


@pytest.mark.parametrize("share", [0, 1.5, float("nan"), "all", None])
def test_shares_of_rows_are_numbers_up_to_one(share):
    """Smaller tables keep at least something."""
    images, labels = noisy(20)

    with pytest.raises(InvalidParameter, match="share"):
        make().fit(images, labels).table_.first_rows(share)


def test_a_reader_beside_a_writer_answers_from_one_version(tmp_path):
    """Rows, labels and weights of a question belong together, whatever is written meanwhile."""
    images, labels = noisy(60)
    make(memory=tmp_path / "runs").fit(images, labels).memory_.close()
    writer, failures, done = Memory.open(tmp_path / "runs"), [], threading.Event()
    rows = writer.rows()
    half = rows.ids[::2]

    def write():
        for turn in range(25):
            writer.update(rows.ids, values=["one", f"two {turn}"] * 30)
            writer.remove(half)
            writer.add(rows.keys[::2], ["three"] * 30, ids=None)
            half[:] = writer.ids[-30:]
            writer.update(half, values=[f"four {turn}"] * 30)
            rows.ids[::2] = half
        done.set()

    def read():
        head = LookupClassifier(weights=EQUAL, memory=tmp_path / "runs")
        while not done.is_set():
            try:
                head.predict_proba(images)
                head.predict(images)
            except RecollectError as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    write()
    for thread in readers:
        thread.join()
    writer.close()

    assert failures == []


def test_rows_of_every_look_may_vote():
    """Two looks, one row each: the shares are halves where the looks disagree."""
    images, labels = noisy(60)
    head = make(vote="all").fit(images[:20], labels[:20])
    trail = head.predictor().trail(images)

    shares = head.predict_proba(images)

    apart = trail.answers[:, 0] != trail.answers[:, 1]
    assert apart.any()
    assert shares[apart].tolist() == [[0.5, 0.5]] * int(apart.sum())
    assert shares[~apart].max(axis=1).tolist() == [1.0] * int((~apart).sum())
    for why in head.explain(images):
        assert len(why.evidence) == 2
        assert why.score == why.shares[why.prediction]
        assert sum(part.contribution for part in why.evidence) == 1.0


def test_the_nearest_row_of_each_class_may_vote_by_distance(taught_by_distance):
    """How much nearer it is than the farthest of the k, plus one: 8, 6 and 1 of 15."""
    near, apart = np.array([[[4, 5, 0, 2]]]), np.array([[[1, 2, 3, 8]]])

    votes = votes_of_rows(near, apart, np.array([1, 0, 2, 0, 0, 0]), "distance")

    assert votes.tolist() == [[[8, 0, 6, 1]]]
    head, images = taught_by_distance
    for why in head.explain(images):
        assert why.score == pytest.approx(why.shares[why.prediction])
        assert sum(part.contribution for part in why.evidence) == pytest.approx(1.0)
    alone = [head.predict_proba(images[i : i + 1]) for i in range(len(images))]
    assert np.array_equal(np.concatenate(alone), head.predict_proba(images))


@pytest.fixture
def taught_by_distance():
    images, labels = noisy(60)
    return make(vote="distance", k=4).fit(images[:40], labels[:40]), images[40:]


def test_slack_gives_up_far_ways_and_one_way_is_always_kept():
    """Fewer comparisons, never none; a slack that reaches everywhere changes nothing."""
    images, labels = noisy(120)
    head = make(tree=4).fit(images[:100], labels[:100])
    whole = head.predictor().trail(images)

    wide = head.set_params(slack=10**9).predictor().trail(images)
    narrow = head.set_params(slack=1).predictor().trail(images)

    # A center at distance 0 gives up all others, whatever the slack.
    assert wide.comparisons.mean() <= whole.comparisons.mean()
    assert (narrow.comparisons < whole.comparisons).any()
    assert (narrow.near[:, :, 0] >= 0).all()


def test_a_file_of_format_1_is_still_read(tmp_path):
    """It knew no votes of every look: the last look votes."""
    images, labels = noisy(40)
    head = make(k=2).fit(images, labels)
    head.save(tmp_path / "t.table")

    def older(about, _):
        del about["vote"], about["slack"]

    with pytest.MonkeyPatch.context() as patch:
        about, arrays = packed.read_file(tmp_path / "t.table")
        older(about, arrays)
        patch.setattr(packed, "FORMAT", 1)
        packed.write_file(tmp_path / "t.table", about, arrays)
    assert struct.unpack_from("<8sI", (tmp_path / "t.table").read_bytes())[1] == 1

    back = LookupPredictor.load(tmp_path / "t.table")

    assert back.predict(images).tolist() == head.predict(images).tolist()
