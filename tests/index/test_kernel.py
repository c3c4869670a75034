"""The compiled kernel: the same bits as NumPy, and bounds that hold, with every instruction set."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import hard_rows
import numpy as np
import pytest

from recollect.errors import InvalidParameter
from recollect.index import compiled, kernel, scoring
from recollect.index.blocks import Snapshot, make_block
from recollect.index.coarse import Coarse
from recollect.index.compiled import CompiledPass, Engine
from recollect.index.exact import ExactIndex
from recollect.index.paths import choose
from recollect.index.quantized import make_quantizer
from recollect.index.scope import Batch, Limits, make_scope

METRICS = ["cosine", "dot", "euclidean", "manhattan"]
KNOWN = kernel.find("").known
NO_KERNEL = kernel.find("").reason
needs_kernel = pytest.mark.skipif(not KNOWN, reason=f"no kernel: {NO_KERNEL}")
every_set = pytest.mark.parametrize("lanes", KNOWN or ["none"])
ROOT = Path(kernel.__file__).resolve().parents[3]


def engine(lanes, metric, dim=hard_rows.DIM, weights=None):
    return Engine(kernel.find(lanes).kernel, Coarse(metric, dim, weights))


def load_build_script():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


needs_sources = pytest.mark.skipif(
    not (ROOT / "hatch_build.py").is_file(), reason="the package was installed without its sources"
)


@needs_kernel
@every_set
@pytest.mark.parametrize("dim", [1, 3, 7, 8, 9, 17, 384])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_are_measured_to_numpys_bits(lanes, metric, dim):
    """A size that differs in its last bit makes a cosine that differs."""
    rows = np.random.default_rng(dim).standard_normal((37, dim)).astype(np.float32)
    weights = np.linspace(0.0, 2.0, dim) if metric == "manhattan" else None
    tested = engine(lanes, metric, dim, weights)

    assert np.array_equal(tested.measure(rows, 2), tested.coarse.measure(rows))


@needs_kernel
@every_set
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
@pytest.mark.parametrize("metric", METRICS)
def test_every_pair_gets_numpys_bits(lanes, metric, dtype):
    """The similarity decides, so all paths must agree in its last bit."""
    rng = np.random.default_rng(3)
    rows = np.ascontiguousarray((rng.random((70, 37)) * 50 + 1).astype(dtype))
    queries = rng.standard_normal((5, 37)).astype(np.float32)
    weights = rng.random(37) if metric == "manhattan" else None
    tested = engine(lanes, metric, 37, weights)
    sizes = tested.coarse.measure(rows)
    block = make_block(tested.coarse, np.arange(70), rows, sizes)
    everything = CompiledPass(
        tested, make_scope(Snapshot([block]), None), 70, Limits(cores=2), tested.plain
    )
    ids, similarity = np.full((5, 70), -1), np.zeros((5, 70), np.float32)

    everything.exhaust(
        Batch(queries, tested.coarse.measure(queries), None), np.arange(5), ids, similarity
    )

    table = scoring.similarity(
        metric,
        queries[:, None],
        rows,
        query_sizes=tested.coarse.measure(queries)[:, None],
        row_sizes=sizes,
        weights=weights,
    )
    assert np.array_equal(np.sort(ids, axis=1), np.tile(np.arange(70), (5, 1)))
    assert np.array_equal(similarity, np.take_along_axis(table, ids, axis=1))


def decoded(quantizer, block):
    """Keys that the codes stand for, float64, and the terms of the rows."""
    codes = block.shadows[0].of(block, quantizer, 2)
    rows, dim = block.keys.shape
    quads = -(-dim // 4)
    grid = codes.codes.reshape(-1, quads, 16, 4).transpose(0, 2, 1, 3).reshape(-1, 4 * quads)
    alpha, term, rho, sigma, tau = (column[:rows].astype(np.float64) for column in codes.terms[:5])
    return alpha[:, None] * (grid[:rows, :dim].astype(np.float64) - 128), term, rho, sigma, tau


def moved(metric, rows, sizes, center):
    rows = rows.astype(np.float64) / (sizes[:, None] if metric == "cosine" else 1.0)
    return rows - center


@needs_kernel
@every_set
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("case", hard_rows.CASES)
def test_codes_are_as_near_to_their_rows_as_they_say(lanes, metric, case):
    """The proof of every answer rests on the kept length of what the codes leave out."""
    rows, _ = hard_rows.make(case, rows=150, queries=2)
    tested = engine(lanes, metric)
    block = make_block(tested.coarse, np.arange(150), rows, tested.coarse.measure(rows))
    quantizer = make_quantizer(tested.kernel, tested.coarse, Snapshot([block]))
    regular = np.ones(150, bool) if block.regular is None else block.regular

    keys, term, rho, sigma, _ = decoded(quantizer, block)
    exact = moved(metric, rows, block.sizes, quantizer.space.center)

    assert (np.linalg.norm(exact - keys, axis=1)[regular] <= rho[regular]).all()
    assert (np.linalg.norm(exact, axis=1)[regular] <= sigma[regular] * (1 + 1e-7)).all()
    assert (np.abs(keys) <= 127.001 * np.abs(exact).max(axis=1, keepdims=True) / 127)[regular].all()
    if metric == "euclidean":
        assert np.allclose(term[regular], -((exact**2).sum(axis=1)[regular]), rtol=1e-6)


@needs_kernel
def test_rows_that_are_appended_get_the_codes_they_would_have_had_at_once():
    """A memory that is taught row by row searches as one that was filled."""
    rows, _ = hard_rows.make("clustered", rows=100, queries=1)
    tested = engine(KNOWN[0], "cosine")
    sizes = tested.coarse.measure(rows)
    whole = make_block(tested.coarse, np.arange(100), rows, sizes)
    quantizer = make_quantizer(tested.kernel, tested.coarse, Snapshot([whole]))
    first = make_block(tested.coarse, np.arange(45), rows[:45], sizes[:45])
    first.shadows[0].of(first, quantizer, 2)
    grown = make_block(tested.coarse, np.arange(100), rows, sizes, shadows=first.shadows)

    for one, other in zip(decoded(quantizer, grown), decoded(quantizer, whole), strict=True):
        assert np.array_equal(one, other)
    kept, anew = (block.shadows[0].of(block, quantizer, 2) for block in (grown, whole))
    assert np.array_equal(kept.terms[5][:6], anew.terms[5][:6])


@needs_kernel
def test_the_center_moves_when_the_rows_have_multiplied():
    """A center of the first few rows must not stay for a million others."""
    tested = engine(KNOWN[0], "euclidean", dim=2)
    few = make_block(tested.coarse, np.arange(2), np.ones((2, 2), np.float32), np.ones(2))
    rows = np.full((100, 2), 9.0, np.float32)
    many = make_block(tested.coarse, np.arange(100), rows, np.ones(100))

    assert tested.quantizer(Snapshot([few])).space.center.tolist() == [1.0, 1.0]
    assert tested.quantizer(Snapshot([many])).space.center.tolist() == [9.0, 9.0]


@needs_kernel
def test_queries_with_too_many_candidates_are_given_up_and_answered_all_the_same():
    """A thousand equal rows: the answer is the smallest ids."""
    index = ExactIndex(8, limits=Limits(room=64, cores=2), path="kernel")
    index.add(np.arange(1000)[::-1], np.ones((1000, 8), np.float32))

    ids, similarity = index.search(np.ones((3, 8), np.float32), 4)

    assert ids.tolist() == [[0, 1, 2, 3]] * 3
    assert similarity.tolist() == [[1.0] * 4] * 3


@needs_kernel
@every_set
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("room", [1 << 19, 200])
def test_threads_that_share_queries_find_what_one_finds(lanes, metric, room):
    """Many queries are shared out, few meet shares of the rows; lists may be too short for both."""
    rng = np.random.default_rng(3)
    rows = np.repeat(rng.standard_normal((300, 12)), 4, axis=0).astype(np.float32)
    queries = rows[::5] + 0.1 * rng.standard_normal((240, 12)).astype(np.float32)
    answers = []
    for cores, count in ((1, 240), (3, 240), (3, 7)):
        limits = Limits(cores=cores, thread=1, room=room)
        index = ExactIndex(
            12, metric, block_bytes=4 * 12 * 500, limits=limits, path=f"kernel:{lanes}"
        )
        index.add(np.arange(len(rows)), rows)
        parts = [index.search(queries[at : at + count], 30) for at in range(0, 240, count)]
        answers.append([np.concatenate(part) for part in zip(*parts, strict=True)])

    for found in answers[1:]:
        assert np.array_equal(found[0], answers[0][0])
        assert np.array_equal(found[1], answers[0][1])


@needs_kernel
def test_the_first_questions_do_not_wait_for_codes(monkeypatch):
    """Making codes reads every key and writes a quarter as much; one answer only reads them."""
    monkeypatch.setattr(compiled, "SMALL", 0)
    keys = np.random.default_rng(4).standard_normal((500, 16)).astype(np.float32)
    index = ExactIndex(16)
    index.attach(np.arange(500), keys)
    codes = index.snapshot.blocks[0].shadows[0]

    first = [index.search(keys[:1], 5) for _ in range(compiled.AWAITED)]
    waited = codes.made
    later = index.search(keys[:1], 5)

    assert not waited
    assert codes.made
    assert all(np.array_equal(ids, later[0]) for ids, _ in first)
    assert all(np.array_equal(near, later[1]) for _, near in first)


@needs_kernel
def test_many_questions_at_once_have_codes_made(monkeypatch):
    """They are worth it from the first."""
    monkeypatch.setattr(compiled, "SMALL", 0)
    keys = np.random.default_rng(4).standard_normal((500, 16)).astype(np.float32)
    index = ExactIndex(16)
    index.attach(np.arange(500), keys)

    index.search(keys[:32], 5)

    assert index.snapshot.blocks[0].shadows[0].made


def test_the_kernel_can_be_switched_off():
    """For comparison, and where it is mistrusted."""
    assert kernel.find("off").kernel is None
    assert choose("numpy").kernel is None


@needs_kernel
def test_instructions_that_are_not_there_are_refused_by_name():
    """A wish that cannot be granted is no reason to crash in the processor."""
    assert kernel.find("sse9").kernel is None
    with pytest.raises(InvalidParameter, match="sse9"):
        choose("kernel:sse9")


def test_an_unknown_way_to_search_is_refused():
    """With the ways there are."""
    with pytest.raises(InvalidParameter, match="numpy"):
        choose("quantum")


@needs_kernel
def test_a_kernel_of_other_sources_is_not_used(monkeypatch):
    """One that was left over from an earlier version may read the arguments differently."""
    monkeypatch.setattr(kernel, "source_mark", lambda: "00000000")
    kernel.find.cache_clear()
    try:
        found = kernel.find("")
    finally:
        kernel.find.cache_clear()

    assert (found.kernel, "other sources" in found.reason) == (None, True)


@needs_sources
def test_a_missing_compiler_is_named(tmp_path, monkeypatch):
    """The installation goes on without the kernel, and says why."""
    script = load_build_script()
    monkeypatch.setenv("CC", "no-such-compiler")

    with pytest.raises(script.BuildFailed, match="no-such-compiler"):
        script.compile_kernel(tmp_path / "kernel.so")


@needs_sources
def test_a_compiler_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    """Half a library would be loaded next time."""
    script = load_build_script()
    monkeypatch.setenv("CC", "false")

    with pytest.raises(script.BuildFailed, match="ended with 1"):
        script.compile_kernel(tmp_path / "kernel.so")
    assert list(tmp_path.iterdir()) == []


@needs_sources
def test_the_build_and_the_library_mark_the_same_sources():
    """Otherwise every kernel would be refused."""
    assert load_build_script().source_mark() == kernel.source_mark()


@needs_sources
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_kernel_can_be_compiled(tmp_path):
    """On this machine, with its compiler."""
    known = load_build_script().compile_kernel(tmp_path / "kernel.so")

    assert "plain" in known
    assert (tmp_path / "kernel.so").stat().st_size > 0


@needs_kernel
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_are_allowed_in_stretches_are_found_as_by_numpy(metric, dtype):
    """Stretches in which nothing is allowed are left out; what lies around them keeps its place."""
    rng = np.random.default_rng(4)
    rows = np.ascontiguousarray((rng.random((700, 9)) * 50 + 1).astype(dtype))
    queries = rng.standard_normal((20, 9)).astype(np.float32)
    allowed = np.concatenate(
        [np.arange(3, 40), np.arange(96, 128), np.array([300]), np.arange(450, 699)]
    )
    barred = np.arange(440, 460)
    found = []
    for path in (None, "numpy"):
        index = ExactIndex(9, metric, path=path, block_bytes=4 * 9 * 200)
        index.attach(np.arange(500), rows[:500])
        index.attach(np.arange(500, 700), rows[500:])
        index.remove(np.arange(500, 540))
        found.append(index.search(queries, 5, allowed=allowed, exclude=barred))

    assert found[0][0].tobytes() == found[1][0].tobytes()
    assert found[0][1].tobytes() == found[1][1].tobytes()
    assert np.isin(found[0][0], allowed).all()
