"""The documentation runs: a page that is not tested describes last month's library."""

from __future__ import annotations

import doctest
import json
import statistics

import doc_pages
import pytest

import recollect
from recollect import errors
from recollect.evaluation.reproduce.dense_memory_page import page as dense_page
from recollect.evaluation.reproduce.dual_memory_page import page as dual_page
from recollect.evaluation.reproduce.lookup_page import page as lookup_page
from recollect.evaluation.reproduce.residual_memory_page import page as residual_page
from recollect.evaluation.reproduce.visual_memory_capabilities import read_parts
from recollect.evaluation.reproduce.visual_memory_choice_page import page as choice_page
from recollect.evaluation.reproduce.visual_memory_lifelong_page import page as lifelong_page
from recollect.evaluation.reproduce.visual_memory_page import page as visual_page
from recollect.evaluation.reproduce.visual_memory_scaling_page import page as scaling_page

REPRODUCTIONS = doc_pages.DOCS / "reproduction"
WITH_CODE = [page for page in doc_pages.PAGES if doc_pages.blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_CODE, ids=doc_pages.name)
def test_every_python_block_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    """A page is read top to bottom, so its blocks share one namespace and one folder."""
    monkeypatch.chdir(tmp_path)
    shared = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)

    for line, code in doc_pages.blocks(page, "python"):
        example = doctest.DocTestParser().get_doctest(
            code, shared, doc_pages.name(page), None, line
        )
        if example.examples:
            runner.run(example, clear_globs=False)
            shared = example.globs
        else:
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), shared)  # noqa: S102

    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("page", doc_pages.PAGES, ids=doc_pages.name)
def test_every_link_to_a_file_leads_somewhere(page):
    """Files move; links do not follow by themselves."""
    missing = [link for link in doc_pages.local_links(page) if not (page.parent / link).exists()]

    assert missing == []


def figures(name):
    return json.loads((REPRODUCTIONS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "page_of"),
    [
        ("visual-memory", lambda report: visual_page(report, read_parts(REPRODUCTIONS))),
        ("visual-memory-choice", choice_page),
        ("dense-memory", lambda report: dense_page(report, figures("dense-memory-speed"))),
        ("dual-memory", dual_page),
        ("lookup", lookup_page),
        ("residual-memory", residual_page),
        ("visual-memory-lifelong", lifelong_page),
        ("visual-memory-scaling", scaling_page),
    ],
)
def test_the_page_of_a_reproduction_is_what_its_figures_say(name, page_of):
    """The page is written from the run's JSON file, never by hand."""
    assert (REPRODUCTIONS / f"{name}.md").read_text(encoding="utf-8") == page_of(figures(name))


def test_what_trust_is_said_to_do_is_what_was_measured():
    """The range in its description is that of the means over draws, set by set and shot by shot."""
    report = json.loads((REPRODUCTIONS / "dual-memory.json").read_text(encoding="utf-8"))
    gains = [
        100 * statistics.mean(d["trust 1"]["dynamic"] - d["trust 0"]["dynamic"] for d in drawn)
        for by in report["decided"].values()
        for drawn in by.values()
    ]

    told = f"by {min(gains):+.1f} to {max(gains):+.1f} points"

    assert told in " ".join(recollect.DualMemoryClassifier.__doc__.split())


def test_the_reference_lists_exactly_the_public_names():
    """What is not on the list may change tomorrow; what is on it must exist."""
    text = (doc_pages.DOCS / "reference.md").read_text(encoding="utf-8")
    section = text.split("## `recollect`\n")[1].split("\n## ")[0]
    listed = [row.split("`")[1] for row in section.splitlines() if row.startswith("| `")]

    assert listed == sorted(recollect.__all__)


def test_every_error_is_documented():
    """Whoever meets an error will search for its name."""
    text = (doc_pages.DOCS / "errors.md").read_text(encoding="utf-8")
    tree = [errors.RecollectError]
    for kind in tree:
        tree.extend(kind.__subclasses__())

    assert [kind.__name__ for kind in tree if f"`{kind.__name__}`" not in text] == []


def test_every_page_is_reachable_from_the_readme():
    """A page that nothing links to is not read."""
    reached = [doc_pages.ROOT / "README.md"]
    for page in reached:
        reached += [found for found in doc_pages.linked_pages(page) if found not in reached]

    assert [doc_pages.name(page) for page in doc_pages.PAGES if page not in reached] == []
