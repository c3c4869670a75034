"""The list of what was erased and must not come back."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import Memory
from recollect.errors import ErasedBefore, UnknownIds

KEYS = np.array([[1, 0, 0.25], [0, 1, 0.5], [0, 0.75, 1]], np.float32)
PICTURE = b"the picture of a wombat"


@pytest.fixture
def memory(tmp_path):
    """Three rows, the last of which was erased for good."""
    with Memory.create(tmp_path / "memory", dim=3) as memory:
        memory.add(
            KEYS, ["cat", "dog", "wombat"], thumbnails=[None, None, PICTURE],
            metadata={"text": [None, None, "a wombat asleep"]},
        )  # fmt: skip
        memory.erase([2], no_return=True)
        yield memory


def test_a_row_with_the_key_of_an_erased_one_is_refused(memory):
    """The point of the list: the next import of the same folder must not bring it back."""
    with pytest.raises(ErasedBefore, match="the key of row 2") as caught:
        memory.add(KEYS[[0, 2]], ["cat", "wombat"])

    assert "row 1 of this batch" in str(caught.value)
    assert memory.ids.tolist() == [0, 1]


def test_a_thumbnail_or_a_text_of_an_erased_row_is_refused_under_another_key(memory):
    """Another encoder gives the same picture another key."""
    with pytest.raises(ErasedBefore, match="the thumbnail of row 2"):
        memory.add([[9, 9, 9]], "wombat", thumbnails=[PICTURE])
    with pytest.raises(ErasedBefore, match="the text of row 2"):
        memory.replace([[9, 9, 9]], "wombat", metadata={"text": ["a wombat asleep"]})


def test_the_file_of_an_erased_row_is_refused_wherever_it_lies(tmp_path):
    """A copy under another name is the same picture."""
    (tmp_path / "a.png").write_bytes(b"pixels of a wombat")
    (tmp_path / "copy.png").write_bytes(b"pixels of a wombat")
    (tmp_path / "other.png").write_bytes(b"pixels of a cat")
    memory = Memory.create(":memory:", dim=1)
    memory.add([[1], [2]], "wombat", sources=[str(tmp_path / "a.png"), "no such file"])
    memory.erase([0], no_return=True)

    memory.add([[3]], "cat", sources=[str(tmp_path / "other.png")])
    with pytest.raises(ErasedBefore, match="the file of row 0"):
        memory.add([[4]], "wombat", sources=[str(tmp_path / "copy.png")])


def test_an_erased_row_may_return_once_it_is_named(memory):
    """Consent can be given again, but never by accident."""
    assert memory.allow_return([2]).tolist() == [2]

    assert memory.add(KEYS[2:], ["wombat"]).tolist() == [3]
    assert memory.no_return() == []


def test_a_row_that_is_not_on_the_list_cannot_be_named(memory):
    """A wrong number must not look like a success."""
    with pytest.raises(UnknownIds, match="got 1"):
        memory.allow_return([1, 2])

    assert [row.id for row in memory.no_return()] == [2]


def test_the_list_tells_what_it_knows_a_row_by_and_when_it_was_erased(memory):
    """Ids and kinds, never content."""
    [banned] = memory.no_return()

    assert (banned.id, banned.version, banned.known_by) == (2, 2, ("key", "thumbnail", "text"))
    assert banned.time == memory.versions()[2].time


def test_erasing_keeps_no_digest_unless_asked(tmp_path):
    """A list of erased rows is itself something about them."""
    with Memory.create(tmp_path / "memory", dim=3) as memory:
        memory.add(KEYS, "cat")
        receipt = memory.erase([2])
        memory.add(KEYS[2:], "cat")

        assert receipt.banned == ()
        assert memory.no_return() == []


def test_the_receipt_names_what_was_put_on_the_list(memory):
    """Whoever holds the receipt knows that a digest remains."""
    assert memory.erase([1], no_return=True).banned == (1,)


def test_two_memories_give_one_row_different_digests(tmp_path):
    """Lists must not be joined: the digest is keyed with a secret of the memory."""
    digests = []
    for name in ("one", "two"):
        with Memory.create(tmp_path / name, dim=3) as memory:
            memory.add(KEYS, "cat")
            memory.erase([0], no_return=True)
            digests += memory._store.db.execute("SELECT digest FROM no_return").fetchall()

    assert len(set(digests)) == 2


def test_the_list_outlives_closing_compacting_and_new_keys(memory):
    """It is no part of any version, so nothing that gives up the past may lose it."""
    memory.compact()
    memory.rekey([[1, 2], [3, 4]], "another encoder")
    folder = memory.uri
    memory.close()

    with Memory.open(folder) as again:
        with pytest.raises(ErasedBefore):
            again.add([[5, 6]], "wombat", thumbnails=[PICTURE])
        assert again.no_return()[0].time is None


def test_a_key_is_known_in_every_encoding_it_was_seen_in(tmp_path):
    """A row that was given a new key can come back under the old one after an undo."""
    with Memory.create(tmp_path / "memory", dim=3) as memory:
        memory.add(KEYS, "cat")
        memory.rekey([[1, 2], [3, 4], [5, 6]], "another encoder")
        memory.erase([2], no_return=True)
        with pytest.raises(ErasedBefore):
            memory.add([[5, 6]], "cat")
        memory.restore(1)

        with pytest.raises(ErasedBefore):
            memory.add(KEYS[2:], "cat")


def test_find_names_the_rows_that_pass_a_filter(memory):
    """Ids alone, without reading keys."""
    assert memory.find("label = 'dog'").tolist() == [1]
