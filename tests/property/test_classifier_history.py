"""A classifier that was asked, taught, corrected and asked again equals one made afresh."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from recollect import MemoryClassifier
from recollect.errors import RecollectError
from recollect.heads.hierarchy import Hierarchy
from recollect.readout.reliability import Reliability
from recollect.readout.voting import RULES

DIM = 4
FIRST, SECOND = ("ant", "bee", "cat"), ("dog", "eel")
KINDS = Hierarchy(
    {"ant": "insect", "bee": "insect", "cat": "mammal", "dog": "mammal", "eel": "fish"}
)
QUERIES = np.vstack(
    [
        np.random.default_rng(0).normal(size=(3, DIM)),
        np.random.default_rng(0).integers(1, 4, (3, DIM)),  # as coarse as the rows: with ties
    ]
)
seeds = st.integers(0, 2**16)


def told(why):
    rows = [(row.id, row.value, row.weight, row.contribution) for row in why.evidence]
    return why.prediction, why.shares, why.base, rows, why.counterfactual, why.changed_to


def levels(head):
    found = KINDS.answer(head, QUERIES, confidence=0.6)
    return found.labels.tolist(), found.confidence.tolist(), found.answers.tolist()


def preview(head, **which):
    found = head.what_if(**which)
    return found.before.tolist(), found.after.tolist(), found.score_after.tolist()


QUESTIONS = {
    "predict": lambda head: head.predict(QUERIES).tolist(),
    "coverage": lambda head: head.predict(QUERIES, abstain=0.3).tolist(),
    "errors": lambda head: head.predict(QUERIES, abstain=0.3, promise="error").tolist(),
    "shares": lambda head: (head.classes_.tolist(), head.predict_proba(QUERIES).tolist()),
    "all k": lambda head: head.predict_all_k(QUERIES).tolist(),
    "explain": lambda head: [told(why) for why in head.explain(QUERIES)],
    "novelty": lambda head: head.novelty(QUERIES).tolist(),
    "levels": levels,
    "calibrate": KINDS.calibrate,
    "what if": lambda head: preview(head, X=QUERIES, where="label = 'bee'"),
    "what if of rows": lambda head: preview(head, where="id < 4"),
    "tune": lambda head: repr(
        MemoryClassifier(memory=head.memory_).tune(grid={"k": [1, 3], "vote": ["rank"]}).settings
    ),
}


def answered(head, question):
    """What it says, or which error it raises."""
    try:
        return QUESTIONS[question](head)
    except RecollectError as error:
        return type(error).__name__


asked_for = st.lists(st.sampled_from(sorted(QUESTIONS)), min_size=2, max_size=4, unique=True)


class History(RuleBasedStateMachine):
    """One long-lived classifier; every question is asked of a fresh one, too."""

    @initialize(
        rule_name=st.sampled_from(RULES),
        k=st.integers(1, 9),
        reliability=st.sampled_from(
            [None, "soft", "hard", "rate", Reliability("hard", threshold=2)]
        ),
        class_means=st.sampled_from([0.0, 0.3, 1.0]),
        seed=seeds,
    )
    def begin(self, rule_name, k, reliability, class_means, seed):
        self.options = {
            "vote": rule_name, "k": k, "reliability": reliability, "class_means": class_means,
        }  # fmt: skip
        self.head = MemoryClassifier(**self.options)
        self.labels = FIRST
        self.teach(seed, 8)

    def teach(self, seed, rows):
        rng = np.random.default_rng(seed)
        keys = rng.integers(1, 4, (rows, DIM)) if seed % 2 else rng.normal(size=(rows, DIM))
        self.head.partial_fit(
            keys, rng.choice(self.labels, rows).tolist(), weights=rng.integers(0, 3, rows)
        )

    def some(self, rng):
        ids = self.head.memory_.ids
        return rng.choice(ids, rng.integers(1, 1 + len(ids) // 2), replace=False)

    @rule(seed=seeds, rows=st.integers(1, 12))
    def taught(self, seed, rows):
        self.teach(seed, rows)

    @precondition(lambda self: len(self.head.memory_) > 1)
    @rule(seed=seeds, way=st.sampled_from(["forget", "forget", "erase", "relabel", "reweight"]))
    def changed(self, seed, way):
        rng, memory = np.random.default_rng(seed), self.head.memory_
        some = self.some(rng)
        if way == "forget":
            self.head.forget(some)
        elif way == "erase":
            memory.erase(some)
        elif way == "relabel":
            memory.update(some[:3], values=rng.choice(self.labels, len(some[:3])).tolist())
        else:
            memory.update(some, weights=rng.integers(0, 4, len(some)))

    @precondition(lambda self: len(self.head.memory_) > 1)
    @rule(seed=seeds, way=st.sampled_from(["other classes", "restore", "rekey", "compact"]))
    def turned_over(self, seed, way):
        rng, memory = np.random.default_rng(seed), self.head.memory_
        if way == "restore":
            memory.restore(int(rng.choice([info.version for info in memory.versions()])))
        elif way == "compact":
            memory.compact()
        elif way == "rekey":
            memory.rekey(rng.normal(size=(len(memory), DIM)), None)
        else:  # all classes go and others come: nothing may be left of the first
            self.labels = SECOND if self.labels is FIRST else FIRST
            self.head.forget(memory.ids)
            self.teach(seed, 9)

    @rule(questions=asked_for)
    def asked(self, questions):
        self.compare(questions)

    @precondition(lambda self: len(self.head.memory_) > 1)
    @rule(seed=seeds, questions=asked_for)
    def asked_before_and_after_a_removal(self, seed, questions):
        self.compare(questions)
        self.head.forget(self.some(np.random.default_rng(seed))[:3])
        self.compare(questions)

    def compare(self, questions):
        rows = self.head.memory_.rows()
        if not len(rows):
            for question in questions:
                answered(self.head, question)  # an error of ours, or nothing: no other
            return
        order = np.argsort(rows.keys[:, 0])  # nor may the order of teaching matter
        fresh = MemoryClassifier(**self.options).fit(
            rows.keys[order], rows.values[order].tolist(), ids=rows.ids[order],
            weights=rows.weights[order],
        )  # fmt: skip
        for question in questions:
            assert answered(self.head, question) == answered(fresh, question), question


def lengths(examples, steps):
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), derandomize=True,
    )  # fmt: skip


def test_after_any_history_a_classifier_equals_a_fresh_one():
    """With all options at once: read, write, read; bit for bit."""
    run_state_machine_as_test(History, settings=lengths(30, 16))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_after_any_long_history_a_classifier_equals_a_fresh_one():
    """Long enough for what is kept to be brought on many times."""
    run_state_machine_as_test(History, settings=lengths(100, 50))
