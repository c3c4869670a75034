"""The ``where`` language: a row filter in text, turned into SQL with parameters.

    split = 'train' and not (year < 2020 or name in ('a', 'b')) and note is null

Grammar (keywords in any case, names as they are written)::

    filter     = term { "or" term }
    term       = factor { "and" factor }
    factor     = "not" factor | "(" filter ")" | condition
    condition  = name ( "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) literal
               | name [ "not" ] "in" "(" literal { "," literal } ")"
               | name [ "not" ] "like" text [ "escape" text ]
               | name [ "not" ] "between" literal "and" literal
               | name "is" [ "not" ] "null"
    name       = letters, digits and _, not starting with a digit | '"' any characters '"'
    literal    = text in single quotes ('' is a quote) | integer | float | true | false

A missing value is neither equal nor unequal to anything, as in SQL: ``year != 2020`` does not match
a row without a year, and neither does ``not year = 2020``. ``is null`` finds such rows.

Text is compared by code point; ``like`` knows ``%`` (any characters) and ``_`` (one character) and
ignores the case of the letters A to Z. Integers and floats compare by value; true and false know
only ``=``, ``!=`` and ``in``.

Nothing of the text reaches SQL but through parameters: the fragment is built of this module's own
words and of the column expressions that the caller supplied.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

from recollect.errors import InvalidFilter

ColumnKind: TypeAlias = Literal["str", "int", "float", "bool"]

MAX_CHARACTERS = 100_000
MAX_VALUES = 10_000  # SQLite binds 32,766 parameters at most
MAX_NESTING = 20
MAX_PATTERN = 50_000  # SQLite's own limit for the pattern of a LIKE
_MAX_OPEN = 75  # SQLite's parser held 100 open symbols before 3.46; some are the statement's own
_GROUP = 32  # operands of one flat and / or; SQLite refuses trees deeper than 1,000
_MAX_TREE = 800
_MAX_SQL = 500_000  # SQLite reads 1,000,000 bytes; the rest is for the statement around it

_KEYWORDS = frozenset(
    ("and", "or", "not", "in", "like", "escape", "is", "null", "between", "true", "false")
)
_COMPARISONS = {
    "=": "=",
    "==": "=",
    "!=": "!=",
    "<>": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_KIND_WORDS = {"str": "text", "int": "an integer", "float": "a number", "bool": "true or false"}
_GIVEN = {"str": "text", "int": "the integer", "float": "the float", "bool": "the truth value"}
_EXAMPLE = "Write conditions such as: split = 'train' and (year >= 2020 or note is null)."

# The possessive *+ keeps an unclosed quote from being read as a shorter text that is closed.
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<text>'(?:[^']|'')*+')
    | (?P<quoted>"(?:[^"]|"")*+")
    | (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | (?P<word>[^\W\d]\w*)
    | (?P<mark><=|>=|<>|!=|==|=|<|>|\(|\)|,)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Column:
    """What a visible name stands for.

    Attributes:
        sql: SQL expression, complete in itself: a column, a call, or something in parentheses.
        kind: Type of its values. ``"bool"`` is kept as 0 and 1.
    """

    sql: str
    kind: ColumnKind


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class _Literal:
    value: str | int | float | bool
    at: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the SQL and what SQLite's limits ask about it.

    Attributes:
        sql: Text of the condition.
        parameters: Its parameters, in order.
        chain: The word that joins its operands on the outermost level: AND, OR or none.
        height: Height of its expression tree; a condition's own is at most 4.
        open: Symbols that SQLite's parser holds at once while reading it; a condition's own are
            at most eight, those of a call as its column included.
    """

    sql: str
    parameters: tuple[object, ...]
    chain: str = ""
    height: int = 4
    open: int = 8


