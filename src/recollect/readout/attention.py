"""Slots of a class -> one vector a class -> a score: the attention of dual memory networks.

After Zhang et al., "Dual Memory Networks: A Versatile Adaptation Approach for Vision-Language
Models" (CVPR 2024, arXiv 2403.17589), section 3.2, and the released code. With a query q, keys K
and values W of length 1, and slots l of class c:

    weight     a[c, l] = exp(-beta (1 - <q, K[c, l]>))
    class      A[c]    = U(sum_l a[c, l] W[c, l]),  then U(A[c] + b_o[c]) with an output offset
    score      <A[c], x>,  times 100 the logit of a softmax

A[c] itself is never formed: its length follows from the products of the class's slots with each
other (`gram`), which are computed once for a memory instead of once for a query.

**The same bits in any batch.** A matrix product adds in an order that depends on its shape. Here
vectors of length 1 are rounded to multiples of 2^-24, so that every product is a multiple of 2^-48
and every sum of them, in whatever order, fits into a float64 without rounding: the order cannot
matter. The weights are rounded to multiples of 2^-23 of the nearest slot's, the Gram matrix to
2^-24, and products of both are added 63 at a time, for the same reason. The rounding costs about
1e-7 of a score. What is left are sums over the slots of a class, which are added one after the
other: empty slots behind the last one that is filled, of which there are more where another class
holds more, then change nothing.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.types import Codes, Doubles, Floats, Mask

Position: TypeAlias = Literal["none", "query", "key", "value", "qkv", "output", "all"]
POSITIONS: tuple[Position, ...] = get_args(Position)

SCALE = 100.0
"""What CLIP multiplies a cosine with before the softmax."""

_GRID = np.float64(2.0**24)
_HALF = np.float64(2.0**12)
_EXACT = 63  # 23 + 24 bits of a product, and 6 more for this many terms, are a float64's 53
_ROWS = 2048  # slots turned into float64 at once: 8 MiB at 512 numbers each


def unit(vectors: ArrayLike) -> Floats:
    """Scale vectors to length 1, each number rounded to a multiple of 2^-24.

    Args:
        vectors: ``(..., dim)``, finite.

    Returns:
        float32 ``(..., dim)``; a vector of zeros stays one.

    Example:
        >>> unit([[3.0, 4.0], [0.0, 0.0]]).round(4).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    given = np.ascontiguousarray(vectors, np.float64)
    length = np.sqrt(np.add.reduce(given * given, axis=-1, keepdims=True))
    scaled = np.divide(given, length, out=np.zeros_like(given), where=length > 0)
    return (np.rint(scaled * _GRID) / _GRID).astype(np.float32)


def cosines(queries: Floats, rows: Floats) -> Doubles:
    """Multiply vectors made by :func:`unit`; every product is exact, so no order of sums matters.

    Args:
        queries: float32 ``(queries, dim)``.
        rows: float32 ``(rows, dim)``.

    Returns:
        float64 ``(queries, rows)``.

    Example:
        >>> cosines(unit([[1.0, 0.0]]), unit([[2.0, 0.0], [0.0, 1.0]])).tolist()
        [[1.0, 0.0]]
    """
    wide = queries.astype(np.float64)
    found = np.empty((len(queries), len(rows)))
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        np.matmul(wide, rows[part].astype(np.float64).T, out=found[:, part])
    return found


def mapped(vectors: Floats | Doubles, matrix: Doubles) -> Doubles:
    """Multiply vectors made by :func:`unit` with a matrix; no order of sums matters.

    The matrix is rounded to 2^-24 of its largest entry, and the vectors are taken in two halves of
    12 bits, so that every product and every sum of up to 2^15 of them is exact.

    Args:
        vectors: ``(..., dim)``, made by :func:`unit`.
        matrix: float64 ``(dim, others)``.

    Returns:
        float64 ``(..., others)``.

    Example:
        >>> mapped(unit([[1.0, 0.0]]), np.array([[0.5, 2.0], [0.0, 1.0]])).tolist()
        [[0.5, 2.0]]
    """
    grid = _GRID * np.exp2(-np.ceil(np.log2(max(float(np.abs(matrix).max(initial=0.0)), 1e-290))))
    rounded = np.rint(matrix * grid) / grid
    given = np.asarray(vectors, np.float64)
    upper = np.rint(given * _HALF) / _HALF
    return np.asarray(upper @ rounded + (given - upper) @ rounded)


