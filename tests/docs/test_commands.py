"""Commands that the pages mention exist."""

from __future__ import annotations

import re

import doc_pages
import pytest

from recollect.cli.app import COMMANDS

KNOWN = {"reproduce", *(name for name, _ in COMMANDS)}
_MENTIONED = re.compile(r"(?:^ *|`)recollect ([a-z][a-z-]*)", re.MULTILINE)


@pytest.mark.parametrize("page", doc_pages.PAGES, ids=doc_pages.name)
def test_every_command_that_a_page_names_exists(page):
    """A page outlives the name of a command more easily than one thinks."""
    mentioned = set(_MENTIONED.findall(page.read_text(encoding="utf-8")))

    assert mentioned - KNOWN == set()
