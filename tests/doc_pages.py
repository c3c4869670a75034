"""The pages of the documentation and the code blocks in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Line number and code of every fenced block in this language."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start(2)) + 1, found.group(2))
        for found in _BLOCK.finditer(text)
        if found.group(1) == language
    ]


def local_links(page: Path) -> list[str]:
    """Links of a page to files of the project, without their anchors."""
    text = page.read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in _LINK.findall(text)]
    return [target for target in targets if target and "://" not in target]


def linked_pages(page: Path) -> list[Path]:
    """Pages that a page links to, each once."""
    targets = [(page.parent / link).resolve() for link in local_links(page)]
    return [found for found in dict.fromkeys(targets) if found in PAGES]


def name(page: Path) -> str:
    """The page's path from the root, for test ids."""
    return page.relative_to(ROOT).as_posix()
