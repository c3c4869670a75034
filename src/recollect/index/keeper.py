"""Keeps lists trained and in step with the rows, beside the searches that use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, current_thread
from typing import Any

import numpy as np

from recollect.index.exact import ExactIndex
from recollect.index.gate import Gate
from recollect.index.lists import load_faiss
from recollect.index.policy import Approximate
from recollect.index.training import (
    Stopped,
    Trained,
    drifted,
    live_ids,
    measure,
    train_lists,
)
from recollect.locks import ProcessLock
from recollect.types import Ids, Metric

STEP = 1 << 14  # rows put into lists at a time
PURGE = 4096  # removed rows that lists may still hold; no answer does, as each row is looked up


def trust(ids: Ids | None) -> None:
    """Vouch for keys that lie in memory: there is no disk to mistrust."""


class Keeper:
    """The lists of one set of rows: there are none, they are trained, they follow every write.

    It outlives the indexes that use it: rows that are read anew from the disk have the same keys
    under the same ids, so their lists need only what differs.

    Args:
        metric: How rows are compared.
        policy: The recall to hold and how.
        trained: Lists that were trained before.
        purge: So many removed rows may stay in the lists until they are deleted from them.

    Raises:
        MissingExtra: faiss is not installed.

    Attributes:
        trained: The lists and what was measured of them; None while there are none.
        failure: What kept the training from an end; searches stay exact then.
    """

    def __init__(
        self,
        metric: Metric,
        policy: Approximate,
        *,
        trained: Trained | None = None,
        purge: int = PURGE,
    ) -> None:
        load_faiss()
        self.policy, self.trained = policy, trained
        self.failure: BaseException | None = None
        self._metric, self._purge_at = metric, purge
        self._gate, self._starting, self._closing = Gate(), ProcessLock(), Event()
        self._gone: list[Ids] = []
        self._worker: Thread | None = None
        self._exact: ExactIndex | None = None
        self._vouch: Callable[[Ids | None], None] = trust

    # -- rows ----------------------------------------------------------------------------------

    def serve(self, exact: ExactIndex, vouch: Callable[[Ids | None], None]) -> None:
        """Take over rows that were read anew; the lists follow what differs."""
        self._exact, self._vouch = exact, vouch
        if self.trained is not None:
            self._settle(self.trained)

    @contextmanager
    def reading(self) -> Iterator[Trained | None]:
        """The lists, which nobody changes meanwhile."""
        with self._gate.shared():
            yield self.trained

    def enter(self, take: Callable[[], None], ids: Ids) -> None:
        """Let ``take`` put rows into the exact index, and then put them into the lists."""
        with self._gate.alone():
            take()
            if self.trained is not None and len(ids):
                self._purge()  # an id that comes back must not have two keys in the lists
                self._put(self.trained, ids)

    def leave(self, ids: Ids) -> None:
        """Let rows go that have left the exact index, and so every answer."""
        if self.trained is None or not len(ids):
            return
        self._gone.append(ids)
        if sum(map(len, self._gone)) >= self._purge_at:
            with self._gate.alone():
                self._purge()

    def purge(self) -> None:
        """Delete every row from the lists that has left."""
        with self._gate.alone():
            self._purge()

    def _purge(self) -> None:
        gone, self._gone = self._gone, []
        if gone and self.trained is not None:
            self.trained.remove(np.concatenate(gone))

    def _put(self, trained: Trained, ids: Ids) -> None:
        assert self._exact is not None
        snapshot = self._exact.snapshot
        for start in range(0, len(ids), STEP):
            some = ids[start : start + STEP]
            trained.add(some, *snapshot.gather(snapshot.locate(some)))

    # -- training ------------------------------------------------------------------------------

    @property
    def working(self) -> bool:
        """Whether lists are being trained or measured."""
        return self._worker is not None and self._worker.is_alive()

    def follow(self) -> None:
        """Begin to train, or to measure anew, if that is due."""
        if not self._due() or self._worker is current_thread():
            return
        with self._starting:
            if self.working or not self._due():
                return
            if not self.policy.background:
                self._work()
                return
            self._worker = Thread(target=self._work, name="recollect-training", daemon=True)
            self._worker.start()

    def stop(self) -> None:
        """Train no more; a training notices within seconds. What is trained stays as it is."""
        self._closing.set()

    def close(self) -> None:
        """Train no more, and wait until a training has noticed."""
        self.stop()
        if self._worker is not None and self._worker is not current_thread():
            self._worker.join()

    def _check(self) -> None:
        if self._closing.is_set():
            raise Stopped

    def prepare(self) -> None:
        """Train now if that is due, and wait until it is done."""
        self.follow()
        if self._worker is not None and self._worker is not current_thread():
            self._worker.join()

    def _due(self) -> bool:
        rows = 0 if self._exact is None else len(self._exact)
        if self._metric == "manhattan" or rows < self.policy.least or self.failure is not None:
            return False
        if self._closing.is_set():
            return False
        trained = self.trained
        return trained is None or drifted(trained, sum(map(len, self._gone))) is not None

    def _work(self) -> None:
        try:
            self._settle(self._renewed())
        except Stopped:
            return
        except Exception as error:  # noqa: BLE001 - searches stay exact, and `status` says why
            self.failure = error

    def _renewed(self) -> Trained:
        exact, old = self._exact, self.trained
        assert exact is not None
        self._vouch(None)
        if old is None or drifted(old, sum(map(len, self._gone))) == "train":
            return train_lists(exact, self._metric, self.policy, self._check)
        # What has left still fills candidates of the sample, and would count as changed for ever.
        self.purge()
        return measure(
            exact, exact.snapshot, self.policy, old, gate=self._gate, check=self._check
        )  # fmt: skip

    def _settle(self, trained: Trained) -> None:
        """Bring lists up to date with the rows that are here now, and use them."""
        exact = self._exact
        assert exact is not None
        # Vouching may wait for a writer, who may wait for the gate: so not within it. Rows that
        # come in between come from this process, not from a disk.
        with self._gate.shared():
            held = trained.ids
        self._vouch(np.setdiff1d(live_ids(exact.snapshot), held, assume_unique=True))
        with self._gate.alone():
            self._gone = []
            here, held = live_ids(exact.snapshot), trained.ids
            if not np.array_equal(here, held):
                trained.remove(np.setdiff1d(held, here, assume_unique=True))
                self._put(trained, np.setdiff1d(here, held, assume_unique=True))
            self.trained = trained

    def status(self) -> dict[str, Any]:
        """Say what is wanted and what goes on, as plain values for JSON."""
        facts: dict[str, Any] = {"wanted_recall": self.policy.recall, "training": self.working}
        if self.failure is not None:
            facts["failure"] = str(self.failure)
        return facts
