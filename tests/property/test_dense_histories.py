"""Any history of a dense memory answers as a fresh one over the rows that are left, bit for bit."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from recollect import DenseMemorySegmenter

OPTIONS = (
    {}, {"score": "path", "balance": 0.5, "position": 0.3}, {"kernel": "overlap"},
    {"sparse_levels": 1, "block_labels": True}, {"sparse_levels": 1, "sparse_keep": 3},
    {"precision": "int8"}, {"prefilter": 2}, {"precision": "float16", "retrieve": "patch"},
)  # fmt: skip
SIDES = (2, 4)
MOST = 8


def pyramid(rng):
    """Few distinct numbers, so that many similarities are equal."""
    return [rng.integers(-2, 3, (side, side, 3)).astype(float) for side in SIDES]


def mask(rng):
    return rng.choice([0, 1, 2, 7, 255], (2 * SIDES[1], 2 * SIDES[1]), p=[0.3, 0.3, 0.2, 0.1, 0.1])


class DenseHistories(RuleBasedStateMachine):
    """A head on disk lives a history; a fresh head is taught what is left, in any order."""

    @initialize(seed=st.integers(0, 2**32 - 1), options=st.sampled_from(OPTIONS))
    def begin(self, seed, options):
        self.rng = np.random.default_rng(seed)
        self.options = {"k": (4, 3), **options}
        self.folder = Path(tempfile.mkdtemp())
        self.head = self.opened()
        self.rows, self.next_id = {}, 0
        self.queries = [pyramid(self.rng) for _ in range(2)]

    def teardown(self):
        if "folder" in self.__dict__:
            self.head.memory_.close() if "memory_" in self.head.__dict__ else None
            shutil.rmtree(self.folder)

    def opened(self):
        return DenseMemorySegmenter(memory=self.folder / "memory", **self.options)

    def some(self):
        return self.rng.choice(list(self.rows), self.rng.integers(1, len(self.rows) + 1), False)

    @precondition(lambda self: len(self.rows) < MOST)
    @rule(count=st.integers(1, 2), asked=st.booleans())
    def teach(self, count, asked):
        ids = list(range(self.next_id, self.next_id + count))
        samples = [
            (pyramid(self.rng), mask(self.rng), w) for w in self.rng.choice([1.0, 2.0], count)
        ]
        self.head.partial_fit(
            [s[0] for s in samples],
            [s[1] for s in samples],
            ids=ids,
            weights=[s[2] for s in samples],
        )
        self.rows.update(zip(ids, samples, strict=True))
        self.next_id += count
        if asked:
            self.head.predict(self.queries)

    @precondition(lambda self: self.rows)
    @rule(asked=st.booleans(), compacted=st.booleans())
    def relabel(self, asked, compacted):
        ids = self.some()
        masks = [mask(self.rng) for _ in ids]
        self.head.relabel(ids, masks)
        self.rows |= {
            id_: (self.rows[id_][0], new, self.rows[id_][2])
            for id_, new in zip(ids.tolist(), masks, strict=True)
        }
        if compacted:
            self.head.memory_.compact()
        if asked:
            self.head.predict(self.queries)

    @precondition(lambda self: self.rows)
    @rule(erased=st.booleans())
    def forget(self, erased):
        ids = self.some()
        self.head.ids_  # noqa: B018 - opened, should it be the first thing asked
        if erased:
            self.head._writable().erase(ids)
        else:
            self.head.forget(ids)
        for id_ in ids.tolist():
            del self.rows[id_]

    @precondition(lambda self: "memory_" in self.head.__dict__)
    @rule()
    def reopen(self):
        self.head.memory_.close()
        self.head = self.opened()

    @invariant()
    def answers_are_those_of_a_fresh_head(self):
        if not self.__dict__.get("rows"):
            return
        fresh = DenseMemorySegmenter(**self.options)
        for id_ in self.rng.permutation(list(self.rows)).tolist():
            levels, truth, weight = self.rows[id_]
            fresh.partial_fit([levels], [truth], ids=[id_], weights=[weight])
        assert self.head.classes_.tolist() == fresh.classes_.tolist()
        said, wanted = (each.predict_proba(self.queries) for each in (self.head, fresh))
        assert said.tobytes() == wanted.tobytes()
        assert self.head.predict(self.queries).tobytes() == fresh.predict(self.queries).tobytes()


TestDenseHistories = DenseHistories.TestCase
TestDenseHistories.settings = settings(
    max_examples=25, stateful_step_count=8, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
