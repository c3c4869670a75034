"""What a memory is and does, call by call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recollect import Memory
from recollect.errors import (
    Closed,
    DuplicateIds,
    EncoderMismatch,
    InputError,
    InvalidParameter,
    MemoryExists,
    MemoryNotFound,
    ReadOnly,
    UnknownIds,
    UnknownVersion,
)

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


@pytest.fixture(params=["disk", "ram"])
def memory(request, tmp_path):
    """An empty memory of two-dimensional keys."""
    place = tmp_path / "memory" if request.param == "disk" else ":memory:"
    with Memory.create(place, dim=2) as made:
        yield made


def make(folder, **options):
    """A memory on disk with a cat in the east and a dog in the north."""
    memory = Memory.create(folder, dim=2, **options)
    memory.add([EAST, NORTH], ["cat", "dog"])
    return memory


# -- teaching and asking ---------------------------------------------------------------------------


def test_ids_count_up_from_zero_and_go_on_after_the_largest_given(memory):
    """A user's own ids and counted ones live together."""
    assert memory.add([EAST], ["a"]).tolist() == [0]
    assert memory.add([EAST], ["a"], ids=[41]).tolist() == [41]
    assert memory.add([EAST, NORTH], ["a", "b"]).tolist() == [42, 43]


def test_the_id_of_a_removed_row_is_not_given_again(memory):
    """Someone may have written it down."""
    memory.add([EAST, NORTH], ["a", "b"])
    memory.remove([1])

    assert memory.add([EAST], ["c"]).tolist() == [2]
    with pytest.raises(DuplicateIds):
        memory.add([EAST], ["c"], ids=[1])


def test_an_erased_id_stays_used_after_erasing_and_compacting(memory):
    """A receipt names it for ever."""
    memory.add([EAST, NORTH, WEST], ["a", "b", "c"])
    memory.erase([2])
    memory.remove([1])
    memory.compact()

    assert memory.add([EAST], ["d"]).tolist() == [3]
    with pytest.raises(DuplicateIds):
        memory.add([EAST, WEST], ["d", "e"], ids=[9, 2])
    with pytest.raises(DuplicateIds):
        memory.add([EAST], ["d"], ids=[1])


def test_rows_added_with_smaller_ids_are_found_and_listed_in_order(memory):
    """The order of teaching is not the order of ids."""
    memory.add([NORTH], ["b"], ids=[7])
    memory.search([EAST])
    memory.add([EAST, WEST], ["a", "c"], ids=[5, 3])

    assert memory.ids.tolist() == [3, 5, 7]
    assert memory.search([EAST], k=3).ids.tolist() == [[5, 7, 3]]
    assert memory.rows([7, 3]).values.tolist() == ["b", "c"]


def test_a_row_takes_part_in_the_answer_after_the_call_that_changed_it(memory):
    """There is no training run and no refresh."""
    memory.add([EAST, NORTH], ["cat", "dog"])
    assert memory.search([EAST], k=1).values.tolist() == [["cat"]]

    memory.update([0], values="lynx", weights=2.5)
    near = memory.search([EAST], k=1)
    assert (near.values.tolist(), near.weights.tolist()) == ([["lynx"]], [[2.5]])

    memory.remove([0])
    assert memory.search([EAST], k=1).ids.tolist() == [[1]]


def test_the_answer_of_an_empty_memory_is_all_padding(memory):
    """Asking on day one is no error."""
    near = memory.search([EAST], k=2)

    assert near.ids.tolist() == [[-1, -1]]
    assert near.similarity.tolist() == [[-np.inf, -np.inf]]
    assert near.weights.tolist() == [[0.0, 0.0]]
    assert near.codes.tolist() == [[-1, -1]]
    assert len(near.classes) == 0


def test_codes_point_into_the_labels_that_are_alive(memory):
    """A head votes over codes; a label without rows is no class."""
    memory.add([EAST, NORTH, WEST], ["cat", "ant", "bee"])
    memory.remove([1])

    near = memory.search([EAST], k=2)

    assert near.classes.tolist() == ["bee", "cat"]
    assert near.codes.tolist() == [[1, 0]]
    assert memory.labels.tolist() == ["bee", "cat"]
    assert memory.label_counts() == {"bee": 1, "cat": 1}