def gram(values: Floats) -> Floats:
    """Multiply the slots of each class with each other.

    Args:
        values: float32 ``(classes, slots, dim)``, made by :func:`unit`.

    Returns:
        float32 ``(classes, slots, slots)``, rounded to multiples of 2^-24.
    """
    wide = values.astype(np.float64)
    return on_grid(wide @ wide.swapaxes(-1, -2))


def on_grid(products: Doubles) -> Floats:
    """Round products of unit vectors to multiples of 2^-24, in float32."""
    return (np.rint(products * _GRID) / _GRID).astype(np.float32)


def attention(
    similarity: NDArray[np.floating],
    toward: NDArray[np.floating],
    among: Floats,
    filled: Mask,
    *,
    beta: float,
    trust: Floats | None = None,
    output: tuple[Doubles, Doubles, Doubles] | None = None,
) -> Doubles:
    """Read the slots of some classes for some queries.

    Args:
        similarity: ``(classes, queries, slots)``: cosine of query and key.
        toward: The same shape: cosine of the picture's own vector and value. The same array where
            there are no offsets.
        among: float32 ``(classes, slots, slots)``, from :func:`gram` of the values.
        filled: bool ``(classes, slots)``, or with ``queries`` as the second axis.
        beta: Sharpness, at least 0: 0 reads the mean of the slots, infinity the nearest alone.
        trust: float32 ``(classes, slots)`` in [0, 1]: factor of each slot's weight; None is 1.
        output: With an output offset b: <W, b> ``(classes, slots)``, <b, b> ``(classes,)``, and
            <b, x> ``(classes, queries)``.

    Returns:
        float64 ``(classes, queries)``: <A[c], x>, a cosine; 0 for a class without slots.

    Example:
        >>> slots = unit([[[1.0, 0.0], [0.0, 1.0]]])
        >>> near = cosines(unit([[1.0, 0.0]]), slots[0])[None]
        >>> attention(near, near, gram(slots), np.ones((1, 2), bool), beta=0.0).round(4).tolist()
        [[0.7071]]
    """
    weights = slot_weights(similarity, filled, beta=beta, trust=trust)
    upward = _in_order(weights * toward)
    length = np.sqrt(np.maximum(_in_order(_through(weights, among) * weights), 0.0))
    score = np.divide(upward, length, out=np.zeros_like(upward), where=length > 0)
    if output is None:
        return np.asarray(score)
    slots_toward, size, own = output
    along = _in_order(weights * slots_toward[:, None, :])
    along = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    longer = np.sqrt(np.maximum((length > 0) + 2.0 * along + size[:, None], 0.0))
    return np.asarray(np.divide(score + own, longer, out=np.zeros_like(score), where=longer > 0))


def slot_weights(
    similarity: NDArray[np.floating],
    filled: Mask,
    *,
    beta: float,
    trust: Floats | None = None,
) -> Doubles:
    """Weigh slots by how near their keys are: exp(-beta (1 - cosine)), the nearest of a class 1.

    A class's own factor cancels where its vector is scaled to length 1, so it is taken out.

    Args:
        similarity: ``(classes, queries, slots)``.
        filled: bool ``(classes, slots)``, or with ``queries`` as the second axis.
        beta: At least 0, or infinity.
        trust: float32 ``(classes, slots)``, or None.

    Returns:
        float64 ``(classes, queries, slots)``, multiples of 2^-23; 0 where empty.
    """
    near = np.ascontiguousarray(similarity, np.float32)
    there = filled if filled.ndim == 3 else filled[:, None, :]
    everywhere = bool(there.all())
    if not everywhere:
        near = np.where(there, near, np.float32(-np.inf))
    top = np.max(near, axis=-1, keepdims=True, initial=np.float32(-np.inf))
    if everywhere:
        weights = _fall(near - top, beta)
    else:
        weights = _fall(np.where(there, near - np.where(np.isinf(top), 0, top), 0), beta)
        weights *= there
    if trust is not None:
        weights *= trust[:, None, :]
    weights += np.float32(1.0)  # leaves 23 bits behind the point
    weights -= np.float32(1.0)
    return weights.astype(np.float64)


