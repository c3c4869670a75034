"""Paragraphs and tables of the pages that reproductions write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def joined(paragraph: str) -> str:
    """One line a paragraph or list item, whatever the line breaks in the source.

    Tables and code stay.
    """
    lines: list[str] = []
    for line in paragraph.splitlines():
        if lines and not line.startswith(("- ", "    ", "|")):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(lines)


def table(head: Sequence[str], lines: Iterable[Sequence[Any]], *, texts: int = 1) -> str:
    """Write a Markdown table; columns after the first ``texts`` are numbers, set right."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (head, rule, *lines))
