"""What the dual memory is compared with: class means, a linear probe, Tip-Adapter and TDA.

Tip-Adapter and TDA are written from their papers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recollect.heads.dual_memory.negative import BETA, LENGTH, POSSIBLE, UNSURE, unsureness
from recollect.readout.attention import SCALE, entropy, softmax
from recollect.types import Codes, Doubles, Floats

TIP_ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
TIP_BETAS = (0.5, 1.0, 2.0, 5.5, 10.0, 20.0)
PROBE_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
PROBE_STEPS = 2000
PROBE_MANY = 400
"""Of more shots than this one fold is left out, not each in turn: it holds a hundred at least."""


def class_means(keys: Floats, codes: Codes, classes: int) -> Floats:
    """Return the mean of each class's rows, of length 1; zeros for a class without rows.

    Example:
        >>> class_means(np.eye(2, dtype=np.float32), np.array([0, 1]), 2).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    means = np.zeros((classes, keys.shape[1]))
    np.add.at(means, codes, keys)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(means / np.where(length > 0, length, 1.0), np.float32)


@dataclass(frozen=True, slots=True)
class Probed:
    """What a linear probe answers.

    Attributes:
        codes: int64 ``(queries,)``: the answers.
        strength: scikit-learn's C: the inverse of the regularization.
        converged: True if the solver came to an end.
    """

    codes: Codes
    strength: float
    converged: bool


def linear_probe(keys: Floats, codes: Codes, queries: Floats, folds: Codes) -> Probed:
    """Fit a multinomial logistic regression on the shots, to the end, and ask it.

    The regularization is chosen on shots that are left out, a fold of every class at a time (one
    fold alone if there are many); of equally good ones the strongest; 10 where nothing can be.
    All in float64: in float32 the solver's line search fails at a hundred classes, and the answers
    are those of chance.

    Args:
        keys: ``(shots, dim)``, of length 1.
        codes: Their classes, at least two different ones.
        queries: ``(queries, dim)``.
        folds: int64 ``(shots,)``: which fold each is in.

    Example:
        >>> east, north = np.eye(2, dtype=np.float32)
        >>> probe = linear_probe(
        ...     np.stack([east, north]), np.array([4, 7]), east[None], np.zeros(2, int)
        ... )
        >>> probe.codes.tolist(), probe.strength, probe.converged
        ([4], 10.0, True)
    """
    rows, asked = np.asarray(keys, np.float64), np.asarray(queries, np.float64)
    best, chosen, parts = -1, 10.0, np.unique(folds)
    for strength in PROBE_STRENGTHS if len(parts) > 1 else ():
        right = 0
        for fold in parts[:1] if len(rows) > PROBE_MANY else parts:
            out = folds == fold
            found, _ = _probe(rows[~out], codes[~out], strength, rows[out])
            right += int((found == codes[out]).sum())
        if right > best:
            best, chosen = right, strength
    found, converged = _probe(rows, codes, chosen, asked)
    return Probed(found, chosen, converged)


