"""Every call that cannot be right: one error of ours, and a memory that is as it was before."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from recollect import Memory
from recollect.errors import (
    DimensionMismatch,
    DuplicateIds,
    EmptyBatch,
    InputError,
    InvalidLabel,
    InvalidMetadata,
    InvalidParameter,
    LengthMismatch,
    NonFinite,
    UnknownIds,
    ZeroVector,
)

NAN, INF = float("nan"), float("inf")
KEY = [[1.0, 2.0]]
TWO = [[1.0, 2.0], [3.0, 4.0]]


class Unreadable:
    """Something that is no array and says so in its own way."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("not on this device")


CALLS = {
    # keys
    "no keys": (EmptyBatch, lambda m: m.add([], [])),
    "no keys of the right width": (EmptyBatch, lambda m: m.add(np.zeros((0, 2)), [])),
    "no queries": (EmptyBatch, lambda m: m.search(np.zeros((0, 2)))),
    "one key without its brackets": (DimensionMismatch, lambda m: m.add([1.0, 2.0], ["x"])),
    "another width": (DimensionMismatch, lambda m: m.add([[1.0]], ["x"])),
    "queries of another width": (DimensionMismatch, lambda m: m.search([[1.0, 2.0, 3.0]])),
    "three dimensions": (DimensionMismatch, lambda m: m.add([[[1.0, 2.0]]], ["x"])),
    "ragged keys": (DimensionMismatch, lambda m: m.add([[1.0, 2.0], [3.0]], ["x", "y"])),
    "keys of text": (DimensionMismatch, lambda m: m.add([["1", "2"]], ["x"])),
    "complex keys": (DimensionMismatch, lambda m: m.add(np.array([[1j, 2]]), ["x"])),
    "keys of dates": (DimensionMismatch, lambda m: m.add(np.zeros((1, 2), "M8[s]"), ["x"])),
    "keys of nothing": (DimensionMismatch, lambda m: m.add(None, ["x"])),
    "keys of objects": (DimensionMismatch, lambda m: m.add([[object(), 1]], ["x"])),
    "keys too large for a float": (DimensionMismatch, lambda m: m.add([[10**400, 1]], ["x"])),
    "keys that cannot be read": (DimensionMismatch, lambda m: m.add(Unreadable(), ["x"])),
    "NaN in a key": (NonFinite, lambda m: m.add([[1.0, NAN]], ["x"])),
    "NaN in a query": (NonFinite, lambda m: m.search([[NAN, 1.0]])),
    "infinity in a query": (NonFinite, lambda m: m.search([[-INF, 1.0]])),
    "too large for float32": (NonFinite, lambda m: m.add([[1.0, 1e39]], ["x"])),
    "a query too large for float32": (NonFinite, lambda m: m.search([[1.0, -1e308]])),
    "a zero key": (ZeroVector, lambda m: m.add([[0.0, -0.0]], ["x"])),
    "a zero query": (ZeroVector, lambda m: m.search([[0.0, 0.0]])),
    "a key that is zero in float32": (ZeroVector, lambda m: m.add([[1e-300, 0]], ["x"])),
    # ids
    "an id twice": (DuplicateIds, lambda m: m.add(TWO, ["x", "y"], ids=[7, 7])),
    "an id that is taken": (DuplicateIds, lambda m: m.add(TWO, ["x", "y"], ids=[7, 1])),
    "an id that was taken once": (DuplicateIds, lambda m: m.add(KEY, ["x"], ids=[2])),
    "a negative id": (InvalidParameter, lambda m: m.add(KEY, ["x"], ids=[-1])),
    "an id of text": (InvalidParameter, lambda m: m.add(KEY, ["x"], ids=["7"])),
    "an id with a fraction": (InvalidParameter, lambda m: m.add(KEY, ["x"], ids=[7.0])),
    "an id that is a truth value": (InvalidParameter, lambda m: m.add(KEY, ["x"], ids=[True])),
    "an id too large": (InvalidParameter, lambda m: m.add(KEY, ["x"], ids=[2**63])),
    "an id far too large": (InvalidParameter, lambda m: m.add(KEY, ["x"], ids=[2**80])),
    "ragged ids": (InvalidParameter, lambda m: m.add(KEY, ["x"], ids=[[7, 8], [9]])),
    "ids in two dimensions": (InvalidParameter, lambda m: m.add(KEY, ["x"], ids=[[7]])),
    "too few ids": (LengthMismatch, lambda m: m.add(TWO, ["x", "y"], ids=[7])),
    "an unknown id to update": (UnknownIds, lambda m: m.update([0, 9], weights=2)),
    "a removed id to update": (UnknownIds, lambda m: m.update([2], weights=2)),
    "an unknown id to remove": (UnknownIds, lambda m: m.remove([0, 9])),
    "an unknown id to erase": (UnknownIds, lambda m: m.erase([0, 9])),
    "nothing to erase": (UnknownIds, lambda m: m.erase([])),
    "an unknown id to read": (UnknownIds, lambda m: m.rows([0, 9])),
    "an id twice to remove": (DuplicateIds, lambda m: m.remove([0, 0])),
    "nothing to change": (InvalidParameter, lambda m: m.update([0])),
    # labels
    "labels of both types": (InvalidLabel, lambda m: m.add(TWO, ["x", 1])),
    "an integer among text": (InvalidLabel, lambda m: m.add(KEY, [1])),
    "a label of another type": (InvalidLabel, lambda m: m.update([0], values=[1])),
    "a truth value as a label": (InvalidLabel, lambda m: m.add(KEY, [True])),
    "a float as a label": (InvalidLabel, lambda m: m.add(KEY, [1.0])),
    "nothing as a label": (InvalidLabel, lambda m: m.add(KEY, [None])),
    "half a surrogate pair": (InvalidLabel, lambda m: m.add(KEY, ["\ud83d"])),
    "an integer label too large": (InvalidLabel, lambda m: m.replace(KEY, [2**63])),
    "an integer label of many digits": (InvalidLabel, lambda m: m.replace(KEY, [-(10**5000)])),
    "no labels": (LengthMismatch, lambda m: m.add(KEY, None)),
    "bytes as labels": (LengthMismatch, lambda m: m.add(TWO, b"xy")),
    "a dict as labels": (LengthMismatch, lambda m: m.add(KEY, {"x": 1})),
    "a number as labels": (LengthMismatch, lambda m: m.add(KEY, 1.5)),
    "too many labels": (LengthMismatch, lambda m: m.add(KEY, ["x", "y"])),
    "a table of labels": (InvalidLabel, lambda m: m.add(KEY, np.array([["x"]]))),
    # weights, sources, pictures
    "a negative weight": (InvalidParameter, lambda m: m.add(KEY, ["x"], weights=[-1])),
    "a weight that sums to infinity": (InvalidParameter, lambda m: m.update([0], weights=1e308)),
    "a weight of NaN": (NonFinite, lambda m: m.update([0], weights=[NAN])),
    "weights of text": (InvalidParameter, lambda m: m.add(KEY, ["x"], weights=["1"])),
    "complex weights": (InvalidParameter, lambda m: m.add(KEY, ["x"], weights=[1j])),
    "a weight too large for a float": (
        InvalidParameter, lambda m: m.add(KEY, ["x"], weights=[10**400]),
    ),
    "too many weights": (LengthMismatch, lambda m: m.add(KEY, ["x"], weights=[1, 2])),
    "a table of weights": (LengthMismatch, lambda m: m.add(KEY, ["x"], weights=[[1]])),
    "one source for two rows": (LengthMismatch, lambda m: m.add(TWO, ["x", "y"], sources="ab")),
    "a number as sources": (LengthMismatch, lambda m: m.add(KEY, ["x"], sources=5)),
    "a source that is no Unicode": (InputError, lambda m: m.add(KEY, ["x"], sources=["\udc80"])),
    "a picture that is text": (InputError, lambda m: m.add(KEY, ["x"], thumbnails=["png"])),
    "a picture without a list": (LengthMismatch, lambda m: m.add(KEY, ["x"], thumbnails=b"png")),
    # metadata
    "metadata in a list": (InvalidMetadata, lambda m: m.add(KEY, ["x"], metadata=[1])),
    "a column of two types": (
        InvalidMetadata, lambda m: m.add(TWO, ["x", "y"], metadata={"a": [1, "b"]}),
    ),
    "a column of another type": (InvalidMetadata, lambda m: m.update([0], metadata={"year": "x"})),
    "a column of lists": (InvalidMetadata, lambda m: m.add(KEY, ["x"], metadata={"a": [[1]]})),
    "a column of NaN": (InvalidMetadata, lambda m: m.add(KEY, ["x"], metadata={"a": [NAN]})),
    "an integer too large": (InvalidMetadata, lambda m: m.update([0], metadata={"year": 2**63})),
    "an integer too large for a float": (
        InvalidMetadata, lambda m: m.add(TWO, ["x", "y"], metadata={"a": [0.5, 10**400]}),
    ),
    "a column that is no Unicode": (
        InvalidMetadata, lambda m: m.add(KEY, ["x"], metadata={"a": ["\ud800"]}),
    ),
    "a column of another length": (
        LengthMismatch, lambda m: m.add(KEY, ["x"], metadata={"a": [1, 2]}),
    ),
    "a column without a name": (InvalidMetadata, lambda m: m.add(KEY, ["x"], metadata={"": [1]})),
    "a column with a number as name": (
        InvalidMetadata, lambda m: m.add(KEY, ["x"], metadata={5: [1]}),
    ),
    "a column with a line break": (
        InvalidMetadata, lambda m: m.add(KEY, ["x"], metadata={"a\nb": [1]}),
    ),
    "a column named like a built-in": (
        InvalidMetadata, lambda m: m.add(KEY, ["x"], metadata={"Weight": [1]}),
    ),
    "a name of a megabyte": (
        InvalidMetadata, lambda m: m.add(KEY, ["x"], metadata={"a" * 1_000_000: [1]}),
    ),
    "thousands of columns": (
        InvalidMetadata,
        lambda m: m.add(KEY, ["x"], metadata={f"c{number}": [1] for number in range(5000)}),
    ),
    # questions
    "k of zero": (InvalidParameter, lambda m: m.search(KEY, k=0)),
    "k of minus one": (InvalidParameter, lambda m: m.search(KEY, k=-1)),
    "k of a half": (InvalidParameter, lambda m: m.search(KEY, k=0.5)),
    "k of text": (InvalidParameter, lambda m: m.search(KEY, k="3")),
    "k of true": (InvalidParameter, lambda m: m.search(KEY, k=True)),
    "k of nothing": (InvalidParameter, lambda m: m.search(KEY, k=None)),
    "a billion neighbors": (InvalidParameter, lambda m: m.search(KEY, k=10**9)),
    "more neighbors than can be counted": (InvalidParameter, lambda m: m.search(KEY, k=10**30)),
    "exclusions of text": (InvalidParameter, lambda m: m.search(KEY, exclude=["0"])),
    "exclusions of floats": (InvalidParameter, lambda m: m.search(KEY, exclude=[[0.5]])),
    "an exclusion for all at once": (InvalidParameter, lambda m: m.search(KEY, exclude=0)),
    "exclusions without dimensions": (
        InvalidParameter, lambda m: m.search(KEY, exclude=np.array(0)),
    ),
    "exclusions in three dimensions": (
        InvalidParameter, lambda m: m.search(KEY, exclude=np.zeros((1, 1, 1), int)),
    ),
    "exclusions nested too deeply": (InvalidParameter, lambda m: m.search(KEY, exclude=[[[0]]])),
    "exclusions too large": (
        InvalidParameter, lambda m: m.search(KEY, exclude=np.array([[2**63]], np.uint64)),
    ),
    "ragged exclusions": (InvalidParameter, lambda m: m.search(KEY, exclude=[[[0], [1, 2]]])),
    "too few exclusions": (LengthMismatch, lambda m: m.search(TWO, exclude=[[0]])),
    "too many exclusions": (LengthMismatch, lambda m: m.search(KEY, exclude=[[0], [1]])),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A memory with two rows, and one that was removed."""
    with Memory.create(tmp_path / "memory", dim=2) as memory:
        memory.add([*TWO, *KEY], ["cat", "dog", "owl"], metadata={"year": [1, 2, 3]})
        memory.remove([2])
    return tmp_path / "memory"


def digest(folder):
    """Every byte of every file but the lock, which names its holder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "writer.lock"
    }


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be_right_is_refused_and_changes_nothing(name, folder):
    """Expected, got and remedy; not a byte on the disk, and the next call works."""
    error, call = CALLS[name]
    before = digest(folder)
    with Memory.open(folder) as memory:
        with pytest.raises(error) as caught:
            call(memory)

        assert type(caught.value) is error
        assert caught.value.expected is not None
        assert caught.value.got is not None
        assert caught.value.remedy
        assert len(str(caught.value)) < 600
        assert memory.version == 2
        assert memory.ids.tolist() == [0, 1]
        assert memory.stats()["columns"] == {"year": "int"}
        memory.search(KEY)
    assert digest(folder) == before

    with Memory.open(folder, check=True) as memory:
        assert memory.add(KEY, ["cat"]).tolist() == [3]


