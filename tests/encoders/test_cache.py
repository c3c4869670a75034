"""The cache keeps keys by content, survives anything, and costs no one a file."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from recollect.encoders import EncodingCache
from recollect.errors import Closed, InvalidParameter

ONE, TWO = b"\1" * 32, b"\2" * 32
KEY = np.array([1.5, -2.0], np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "encodings.sqlite"


def test_a_key_comes_back_bit_for_bit(path):
    """Also after the cache was closed and opened again."""
    odd = np.array([np.pi, -0.0, np.finfo(np.float32).tiny], np.float32)
    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: odd})

    with EncodingCache(path) as cache:
        found = cache.get("pixels:1", [ONE, TWO])

    assert list(found) == [ONE]
    assert found[ONE].dtype == np.float32
    assert found[ONE].tobytes() == odd.tobytes()


def test_keys_of_another_encoder_are_not_found(path):
    """The same picture has another key there."""
    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: KEY})

        assert cache.get("pixels:2", [ONE]) == {}


def test_many_digests_are_looked_up_at_once(path):
    """More than SQLite takes in one statement."""
    digests = [number.to_bytes(32, "little") for number in range(1_200)]
    with EncodingCache(path) as cache:
        cache.put("pixels:1", dict.fromkeys(digests, KEY))

        assert cache.get("pixels:1", digests).keys() == set(digests)
        assert len(cache) == 1_200


def test_what_was_forgotten_leaves_no_bytes(path):
    """A picture's key can be as personal as the picture."""
    personal = np.arange(64, dtype=np.float32) + 0.123
    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: personal, TWO: KEY})
        cache.put("pixels:2", {ONE: personal})
        cache.forget([ONE])

        assert cache.get("pixels:1", [ONE, TWO]).keys() == {TWO}

    content = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert personal.tobytes()[:32] not in content
    assert ONE not in content
    assert TWO in content


def test_clear_leaves_no_bytes(path):
    """The file stays, empty."""
    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: KEY})
        cache.clear()

        assert len(cache) == 0

    assert ONE not in path.read_bytes()


def test_a_flipped_bit_makes_a_key_absent(path):
    """A wrong key would be a wrong answer; a missing one is only work."""
    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: KEY, TWO: KEY})
    content = bytearray(path.read_bytes())
    content[content.find(KEY.tobytes())] ^= 1
    path.write_bytes(content)

    with EncodingCache(path) as cache:
        assert len(cache.get("pixels:1", [ONE, TWO])) == 1


@pytest.mark.parametrize("content", [b"garbage", b"\xff" * 8_192, b"\0" * 99])
def test_a_file_of_garbage_is_replaced(path, content):
    """It is only a cache: nobody should have to hear of it."""
    path.write_bytes(content)

    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: KEY})

        assert cache.get("pixels:1", [ONE])[ONE].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_replaced_or_read_as_far_as_it_holds(path, part):
    """A full disk and a crash leave such files."""
    with EncodingCache(path) as cache:
        cache.put("p", {number.to_bytes(32, "big"): np.ones(99) for number in range(400)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])

    with EncodingCache(path) as cache:
        cache.put("p", {ONE: KEY})
        found = cache.get("p", [ONE])

    assert found[ONE].tolist() == [1.5, -2.0]


def test_damage_in_mid_use_is_survived(path):
    """Another program may trample on the file at any time."""
    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: KEY})
        path.write_bytes(b"trampled" * 1_000)
        cache.put("pixels:1", {TWO: KEY})
        cache.put("pixels:1", {TWO: KEY})

        assert cache.get("pixels:1", [TWO])[TWO].tolist() == [1.5, -2.0]


def test_a_file_deleted_in_mid_use_is_survived(path):
    """The memory deletes its whole cache when rows are erased."""
    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: KEY})
        path.unlink()
        cache.put("pixels:1", {TWO: KEY})
        cache.put("pixels:1", {TWO: KEY})

        assert cache.get("pixels:1", [TWO])[TWO].tolist() == [1.5, -2.0]


def test_someone_elses_database_is_not_touched(path):
    """A mistyped path must not cost anyone a file."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(InvalidParameter, match="a file that is something else"):
        EncodingCache(path)

    assert path.read_bytes() == before


def test_a_file_of_another_name_is_not_touched(tmp_path):
    """The user's picture, given by mistake."""
    picture = tmp_path / "holiday.jpg"
    picture.write_bytes(b"\xff\xd8\xff and so on" * 100)
    before = picture.read_bytes()

    with pytest.raises(InvalidParameter, match="there cannot be an encoding cache at"):
        EncodingCache(picture)

    assert picture.read_bytes() == before


def test_a_place_that_does_not_exist_is_refused(tmp_path):
    """Said at once, not after an hour of encoding."""
    with pytest.raises(InvalidParameter, match="unable to open"):
        EncodingCache(tmp_path / "nowhere" / "encodings.sqlite")


def test_a_closed_cache_says_so(path):
    """Not an error of SQLite."""
    cache = EncodingCache(path)
    cache.close()

    with pytest.raises(Closed, match="is closed"):
        cache.get("pixels:1", [ONE])


def test_a_locked_file_costs_keys_and_no_error(path, monkeypatch):
    """Somebody may look into it with another tool for long."""
    monkeypatch.setattr("recollect.encoders.cache._BUSY_SECONDS", 0.01)
    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: KEY})
        other = sqlite3.connect(path)
        other.execute("BEGIN EXCLUSIVE")
        cache.put("pixels:1", {TWO: KEY})

        assert cache.get("pixels:1", [ONE]) == {}
        other.close()
        assert cache.get("pixels:1", [ONE, TWO]).keys() == {ONE}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_opens_the_file_anew(path):
    """SQLite forbids a connection to be carried across; servers fork."""
    with EncodingCache(path) as cache:
        cache.put("pixels:1", {ONE: KEY})
        child = multiprocessing.get_context("fork").Process(
            target=cache.put, args=("pixels:1", {TWO: KEY})
        )
        child.start()
        child.join()

        assert cache.get("pixels:1", [ONE, TWO]).keys() == {ONE, TWO}


WRITER = """
import sys
import numpy as np
from recollect.encoders import EncodingCache

for number in range(40):
    with EncodingCache(sys.argv[1]) as cache:
        digest = f"{sys.argv[2]}-{number}".encode()
        cache.put("pixels:1", {digest: np.full(8, number, np.float32)})
"""


def test_processes_share_one_cache(path):
    """Two notebooks encode the same folder."""
    names = ["a", "b", "c"]

    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name],
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        for name in names
    ]
    codes = [writer.wait() for writer in writers]

    assert codes == [0, 0, 0]
    with EncodingCache(path) as cache:
        assert len(cache) == 120
        assert cache.get("pixels:1", [b"b-7"])[b"b-7"].tolist() == [7.0] * 8
