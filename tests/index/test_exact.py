"""The exact index against the slow truth, on rows made to trip it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc

import hard_rows
import numpy as np
import pytest
import slow_truth

from recollect.errors import InvalidParameter, LengthMismatch, NonFinite
from recollect.index import scoring
from recollect.index.exact import ExactIndex
from recollect.index.scope import Limits

METRICS = ["cosine", "dot", "euclidean", "manhattan"]
WEIGHTS = np.linspace(0.0, 3.0, hard_rows.DIM)
# Every loop goes round several times, every budget is overdrawn.
NARROW = Limits(
    batch=5,
    query_numbers=4 * hard_rows.DIM,
    table=128,
    keys=100,
    share=40,
    room=48,
    opened=2,
    window=8,
    cores=2,
)
# Budgets that leave room for a few candidates: some queries are given up and tried again.
TIGHT = Limits(batch=64, table=64 * 32, room=400, opened=3)


def make_index(metric="cosine", *, dim=hard_rows.DIM, limits=None, rows_per_block=1 << 14):
    weights = WEIGHTS if metric == "manhattan" and dim == len(WEIGHTS) else None
    return ExactIndex(
        dim,
        metric,
        metric_weights=weights,
        block_bytes=4 * dim * rows_per_block,
        limits=limits or Limits(),
    )


def assert_same(found, expected):
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


def truth(metric, ids, rows, queries, k, **options):
    weights = WEIGHTS if metric == "manhattan" else None
    table = dict(zip(np.asarray(ids).tolist(), rows, strict=True))
    return slow_truth.nearest(table, queries, k, metric, weights=weights, **options)


@pytest.mark.parametrize("limits", [Limits(), NARROW, TIGHT], ids=["default", "narrow", "tight"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", hard_rows.CASES)
def test_it_finds_what_the_slow_truth_finds(case, metric, limits):
    """Same ids, same bits, on duplicates, last bits, extremes and cancellation."""
    rows, queries = hard_rows.make(case, rows=130, queries=7)
    ids = np.random.default_rng(1).permutation(1000)[:130]
    index = make_index(metric, limits=limits, rows_per_block=50)
    index.add(ids, rows)

    found = index.search(queries, 4)

    assert_same(found, truth(metric, ids, rows, queries, 4))


@pytest.mark.parametrize("limits", [Limits(), NARROW, TIGHT], ids=["default", "narrow", "tight"])
@pytest.mark.parametrize("k", [1, 2, 59, 60, 61, 200])
def test_any_k_gets_the_first_k_of_the_full_order(k, limits):
    """From one to more than there are rows."""
    rows, queries = hard_rows.make("integers", rows=60, queries=3)
    index = make_index(limits=limits)
    index.add(np.arange(60), rows)

    found = index.search(queries, k)

    assert_same(found, truth("cosine", np.arange(60), rows, queries, k))


@pytest.mark.parametrize("limits", [Limits(), NARROW, TIGHT], ids=["default", "narrow", "tight"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", ["clustered", "duplicates", "all_scales"])
@pytest.mark.parametrize("share", [0.1, 0.8])
def test_restrictions_act_as_if_the_other_rows_were_not_there(case, metric, limits, share):
    """Removed, not allowed, excluded: few rows left, or most."""
    rng = np.random.default_rng(7)
    rows, queries = hard_rows.make(case, rows=150, queries=6)
    index = make_index(metric, limits=limits, rows_per_block=40)
    index.attach(np.arange(70), rows[:70])
    index.add(np.arange(70, 150), rows[70:])
    removed = rng.choice(150, 25, replace=False)
    allowed = rng.choice(150, int(150 * share), replace=False)
    exclude = rng.integers(-1, 170, (6, 30))
    index.remove(removed)
    stay = np.setdiff1d(allowed, removed)

    found = index.search(queries, 5, allowed=allowed, exclude=exclude)

    assert_same(found, truth(metric, stay, rows[stay], queries, 5, exclude=exclude.tolist()))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
@pytest.mark.parametrize("limits", [Limits(), NARROW], ids=["default", "narrow"])
def test_attached_rows_of_narrow_types_answer_as_float32(metric, dtype, limits):
    """A memory may keep its keys in half the space."""
    rows = np.random.default_rng(3).integers(1, 50, (120, hard_rows.DIM)).astype(dtype)
    queries = np.random.default_rng(4).random((5, hard_rows.DIM)).astype(np.float32)
    index = make_index(metric, limits=limits)
    index.attach(np.arange(120), rows)

    found = index.search(queries, 6)

    assert_same(found, truth(metric, np.arange(120), rows, queries, 6))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", ["clustered", "duplicates", "outliers"])
def test_one_query_gets_the_bits_it_gets_in_any_batch(metric, case):
    """`predict` on one image and on a folder of them must agree."""
    rows, queries = hard_rows.make(case, rows=2000, queries=257)
    index = make_index(metric)
    index.add(np.arange(2000), rows)
    together = index.search(queries, 10)

    alone = [index.search(queries[i : i + 1], 10) for i in range(257)]
    batches = {size: index.search(queries[:size], 10) for size in (2, 3, 4, 5, 16, 31, 64, 200)}

    assert_same(together, [np.concatenate(part) for part in zip(*alone, strict=True)])
    for size, found in batches.items():
        assert_same(found, (together[0][:size], together[1][:size]))


@pytest.mark.parametrize("metric", METRICS)
def test_a_large_table_agrees_with_scoring_every_pair(metric):
    """Several tiles of the default size; the pairs are scored by the function tested above."""
    rng = np.random.default_rng(5)
    centers = rng.standard_normal((30, 48))
    rows = (centers[rng.integers(0, 30, 6000)] + rng.standard_normal((6000, 48))).astype("f4")
    queries = rows[:400] + np.float32(0.1)
    index = make_index(metric, dim=48, limits=Limits(table=1 << 19))
    index.add(np.arange(6000), rows)
    sizes = {"query_sizes": scoring.measure(queries), "row_sizes": scoring.measure(rows)}
    table = np.concatenate(
        [
            scoring.similarity(
                metric,
                queries[i : i + 1],
                rows,
                query_sizes=sizes["query_sizes"][i : i + 1],
                row_sizes=sizes["row_sizes"],
            )[None]
            for i in range(400)
        ]
    )
    order = np.argsort(-table, axis=1, kind="stable")[:, :20]

    found = index.search(queries, 20)

    assert_same(found, (order, np.take_along_axis(table, order, axis=1)))


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-100, 1e100])
def test_weights_of_any_scale_are_exact(scale):
    """Distances become zero or the largest number, and ties are kept by id."""
    rows, queries = hard_rows.make("clustered", rows=100, queries=5)
    weights = scale * np.linspace(0.0, 1.0, hard_rows.DIM)
    index = ExactIndex(hard_rows.DIM, "manhattan", metric_weights=weights)
    index.add(np.arange(100), rows)
    index.remove(np.array([0]))

    found = index.search(queries, 5)

    table = dict(enumerate(rows[1:], start=1))
    assert_same(found, slow_truth.nearest(table, queries, 5, "manhattan", weights=weights))


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_teaching_does_not_matter(metric):
    """Nor whether rows came one by one, together, copied or attached."""
    rows, queries = hard_rows.make("duplicates", rows=90, queries=5)
    at_once, one_by_one, attached = (make_index(metric, rows_per_block=16) for _ in range(3))
    at_once.add(np.arange(90), rows)
    for row in np.random.default_rng(0).permutation(90):
        one_by_one.add(np.array([row]), rows[row : row + 1])
    attached.attach(np.arange(45, 90), rows[45:])
    attached.attach(np.arange(45), rows[:45])

    expected = at_once.search(queries, 7)

    assert_same(one_by_one.search(queries, 7), expected)
    assert_same(attached.search(queries, 7), expected)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", ["clustered", "outliers", "all_scales"])
def test_removed_rows_leave_no_trace(metric, case):
    """Forgetting equals never having been taught, bit for bit."""
    rows, queries = hard_rows.make(case, rows=120, queries=5)
    forgot, never = make_index(metric, rows_per_block=32), make_index(metric)
    forgot.add(np.arange(120), rows)
    forgot.remove(np.arange(0, 120, 3))
    kept = np.setdiff1d(np.arange(120), np.arange(0, 120, 3))
    never.add(kept, rows[kept])

    assert len(forgot) == len(never)
    assert_same(forgot.search(queries, 100), never.search(queries, 100))
    assert_same(forgot.search(queries, 3), never.search(queries, 3))


def test_a_mapped_read_only_file_can_be_attached(tmp_path):
    """Segments on disk feed the search without being loaded."""
    rows, queries = hard_rows.make("clustered", rows=80, queries=3)
    np.save(tmp_path / "rows.npy", rows)
    index = make_index()
    index.attach(np.arange(80), np.load(tmp_path / "rows.npy", mmap_mode="r"))

    assert_same(index.search(queries, 4), truth("cosine", np.arange(80), rows, queries, 4))


def test_attached_rows_are_not_copied():
    """A million rows would otherwise cost their size again."""
    rows = np.ones((2000, 100), np.float32)
    tracemalloc.start()

    make_index(dim=100).attach(np.arange(2000), rows, norms=np.full(2000, 10.0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < rows.nbytes / 4


@pytest.mark.parametrize(
    "keys",
    [
        np.ones((3, 4), np.float64)[:, :2],
        np.ones((2, 3), np.float32).T,
        np.ones((3, 2), np.float64),
        np.ones((3, 2), ">f4"),
    ],
)
def test_keys_that_would_need_a_copy_cannot_be_attached(keys):
    """A silent copy is what `attach` promises not to make."""
    with pytest.raises(InvalidParameter, match="cannot be attached"):
        make_index(dim=2).attach(np.arange(3), keys)


@pytest.mark.parametrize(
    "keys", [[[1, 0]], np.array([[1, 0]], np.int8), np.array([[1.0, 0.0]], ">f8"), [[True, False]]]
)
def test_any_real_numbers_can_be_added(keys):
    """They are kept as float32."""
    index = make_index(dim=2)
    index.add(np.array([5]), keys)

    assert index.search([[1, 0]], 1)[0].tolist() == [[5]]


def test_stored_norms_give_the_bits_of_computed_ones():
    """A memory keeps the norms beside its segments."""
    rows, queries = hard_rows.make("outliers", rows=100, queries=4)
    computed, stored = make_index(), make_index()
    computed.add(np.arange(100), rows)
    stored.add(np.arange(50), rows[:50], norms=scoring.measure(rows[:50]))
    stored.attach(np.arange(50, 100), rows[50:], norms=scoring.measure(rows[50:]))

    assert_same(stored.search(queries, 9), computed.search(queries, 9))


def test_norms_must_be_one_per_row_and_finite():
    """They decide the answer as much as the keys do."""
    index = make_index(dim=2)

    with pytest.raises(LengthMismatch):
        index.add(np.array([1]), np.ones((1, 2)), norms=np.ones(2))
    with pytest.raises(NonFinite):
        index.add(np.array([1]), np.ones((1, 2)), norms=np.array([np.nan]))


def test_queries_may_come_in_any_layout():
    """Transposed, strided, float64: the same numbers, the same bits."""
    rows, queries = hard_rows.make("clustered", rows=100, queries=6)
    index = make_index()
    index.add(np.arange(100), rows)
    expected = index.search(queries, 3)

    assert_same(index.search(np.asfortranarray(queries), 3), expected)
    assert_same(index.search(np.repeat(queries, 2, axis=1)[:, ::2], 3), expected)
    assert_same(index.search(queries.astype(np.float64), 3), expected)
    assert_same(index.search(queries.tolist(), 3), expected)


def test_a_search_uses_the_rows_of_the_moment_it_began():
    """While rows come and go in another thread every answer is one that was right at some time."""
    rows, queries = hard_rows.make("clustered", rows=400, queries=8)
    index = make_index(rows_per_block=64)
    index.add(np.arange(300), rows[:300])
    with_rows = truth("cosine", np.arange(400), rows, queries, 5)
    without = truth("cosine", np.arange(300), rows[:300], queries, 5)
    done = threading.Event()

    def write():
        while not done.is_set():
            index.add(np.arange(300, 400), rows[300:])
            index.remove(np.arange(300, 400))

    writer = threading.Thread(target=write)
    writer.start()
    answers = [index.search(queries, 5) for _ in range(150)]
    done.set()
    writer.join()

    allowed = {with_rows[0].tobytes(), without[0].tobytes()}
    assert {ids.tobytes() for ids, _ in answers} <= allowed
    assert len(index) == 300


FORK = """
import os
import numpy as np
from recollect.index.exact import ExactIndex
from recollect.index.scope import Limits
rows = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
index = ExactIndex(64, limits=Limits(share=64, cores=2))
index.add(np.arange(500), rows)
expected = index.search(rows[:2], 3)[0].tolist()
child = os.fork()
if not child:
    os._exit(0 if index.search(rows[:2], 3)[0].tolist() == expected else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_can_search():
    """Threads do not survive a fork; waiting for one would hang a worker for ever."""
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(command, env=environment, timeout=60, check=False)

    assert done.returncode == 0


def test_many_single_rows_end_in_few_blocks():
    """A block for each would be searched one by one."""
    index = make_index(dim=2, rows_per_block=100)
    for row in range(250):
        index.add(np.array([row]), np.array([[1.0, row]]))

    assert [len(block) for block in index._store.snapshot.blocks] == [100, 100, 50]


def test_blocks_that_are_mostly_empty_are_given_back():
    """Otherwise a memory that forgets would keep its size."""
    index = make_index(dim=2, rows_per_block=100)
    index.add(np.arange(400), np.ones((400, 2)))
    index.remove(np.arange(0, 400, 2))

    assert sum(len(block) for block in index._store.snapshot.blocks) == 200
    assert len(index) == 200


def test_attached_rows_that_are_all_removed_are_let_go():
    """So that the file behind them can be deleted."""
    index = make_index(dim=2)
    index.attach(np.arange(3), np.ones((3, 2), np.float32))
    index.remove(np.arange(3))

    assert index._store.snapshot.blocks == ()


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_thousands_of_queries_need_less_than_256_mib(metric):
    """Whatever is asked, a search must fit beside the rows."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50_000, 64)).astype(np.float32)
    queries = rng.standard_normal((5_000, 64)).astype(np.float32)
    index = make_index(metric, dim=64)
    index.attach(np.arange(50_000), rows)
    tracemalloc.start()

    ids, similarity = index.search(queries, 20, exclude=np.arange(5_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak - ids.nbytes - similarity.nbytes < 256 << 20


@pytest.mark.slow
@pytest.mark.parametrize("k", [10, 30_000])
def test_rows_that_all_tie_need_less_than_256_mib(k):
    """Every row is a candidate of every query."""
    index = make_index(dim=8)
    index.attach(np.arange(50_000), np.ones((50_000, 8), np.float32))
    queries = np.random.default_rng(0).random((40, 8)).astype(np.float32)
    tracemalloc.start()

    ids, similarity = index.search(queries, k)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert np.array_equal(ids, np.broadcast_to(np.arange(k), (40, k)))
    assert peak - ids.nbytes - similarity.nbytes < 256 << 20
