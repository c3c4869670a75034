"""The `where` language: what it accepts, what it refuses, and what SQLite makes of it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.errors import InvalidFilter
from recollect.memory.filters import MAX_CHARACTERS, MAX_VALUES, Column, compile_filter

COLUMNS = {
    "split": Column("t.split", "str"),
    "year": Column("t.year", "int"),
    "score": Column("t.score", "float"),
    "seen": Column("t.seen", "bool"),
    "the in": Column('t."the in"', "int"),
}
SELECT = "SELECT id FROM t WHERE"
ROWS = [
    (0, "train", 2019, 0.5, 1, 7),
    (1, "test", 2020, -1.5, 0, None),
    (2, None, None, None, None, None),
    (3, "TRAIN", 2021, 2.0, 1, -7),
    (4, "it's 100%", 0, 0.0, 0, 0),
]


@pytest.fixture(scope="module")
def matching():
    """Ids of the rows of a small real table that a filter selects."""
    table = sqlite3.connect(":memory:")
    table.execute('CREATE TABLE t (id, split TEXT, year INTEGER, score REAL, seen, "the in")')
    table.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", ROWS)

    def ids(where: str) -> list[int]:
        sql, parameters = compile_filter(where, COLUMNS)
        found = table.execute(f"{SELECT} ({sql}) ORDER BY id", parameters)
        return [row[0] for row in found]

    yield ids
    table.close()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("split = 'train'", [0]),
        ("split == 'train'", [0]),
        ("split != 'train'", [1, 3, 4]),
        ("split <> 'train'", [1, 3, 4]),
        ("split > 'test'", [0]),
        ("split = 'it''s 100%'", [4]),
        ("year < 2020", [0, 4]),
        ("year >= 2020", [1, 3]),
        ("year <= +2020", [0, 1, 4]),
        ("year > 2019.5", [1, 3]),
        ("score = 2", [3]),
        ("score > -1.5e0", [0, 3, 4]),
        ("score < .75", [0, 1, 4]),
        ("seen = true", [0, 3]),
        ("seen != TRUE", [1, 4]),
        ("seen in (true, false)", [0, 1, 3, 4]),
        ("year in (2019, 2021)", [0, 3]),
        ("year not in (2019, 2021)", [1, 4]),
        ("split in ('train', 'test')", [0, 1]),
        ("split like 'tr%'", [0, 3]),
        ("split not like 'tr%'", [1, 4]),
        ("split like '_est'", [1]),
        (r"split like '%\%' escape '\'", [4]),
        ("year is null", [2]),
        ("year IS NOT NULL", [0, 1, 3, 4]),
        ("year between 2019 and 2020", [0, 1]),
        ("year not between 2019 and 2020", [3, 4]),
        ("year between 2019 and 2020 and seen = true", [0]),
        ('"the in" = 7', [0]),
        ('"year" = 2019', [0]),
        ("not year = 2019", [1, 3, 4]),
        ("not not year = 2019", [0]),
        ("year = 2019 or year = 2020 and seen = true", [0]),
        ("(year = 2019 or year = 2020) and seen = false", [1]),
        ("not (year = 2019 or split is null)", [1, 3, 4]),
        ("((((year = 2019))))", [0]),
        ("\n\tyear\n=\n2019 ", [0]),
    ],
)
def test_a_filter_selects_the_rows_it_describes(matching, where, expected):
    """Every form of the grammar, against a real table; row 2 is missing everything."""
    assert matching(where) == expected


def test_the_compiled_text_holds_parameters_instead_of_values():
    """What a user writes may not become SQL, whatever it looks like."""
    sql, parameters = compile_filter("split = '''; DROP TABLE t; --' or year = 1", COLUMNS)

    assert sql == "t.split = ? OR t.year = ?"
    assert parameters == ["'; DROP TABLE t; --", 1]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "`where` is empty"),
        ("   ", "`where` is empty"),
        ("colour = 1", "unknown column 'colour'"),
        ("year = '2020'", "column 'year' cannot be compared.*expected an integer, got text '2020'"),
        ("year = true", "expected an integer, got the truth value true"),
        ("split = 5", "expected text, got the integer 5"),
        ("split in ('a', 5)", "expected text, got the integer 5"),
        ("score between 1 and 'b'", "expected a number, got text 'b'"),
        ("seen = 1", "expected true or false, got the integer 1"),
        ("seen < true", "`<` cannot order"),
        ("seen between true and false", "`between` cannot order"),
        ("year like '2%'", "`like` works on text"),
        ("split like 5", "expected text"),
        ("split like 'a' escape 'bc'", "`escape` needs one character"),
        ("split like 'a\0'", "NUL"),
        ("year = null", "expected a value, got `null`"),
        ("year in ()", "expected a value, got `\\)`"),
        ("year in (1, null)", "expected a value, got `null`"),
        ("year is 5", "expected `null`, got `5`"),
        ("year", "expected a comparison of column 'year', got the end"),
        ("year = ", "expected a value, got the end"),
        ("year = split", "expected a value, got `split`"),
        ("5 = year", "expected the name of a column, got `5`"),
        ("in = 5", "expected the name of a column, got `in`"),
        ("year = 1 year = 2", "expected `and`, `or` or the end, got `year`"),
        ("(year = 1", "expected `\\)`, got the end"),
        ("year = 1)", "expected `and`, `or` or the end"),
        ("year = 12abc", "at character 8"),
        ("year = 1.2.3", "at character 8"),
        ("year = 1; drop table t", "at character 9"),
        ("split = 'open", "never closed, at character 9"),
        ('"year = 1', "never closed, at character 1"),
        ("year = 9223372036854775808", "out of range"),
        ("score = 1e999", "out of range"),
        ("score = " + "9" * 5000, "out of range"),
        ("split = '\ud800'", "half a surrogate pair at character 10"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused_with_its_place(where, message):
    """A filter decides what is erased: a guess would be worse than a refusal."""
    with pytest.raises(InvalidFilter, match=message) as caught:
        compile_filter(where, COLUMNS)

    assert caught.value.remedy


def test_a_filter_that_is_not_text_is_refused():
    """Passing a dict or None by mistake must not surface as an AttributeError."""
    with pytest.raises(InvalidFilter, match="expected str, got NoneType"):
        compile_filter(None, COLUMNS)


def test_a_misspelt_column_is_answered_with_the_nearest_name():
    """The commonest mistake deserves the right hint."""
    with pytest.raises(InvalidFilter) as caught:
        compile_filter("Split = 'train'", COLUMNS)

    assert "Did you mean 'split'?" in caught.value.remedy
    assert "score, seen, split, the in, year" in str(caught.value)


def test_text_without_quotes_is_answered_with_quotes():
    """The second commonest mistake."""
    with pytest.raises(InvalidFilter) as caught:
        compile_filter("split = train", COLUMNS)

    assert "'train'" in caught.value.remedy


def test_integers_at_both_ends_of_64_bits_are_exact(matching):
    """Ids are 64-bit integers; a detour over floats would match other rows."""
    lowest, highest = compile_filter(
        "year = -9223372036854775808 or year = 9223372036854775807", COLUMNS
    )[1]

    assert (lowest, highest) == (-(2**63), 2**63 - 1)
    assert matching("year > -9223372036854775808") == [0, 1, 3, 4]


def test_needless_parentheses_are_read_and_left_out():
    """Programs that write filters are generous with them; SQLite's parser holds only so many."""
    sql, _ = compile_filter("(" * 20 + "year = 2019" + ")" * 20, COLUMNS)

    assert sql == "t.year = ?"


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("not (" * 20, ")" * 20),
        ("(seen = true and (year = 0 or " * 10, "))" * 10),
        ("seen = true and not (split = 'x' or not (" * 8, "))" * 8),
    ],
)
def test_nesting_that_is_accepted_passes_through_sqlite(matching, opening, closing):
    """SQLite's parser has a limit of its own, which must never be the one that is hit."""
    assert matching(f"{opening}year in (2019, 2020) and seen = true{closing}") == [0]


