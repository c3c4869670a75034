"""Search with what the nearest row leaves of a query (appendix O of the paper)."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import Memory
from recollect.errors import EmptyMemory, InvalidParameter
from recollect.heads.residual_search import residual_search


@pytest.fixture
def memory():
    """Three directions at right angles, and one between the first two."""
    memory = Memory.create(":memory:", dim=3)
    memory.add([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.8, 0.6, 0]], ["sky", "boat", "dog", "sea"])
    return memory


def test_the_second_search_finds_what_the_nearest_row_does_not_explain(memory):
    """Of (3, 0, 4) / 5 the dog is nearest; what is left points to the sky."""
    first, second = residual_search(memory, [[3, 0, 4]], k=1)

    assert first.near.values.tolist() == [["dog"]]
    assert second.near.values.tolist() == [["sky"]]
    assert first.left.tolist() == pytest.approx([1.0])
    assert second.left.tolist() == pytest.approx([0.4**0.5])


def test_a_query_that_is_a_row_leaves_nothing(memory):
    """There is no direction to search in, so nothing is found."""
    second = residual_search(memory, [[0, 0, 2], [3, 0, 4]], k=2)[1]

    assert second.near.ids[0].tolist() == [-1, -1]
    assert second.near.values[0].tolist() == [None, None]
    assert second.near.ids[1, 0] == 0


def test_the_nearest_row_of_an_earlier_step_is_not_found_again(memory):
    """Half of its direction is still in what is left."""
    first, second = residual_search(memory, [[3, 0, 4]], k=3, strength=0.5)

    assert first.near.ids[0, 0] not in second.near.ids[0]


def test_other_metrics_and_empty_memories_are_refused(memory):
    """What is left of a query is a direction."""
    with pytest.raises(InvalidParameter):
        residual_search(Memory.create(":memory:", dim=3, metric="euclidean"), [[1, 0, 0]])
    with pytest.raises(EmptyMemory):
        residual_search(Memory.create(":memory:", dim=3), [[1, 0, 0]])
    with pytest.raises(InvalidParameter):
        residual_search(memory, [[1, 0, 0]], strength=2)
    with pytest.raises(ValueError, match="shape"):
        residual_search(memory, np.zeros((1, 2)))
