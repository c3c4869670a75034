"""Dense memory against reference values: any folder of files of that form, and some made here.

Sizes, parameters and prefixes come from the files; those made here have other sizes, ratios and
numbers of levels, computed by plain loops. Similarities are held to 1e-5; where two differ
by less than that, float32 may put either match first.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from dense_reference import SIZES, make_case
from places import golden

from recollect import DenseMemoryRegressor, DenseMemorySegmenter
from recollect.heads.dense_memory.novelty import kept_cells, novelty
from recollect.heads.dense_memory.pyramids import check_pyramid
from recollect.readout.propagation import message_graph, propagate

CLOSE = 1e-5


def files():
    made = [pytest.param(name, id=name) for name in SIZES]
    try:
        found = sorted(golden("parmesan").glob("*.npz"))
    except pytest.skip.Exception:
        return [*made, pytest.param(None, id="absent")]
    return [*made, *(pytest.param(path, id=path.stem) for path in found)]


@cache
def made_case(name):
    return make_case(*SIZES[name])


@pytest.fixture(params=files())
def case(request):
    """The arrays of one file."""
    if request.param is None:
        golden("parmesan")
    if isinstance(request.param, str):
        return dict(made_case(request.param))
    with np.load(request.param) as arrays:
        return dict(arrays)


def pyramids(case, prefix):
    levels = [case[f"{prefix}_feat_l{level}"] for level in range(int(case["n_levels"]))]
    return [[level[at] for level in levels] for at in range(len(levels[0]))]


def sparse(case):
    """How many sparse levels each prefix stands for."""
    found = {
        match[1]: int(match[2])
        for name in case
        if (match := re.fullmatch(r"(sparse(\d+))_prob", name))
    }
    if not found:
        pytest.skip("no array named sparse<n>_prob: a file of one level has no sparse levels")
    return found


def shares(head, case):
    """Shares of all labels of the file, 0 for those that no sample holds."""
    found = np.stack(list(head.predict_proba(pyramids(case, "qry"))))
    full = np.zeros((*found.shape[:-1], case["dense_prob"].shape[-1]))
    full[..., head.classes_] = found
    return full


def options(case, **others):
    return {
        "k": tuple(case["ks"].tolist()),
        "temperature": float(case["tau"]),
        "message_passing": None,
        **others,
    }


def values(case):
    """Targets of a regressor: none where there is no label."""
    return np.where(case["mem_label_cls"][..., None] >= 0, case["mem_label_reg"], np.nan)


def assert_same_matches(head, case, prefix):
    settings, layout = head._settings(), head._layout()
    for at, sample in enumerate(head._samples(pyramids(case, "qry"), None)):
        reading = head._read(layout, sample, settings)
        for level, matches in enumerate(reading.matches):
            known = layout.cells.levels[level]
            there = matches.cells >= 0
            expected = case[f"{prefix}_match_sim_l{level}"][at]
            np.testing.assert_array_equal(there, np.isfinite(expected))
            np.testing.assert_allclose(
                matches.similarity[there], expected[there], rtol=0, atol=CLOSE
            )
            own = (np.where(there, known.sample[matches.cells], -1),
                   np.where(there, known.node[matches.cells], -1))  # fmt: skip
            theirs = [case[f"{prefix}_match_{what}_l{level}"][at] for what in ("sample", "node")]
            differs = (own[0] != theirs[0]) | (own[1] != theirs[1])
            gaps = np.abs(np.diff(np.where(there, expected, 0.0), axis=1))
            near = np.pad(gaps < CLOSE, ((0, 0), (1, 0))) | np.pad(gaps < CLOSE, ((0, 0), (0, 1)))
            assert not (differs & ~near).any()


def assert_same(found, expected):
    np.testing.assert_allclose(
        np.stack(list(found)).reshape(expected.shape), expected, rtol=0, atol=CLOSE
    )


def test_search_and_read_out_of_labels(case):
    """The whole path at full density: matches of every level, and the shares read from them."""
    head = DenseMemorySegmenter(ignore=-1, **options(case))
    head.fit(pyramids(case, "mem"), case["mem_label_cls"])

    assert_same_matches(head, case, "dense")
    assert_same(shares(head, case), case["dense_prob"])


def test_read_out_of_numbers(case):
    """The same search reads numbers; a cell without a label is not read."""
    head = DenseMemoryRegressor(**options(case)).fit(pyramids(case, "mem"), values(case))

    assert_same(head.predict(pyramids(case, "qry")), case["dense_reg"])


def test_a_removed_sample_leaves_the_reference_of_a_memory_without_it(case):
    """Unlearning is held to numbers that were computed without the sample."""
    gone = int(case["removed_sample"])
    head = DenseMemorySegmenter(ignore=-1, **options(case))
    head.fit(pyramids(case, "mem"), case["mem_label_cls"]).forget([gone])
    regressor = DenseMemoryRegressor(**options(case)).fit(pyramids(case, "mem"), values(case))

    assert_same(shares(head, case), case["removed_prob"])
    assert_same(regressor.forget([gone]).predict(pyramids(case, "qry")), case["removed_reg"])


def test_sparse_memories_keep_the_cells_and_give_the_answers_of_the_reference(case):
    """Novelty decides what is kept on every sparse level, and queries stay whole."""
    for prefix, count in sparse(case).items():
        head = DenseMemorySegmenter(ignore=-1, sparse_levels=count, **options(case))
        head.fit(pyramids(case, "mem"), case["mem_label_cls_full"])
        for at, levels in enumerate(pyramids(case, "mem")):
            kept = kept_cells(check_pyramid(levels, "sample"), count)
            for level, cells in enumerate(kept):
                mask = case[f"{prefix}_kept_l{level}"][at].ravel()
                expected = np.flatnonzero(mask)
                chosen = np.arange(mask.size) if cells is None else cells
                np.testing.assert_array_equal(chosen, expected)

        assert_same_matches(head, case, prefix)
        assert_same(shares(head, case), case[f"{prefix}_prob"])


def test_sparse_regression(case):
    """Labels of kept cells are their own, for numbers too."""
    for prefix, count in sparse(case).items():
        head = DenseMemoryRegressor(sparse_levels=count, **options(case))
        head.fit(pyramids(case, "mem"), case["mem_label_reg"])

        assert_same(head.predict(pyramids(case, "qry")), case[f"{prefix}_reg"])


def test_novelty(case):
    """One minus the mean similarity to the cells around, in every dimension."""
    radius = int(case["nov_radius"])
    for at, levels in enumerate(pyramids(case, "mem")):
        pyramid = check_pyramid(levels, "sample")
        for level, (features, shape) in enumerate(
            zip(pyramid.features, pyramid.shapes, strict=True)
        ):
            expected = case[f"novelty_l{level}"][at].ravel()
            found = novelty(features, shape, radius=radius)
            np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)


def test_message_passing(case):
    """Links, weights, both updates, and how many of them were needed."""
    last = int(case["n_levels"]) - 1
    for at, features in enumerate(case[f"qry_feat_l{last}"]):
        shape = features.shape[:-1]
        links, weights = message_graph(
            features.reshape(-1, features.shape[-1]), shape, radius=int(case["mp_radius"]),
            k=int(case["mp_k"]), temperature=float(case["mp_tau"]),
        )  # fmt: skip
        anchored = propagate(
            case["dense_prob"][at], links, weights, alpha=float(case["mp_alpha"]),
            tolerance=float(case["mp_tol"]), max_iterations=int(case["mp_max_iter"]),
        )  # fmt: skip
        step = propagate(
            case["dense_prob"][at], links, weights, mode="step", alpha=float(case["mp_alpha"]),
            tolerance=0.0, max_iterations=int(case["mp_step_iters"]),
        )  # fmt: skip

        np.testing.assert_array_equal(links, case["mp_idx"][at])
        np.testing.assert_allclose(weights, case["mp_w"][at], rtol=0, atol=1e-9)
        np.testing.assert_allclose(anchored.values, case["mp_anchored"][at], rtol=0, atol=1e-9)
        np.testing.assert_allclose(step.values, case["mp_step"][at], rtol=0, atol=1e-9)
        assert anchored.iterations == int(case["mp_anchored_iters"][at])


def test_message_passing_through_the_head(case):
    """The head hands the read-out on, with its own graph, until the tolerance is met."""
    head = DenseMemorySegmenter(
        ignore=-1,
        **options(case, message_passing="anchored"),
        radius=int(case["mp_radius"]),
        links=int(case["mp_k"]),
        link_temperature=float(case["mp_tau"]),
        alpha=float(case["mp_alpha"]),
        tolerance=float(case["mp_tol"]),
        max_iterations=int(case["mp_max_iter"]),
    ).fit(pyramids(case, "mem"), case["mem_label_cls"])

    assert_same(shares(head, case), case["mp_anchored"])