def test_labels_that_come_and_go_far_apart_keep_their_rows(memory):
    """Codes of labels have gaps once unused ones were dropped."""
    memory.add(np.eye(2).repeat(3, axis=0), list("abcdef"))
    memory.erase([0, 1, 3])
    memory.add([WEST], ["g"])

    assert memory.label_counts() == {"c": 1, "e": 1, "f": 1, "g": 1}
    assert memory.search([WEST], k=1).values.tolist() == [["g"]]
    assert memory.at(1).label_counts() == {"c": 1, "e": 1, "f": 1}


def test_replacing_swaps_all_rows_in_one_version(memory):
    """A reader never sees the moment in between."""
    memory.add([EAST, NORTH], ["cat", "dog"])

    ids = memory.replace([WEST], [3])

    assert ids.tolist() == [2]
    assert memory.labels.tolist() == [3]
    assert memory.version == 2
    assert memory.at(1).labels.tolist() == ["cat", "dog"]


def test_a_filter_on_the_label_follows_the_type_that_labels_have_in_that_version(memory):
    """After a replacement by integers the old text is still asked for by text."""
    memory.add([EAST, NORTH], ["cat", "dog"])
    memory.replace([WEST, EAST], [3, 4])

    assert memory.search([EAST], k=1, where="label = 3").ids.tolist() == [[2]]
    assert memory.at(1).search([EAST], k=1, where="label = 'dog'").ids.tolist() == [[1]]


def test_an_exclusion_holds_for_its_own_query_only(memory):
    """Leave-one-out asks each row about all others."""
    memory.add([EAST, NORTH], ["cat", "dog"])

    near = memory.search([EAST, NORTH], k=1, exclude=[[0], [1]])

    assert near.ids.tolist() == [[1], [0]]


def test_a_filter_that_matches_nothing_removes_nothing_and_makes_no_version(memory):
    """Cleaning up twice is no error."""
    memory.add([EAST], ["cat"], metadata={"year": [2020]})

    assert memory.remove(where="year > 2030").tolist() == []
    assert memory.version == 1


def test_rows_that_are_named_twice_or_not_at_all_are_refused(memory):
    """`remove()` must not mean everything."""
    memory.add([EAST], ["cat"])

    for names in ({}, {"ids": [0], "where": "id = 0"}):
        for call in (memory.remove, memory.erase):
            with pytest.raises(InvalidParameter) as caught:
                call(**names)
            assert caught.value.expected == "ids= or where="


def test_one_unknown_id_among_many_removes_nothing(memory):
    """All or nothing."""
    memory.add([EAST, NORTH], ["cat", "dog"])

    with pytest.raises(UnknownIds) as caught:
        memory.remove([1, 5])

    assert "5" in str(caught.value)
    assert memory.ids.tolist() == [0, 1]


def test_metadata_columns_come_back_with_their_types_and_gaps(memory):
    """A column that a row never had is None there."""
    memory.add([EAST], ["a"], metadata={"good": [True], "year": [2020]})
    memory.add([NORTH], ["b"], metadata={"size": [1], "note": "x"})

    rows = memory.rows()

    assert rows.metadata == {
        "good": [True, None], "year": [2020, None], "size": [None, 1], "note": [None, "x"],
    }  # fmt: skip
    assert type(rows.metadata["good"][0]) is bool


def test_clearing_a_column_of_every_row_takes_it_out_of_the_answer(memory):
    """None stands for nothing."""
    memory.add([EAST], ["a"], metadata={"year": [2020]})

    memory.update([0], metadata={"year": None})

    assert memory.rows().metadata == {}
    assert memory.search([EAST], where="year is null").ids[0, 0] == 0


def test_thumbnails_stay_with_their_rows(memory):
    """The picture beside an answer is the row's own."""
    memory.add([EAST, NORTH], ["a", "b"], thumbnails=[b"png", None])

    assert memory.thumbnail(0) == b"png"
    assert memory.thumbnail(1) is None
    with pytest.raises(UnknownIds):
        memory.thumbnail(2)


