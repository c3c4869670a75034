"""A memory from anyone: rows that no head for dense prediction wrote are refused, in our words."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import DenseMemoryRegressor, DenseMemorySegmenter, Memory
from recollect.errors import InvalidParameter

NAN = float("nan")
SOME = {"features_1": np.ones((2, 3), "f")}

LABELS = {
    "no shapes": {"shapes": None},
    "no size": {"size": None},
    "no labels": {"labels": None},
    "no features of a level": {"features_1": None},
    "a code without a label": {"mask": np.array([0, 200, 0, 0], np.uint8)},
    "codes below 0": {"mask": np.array([0, -1, 0, 0])},
    "fewer features than cells": {"features_1": np.ones((3, 3), "f")},
    "features of one axis": {"features_1": np.ones(4, "f")},
    "features of width 0": {"features_1": np.ones((4, 0), "f")},
    "features of float64": {"features_1": np.ones((4, 3))},
    "NaN for a feature": {"features_1": np.full((4, 3), NAN, "f")},
    "infinity for a feature": {"features_0": np.full((2, 3), np.inf, "f")},
    "a side below 1": {"shapes": np.array([[2], [-4]])},
    "sides with a fraction": {"shapes": np.array([[2.0], [4.0]])},
    "no level": {"shapes": np.empty((0, 1), int)},
    "four axes": {"shapes": np.full((2, 4), 2)},
    "a finer level that is smaller": {"shapes": np.array([[4], [2]])},
    "a grid of terabytes": {"shapes": np.array([[2], [2**40]])},
    "a cell beyond its grid": SOME | {"cells_1": np.array([0, 99], np.int32)},
    "a cell below 0": SOME | {"cells_1": np.array([-5, 1], np.int32)},
    "a cell twice": SOME | {"cells_1": np.array([1, 1], np.int32)},
    "cells of two axes": SOME | {"cells_1": np.array([[0], [1]], np.int32)},
    "cells with a fraction": SOME | {"cells_1": np.array([0.0, 1.5])},
    "gaps in the coarsest level": {
        "features_0": np.ones((1, 3), "f"), "cells_0": np.array([0], np.int32),
    },
    "a mask smaller than the finest grid": {"mask": np.zeros(3, np.uint8)},
    "a mask of two axes": {"mask": np.zeros((4, 4), np.uint8)},
    "a mask that is not of the image's size": {"size": np.array([5])},
    "a size smaller than the finest grid": {"size": np.array([3])},
    "a size of two axes": {"size": np.array([4, 4])},
    "a label with a fraction": {"labels": np.array([1.5])},
    "a label below 0": {"labels": np.array([-1])},
    "a label twice": {"labels": np.array([1, 1])},
    "no label at all": {"labels": np.empty(0, int)},
    "NaN for a scale": {
        "features_1": np.ones((4, 3), np.int8), "scale_1": np.full(4, NAN, "f"),
    },
    "a scale that leads out of range": {
        "features_1": np.ones((4, 3), np.int8), "scale_1": np.full(4, 3e38, "f"),
    },
    "a byte that nothing here writes": {
        "features_1": np.full((4, 3), -128, np.int8), "scale_1": np.ones(4, "f"),
    },
    "too few scales": {"features_1": np.ones((4, 3), np.int8), "scale_1": np.ones(3, "f")},
    "int8 without scales": {"features_1": np.ones((4, 3), np.int8)},
    "scales without int8": {"scale_1": np.ones(4, "f")},
}  # fmt: skip

NUMBERS = {
    "a target smaller than the finest grid": {"target": np.ones((3, 1), "f")},
    "a target without its last axis": {"target": np.ones(4, "f")},
    "a target of width 0": {"target": np.ones((4, 0), "f")},
    "infinity in a target": {"target": np.full((4, 1), np.inf, "f")},
    "whole numbers for a target": {"target": np.ones((4, 1), int)},
}

GOOD = {
    "shapes": np.array([[2], [4]]), "features_0": np.ones((2, 3), "f"),
    "features_1": np.ones((4, 3), "f"), "size": np.array([], np.int64),
}  # fmt: skip
OF_LABELS = GOOD | {"mask": np.array([0, 0, 0, 1], np.uint8), "labels": np.array([7])}
OF_NUMBERS = GOOD | {"target": np.ones((4, 1), "f")}


def memory_of(*rows):
    """A memory of arrays as anyone can write it."""
    memory = Memory.create(":memory:", dim=3, metric="dot", value="arrays")
    values = np.empty(len(rows), object)
    values[:] = [{name: each for name, each in row.items() if each is not None} for row in rows]
    memory.add(np.ones((len(rows), 3), np.float32), values)
    return memory


def asked():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2, 3)), rng.normal(size=(4, 3))]


def test_rows_that_are_in_order_are_read():
    """What the cases below change is what they are refused for."""
    head = DenseMemorySegmenter(k=2, memory=memory_of(OF_LABELS))

    assert head.predict([asked()]).tolist() == [[7, 7, 7, 7]]
    assert DenseMemoryRegressor(memory=memory_of(OF_NUMBERS)).predict([asked()]).shape == (1, 4)


@pytest.mark.parametrize("changed", LABELS.values(), ids=LABELS)
def test_a_forged_row_of_labels_is_refused_whatever_is_asked(changed):
    """With the row named, by one error: never a wrong answer, never an error of NumPy's."""
    head = DenseMemorySegmenter(k=2, memory=memory_of(OF_LABELS | changed))

    for ask in (
        lambda: head.predict([asked()]),
        lambda: head.explain(asked(), [0]),
        lambda: head.partial_fit([asked()], [[0, 1, 1, 0]]),
        lambda: head.relabel([0], [[0, 1, 1, 0]]),
    ):
        with pytest.raises(InvalidParameter, match="row 0"):
            ask()
    assert len(head.memory_) == 1