def compile_filter(where: str, columns: Mapping[str, Column]) -> tuple[str, list[object]]:
    """Turn a ``where`` text into an SQL condition with ``?`` parameters.

    Args:
        where: The filter, in the language that this module describes; at most 100,000 characters
            and 10,000 values, nested at most 20 deep (10 where `and` and `or` take turns).
        columns: The names that may occur, each with its SQL expression and type.

    Returns:
        The condition, safe to be put into parentheses after ``WHERE``, and its parameters.

    Raises:
        InvalidFilter: The text cannot be read, names an unknown column, or compares a column with
            a value of another type.

    Example:
        >>> compile_filter("year >= 2020 and not split = 'test'", {
        ...     "year": Column("m.year", "int"), "split": Column("m.split", "str")
        ... })
        ('m.year >= ? AND NOT (m.split = ?)', [2020, 'test'])
    """
    if not isinstance(where, str):
        raise InvalidFilter(
            "`where` is not text", expected="str", got=type(where).__name__, remedy=_EXAMPLE
        )
    if len(where) > MAX_CHARACTERS:
        raise InvalidFilter(
            "`where` is too long",
            expected=f"at most {MAX_CHARACTERS} characters",
            got=len(where),
            remedy="Select rows by `ids` instead of listing them.",
        )
    try:
        where.encode()
    except UnicodeEncodeError as error:
        raise InvalidFilter(
            f"`where` holds half a surrogate pair at character {error.start + 1}",
            remedy="Decode the text properly before you pass it.",
        ) from None
    piece = _Parser(_tokens(where), columns).filter()
    if piece.open > _MAX_OPEN:
        raise _too_deep()
    if piece.height > _MAX_TREE or len(piece.sql) > _MAX_SQL:
        raise InvalidFilter(
            "`where` has too many conditions", remedy="Select rows in several steps."
        )
    return piece.sql, list(piece.parameters)


def _too_deep() -> InvalidFilter:
    return InvalidFilter(
        "`where` is nested too deeply",
        expected=f"at most {MAX_NESTING} levels",
        remedy="Take parentheses away, or select rows in several steps.",
    )


def _tokens(where: str) -> list[_Token]:
    tokens = []
    at = 0
    while at < len(where):
        match = _TOKEN.match(where, at)
        if match is None or match.lastgroup is None:
            _refuse_character(where, at)
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup, match.group(), at))
        at = match.end()
    tokens.append(_Token("end", "", at))
    return tokens


def _refuse_character(where: str, at: int) -> NoReturn:
    problem, remedy = "`where` cannot be read", _EXAMPLE
    if where[at] in "'\"":
        problem = "`where` has a quote that is never closed"
        remedy = "Close it, and write a quote inside quotes twice: 'it''s'."
    raise InvalidFilter(
        f"{problem}, at character {at + 1}", got=repr(_clip(where[at:])), remedy=remedy
    )


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."


