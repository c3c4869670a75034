"""Any history of writes leaves a memory that equals a plain dict: contents, answers, versions."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plain_memory import (
    PlainMemory,
    PlainRow,
    answer,
    contents,
    contents_of,
    count_labels,
    history_of,
)

from recollect import Memory
from recollect.errors import DuplicateIds, UnknownIds, UnknownVersion
from recollect.memory.segments import SEGMENT_BYTES
from recollect.memory.store import Store
from recollect.types import METRICS

DIM, WIDTH = 3, 2
COLORS = ("red", "green", None)
QUERIES = np.array([[1, 0, 0], [-2, 3, 1], [1, 1, 1]], np.float32)

keys = st.lists(
    st.tuples(*[st.integers(-3, 3)] * DIM).filter(any), min_size=1, max_size=6
)  # fmt: skip
VALUES = {
    "text": st.sampled_from(["cat", "dog", "", "Zoë 🦆", "a\0b", "x" * 700]),
    "int": st.sampled_from([-(2**63), -1, 0, 7, 2**63 - 1]),
    "number": st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0),
    "vector": st.tuples(*[st.floats(-9, 9, width=32)] * WIDTH).map(
        lambda numbers: np.array(numbers, np.float32)
    ),
    "arrays": st.dictionaries(
        st.sampled_from(["mask", "box"]),
        st.lists(st.integers(0, 9), max_size=3).map(lambda numbers: np.array(numbers, np.int16)),
        max_size=2,
    ),
}
weights = st.sampled_from([0.0, 0.5, 1.0, 3.0])
sources = st.sampled_from([None, "/photos/a.png", "/photos/b.png"])
colors = st.sampled_from(COLORS)


class MemoryAgainstDict(RuleBasedStateMachine):
    """A `Memory` and a plain dict live the same history."""

    @initialize(
        kind=st.sampled_from(sorted(VALUES)),
        metric=st.sampled_from(METRICS),
        dtype=st.sampled_from(["float32", "float16"]),
        on_disk=st.booleans(),
        segment_bytes=st.sampled_from([1, 50, SEGMENT_BYTES]),
    )
    def create(self, kind, metric, dtype, on_disk, segment_bytes):
        self.folder = Path(tempfile.mkdtemp())
        self.on_disk, self.kind, self.metric, self.dtype = on_disk, kind, metric, dtype
        self.segment_bytes = segment_bytes
        self.memory = Memory.create(
            self.folder / "memory" if on_disk else ":memory:",
            dim=DIM,
            metric=metric,
            dtype=dtype,
            value="label" if kind in {"text", "int"} else kind,
            value_dim=WIDTH if kind == "vector" else None,
        )
        self.plain = PlainMemory()
        if on_disk:
            self.reopen()

    def teardown(self):
        self.compare_with_never_taught()
        self.memory.close()
        shutil.rmtree(self.folder)

    # -- writes --------------------------------------------------------------------------------

    def draw_rows(self, data):
        return [
            PlainRow(
                np.array(key, self.dtype),
                data.draw(VALUES[self.kind]),
                data.draw(weights),
                data.draw(sources),
                {"color": data.draw(colors), "nr": data.draw(st.integers(0, 2))},
            )
            for key in data.draw(keys)
        ]

    def draw_ids(self, data, ids, *, least=1):
        return data.draw(
            st.lists(st.sampled_from(sorted(ids)), unique=True, min_size=least, max_size=4)
        )

    @staticmethod
    def columns(rows):
        return {
            "keys": np.array([row.key for row in rows]),
            "values": [row.value for row in rows],
            "weights": [row.weight for row in rows],
            "sources": [row.source for row in rows],
            "metadata": {name: [row.metadata[name] for row in rows] for name in ("color", "nr")},
        }

    @rule(data=st.data())
    def add(self, data):
        rows = self.draw_rows(data)
        assert self.memory.add(**self.columns(rows)).tolist() == self.plain.add(rows)

    @rule(data=st.data(), gaps=st.lists(st.integers(1, 5), min_size=6, max_size=6))
    def add_with_ids(self, data, gaps):
        rows = self.draw_rows(data)
        ids = (self.plain.next_id - 1 + np.cumsum(gaps))[: len(rows)]
        ids = data.draw(st.permutations(ids.tolist()))
        assert self.memory.add(ids=ids, **self.columns(rows)).tolist() == self.plain.add(rows, ids)

    @precondition(lambda self: self.plain.used)
    @rule(data=st.data())
    def add_with_a_used_id(self, data):
        rows = self.draw_rows(data)[:1]
        ids = self.draw_ids(data, self.plain.used)[:1]
        with pytest.raises(DuplicateIds):
            self.memory.add(ids=ids, **self.columns(rows))

    @rule(data=st.data())
    def replace(self, data):
        rows = self.draw_rows(data)
        assert self.memory.replace(**self.columns(rows)).tolist() == self.plain.replace(rows)

    @precondition(lambda self: self.plain.rows)
    @rule(data=st.data(), parts=st.sets(st.sampled_from("vwm"), min_size=1))
    def update(self, data, parts):
        ids = self.draw_ids(data, self.plain.rows)
        values = [data.draw(VALUES[self.kind]) for _ in ids] if "v" in parts else None
        heavy = [data.draw(weights) for _ in ids] if "w" in parts else None
        color = [data.draw(colors) for _ in ids] if "m" in parts else None
        self.memory.update(ids, values=values, weights=heavy, metadata=color and {"color": color})
        changes = {row: {} for row in ids}
        for at, row in enumerate(ids):
            if values:
                changes[row]["value"] = values[at]
            if heavy:
                changes[row]["weight"] = heavy[at]
            if color:
                changes[row]["metadata"] = self.plain.rows[row].metadata | {"color": color[at]}
        self.plain.update(changes)

    @precondition(lambda self: self.plain.rows)
    @rule(data=st.data())
    def remove(self, data):
        ids = self.draw_ids(data, self.plain.rows)
        assert self.memory.remove(ids).tolist() == sorted(ids)
        self.plain.remove(ids)

    @precondition(lambda self: self.plain.used - set(self.plain.rows))
    @rule(data=st.data())
    def remove_a_row_that_is_not_there(self, data):
        ids = self.draw_ids(data, self.plain.used - set(self.plain.rows))
        with pytest.raises(UnknownIds):
            self.memory.remove(ids)

    @precondition(lambda self: self.plain.version > 0)
    @rule()
    def remove_where(self):
        ids = [row for row, state in self.plain.rows.items() if state.metadata["color"] == "red"]
        if "color" not in self.memory.stats()["columns"]:
            return
        assert self.memory.remove(where="color = 'red'").tolist() == sorted(ids)
        self.plain.remove(ids)

    @rule(data=st.data())
    def restore(self, data):
        version = data.draw(st.integers(self.plain.oldest, self.plain.version))
        self.plain.restore(version)
        assert self.memory.restore(version) == self.plain.version

    @precondition(lambda self: self.plain.known())
    @rule(data=st.data())
    def erase(self, data):
        ids = self.draw_ids(data, self.plain.known())
        receipt = self.memory.erase(ids)
        self.plain.erase(ids)
        assert (receipt.ids, receipt.version) == (tuple(sorted(ids)), self.plain.version)

    @rule()
    def compact(self):
        self.memory.compact()
        self.plain.compact()

    @precondition(lambda self: self.on_disk)
    @rule()
    def reopen(self):
        self.memory.close()
        store = Store(self.folder / "memory", segment_bytes=self.segment_bytes)
        self.memory = Memory(store, uri=str(self.folder))
        assert self.memory.verify().problems == ()

    # -- questions -----------------------------------------------------------------------------

    @invariant()
    def contents_are_equal(self):
        assert contents_of(self.memory) == contents(self.plain.rows)
        assert history_of(self.memory) == self.plain.history()
        assert self.memory.ids.tolist() == sorted(self.plain.rows)
        assert len(self.memory) == len(self.plain.rows)
        assert self.memory.version == self.plain.version
        if self.kind in {"text", "int"}:
            counts = count_labels(self.plain.rows)
            assert list(self.memory.label_counts().items()) == list(counts.items())
            assert self.memory.labels.tolist() == list(counts)

    @rule(k=st.integers(1, 9))
    def search(self, k):
        self.compare_answers(self.memory, self.plain.rows, k)

    @precondition(lambda self: self.plain.rows)
    @rule(k=st.integers(1, 3), number=st.integers(0, 2), data=st.data())
    def search_some(self, k, number, data):
        out = self.draw_ids(data, self.plain.rows)
        near = self.memory.search(QUERIES, k, where=f"nr = {number}", exclude=[out] * len(QUERIES))
        some = {
            row: state
            for row, state in self.plain.rows.items()
            if state.metadata["nr"] == number and row not in out
        }
        expected = answer(some, QUERIES, k, self.metric)
        assert (near.ids.tolist(), near.similarity.tolist()) == expected

    @rule(data=st.data())
    def look_back(self, data):
        version = data.draw(st.integers(self.plain.oldest, self.plain.version))
        rows = self.plain.versions[version].rows
        past = self.memory.at(version)
        assert contents_of(past) == contents(rows)
        self.compare_answers(past, rows, 2)

    @precondition(lambda self: self.plain.oldest > 0)
    @rule()
    def look_back_too_far(self):
        with pytest.raises(UnknownVersion):
            self.memory.at(self.plain.oldest - 1)

    @rule()
    def verify(self):
        assert self.memory.verify().problems == ()

    def compare_answers(self, memory, rows, k):
        near = memory.search(QUERIES, k)
        expected = answer(rows, QUERIES, k, self.metric)
        assert (near.ids.tolist(), near.similarity.tolist()) == expected
        for row, value, weight in zip(
            near.ids[near.found], near.values[near.found], near.weights[near.found], strict=True
        ):
            state = rows[row.item()]
            assert contents({0: state})[0][2] == contents({0: PlainRow(state.key, value)})[0][2]
            assert weight == state.weight

    def compare_with_never_taught(self):
        """Forgetting leaves the answers of a memory that was only taught what stayed."""
        if not self.plain.rows:
            return
        ids = sorted(self.plain.rows)
        with Memory.create(
            ":memory:", dim=DIM, metric=self.metric, dtype=self.dtype,
            value=self.memory.value, value_dim=self.memory.value_dim,
        ) as fresh:  # fmt: skip
            fresh.add(ids=ids, **self.columns([self.plain.rows[row] for row in ids]))
            here, there = self.memory.search(QUERIES, 5), fresh.search(QUERIES, 5)
        assert here.ids.tobytes() == there.ids.tobytes()
        assert here.similarity.tobytes() == there.similarity.tobytes()


FEW = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestShortHistories = MemoryAgainstDict.TestCase
TestShortHistories.settings = FEW


@pytest.mark.slow
class TestManyHistories(MemoryAgainstDict.TestCase):
    """The same with new histories every time."""

    settings = settings(FEW, max_examples=1500, stateful_step_count=50, derandomize=False)
