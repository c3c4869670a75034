"""Search by inverted lists: most rows are not looked at, and the recall that costs is held.

Who is found may be short of a true neighbor; what is found is not approximate. Candidates come out
of the lists by id. Those that were removed, are not allowed or are excluded are dropped, the others
get the similarity of ``scoring.similarity`` from their keys, and are ordered by it and by id. Where
more rows tie than candidates were taken, more are taken, so that the smallest ids of equal rows are
kept as in an exact search. Every step is by query, so a query has one answer alone and in a batch.

Searches stay exact until the lists are trained, for few rows, for a filter that few rows pass, for
a k of a large share of the rows, and where lists would not save anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.index import scoring
from recollect.index.blocks import Snapshot
from recollect.index.exact import Barred, ExactIndex
from recollect.index.keeper import Keeper, trust
from recollect.index.mapped import budget, held, let_go
from recollect.index.policy import Approximate
from recollect.index.scope import default_cores
from recollect.index.standard import standard_arithmetic
from recollect.index.training import CHECKED, Trained, regular_sizes
from recollect.types import Doubles, Floats, Ids, Metric

QUERIES = 256  # in a block
CORES = default_cores()
TOUCHED = 1 << 14  # candidates, each of which may have had 64 KiB mapped, until these are let go of
ROUNDS = 4  # of taking more candidates, before a query is answered exactly
WIDER, DEEPER = 4, 2  # how many more are taken, and how many more lists are looked into


@dataclass(frozen=True, slots=True)
class Switches:
    """Where a search by lists would gain nothing, and an exact one takes its place.

    Attributes:
        gain: Lists are used where they read less than one in so many rows.
        few_allowed: A filter that so few rows pass is answered exactly, and one
        allowed_share: that one in so many rows pass.
        excluded: So many ids may be excluded for a query.
    """

    gain: float = 3.0
    few_allowed: int = 20_000
    allowed_share: int = 50
    excluded: int = 1024


DEFAULT_SWITCHES = Switches()


class ApproximateIndex:
    """Finds most of the k nearest rows while it looks at few; see the module's description.

    One thread may write while others search.

    Args:
        dim: Width of a key.
        metric: As for ``ExactIndex``; under Manhattan every search is exact.
        metric_weights: Likewise.
        policy: The recall to hold and how; not read where a keeper is given.
        exact: The index that holds the rows and answers what lists should not; a new one if None.
        vouch: Called with ids before their keys are read, with None before all keys are; raises if
            a key is not what was written.
        keeper: Of the lists; a new one if None.
        switches: When to search exactly.

    Raises:
        InvalidParameter: An argument is out of its range.
        MissingExtra: faiss is not installed.

    Example:
        >>> index = ApproximateIndex(2, policy=Approximate(least=2, background=False))
        >>> index.add(np.array([7, 8]), np.array([[1.0, 0.0], [3.0, 4.0]]))
        >>> index.search(np.array([[2.0, 0.0]]), k=3)[0]
        array([[ 7,  8, -1]])
    """

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        *,
        metric_weights: NDArray[Any] | None = None,
        policy: Approximate | None = None,
        exact: ExactIndex | None = None,
        vouch: Callable[[Ids | None], None] = trust,
        keeper: Keeper | None = None,
        switches: Switches = DEFAULT_SWITCHES,
    ) -> None:
        # Holds no rows, and refuses the arguments that an exact index refuses.
        self._judge = ExactIndex(dim, metric, metric_weights=metric_weights)
        self._exact = exact or ExactIndex(dim, metric, metric_weights=metric_weights)
        self._dim, self._metric = self._judge.dim, metric
        self._vouch, self._switches = vouch, switches
        self._touched = 0
        self.keeper = keeper or Keeper(metric, policy or Approximate())
        self.keeper.serve(self._exact, vouch)

    def __len__(self) -> int:
        return len(self._exact)

    def status(self) -> dict[str, Any]:
        """Say how searches are answered now, as plain values for JSON."""
        trained, facts = self.keeper.trained, self.keeper.status()
        if trained is not None and self._depth(CHECKED, trained) is not None:
            return {"engine": "lists", **facts, **trained.facts()}
        # What was measured of lists that nobody searches says nothing of the answers.
        return {"engine": "exact", **facts}

    def prepare(self) -> None:
        """Train now if that is due, and wait until it is done."""
        self.keeper.prepare()

    # -- rows ----------------------------------------------------------------------------------

    def add(self, ids: Ids, keys: NDArray[Any], *, norms: Doubles | None = None) -> None:
        """Copy rows in, in effect for the next search; see ``ExactIndex.add``."""
        self.keeper.enter(lambda: self._exact.add(ids, keys, norms=norms), np.asarray(ids))

    def attach(self, ids: Ids, keys: NDArray[Any], *, norms: Doubles | None = None) -> None:
        """Take rows in without a copy; see ``ExactIndex.attach``."""
        self.keeper.enter(lambda: self._exact.attach(ids, keys, norms=norms), np.asarray(ids))

    def remove(self, ids: Ids) -> None:
        """Take rows out, in effect for the next search.

        They leave the lists when some thousand have gathered, or before rows are added; an answer
        never holds one, as every candidate is looked up among the rows that are here.

        Raises:
            UnknownIds: One of them is not in the index; nothing was removed.
        """
        self._exact.remove(ids)
        self.keeper.leave(np.unique(ids))

    # -- search --------------------------------------------------------------------------------

    @standard_arithmetic()
    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Ids | None = None,
        exclude: Sequence[Ids] | Ids | None = None,
    ) -> tuple[Ids, Floats]:
        """Return the k nearest rows that the lists give; arguments and order as ``ExactIndex``'s.

        Where fewer than k rows lie in the lists that are near, more lists are looked into, so that
        there are fewer than k only where fewer take part.
        """
        wanted = self._judge.asked(queries, k, allowed=allowed, exclude=exclude)
        self.keeper.follow()
        trained, k = self.keeper.trained, wanted.k
        depth = None if trained is None else self._depth(k, trained)
        if depth is None or trained is None or self._too_few(allowed):
            return self._exactly(queries, k, allowed, exclude)
        if allowed is not None:
            allowed = np.unique(np.asarray(allowed, np.int64))
            # Of the rows in a list only some pass, so as many more lists hold k of them.
            depth = min(trained.reach.lists, -(-depth * len(self) // len(allowed)))
        asked = _Asked(k, depth, trained, allowed)
        ids = np.empty((len(wanted.queries), k), np.int64)
        similarity = np.empty(ids.shape, np.float32)
        for which, barred in _by_width(wanted.barred, len(ids)):
            some = np.ascontiguousarray(wanted.queries[which], np.float32)
            if barred is not None and barred.shape[1] > self._switches.excluded:
                found = self._exactly(some, k, allowed, barred)
            else:
                found = self._block(some, wanted.sizes[which], asked, barred)
            ids[which], similarity[which] = found
        return ids, similarity

    def _too_few(self, allowed: Ids | None) -> bool:
        """Tell whether so few rows take part that none need be left out."""
        switches = self._switches
        few = max(switches.few_allowed, len(self) // switches.allowed_share)
        return allowed is not None and len(allowed) <= few

    def _depth(self, k: int, trained: Trained) -> int | None:
        """Return how many lists to look into; None where that would not pay, or not hold."""
        if not trained.holds:
            return None
        depth = trained.depth(k)
        rows = len(self)
        # So many rows lie in them, if all lists are as long.
        within = depth * rows // trained.reach.lists
        if rows < self.keeper.policy.least or self._switches.gain * max(within, 4 * k) > rows:
            return None
        return depth

    def _exactly(
        self,
        queries: Floats,
        k: int,
        allowed: Ids | None,
        exclude: Sequence[Ids] | Ids | None,
    ) -> tuple[Ids, Floats]:
        self._vouch(allowed)
        return self._exact.search(queries, k, allowed=allowed, exclude=exclude)

    def _block(
        self, queries: Floats, sizes: Doubles, asked: _Asked, barred: Ids | None
    ) -> tuple[Ids, Floats]:
        """Answer a block of queries, each with as many candidates as it needs."""
        extra = 0 if barred is None else barred.shape[1]
        count, depth = asked.trained.candidates(asked.k) + extra, asked.depth
        regular = regular_sizes(self._metric, sizes)
        ids = np.full((len(queries), asked.k), -1)
        similarity = np.full(ids.shape, -np.inf, np.float32)
        waiting, odd = np.flatnonzero(regular), np.flatnonzero(~regular)
        for _ in range(ROUNDS):
            if not len(waiting):
                break
            some = slice(None) if len(waiting) == len(queries) else waiting  # all: no copy
            without = None if barred is None else barred[some]
            found, near, done = self._round(
                queries[some], sizes[some], asked, depth, count, without
            )
            if len(found) == len(queries) and done.all():
                return found, near
            ids[waiting[done]], similarity[waiting[done]] = found[done], near[done]
            waiting = waiting[~done]
            count = min(count * WIDER, asked.trained.lists.rows)
            depth = min(depth * DEEPER, asked.trained.reach.lists)
        rest = np.concatenate([waiting, odd])
        if len(rest):
            without = None if barred is None else barred[rest]
            ids[rest], similarity[rest] = self._exactly(
                queries[rest], asked.k, asked.allowed, without
            )
        return ids, similarity

    def _round(
        self,
        queries: Floats,
        sizes: Doubles,
        asked: _Asked,
        depth: int,
        count: int,
        barred: Ids | None,
    ) -> tuple[Ids, Floats, NDArray[np.bool_]]:
        """Answer queries from so many lists and candidates; tells which answers are settled."""
        snapshot = self._exact.snapshot
        with self.keeper.reading():
            candidates, scores = asked.trained.find(queries, sizes, depth, count, asked.allowed)
        full = candidates[:, -1] >= 0  # as many as were asked for: there may be more
        last = np.where(full, scores[:, -1], -np.inf)
        candidates = np.where(scores > last[:, None], candidates, -1)
        candidates = asked.trained.with_odd(candidates, asked.allowed)
        ids, similarity, wanted = self._scored(
            snapshot, queries, sizes, candidates, barred, asked.k
        )
        # A row that ties with the worst that was taken may have been left out, and which one is
        # depends on the batch: so all of them count as left out.
        settled = ~full | (wanted >= asked.k)
        every = depth >= asked.trained.reach.lists
        return ids, similarity, settled & ((wanted >= asked.k) | every)

    def _scored(
        self,
        snapshot: Snapshot,
        queries: Floats,
        sizes: Doubles,
        candidates: Ids,
        barred: Ids | None,
        k: int,
    ) -> tuple[Ids, Floats, NDArray[np.intp]]:
        """Score candidates from their keys.

        Returns:
            Ids and similarity, ``(queries, k)``; and how many candidates could be used.
        """
        slots = snapshot.locate(candidates.reshape(-1)).reshape(candidates.shape)
        usable = slots >= 0
        if barred is not None:
            usable &= ~(candidates[:, :, None] == barred[:, None, :]).any(axis=2)
        if self._vouch is not trust:
            self._vouch(np.unique(candidates[usable]))
        self._touched += candidates.size
        if self._touched > TOUCHED:
            self._touched = 0
            for block in snapshot.blocks if held() > budget() else ():
                let_go(block.keys)
        count = usable.sum(axis=1)
        engine = self._exact.compiled
        if engine is not None:
            slots = np.where(usable, slots, -1)
            return *engine.choose(snapshot, queries, sizes, candidates, slots, k, CORES), count
        similarity = np.full(candidates.shape, -np.inf, np.float32)
        query, place = np.nonzero(usable)
        similarity[query, place] = self._similarity(
            snapshot, queries, sizes, query, slots[query, place]
        )
        order = np.lexsort((candidates, -similarity), axis=-1)[:, :k]
        found = np.take_along_axis(usable, order, axis=1)
        ids = np.full((len(queries), k), -1)
        best = np.full((len(queries), k), -np.inf, np.float32)
        width = order.shape[1]
        ids[:, :width] = np.where(found, np.take_along_axis(candidates, order, axis=1), -1)
        best[:, :width] = np.take_along_axis(similarity, order, axis=1)
        return ids, best, count

    def _similarity(
        self,
        snapshot: Snapshot,
        queries: Floats,
        sizes: Doubles,
        query: NDArray[np.intp],
        slots: NDArray[np.intp],
    ) -> Floats:
        similarity = np.empty(len(slots), np.float32)
        step = max(1, scoring.CHUNK // self._dim)
        for start in range(0, len(slots), step):
            part = slice(start, start + step)
            keys, row_sizes = snapshot.gather(slots[part])
            similarity[part] = scoring.similarity(
                self._metric, queries[query[part]], keys, query_sizes=sizes[query[part]],
                row_sizes=row_sizes,
            )  # fmt: skip
        return similarity


@dataclass(frozen=True, eq=False)
class _Asked:
    """What all queries of a search have in common."""

    k: int
    depth: int
    trained: Trained
    allowed: Ids | None


def _by_width(
    exclude: Barred | None, queries: int
) -> Iterator[tuple[NDArray[np.intp] | slice, Ids | None]]:
    """Go through blocks of queries, those together that leave out as many ids.

    How many candidates a query is given room for follows from the ids that it leaves out, and must
    not follow from those of its neighbors in the batch.

    Yields:
        Which queries; and what they leave out, int64 ``(queries, m)``, distinct, -1 for nothing:
        m is 0 or a power of two.
    """
    if exclude is None:
        for start in range(0, queries, QUERIES):
            yield slice(start, start + QUERIES), None
        return
    parts = [exclude.of(query) for query in range(queries)]
    widths = np.array(
        [1 << (len(part) - 1).bit_length() if len(part) else 0 for part in parts], np.int64
    )
    for width in np.unique(widths).tolist():
        alike = np.flatnonzero(widths == width)
        for start in range(0, len(alike), QUERIES):
            which = alike[start : start + QUERIES]
            if not width:
                yield which, None
                continue
            barred = np.full((len(which), width), -1)
            for row, number in zip(barred, which.tolist(), strict=True):
                row[: len(parts[number])] = parts[number]
            yield which, barred
