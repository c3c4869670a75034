"""The rows in the cache: they save time, and nothing is ever believed because of them."""

from __future__ import annotations

import shutil
import sqlite3

import numpy as np
import pytest

from recollect import Memory
from recollect.errors import CorruptMemory
from recollect.memory import cached_rows
from recollect.memory.seals import BLOCK, WORDS, _factors, seal

ROWS = cached_rows.LEAST + 15_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A memory that is just large enough; 512 bytes a key, so that there are many blocks."""
    place = tmp_path_factory.mktemp("cached") / "m"
    angles = np.linspace(0.0, 3.0, ROWS)
    keys = np.repeat(np.stack([np.cos(angles), np.sin(angles)], axis=1), 8, axis=1)
    with Memory.create(place, dim=16) as memory:
        memory.add(keys, (np.arange(ROWS) % 5).tolist())
    return place


@pytest.fixture
def place(made, tmp_path):
    return shutil.copytree(made, tmp_path / "m")


def cache(place):
    return place / "cache" / cached_rows.NAME


def is_used(memory):
    return memory._current().kept is not None


def answers(memory):
    """Everything that depends on the rows."""
    queries = memory.rows(memory.ids[[4, 40_000]]).keys
    near = memory.search(queries, 4)
    return near.ids.tolist(), near.values.tolist(), memory.label_counts(), len(memory)


def forget_cache(place):
    shutil.rmtree(place / "cache")


def held_against_no_cache(place):
    """What is answered with the cache, and what without it."""
    with Memory.open(place, read_only=True, check=False) as memory:
        used, with_cache = is_used(memory), answers(memory)
    forget_cache(place)
    with Memory.open(place, read_only=True, check=False) as memory:
        assert not is_used(memory)
        return used, with_cache, answers(memory)


def test_a_writer_leaves_the_rows_behind_for_the_next_to_open(place):
    """A million rows are then opened in a tenth of the time."""
    used, with_cache, without = held_against_no_cache(place)

    assert used
    assert with_cache == without


def test_a_small_memory_keeps_no_cache(tmp_path):
    """Its rows are read as quickly from the catalog."""
    with Memory.create(tmp_path / "m", dim=2) as memory:
        memory.add(np.ones((100, 2)), ["a"] * 100)

    assert not (tmp_path / "m" / "cache").exists()


@pytest.mark.parametrize(
    ("write", "used"),
    [
        (lambda memory, keys: memory.add(keys, [9, 9]), True),
        (lambda memory, keys: memory.update([5, 6], values=[11, 12]), True),
        (lambda memory, keys: memory.remove([5000]), True),
        (lambda memory, keys: memory.restore(1), True),
        (lambda memory, keys: memory.replace(np.resize(keys, (ROWS, 16)), [3] * ROWS), True),
        (lambda memory, keys: memory.rekey(memory.rows().keys[:, :4], "another"), False),
    ],
    ids=["add", "update", "remove", "restore", "replace", "rekey"],
)
def test_a_cache_serves_after_every_kind_of_write(place, write, used):
    """Only what was born or has ended since is read from the catalog."""
    with Memory.open(place, check=False) as memory:
        keys = memory.rows([0, 1]).keys
        memory.remove([7, 8])
        write(memory, keys)
        memory._view = None  # closed by a kill: no cache is written

    was_used, with_cache, without = held_against_no_cache(place)

    assert was_used == used
    assert with_cache == without


def test_a_reader_writes_no_cache(place):
    """It may not have the right to, and it holds no lock."""
    forget_cache(place)

    with Memory.open(place, read_only=True, check=False) as memory:
        memory.search(np.ones((1, 16)), 1)

    assert not (place / "cache").exists()


def test_a_cache_is_written_anew_only_when_much_has_changed(place):
    """Closing after one correction must not cost what closing after a million rows does."""
    before = cache(place).stat()

    with Memory.open(place, check=False) as memory:
        memory.remove([1])
    small = cache(place).stat()
    with Memory.open(place, check=False) as memory:
        memory.add(memory.rows(np.arange(2, 4002)).keys, [1] * 4000)

    assert small.st_mtime_ns == before.st_mtime_ns
    assert cache(place).stat().st_mtime_ns != before.st_mtime_ns


def test_erasing_deletes_the_cache_and_writes_it_without_the_row(place):
    """It holds what the catalog says of the row, and seals of its bytes."""
    with Memory.open(place, check=False) as memory:
        receipt = memory.erase([5])
        assert not (place / "cache").exists()
        assert all("cache" not in name for name, _ in receipt.scanned)

    assert 5 not in cached_rows.parse(np.fromfile(cache(place), np.uint8)).states["id"]


def test_compacting_deletes_the_cache(place):
    """Rows lie elsewhere afterwards."""
    with Memory.open(place, check=False) as memory:
        memory.compact()
        assert not (place / "cache").exists()

    used, with_cache, without = held_against_no_cache(place)
    assert used
    assert with_cache == without


def test_a_cache_of_another_history_is_not_used(place, tmp_path):
    """A folder that was brought back from a backup may lie under a cache of later rows."""
    other = shutil.copytree(place, tmp_path / "other")
    with Memory.open(other, check=False) as memory:
        memory.remove(np.arange(10_000))
    with Memory.open(place, check=False) as memory:
        memory.update([5], values=[11])
        memory._view = None
    shutil.copy(cache(other), cache(place))

    used, with_cache, without = held_against_no_cache(place)

    assert not used
    assert with_cache == without


@pytest.mark.parametrize("where", [0, 10, 60, 5000, 2_000_000, -3])
def test_a_damaged_cache_is_not_used(place, where):
    """In the magic, the sums, the header, the rows, the seals: answers come from the catalog."""
    content = bytearray(cache(place).read_bytes())
    content[where] ^= 0x10
    cache(place).write_bytes(content)

    used, with_cache, without = held_against_no_cache(place)

    assert not used
    assert with_cache == without


@pytest.mark.parametrize("size", [0, 7, 20, 4096, 1_000_000])
def test_a_cache_that_is_cut_short_is_not_used(place, size):
    """A power cut may leave any beginning of it."""
    cache(place).write_bytes(cache(place).read_bytes()[:size])

    used, with_cache, without = held_against_no_cache(place)

    assert not used
    assert with_cache == without


def test_a_cache_that_is_a_link_is_not_followed(place):
    """A folder that someone sent must not make us read another file."""
    cache(place).rename(place / "cache" / "elsewhere")
    cache(place).symlink_to("elsewhere")

    with Memory.open(place, read_only=True, check=False) as memory:
        assert not is_used(memory)


def test_a_forged_cache_is_judged_like_a_catalog(place):
    """Its sums are right, and it sends us behind the end of a segment."""
    kept = cached_rows.parse(np.fromfile(cache(place), np.uint8))
    with Memory.open(place, check=False) as memory:
        states = kept.states.copy()
        states["record"][3] = 1 << 40
        cached_rows.write(memory._store, states, {})
        memory._view = None

    with (
        Memory.open(place, read_only=True, check=False) as memory,
        pytest.raises(CorruptMemory, match="impossible of row 3"),
    ):
        memory.search(np.ones((1, 16)), 1)


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_for_a_cache_give_an_answer_all_the_same(place, seed):
    """Random changes of the header find what a reader forgot to judge."""
    rng = np.random.default_rng(seed)
    content = np.fromfile(cache(place), np.uint8)
    content[rng.integers(0, 500, 5)] = rng.integers(0, 256, 5)

    with pytest.raises((ValueError, KeyError, TypeError)):
        cached_rows.parse(content)


def test_a_key_that_was_damaged_under_its_seal_is_found_before_the_first_answer(place):
    """The seals say that something differs, the checksum of the key says where."""
    segment = next((place / "segments").iterdir())
    with segment.open("r+b") as file:
        file.seek(40_000 * 64)
        file.write(b"\x01\x02")

    with (
        Memory.open(place, read_only=True, check=False) as memory,
        pytest.raises(CorruptMemory, match="the key of row 40000 was altered"),
    ):
        memory.search(np.ones((1, 16)), 1)


def test_a_damaged_row_that_a_seal_does_not_show_is_found_when_an_answer_names_it(place):
    """Two words, changed by each other's factor, keep the sum; no answer holds the row."""
    segment = next((place / "segments").iterdir())
    content = bytearray(segment.read_bytes())
    before = seal(np.frombuffer(bytes(content), np.uint8))
    words = np.frombuffer(content, "<u8")[40_000 * 8 : 40_000 * 8 + 2]
    high = np.uint64(32)
    place_in_line = 40_000 * 8 % WORDS
    first, second = _factors(WORDS, 1)[place_in_line : place_in_line + 2]
    folded = (words ^ (words >> high)) + np.array([second, ~first + np.uint64(1)])
    words[:] = folded ^ (folded >> high)
    segment.write_bytes(content)
    with Memory.open(place, read_only=True, check=False) as memory:
        queries = np.frombuffer(content, "<f4").reshape(-1, 16)[40_000:40_001]

        assert np.array_equal(seal(np.frombuffer(bytes(content), np.uint8)), before)
        with pytest.raises(CorruptMemory, match="the key of row 40000 was altered"):
            memory.search(queries, 1)


