"""Text that means something to SQL, HTML, shells or C: kept as it is, and found again."""

from __future__ import annotations

import pytest

from recollect import Memory
from recollect.errors import InvalidFilter

NASTY = [
    "",
    " ",
    "<script>alert('x')</script>",
    "'; DROP TABLE rows; --",
    '" OR 1=1 --',
    "%_%",
    "a\0b",
    "\0",
    "line\nbreak\r\n",
    "\x1b[31mred",
    "../../etc/passwd",
    "🦆👩‍👩‍👧‍👦",
    "\u202etxet desrever",
    "e\u0301 and \xe9",
    "\ufeffbom",
    "NULL",
    "true",
    "1",
    "nan",
    "x" * 1_000_000,
]
OTHERS = [*NASTY[:-1], "y" * 5000]
KEY = [1.0, 2.0]


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


@pytest.fixture
def folder(tmp_path):
    """A memory whose labels, sources and notes are all of the nasty texts."""
    with Memory.create(tmp_path / "memory", dim=2) as memory:
        memory.add([KEY] * len(NASTY), NASTY, sources=OTHERS, metadata={"note": OTHERS})
    return tmp_path / "memory"


def test_every_text_comes_back_as_it_was(folder):
    """As a label, a source and a note, after reopening."""
    with Memory.open(folder, check=True) as memory:
        rows = memory.rows()

        assert rows.values.tolist() == NASTY
        assert rows.sources == rows.metadata["note"] == OTHERS
        assert memory.labels.tolist() == sorted(NASTY)
        assert memory.search([KEY], k=len(NASTY)).values[0].tolist() == NASTY


@pytest.mark.parametrize("number", range(len(NASTY) - 1), ids=lambda number: repr(NASTY[number]))
@pytest.mark.parametrize("column", ["label", "source", "note"])
def test_every_text_is_found_by_a_filter_and_nothing_else_is(column, number, folder):
    """Quoted once, it is data wherever it stands."""
    with Memory.open(folder) as memory:
        where = f"{column} = {quoted(NASTY[number])}"

        assert memory.rows(where=where).ids.tolist() == [number]
        assert memory.search([KEY], k=3, where=where).ids[0].tolist() == [number, -1, -1]
        assert memory.remove(where=where).tolist() == [number]


@pytest.mark.parametrize("number", range(len(NASTY)), ids=lambda number: repr(NASTY[number][:30]))
def test_a_row_of_every_text_can_be_erased(number, folder):
    """And is gone from the disk, where it is long enough to be told from chance."""
    text = NASTY[number].encode()
    with Memory.open(folder) as memory:
        memory.erase([number])

        left = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert len(text) < 8 or text[:100] not in left
        assert memory.rows().values.tolist() == NASTY[:number] + NASTY[number + 1 :]
        assert memory.verify().ok


@pytest.mark.parametrize(
    "name",
    ["select", "rows", "m0", "it's", 'say "x"', "a b", "drop table rows", "🦆", "Größe", "--", ";",
     "in", "rowid", "state", "died", "born", "code", "a" * 100, "split, note", "%s", "?1", ":v"],
)  # fmt: skip
def test_a_column_may_have_any_printable_name(name, tmp_path):
    """It never reaches SQL; the place of a column has a name of the library's own."""
    column = '"' + name.replace('"', '""') + '"'
    with Memory.create(tmp_path / "m", dim=2) as memory:
        memory.add([KEY, KEY], ["a", "b"], metadata={name: [1, 2]})
        memory.update([0], metadata={name: 3})
    with Memory.open(tmp_path / "m", check=True) as memory:
        assert memory.rows().metadata == {name: [3, 2]}
        assert memory.search([KEY], k=2, where=f"{column} > 2").ids.tolist() == [[0, -1]]
        assert memory.erase(where=f"{column} = 2").ids == (1,)


@pytest.mark.parametrize(
    "where",
    [
        "1=1", "true", "id = 0; DROP TABLE rows", "id = 0 -- x", "id = 0 /* x */",
        "id in (SELECT 0)", "id = (SELECT 1)", "label = 'a' UNION SELECT 1", "rowid = 0",
        "died is null", "m0 = 'x'", 'label = "a"', "label = 'a", "label = 'a''", "label = x'41'",
        "id = 0 or 1", "abs(id) = 0", "id = ?", "id = :v", "label like 'a' escape 'ab'",
        "id between 1", "id", "", " ", "\0", "id = 0\0", "id = 99999999999999999999",
        "label = '\ud800'", "(" * 500 + "id = 0" + ")" * 500, "not " * 100_000 + "id = 0",
        "id = 1" + "0" * 10_000, "label = 0", "id = 'x'", "id is 0", "source glob '*'",
        "source match 'x'", "source regexp 'x'", f"label like '{'%a' * 40_000}'",
        f"label like '{'🦆' * 20_000}'", "label like 'a\0'", "id = 1e400", "id = 0x10",
        "id ISNULL", "[id] = 0", "`id` = 0", "rows.id = 0", "id = id",
    ],
)  # fmt: skip
def test_a_filter_that_is_more_than_a_filter_is_refused(where, tmp_path):
    """By the library's own parser; SQLite never sees it, and no row is touched."""
    with Memory.create(tmp_path / "m", dim=2) as memory:
        memory.add([KEY], ["a"])
        for call in (
            lambda: memory.search([KEY], where=where), lambda: memory.rows(where=where),
            lambda: memory.remove(where=where), lambda: memory.erase(where=where),
        ):  # fmt: skip
            with pytest.raises(InvalidFilter) as caught:
                call()
            assert caught.value.remedy
            assert len(str(caught.value)) < 600
        assert memory.version == 1


def test_a_pattern_made_to_take_for_ever_is_answered_in_time(tmp_path):
    """Where matching tries every way, fifty wildcards would outlast the universe."""
    with Memory.create(tmp_path / "m", dim=2) as memory:
        memory.add([KEY], ["a" * 2000])

        assert memory.rows(where=f"label like '{'%a' * 50}%b'").ids.tolist() == []


@pytest.mark.parametrize("where", [0, b"id = 0", ["id = 0"], {"id": 0}, True])
def test_a_filter_that_is_no_text_is_refused(where, tmp_path):
    """Other libraries take other things."""
    with Memory.create(tmp_path / "m", dim=2) as memory:
        memory.add([KEY], ["a"])
        with pytest.raises(InvalidFilter):
            memory.search([KEY], where=where)
