"""A story told in one HTML file: steps, figures, and answers with the rows behind them.

The page holds its pictures, runs no script and loads nothing: it can be mailed or archived.
Labels and other words from outside are escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from recollect.types import Evidence, Explanation

_STYLE = """
:root { --ink: #1d2530; --quiet: #5b6675; --line: #dfe4ea; --paper: #fff; --card: #f6f8fa;
        --for: #0072b2; --against: #b84f00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8edf3; --quiet: #a3afbd; --line: #38424e; --paper: #14181d; --card: #1d232a;
          --for: #5bb8f0; --against: #f59a4c; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .5rem; padding-top: 1.2rem;
     border-top: 1px solid var(--line); }
h2 b { color: var(--for); margin-right: .5rem; }
p { margin: .3rem 0; } .quiet { color: var(--quiet); }
.answer { display: flex; flex-wrap: wrap; gap: 1.2rem; margin-top: 1rem; }
figure { margin: 0; text-align: center; font-size: .85rem; }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain; image-rendering: pixelated;
             border: 3px solid var(--ink); border-radius: 6px; background: var(--card); }
.query { width: 11rem; }
.rows { flex: 1 1 24rem; display: grid; gap: .7rem;
        grid-template-columns: repeat(auto-fill, minmax(6.4rem, 1fr)); }
.rows .for img { border-color: var(--for); } .rows .against img { border-color: var(--against); }
.for b { color: var(--for); } .against b { color: var(--against); }
b { overflow-wrap: anywhere; }
table { border-collapse: collapse; table-layout: fixed; width: 100%; margin-top: 1rem;
        font-size: .9rem; }
th { text-align: left; font-weight: 600; padding: .2rem .8rem .2rem 0; width: 8rem;
     overflow-wrap: break-word; }
td.bar div { height: 1.05rem; border-radius: 3px; min-width: 2px; }
tr.for td.bar div { background: var(--for); } tr.against td.bar div { background: var(--against); }
td.share { width: 5.5rem; padding-left: .8rem; white-space: nowrap;
           font-variant-numeric: tabular-nums; }
code { font-size: .92em; overflow-wrap: anywhere; }
"""

# Nothing may be loaded and nothing may run, whatever a label says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Answer:
    """One query with the rows that answered it.

    Attributes:
        caption: One sentence above the pictures.
        query: Bytes of the query's picture (PNG, JPEG, WebP, BMP or GIF).
        explanation: From ``explain``.
        pictures: Row id -> bytes of its picture.
        shown: At most this many rows are drawn.
    """

    caption: str
    query: bytes
    explanation: Explanation
    pictures: Mapping[int, bytes]
    shown: int = 10


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a story.

    Attributes:
        title: A few words.
        lines: Sentences, in order.
        answers: Answers to show below them.
    """

    title: str
    lines: tuple[str, ...]
    answers: tuple[Answer, ...] = field(default=())


def story_page(title: str, introduction: str, steps: Sequence[Step]) -> str:
    """Write a story as one self-contained HTML page.

    Example:
        >>> page = story_page("A <b>old title", "Hello.", [Step("Teach", ("Ten rows.",))])
        >>> "A &lt;b&gt;old title" in page
        True
    """
    parts = [_step(number, step) for number, step in enumerate(steps, start=1)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="quiet">{escape(introduction)}</p>\n'
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _step(number: int, step: Step) -> str:
    lines = "\n".join(f"<p>{escape(line)}</p>" for line in step.lines)
    answers = "\n".join(_answer(answer) for answer in step.answers)
    return (
        f"<section>\n<h2><b>{number}</b>{escape(step.title)}</h2>\n{lines}\n{answers}\n</section>"
    )


def _answer(answer: Answer) -> str:
    why = answer.explanation
    rows = "\n".join(
        _row(row, why, answer.pictures.get(row.id)) for row in why.evidence[: answer.shown]
    )
    bars = "\n".join(_bar(label, share, why) for label, share in why.shares.items())
    query = _picture(answer.query, "the query")
    count = f"{min(answer.shown, len(why.evidence))} of {len(why.evidence)} rows shown."
    return (
        f'<p class="quiet">{escape(answer.caption)} {count}</p>\n<div class="answer">\n'
        f'<figure class="query">{query}<figcaption>answer <b>{escape(str(why.prediction))}</b>'
        f'</figcaption></figure>\n<div class="rows">\n{rows}\n</div>\n</div>\n'
        f"<table><caption hidden>Share of the vote of each label</caption>\n{bars}\n</table>"
    )


def _row(row: Evidence, why: Explanation, picture: bytes | None) -> str:
    label = escape(str(row.value))
    return (
        f'<figure class="{_side(row.value, why)}">{_picture(picture, f"row {row.id}")}'
        f"<figcaption><b>{label}</b><br>row {row.id}<br>similarity {row.similarity:.2f}<br>"
        f"vote {100 * float(row.contribution):.1f} %</figcaption></figure>"
    )


def _bar(label: object, share: float, why: Explanation) -> str:
    percent = f"{100 * share:.1f}"
    return (
        f'<tr class="{_side(label, why)}"><th scope="row">{escape(str(label))}</th>'
        f'<td class="bar"><div style="width:{percent}%"></div></td>'
        f'<td class="share">{percent} %</td></tr>'
    )


def _side(label: object, why: Explanation) -> str:
    return "for" if label == why.prediction else "against"


def _picture(raw: bytes | None, words: str) -> str:
    if raw is None:
        return f'<p class="quiet">no picture of {escape(words)}</p>'
    code = base64.b64encode(raw).decode("ascii")
    return f'<img alt="{escape(words)}" src="data:{_kind(raw)};base64,{code}">'


def _kind(raw: bytes) -> str:
    """Read the type of a picture from its first bytes; a wrong one only shows no picture."""
    if raw.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if raw.startswith(b"RIFF"):
        return "image/webp"
    return "image/bmp" if raw.startswith(b"BM") else "image/png"