@pytest.mark.parametrize("opening", ["(", "not (", "(year = 1 and not ("])
def test_nesting_too_deep_is_refused_rather_than_overflowing_the_stack(opening):
    """A RecursionError would leave as something that is no error of ours."""
    with pytest.raises(InvalidFilter, match="nested too deeply"):
        compile_filter(opening * 3000, COLUMNS)


def test_a_chain_of_thousands_of_conditions_passes_through_sqlite(matching):
    """SQLite refuses trees deeper than 1,000; a flat chain would be one."""
    where = " or ".join(["year=2019"] * 6_000)

    assert matching(where) == [0]


def test_a_list_of_ten_thousand_values_passes_through_sqlite(matching):
    """SQLite binds some thirty thousand parameters; the limit here is below that."""
    where = f"year in ({','.join(map(str, range(MAX_VALUES)))})"

    assert matching(where) == [0, 1, 3, 4]


def test_more_values_than_allowed_are_refused():
    """Better one clear sentence than SQLite's 'too many SQL variables'."""
    with pytest.raises(InvalidFilter, match="too many values: expected at most 10000"):
        compile_filter(f"year in ({','.join(map(str, range(MAX_VALUES + 1)))})", COLUMNS)


def test_a_text_longer_than_allowed_is_refused():
    """The whole text is read into memory; somebody else may have written it."""
    with pytest.raises(InvalidFilter, match="too long"):
        compile_filter("year = 1" + " " * MAX_CHARACTERS, COLUMNS)


