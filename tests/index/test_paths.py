"""Every way to search gives the slow truth's answer, on thousands of random and hostile cases."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import slow_truth

from recollect.errors import InvalidParameter
from recollect.index import kernel
from recollect.index.exact import ExactIndex
from recollect.index.paths import choose
from recollect.index.scope import Limits

HAS_TORCH = importlib.util.find_spec("torch") is not None
PATHS = (
    "numpy",
    *(f"kernel:{name}" for name in kernel.find("").known),
    *(["torch"] if HAS_TORCH else []),
)
METRICS = ("cosine", "dot", "euclidean", "manhattan")
LIMITS = (
    Limits(cores=2, thread=1),
    Limits(cores=3, room=300, thread=1),
    Limits(cores=1, room=40, batch=2),
)


def clusters(rng, rows, dim):
    return rng.standard_normal((4, dim))[rng.integers(0, 4, rows)] + 0.1 * rng.standard_normal(
        (rows, dim)
    )


def copies(rng, rows, dim):
    return rng.standard_normal((3, dim))[rng.integers(0, 3, rows)]


def nearly_copies(rng, rows, dim):
    row = np.tile(rng.standard_normal(dim).astype(np.float32), (rows, 1))
    return np.where(rng.random((rows, dim)) < 0.2, np.nextafter(row, np.float32(9)), row)


def scales(rng, rows, dim):
    return rng.standard_normal((rows, dim)) * 10.0 ** rng.uniform(-30, 30, (rows, 1))


def outliers(rng, rows, dim):
    return rng.standard_normal((rows, dim)) * np.where(rng.random((rows, 1)) < 0.05, 1e6, 1.0)


def whole(rng, rows, dim):
    return rng.integers(-2, 3, (rows, dim))


def constant(rng, rows, dim):
    return np.full((rows, dim), rng.standard_normal())


def far(rng, rows, dim):
    return 1e4 + rng.standard_normal((rows, dim))


def tiny(rng, rows, dim):
    return 1e-20 * rng.standard_normal((rows, dim))


MAKERS = (clusters, copies, nearly_copies, scales, outliers, whole, constant, far, tiny)


def make_case(seed):
    """Rows, queries and what is asked of them, by the seed alone."""
    rng = np.random.default_rng(seed)
    metric, maker = METRICS[seed % 4], MAKERS[seed % len(MAKERS)]
    rows, dim = int(rng.integers(34, 90)), int(rng.choice([1, 2, 5, 9, 16, 19]))
    every = maker(rng, rows + 3, dim).astype(np.float32)
    every[~every.any(axis=1)] = 1.0  # zero has no cosine
    every[rows + 1] = every[0]
    return {
        "metric": metric,
        "weights": rng.random(dim) if metric == "manhattan" and seed % 3 else None,
        "rows": every[:rows],
        "ids": rng.permutation(1000)[:rows],
        "queries": every[rows:],
        "k": int(rng.integers(1, 9)),
        "removed": rng.choice(rows, int(rng.integers(0, 9)), replace=False),
        "exclude": rng.integers(-1, 1000, (3, 5)),
        "limits": LIMITS[seed % len(LIMITS)],
    }


def answer(case, path):
    rows, ids = case["rows"], case["ids"]
    index = ExactIndex(
        rows.shape[1],
        case["metric"],
        metric_weights=case["weights"],
        block_bytes=4 * rows.shape[1] * 40,
        limits=case["limits"],
        path=path,
    )
    index.add(ids[:50], rows[:50])
    index.search(case["queries"][:1], 1)  # codes are made now, and for the others later
    index.add(ids[50:], rows[50:])
    index.remove(ids[case["removed"]])
    return index.search(case["queries"], case["k"], exclude=case["exclude"])


def truth(case):
    kept = np.setdiff1d(np.arange(len(case["rows"])), case["removed"])
    return slow_truth.nearest(
        dict(zip(case["ids"][kept].tolist(), case["rows"][kept], strict=True)),
        case["queries"],
        case["k"],
        case["metric"],
        weights=case["weights"],
        exclude=case["exclude"].tolist(),
    )


def wrong(seeds):
    """Seed and path of every answer that is not the truth's, to the bit."""
    found = []
    for seed in seeds:
        case = make_case(seed)
        ids, similarity = truth(case)
        for path in PATHS:
            got = answer(case, path)
            if not (np.array_equal(got[0], ids) and np.array_equal(got[1], similarity)):
                found.append((seed, path))
    return found


def test_every_path_finds_what_the_slow_truth_finds():
    """Ids, order and bits; a seed that fails is a case to look at."""
    assert wrong(range(180)) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("thousand", range(10))
def test_every_path_finds_it_ten_thousand_times(thousand):
    """The same, on ten thousand cases."""
    assert wrong(range(1000 * thousand + 180, 1000 * (thousand + 1) + 180)) == []


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_without_a_gpu_asking_for_one_is_refused():
    """Silently searching on the processor would look like a slow GPU."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InvalidParameter, match="GPU"):
        ExactIndex(4, path="cuda")


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_a_gpu_finds_what_numpy_finds():
    """The same logic runs on the processor in the tests above; this runs it where it belongs."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20_000, 96)).astype(np.float32)
    gpu, numpy = ExactIndex(96, path="cuda"), ExactIndex(96, path="numpy")
    gpu.add(np.arange(20_000), rows)
    numpy.add(np.arange(20_000), rows)

    assert np.array_equal(gpu.search(rows[:100], 10)[0], numpy.search(rows[:100], 10)[0])


def test_the_choice_says_why(monkeypatch):
    """`recollect doctor` prints it."""
    monkeypatch.setenv("RECOLLECT_SEARCH", "numpy")

    assert (choose().path, choose().reason) == ("numpy", "it was asked for")
