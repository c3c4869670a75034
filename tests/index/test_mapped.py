"""Memory that a process holds while it reads files larger than it may hold."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from recollect import Memory
from recollect.index import mapped
from recollect.index.exact import ExactIndex

pytestmark = pytest.mark.skipif(not mapped.held(), reason="this system does not say what is held")
MEGABYTE = 1 << 20


@pytest.fixture
def content(tmp_path):
    """48 MiB of zeros on the disk."""
    (tmp_path / "keys").write_bytes(bytes(48 * MEGABYTE))
    with (tmp_path / "keys").open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(whole, np.uint8)


@pytest.fixture
def tight(monkeypatch):
    """A machine on which anything is too much."""
    monkeypatch.setattr(mapped, "budget", lambda: 0)


def test_pages_of_a_mapped_file_are_given_back_where_memory_is_tight(content, tight):
    """Otherwise a process comes to hold every byte of a memory that it has read once."""
    assert content.sum() == 0
    full = mapped.held()

    assert mapped.let_go(content[64:].view("<f4").reshape(-1, 4))

    assert full - mapped.held() > 40 * MEGABYTE
    assert content.sum() == 0


def test_nothing_is_given_back_where_there_is_room(content):
    """It would be read from the cache of the operating system again."""
    content.sum()

    assert not mapped.let_go(content)


def test_arrays_that_are_no_read_only_file_are_left_alone(tight):
    """What was written to private pages would be lost."""
    private = np.frombuffer(mmap.mmap(-1, 4096), np.uint8)
    private[:] = 7

    assert not mapped.let_go(private)
    assert not mapped.let_go(np.ones(5))
    assert (private == 7).all()


def test_answers_are_the_same_where_memory_is_tight(tmp_path, monkeypatch):
    """What is given back is read again."""
    keys = np.random.default_rng(2).standard_normal((6000, 32)).astype(np.float32)
    with Memory.create(tmp_path / "m", dim=32) as memory:
        memory.add(keys, [0] * 6000)
    index = ExactIndex(32)
    index.add(np.arange(6000), keys)
    truth = index.search(keys[:20], 5)
    given_back = []
    monkeypatch.setattr(mapped, "held", lambda: given_back.append(1) or 1 << 60)

    with Memory.open(tmp_path / "m", read_only=True) as memory:
        near = memory.search(keys[:20], 5)

    assert given_back
    assert np.array_equal(near.ids, truth[0])
    assert np.array_equal(near.similarity, truth[1])