@pytest.mark.parametrize("changed", NUMBERS.values(), ids=NUMBERS)
def test_a_forged_row_of_numbers_is_refused(changed):
    """Targets are judged as masks are."""
    head = DenseMemoryRegressor(k=2, memory=memory_of(OF_NUMBERS | changed))

    with pytest.raises(InvalidParameter, match="row 0"):
        head.predict([asked()])


@pytest.mark.parametrize("other", [
    {"features_1": np.ones((4, 2), "f")},
    {"shapes": np.array([[2]]), "features_1": None},
    {"shapes": np.array([[2, 1], [4, 1]]), "mask": np.zeros((4, 1), np.uint8)},
])  # fmt: skip
def test_a_row_that_does_not_go_with_the_others_is_refused(other):
    """Each is in order alone."""
    head = DenseMemorySegmenter(memory=memory_of(OF_LABELS, OF_LABELS | other))

    with pytest.raises(InvalidParameter, match="row 1"):
        head.predict([asked()])


def test_targets_of_several_widths_are_refused():
    """They would share a table."""
    wide = OF_NUMBERS | {"target": np.ones((4, 2), "f")}

    with pytest.raises(InvalidParameter, match="a row"):
        DenseMemoryRegressor(memory=memory_of(OF_NUMBERS, wide)).predict([asked()])


def test_cells_that_hang_on_nothing_are_refused():
    """A kept cell whose parent was not kept cannot be reached, and has no path."""
    row = OF_LABELS | {
        "shapes": np.array([[1], [2], [4]]), "features_0": np.ones((1, 3), "f"),
        "features_1": np.ones((1, 3), "f"), "cells_1": np.array([0], np.int32),
        "features_2": np.ones((1, 3), "f"), "cells_2": np.array([3], np.int32),
    }  # fmt: skip

    with pytest.raises(InvalidParameter, match="row 0"):
        DenseMemorySegmenter(memory=memory_of(row)).predict([[np.ones((1, 3)), *asked()]])


@pytest.mark.parametrize("cell", [
    [True], True, np.array(True), np.array(9), np.array(1.0), None, "1", [[1]], {}, [1, 2],
    np.array([[1], [2]]), [1.0],
])  # fmt: skip
def test_what_is_no_cell_is_refused(cell):
    """Truth values and arrays without axes included; 0-d whole numbers are numbers."""
    head = DenseMemorySegmenter(k=2, memory=memory_of(OF_LABELS))

    with pytest.raises(InvalidParameter, match="no such cell"):
        head.explain(asked(), cell)
    assert head.explain(asked(), np.array(3)).cell == (3,)


@pytest.mark.parametrize("size", [
    True, (True,), np.array(True), np.array(0), np.array(1.0), "4", [[4]], {}, (4, 4), (4.0,),
    2**40,
])  # fmt: skip
def test_what_is_no_size_is_refused(size):
    """As of cells."""
    head = DenseMemorySegmenter(k=2, memory=memory_of(OF_LABELS))

    with pytest.raises(InvalidParameter, match="size is out of range"):
        head.predict([asked()], size=size)
    assert head.predict([asked()], size=np.array(8)).shape == (1, 8)


def test_a_median_that_is_asked_for_later_is_of_one_number_too():
    """Found by fresh eyes: it read all numbers by the order of the first."""
    wide = OF_NUMBERS | {"target": np.ones((4, 2), "f")}
    head = DenseMemoryRegressor(k=2, memory=memory_of(wide)).set_params(reading="median")

    with pytest.raises(InvalidParameter, match="a median is of one number"):
        head.predict([asked()])
