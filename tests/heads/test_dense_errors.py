"""Bad input of a dense memory: one clear error each, sample and level named, nothing kept."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_pyramids import EAST, NORTH, pair, random_mask, random_pyramid, signal

from recollect import DenseMemoryRegressor, DenseMemorySegmenter, Memory
from recollect.encoders import HashingTextEncoder, LocalStatistics
from recollect.errors import (
    DimensionMismatch,
    DuplicateIds,
    EmptyBatch,
    InputError,
    InvalidLabel,
    InvalidParameter,
    InvalidType,
    LengthMismatch,
    NonFinite,
    UnknownIds,
)

GOOD = [signal(EAST, NORTH)], [[1, 2]]
NAN = float("nan")

BAD_SAMPLES = {
    "another width on the fine level": (
        [pair(EAST, [1.0], [0.0])], [[1, 2]], DimensionMismatch, "level 1 of sample 0",
    ),
    "another number of levels": ([signal(EAST)], [[1]], DimensionMismatch, "sample 0"),
    "another dimension": (
        [[np.ones((1, 1, 2)), np.ones((2, 2, 2))]], [np.ones((2, 2), int)], DimensionMismatch,
        "sample 0",
    ),
    "levels of several dimensions": (
        [[np.ones((1, 2)), np.ones((2, 2, 2))]], [[1, 2]], DimensionMismatch, "sample 0",
    ),
    "the finest level first": (
        [[np.ones((2, 2)), np.ones((1, 2))]], [[1]], DimensionMismatch, "level 1 of sample 0",
    ),
    "NaN on the coarse level": (
        [pair([NAN, 0.0], EAST, EAST)], [[1, 2]], NonFinite, "level 0 of sample 0",
    ),
    "infinity on the fine level of the second sample": (
        [pair(EAST, EAST, EAST), pair(EAST, EAST, [np.inf, 0.0])], [[1, 2], [1, 2]], NonFinite,
        "level 1 of sample 1",
    ),
    "no level at all": ([[]], [[1]], InputError, "sample 0"),
    "an array where a list of levels should be": (
        [np.ones((2, 2))], [[1, 2]], InputError, "sample 0",
    ),
    "text for features": ([[np.array([["a", "b"]])] * 2], [[1]], DimensionMismatch, "level 0"),
    "a mask smaller than the finest grid": (
        [pair(EAST, EAST, EAST)], [[1]], DimensionMismatch, "mask 0",
    ),
    "a mask of another dimension": (
        [pair(EAST, EAST, EAST)], [[[1, 2]]], DimensionMismatch, "mask 0",
    ),
    "a mask that is all ignored": (
        [pair(EAST, EAST, EAST)], [[255, 255]], InvalidLabel, "mask 0",
    ),
    "a label below zero": ([pair(EAST, EAST, EAST)], [[-1, 2]], InvalidLabel, "mask 0"),
    "a mask of fractions": ([pair(EAST, EAST, EAST)], [[0.5, 2.0]], InvalidType, "mask 0"),
    "more samples than masks": ([pair(EAST, EAST, EAST)] * 2, [[1, 2]], LengthMismatch, "masks"),
    "nothing": ([], [], EmptyBatch, "X"),
    "masks that are one number": (
        [pair(EAST, EAST, EAST)], np.array(3), InputError, "one thing",
    ),
    "a mask of ragged rows": (
        [pair(EAST, EAST, EAST)], [[[1, 2], [3]]], DimensionMismatch, "mask 0 is no grid",
    ),
    "a label beyond 64 bits": ([pair(EAST, EAST, EAST)], [[2**70, 1]], InvalidType, "mask 0"),
    "a label beyond signed 64 bits": (
        [pair(EAST, EAST, EAST)], [np.array([2**63, 1], np.uint64)], InvalidLabel, "too large",
    ),
    "a label that no float tells from its neighbors": (
        [pair(EAST, EAST, EAST)], [[1e300, 1.0]], InvalidType, "mask 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("pyramids", "masks", "error", "words"), BAD_SAMPLES.values(), ids=BAD_SAMPLES
)
def test_a_bad_sample_is_refused_by_name_and_nothing_is_kept(pyramids, masks, error, words):
    """Teaching is all or nothing, and the message says where to look."""
    head = DenseMemorySegmenter(k=1).fit([pair(EAST, EAST, NORTH)], [[1, 2]])
    version = head.memory_.version

    with pytest.raises(error, match=words):
        head.partial_fit(pyramids, masks)

    assert head.memory_.version == version


@pytest.mark.parametrize(
    ("target", "error"),
    [([[NAN, NAN]], NonFinite), ([[np.inf, 1.0]], NonFinite), ([["a", "b"]], InvalidType),
     ([[1.0]], DimensionMismatch), ([np.zeros((2, 0))], DimensionMismatch),
     ([[[1.0, 2.0], [3.0]]], DimensionMismatch), ([[1e300, 1.0]], NonFinite)],
)  # fmt: skip
def test_a_bad_target_is_refused(target, error):
    """All missing, infinite, no numbers, another size."""
    with pytest.raises(error, match="mask 0"):
        DenseMemoryRegressor(k=1).fit([signal(EAST, NORTH)], target)


@pytest.mark.parametrize(
    "option",
    [{"k": 0}, {"k": ()}, {"k": (4, 0)}, {"temperature": 0.0}, {"temperature": -1.0},
     {"sparse_levels": -1}, {"sparse_levels": 1}, {"kernel": "cousins"},
     {"message_passing": "loud"}, {"alpha": 1.0}, {"alpha": -0.1}, {"score": "total"},
     {"level_weights": (1.0, 1.0)}, {"level_weights": (0.0,)}, {"position": -1.0},
     {"balance": float("inf")}, {"prefilter": 0}, {"precision": "float64"}, {"order": "random"},
     {"radius": 0}, {"links": 0}, {"link_temperature": 0.0}, {"tolerance": -1.0},
     {"max_iterations": 0}, {"memory_cap": 1000}, {"retrieve": "pixel"}, {"encoder": 3},
     {"k": None}, {"k": 2.0}, {"k": "12"}, {"k": iter([2])}, {"k": np.array(2.5)},
     {"sparse_keep": 0}, {"sparse_keep": 1.5}, {"novelty": "memory"},
     {"search": 0.9}, {"search": "lists"},
     {"labels": 3}, {"labels": ()}, {"labels": (0, -1)}, {"labels": (1.5,)}, {"labels": "12"},
     {"ignore": -(2**70)}, {"ignore": 2**63}, {"ignore": None}, {"ignore": 1.5},
     {"temperature": 10**400}, {"position": 1e300}, {"balance": 1e308}, {"radius": 10**12},
     {"max_iterations": 10**30}, {"tolerance": 10**400}, {"level_weights": 3},
     {"level_weights": (1e308,)}, {"level_weights": (5e-324,)}],
    ids=str,
)  # fmt: skip
def test_an_option_out_of_its_range_is_refused(option):
    """Before anything is read or written."""
    with pytest.raises(InvalidParameter):
        DenseMemorySegmenter(**{"k": 1} | option).fit(*GOOD)


@pytest.mark.parametrize(
    "option",
    [{"k": 10**12}, {"k": (10**12, 2)}, {"k": np.array([3, 2])}, {"links": 10**30},
     {"temperature": 5e-324}, {"temperature": np.float32(0.1)}, {"prefilter": 10**12},
     {"max_iterations": 100_000, "tolerance": 0.0, "alpha": 0.9}, {"memory_cap": 10**30},
     {"sparse_keep": 10**30, "sparse_levels": 1},
     {"sparse_keep": 10**30, "sparse_levels": 1, "order": "fine_first"}],
    ids=str,
)  # fmt: skip
def test_an_option_at_its_end_answers_as_an_ordinary_one_does(option):
    """More matches or links than there are cost nothing, and no rounding asks for ever."""
    samples = [pair(EAST, EAST, NORTH), pair(NORTH, NORTH, EAST)]
    head = DenseMemorySegmenter(**{"k": 1} | option).fit(samples, [[1, 2], [2, 1]])

    assert head.predict(samples).tolist() == [[1, 2], [2, 1]]


@pytest.mark.parametrize("k", [True, 0, 2.5])
def test_diagnosis_refuses_what_is_no_number_of_matches(k):
    """As every option does."""
    head = DenseMemorySegmenter(k=1).fit(GOOD[0] * 2, GOOD[1] * 2)

    with pytest.raises(InvalidParameter, match="k is out of range"):
        head.diagnose(k=k)


def test_features_beyond_half_precision_are_refused_by_name():
    """Kept as infinity, they would break every later question."""
    head = DenseMemorySegmenter(k=1, precision="float16").fit(*GOOD)
    big = [signal(EAST, NORTH), signal(EAST, [65_505.0, 0.0])]

    with pytest.raises(NonFinite, match="level 0 of sample 1 lies beyond what float16 holds"):
        head.partial_fit(big, [[1, 2]] * 2)

    assert len(head.memory_) == 1
    assert head.partial_fit([signal(EAST, [65_504.0, 0.0])], [[1, 2]]).classes_.tolist() == [1, 2]


@pytest.mark.parametrize("size", [1.5e-45, 1e-40, 3.4e38, float(np.finfo(np.float32).max)])
def test_bytes_hold_features_of_any_size(size):
    """A scale may neither vanish at the smallest numbers nor overflow at the largest."""
    samples = [signal([size, 0.0], [0.0, size])]

    head = DenseMemorySegmenter(k=1, precision="int8", message_passing=None).fit(samples, [[1, 2]])

    assert head.predict(samples).tolist() == [[1, 2]]


def test_a_label_that_was_not_announced_is_refused_with_its_place():
    """A typo in a mask must not become a class; where any label may come, it may."""
    head = DenseMemorySegmenter(k=1, labels=(1, 2)).fit(*GOOD)
    version = head.memory_.version

    with pytest.raises(InvalidLabel, match=r"mask 1 holds an unknown label.*7 at pixel \(1,\)"):
        head.partial_fit([signal(EAST, NORTH)] * 2, [[1, 255], [2, 7]])
    with pytest.raises(InvalidLabel, match="mask 0"):
        head.relabel([0], [[3, 1]])

    assert head.memory_.version == version
    assert head.set_params(labels=None).partial_fit(*GOOD).classes_.tolist() == [1, 2]


def test_relabelling_with_numbers_of_another_width_is_refused():
    """As teaching them is: one memory holds one kind of number."""
    head = DenseMemoryRegressor(k=1).fit([signal(EAST)] * 2, [[1.0], [2.0]])

    with pytest.raises(InvalidParameter, match="several widths"):
        head.relabel([0], [[[1.0, 2.0]]])

    assert head.predict([signal(EAST)]).tolist() == [[1.0]]


def test_a_median_of_vectors_is_refused():
    """There is no order among them."""
    with pytest.raises(InvalidParameter, match="median"):
        DenseMemoryRegressor(reading="median").fit([signal(EAST)], [[[1.0, 2.0]]])


def test_targets_of_several_widths_are_refused():
    """One memory holds one kind of number."""
    head = DenseMemoryRegressor(k=1).fit([signal(EAST)], [[1.0]])

    with pytest.raises(InvalidParameter, match="width"):
        head.partial_fit([signal(EAST)], [[[1.0, 2.0]]])


def test_an_id_given_before_is_refused():
    """Rows are replaced by forgetting and teaching, never silently."""
    head = DenseMemorySegmenter(k=1).fit(*GOOD, ids=[4])

    with pytest.raises(DuplicateIds):
        head.partial_fit(*GOOD, ids=[4])


def test_forgetting_what_is_not_there_is_refused():
    """All or nothing."""
    head = DenseMemorySegmenter(k=1).fit(*GOOD)

    with pytest.raises(UnknownIds):
        head.forget([0, 99])

    assert len(head.memory_) == 1


def test_relabelling_with_a_mask_of_another_size_is_refused():
    """The row stays as it was."""
    head = DenseMemorySegmenter(k=1).fit(*GOOD)

    with pytest.raises(DimensionMismatch, match="mask 0"):
        head.relabel(head.ids_, [[1]])

    assert head.classes_.tolist() == [1, 2]


def test_one_mask_for_two_ids_is_refused():
    """One mask a sample."""
    head = DenseMemorySegmenter(k=1).fit(GOOD[0] * 2, GOOD[1] * 2)

    with pytest.raises(LengthMismatch):
        head.relabel(head.ids_, [[1, 2]])


@pytest.mark.parametrize("cell", [(2,), (-1,), (0, 0), "a"], ids=str)
def test_a_cell_that_is_not_there_cannot_be_explained(cell):
    """The message says what the grid is."""
    head = DenseMemorySegmenter(k=1).fit(*GOOD)

    with pytest.raises(InvalidParameter, match="no such cell"):
        head.explain(signal(EAST, NORTH), cell)


@pytest.mark.parametrize("size", [(0,), (2, 2), "wide", (1.5,), (10**13,), (2**70,)], ids=str)
def test_a_size_that_does_not_fit_is_refused(size):
    """As many whole numbers as the grid has axes."""
    head = DenseMemorySegmenter(k=1).fit(*GOOD)

    with pytest.raises(InvalidParameter, match="size"):
        head.predict([signal(EAST, NORTH)], size=size)


def test_a_single_image_instead_of_several_is_refused():
    """A path alone would be read letter by letter."""
    with pytest.raises(InputError, match="one thing"):
        DenseMemorySegmenter(k=1).fit("scene.png", [[1]])


def test_a_memory_of_other_values_is_refused():
    """Labels of whole rows are no masks."""
    memory = Memory.create(":memory:", dim=2)

    with pytest.raises(InvalidParameter, match="arrays"):
        DenseMemorySegmenter(memory=memory).fit(*GOOD)


def test_a_regressor_refuses_the_memory_of_a_segmenter():
    """It would read codes as depths."""
    head = DenseMemorySegmenter(k=1).fit(*GOOD)

    with pytest.raises(InvalidParameter, match="target"):
        DenseMemoryRegressor(k=1, memory=head.memory_).predict([signal(EAST)])


def test_diagnosis_needs_another_sample():
    """Leaving the only one out leaves nothing."""
    with pytest.raises(InvalidParameter, match="two samples"):
        DenseMemorySegmenter(k=1).fit(*GOOD).diagnose()


def test_a_sparse_memory_cannot_be_asked_about_itself():
    """Its cells are gone; inputs must be given."""
    head = DenseMemorySegmenter(k=1, sparse_levels=1).fit(
        [random_pyramid(0), random_pyramid(1)], [random_mask(0, (4, 4)), random_mask(1, (4, 4))]
    )

    with pytest.raises(InvalidParameter, match="sparse"):
        head.diagnose()


def test_a_volume_with_nan_is_refused_by_name():
    """The encoder says where, the head says which."""
    volume = np.ones((8, 8, 8))
    broken = volume.copy()
    broken[1, 2, 3] = NAN
    head = DenseMemorySegmenter(encoder=LocalStatistics(3, levels=2))

    with pytest.raises(NonFinite, match="sample 1") as caught:
        head.fit([volume, broken], [np.ones((8, 8, 8), int)] * 2)

    assert "(1, 2, 3" in str(caught.value)


def test_a_signal_shorter_than_one_cell_is_refused():
    """Four samples to a cell of the coarsest level."""
    head = DenseMemorySegmenter(encoder=LocalStatistics(1, levels=2))

    with pytest.raises(DimensionMismatch, match="smaller than one cell"):
        head.fit([np.arange(3.0)], [[1, 1, 1]])


class Enlarging:
    """Makes four cells of whatever it is given, as a network does that scales its input."""

    fingerprint, spec = "enlarging", None

    def open(self, source):
        return np.asarray(source, float)[:, None]

    def encode_pyramids(self, inputs):
        return iter([[np.ones((4, 2))] for _ in inputs])


def test_an_image_smaller_than_its_cells_is_refused_by_name():
    """A cell without a pixel of its own has no label to keep."""
    head = DenseMemorySegmenter(k=1, encoder=Enlarging())
    head.fit([[1, 2, 3, 4]], [[1, 1, 2, 2]])

    with pytest.raises(DimensionMismatch, match="sample 1 is smaller than its cells"):
        head.partial_fit([[1, 2, 3, 4], [1, 2, 3]], [[1, 1, 2, 2], [1, 1, 2]])

    assert len(head.memory_) == 1
    assert head.predict([[1, 2, 3]]).shape == (1, 3)


def test_a_mask_of_another_size_than_its_image_is_refused():
    """With an encoder the size of the input is known, and must be met exactly."""
    head = DenseMemorySegmenter(encoder=LocalStatistics(1, levels=2))

    with pytest.raises(DimensionMismatch, match="mask 0"):
        head.fit([np.arange(16.0)], [np.ones(32, int)])


def test_an_encoder_without_maps_is_refused():
    """A vector for a whole text says nothing of its places."""
    with pytest.raises(InvalidParameter, match="pyramids"):
        DenseMemorySegmenter(encoder=HashingTextEncoder()).fit(["a"], [[1]])
