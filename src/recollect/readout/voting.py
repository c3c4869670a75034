"""Neighbors -> labels: four vote rules, one tie rule, every k from one pass.

The rules are those of Geirhos et al., "Towards flexible perception with visual memory" (ICML
2025), section 2.3 and appendix B. With 0-based rank r, distance d and row weight g:

| rule        | weight of a neighbor       | parameter                 |
|-------------|----------------------------|---------------------------|
| `plurality` | g                          |                           |
| `distance`  | g * exp(-sharpness * d)    | sharpness (xi) >= 0       |
| `softmax`   | g * exp((1 - d) / tau)     | temperature (tau) > 0     |
| `rank`      | g / (alpha + r)            | alpha >= 0.1              |

`distance` and `softmax` are scaled per query so that the nearest voting row weighs g: the shares
and the answer stay as they are, and no exponent overflows or loses every row to underflow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from recollect.errors import InvalidParameter
from recollect.types import Codes, Doubles, Floats, Mask, Metric, Neighbors

Rule: TypeAlias = Literal["plurality", "distance", "softmax", "rank"]
RULES: tuple[Rule, ...] = get_args(Rule)

LEAST_ALPHA = 0.1
# Up to this many queries a plain loop over the neighbors beats a round of array calls per rank.
_FEW = 24
# Cells of running totals held at once (32 MiB), whatever the number of queries and classes.
_CELLS = 2**22


@dataclass(frozen=True, slots=True)
class VoteRule:
    """How much each neighbor's vote weighs. Checked when made.

    Args:
        name: ``"plurality"``, ``"distance"``, ``"softmax"`` or ``"rank"``.
        alpha: Of ``"rank"``; at least ``least_alpha``. Larger is flatter. The paper's default is 2.
        temperature: Of ``"softmax"``; above 0. Smaller is sharper. The paper's default is 0.07.
        sharpness: Of ``"distance"``; at least 0, which equals plurality. The paper's default is 1.
        least_alpha: The smallest alpha allowed; 0.1 in the reference.

    Raises:
        InvalidParameter: An option lies outside its range.

    Example:
        >>> VoteRule("rank", alpha=2.0).name
        'rank'
    """

    name: Rule = "rank"
    alpha: float = 2.0
    temperature: float = 0.07
    sharpness: float = 1.0
    least_alpha: float = LEAST_ALPHA

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name in RULES):
            raise InvalidParameter(
                "unknown vote rule",
                expected=f"one of {', '.join(RULES)}",
                got=repr(self.name),
                remedy="`rank` is the default and the paper's best rule.",
            )
        _check_number("alpha", self.alpha, at_least=self.least_alpha)
        _check_number("temperature", self.temperature, above=0.0)
        _check_number("sharpness", self.sharpness, at_least=0.0)


def distances(similarity: Floats, metric: Metric) -> Doubles:
    """Turn similarity into distance, 0 or more.

    Args:
        similarity: ``(queries, k)``, nearest first, ``-inf`` where empty.
        metric: ``"cosine"`` gives 1 - similarity in [0, 2], rounding below 0 cut off;
            ``"euclidean"`` and ``"manhattan"`` give the distance itself; ``"dot"``, which has no
            zero of its own, gives how far a row lies behind the query's nearest row.

    Returns:
        float64 ``(queries, k)``; ``inf`` where empty.

    Example:
        >>> distances(np.array([[0.75, 0.5]], np.float32), "cosine")
        array([[0.25, 0.5 ]])
        >>> distances(np.array([[7.0, 4.0]], np.float32), "dot")
        array([[0., 3.]])
    """
    near = similarity.astype(np.float64)
    if metric == "cosine":
        return np.maximum(1.0 - near, 0.0)
    if metric == "dot":
        first = near[:, :1]
        return np.where(np.isneginf(near), np.inf, np.where(np.isneginf(first), 0.0, first) - near)
    return np.maximum(-near, 0.0)


def weigh(near: Neighbors, rule: VoteRule, metric: Metric) -> Doubles:
    """Weigh the vote of every neighbor under one rule.

    Empty places weigh 0 and take no rank. A row of weight 0 keeps its rank and votes nothing;
    where all votes of a query are 0, its nearest row votes alone.

    Args:
        near: Neighbors of ``queries`` queries, ``k`` each, nearest first.
        rule: The rule and its parameters.
        metric: What the similarity means.

    Returns:
        float64 ``(queries, k)``, non-negative and finite, C-contiguous. The weights of the first
        j neighbors do not depend on the others, nor those of a query on the rest of the batch.

    Example:
        >>> near = Neighbors(
        ...     ids=np.array([[7, 3, -1]]),
        ...     similarity=np.array([[0.9, 0.8, -np.inf]], np.float32),
        ...     values=np.array([[1, 0, -1]]),
        ...     weights=np.array([[1.0, 1.0, 0.0]]),
        ... )
        >>> weigh(near, VoteRule("rank", alpha=1.0), "cosine")
        array([[1. , 0.5, 0. ]])
    """
    found = near.found
    full = bool(found.all())
    rows = near.weights if full else np.where(found, near.weights, 0.0)
    votes = _rule_weights(near, rows, rule, metric, found=None if full else found) * rows
    return _repaired(votes, found)


def vote_all_k(codes: Codes, weights: Doubles) -> Codes:
    """Decide the vote for every neighborhood size 1..k in one pass.

    The tie rule is the reference's: walk the neighbors from the nearest; add each weight to the
    running total of its label, in float64; a label takes the lead only if its new total is
    strictly greater than the best total so far. So of tied labels the first to reach the winning
    total wins. Totals are summed in rank order, hence the same bits alone or in any batch, for
    any number or order of classes.

    Args:
        codes: int64 ``(queries, k)``, nearest first; ``-1`` where empty.
        weights: float64 ``(queries, k)``, non-negative; 0 where empty.

    Returns:
        int64 ``(queries, k)``: column j is the winner among the first j + 1 neighbors; ``-1``
        while none was found.

    Example:
        >>> vote_all_k(np.array([[1, 2, 2, 1]]), np.ones((1, 4)))
        array([[1, 1, 2, 2]])
    """
    if len(codes) <= _FEW:
        walked = [_walk(*pair) for pair in zip(codes.tolist(), weights.tolist(), strict=True)]
        return np.array(walked, np.int64).reshape(codes.shape)
    classes = int(codes.max()) + 1
    block = max(1, _CELLS // (classes + 1))
    winners = np.empty_like(codes)
    for start in range(0, len(codes), block):
        part = slice(start, start + block)
        winners[part] = _walk_together(codes[part], weights[part], classes)
    return winners


def vote(codes: Codes, weights: Doubles) -> Codes:
    """Decide the vote among all k neighbors; the last column of ``vote_all_k``.

    Example:
        >>> vote(np.array([[1, 2, 2, 1]]), np.ones((1, 4)))
        array([2])
    """
    if len(codes) <= _FEW:
        pairs = zip(codes.tolist(), weights.tolist(), strict=True)
        return np.array([_walk(*pair)[-1] for pair in pairs], np.int64)
    return vote_all_k(codes, weights)[:, -1]


def vote_shares(weights: Doubles) -> Doubles:
    """Divide each weight by the sum of its query's weights, added in rank order.

    Args:
        weights: float64 ``(queries, k)``, non-negative, finite.

    Returns:
        float64 ``(queries, k)``. A row sums to 1, or to 0 if the query found nothing.

    Example:
        >>> vote_shares(np.array([[3.0, 1.0]]))
        array([[0.75, 0.25]])
    """
    total = np.cumsum(weights, axis=1)[:, -1:]
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def label_shares(codes: Codes, shares: Doubles, n_classes: int) -> Doubles:
    """Add the shares of each query's neighbors to their labels, in rank order.

    Args:
        codes: int64 ``(queries, k)`` in ``[0, n_classes)``; ``-1`` where empty.
        shares: float64 ``(queries, k)``, as ``vote_shares`` gives them.
        n_classes: Number of columns of the result.

    Returns:
        float64 ``(queries, n_classes)``.

    Example:
        >>> label_shares(np.array([[1, 0, 1]]), np.array([[0.5, 0.25, 0.25]]), n_classes=2)
        array([[0.25, 0.75]])
    """
    queries = len(codes)
    cells = codes + (np.arange(queries) * n_classes)[:, None]
    found = codes >= 0
    # bincount adds one entry after another, so each cell is summed in rank order.
    flat = np.bincount(cells[found], weights=shares[found], minlength=queries * n_classes)
    return np.asarray(flat.reshape(queries, n_classes), np.float64)


def _rule_weights(
    near: Neighbors, rows: Doubles, rule: VoteRule, metric: Metric, *, found: Mask | None
) -> Doubles:
    k = near.ids.shape[1]
    if rule.name == "plurality":
        return np.ones((1, k))
    if rule.name == "rank":
        if found is None:
            return 1.0 / (rule.alpha + np.arange(k, dtype=np.float64))[None, :]
        return np.asarray(1.0 / (rule.alpha + np.maximum(np.cumsum(found, axis=1) - 1, 0)))
    distance = distances(near.similarity, metric)
    # Measured from the nearest row that votes at all: it weighs 1 whatever the scale.
    first = np.min(np.where(rows > 0, distance, np.inf), axis=1, keepdims=True)
    ahead = np.where(np.isfinite(first), first, 0.0)
    behind = np.where(np.isfinite(distance), np.maximum(distance - ahead, 0.0), 0.0)
    with np.errstate(over="ignore"):  # infinitely far behind weighs 0, as it should
        scaled = rule.sharpness * behind if rule.name == "distance" else behind / rule.temperature
    return np.exp(-scaled)


def _repaired(votes: Doubles, found: Mask) -> Doubles:
    with np.errstate(over="ignore"):
        total = np.add.reduce(votes, axis=1)
    if np.all((total > 0) & (total < np.inf)):
        return votes
    silent = (total == 0) & found.any(axis=1)
    if silent.any():
        votes[silent, np.argmax(found[silent], axis=1)] = 1.0
    # A power of two changes no ratio; without it huge row weights would add up to infinity.
    huge = np.isinf(total)
    votes[huge] = np.ldexp(votes[huge], -64)
    return votes


def _walk(codes: list[int], weights: list[float]) -> list[int]:
    totals: dict[int, float] = {}
    winners, leader, best = [], -1, 0.0
    for code, weight in zip(codes, weights, strict=True):
        if code >= 0:
            total = totals[code] = totals.get(code, 0.0) + weight
            if total > best or leader < 0:
                leader, best = code, total
        winners.append(leader)
    return winners


def _walk_together(codes: Codes, weights: Doubles, classes: int) -> Codes:
    queries, k = codes.shape
    # One cell per query and class, and one more that takes the empty places.
    cells = np.where(codes < 0, classes, codes) + (np.arange(queries) * (classes + 1))[:, None]
    by_rank, code_at, weight_at = (np.ascontiguousarray(a.T) for a in (cells, codes, weights))
    totals = np.zeros(queries * (classes + 1))
    best, leader = np.zeros(queries), np.full(queries, -1, np.int64)
    winners = np.empty((k, queries), np.int64)
    for rank in range(k):
        total = totals.take(by_rank[rank])
        total += weight_at[rank]
        totals[by_rank[rank]] = total
        leads = total > best
        leads |= leader < 0
        np.copyto(best, total, where=leads)
        np.copyto(leader, code_at[rank], where=leads)
        winners[rank] = leader
    return winners.T


def check_k(k: object) -> int:
    """Return a neighborhood size as an int of at least 1.

    Raises:
        InvalidParameter: Another type, or less than 1.
    """
    if isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 1:
        return int(k)
    raise InvalidParameter(
        "k is out of range",
        expected="an integer of at least 1",
        got=repr(k),
        remedy="Ask for one neighbor or more; more than there are is fine.",
    )


def _check_number(
    name: str, value: object, *, at_least: float | None = None, above: float | None = None
) -> None:
    number = (
        float(value)
        if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        else math.nan
    )
    low = at_least if at_least is not None else above
    inside = number >= at_least if at_least is not None else number > (above or 0.0)
    if inside and math.isfinite(number):
        return
    raise InvalidParameter(
        f"{name} is out of range",
        expected=f"a finite number {'>=' if at_least is not None else '>'} {low}",
        got=repr(value),
        remedy=f"Choose another {name}, or leave it at its default.",
    )
