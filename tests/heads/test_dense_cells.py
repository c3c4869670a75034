"""What is compared of a cell, and how its labels are kept."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.heads.dense_memory.layout import describe
from recollect.heads.dense_memory.masks import coded


@pytest.mark.parametrize("ignore", [0, 7, 255, 300, -1])
def test_a_mask_of_bytes_is_kept_as_one_of_any_numbers_is(ignore):
    """Bytes take a quicker way: the same labels, the same codes, the same dtype."""
    for values in (
        np.array([[3, 7], [255, 0]]),
        np.arange(256).reshape(16, 16),
        np.full((2, 2), 9),
    ):
        quick = coded(values.astype(np.uint8), ignore)
        plain = coded(values.astype(np.int64), ignore)

        assert quick["labels"].tolist() == plain["labels"].tolist()
        assert quick["mask"].tolist() == plain["mask"].tolist()
        assert quick["mask"].dtype == plain["mask"].dtype


def test_features_of_any_size_become_vectors_of_length_one():
    """Squares of very large or small numbers leave the range of float32; zeros stay zeros."""
    rows = np.array([[3.0, 4.0], [3e30, 4e30], [3e-30, 4e-30], [3e-44, 4e-44], [0.0, 0.0]], "f")

    found = describe(rows, (5,), None, 0.0)

    assert found[:3].tolist() == pytest.approx(np.array([[0.6, 0.8]] * 3), rel=1e-6)
    assert np.linalg.norm(found[3]) == pytest.approx(1.0, rel=1e-6)
    assert found[4].tolist() == [0.0, 0.0]


def test_the_place_stands_beside_features_of_length_one():
    """Two cells at -1/2 and 1/2; one without features is told by its place alone."""
    found = describe(np.array([[3.0, 4.0], [0.0, 0.0]], "f"), (2,), None, 1.0)

    assert found[0] == pytest.approx(np.array([0.6, 0.8, -0.5]) / np.sqrt(1.25), rel=1e-6)
    assert found[1].tolist() == [0.0, 0.0, 1.0]
    alone = describe(np.zeros((1, 2), "f"), (1,), None, 1.0)
    assert alone.tolist() == [[0.0, 0.0, 0.0]]


def test_a_cell_is_described_alike_alone_and_among_others():
    """A sparse row holds some of the cells that a query asks about: the same bits for both."""
    rows = np.random.default_rng(0).normal(size=(12, 33)).astype(np.float32)
    whole = describe(rows, (3, 4), None, 0.3)

    for cells in ([0], [5], [2, 7, 11]):
        some = np.array(cells)
        assert describe(rows[some], (3, 4), some, 0.3).tobytes() == whole[some].tobytes()