@pytest.mark.parametrize(
    ("kind", "options", "values"),
    [
        ("number", {}, [1.5, -0.25]),
        ("vector", {"value_dim": 2}, [[1.0, 2.0], [3.0, 4.0]]),
    ],
)
def test_numbers_and_vectors_come_back_as_they_were(kind, options, values, tmp_path):
    """A regressor averages these; a changed bit is a changed answer."""
    with Memory.create(tmp_path / "m", dim=2, value=kind, **options) as memory:
        memory.add([EAST, NORTH], values)
        memory.update([1], values=values[:1])

        assert memory.rows().values.tolist() == [values[0], values[0]]
        assert memory.at(1).rows().values.tolist() == values
        near = memory.search([NORTH], k=3)
        assert near.values[0, :2].tolist() == [values[0], values[0]]
        assert np.isnan(near.values[0, 2]).all()
        with pytest.raises(InvalidParameter):
            memory.label_counts()


def test_named_arrays_of_any_shape_come_back_bit_for_bit(tmp_path):
    """A table or a mask is a value too."""
    value = {"mask": np.array([[True, False]]), "steps": np.arange(3, dtype=">i2"), "x": 0.5}
    with Memory.create(tmp_path / "m", dim=2, value="arrays") as memory:
        memory.add([EAST, NORTH], [value, {}])

        got = memory.search([EAST], k=3).values[0]

    assert got[0]["mask"].tolist() == [[True, False]]
    assert (got[0]["steps"].tolist(), got[0]["x"].shape) == ([0, 1, 2], ())
    assert got[1] == {}
    assert got[2] is None


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_keys_keep_the_bits_that_were_added(dtype, tmp_path):
    """Exchange with other programs is bit-exact."""
    keys = np.array([[1, 255], [3, 4]], dtype)
    with Memory.create(tmp_path / "m", dim=2, dtype=dtype) as memory:
        memory.add(keys, ["a", "b"])

        assert memory.rows().keys.dtype == dtype
        assert memory.rows().keys.tobytes() == keys.tobytes()
        assert memory.dtype == np.dtype(dtype)


def test_weighted_manhattan_distance_uses_the_weights_it_was_created_with(tmp_path):
    """They belong to the memory, so that every process gets the same answer."""
    options = {"metric": "manhattan", "metric_weights": [1.0, 10.0]}
    make(tmp_path / "m", **options).close()

    with Memory.open(tmp_path / "m") as memory:
        near = memory.search([[1.0, 0.5]], k=2)

        assert memory.metric_weights.tolist() == [1.0, 10.0]
        assert near.ids.tolist() == [[0, 1]]
        assert near.similarity.tolist() == [[-5.0, -6.0]]


# -- versions --------------------------------------------------------------------------------------


def test_every_write_is_one_version_with_its_time_and_size(tmp_path):
    """The history can be read like a log."""
    times = iter([10.0, 20.0, 30.0, 40.0])
    with Memory.create(tmp_path / "m", dim=2, clock=lambda: next(times)) as memory:
        memory.add([EAST, NORTH], ["cat", "dog"])
        memory.update([0], weights=2)
        memory.remove([1])

        history = [
            (info.version, info.time, info.operation, info.rows, info.changed)
            for info in memory.versions()
        ]

    assert history == [
        (0, 10.0, "create", 0, 0), (1, 20.0, "add", 2, 2), (2, 30.0, "update", 2, 1),
        (3, 40.0, "remove", 1, 1),
    ]  # fmt: skip


def test_restoring_brings_removed_rows_back_as_a_new_version(memory):
    """A mistake is undone without a backup, and the undoing can be undone."""
    memory.add([EAST, NORTH], ["cat", "dog"], metadata={"year": [1, 2]})
    memory.update([0], values="lynx")
    memory.remove([1])

    assert memory.restore(1) == 4
    assert memory.rows().values.tolist() == ["cat", "dog"]
    assert memory.rows().metadata == {"year": [1, 2]}
    assert memory.restore(3) == 5
    assert memory.rows().values.tolist() == ["lynx"]


