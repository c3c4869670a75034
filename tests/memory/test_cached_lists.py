"""Lists in the cache: they save a training, and can neither bring a row back nor change one."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from recollect import Approximate, Memory
from recollect.memory import cached_lists

POLICY = Approximate(recall=0.95, least=500, lists=32, sample=100, background=False)


@pytest.fixture(scope="module")
def keys():
    rng = np.random.default_rng(5)
    centers = rng.standard_normal((50, 16))
    return (centers[rng.integers(0, 50, 2000)] + 0.4 * rng.standard_normal((2000, 16))).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory, keys):
    place = tmp_path_factory.mktemp("lists") / "m"
    with Memory.create(place, dim=16, search=POLICY) as memory:
        memory.add(keys, (np.arange(2000) % 7).tolist())
        memory.prepare()
    return place


@pytest.fixture
def place(made, tmp_path):
    return shutil.copytree(made, tmp_path / "m")


def loaded(memory):
    """The lists that were read from the cache, or None."""
    index = memory._current().index
    assert index.keeper is memory._searching._keeper
    return memory._searching._saved


def test_a_writer_leaves_lists_behind_for_the_next_to_open(place, keys):
    """A training takes a minute for a million rows, reading it a fraction of a second."""
    with Memory.open(place, read_only=True, search=POLICY) as reader:
        assert loaded(reader) is not None
        assert reader.stats()["search"]["engine"] == "lists"
        cached = reader.search(keys[:200], 10)
    shutil.rmtree(place / "cache")
    with Memory.open(place, read_only=True, search=POLICY) as reader:
        assert loaded(reader) is None
        reader.prepare()
        trained = reader.search(keys[:200], 10)

    assert np.array_equal(cached.ids, trained.ids)
    assert np.array_equal(cached.similarity, trained.similarity)


def test_the_first_answer_from_cached_lists_reads_few_keys(place, keys):
    """Each candidate is compared with its checksum, the keys of all rows are not."""
    with Memory.open(place, read_only=True, search=POLICY, check=False) as reader:
        reader.search(keys[:1], 5)
        compared = np.count_nonzero(reader._view.table.vouched)

    assert 5 < compared < 200


def test_rows_that_came_and_went_since_are_followed(place, keys):
    """Lists of an earlier version need only what differs."""
    with Memory.open(place) as memory:
        memory.remove([3])
        memory.add(-keys[:1], [99], ids=[5000])

    with Memory.open(place, read_only=True, search=POLICY) as reader:
        lists = loaded(reader)
        assert 3 not in reader.search(keys[3:4], 50).ids
        assert reader.search(-keys[:1], 1).ids.tolist() == [[5000]]
        assert np.array_equal(lists.ids, [*range(3), *range(4, 2000), 5000])


def test_erasing_deletes_the_lists_and_closing_writes_them_without_the_row(place, keys):
    """The codes of a row say what its key was."""
    with Memory.open(place, search=POLICY) as memory:
        memory.prepare()
        memory.erase([3])
        assert not (place / "cache").exists()

    with Memory.open(place, read_only=True, search=POLICY) as reader:
        assert 3 not in loaded(reader).ids
        assert reader.search(keys[3:4], 1).ids.tolist() != [[3]]


def test_lists_are_written_anew_only_when_much_has_changed(place, keys):
    """They are a quarter as large as the keys."""
    path = place / "cache" / "lists"
    before = path.stat().st_mtime_ns
    with Memory.open(place, search=POLICY) as memory:
        memory.prepare()
        memory.remove([3])
    small = path.stat().st_mtime_ns
    with Memory.open(place, search=POLICY) as memory:
        memory.add(keys[:200] + 1, [1] * 200)
        memory.prepare()

    assert small == before
    assert path.stat().st_mtime_ns != before


def test_lists_of_other_keys_are_not_used(place, keys):
    """A new encoder gives every id another key."""
    with Memory.open(place) as memory:
        memory.rekey(-keys, "another encoder")

    with Memory.open(place, read_only=True, search=POLICY) as reader:
        assert loaded(reader) is None


def test_lists_of_another_storage_are_not_used(place):
    """Eight bits were asked for to save memory, whole keys for speed."""
    flat = Approximate(recall=0.95, storage="flat", least=500, lists=32, background=False)

    with Memory.open(place, read_only=True, search=flat) as reader:
        assert loaded(reader) is None


def test_another_recall_uses_the_lists_and_is_measured_anew(place):
    """Centers do not depend on it; how deep to search does."""
    policy = Approximate(recall=0.8, least=500, lists=32, sample=100, background=False)
    with Memory.open(place, read_only=True, search=policy) as reader:
        status = reader.prepare()
        assert loaded(reader) is not None

    assert status["wanted_recall"] == 0.8
    assert status["measured_recall"] >= 0.8
    assert status["measured_at_rows"] == 2000


@pytest.mark.parametrize("where", [0, 3000, 20_000, -1])
def test_damaged_lists_are_not_used(place, keys, where):
    """In centers, codes, ids or at the end: they are trained anew."""
    path = place / "cache" / "lists"
    content = bytearray(path.read_bytes())
    content[where] ^= 0x10
    path.write_bytes(content)

    with Memory.open(place, read_only=True, search=POLICY) as reader:
        assert loaded(reader) is None
        assert reader.search(keys[:1], 1).ids.tolist() == [[0]]


def test_lists_that_are_cut_short_are_not_used(place):
    """Whatever a power cut left of them."""
    path = place / "cache" / "lists"
    path.write_bytes(path.read_bytes()[:-1])

    with Memory.open(place, read_only=True, search=POLICY) as reader:
        assert loaded(reader) is None


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 1 << 40},
        {"lists": 0},
        {"lists": -1},
        {"dim": 8},
        {"width": 1},
        {"metric": "dot"},
        {"storage": "flat"},
        {"recall": "high"},
        {"sum": 1.5},
        {"version": 9},
        {"encoding": 3},
        {"neighbors": True},
    ],
)
def test_a_forged_header_is_not_believed(place, change):
    """Its own sum is right, for anyone can compute it."""
    path = place / "cache" / "lists.json"
    header = json.loads(json.loads(path.read_text())[1]) | change
    raw = json.dumps(header)
    path.write_text(json.dumps([cached_lists.crc32(raw.encode()), raw]))

    with Memory.open(place, read_only=True, search=POLICY) as reader:
        assert loaded(reader) is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b'[1, "{}"]', b"[" * 5000, b"\xff", b'{"a": 1}'])
def test_any_bytes_for_a_header_are_refused(place, raw):
    """In one of the ways that the reader expects."""
    (place / "cache" / "lists.json").write_bytes(raw)

    with Memory.open(place, read_only=True, search=POLICY) as reader:
        assert loaded(reader) is None


def test_lists_that_name_a_row_twice_are_not_used(place):
    """It would stand in an answer twice."""
    with Memory.open(place, search=POLICY) as memory:
        trained = loaded(memory)
        trained.odd.add(5)  # it is in a list, too
        cached_lists.save(memory._store, trained)
        memory._view = None

    with Memory.open(place, read_only=True, search=POLICY) as reader:
        assert loaded(reader) is None


def test_a_reader_writes_no_lists(place):
    """It holds no lock."""
    shutil.rmtree(place / "cache")

    with Memory.open(place, read_only=True, search=POLICY) as reader:
        reader.prepare()

    assert not (place / "cache").exists()


def test_an_exact_handle_leaves_the_lists_where_they_are(place):
    """It neither reads nor needs them."""
    with Memory.open(place) as memory:
        memory.remove([3])

    assert (place / "cache" / "lists").exists()