def test_the_largest_id_there_is_can_be_used_and_is_the_last_one_counted(folder):
    """What comes after it does not exist."""
    with Memory.open(folder) as memory:
        memory.add(KEY, ["x"], ids=[2**63 - 1])
        assert memory.search(KEY, k=3).ids.max() == 2**63 - 1
        with pytest.raises(InvalidParameter):
            memory.add(KEY, ["y"])
        memory.add(KEY, ["y"], ids=[100])
        memory.erase([2**63 - 1])
        with pytest.raises(InvalidParameter):
            memory.add(KEY, ["z"])

    with Memory.open(folder, check=True) as memory:
        assert memory.ids.tolist() == [0, 1, 100]


def test_a_k_that_is_a_little_too_large_is_padded(folder):
    """Asking for twenty on day one is normal."""
    with Memory.open(folder) as memory:
        assert memory.search(KEY, k=10_000).ids.shape == (1, 10_000)
        assert (memory.search(KEY, k=10_000).ids[0, 2:] == -1).all()


def test_weights_at_the_edge_are_kept(folder):
    """Zero means: never votes. The largest still adds up."""
    with Memory.open(folder) as memory:
        memory.update([0, 1], weights=[-0.0, 1e100])

        assert memory.rows().weights.tolist() == [0.0, 1e100]
        assert str(memory.rows().weights[0]) == "0.0"


