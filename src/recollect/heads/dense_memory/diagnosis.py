"""How much coarse-to-fine search misses, against search without a hierarchy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recollect.heads.dense_memory.layout import Layout
from recollect.heads.dense_memory.plan import Plan
from recollect.heads.dense_memory.pyramids import Pyramid
from recollect.heads.dense_memory.search import coarse_to_fine, flat
from recollect.types import Floats, Ids


@dataclass(frozen=True, slots=True)
class Query:
    """One sample to ask about.

    Attributes:
        pyramid: Its features.
        allowed: Samples that the pre-filter leaves, as positions in the layout; None means all.
        others: Samples to be compared with without a pre-filter; None means all.
    """

    pyramid: Pyramid
    allowed: Ids | None
    others: Ids | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Coarse-to-fine search against search among all cells, by the same score.

    Attributes:
        samples: How many were asked about.
        k: Matches compared.
        recall: Share of the k best of all cells that coarse-to-fine search keeps, mean over cells.
        top: Share of cells whose best match is the best of all cells.
        score: Mean score of the best match of coarse-to-fine search.
        flat_score: The same of flat search; not below ``score``.
        prefilter_recall: Share of the coarsest level's matches whose samples the pre-filter keeps;
            1 without one.
    """

    samples: int
    k: int
    recall: float
    top: float
    score: float
    flat_score: float
    prefilter_recall: float


def diagnose(
    layout: Layout,
    queries: Sequence[Query],
    plan: Plan,
    k: int | None,
) -> Diagnosis:
    """Measure recall over queries. See :class:`Diagnosis`."""
    k = plan.ks[-1] if k is None else k
    figures = [_one(layout, query, plan, k) for query in queries]
    recall, top, own, best, kept = np.mean(figures, axis=0).tolist()
    return Diagnosis(len(queries), k, recall, top, own, best, kept)


def _one(layout: Layout, query: Query, plan: Plan, k: int) -> tuple[float, ...]:
    cells = layout.cells
    assert cells is not None
    shapes, vectors = query.pyramid.shapes, layout.query(query.pyramid)
    found = coarse_to_fine(cells, shapes, vectors, plan, allowed=query.allowed)
    complete = flat(cells, shapes, vectors, plan, k, allowed=query.others)
    mine, theirs = found[-1], complete
    there = theirs.cells >= 0
    hits = (theirs.cells[:, :, None] == mine.cells[:, None, :k]).any(axis=2) & there
    first = coarse_to_fine(cells, shapes[:1], vectors[:1], plan, allowed=query.others)[0].cells
    sample = cells.levels[0].sample[first[first >= 0]]
    kept = 1.0 if query.allowed is None else float(np.isin(sample, query.allowed).mean())
    return (
        float(hits.sum() / max(int(there.sum()), 1)),
        float((mine.cells[:, 0] == theirs.cells[:, 0]).mean()),
        _mean(mine.score[:, 0]),
        _mean(theirs.score[:, 0]),
        kept,
    )


def _mean(scores: Floats) -> float:
    found = scores[scores > -np.inf]
    return float(found.mean()) if len(found) else 0.0
