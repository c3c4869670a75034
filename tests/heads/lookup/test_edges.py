"""What is refused at the edge of the lookup head, with one error, and nothing written."""

from __future__ import annotations

import re
import resource

import numpy as np
import pytest

from recollect import LookupClassifier
from recollect.errors import CorruptMemory, InvalidParameter, RecollectError, WriteFailed
from recollect.heads.lookup import examples, packed, standalone
from recollect.heads.lookup.cluster import Growth
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.native import NativeLookup
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.recipe import Recipe

EQUAL = (1.0, 1.0, 1.0)


def make(**options):
    return LookupClassifier(**{"model": examples.network(), "weights": EQUAL, **options})


def moved(begin):
    """The example's network, whose looks begin elsewhere."""
    network = examples.network()
    layout = Layout.from_dict({**network.layout.as_dict(), "begin": begin})
    return Network(layout, network.weights, names=network.names)


@pytest.mark.parametrize(
    "weights", [(5e-324, 0, 0), (1e308,) * 3, ("1", "1", "1"), (1, 1, 10**400)], ids=str
)
def test_weights_that_cannot_be_brought_to_whole_numbers_teach_nothing(weights):
    """Rows were written, and every question failed afterwards."""
    images, labels = examples.bars(20)
    head = make(weights=weights)

    with pytest.raises(InvalidParameter, match="weights"):
        head.fit(images, labels)

    assert "memory_" not in head.__dict__


def test_weights_may_be_an_array_and_numbers_of_any_width():
    """NumPy's own numbers are numbers, and none of them wraps around."""
    images, labels = examples.bars(20)
    plain = make(k=3, tree=2, slack=100).fit(images, labels)

    same = make(weights=np.ones(3), k=np.int8(3), tree=np.int8(2), slack=np.int8(100))

    assert np.array_equal(
        same.fit(images, labels).predict_proba(images), plain.predict_proba(images)
    )
    assert same.partial_fit(images[:2], labels[:2]).weights_ == EQUAL


@pytest.mark.parametrize(
    "wrong",
    [
        {"branches": 2.5}, {"branches": "4"}, {"starts": None}, {"seed": -1}, {"seed": "x"},
        {"centers": ["rows"]}, {"leaf": float("nan")}, {"leaf": True},
    ],
    ids=str,
)  # fmt: skip
def test_trees_grow_by_whole_numbers(wrong):
    """Some failed in the middle, with an error of NumPy."""
    with pytest.raises(InvalidParameter, match=next(iter(wrong))):
        Growth(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": "x"}, {"rate": float("nan")}, {"shift": -5}, {"bright": float("inf")},
        {"flips": None}, {"early": "a"}, {"slope": 1.5}, {"rounded": "no"}, {"epochs": 0},
    ],
    ids=str,
)  # fmt: skip
def test_recipes_are_judged_before_anything_is_trained(wrong):
    """Some failed in the middle, with an error of torch."""
    with pytest.raises(InvalidParameter, match=next(iter(wrong))):
        Recipe(**wrong)


def test_a_seed_that_no_generator_takes_is_refused():
    """Those of the search take 32 bits."""
    with pytest.raises(InvalidParameter, match="seed"):
        make(seed=2**32).fit(*examples.bars(20))


@pytest.mark.parametrize("size", [1e17, 1e300])
def test_pixels_that_cannot_be_added_up_are_refused(size):
    """Taught or asked; sums of them would lose the small ones, or overflow."""
    images, labels = examples.bars(20)
    head = make().fit(images, labels)

    with pytest.raises(InvalidParameter, match="pixels"):
        head.predict(images * size)
    with pytest.raises(InvalidParameter, match="pixels"):
        make(model=None).fit(images * size, labels)


@pytest.mark.parametrize("slack", [10**18, 2**63])
def test_slack_ends_before_its_products_wrap_around(slack):
    """The compiled search and NumPy found different rows."""
    with pytest.raises(InvalidParameter, match="slack"):
        make(tree=2, slack=slack).fit(*examples.bars(20))


def test_more_ways_than_there_are_take_no_room_in_the_header(tmp_path):
    """Ten million of them were room for as many on the stack."""
    images, labels = examples.bars(40)
    head = make(tree=10**7).fit(images, labels)

    head.export_c(tmp_path / "lookup.h")

    ways = int(re.search(r"#define LOOKUP_BEAM (\d+)", (tmp_path / "lookup.h").read_text())[1])
    assert ways == max(len(tree.centers) for tree in head.predictor().grown)
    assert NativeLookup(head.predictor()).predict(images).tolist() == head.predict(images).tolist()


@pytest.mark.parametrize(("low", "high"), [(0.0, 643.0), (-1.0, 255.0), (0.0, 0.5)])
def test_a_header_takes_bytes_and_nothing_else(tmp_path, low, high):
    """Floats up to 643 were exported too, and answered otherwise."""
    network = examples.network()
    layout = Layout.from_dict({**network.layout.as_dict(), "low": low, "high": high})
    head = make(model=Network(layout, network.weights, names=network.names))

    with pytest.raises(InvalidParameter, match="bytes"):
        head.fit(*examples.bars(20)).export_c(tmp_path / "lookup.h")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [("weights", [5e-324, 0, 0]), ("weights", ["1", "1", "1"]), ("classes", ["a", 5]),
     ("classes", [10**30, 5])],
    ids=str,
)  # fmt: skip
def test_a_forged_table_is_refused_when_it_is_read(tmp_path, name, value):
    """Its checksum is right; it was read, and failed or misled when asked."""
    make(tree=2).fit(*examples.bars(40)).save(tmp_path / "t.table")
    about, arrays = packed.read_file(tmp_path / "t.table")

    packed.write_file(tmp_path / "t.table", {**about, name: value}, arrays)

    with pytest.raises(CorruptMemory):
        LookupPredictor.load(tmp_path / "t.table")


