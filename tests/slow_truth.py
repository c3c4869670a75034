"""The nearest rows found the slow way: one pair at a time, in plain Python floats.

Written apart from the library, so that a mistake there does not repeat itself here.
"""

from __future__ import annotations

import math

import numpy as np

LARGEST = 3.4028234663852886e38  # the largest float32


def folded_sum(terms):
    """Halve the list by adding its ends together until eight are left; add those in order."""
    terms = list(terms)
    while len(terms) > 8:
        half = len(terms) // 2
        kept = len(terms) - half
        terms = [a + b for a, b in zip(terms[:half], terms[kept:], strict=True)] + terms[half:kept]
    total = terms[0]
    for term in terms[1:]:
        total += term
    return total


def norm(vector):
    return math.sqrt(folded_sum([x * x for x in vector]))


def similarity(metric, query, row, weights=None):
    """Similarity of two lists of floats, rounded to float32 once."""
    weights = [1.0] * len(row) if weights is None else weights
    if metric == "cosine":
        dot = folded_sum([a * b for a, b in zip(query, row, strict=True)])
        value = min(1.0, max(-1.0, dot / (norm(query) * norm(row))))
    elif metric == "dot":
        value = folded_sum([a * b for a, b in zip(query, row, strict=True)])
    elif metric == "euclidean":
        value = -math.sqrt(folded_sum([(a - b) * (a - b) for a, b in zip(query, row, strict=True)]))
    else:
        terms = [abs(a - b) * w for a, b, w in zip(query, row, weights, strict=True)]
        value = -folded_sum(terms)
    return np.float32(min(LARGEST, max(-LARGEST, value)))


def nearest(rows, queries, k, metric="cosine", *, weights=None, exclude=None):
    """Search a dict of id -> key; returns lists of ids and of similarities, padded."""
    keys = {row: np.asarray(key, np.float32).tolist() for row, key in rows.items()}
    weights = None if weights is None else list(weights)
    ids, similarities = [], []
    for number, query in enumerate(np.asarray(queries, np.float32).tolist()):
        barred = set() if exclude is None else set(exclude[number])
        scored = [
            (-similarity(metric, query, key, weights), row)
            for row, key in keys.items()
            if row not in barred
        ]
        best = sorted(scored)[:k]
        missing = k - len(best)
        ids.append([row for _, row in best] + [-1] * missing)
        similarities.append([-score for score, _ in best] + [-np.inf] * missing)
    return np.array(ids).reshape(-1, k), np.array(similarities, np.float32).reshape(-1, k)