def test_long_column_expressions_do_not_make_sql_that_sqlite_refuses():
    """The limit on SQL text is SQLite's, and it counts what the columns expand to."""
    wide = {"a": Column("json_extract(metadata, '$.some_quite_long_name_of_a_column')", "int")}

    with pytest.raises(InvalidFilter, match="too many conditions"):
        compile_filter(" or ".join(["a=1"] * 9_999), wide)


# The property: whatever filter is written, SQLite answers as three-valued logic in Python does.

TEXTS = st.sampled_from(["train", "TRAIN", "test", "", "it's", "a%b", "ä", "Z", "\u6f22"])
INTS = st.integers(-3, 3) | st.sampled_from([2**53 + 1, -(2**63), 2**63 - 1])
FLOATS = st.sampled_from([-1.5, -0.0, 0.0, 0.5, 1.0, 2.0**53, 1e300])
VALUES = {"split": TEXTS, "year": INTS, "score": FLOATS, "seen": st.booleans()}


def _written(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


OPERATORS = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _known(name, test):
    """A condition that is unknown (None) where the row has no value."""
    return lambda row: None if row[name] is None else test(row[name])


def _either(truths):
    return True if True in truths else (None if None in truths else False)


def _invert(truth):
    return None if truth is None else not truth


@st.composite
def conditions(draw):
    name = draw(st.sampled_from(sorted(VALUES)))
    values = INTS | FLOATS if name in {"year", "score"} else VALUES[name]
    form = draw(st.sampled_from(["compare", "in", "null", "between", "like"]))
    no = draw(st.booleans())
    word = "not " if no else ""
    if form == "null":
        return f"{name} is {word}null", lambda row: (row[name] is None) != no
    if form == "in":
        items = draw(st.lists(values, min_size=1, max_size=4))
        text = f"{name} {word}in ({', '.join(map(_written, items))})"
        return text, _known(name, lambda value: (value in items) != no)
    if form == "between" and name != "seen":
        low, high = draw(values), draw(values)
        text = f"{name} {word}between {_written(low)} and {_written(high)}"
        return text, _known(name, lambda value: (low <= value <= high) != no)
    if form == "like" and name == "split":
        pattern = draw(st.text("tra%_TA", max_size=4))
        likeness = re.compile(
            "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern),
            re.IGNORECASE | re.ASCII | re.DOTALL,
        )
        text = f"split {word}like {_written(pattern)}"
        return text, _known(name, lambda value: bool(likeness.fullmatch(value)) != no)
    operator = draw(st.sampled_from(["=", "!="] if name == "seen" else sorted(OPERATORS)))
    operand = draw(values)
    text = f"{name} {operator} {_written(operand)}"
    return text, _known(name, lambda value: OPERATORS[operator](value, operand))


def _combined(children):
    def chain(word, parts):
        tests = [test for _, test in parts]
        text = f" {word} ".join(f"({text})" for text, _ in parts)
        if word == "or":
            return text, lambda row: _either([test(row) for test in tests])
        return text, lambda row: _invert(_either([_invert(test(row)) for test in tests]))

    return st.builds(
        chain, st.sampled_from(["and", "or"]), st.lists(children, min_size=2, max_size=3)
    ) | children.map(lambda part: (f"not ({part[0]})", lambda row: _invert(part[1](row))))


FILTERS = st.recursive(conditions(), _combined, max_leaves=8)
TABLES = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}),
    max_size=6,
)


@given(FILTERS, TABLES)
def test_sqlite_selects_what_three_valued_logic_in_python_selects(written, rows):
    """The compiled SQL means what the language says, for missing values too."""
    where, holds = written
    sql, parameters = compile_filter(where, COLUMNS)
    table = sqlite3.connect(":memory:")
    table.execute("CREATE TABLE t (id, split TEXT, year INTEGER, score REAL, seen INTEGER)")
    table.executemany(
        "INSERT INTO t VALUES (?, :split, :year, :score, :seen)".replace("?", ":id"),
        [{**row, "id": number} for number, row in enumerate(rows)],
    )

    found = [row[0] for row in table.execute(f"{SELECT} {sql} ORDER BY id", parameters)]
    table.close()

    assert found == [number for number, row in enumerate(rows) if holds(row) is True]


WORDS = ["split", "year", "seen", '"the in"', "'a'", "1", "-2.5e3", "=", "<>", "in", "(", ")", ","]
WORDS += ["not", "and", "or", "like", "is", "null", "between", "escape", "true", "'", '"', "%", "é"]


@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join))
def test_whatever_is_written_only_an_invalid_filter_leaves(where):
    """A filter may come from a web form; SQLite must accept all that is compiled."""
    table = sqlite3.connect(":memory:")
    table.execute('CREATE TABLE t (id, split TEXT, year INTEGER, score REAL, seen, "the in")')
    with suppress(InvalidFilter):
        sql, parameters = compile_filter(where, COLUMNS)
        table.execute(f"{SELECT} ({sql})", parameters)
    table.close()