def test_a_past_version_answers_as_it_did_then_and_refuses_writes(memory):
    """It is for looking back."""
    memory.add([EAST], ["cat"])
    memory.update([0], values="dog")

    past = memory.at(1)

    assert past.search([EAST], k=1).values.tolist() == [["cat"]]
    assert past.version == 1
    assert past.read_only
    assert past.label_counts() == {"cat": 1}
    assert past.rows(where="label = 'cat'").ids.tolist() == [0]
    for write in (
        lambda: past.add([EAST], ["x"]), lambda: past.remove([0]), lambda: past.erase([0]),
        past.compact, lambda: past.restore(0), lambda: past.update([0], weights=1),
        lambda: past.replace([EAST], ["x"]), lambda: past.remove([]),
        lambda: past.update([], weights=1),
    ):  # fmt: skip
        with pytest.raises(ReadOnly):
            write()
    assert memory.version == 2


def test_closing_a_look_back_leaves_the_memory_open(tmp_path):
    """It shares the files of the memory it came from."""
    make(tmp_path / "m").close()
    with Memory.open(tmp_path / "m", read_only=True) as memory:
        memory.at(1).close()

        assert len(memory) == 2


def test_a_look_back_ends_with_the_memory_it_came_from(tmp_path):
    """The files are released."""
    memory = make(tmp_path / "m")
    past = memory.at(1)
    memory.close()

    with pytest.raises(Closed):
        past.search([EAST])


@pytest.mark.parametrize("version", [-1, 2, "1", 1.0, None, True])
def test_a_version_that_is_not_there_is_named_with_those_that_are(version, memory):
    """Only whole numbers of versions are versions."""
    memory.add([EAST], ["cat"])

    for call in (memory.at, memory.restore):
        with pytest.raises(UnknownVersion) as caught:
            call(version)
        assert caught.value.expected == "0 to 1"


def test_a_version_may_be_a_numpy_integer(memory):
    """Versions come out of tables."""
    memory.add([EAST], ["cat"])

    assert len(memory.at(np.int64(0))) == 0


def test_compacting_forgets_past_versions_and_keeps_the_answers(memory):
    """It trades the history for room."""
    memory.add([EAST, NORTH, WEST], ["a", "b", "c"])
    memory.remove([1])
    before = memory.search([EAST], k=3)

    memory.compact()

    after = memory.search([EAST], k=3)
    assert after.ids.tolist() == before.ids.tolist()
    assert after.similarity.tobytes() == before.similarity.tobytes()
    assert [info.version for info in memory.versions()] == [3]
    assert memory.stats()["key_bytes"] == memory.stats()["live_key_bytes"] == 16
    with pytest.raises(UnknownVersion):
        memory.at(2)


def test_opening_a_past_version_reads_only(tmp_path):
    """It takes no lock, so a writer may go on."""
    with make(tmp_path / "m") as memory:
        memory.remove([0])
        with Memory.open(tmp_path / "m", version=1) as past:
            assert past.ids.tolist() == [0, 1]
            assert past.read_only
        with pytest.raises(UnknownVersion):
            Memory.open(tmp_path / "m", version=7)


# -- opening and closing ---------------------------------------------------------------------------


def test_what_was_taught_is_there_after_reopening(tmp_path):
    """Durable by default."""
    make(tmp_path / "m").close()

    with Memory.open(tmp_path / "m") as memory:
        assert memory.search([NORTH], k=1).values.tolist() == [["dog"]]
        assert memory.version == 1


def test_a_closed_memory_says_so_whatever_it_is_asked(tmp_path):
    """Not an error of some file."""
    memory = make(tmp_path / "m")
    memory.close()
    memory.close()

    assert memory.closed
    assert "closed" in repr(memory)
    for call in (
        lambda: len(memory), lambda: memory.search([EAST]), lambda: memory.add([EAST], ["x"]),
        lambda: memory.ids, lambda: memory.labels, memory.rows, memory.versions,
        memory.stats, memory.verify, memory.compact, lambda: memory.erase([0]),
        lambda: memory.at(1), lambda: memory.thumbnail(0), lambda: memory.remove([]),
    ):  # fmt: skip
        with pytest.raises(Closed):
            call()


def test_a_with_block_closes_the_memory_even_after_an_error(tmp_path):
    """The lock must not outlive the block."""
    with pytest.raises(ZeroDivisionError), make(tmp_path / "m") as memory:
        1 / 0  # noqa: B018

    assert memory.closed
    Memory.open(tmp_path / "m").close()


def test_a_memory_that_was_dropped_lets_go_of_its_lock(tmp_path):
    """In a notebook nobody calls close()."""
    memory = make(tmp_path / "m")
    del memory

    Memory.open(tmp_path / "m").close()


