"""How cells hang together: small grids that can be drawn on paper."""

from __future__ import annotations

import numpy as np

from recollect.readout.grids import chain, children, neighbors, parents


def test_a_cell_of_twice_as_many_lies_under_half_its_number():
    """An integer ratio is plain division on every axis."""
    assert parents((4, 2), (2, 1)).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_every_cell_has_one_parent_where_sides_are_no_multiples():
    """7 over 13: floor(c * 7 / 13); no child is lost and none has two parents."""
    above = parents((13,), (7,))

    assert above.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


def test_children_are_the_other_way_round():
    """Ascending, padded with -1 where a parent has fewer."""
    assert children((5,), (2,)).tolist() == [[0, 1, 2], [3, 4, -1]]


def test_children_of_a_volume_are_two_on_every_axis():
    """2 x 2 x 2 cells under one."""
    assert children((2, 2, 2), (1, 1, 1)).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_neighbors_stop_at_the_border():
    """The corner of a 2 x 3 grid has three neighbors, in raster order."""
    corner = neighbors((2, 3), 1)[0]

    assert corner[corner >= 0].tolist() == [1, 3, 4]


def test_a_radius_of_two_reaches_further():
    """Chebyshev distance: all of the five cells around the middle of a line."""
    assert neighbors((5,), 2)[2].tolist() == [0, 1, 3, 4]


def test_ancestors_are_followed_level_by_level():
    """13 under 7 under 3: cell 12 lies under 6, which lies under 2."""
    assert chain([(3,), (7,), (13,)], 2, 0)[12] == 2


def test_tables_are_shared_and_cannot_be_written():
    """One table serves every caller; a write would spoil all of them."""
    assert not parents((4,), (2,)).flags.writeable
    assert parents((4,), (2,)) is parents((4,), (2,))
    assert np.array_equal(children((4,), (4,)), [[0], [1], [2], [3]])