def test_a_cache_is_not_written_over_a_damaged_key(place):
    """It would say that every key had been compared."""
    forget_cache(place)
    segment = next((place / "segments").iterdir())
    with segment.open("r+b") as file:
        file.seek(40_000 * 64)
        file.write(b"\x01\x02")

    with Memory.open(place, check=False) as memory:
        len(memory)

    assert not cache(place).exists()


def test_a_cache_that_contradicts_the_catalog_is_found_by_verify(place):
    """Nothing but `verify` reads both."""
    kept = cached_rows.parse(np.fromfile(cache(place), np.uint8))
    with Memory.open(place, check=False) as memory:
        states = kept.states.copy()
        states["code"][3] = 0 if states["code"][3] else 1
        cached_rows.write(memory._store, states, {})
        memory._view = None

    with Memory.open(place, read_only=True, check=False) as memory:
        assert memory.verify().problems == (
            (
                "the rows in the cache are not those of the catalog, first row 3: "
                "delete the folder 'cache'"
            ),
        )


def test_a_disk_that_is_full_keeps_no_one_from_closing(place):
    """The cache is nobody's trouble."""
    forget_cache(place)
    (place / "cache").write_text("a file where the folder should be")

    with Memory.open(place, check=False) as memory:
        len(memory)

    assert (place / "cache").is_file()


