"""Training lists, measuring how deep to search them, and telling when that is out of date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.index.blocks import Snapshot
from recollect.index.coarse import LARGEST_SIZE
from recollect.index.exact import ExactIndex
from recollect.index.gate import Gate
from recollect.index.lists import POINTS, Lists, train
from recollect.index.mapped import let_go
from recollect.index.policy import Approximate
from recollect.index.recall import Reach
from recollect.types import Doubles, Floats, Ids, Mask, Metric

NEIGHBORS = 100  # of each row of the sample; recall for a larger k is taken to be that for 100
ASKED = 64  # rows of the sample asked at a time, so that other searches get their turn
STEP = 1 << 15  # rows read at a time
MOST_LISTS = 1 << 14
# Candidates, so many times k and so many more; and of the neighbors that may be missed, the share
# that 8 bits a number may cost. What comes first costs least; the first that holds is taken.
SPARES = (
    (1, 16, 0.25), (2, 32, 0.25), (4, 64, 0.25), (8, 128, 0.25), (8, 128, 0.5), (16, 256, 0.9),
)  # fmt: skip
CHECKED = 10  # the k at which the search itself is held against an exact one
CHANGED, GROWN = 0.2, 2.0  # shares of the rows that make figures and centers out of date


class Stopped(Exception):
    """The rows are wanted no more."""


Check = Callable[[], None]
"""Raises ``Stopped`` if training should end."""


def go_on() -> None:
    """Let a training run to its end."""


@dataclass
class Turnover:
    """Rows that came into lists and went out of them since their centers were found.

    Rows that replace others leave their number as it was, and make lists as old as any.
    """

    came: int = 0
    gone: int = 0


@dataclass(frozen=True, eq=False)
class Trained:
    """Lists with rows in them, and what was measured of them.

    Attributes:
        lists: The lists.
        metric: How rows are compared.
        recall: What was wanted.
        reach: Where the neighbors of the sample lie.
        spare: How many times k candidates are taken, how many more, and the share of what may be
            missed that 8 bits a number may cost.
        rows_measured: Rows there were when this was measured.
        rows_trained: Rows there were when the centers were found.
        measured: Recall at 10 that a search of the sample had; 0.0 where it is not known.
        odd: Rows too long for float32 arithmetic, which are candidates for every query.
        turnover: Of the lists; shared by all that was measured of them.
        before: What it was when this was measured.
    """

    lists: Lists
    metric: Metric
    recall: float
    reach: Reach
    spare: tuple[int, int, float]
    rows_measured: int
    rows_trained: int
    measured: float
    odd: set[int] = field(default_factory=set)
    turnover: Turnover = field(default_factory=Turnover)
    before: Turnover = field(default_factory=Turnover)

    @property
    def ids(self) -> Ids:
        """int64, sorted: all rows that may be found."""
        return np.sort(np.concatenate([self.lists.ids(), np.array(sorted(self.odd), np.int64)]))

    def depth(self, k: int) -> int:
        """Return how many lists must be looked into."""
        loss = self.spare[2] if self.lists.storage == "8bit" else 0.0
        return self.reach.depth(k=k, recall=1 - (1 - self.recall) * (1 - loss))

    @property
    def holds(self) -> bool:
        """Whether the recall that was wanted was measured."""
        return self.measured >= self.recall

    def candidates(self, k: int) -> int:
        """Return how many candidates are taken out of the lists."""
        times, more, _ = self.spare
        return max(1, min(self.lists.rows, times * k + more))

    def find(
        self, queries: Floats, sizes: Doubles, depth: int, count: int, allowed: Ids | None = None
    ) -> tuple[Ids, Floats]:
        """Return candidates of regular queries and their scores; see ``Lists.find``."""
        prepared = self.lists.prepare(queries, sizes)
        return self.lists.find(prepared, self.lists.probe(prepared, depth), count, allowed)

    def with_odd(self, ids: Ids, allowed: Ids | None = None) -> Ids:
        """Put the odd rows that may be found behind the candidates of every query."""
        rows = np.array(sorted(self.odd), np.int64)
        if allowed is not None:
            rows = rows[np.isin(rows, allowed)]
        if not len(rows):
            return ids
        return np.concatenate([ids, np.broadcast_to(rows, (len(ids), len(rows)))], axis=1)

    def add(self, ids: Ids, keys: NDArray[Any], sizes: Doubles) -> None:
        """Take rows in."""
        self.turnover.came += len(ids)
        regular = regular_sizes(self.metric, sizes)
        if not regular.all():
            self.odd.update(ids[~regular].tolist())
            ids, keys, sizes = ids[regular], keys[regular], sizes[regular]
        self.lists.add(ids, self.lists.prepare(keys, sizes))

    def remove(self, ids: Ids) -> None:
        """Take rows out."""
        self.turnover.gone += len(ids)
        self.odd.difference_update(ids.tolist())
        self.lists.remove(ids)

    def facts(self) -> dict[str, Any]:
        """What a user may want to know, as plain values for JSON."""
        return {
            "lists": len(self.lists),
            "lists_searched": self.depth(CHECKED),
            "candidates": self.candidates(CHECKED),
            "measured_recall": round(self.measured, 4),
            "measured_at_rows": self.rows_measured,
        }


def regular_sizes(metric: Metric, sizes: Doubles) -> Mask:
    """Tell which rows or queries float32 arithmetic can compare."""
    return np.ones(len(sizes), bool) if metric == "cosine" else sizes <= LARGEST_SIZE


def drifted(trained: Trained, leaving: int = 0) -> Literal["train", "measure"] | None:
    """Tell whether the rows have changed so much that lists or figures no longer fit them.

    Args:
        trained: The lists.
        leaving: Rows that are gone and have not left the lists yet.
    """
    turnover, before = trained.turnover, trained.before
    gone, left = turnover.gone + leaving, trained.rows_trained - turnover.gone - leaving
    if turnover.came > (GROWN - 1) * trained.rows_trained or GROWN * left < trained.rows_trained:
        return "train"
    if not trained.rows_measured:
        return "measure"
    changed = max(turnover.came - before.came, gone - before.gone)
    return "measure" if changed > CHANGED * trained.rows_measured else None


def live_ids(snapshot: Snapshot) -> Ids:
    """int64, sorted: ids of all rows of a snapshot."""
    parts = [
        block.ids if block.live is None else block.ids[block.live] for block in snapshot.blocks
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))


def live_rows(snapshot: Snapshot) -> Iterator[tuple[Ids, NDArray[Any], Doubles]]:
    """Go through ids, keys and sizes of all rows, some at a time, in the order they lie in."""
    for block in snapshot.blocks:
        for start in range(0, len(block), STEP):
            part = slice(start, start + STEP)
            ids, keys, sizes = block.ids[part], block.keys[part], block.sizes[part]
            if block.live is not None:
                here = block.live[part]
                ids, keys, sizes = ids[here], keys[here], sizes[here]
            yield ids, keys.astype(np.float32, copy=False), sizes
        let_go(block.keys)


def train_lists(
    exact: ExactIndex, metric: Metric, policy: Approximate, check: Check = go_on
) -> Trained:
    """Make lists of all rows of an index, and measure them.

    Raises:
        Stopped: ``check`` said so.
    """
    snapshot = exact.snapshot
    ids = live_ids(snapshot)
    wanted = policy.lists or int(4 * np.sqrt(len(ids)))
    count = max(1, min(wanted, MOST_LISTS, len(ids)))
    rng = np.random.default_rng(policy.seed)
    sample = np.sort(rng.choice(ids, min(len(ids), count * POINTS), replace=False))
    keys, sizes = snapshot.gather(snapshot.locate(sample))
    for block in snapshot.blocks:
        let_go(block.keys)
    regular = regular_sizes(metric, sizes)
    shell = Lists(metric, "flat", np.zeros((1, exact.dim), np.float32), np.empty(0, np.float32))
    prepared = shell.prepare(keys[regular], sizes[regular])
    del keys
    centers, ranges = train(
        metric, policy.storage, prepared, count, seed=policy.seed, check=check
    )  # fmt: skip
    del prepared
    lists = Lists(metric, policy.storage, centers, ranges)
    odd = _fill(lists, metric, snapshot, check)
    first = Trained(
        lists, metric, policy.recall, Reach(np.zeros((1, 1), np.int64), count), SPARES[0],
        len(ids), len(ids), 0.0, odd,
    )  # fmt: skip
    return measure(exact, snapshot, policy, first, check=check)


def _fill(lists: Lists, metric: Metric, snapshot: Snapshot, check: Check) -> set[int]:
    """Put all rows into empty lists; returns those that belong into none."""
    odd: set[int] = set()
    assigned = []
    for ids, keys, sizes in live_rows(snapshot):
        check()
        regular = regular_sizes(metric, sizes)
        odd.update(ids[~regular].tolist())
        assigned.append(lists.assign(lists.prepare(keys[regular], sizes[regular])))
    lists.reserve(np.bincount(np.concatenate(assigned), minlength=len(lists)))
    for (ids, keys, sizes), where in zip(live_rows(snapshot), assigned, strict=True):
        check()
        regular = regular_sizes(metric, sizes)
        lists.add(ids[regular], lists.prepare(keys[regular], sizes[regular]), where)
    return odd


def measure(
    exact: ExactIndex,
    snapshot: Snapshot,
    policy: Approximate,
    trained: Trained,
    *,
    gate: Gate | None = None,
    check: Check = go_on,
) -> Trained:
    """Ask a sample of rows for their neighbors, exactly and by the lists.

    Args:
        exact: Knows the truth.
        snapshot: The rows to sample from.
        policy: The recall that is wanted, and the size of the sample.
        trained: The lists, and what was known of them.
        gate: Of lists that are in use.
        check: Called now and then.

    Returns:
        The same lists with what was measured now. Where nothing reaches the recall, ``holds`` is
        False.

    Raises:
        Stopped: ``check`` said so.
    """
    lists, metric, before = trained.lists, trained.metric, replace(trained.turnover)
    ids = live_ids(snapshot)
    rng = np.random.default_rng(policy.seed + 1)
    sample = np.sort(rng.choice(ids, min(len(ids), policy.sample), replace=False))
    keys, sizes = snapshot.gather(snapshot.locate(sample))
    regular = regular_sizes(metric, sizes)
    sample, keys, sizes = sample[regular], keys[regular], sizes[regular]
    k = max(1, min(NEIGHBORS, len(ids) - 1))
    truth = np.empty((len(sample), k), np.int64)
    for start in range(0, len(sample), ASKED):
        check()
        part = slice(start, start + ASKED)
        truth[part] = exact.search(keys[part], k, exclude=sample[part])[0]
    reach = Reach(_ranks(lists, metric, snapshot, lists.prepare(keys, sizes), truth), len(lists))
    made = replace(
        trained, recall=policy.recall, reach=reach, rows_measured=len(ids), before=before
    )
    for spare in SPARES:
        check()
        made = replace(made, spare=spare)
        with (gate or Gate()).shared():
            share = _found(made, keys, sizes, sample, truth[:, :CHECKED])
        made = replace(made, measured=share)
        if made.holds:
            break
    return made


def _ranks(
    lists: Lists, metric: Metric, snapshot: Snapshot, prepared: Floats, truth: Ids
) -> NDArray[np.int64]:
    """Count, for each true neighbor, the lists that are nearer to the query than its own."""
    ranks = np.empty(truth.shape, np.int64)
    for start in range(0, len(truth), ASKED):
        part = slice(start, start + ASKED)
        slots = snapshot.locate(truth[part].reshape(-1))
        keys, sizes = snapshot.gather(np.maximum(slots, 0))
        own = lists.assign(lists.prepare(keys, sizes)).reshape(truth[part].shape)
        order = np.argsort(-lists.nearness(prepared[part]), axis=1, kind="stable")
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.arange(len(lists))[None], axis=1)
        # Nobody is to blame for a row that went meanwhile, or for one that is always a candidate.
        here = ((slots >= 0) & regular_sizes(metric, sizes)).reshape(own.shape)
        ranks[part] = np.where(here, np.take_along_axis(place, own, axis=1), 0)
    return ranks


def _found(trained: Trained, keys: Floats, sizes: Doubles, sample: Ids, truth: Ids) -> float:
    """Share of the true neighbors that are among the candidates."""
    k = truth.shape[1]
    hits = 0
    for start in range(0, len(sample), ASKED):
        part = slice(start, start + ASKED)
        found, _ = trained.find(
            keys[part], sizes[part], trained.depth(k), trained.candidates(k) + 1
        )
        found = trained.with_odd(found)
        hits += int((truth[part][:, :, None] == found[:, None, :]).any(axis=2).sum())
    return hits / truth.size
