"""Rows and queries on which a careless search goes wrong."""

from __future__ import annotations

import numpy as np

DIM = 20


def _gauss(rng, n):
    return rng.standard_normal((n, DIM))


def clustered(rng, n):
    return _gauss(rng, 6)[rng.integers(0, 6, n)] + 0.3 * _gauss(rng, n)


def duplicates(rng, n):
    """Five distinct rows: each query ties with many more than k."""
    return _gauss(rng, 5)[rng.integers(0, 5, n)]


def last_bits(rng, n):
    """One row, each copy with some components moved by a unit in the last place."""
    row = np.tile(_gauss(rng, 1).astype(np.float32), (n, 1))
    return np.where(rng.random((n, DIM)) < 0.3, np.nextafter(row, np.float32(np.inf)), row)


def constant(rng, n):
    return np.full((n, DIM), 0.1)


def tiny(rng, n):
    return 1e-30 * _gauss(rng, n)


def huge(rng, n):
    return 1e30 * _gauss(rng, n)


def all_scales(rng, n):
    return _gauss(rng, n) * 10.0 ** rng.uniform(-36, 36, (n, 1))


def outliers(rng, n):
    rows = _gauss(rng, n)
    rows[:: max(2, n // 3)] *= 1e7
    return rows


def integers(rng, n):
    return rng.integers(-1, 2, (n, DIM)) + np.eye(1, DIM) * 3


def collinear(rng, n):
    """Multiples of one row: all cosines are one, all other similarities differ."""
    return _gauss(rng, 1) * rng.integers(1, 9, (n, 1))


def offset(rng, n):
    """Far from the origin, where squares cancel."""
    return 1000.0 + _gauss(rng, n)


def ascending(rng, n):
    """Each row nearer to the queries than the one before."""
    return 1.0 + _gauss(rng, 1) * np.linspace(1, 0.01, n)[:, None]


def sparse(rng, n):
    return np.where(rng.random((n, DIM)) < 0.1, _gauss(rng, n), 0.0) + np.eye(1, DIM, 3)


CASES = {
    case.__name__: case
    for case in (
        clustered,
        duplicates,
        last_bits,
        constant,
        tiny,
        huge,
        all_scales,
        outliers,
        integers,
        collinear,
        offset,
        ascending,
        sparse,
    )
}


def make(name, *, rows, queries, seed=0):
    """Float32 rows and queries: some of the queries are rows."""
    every = CASES[name](np.random.default_rng(seed), rows + queries).astype(np.float32)
    every[rows + queries // 2 :] = every[: queries - queries // 2]
    return every[:rows], every[rows:]
