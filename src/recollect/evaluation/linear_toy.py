"""The stylized linear problem in which ResMem's theory can be seen.

Yang et al., "ResMem" (NeurIPS 2023), as described in their theory section: x uniform in the ball of
radius sqrt(d + 2), y = <theta, x> with a theta of length 1 and no noise; the base is least squares
under a length of at most L < 1; the memory reads the nearest residual. The base's risk tends to
(1 - L)^2; ResMem's risk is (1 - L)^2 times that of plain 1-NN, and both tend to 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recollect.errors import InvalidParameter
from recollect.types import Doubles


@dataclass(frozen=True, slots=True)
class ToyRisks:
    """Mean squared errors on test points, mean over the seeds.

    Attributes:
        rows: Training points.
        base: Of the constrained least squares fit.
        resmem: Of the fit and the nearest residual.
        nearest: Of the nearest point's value.
    """

    rows: int
    base: float
    resmem: float
    nearest: float


def constrained_fit(x: Doubles, y: Doubles, longest: float) -> Doubles:
    """Return the least squares fit among all theta of a length of at most ``longest``.

    Where the unconstrained fit is too long, the one with (A + mu I) theta = b, A = X'X / n and
    b = X'y / n, that has exactly that length; mu is found by bisection.

    Args:
        x: float64 ``(n, d)``.
        y: float64 ``(n,)``.
        longest: Above 0.

    Returns:
        float64 ``(d,)``.

    Example:
        >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> constrained_fit(x, x @ np.array([3.0, 4.0]), longest=1.0).round(6)
        array([0.6, 0.8])
    """
    if not longest > 0:
        raise InvalidParameter("longest is out of range", expected="above 0", got=longest)
    free = np.linalg.lstsq(x, y, rcond=None)[0]
    if np.linalg.norm(free) <= longest:
        return np.asarray(free)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    along = vectors.T @ (x.T @ y / len(x))

    def length(mu: float) -> float:
        """Length of the fit for this mu; it falls as mu grows, as bisection needs."""
        return float(np.linalg.norm(along / (values + mu)))

    low, high = 0.0, 1.0
    while length(high) > longest:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if length(middle) > longest else (low, middle)
    return np.asarray(vectors @ (along / (values + high)))


def ball(rng: np.random.Generator, count: int, width: int) -> Doubles:
    """Draw points uniformly from the ball of radius sqrt(width + 2): identity covariance."""
    directions = rng.standard_normal((count, width))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radius = np.sqrt(width + 2.0) * rng.random((count, 1)) ** (1.0 / width)
    return np.asarray(directions * radius)


def toy_risks(
    width: int, longest: float, rows: int, *, seeds: int = 5, asked: int = 1000
) -> ToyRisks:
    """Measure the three risks.

    Args:
        width: d, the dimension.
        longest: L, in (0, 1).
        rows: Training points.
        seeds: How many draws of everything the risks are averaged over.
        asked: Test points per draw.
    """
    from recollect.heads.residual_memory.regressor import ResidualMemoryRegressor

    errors = np.zeros(3)
    for seed in range(seeds):
        rng = np.random.default_rng((seed, width, rows))
        star = rng.standard_normal(width)
        star /= np.linalg.norm(star)
        x, queries = ball(rng, rows, width), ball(rng, asked, width)
        theta = constrained_fit(x, x @ star, longest)
        head = ResidualMemoryRegressor(lambda x, theta=theta: np.asarray(x) @ theta, k=1, sigma=1.0)
        head.fit(x, x @ star)
        plain = ResidualMemoryRegressor(lambda x: np.zeros(len(x)), k=1, sigma=1.0)
        plain.fit(x, x @ star)
        truth = queries @ star
        answers = (queries @ theta, head.predict(queries), plain.predict(queries))
        errors += [np.mean((answer - truth) ** 2) for answer in answers]
    base, resmem, nearest = (errors / seeds).tolist()
    return ToyRisks(rows, base, resmem, nearest)
