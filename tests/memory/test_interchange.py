"""Rows as Arrow and Parquet: the same bits back, and nothing foreign out of a damaged file."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recollect.errors import (
    CorruptMemory,
    DuplicateIds,
    EmptyBatch,
    InputError,
    InvalidLabel,
    InvalidMetadata,
    InvalidParameter,
    NonFinite,
    RecollectError,
    UnsupportedFormat,
    WriteFailed,
    ZeroVector,
)
from recollect.memory.interchange import from_arrow, from_parquet, to_arrow, to_parquet
from recollect.memory.memory import Memory
from recollect.types import Rows

pa = pytest.importorskip("pyarrow")

ABOUT = {"dim": 2, "metric": "cosine", "value": "label"}


def some_rows(**changes):
    columns = {
        "ids": np.array([7, 3]),
        "keys": np.array([[-0.0, 1e-42], [1.5, 3.4e38]], np.float32),
        "values": np.array(["cat", "dög"], object),
        "weights": np.array([1.0, 5e-324]),
        "sources": ["a.png", None],
        "metadata": {
            "year": [2020, None],
            "key": ["x", None],
            "ok": [True, None],
            "f": [-0.0, None],
        },
    }
    return Rows(**{**columns, **changes})


def same_bits(one, other):
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def through_parquet(rows, about, folder):
    to_parquet(rows, folder / "rows.parquet", about=about)
    return from_parquet(folder / "rows.parquet")


def test_rows_come_back_bit_for_bit(tmp_path):
    """Minus zero and the smallest numbers are bits as well; forgetting is checked against them."""
    rows = some_rows()

    back, about = through_parquet(rows, ABOUT, tmp_path)

    assert same_bits(back.keys, rows.keys)
    assert same_bits(back.weights, rows.weights)
    assert same_bits(back.ids, rows.ids)
    assert back.values.tolist() == ["cat", "dög"]
    assert back.sources == ["a.png", None]
    assert back.metadata == rows.metadata
    assert math.copysign(1, back.metadata["f"][0]) == -1
    assert about["metadata"] == {"year": "int", "key": "str", "ok": "bool", "f": "float"}


@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_narrow_keys_keep_their_type(tmp_path, dtype):
    """Half floats and bytes are a memory's own choice, not something to widen."""
    rows = some_rows(keys=np.array([[0, 1], [2, 255]], dtype))

    back, about = through_parquet(rows, ABOUT, tmp_path)

    assert same_bits(back.keys, rows.keys)
    assert about["dtype"] == np.dtype(dtype).name


def test_integer_labels_numbers_and_vectors_come_back(tmp_path):
    """Each kind of value has a column type of its own."""
    labels = some_rows(values=np.array([-5, 2**62]))
    numbers = some_rows(values=np.array([0.1, -0.0]))
    vectors = some_rows(values=np.array([[0.1, -0.0, 1e-45]] * 2, np.float32))

    for rows, value in ((labels, "label"), (numbers, "number"), (vectors, "vector")):
        back, about = through_parquet(rows, {**ABOUT, "value": value}, tmp_path)
        assert same_bits(back.values, rows.values)
        assert about["value"] == value


def test_an_empty_memory_comes_back_empty_with_its_types(tmp_path):
    """Exporting on day one must not lose what the memory is."""
    rows = Rows(
        np.empty(0, np.int64),
        np.empty((0, 2), np.float16),
        np.empty((0, 3), np.float32),
        np.empty(0),
        [],
        {"year": []},
    )
    about = {**ABOUT, "value": "vector", "metadata": {"year": "int"}}

    back, facts = through_parquet(rows, about, tmp_path)

    assert (back.keys.shape, back.keys.dtype) == ((0, 2), np.float16)
    assert back.values.shape == (0, 3)
    assert facts["metadata"] == {"year": "int"}


def test_what_is_said_about_the_memory_is_carried_along(tmp_path):
    """The encoder's recipe travels with the keys it made."""
    about = {**ABOUT, "encoder": "pixels:8", "encoder_spec": {"kind": "pixels", "side": 8}}

    _, back = through_parquet(some_rows(), about, tmp_path)

    assert {name: back[name] for name in about} == about