def _probe(keys: Doubles, codes: Codes, strength: float, asked: Doubles) -> tuple[Codes, bool]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # A solution regularized by its length lies among the rows: fewer numbers, the same answers.
    axes = np.linalg.svd(keys, full_matrices=False)[2] if len(keys) < keys.shape[1] else None
    if axes is not None:
        keys, asked = keys @ axes.T, asked @ axes.T
    probe = LogisticRegression(C=strength, max_iter=PROBE_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is told in the result
        # One shot a class: there are as many classes as rows.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        probe.fit(keys, codes)
    return np.asarray(probe.predict(asked), np.int64), int(probe.n_iter_.max()) < PROBE_STEPS


def tip_adapter(
    text: Floats, keys: Floats, codes: Codes, queries: Floats, *, alpha: float, beta: float
) -> Doubles:
    """Logits of Tip-Adapter (Zhang et al., ECCV 2022, eq. 6), ``(queries, classes)``.

    100 <x, T> plus alpha times the sum of exp(-beta (1 - <x, key>)) over the shots of a class.

    Example:
        >>> east = np.array([[1.0, 0.0]], np.float32)
        >>> tip_adapter(east, east, np.array([0]), east, alpha=2.0, beta=1.0).tolist()
        [[102.0]]
    """
    near = np.exp(-beta * (1.0 - queries.astype(np.float64) @ keys.T))
    votes = near @ np.eye(len(text))[codes]
    return np.asarray(SCALE * queries.astype(np.float64) @ text.T + alpha * votes)


def choose_tip(text: Floats, keys: Floats, codes: Codes, folds: Codes) -> tuple[float, float]:
    """Choose alpha and beta on shots that are left out, a fold of every class at a time.

    Args:
        text: ``(classes, dim)``.
        keys: ``(shots, dim)``.
        codes: Their classes.
        folds: int64 ``(shots,)``: which fold each is in; one fold alone gives 1 and 5.5.
    """
    numbers = np.unique(folds)
    if len(numbers) < 2:
        return 1.0, 5.5
    best, chosen = -1, (1.0, 5.5)
    for alpha in TIP_ALPHAS:
        for beta in TIP_BETAS:
            right = 0
            for fold in numbers:
                out = folds == fold
                logits = tip_adapter(
                    text, keys[~out], codes[~out], keys[out], alpha=alpha, beta=beta
                )
                right += int((logits.argmax(axis=1) == codes[out]).sum())
            if right > best:
                best, chosen = right, (alpha, beta)
    return chosen


@dataclass(frozen=True, slots=True)
class Cache:
    """Settings of one cache of TDA: those of its ImageNet configuration.

    Attributes:
        capacity: Items of each class.
        alpha: Factor of its logits.
        beta: Sharpness.
    """

    capacity: int
    alpha: float
    beta: float


POSITIVE, NEGATIVE = Cache(3, 2.0, 5.0), Cache(LENGTH, 0.117, BETA)


def tda(
    text: Floats,
    stream: Floats,
    *,
    positive: Cache = POSITIVE,
    negative: Cache | None = NEGATIVE,
) -> Doubles:
    """Logits of TDA (Karmanov et al., CVPR 2024) over a stream, ``(pictures, classes)``.

    Each picture enters the positive cache of its pseudo label if it is among the surest, and the
    negative cache if its entropy (in nats, divided by log2(classes) as in the released code) lies
    between 0.2 and 0.5; then both caches are read: the positive one votes for the pseudo labels,
    the negative one against every class that had a probability between 0.03 and 1.

    Example:
        >>> east = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
        >>> tda(east, east[:1], negative=None).tolist()
        [[102.0, 0.0]]
    """
    classes = len(text)
    base = SCALE * stream.astype(np.float64) @ text.T
    probability = softmax(base)
    unsure = entropy(probability, 1e-12)
    share = unsureness(unsure, classes)
    codes = base.argmax(axis=1)
    held: list[dict[int, list[int]]] = [{}, {}]
    logits, labels = np.empty_like(base), np.eye(classes)[codes]
    masks = ((probability > POSSIBLE[0]) & (probability < POSSIBLE[1])).astype(np.float64)
    for place, x in enumerate(stream):
        code = int(codes[place])
        _enter(held[0].setdefault(code, []), place, unsure, positive.capacity)
        logits[place] = base[place] + _votes(held[0], stream, x, labels, positive)
        if negative is None:
            continue
        if UNSURE[0] < share[place] < UNSURE[1]:
            _enter(held[1].setdefault(code, []), place, unsure, negative.capacity)
        logits[place] -= _votes(held[1], stream, x, masks, negative)
    return logits


def _enter(items: list[int], place: int, unsure: Doubles, capacity: int) -> None:
    """Take an item in if there is room or it is surer than the least sure one."""
    if len(items) < capacity:
        items.append(place)
    elif unsure[place] < unsure[items[-1]]:
        items[-1] = place
    items.sort(key=lambda each: float(unsure[each]))


def _votes(
    held: dict[int, list[int]], stream: Floats, x: Floats, values: Doubles, cache: Cache
) -> Doubles:
    places: Sequence[int] = [place for items in held.values() for place in items]
    if not places:
        return np.zeros(values.shape[1])
    near = stream[places].astype(np.float64) @ x
    return np.asarray(cache.alpha * np.exp(-cache.beta * (1.0 - near)) @ values[places])
