"""Every capability has a page that shows how, a heading with all its figures, and a line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from recollect.errors import InputError
from recollect.evaluation.reproduce.visual_memory_capabilities import (
    CAPABILITIES,
    HEAD,
    lines_of,
    read_parts,
)

NOT_MEASURED: set[str] = set()
"""Only what a report names as missing may stand here."""

PAGES = Path(__file__).parents[2] / "docs" / "reproduction"


def headings(page):
    lines = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("line", CAPABILITIES, ids=lambda line: line.name)
def test_every_capability_has_a_page_with_code_that_runs(line):
    """A capability nobody can find, or whose page rots, is not there."""
    page, _, heading = line.guide.partition("#")

    assert "```" in (PAGES / page).read_text("utf-8")
    assert not heading or heading in headings(PAGES / page)


@pytest.mark.parametrize("line", CAPABILITIES, ids=lambda line: line.name)
def test_every_capability_leads_to_all_its_figures(line):
    """By a link that is not broken."""
    page, _, heading = line.where.partition("#")

    assert heading in headings(PAGES / page)


def test_every_line_that_can_have_a_figure_has_one():
    """From the files that lie beside the page."""
    lines = lines_of(read_parts(PAGES))

    blank = {one.name for line, one in zip(lines, CAPABILITIES, strict=True)
             if one.part and not line[HEAD.index("ours")]}  # fmt: skip
    assert blank == NOT_MEASURED


def test_what_was_not_measured_stays_blank(tmp_path):
    """A folder of one's own has no figures of others."""
    assert {line[HEAD.index("ours")] for line in lines_of(read_parts(tmp_path))} == {""}


def test_the_line_of_a_cost_says_what_the_benchmark_measured(tmp_path):
    """50 seconds afresh, one second for a hundred rows: a fiftieth."""
    told = {
        "changed": 100, "rows": 50_000, "table_added_s": 1.0, "table_added_ratio": 50.0,
        "table_removed_ratio": 200.0,
    }  # fmt: skip
    (tmp_path / "visual-memory-cost.json").write_text(json.dumps({"table": told}))

    ours = lines_of(read_parts(tmp_path))[0][HEAD.index("ours")]

    assert ours == "100 rows more of 50,000: 1.00 s, 1/50 of afresh; 100 fewer: 1/200"


def test_a_file_that_is_not_ours_is_named(tmp_path):
    """One error instead of a traceback out of a parser."""
    (tmp_path / "visual-memory-choice.json").write_text("{")

    with pytest.raises(InputError, match="visual-memory-choice"):
        read_parts(tmp_path)
