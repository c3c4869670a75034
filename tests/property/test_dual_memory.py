"""Whatever was done, in whatever order: the names, shots and pictures that are left decide."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from recollect import DualMemoryClassifier
from recollect.errors import InvalidParameter

NAMES = ("ant", "bee", "cat", "dog")
DIM, VIEWS = 12, 3
ASKED = np.random.default_rng(8).normal(size=(7, DIM))
seeds = strategies.integers(0, 2**16)
options = strategies.fixed_dictionaries(
    {
        "mode": strategies.sampled_from(["published", "robust"]),
        "decay": strategies.sampled_from([0.0, 0.05]),
        "trust": strategies.sampled_from([0.0, 1.0]),
        "negative": strategies.sampled_from([0.0, 2.0]),
        "threshold": strategies.sampled_from([None, 0.8]),
        "view_fraction": strategies.sampled_from([0.1, 0.7]),
        "memory_length": strategies.sampled_from([1, 2, 3, 16, 40]),
        "scale": strategies.just(4.0),
        "channels": strategies.sampled_from([None, 1, 5]),
    }
)


def vectors(seed, *shape):
    return np.random.default_rng(seed).normal(size=(*shape, DIM))


def cautious(head):
    """Answers that are better not given, where shots can be left out to say which."""
    try:
        return head.predict(ASKED, abstain=0.4).tolist()
    except InvalidParameter:
        return "no class has two shots"


class DualMemory(RuleBasedStateMachine):
    """A classifier over a durable memory, and a plain list of what it should know."""

    @initialize(chosen=options, named=strategies.booleans(), seed=seeds)
    def begin(self, chosen, named, seed):
        self.folder = Path(tempfile.mkdtemp())
        self.chosen, self.shots, self.seen, self.told = chosen, {}, {}, named
        self.names = dict(zip(NAMES[:2], vectors(seed, 2), strict=True)) if named else {}
        self.head = self.made(self.names, memory=self.folder / "m")
        if named:
            self.head.fit()
        else:
            self.fit(seed)

    def made(self, names, **more):
        return DualMemoryClassifier(names or None, **more, **self.chosen)

    def fresh(self):
        """A classifier that was given what is left, in that order."""
        fresh = self.made(self.names)
        if self.shots:
            keys, labels = zip(*(self.shots[row] for row in sorted(self.shots)), strict=True)
            fresh.fit(np.array(keys), list(labels))
        else:
            fresh.fit()
        for row in sorted(self.seen):
            fresh.observe(self.seen[row][:1], views=self.seen[row][None])
        return fresh

    @property
    def classes(self):
        return (
            sorted(self.names) if self.told else sorted({name for _, name in self.shots.values()})
        )

    def draw_shots(self, seed):
        random = np.random.default_rng(seed)
        known = self.classes if self.told else NAMES
        return vectors(seed, 3), [known[i] for i in random.integers(len(known), size=3)]

    @rule(seed=seeds)
    def fit(self, seed):
        """Teaching anew leaves the stream behind, and the names are those that were given."""
        if self.told:
            self.head.set_params(text_features=dict(self.names), class_names=None)
        shots, labels = self.draw_shots(seed)
        self.head.fit(shots, labels)
        self.shots = dict(
            zip(self.head.ids_.tolist(), zip(shots, labels, strict=True), strict=True)
        )
        self.seen = {}

    @rule(seed=seeds)
    def teach(self, seed):
        shots, labels = self.draw_shots(seed)
        self.head.partial_fit(shots, labels)
        ids = self.head.ids_[-3:].tolist()
        self.shots |= dict(zip(ids, zip(shots, labels, strict=True), strict=True))

    @precondition(lambda self: self.classes)
    @rule(
        seed=seeds,
        viewed=strategies.booleans(),
        one_by_one=strategies.booleans(),
        pictures=strategies.sampled_from([3, 24]),
    )
    def observe(self, seed, viewed, one_by_one, pictures):
        """One by one or at once: a fresh twin does the other and says the same, bit by bit."""
        views = vectors(seed, pictures, VIEWS) if viewed else vectors(seed, pictures, 1)
        parts = [views[i : i + 1] for i in range(pictures)] if one_by_one else [views]
        twin, said = self.fresh(), []
        for part in parts:
            answer = self.head.observe(part[:, 0], views=part)
            said.append(answer.probability)
            self.seen |= dict(zip(answer.ids.tolist(), part, strict=True))
        others = [views] if one_by_one else [views[i : i + 1] for i in range(pictures)]
        again = [twin.observe(part[:, 0], views=part).probability for part in others]
        assert np.array_equal(np.concatenate(said), np.concatenate(again))

    @precondition(lambda self: self.shots)
    @rule(seed=seeds)
    def forget_shots(self, seed):
        self.forget(self.shots, seed)

    @precondition(lambda self: self.seen)
    @rule(seed=seeds)
    def forget_pictures(self, seed):
        self.forget(self.seen, seed)

    def forget(self, rows, seed):
        random = np.random.default_rng(seed)
        ids = random.permutation(list(rows))[: random.integers(1, len(rows) + 1)]
        self.head.forget(ids)
        for row in ids.tolist():
            del rows[row]

    @precondition(lambda self: self.told and len(self.names) < len(NAMES))
    @rule(seed=seeds)
    def add_class(self, seed):
        name = next(each for each in NAMES if each not in self.names)
        self.names[name] = vectors(seed, 1)[0]
        self.head.add_class(name, self.names[name])

    @precondition(lambda self: len(self.classes) > 1)
    @rule(seed=seeds)
    def remove_class(self, seed):
        name = self.classes[seed % len(self.classes)]
        self.head.remove_class(name)
        self.names.pop(name, None)
        self.shots = {row: each for row, each in self.shots.items() if each[1] != name}

    @precondition(lambda self: self.shots or self.seen or self.names)
    @rule()
    def reopen(self):
        """Another process: the rows are all there is."""
        if "memory_" in self.head.__dict__:
            self.head.memory_.close()
        self.head = self.made({}, memory=self.folder / "m")

    @precondition(lambda self: self.classes)
    @rule()
    def ask(self):
        """Asking writes nothing, and a picture alone is answered as in a batch."""
        said = self.head.predict_proba(ASKED)
        version = self.head.memory_.version
        alone = np.concatenate([self.head.predict_proba(x[None]) for x in ASKED])
        self.head.explain(ASKED[:1])
        assert np.array_equal(said, alone)
        assert self.head.memory_.version == version

    @precondition(lambda self: self.classes)
    @rule()
    def compare(self):
        """A fresh classifier that was given what is left, in that order, says the same."""
        fresh = self.fresh()
        assert self.head.classes_.tolist() == self.classes
        assert np.array_equal(self.head.predict_proba(ASKED), fresh.predict_proba(ASKED))
        ours, theirs = self.head.slot_ids(), fresh.slot_ids()
        assert cautious(self.head) == cautious(fresh)
        assert ours.counts.tolist() == theirs.counts.tolist()
        assert np.array_equal(ours.entropy, theirs.entropy, equal_nan=True)

    def teardown(self):
        if "head" in self.__dict__:
            if self.classes:
                self.compare()
            if "memory_" in self.head.__dict__:
                self.head.memory_.close()
            shutil.rmtree(self.folder)


DualMemory.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestDualMemory = DualMemory.TestCase