def test_a_slice_of_a_table_gives_its_own_rows():
    """Arrow slices share buffers; the keys must start at the offset."""
    rows, _ = from_arrow(to_arrow(some_rows(), about=ABOUT).slice(1))

    assert rows.ids.tolist() == [3]
    assert rows.keys.tolist() == [[1.5, np.float32(3.4e38)]]


def test_named_arrays_are_refused():
    """A table cannot hold them; better said than lost."""
    with pytest.raises(InvalidParameter, match="named arrays"):
        to_arrow(some_rows(), about={**ABOUT, "value": "arrays"})


def test_facts_that_are_no_json_are_refused():
    """NaN would be written as something no other reader takes."""
    with pytest.raises(InvalidParameter, match="as JSON"):
        to_arrow(some_rows(), about={**ABOUT, "note": math.nan})


def test_a_metadata_column_of_two_types_is_refused():
    """An Arrow column has one."""
    with pytest.raises(InvalidMetadata, match="'m' holds several types: got int, str"):
        to_arrow(some_rows(metadata={"m": [1, "a"]}), about=ABOUT)


# Writing


def test_writing_replaces_the_whole_file_or_nothing(tmp_path):
    """No half file under the final name, and no draft left beside it."""
    to_parquet(some_rows(), tmp_path / "rows.parquet", about=ABOUT)
    to_parquet(some_rows(sources=["b.png", None]), tmp_path / "rows.parquet", about=ABOUT)

    assert [file.name for file in tmp_path.iterdir()] == ["rows.parquet"]
    assert from_parquet(tmp_path / "rows.parquet")[0].sources == ["b.png", None]


def test_a_folder_that_does_not_exist_is_one_error(tmp_path):
    """The disk's refusal is told with the path."""
    with pytest.raises(WriteFailed, match="cannot be written"):
        to_parquet(some_rows(), tmp_path / "gone" / "rows.parquet", about=ABOUT)


# Damage


def told(**changes):
    """A table of ours whose description was tampered with."""
    table = to_arrow(some_rows(), about=ABOUT)
    facts = {**json.loads(table.schema.metadata[b"recollect"]), **changes}
    return table.replace_schema_metadata({b"recollect": json.dumps(facts).encode()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dim", 3),
        ("dim", 10**12),
        ("dim", True),
        ("dim", "2"),
        ("dim", None),
        ("encoder", 5),
        ("encoder_spec", []),
        ("metric_weights", [1.0, 1.0]),
        ("metric_weights", {"a": 1}),
        ("value_dim", 2),
        ("metric", "taxi"),
        ("metric", ["cosine"]),
        ("value", "number"),
        ("value", "arrays"),
        ("dtype", "float16"),
        ("dtype", "object"),
        ("format", 0),
        ("format", "1"),
        ("metadata", {"year": "int"}),
        ("metadata", {"year": []}),
        ("metadata", ["year"]),
        ("metadata", {"year": "str", "key": "str", "ok": "bool", "f": "float"}),
    ],
)
def test_a_description_that_does_not_fit_the_table_is_refused(name, value):
    """The description comes from a file; nothing is built before it agrees with the columns."""
    with pytest.raises(CorruptMemory) as caught:
        from_arrow(told(**{name: value}))

    assert caught.value.remedy


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff", b"[" * 100_000, b"1" * 5000])
def test_a_description_that_is_no_json_object_is_refused(text):
    """Deep nesting and endless digits have broken readers before."""
    table = to_arrow(some_rows(), about=ABOUT).replace_schema_metadata({b"recollect": text})

    with pytest.raises(CorruptMemory, match="description of the memory"):
        from_arrow(table)


def test_a_table_of_a_newer_version_is_told_apart_from_a_damaged_one():
    """The remedy differs: update instead of restoring a copy."""
    with pytest.raises(UnsupportedFormat, match="newer version"):
        from_arrow(told(format=3))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("id", pa.array([1, 1]), "number twice"),
        ("id", pa.array([-1, 1]), "negative"),
        ("id", pa.array([1, None]), "missing value: got row 1"),
        ("id", pa.array(["1", "2"]), "no integers"),
        ("id", pa.array([1, 2**63], pa.uint64()), "malformed"),
        ("weight", pa.array([1.0, -1.0]), "cannot be used.*-1.0 in row 1"),
        ("weight", pa.array([1.0, math.inf]), "cannot be used"),
        ("label", pa.array(["a", None]), "missing value"),
        ("label", pa.array([1.5, 2.5]), "neither text nor integers"),
        ("source", pa.array([1, 2]), "holds no text"),
        ("year", pa.array(["a", "b"]), "another type"),
        ("key", pa.array([[1.0, 2.0], [1.0]]), "different width"),
        ("key", pa.array([[1.0, math.nan]] * 2, pa.list_(pa.float32(), 2)), "NaN or infinity"),
        ("key", pa.array([[1.0, None]] * 2, pa.list_(pa.float32(), 2)), "missing number"),
        ("key", pa.array([[], []], pa.list_(pa.float32())), "width 0"),
        ("key", pa.array(["a", "b"]), "no vectors"),
        ("key", pa.array([[1.0, 2.0, 3.0]] * 2, pa.list_(pa.float32(), 3)), "width 3"),
    ],
)
def test_a_column_of_ours_that_was_changed_is_corruption(column, values, message):
    """Each column is judged before a row is built; damage is not the caller's mistake."""
    table = to_arrow(some_rows(), about=ABOUT)
    at = table.column_names.index(column)

    with pytest.raises(CorruptMemory, match=message):
        from_arrow(table.set_column(at, column, values))