def softmax(logits: Doubles) -> Doubles:
    """Turn logits ``(queries, classes)`` into probabilities; each row by itself.

    Example:
        >>> softmax(np.array([[0.0, 0.0]])).tolist()
        [[0.5, 0.5]]
    """
    risen = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(risen / np.add.reduce(risen, axis=-1, keepdims=True))


def entropy(probability: NDArray[np.floating], floor: float) -> Doubles:
    """Entropy of each row, -sum p log(p + floor); the floors are those of the released code.

    Example:
        >>> entropy(np.array([[0.5, 0.5]]), 1e-8).round(4).tolist()
        [0.6931]
    """
    given = np.ascontiguousarray(probability, np.float64)
    return np.asarray(-np.add.reduce(given * np.log(given + floor), axis=-1))


def select_views(probability: ArrayLike, fraction: float) -> tuple[Codes, Doubles]:
    """Keep the views of a picture that are surest of their answer (section 3.3 of the paper).

    Args:
        probability: ``(views, classes)``.
        fraction: Share of the views to keep, rounded down, but never fewer than one.

    Returns:
        Indices of the views kept, int64, surest first (of equal ones the earlier), and their mean
        probability, float64 ``(classes,)``.

    Example:
        >>> kept, mean = select_views([[0.5, 0.5], [0.9, 0.1]], 0.1)
        >>> kept.tolist(), mean.tolist()
        ([1], [0.9, 0.1])
    """
    given = np.asarray(probability, np.float64)
    # 0.3 * 10 is 3, whatever binary fractions say.
    count = max(1, min(len(given), int(len(given) * fraction + 1e-9)))
    kept = np.argsort(entropy(given, 1e-6), kind="stable")[:count]
    return kept, np.add.reduce(given[kept], axis=0) / count


def telling_channels(text: ArrayLike, count: int, *, balance: float) -> Codes:
    """Choose the channels in which classes differ most, as in APE (Zhu et al., ICCV 2023).

    The criterion is -balance * (mean product over pairs of different classes) + (1 - balance) *
    (variance over classes), of vectors of length 1.

    Args:
        text: ``(classes, dim)``, at least two classes: one vector for each.
        count: How many channels.
        balance: lambda, in [0, 1].

    Returns:
        int64 ``(count,)``: channels, best first.

    Example:
        >>> telling_channels([[1.0, 0.0], [1.0, 0.3]], 1, balance=0.7).tolist()
        [1]
    """
    given = np.asarray(text, np.float64)
    length = np.sqrt(np.add.reduce(given * given, axis=1, keepdims=True))
    given = np.divide(given, length, out=np.zeros_like(given), where=length > 0)
    classes = len(given)
    pairs = given.sum(axis=0) ** 2 - (given**2).sum(axis=0)
    likeness = pairs / (classes * (classes - 1))
    merit = (1.0 - balance) * given.var(axis=0, ddof=1) - balance * likeness
    return np.argsort(-merit, kind="stable")[:count].astype(np.int64)


def _fall(behind: NDArray[np.float32], beta: float) -> NDArray[np.float32]:
    if beta > float(np.finfo(np.float32).max):
        return (behind >= 0).astype(np.float32)
    return np.asarray(np.exp(np.float32(beta) * behind), np.float32)


def _in_order(terms: Doubles) -> Doubles:
    """Add over the slots, one after the other; `np.add.reduce` would group them by their number.

    Example:
        >>> _in_order(np.array([[0.5, 0.25, 0.0]])).tolist()
        [0.75]
    """
    if not terms.shape[-1]:
        return np.zeros(terms.shape[:-1])
    return np.asarray(np.add.accumulate(terms, axis=-1, out=terms)[..., -1])


def _through(weights: Doubles, among: Floats) -> Doubles:
    """Weights times the Gram matrix, exact within 63 slots at a time, which are added in order."""
    slots = weights.shape[-1]
    total = weights[..., :_EXACT] @ among[..., :_EXACT, :].astype(np.float64)
    for start in range(_EXACT, slots, _EXACT):
        part = slice(start, start + _EXACT)
        total += weights[..., part] @ among[..., part, :].astype(np.float64)
    return np.asarray(total)
