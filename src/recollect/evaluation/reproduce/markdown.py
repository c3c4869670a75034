"""Paragraphs and tables of the pages that reproductions write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def paragraphs(text: str) -> str:
    r"""Join the lines of each paragraph and list item; code indented by four spaces stays.

    Example:
        >>> paragraphs("one\ntwo")
        'one two'
    """
    return "\n\n".join(_joined(part) for part in text.strip().split("\n\n"))


def _joined(paragraph: str) -> str:
    lines: list[str] = []
    for line in paragraph.splitlines():
        if lines and not line.startswith(("- ", "    ", "|", "#")):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(lines)


def table(head: Sequence[str], lines: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Write a table whose first columns are text and whose others are numbers.

    Example:
        >>> print(table(["a", "b"], [["x", "1"]]))
        | a | b |
        | --- | ---: |
        | x | 1 |
    """
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))