def test_a_column_that_is_missing_is_corruption():
    """A table that lost its weights would quietly count all rows alike."""
    with pytest.raises(CorruptMemory, match="other columns"):
        from_arrow(to_arrow(some_rows(), about=ABOUT).drop_columns(["weight"]))


def test_something_that_is_no_table_is_refused():
    """A pandas frame is close, but not it."""
    with pytest.raises(InvalidParameter, match=r"expected pyarrow\.Table, got dict"):
        from_arrow({"key": []})


def test_a_file_that_is_not_there_or_no_parquet_is_refused(tmp_path):
    """Two common mistakes, one family of errors."""
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing else")

    with pytest.raises(InputError, match="no file at"):
        from_parquet(tmp_path / "gone.parquet")
    with pytest.raises(InputError, match="no readable Parquet"):
        from_parquet(tmp_path / "x.parquet")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_a_damaged_file_never_raises_anything_foreign(tmp_path, data):
    """A memory may come from anyone; each byte of it may be wrong."""
    file = tmp_path / "rows.parquet"
    to_parquet(some_rows(), file, about=ABOUT)
    raw = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(raw)

    with suppress(RecollectError):
        from_parquet(file)


BITS = st.integers(0, 2**32 - 1).filter(lambda bits: bits >> 23 & 0xFF != 0xFF)
LABELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
CELLS = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "str": LABELS,
}


