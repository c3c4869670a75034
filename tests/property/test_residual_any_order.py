"""Whatever was taught, forgotten, corrected, opened again: a head answers as one over the rest."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from recollect import ResidualMemoryClassifier, ResidualMemoryRegressor, errors

KNOWN = 3
numbers = st.integers(-3, 3)
# Labels of 3 and above are classes that the base does not know.
row = st.tuples(st.tuples(numbers, numbers), st.tuples(*[numbers] * KNOWN), st.integers(0, 5))
QUERIES = np.array([[0, 0], [1, -2], [3, 3]], np.float32)
LOGITS = np.array([[0, 1, 2], [2, 0, 0], [-1, -1, 3]], np.float32)


class AnyOrder(RuleBasedStateMachine):
    """A head over a folder, and a plain dict of the rows that it should know."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.rows, self.next = {}, 0

    def teardown(self):
        self.close()
        shutil.rmtree(self.folder)

    def close(self):
        if self.head.__sklearn_is_fitted__():
            self.head.memory_.close()

    def teach(self, head, ids, rows):
        keys, outputs, labels = (np.array(part) for part in zip(*rows, strict=True))
        return head.partial_fit(
            None, self.targets(labels), embedding=keys, outputs=self.outputs(outputs), ids=ids
        )

    @rule(rows=st.lists(row, min_size=1, max_size=4))
    def partial_fit(self, rows):
        ids = list(range(self.next, self.next + len(rows)))
        self.teach(self.head, ids, rows)
        self.rows |= dict(zip(ids, rows, strict=True))
        self.next += len(rows)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def forget(self, data):
        gone = data.draw(st.lists(st.sampled_from(sorted(self.rows)), unique=True, min_size=1))
        self.head.forget(gone)
        self.rows = {known: row for known, row in self.rows.items() if known not in gone}

    @rule()
    def open_again(self):
        self.close()
        self.head = self.make(self.folder / "rows")

    @rule()
    def travel(self):
        self.close()
        self.head = copy.deepcopy(self.head)

    @rule()
    def read(self):
        if not self.rows:
            with pytest.raises(errors.EmptyMemory):
                self.answers(self.head)
            return
        ids = sorted(self.rows)
        fresh = self.teach(self.make(None), ids, [self.rows[known] for known in ids])
        assert sorted(self.head.ids_.tolist()) == ids
        ours, theirs = self.answers(self.head), self.answers(fresh)
        assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


class Classes(AnyOrder):
    @initialize(entries=st.sampled_from([None, 0, 1]), first=st.lists(row, min_size=1, max_size=4))
    def begin(self, entries, first):
        self.entries = entries
        self.head = self.make(self.folder / "rows")
        self.partial_fit(first)

    def make(self, memory):
        return ResidualMemoryClassifier(
            lambda_free, k=3, memory=memory, entries=self.entries, classes=range(KNOWN)
        )

    def targets(self, labels):
        return labels

    def outputs(self, outputs):
        return outputs

    @precondition(lambda self: self.rows and self.entries != 0)
    @rule(data=st.data(), label=st.integers(0, 5))
    def correct(self, data, label):
        wrong = data.draw(st.sampled_from(sorted(self.rows)))
        self.head.forget([])  # opens the memory for writing
        self.head.memory_.update([wrong], metadata={"truth": label})
        key, outputs, _ = self.rows[wrong]
        # What few logits a row keeps depends on its label, so a new one is compared by all.
        if self.entries is None:
            self.rows[wrong] = (key, outputs, label)
        else:
            self.head.forget([wrong])
            del self.rows[wrong]

    def answers(self, head):
        asked = {"embedding": QUERIES, "outputs": LOGITS}
        scores = head.predict_proba(None, output="score", **asked)
        why = [(one.base, *(each.contribution for each in one.evidence))
               for one in head.explain(None, **asked)]  # fmt: skip
        return [scores, head.classes_, head.sigma_, head.error_bound(None, **asked), *why]


class Numbers(AnyOrder):
    @initialize(first=st.lists(row, min_size=1, max_size=4))
    def begin(self, first):
        self.head = self.make(self.folder / "rows")
        self.partial_fit(first)

    def make(self, memory):
        return ResidualMemoryRegressor(lambda_free, k=3, memory=memory)

    def targets(self, labels):
        return labels / 4

    def outputs(self, outputs):
        return outputs[:, 0] / 8

    def answers(self, head):
        asked = {"embedding": QUERIES, "outputs": LOGITS[:, 0]}
        return [head.predict(None, **asked), head.sigma_]


def lambda_free(rows):
    """A base that can be copied; it is never asked."""
    raise AssertionError(rows)


limits = settings(
    max_examples=25, stateful_step_count=10, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
TestClasses, TestNumbers = Classes.TestCase, Numbers.TestCase
TestClasses.settings = TestNumbers.settings = limits
