"""Locks and forks: a child has the locks of its parent, but not the threads that hold them."""

from __future__ import annotations

import os
import signal
import warnings

import numpy as np
import pytest

from recollect.index.exact import ExactIndex
from recollect.index.gate import Gate
from recollect.locks import ProcessLock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def in_a_child(work):
    """Run in a fork that is killed if it hangs; tells whether it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forks and threads
        child = os.fork()
    if not child:
        signal.alarm(5)
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child must not run the rest of the tests
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def test_a_lock_that_is_held_when_a_process_forks_is_free_in_the_child():
    """The thread that would let go of it is not there."""
    lock = ProcessLock()

    def take():
        with lock:
            pass

    with lock:
        assert in_a_child(take)


def test_a_gate_with_readers_lets_a_writer_of_a_child_in():
    """Readers of the parent will never leave the child's copy."""
    gate = Gate()

    def write():
        with gate.alone():
            pass

    with gate.shared():
        assert in_a_child(write)


def test_a_fork_while_a_thread_makes_codes_does_not_hang_the_childs_search():
    """The first search of a block makes its codes under a lock; workers of a loader fork then."""
    index = ExactIndex(2)
    index.add(np.arange(3), np.eye(3, 2) + 1.0)
    (block,) = index.snapshot.blocks

    def ask():
        assert index.search(np.array([[2.0, 1.0]]), 1)[0].tolist() == [[0]]
        index.add(np.array([3]), np.array([[2.0, 1.0]]))
        assert index.search(np.array([[2.0, 1.0]]), 1)[0].tolist() == [[0]]

    with block.shadows[0].lock, block.shadows[1].lock, index._store._lock:
        assert in_a_child(ask)