@st.composite
def memories(draw):
    count = draw(st.integers(0, 5))
    column = lambda values: draw(st.lists(values, min_size=count, max_size=count))  # noqa: E731
    keys = np.array(column(st.lists(BITS, min_size=3, max_size=3)), np.uint32).reshape(-1, 3)
    ids = draw(st.lists(st.integers(0, 2**63 - 1), min_size=count, max_size=count, unique=True))
    labels = np.empty(count, object)
    labels[:] = column(LABELS)
    return Rows(
        np.array(ids, np.int64),
        keys.view(np.float32),
        labels,
        np.array(column(st.floats(0, 1e308)), np.float64),
        column(st.none() | LABELS),
        {kind: column(st.none() | cell) for kind, cell in CELLS.items()},
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(memories())
def test_any_memory_comes_back_through_a_file_bit_for_bit(tmp_path, rows):
    """Whatever was taught, export and import change nothing."""
    about = {
        "dim": 3,
        "metric": "dot",
        "value": "label",
        "metadata": {name: name for name in CELLS},
    }

    back, _ = through_parquet(rows, about, tmp_path)

    assert same_bits(back.keys, rows.keys)
    assert same_bits(back.ids, rows.ids)
    assert same_bits(back.weights, rows.weights)
    assert back.values.tolist() == rows.values.tolist()
    assert (back.sources, back.metadata) == (rows.sources, rows.metadata)


# Tables of others


def foreign(**changes):
    columns = {"embedding": pa.array([[0.5, 1.0], [2.0, 3.0]]), "label": ["a", "b"]}
    columns.update(changes)
    return pa.table({name: column for name, column in columns.items() if column is not None})


def test_a_foreign_table_needs_only_embeddings_and_labels():
    """Features that were saved by another tool become a memory in one step."""
    rows, about = from_arrow(foreign())

    assert rows.keys.tolist() == [[0.5, 1.0], [2.0, 3.0]]
    assert rows.keys.dtype == np.float32
    assert rows.values.tolist() == ["a", "b"]
    assert rows.ids.tolist() == [0, 1]
    assert rows.weights.tolist() == [1.0, 1.0]
    assert rows.sources == [None, None]
    assert (about["dim"], about["metric"], about["encoder"]) == (2, "cosine", None)


def test_a_foreign_table_keeps_ids_weights_sources_and_metadata():
    """What it knows is used; a column of lists that is no key is left out."""
    rows, about = from_arrow(
        foreign(
            id=[5, 2],
            weight=[2, 0],
            source=["x", None],
            split=["train", None],
            seen=pa.array([0, 1], pa.date32()),
            boxes=[["x"], []],
            class_name=["cat", "dog"],
        )
    )

    assert rows.ids.tolist() == [5, 2]
    assert rows.weights.tolist() == [2.0, 0.0]
    assert rows.sources == ["x", None]
    assert rows.values.tolist() == ["cat", "dog"]
    assert rows.metadata == {
        "label_": ["a", "b"],
        "split": ["train", None],
        "seen": ["1970-01-01", "1970-01-02"],
    }
    assert about["metadata"] == {"label_": "str", "split": "str", "seen": "str"}


def test_a_foreign_table_of_questions_may_lack_labels():
    """Embeddings that are only asked about have no answer yet."""
    rows, _ = from_arrow(foreign(label=None), valued=False)

    assert rows.keys.tolist() == [[0.5, 1.0], [2.0, 3.0]]
    assert rows.values.tolist() == [0.0, 0.0]


def test_a_foreign_table_of_numbers_makes_a_memory_of_numbers():
    """Regression rows have no label."""
    rows, about = from_arrow(foreign(label=None, value=[0.5, 1.5]))

    assert rows.values.tolist() == [0.5, 1.5]
    assert about["value"] == "number"


def test_the_only_column_of_vectors_is_the_key_whatever_its_name():
    """Tools name their features as they like."""
    rows, _ = from_arrow(foreign(embedding=None, clip_l14=[[1, 2], [3, 4]]))

    assert rows.keys.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (foreign(embedding=None), InputError, "which column holds the keys"),
        (foreign(label=None), InputError, "which column holds the values"),
        (foreign(embedding=[[1.0], [1.0, 2.0]]), InputError, "different width"),
        (foreign(embedding=[[1.0], None]), InputError, "missing value: got row 1"),
        (foreign(embedding=[[1e39], [1.0]]), NonFinite, "NaN or infinity"),
        (foreign(label=["a", None]), InputError, "missing value"),
        (foreign(label=pa.array([1, 2]), id=[3, 3]), DuplicateIds, "twice"),
        (foreign(weight=[1.0, -1.0]), InputError, "from 0"),
        (foreign().slice(0, 0), EmptyBatch, "no rows"),
        (foreign(embedding=[[1.0, 0.0], [0.0, -0.0]]), ZeroVector, "zeros in row 1"),
    ],
)
def test_a_foreign_table_that_cannot_be_used_says_why(table, error, message):
    """Before a memory is made."""
    with pytest.raises(error, match=message) as caught:
        from_arrow(table)

    assert caught.value.remedy