def test_a_read_only_memory_refuses_every_write_and_answers(tmp_path):
    """Readers need no permission to write."""
    make(tmp_path / "m").close()

    with Memory.open(tmp_path / "m", read_only=True) as memory:
        assert memory.search([EAST], k=1).values.tolist() == [["cat"]]
        for write in (
            lambda: memory.add([EAST], ["x"]), lambda: memory.erase([0]), memory.compact,
            lambda: memory.restore(0), lambda: memory.remove([]),
        ):  # fmt: skip
            with pytest.raises(ReadOnly):
                write()


def test_a_path_without_a_memory_is_not_found(tmp_path):
    """Whether there is nothing, a file, or a folder of something else."""
    (tmp_path / "file").write_text("x")

    for name in ("nothing", "file", "."):
        with pytest.raises(MemoryNotFound) as caught:
            Memory.open(tmp_path / name)
        assert "Memory.create" in caught.value.remedy


def test_creating_where_something_is_changes_nothing_there(tmp_path):
    """Two memories never share a folder, and files of the user's are safe."""
    make(tmp_path / "m").close()
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("y")

    for name in ("m", "file", "other"):
        with pytest.raises(MemoryExists):
            Memory.create(tmp_path / name, dim=2)
    assert (tmp_path / "file").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "m", "other"]


def test_an_empty_folder_may_become_a_memory(tmp_path):
    """`mkdir` first is a habit."""
    (tmp_path / "m").mkdir()

    with Memory.create(tmp_path / "m", dim=2) as memory:
        assert len(memory) == 0


def test_a_memory_can_be_made_in_a_folder_whose_parents_do_not_exist(tmp_path):
    """And under a name that SQL, URLs or shells would read as something else."""
    place = tmp_path / "a" / "b?c#d%20'\"; é"

    make(place).close()

    with Memory.open(place) as memory:
        assert len(memory) == 2


@pytest.mark.parametrize("uri", [None, 3, "", "a\0b", b"bytes", "~nobody-of-this-name/m", "\ud800"])
def test_what_is_no_path_is_refused(uri, tmp_path, monkeypatch):
    """Nothing of it reaches the file system, or an error of Python's the user."""
    monkeypatch.chdir(tmp_path)
    for call in (lambda: Memory.create(uri, dim=2), lambda: Memory.open(uri)):
        with pytest.raises(InvalidParameter):
            call()
    assert list(tmp_path.iterdir()) == []


def test_the_current_folder_may_become_a_memory_if_it_is_empty(tmp_path, monkeypatch):
    """`Memory.create(".")` names it."""
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path / "m")

    with Memory.create(".", dim=2) as memory:
        memory.add([EAST], ["cat"])

    assert sorted(path.name for path in Path().iterdir()) == [
        "catalog.sqlite", "segments", "writer.lock",
    ]  # fmt: skip
    with Memory.open(tmp_path / "m") as memory:
        assert len(memory) == 1


def test_an_encoder_is_recorded_and_another_one_refused(tmp_path):
    """Keys of two encoders cannot be compared."""
    make(tmp_path / "m", encoder="pixels/8x8").close()

    Memory.open(tmp_path / "m", encoder="pixels/8x8").close()
    with pytest.raises(EncoderMismatch) as caught:
        Memory.open(tmp_path / "m", encoder="hog/9")
    assert (caught.value.expected, caught.value.got) == ("'pixels/8x8'", "'hog/9'")
    with Memory.open(tmp_path / "m") as memory:
        assert memory.encoder == "pixels/8x8"
        assert memory.encoder_spec is None


