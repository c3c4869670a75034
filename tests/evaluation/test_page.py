"""The story page: self-contained, and harmless whatever the labels say."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from recollect.evaluation.page import Answer, Step, story_page
from recollect.types import Evidence, Explanation

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
ATTACK = '"><script>alert(1)</script>'


class Reader(HTMLParser):
    """Collects the tags and the addresses of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]


@pytest.fixture
def page():
    rows = (
        Evidence(3, ATTACK, similarity=0.91, weight=1.0, contribution=0.75),
        Evidence(8, "dog", similarity=0.9, weight=1.0, contribution=0.25),
    )
    why = Explanation(ATTACK, 0.75, {ATTACK: 0.75, "dog": 0.25}, rows, (3,), "dog")
    answer = Answer("Why?", PNG, why, {3: b"\xff\xd8\xff"})
    return story_page("Story", ATTACK, [Step("Ask", (ATTACK,), (answer,))])


def test_a_label_that_is_a_script_is_shown_and_not_run(page):
    """Labels come from folder names, and folders come from anywhere."""
    reader = Reader()
    reader.feed(page)

    assert "script" not in reader.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_page_loads_nothing_from_outside(page):
    """The page works without a network and tells nobody that it was read."""
    reader = Reader()
    reader.feed(page)

    assert reader.addresses == [
        "data:image/png;base64,iVBORw0KGgoAAAAAAAAAAA==",
        "data:image/jpeg;base64,/9j/",
    ]
    assert "http" not in page.replace("http-equiv", "")


def test_each_row_is_shown_with_its_similarity_and_its_vote(page):
    """The page is an explanation, not an illustration."""
    assert "row 3<br>similarity 0.91<br>vote 75.0 %" in page
    assert "row 8<br>similarity 0.90<br>vote 25.0 %" in page


def test_a_row_without_a_picture_says_so(page):
    """Memories may be taught without thumbnails."""
    assert "no picture of row 8" in page