def test_the_catalog_knows_nothing_of_the_cache(place):
    """The format is the same with it and without it."""
    db = sqlite3.connect(place / "catalog.sqlite")
    tables = db.execute("SELECT COUNT(*) FROM sqlite_master WHERE sql LIKE '%cache%'").fetchone()
    db.close()

    assert tables == (0,)


# -- seals -----------------------------------------------------------------------------------------


def test_every_flipped_bit_breaks_the_seal_of_its_block_only():
    """An odd factor times a power of two is never zero modulo 2^64."""
    content = np.random.default_rng(0).integers(0, 256, 3 * BLOCK + 100, dtype=np.uint8)
    before = seal(content)

    for place in [0, BLOCK - 1, BLOCK, 2 * BLOCK + 77, 3 * BLOCK + 99]:
        for bit in range(8):
            content[place] ^= 1 << bit
            assert np.flatnonzero(seal(content) != before).tolist() == [place // BLOCK]
            content[place] ^= 1 << bit


@pytest.mark.parametrize("bit", [0x80, 0x40, 0x20, 0x01])
def test_the_same_bit_flipped_in_two_words_does_not_cancel_out(bit):
    """Of the highest bits a plain sum of words would forget every pair."""
    content = np.random.default_rng(0).integers(0, 256, BLOCK, dtype=np.uint8)
    before = seal(content)
    content[7] ^= bit

    for place in range(15, BLOCK, 8 * 61):
        content[place] ^= bit
        assert seal(content) != before
        content[place] ^= bit


def test_blocks_and_words_cannot_change_places():
    """A file system may bring back the wrong page."""
    content = np.random.default_rng(0).integers(0, 256, BLOCK, dtype=np.uint8)
    swapped = content.copy()
    swapped[:8], swapped[8:16] = content[8:16], content[:8]
    pages = content.reshape(-1, 4096)[::-1].reshape(-1)

    assert seal(swapped) != seal(content)
    assert seal(pages) != seal(content)


def test_zeros_at_the_end_count():
    """A file that was cut and filled up again is another file."""
    assert seal(np.zeros(10, np.uint8)) != seal(np.zeros(11, np.uint8))
    assert len(seal(np.zeros(0, np.uint8))) == 0


def test_a_seal_is_the_same_on_any_machine():
    """It is read by other processes than the one that wrote it; the number was computed once."""
    assert seal(np.arange(100, dtype=np.uint8)).tolist() == [SEAL_OF_0_TO_99]


def plain_seal(content):
    """By hand, in Python's whole numbers."""

    def factor(number, seed):
        x = ((number + (seed << 32)) * 0x9E3779B97F4A7C15) % 2**64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return (x ^ (x >> 31)) | 1

    def folded(raw):
        word = int.from_bytes(raw, "little")
        return word ^ (word >> 32)

    filled = content + bytes(BLOCK - len(content))
    lines = [filled[start : start + 2048] for start in range(0, BLOCK, 2048)]
    total = sum(
        factor(at + 1, 2)
        * sum(factor(w + 1, 1) * folded(line[8 * w : 8 * w + 8]) for w in range(256))
        for at, line in enumerate(lines)
    )
    return (total + len(content)) % 2**64


SEAL_OF_0_TO_99 = plain_seal(bytes(range(100)))