@pytest.mark.parametrize(
    "forged",
    [{"high": 1e300}, {"high": 2**70}, {"high": float("inf")}, {"low": -float("inf")},
     {"high": "255"}, {"begin": [99, 0]}, {"begin": 3}, {"cells": 3}],
    ids=str,
)  # fmt: skip
def test_a_forged_layout_is_refused_when_it_is_read(tmp_path, forged):
    """A range in which every pixel is alike, or places outside of the image."""
    make().fit(*examples.bars(40)).save(tmp_path / "t.table")
    about, arrays = packed.read_file(tmp_path / "t.table")

    packed.write_file(
        tmp_path / "t.table", {**about, "layout": {**about["layout"], **forged}}, arrays
    )

    with pytest.raises(CorruptMemory):
        LookupPredictor.load(tmp_path / "t.table")


@pytest.mark.parametrize("name", ["counts", "variants"])
@pytest.mark.parametrize("value", [-5, 0, 2**40])
def test_forged_counts_are_refused_when_they_are_read(tmp_path, name, value):
    """Every row was seen at least once."""
    make().fit(*examples.bars(40)).save(tmp_path / "t.table")
    about, arrays = packed.read_file(tmp_path / "t.table")

    forged = {**arrays, name: np.full(len(arrays[name]), value, np.int64)}
    packed.write_file(tmp_path / "t.table", about, forged)

    with pytest.raises(CorruptMemory, match=name):
        LookupPredictor.load(tmp_path / "t.table")


@pytest.mark.parametrize("export", ["export_c", "export_npz", "save"])
def test_a_disk_that_is_full_leaves_the_file_that_was_there(tmp_path, export):
    """Half a header was left in its place."""
    head = make().fit(*examples.bars(40))
    place = tmp_path / "kept"
    place.write_text("what was there")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(WriteFailed):
            getattr(head, export)(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert place.read_text() == "what was there"


def test_weights_of_an_oracle_keep_their_mark(tmp_path):
    """In the memory that is opened again, and in what is taught later; honest ones have none."""
    images, labels = examples.bars(60)
    head = make(weights=None, memory=tmp_path / "runs").fit(images[:40], labels[:40])
    assert not head.weights_oracle_
    report = head.tune(images[40:], labels[40:], evaluations=2, oracle=True)
    head.partial_fit(images[40:42], labels[40:42])
    head.memory_.close()

    again = LookupClassifier(memory=tmp_path / "runs")

    assert again.weights_oracle_
    assert again.weights_ == report.weights
    assert not again.set_params(weights=(1, 2, 1)).weights_oracle_
    again.set_params(weights=None).tune(images[42:], labels[42:], evaluations=2)
    assert not again.weights_oracle_


def test_the_search_of_the_weights_shows_its_progress():
    """It is what takes time where a network is given."""
    images, labels = examples.bars(240)
    told = []

    make(weights=None).fit(images, labels, progress=lambda done, total: told.append((done, total)))

    assert told == [(done, 25) for done in range(1, 26)]


def test_looks_begin_where_the_layout_says(tmp_path):
    """In NumPy, compiled, in the header, in plain arrays and in a file that is read again."""
    images, labels = examples.bars(60)
    head = make(model=moved((1, 5)), tree=2).fit(images[:40], labels[:40])
    predictor = head.predictor()
    head.save(tmp_path / "t.table")
    head.export_npz(tmp_path / "t.npz")

    back = LookupPredictor.load(tmp_path / "t.table")

    state = predictor.layout.state
    assert (predictor.table.keys[predictor.table.part(0), state : state + 2] == (1, 5)).all()
    assert back.layout.start == (1, 5)
    wanted = head.predict(images).tolist()
    assert back.predict(images).tolist() == wanted
    assert head.predict(images.astype(float)).tolist() == wanted
    assert NativeLookup(predictor).predict(images).tolist() == wanted
    flat = head.set_params(tree=None).predict(images).tolist()
    assert standalone.predict(standalone.load(tmp_path / "t.npz"), images) == flat


def test_a_center_that_was_not_named_keeps_the_fingerprint():
    """Networks and memories that were written before know no beginning."""
    layout = examples.network().layout

    assert "begin" not in layout.as_dict()
    assert layout.start == (layout.side // 2, layout.side // 2)
    assert moved((4, 4)).fingerprint != examples.network().fingerprint


@pytest.mark.parametrize("begin", [(9, 0), (0, -1), (1.0, 1), (1,), "ab", 4])
def test_looks_begin_inside_of_the_image(begin):
    """Two whole numbers."""
    with pytest.raises(RecollectError):
        Layout(side=8, begin=begin)