class _Parser:
    """Reads tokens once from left to right; recursion happens only at parentheses."""

    def __init__(self, tokens: list[_Token], columns: Mapping[str, Column]) -> None:
        self._tokens, self._columns = tokens, columns
        self._next = 0
        self._nesting = 0
        self._values = 0

    def filter(self) -> _Piece:
        """Read the whole filter; anything behind it is refused."""
        if self._tokens[0].kind == "end":
            raise InvalidFilter("`where` is empty", remedy=_EXAMPLE)
        piece = self._any()
        if self._peek().kind != "end":
            self._refuse("`and`, `or` or the end")
        return piece

    # Reading tokens

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _sees(self, *words: str) -> bool:
        """Whether the next tokens are these keywords or marks."""
        ahead = self._tokens[self._next : self._next + len(words)]
        return len(ahead) == len(words) and all(
            token.kind in {"word", "mark"} and token.text.lower() == word
            for token, word in zip(ahead, words, strict=True)
        )

    def _takes(self, *words: str) -> bool:
        found = self._sees(*words)
        if found:
            self._next += len(words)
        return found

    def _require(self, mark: str) -> None:
        if not self._takes(mark):
            self._refuse(f"`{mark}`")

    def _refuse(self, expected: str, remedy: str = _EXAMPLE) -> NoReturn:
        token = self._peek()
        got = "the end" if token.kind == "end" else f"`{_clip(token.text)}`"
        raise InvalidFilter(
            f"`where` cannot be read, at character {token.at + 1}",
            expected=expected,
            got=got,
            remedy=remedy,
        )

    # The grammar

    def _any(self) -> _Piece:
        pieces = [self._all()]
        while self._takes("or"):
            pieces.append(self._all())
        return _join(pieces, "OR")

    def _all(self) -> _Piece:
        pieces = [self._factor()]
        while self._takes("and"):
            pieces.append(self._factor())
        return _join(pieces, "AND")

    def _factor(self) -> _Piece:
        negate = False
        while self._takes("not"):
            negate = not negate
        piece = self._group() if self._takes("(") else self._condition()
        if not negate:
            return piece
        return _Piece(
            f"NOT ({piece.sql})", piece.parameters, height=piece.height + 1, open=piece.open + 2
        )

    def _group(self) -> _Piece:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise _too_deep()
        piece = self._any()
        self._require(")")
        self._nesting -= 1
        return piece

    def _condition(self) -> _Piece:
        name, column = self._column()
        token = self._peek()
        if token.kind == "mark" and token.text in _COMPARISONS:
            self._next += 1
            return self._comparison(name, column, _COMPARISONS[token.text])
        if self._takes("is"):
            negate = self._takes("not")
            if not self._takes("null"):
                self._refuse("`null`", "After `is` stands null or not null; compare with = or !=.")
            return _Piece(f"{column.sql} IS {'NOT ' * negate}NULL", ())
        no = "NOT " if self._takes("not") else ""
        if self._takes("in"):
            return self._membership(name, column, no)
        if self._takes("like"):
            return self._like(name, column, no)
        if self._takes("between"):
            self._ordered(name, column, "between")
            low = self._value(name, column)
            self._require("and")
            high = self._value(name, column)
            return _Piece(f"{column.sql} {no}BETWEEN ? AND ?", (low, high))
        return self._refuse(
            f"a comparison of column {name!r}", f"Compare it: {name} = ..., or {name} is null."
        )

    def _comparison(self, name: str, column: Column, operator: str) -> _Piece:
        if operator not in {"=", "!="}:
            self._ordered(name, column, operator)
        return _Piece(f"{column.sql} {operator} ?", (self._value(name, column),))

    def _membership(self, name: str, column: Column, no: str) -> _Piece:
        self._require("(")
        values = [self._value(name, column)]
        while self._takes(","):
            values.append(self._value(name, column))
        self._require(")")
        marks = ", ".join("?" * len(values))
        return _Piece(f"{column.sql} {no}IN ({marks})", tuple(values))

    def _like(self, name: str, column: Column, no: str) -> _Piece:
        if column.kind != "str":
            raise InvalidFilter(
                f"`like` works on text, and column {name!r} holds {_KIND_WORDS[column.kind]}",
                remedy="Compare it with =, <, > or between.",
            )
        pattern = str(self._value(name, column))
        # SQLite reads a pattern up to the first NUL and would match far too much.
        if "\0" in pattern or len(pattern.encode()) > MAX_PATTERN:
            raise InvalidFilter(
                "a `like` pattern holds a NUL character, or is too long",
                expected=f"at most {MAX_PATTERN} bytes",
                remedy="Leave the NUL out, and compare long text with =.",
            )
        if not self._takes("escape"):
            return _Piece(f"{column.sql} {no}LIKE ?", (pattern,))
        escape = str(self._value(name, column))
        if len(escape) != 1 or escape == "\0":
            raise InvalidFilter(
                "`escape` needs one character",
                got=repr(_clip(escape)),
                remedy=r"Write for example: name like '100\%' escape '\'.",
            )
        return _Piece(f"{column.sql} {no}LIKE ? ESCAPE ?", (pattern, escape))

    # Names and values

    def _column(self) -> tuple[str, Column]:
        token = self._peek()
        if token.kind not in {"word", "quoted"} or self._is_keyword(token):
            self._refuse(
                "the name of a column",
                "A column stands on the left, a value on the right: year >= 2020. A column named "
                'like a keyword goes into double quotes: "in" = 1.',
            )
        self._next += 1
        name = token.text if token.kind == "word" else token.text[1:-1].replace('""', '"')
        column = self._columns.get(name)
        if column is None:
            raise _unknown_column(name, self._columns)
        return name, column

    @staticmethod
    def _is_keyword(token: _Token) -> bool:
        return token.kind == "word" and token.text.lower() in _KEYWORDS

    def _value(self, name: str, column: Column) -> object:
        literal = self._literal()
        self._values += 1
        if self._values > MAX_VALUES:
            raise InvalidFilter(
                "`where` holds too many values",
                expected=f"at most {MAX_VALUES}",
                remedy="Select rows by `ids` instead of listing them.",
            )
        return _checked(literal, name, column)

    def _literal(self) -> _Literal:
        token = self._peek()
        if token.kind == "text":
            self._next += 1
            return _Literal(token.text[1:-1].replace("''", "'"), token.at)
        if token.kind == "number":
            self._next += 1
            return _Literal(_number(token), token.at)
        if self._sees("true") or self._sees("false"):
            return _Literal(self._take().text.lower() == "true", token.at)
        if self._sees("null"):
            self._refuse("a value", "Nothing equals null; write `is null` or `is not null`.")
        if token.kind in {"word", "quoted"}:
            self._refuse("a value", f"Text stands in single quotes: '{_clip(token.text)}'.")
        return self._refuse("a value")

    def _ordered(self, name: str, column: Column, operator: str) -> None:
        if column.kind == "bool":
            raise InvalidFilter(
                f"column {name!r} holds true or false, which `{operator}` cannot order",
                remedy=f"Write {name} = true, or {name} = false.",
            )