def test_a_memory_in_ram_cannot_be_opened(tmp_path):
    """There is nothing to open."""
    with pytest.raises(InvalidParameter):
        Memory.open(":memory:")


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 0}, {"dim": 2.5}, {"dim": "2"}, {"dim": True}, {"dim": 2**40},
        {"dim": 2, "metric": "angle"}, {"dim": 2, "value": "picture"}, {"dim": 2, "dtype": "int4"},
        {"dim": 2, "value": "vector"}, {"dim": 2, "value_dim": 3},
        {"dim": 2, "metric": "manhattan", "metric_weights": [1]},
        {"dim": 2, "metric": "manhattan", "metric_weights": [1, -1]},
        {"dim": 2, "metric": "manhattan", "metric_weights": ["a", "b"]},
        {"dim": 2, "metric": "manhattan", "metric_weights": [[1, 1]]},
        {"dim": 2, "metric": "cosine", "metric_weights": [1, 1]},
        {"dim": 2, "encoder": 7}, {"dim": 2, "timeout": -1}, {"dim": 2, "timeout": "1"},
        {"dim": 2, "timeout": float("nan")},
    ],
)  # fmt: skip
def test_an_option_out_of_range_makes_no_memory(options, tmp_path):
    """One error that names it, and nothing on the disk."""
    with pytest.raises(InvalidParameter) as caught:
        Memory.create(tmp_path / "m", **options)

    assert caught.value.expected
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_check_is_refused(tmp_path):
    """A misspelt word must not mean "do not check"."""
    make(tmp_path / "m").close()

    for check in ("yes", None, [], 2):
        with pytest.raises(InvalidParameter):
            Memory.open(tmp_path / "m", check=check)


def test_stats_are_plain_values(tmp_path):
    """They go into JSON as they are."""
    import json

    with make(tmp_path / "m", encoder="pixels") as memory:
        facts = json.loads(json.dumps(memory.stats()))

    assert facts["rows"] == 2
    assert facts["labels"] == 2
    assert facts["encoder"] == "pixels"
    assert facts["key_bytes"] == facts["live_key_bytes"] == 16
    assert facts["bytes_on_disk"] > 16
    assert facts["columns"] == {}


def test_a_memory_says_what_it_is(tmp_path):
    """In a debugger and a log."""
    with make(tmp_path / "m") as memory:
        assert repr(memory) == (
            f"<Memory {str(tmp_path / 'm')!r}: 2 rows, 2-d cosine keys -> labels, version 1>"
        )
        assert memory.uri == str(tmp_path / "m")
        assert (memory.metric, memory.value, memory.value_dim) == ("cosine", "label", None)


# -- places ----------------------------------------------------------------------------------------


def test_a_memory_stays_where_it_was_made_when_the_working_directory_changes(tmp_path, monkeypatch):
    """A relative path means the folder at the time of the call."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with make("m") as memory:
        monkeypatch.chdir(tmp_path / "elsewhere")
        memory.add([WEST], ["owl"])

        assert memory.search([WEST], k=1).values.tolist() == [["owl"]]
        assert memory.verify().ok


@pytest.mark.parametrize(
    "uri", ["s3://bucket/m", "file:///tmp/m", " m", "m ", "", "a\0b", "/", 5, None]
)
def test_what_is_no_folder_of_this_machine_is_no_place(uri, tmp_path, monkeypatch):
    """Nobody wants to find a folder named `s3:`."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidParameter, match="no place for a memory"):
        Memory.create(uri, dim=2)
    assert not any(tmp_path.iterdir())


def test_the_arguments_of_the_public_calls_may_be_given_by_position(tmp_path):
    """In the order in which the documentation names them."""
    with make(tmp_path / "m") as memory:
        memory.add([WEST], ["owl"], [7], [2.0], ["w.png"])
        memory.update([7], ["hawk"])

        near = memory.search([WEST, EAST], 1, "weight > 1")
        assert near.ids.tolist() == [[7], [7]]
        assert memory.remove(None, "label = 'hawk'").tolist() == [7]
    with Memory.open(tmp_path / "m", None, True) as reader:
        assert reader.read_only


@pytest.mark.parametrize("values", [{"a", "b"}, frozenset({"a", "b"}), {"a": 1, "b": 2}, None])
def test_values_come_in_an_order(values, memory):
    """A set would give each row some label."""
    with pytest.raises(InputError):
        memory.add([EAST, NORTH], values)
    assert len(memory) == 0


def test_a_source_is_text_or_a_path(memory):
    """A number is an id of something, and belongs into the metadata."""
    memory.add([EAST, NORTH], ["a", "b"], sources=[Path("a/1.png"), None])

    with pytest.raises(InputError, match="text or paths"):
        memory.add([EAST], ["a"], sources=[1])
    assert memory.rows().sources == ["a/1.png", None]
