"""What the base and each row added to an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.residual_memory.estimator import Found
from recollect.heads.residual_memory.recalled import Residuals
from recollect.memory.memory import Memory
from recollect.types import Codes, Doubles, Evidence, Explanation, Mask

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Behind:
    """The rows behind a batch of answers.

    Attributes:
        near: Neighbors of the queries that asked the memory.
        shares: Their shares.
        table: What each row adds.
        codes: int64 ``(rows,)``: true class of each row of ``near.rows``; None for numbers.
        memory: Where sources and metadata are.
    """

    near: Found
    shares: Doubles
    table: Residuals
    codes: Codes | None
    memory: Memory


def explain_scores(
    base: Doubles,
    classes: NDArray[Any],
    behind: Behind | None = None,
    wanted: Mask | None = None,
) -> list[Explanation]:
    """Explain the largest score of each query.

    Args:
        base: float64 ``(queries, classes)``: what the base gives each class.
        classes: Labels of the columns.
        behind: The rows of those that asked the memory; None if nobody did.
        wanted: bool ``(queries,)``: who asked the memory.

    Returns:
        One explanation a query; base and contributions, added in order, are the score.
    """
    labels = classes.tolist()
    explained, asked = [], 0
    for query in range(len(base)):
        scores = base[query].copy()
        evidence: tuple[Evidence, ...] = ()
        if behind is not None and wanted is not None and wanted[query]:
            one = slice(asked, asked + 1)
            behind.table.add(scores[None], behind.shares[one], behind.near.places[one])
            best = int(scores.argmax())
            evidence = _evidence(behind, asked, best, labels)
            asked += 1
        best = int(scores.argmax())
        top = np.argsort(-scores, kind="stable")[:SHOWN]
        explained.append(
            Explanation(
                prediction=labels[best],
                score=float(scores[best]),
                shares={labels[at]: float(scores[at]) for at in top.tolist()},
                evidence=evidence,
                minimal=False,
                base=float(base[query, best]),
            )
        )
    return explained


def explain_numbers(base: Doubles, behind: Behind | None, *, single: bool) -> list[Explanation]:
    """Explain numbers: base and contributions, added in order, are the prediction.

    Args:
        base: float64 ``(queries, width)``: what the base says.
        behind: The rows; None where the memory is turned off.
        single: True if the prediction is one number, not a vector.
    """
    explained = []
    for query in range(len(base)):
        answer = base[query].copy()
        evidence: tuple[Evidence, ...] = ()
        if behind is not None:
            one = slice(query, query + 1)
            behind.table.add(answer[None], behind.shares[one], behind.near.places[one])
            evidence = _evidence(behind, query, None if not single else 0, None)
        predicted = float(answer[0]) if single else answer
        explained.append(
            Explanation(
                prediction=predicted,
                score=predicted,
                shares={},
                evidence=evidence,
                minimal=False,
                base=float(base[query, 0]) if single else base[query].copy(),
            )
        )
    return explained


def _evidence(
    behind: Behind, query: int, column: int | None, labels: list[Any] | None
) -> tuple[Evidence, ...]:
    near, found = behind.near, behind.near.ids[query] >= 0
    ids = near.ids[query][found]
    rows = behind.memory.rows(ids)
    told = []
    for rank, row in enumerate(ids.tolist()):
        place, share = int(near.places[query, rank]), float(behind.shares[query, rank])
        parts = behind.table.parts[place] if column is None else None
        told.append(
            Evidence(
                id=row,
                value=rows.values[rank]
                if labels is None or behind.codes is None
                else labels[behind.codes[place]],
                similarity=float(near.similarity[query, rank]),
                weight=float(near.own[query, rank]),
                contribution=parts * share
                if parts is not None
                else behind.table.contribution(place, int(column or 0)) * share,
                source=rows.sources[rank],
                metadata={name: cells[rank] for name, cells in rows.metadata.items()},
            )
        )
    return tuple(told)
