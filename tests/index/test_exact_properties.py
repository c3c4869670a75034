"""Any history of teaching and forgetting: the index answers as the rows that are left."""

from __future__ import annotations

import numpy as np
import slow_truth
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from recollect.index.exact import ExactIndex
from recollect.index.scope import Limits

DIM = 3
# Small whole numbers tie often; a few thousandths make near-ties.
NUMBERS = st.integers(-2, 2) | st.sampled_from([0.001, 1.001, 1e-20, 3e20])
KEYS = st.lists(NUMBERS, min_size=DIM, max_size=DIM).filter(any)
ROWS = st.dictionaries(st.integers(0, 60), KEYS, min_size=1, max_size=12)
TINY = Limits(batch=3, table=96, keys=30, share=9, room=40, opened=2, window=4, cores=2, thread=1)


class History(RuleBasedStateMachine):
    """Holds an index against a dict."""

    @initialize(
        metric=st.sampled_from(["cosine", "dot", "euclidean", "manhattan"]),
        rows_per_block=st.integers(1, 20),
        limits=st.sampled_from([Limits(), TINY]),
    )
    def begin(self, metric, rows_per_block, limits):
        self.metric = metric
        self.index = ExactIndex(DIM, metric, block_bytes=4 * DIM * rows_per_block, limits=limits)
        self.rows = {}

    @rule(rows=ROWS, attach=st.booleans())
    def teach(self, rows, attach):
        new = {row: key for row, key in rows.items() if row not in self.rows}
        ids = np.array(list(new), np.int64)
        keys = np.array(list(new.values()), np.float32).reshape(-1, DIM)
        (self.index.attach if attach else self.index.add)(ids, keys)
        self.rows |= new

    @rule(data=st.data())
    def forget(self, data):
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.rows) or [None]), unique=True))
        gone = [row for row in chosen if row is not None]
        self.index.remove(np.array(gone, np.int64))
        for row in gone:
            del self.rows[row]

    @rule(
        queries=st.lists(KEYS, min_size=1, max_size=5),
        k=st.integers(1, 8),
        allowed=st.none() | st.sets(st.integers(0, 60)),
        exclude=st.lists(st.integers(-1, 60), min_size=5, max_size=5),
    )
    def ask(self, queries, k, allowed, exclude):
        exclude = np.array(exclude[: len(queries)])
        wanted = self.rows if allowed is None else self.rows.keys() & allowed
        left = {row: self.rows[row] for row in wanted}
        expected = slow_truth.nearest(
            left, queries, k, self.metric, exclude=exclude[:, None].tolist()
        )

        ids, similarity = self.index.search(
            np.array(queries, np.float32),
            k,
            allowed=None if allowed is None else np.array(sorted(allowed), np.int64),
            exclude=exclude,
        )

        assert np.array_equal(ids, expected[0])
        assert np.array_equal(similarity, expected[1])

    @invariant()
    def the_number_of_rows_is_right(self):
        assert len(self.index) == len(self.rows)


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
