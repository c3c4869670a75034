"""The search that proves an erasure: whatever `bytes.find` finds, it finds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.memory.bytescan import BLOCK, FEW, Needle, scan

# Few different bytes, so that needles overlap, repeat and begin alike.
texts = st.lists(st.sampled_from(b"ab\0"), min_size=4, max_size=9).map(bytes)


def needle(content, only=""):
    return Needle(content, "text", 0, only)


def all_places(content, wanted):
    return [
        place for place in range(len(content)) if content[place : place + len(wanted)] == wanted
    ]


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    st.lists(texts, min_size=1, max_size=3 * FEW, unique=True),
    st.lists(st.one_of(texts, st.binary(max_size=5)), max_size=12).map(b"".join),
)
def test_every_occurrence_of_every_string_is_found(tmp_path_factory, wanted, content):
    """One by one or together, the answer is that of looking at every place."""
    folder = tmp_path_factory.mktemp("scanned")
    (folder / "file").write_bytes(content)

    found = sorted(
        (hit.needle.content, hit.offset) for hit in scan(folder, list(map(needle, wanted)))
    )

    assert found == sorted((text, at) for text in wanted for at in all_places(content, text))


def test_a_string_across_two_blocks_is_found(tmp_path):
    """A large file is read in pieces."""
    content = bytearray(BLOCK + 100)
    many = [bytes([65 + number]) * 3 + b"needle" for number in range(2 * FEW)]
    places = [BLOCK - 5, BLOCK - 1, BLOCK, 0, BLOCK + 100 - 9]
    for text, place in zip(many, places, strict=False):
        content[place : place + 9] = text
    (tmp_path / "large").write_bytes(content)
    expected = {(text, place) for text, place in zip(many, places, strict=False)}
    # The second of these was written over by the third.
    expected -= {(many[0], places[0]), (many[1], places[1])}

    found = {(hit.needle.content, hit.offset) for hit in scan(tmp_path, list(map(needle, many)))}

    assert found == expected


def test_files_in_folders_below_are_searched_too_and_named_by_their_path(tmp_path):
    """A cache may lie anywhere."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"xx needle")
    (tmp_path / "empty").write_bytes(b"")

    hits = list(scan(tmp_path, [needle(b"needle")]))

    assert [(hit.file, hit.offset) for hit in hits] == [("a/b/c", 3)]


def test_a_string_may_be_searched_for_in_some_files_only(tmp_path):
    """Short text turns up in floating-point numbers by chance."""
    (tmp_path / "catalog").write_bytes(b"needle")
    (tmp_path / "keys").write_bytes(b"needle")

    hits = list(scan(tmp_path, [needle(b"needle", "catalog")]))

    assert [hit.file for hit in hits] == ["catalog"]
