"""The compiled step from coarse to fine: the same bits as NumPy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tiny_pyramids import random_mask, random_pyramid

from recollect import DenseMemorySegmenter
from recollect.heads.dense_memory import refinement
from recollect.heads.dense_memory.plan import Matches, Plan
from recollect.index import libraries, refining
from recollect.readout.grids import children

ROOT = Path(libraries.__file__).resolve().parents[3]
needs_library = pytest.mark.skipif(
    refining.find_refining() is None, reason="the library of the refining step is not there"
)


def both_ways(head, query, plan):
    """Matches of the second level by the library and by NumPy, from the same first level."""
    layout = head._layout()
    [sample] = head._samples([query], None)
    shapes, vectors = sample.pyramid.shapes, layout.query(sample.pyramid)
    places, similarity = layout.cells.index.search(vectors[0], plan.ks[0])
    above = Matches(places, similarity, similarity)
    below = children(shapes[1], shapes[0])
    found = []
    for way in (refinement.refine_at_once, refinement.refine_in_blocks):
        shape = (len(vectors[1]), plan.ks[1])
        into = Matches(
            np.full(shape, -1), np.full(shape, -np.inf, "f"), np.full(shape, -np.inf, "f")
        )
        way(layout.cells, 1, above, below, vectors[1], plan, into)
        found.append((into.cells.tobytes(), into.similarity.tobytes(), into.score.tobytes()))
    return found


@needs_library
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kernel", ["children", "overlap"])
@pytest.mark.parametrize("score", ["level", "path"])
@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "float16"}, {"sparse_levels": 1}, {"position": 0.5}],
    ids=str,
)
def test_the_library_finds_what_numpy_finds_to_the_last_bit(axes, kernel, score, options):
    """One answer with a compiler and without."""
    head = DenseMemorySegmenter(k=5, kernel=kernel, **options)
    masks = [random_mask(seed, (4,) * axes) for seed in range(6)]
    head.fit([random_pyramid(seed, axes) for seed in range(6)], masks)

    for k in (1, 3, 200):
        plan = Plan((5, k), score, (1.0, 2.5))
        by_library, by_numpy = both_ways(head, random_pyramid(9, axes), plan)
        assert by_library == by_numpy


@needs_library
def test_cells_that_are_all_alike_are_ordered_by_place():
    """No rough product may decide between equal similarities."""
    flat = [np.ones((2, 2, 3)), np.ones((4, 4, 3))]
    head = DenseMemorySegmenter(k=6).fit([flat] * 5, [np.zeros((4, 4), int)] * 5)

    by_library, by_numpy = both_ways(head, flat, Plan((6, 7)))

    assert by_library == by_numpy
    assert np.frombuffer(by_library[0], np.int64)[:7].tolist() == [0, 1, 2, 3, 4, 5, 6]


@needs_library
def test_several_threads_find_what_one_finds(monkeypatch):
    """Which thread takes a cell changes nothing."""
    head = DenseMemorySegmenter(k=5).fit(
        [random_pyramid(seed, 2) for seed in range(6)],
        [random_mask(seed, (4, 4)) for seed in range(6)],
    )
    alone = head.predict_proba([random_pyramid(9, 2)])

    monkeypatch.setattr(refining, "WORTH", 1)
    monkeypatch.setattr(refining, "default_cores", lambda: 3)

    assert np.array_equal(head.predict_proba([random_pyramid(9, 2)]), alone)


@needs_library
@pytest.mark.parametrize("samples", [3, 90])
def test_cells_that_are_equally_similar_come_in_the_order_of_their_places(samples):
    """The library ranks by counting, which knows no ties; few and many of them are sorted."""
    head = DenseMemorySegmenter(k=200)
    head.fit([random_pyramid(0, 2)] * samples, [random_mask(1, (4, 4))] * samples)

    by_library, by_numpy = both_ways(
        head, random_pyramid(9, 2), Plan((200, 200), "path", (1.0, 1.0))
    )

    assert by_library == by_numpy


@pytest.mark.skipif(not (ROOT / "hatch_build.py").is_file(), reason="no sources here")
def test_the_build_script_marks_small_libraries_as_the_loader_reads_them():
    """A library of another source is not used."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    assert {f"{Path(source).stem}" for source in script.SMALL.values()} == {
        "holding", "refine", "tables"
    }  # fmt: skip
    for name in ("tables", "refine"):
        library = libraries.find_library(name, "")
        if library is not None:
            assert getattr(library, f"{name}_source")().decode() == libraries.source_mark(name)
    assert libraries.find_library("refine", "off") is None


@needs_library
@pytest.mark.parametrize("balance", [0.0, 0.4])
def test_the_library_reads_what_numpy_reads_to_the_last_bit(balance):
    """More labels than are summed one by one, cells without a match, and a label that went."""
    rng = np.random.default_rng(0)
    head = DenseMemorySegmenter(k=4, balance=balance)
    masks = rng.integers(0, 12, (6, 4, 4))
    masks[-1] = 50
    head.fit([random_pyramid(seed, 2) for seed in range(6)], masks).forget(head.ids_[-1:])
    layout, settings = head._layout(), head._settings()
    places = rng.integers(-1, 80, (30, 4))
    weights = np.where(places < 0, 0.0, rng.random((30, 4)))
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)

    by_library = layout.read(places, weights, settings)
    by_numpy = layout.read_by_numpy(places, weights, settings)

    assert [each.tobytes() for each in by_library] == [each.tobytes() for each in by_numpy]