def test_labels_of_an_unusable_type_are_refused():
    """Lists of labels are another task."""
    table = to_arrow(some_rows(), about=ABOUT).replace_schema_metadata(None)
    at = table.column_names.index("label")

    with pytest.raises((InputError, InvalidLabel), match="values"):
        from_arrow(table.set_column(at, "label", pa.array([["a"], ["b"]])))


def test_a_memory_comes_back_through_a_file(tmp_path):
    """The way a user goes: export, import, and the same answers with the same ids."""
    with Memory.create(":memory:", dim=2, encoder="pixels:1") as memory:
        memory.add([[1, 0], [0, 1]], ["a", "b"], ids=[5, 9], metadata={"year": [2020, None]})
        memory.to_parquet(tmp_path / "rows.parquet")

    with Memory.from_parquet(tmp_path / "copy", tmp_path / "rows.parquet") as copy:
        near = copy.search([[0.1, 1]], k=2)
        rows = copy.rows()

    assert near.ids.tolist() == [[9, 5]]
    assert rows.metadata == {"year": [2020, None]}
    assert copy.encoder == "pixels:1"


def test_a_foreign_table_becomes_a_memory(tmp_path):
    """Embeddings from elsewhere can be asked at once."""
    with Memory.from_arrow(":memory:", foreign(split=["train", "test"])) as memory:
        near = memory.search([[0.5, 1.0]], k=2, where="split = 'test'")

    assert near.ids.tolist() == [[1, -1]]


def test_pictures_and_used_ids_travel_with_the_rows(tmp_path):
    """An id in a receipt still means the row that was erased, in the copy too."""
    with Memory.create(tmp_path / "memory", dim=2) as memory:
        memory.add(np.eye(2), ["cat", "dog"], thumbnails=[b"a cat", None])
        memory.add([[1, 1], [2, 1]], ["fish", "fish"], metadata={"thumbnail": ["big", "small"]})
        memory.erase([2])
        memory.remove([3])
        memory.to_parquet(tmp_path / "rows.parquet")

    with Memory.from_parquet(tmp_path / "copy", tmp_path / "rows.parquet") as copy:
        assert [copy.thumbnail(row) for row in copy.ids.tolist()] == [b"a cat", None]
        assert copy.version == 1
        with pytest.raises(DuplicateIds):
            copy.add([[1, 1]], ["fish"], ids=[2])
        assert copy.add([[1, 1]], ["fish"]).tolist() == [4]


def test_a_table_of_format_1_is_read_as_before():
    """It knew neither pictures nor used ids, and a column may be called thumbnail in it."""
    rows = some_rows(metadata={"thumbnail": ["big", None]})
    table = to_arrow(rows, about=ABOUT)
    facts = json.loads(table.schema.metadata[b"recollect"]) | {"format": 1}
    del facts["thumbnails"], facts["retired"]
    names = ["thumbnail" if name == "metadata.thumbnail" else name for name in table.column_names]
    old = table.rename_columns(names).replace_schema_metadata({b"recollect": json.dumps(facts)})

    read, found = from_arrow(old)

    assert read.metadata == {"thumbnail": ["big", None]}
    assert (found["thumbnails"], found["retired"]) == (None, [])


@pytest.mark.parametrize(
    "facts",
    [{"retired": [-1]}, {"retired": [1.5]}, {"retired": "all"}, {"retired": [7]},
     {"thumbnails": 1}, {"thumbnails": True}],
)  # fmt: skip
def test_a_forged_description_of_pictures_or_ids_is_refused(facts):
    """Whoever sends a table does not decide which ids are free."""
    with pytest.raises(CorruptMemory):
        from_arrow(told(**facts))
