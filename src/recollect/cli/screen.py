"""What a command prints: one JSON object, or tables for people; errors, warnings and progress."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recollect.errors import RecollectError

# A pipe has no width; a table that is cut to 80 columns is of no use to grep.
_PIPE_WIDTH = 1000


class Screen:
    """Where one command writes; as a context it turns errors of the library into exit code 1.

    Args:
        as_json: Print one JSON object to stdout instead of tables.
        quiet: No progress and no notes on stderr.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        plain = {"markup": False, "highlight": False, "emoji": False}
        self._out = Console(file=sys.stdout, width=width, soft_wrap=False, **plain)  # type: ignore[arg-type]
        self._err = Console(file=sys.stderr, soft_wrap=True, **plain)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, RecollectError):
            self.refuse(error)
            raise typer.Exit(1) from None

    # Results

    def result(self, facts: dict[str, Any], show: Callable[[], object]) -> None:
        """Print the result: ``facts`` as JSON, or what ``show`` prints for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(plain_json(facts), allow_nan=False) + "\n")
        else:
            show()

    def say(self, *parts: object, style: str | None = None) -> None:
        """Print one line for people to stdout."""
        self._out.print(Text(" ".join(printable(part) for part in parts), style=style or ""))

    def table(
        self, heads: Sequence[str], lines: Iterable[Sequence[object]], *, numbers: str = ""
    ) -> None:
        """Print a table; columns named in ``numbers`` (separated by blanks) are right-aligned."""
        right = set(numbers.split())
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for head in heads:
            table.add_column(Text(head), justify="right" if head in right else "left")
        for line in lines:
            table.add_row(*(Text(printable(cell)) for cell in line))
        self._print(table)

    def facts(self, lines: Iterable[tuple[str, object]]) -> None:
        """Print names and values in two columns."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for name, value in lines:
            table.add_row(Text(name, style="bold"), Text(printable(value)))
        self._print(table)

    def _print(self, table: Table) -> None:
        if sys.stdout.isatty():
            self._out.print(table)
            return
        # Cells are padded to the width of their column; a pipe has no use for that at the end.
        with self._out.capture() as capture:
            self._out.print(table)
        lines = [line.rstrip() for line in capture.get().splitlines()]
        sys.stdout.write("".join(f"{line}\n" for line in lines))

    # Everything else, on stderr

    def note(self, *parts: object) -> None:
        """Print one line to stderr, unless quiet."""
        if not self.quiet:
            self._err.print(Text(" ".join(printable(part) for part in parts), style="yellow"))

    def refuse(self, error: RecollectError) -> None:
        """Report an error of the library: as JSON on stdout, or in words on stderr."""
        if self.as_json:
            self.result({"error": describe(error)}, lambda: None)
            return
        self._err.print(Text("Error: " + printable(error), style="red"))
        if error.remedy:
            self._err.print(Text(printable(error.remedy)))

    def ask(self, question: str) -> None:
        """Ask for a yes, on stderr and stdin; anything else, also the end of input, is a no.

        Raises:
            typer.Exit: It was not given; the exit code is 1.
        """
        sys.stderr.write(f"{printable(question)} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            sys.stderr.write("Nothing was changed.\n")
            raise typer.Exit(1)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None] | None]:
        """A bar on stderr if that is a terminal; gives a function of ``(done, total)``, or None."""
        if self.quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), Remaining())
        with Progress(*columns, console=self._err, transient=True) as bars:
            bar = bars.add_task(title, total=None)
            yield lambda done, total: bars.update(bar, completed=done, total=total)


def describe(error: RecollectError) -> dict[str, Any]:
    """An error as plain values for JSON."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "problem": error.problem,
        "expected": None if error.expected is None else str(error.expected),
        "got": None if error.got is None else str(error.got),
        "remedy": error.remedy,
    }


def printable(value: object) -> str:
    r"""Text without control characters, which could rewrite the screen of whoever reads it.

    Example:
        >>> printable("cat" + chr(27) + "[2J")
        'cat\\x1b[2J'
    """
    return "".join(
        char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in str(value)
    )


def plain_json(value: Any) -> Any:
    """Plain values for JSON: arrays as lists, what is not finite as null, bytes left out.

    Example:
        >>> plain_json({"similarity": np.float32(-np.inf), "ids": np.array([1])})
        {'similarity': None, 'ids': [1]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(name): plain_json(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if isinstance(value, bytes) else value


def number(value: float, digits: int = 4) -> str:
    """A number for people.

    Example:
        >>> number(0.98765), number(3.0), number(1e-9)
        ('0.9877', '3', '1e-09')
    """
    return f"{value:.{digits}g}"


def cell(value: object) -> object:
    """What a row answers with, for people: numbers shortened, all else as it is.

    Example:
        >>> cell(0.123456), cell("cat"), cell(7)
        ('0.1235', 'cat', 7)
    """
    return number(value) if isinstance(value, float) else value


def percent(share: float) -> str:
    """A share for people.

    Example:
        >>> percent(0.98765)
        '98.8%'
    """
    return f"{100 * share:.1f}%"


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    Example:
        >>> plural(1, "row"), plural(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
