"""Centers in groups: nearly every key finds its nearest center, by few comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.index.groups import Groups


@pytest.mark.parametrize("euclidean", [True, False])
def test_nearly_every_key_gets_its_nearest_center(euclidean):
    """The others get one that is nearly as near; a list of centers compares with all of them."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((900, 24)).astype(np.float32)
    keys = centers[rng.integers(0, 900, 2000)] + 0.4 * rng.standard_normal((2000, 24))
    keys = keys.astype(np.float32)
    nearness = keys @ centers.T - euclidean * 0.5 * np.square(centers).sum(axis=1)

    found = Groups(centers, euclidean=euclidean).assign(keys)

    assert (found == nearness.argmax(axis=1)).mean() > 0.9


def test_a_key_is_assigned_alike_in_two_runs():
    """The same rows give the same lists."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((400, 8)).astype(np.float32)
    keys = rng.standard_normal((500, 8)).astype(np.float32)

    first = Groups(centers, euclidean=True).assign(keys)

    assert np.array_equal(first, Groups(centers, euclidean=True).assign(keys))


def test_equal_centers_make_no_trouble():
    """Duplicates leave groups without members."""
    centers = np.ones((100, 4), np.float32)

    assert Groups(centers, euclidean=True).assign(np.ones((3, 4), np.float32)).shape == (3,)


def test_no_key_is_no_answer():
    """A batch may hold none."""
    centers = np.eye(4, dtype=np.float32)

    assert Groups(centers, euclidean=False).assign(np.empty((0, 4), np.float32)).shape == (0,)
