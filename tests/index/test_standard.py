"""Arithmetic that another library has set to flush small numbers to zero."""

from __future__ import annotations

from threading import Thread

import numpy as np
import pytest

from recollect.index.exact import ExactIndex
from recollect.index.standard import is_standard, standard_arithmetic

torch = pytest.importorskip("torch")


@pytest.fixture
def flushing():
    """As torch, or a library compiled with -ffast-math, leaves a thread."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush small numbers to zero")
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("path", ["numpy", "auto"])
def test_answers_have_the_same_bits_when_small_numbers_are_flushed_to_zero(path, flushing):
    """2^-140 is 512 times the smallest number of float32, and lies below its normal range."""
    index = ExactIndex(1, "dot", path=path)
    index.add(np.arange(3), np.array([[1.0], [2.0], [3.0]]) * 2.0**-70)

    ids, similarity = index.search(np.array([[2.0**-70]]), 3)

    assert ids.tolist() == [[2, 1, 0]]
    assert similarity.view(np.int32).tolist() == [[3 * 512, 2 * 512, 512]]


def test_what_another_library_has_set_is_set_again_afterwards(flushing):
    """It may have its reasons."""
    assert not is_standard()
    with standard_arithmetic():
        assert is_standard()
    assert not is_standard()


def test_a_thread_that_was_left_alone_is_left_alone():
    """The state belongs to a thread; usually there is nothing to do."""
    seen = []
    thread = Thread(target=lambda: seen.append(is_standard()))
    thread.start()
    thread.join()

    assert seen == [True]