def _number(token: _Token) -> int | float:
    if token.text.lstrip("+-").isdigit():
        # int() refuses very long digit strings with an error of its own.
        return int(token.text) if len(token.text) <= 40 else _too_large(token.text)
    value = float(token.text)
    return _too_large(token.text) if value in {float("inf"), float("-inf")} else value


def _too_large(text: str) -> NoReturn:
    raise InvalidFilter(
        "`where` holds a number out of range",
        expected="integers of 64 bits, floats up to 1.8e308",
        got=_clip(text),
        remedy="Compare with a smaller number.",
    )


def _checked(literal: _Literal, name: str, column: Column) -> object:
    """The parameter for a literal, once it is sure that the column can be compared with it."""
    value = literal.value
    kind = type(value).__name__
    numeric = {"int", "float"}
    if kind != column.kind and not (kind in numeric and column.kind in numeric):
        shown = f"{_GIVEN[kind]} {_clip(repr(value).lower() if kind == 'bool' else repr(value))}"
        raise InvalidFilter(
            f"column {name!r} cannot be compared with a value of another type, at character "
            f"{literal.at + 1}",
            expected=_KIND_WORDS[column.kind],
            got=shown,
            remedy=_type_remedy(name, column.kind, value),
        )
    if kind == "bool":
        return int(value)
    if kind == "int" and not -(2**63) <= int(value) < 2**63:
        return float(value) if column.kind == "float" else _too_large(str(value))
    return value


def _type_remedy(name: str, kind: ColumnKind, value: object) -> str:
    if kind == "str":
        return f"Text stands in single quotes: {name} = '{_clip(str(value))}'."
    if kind == "bool":
        return f"Write {name} = true, or {name} = false."
    return f"Write a number without quotes: {name} = 1."


def _unknown_column(name: str, columns: Mapping[str, Column]) -> InvalidFilter:
    near = difflib.get_close_matches(name.lower(), {known.lower() for known in columns}, n=1)
    match = [known for known in sorted(columns) if near and known.lower() == near[0]]
    guess = f"Did you mean {match[0]!r}? " if match else ""
    return InvalidFilter(
        f"`where` names an unknown column {_clip(name)!r}",
        expected=f"one of {', '.join(sorted(columns)) or 'no columns at all'}",
        remedy=f"{guess}Names are case-sensitive, and text values stand in single quotes.",
    )


def _join(pieces: list[_Piece], word: str) -> _Piece:
    """Chain pieces by AND or OR, in groups, so that the tree stays low however long the chain."""
    if len(pieces) == 1:
        return pieces[0]
    if len(pieces) > _GROUP:
        size = max(_GROUP, -(-len(pieces) // _GROUP))
        parts = [_join(pieces[at : at + size], word) for at in range(0, len(pieces), size)]
        return _join(parts, word)
    texts, held = [], []
    for place, piece in enumerate(pieces):
        # A group of the same word keeps its parentheses, or the tree would be flat again.
        closed = piece.chain == word or (piece.chain, word) == ("OR", "AND")
        texts.append(f"({piece.sql})" if closed else piece.sql)
        held.append(piece.open + closed + (2 if place else 0))
    return _Piece(
        f" {word} ".join(texts),
        tuple(value for piece in pieces for value in piece.parameters),
        chain=word,
        height=max(piece.height for piece in pieces) + len(pieces),
        open=max(held),
    )
