"""Any order of teaching, forgetting, asking and opening again leaves the table of what stayed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from recollect import LookupClassifier
from recollect.heads.lookup import examples

COLUMNS = ("keys", "states", "answers", "counts", "variants", "parts", "ids", "row_of")
POOL, LABELS = examples.bars(60)
POOL = np.minimum(
    POOL + np.random.default_rng(5).integers(0, 90, POOL.shape), 255
).astype(np.uint8)  # fmt: skip
some = st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=6)


class Classifier(RuleBasedStateMachine):
    """A classifier on the disk beside a plain list of what it should hold."""

    @initialize(
        chosen=some, per_step=st.booleans(), answers=st.sampled_from(["labels", "network"]),
        tree=st.sampled_from([None, 2]), vote=st.sampled_from(["last", "all"]),
    )  # fmt: skip
    def begin(self, chosen, per_step, answers, tree, vote):
        self.folder = Path(tempfile.mkdtemp())
        self.options = {
            "weights": (2.0, 1.0, 0.5), "per_step": per_step, "answers": answers, "tree": tree,
            "vote": vote, "k": 2,
        }  # fmt: skip
        self.head = self.make(memory=self.folder / "runs")
        self.head.fit(POOL[chosen], LABELS[chosen])
        self.held = dict(zip(self.head.ids_.tolist(), chosen, strict=True))

    def make(self, **more):
        return LookupClassifier(examples.network(), **self.options, **more)

    def never(self):
        """The classifier that was only ever taught what is there now."""
        ids = sorted(self.held)
        places = [self.held[one] for one in ids]
        return self.make().fit(POOL[places], LABELS[places], ids=ids)

    @rule(chosen=some)
    def teach(self, chosen):
        before = set(self.head.ids_.tolist())
        self.head.partial_fit(POOL[chosen], LABELS[chosen])
        new = [one for one in self.head.ids_.tolist() if one not in before]
        self.held.update(zip(new, chosen, strict=True))

    @rule(chosen=some)
    def begin_anew(self, chosen):
        self.head.fit(POOL[chosen], LABELS[chosen])
        self.held = dict(zip(self.head.ids_.tolist(), chosen, strict=True))

    @precondition(lambda self: len(self.held) > 1)
    @rule(data=st.data())
    def forget(self, data):
        most = len(self.held) - 1
        gone = data.draw(
            st.lists(st.sampled_from(sorted(self.held)), min_size=1, max_size=most, unique=True)
        )
        self.head.forget(gone)
        for one in gone:
            del self.held[one]

    @rule()
    def open_again(self):
        self.head.memory_.close()
        self.head = self.make(memory=self.folder / "runs")
        assert sorted(self.head.ids_.tolist()) == sorted(self.held)

    @rule()
    def ask(self):
        never = self.never()
        assert np.array_equal(self.head.predict_proba(POOL[:9]), never.predict_proba(POOL[:9]))
        assert self.head.predict(POOL[:9]).tolist() == never.predict(POOL[:9]).tolist()
        assert self.head.classes_.tolist() == never.classes_.tolist()

    @rule()
    def read(self):
        never = self.never()
        for name in COLUMNS:
            mine, other = getattr(self.head.table_, name), getattr(never.table_, name)
            assert np.array_equal(mine, other), name

    def teardown(self):
        if hasattr(self, "folder"):
            self.head.memory_.close()
            shutil.rmtree(self.folder)


Classifier.TestCase.settings = settings(max_examples=10, stateful_step_count=8, deadline=None)
TestClassifier = Classifier.TestCase