@pytest.mark.parametrize("bad", [[[256, 0]], [[-1, 0]], [[0.5, 0]], [[float("nan"), 0]]])
def test_keys_that_are_no_bytes_do_not_enter_a_memory_of_bytes(bad):
    """Rounding them silently would change answers."""
    with Memory.create(":memory:", dim=2, dtype="uint8", metric="euclidean") as memory:
        with pytest.raises(InputError):
            memory.add(bad, ["x"])

        assert memory.add([[255.0, 0]], ["x"]).tolist() == [0]


@pytest.mark.parametrize(
    ("kind", "options", "bad"),
    [
        ("number", {}, ["x"]), ("number", {}, [NAN]), ("number", {}, [1j]), ("number", {}, [[1]]),
        ("number", {}, [10**400]), ("number", {}, None), ("number", {}, [1, 2]),
        ("vector", {"value_dim": 2}, [[1]]), ("vector", {"value_dim": 2}, [["a", "b"]]),
        ("vector", {"value_dim": 2}, [[1, 1e300]]), ("vector", {"value_dim": 2}, [[1, NAN]]),
        ("vector", {"value_dim": 2}, [[1, 2], [3, 4]]), ("vector", {"value_dim": 2}, None),
        ("arrays", {}, [1]), ("arrays", {}, None), ("arrays", {}, [{"a": ["x"]}]),
        ("arrays", {}, [{"a": [[1], [2, 3]]}]), ("arrays", {}, [{1: [2]}]), ("arrays", {}, []),
    ],
)  # fmt: skip
def test_values_of_the_wrong_kind_are_refused(kind, options, bad):
    """Whatever a row should answer with."""
    with Memory.create(":memory:", dim=2, value=kind, **options) as memory:
        with pytest.raises(InputError) as caught:
            memory.add(KEY, bad)

        assert caught.value.expected
        assert caught.value.remedy
        assert memory.version == 0
