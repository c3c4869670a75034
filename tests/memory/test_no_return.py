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


def test_minus_zero_is_zero(tmp_path):
    """The two are equal in every comparison, so a key with one is the key with the other."""
    for dtype in ("float32", "float16"):
        memory = Memory.create(tmp_path / dtype, dim=3, dtype=dtype)
        memory.add([[1, 0.0, 2], [3, -0.0, 4]], "wombat")
        memory.erase([0, 1], no_return=True)

        for key, row in (([1, -0.0, 2], 0), ([3, 0.0, 4], 1), ([3, -0.0, 4], 1)):
            with pytest.raises(ErasedBefore, match=f"the key of row {row}"):
                memory.add([key], "wombat")


def test_an_update_cannot_bring_a_text_back(memory):
    """Before, a row could be given the text of the erased one."""
    memory.add(KEYS[:1] * 3, "cat", metadata={"text": ["a cat"]})
    version = memory.version

    with pytest.raises(ErasedBefore, match=r"what row 1 would hold .* the text of row 2") as caught:
        memory.update([0, 1], metadata={"text": ["a dog", "a wombat asleep"]})

    assert "Memory.allow_return([2])" in caught.value.__notes__[0]
    assert memory.version == version
    memory.allow_return([2])
    memory.update([1], metadata={"text": ["a wombat asleep"]})


def test_new_keys_cannot_be_those_of_an_erased_row(memory):
    """Not even with -0.0 where it had 0.0."""
    with pytest.raises(ErasedBefore, match=r"what row 1 would hold .* the key of row 2"):
        memory.rekey([[1, 2, 3], [-0.0, 0.75, 1]], "another encoder")
    with pytest.raises(ErasedBefore, match=r"what row 0 would hold .* the text of row 2"):
        memory.rekey(np.eye(3)[:2], None, metadata={"text": ["a wombat asleep", None]})

    assert memory.encoder is None
    memory.allow_return([2])
    memory.rekey([[1, 2, 3], [-0.0, 0.75, 1]], "another encoder")


def test_all_rows_cannot_be_replaced_by_one_that_was_erased(memory):
    """The same as adding it to an empty memory."""
    with pytest.raises(ErasedBefore, match="row 0 of this batch"):
        memory.replace(KEYS[2:], "wombat")

    assert len(memory) == 2


def test_every_text_that_a_row_ever_had_is_listed(tmp_path):
    """Before, only the last one was; an import brings back the first."""
    memory = Memory.create(tmp_path / "memory", dim=1)
    memory.add([[1]], "wombat", metadata={"text": ["a wombat"]}, sources=["first"])
    memory.update([0], metadata={"text": ["a wombat, corrected"]})
    memory.erase([0], no_return=True)

    for text in ("a wombat", "a wombat, corrected"):
        with pytest.raises(ErasedBefore, match="the text of row 0"):
            memory.add([[2]], "wombat", metadata={"text": [text]})


@pytest.fixture
def twins(tmp_path):
    """Rows 0 and 1 hold the same; 0 is erased."""
    with Memory.create(tmp_path / "memory", dim=2) as memory:
        memory.add([[1, 2], [1, 2], [3, 4]], "wombat", metadata={"text": ["a wombat"] * 2 + [""]})
        memory.erase([0], no_return=True)
        yield memory


def test_a_twin_that_is_there_stays_and_can_be_changed(twins):
    """It was not erased; what it holds does not come back, it never went."""
    twins.update([1], metadata={"text": ["a wombat"], "seen": [True]})
    twins.rekey([[1, 2], [5, 6]], "another encoder")

    assert twins.ids.tolist() == [1, 2]


def test_a_twin_that_was_removed_is_not_restored(twins):
    """It would bring the erased content back by another way."""
    twins.remove([1])

    with pytest.raises(ErasedBefore, match=r"row 1 of that version .* the key of row 0"):
        twins.restore(2)

    assert twins.ids.tolist() == [2]
    twins.allow_return([0])
    twins.restore(2)
    assert twins.ids.tolist() == [1, 2]


def test_a_text_that_a_twin_gave_up_is_not_restored(twins):
    """The row is there, the text is not."""
    twins.update([1], metadata={"text": ["something else"]})

    with pytest.raises(ErasedBefore, match=r"row 1 of that version .* the text of row 0"):
        twins.restore(2)

    assert twins.rows([1]).metadata["text"] == ["something else"]


def test_new_keys_can_be_undone_beside_a_twin(twins):
    """Its old key is of the same thing that it holds now."""
    version = twins.rekey([[7, 8], [5, 6]], "another encoder")

    twins.restore(version - 1)

    assert twins.keys([1]).tolist() == [[1, 2]]


def test_a_link_to_the_file_of_an_erased_row_is_refused(tmp_path):
    """An encoder would read the same bytes; before, a link passed for a stranger."""
    picture, link = tmp_path / "p.png", tmp_path / "l.png"
    picture.write_bytes(b"x" * 500)
    link.symlink_to(picture)
    memory = Memory.create(":memory:", dim=2)
    memory.add([[1, 0], [0, 1]], ["a", "b"], sources=[str(picture), None])
    memory.erase([0], no_return=True)

    with pytest.raises(ErasedBefore, match="the file of row 0"):
        memory.add([[1, 1]], ["a"], sources=[str(link)])
