"""Nearest rows: weighted Manhattan distance, ties to the lowest row, flat and by tree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.errors import DimensionMismatch, InvalidParameter
from recollect.heads.lookup.cluster import Growth, grow, grow_trees
from recollect.heads.lookup.costs import check_weights, costs_of, whole_costs
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.runs import Runs
from recollect.heads.lookup.search import FlatSearch
from recollect.heads.lookup.table import make_table
from recollect.heads.lookup.tree import Tree, TreeSearch

MOST = [1, 28, 3]


def table_of(keys):
    keys = np.array(keys, np.uint8)
    answers = np.arange(len(keys))[:, None]
    return make_table(Runs(np.arange(len(keys)), keys[:, None], keys[:, None, :1], answers))


def test_distance_is_weighted_column_by_column():
    """1 * 1 + 0.5 * 2 + 2 * 3 = 8."""
    costs = whole_costs([1.0, 0.5, 2.0], MOST)

    apart = costs.between(np.array([[0, 10, 0]], np.uint8), np.array([[1, 12, 3]], np.uint8))

    assert (apart * costs.unit).tolist() == [[8.0]]


def test_the_published_distance_is_divided_by_the_sum_of_the_weights():
    """A glimpse code of 3 is one whole unit: (2 * 1 + 1 * 1 + 1 * 4) / 4 = 1.75."""
    layout = Layout(side=28, glimpse=1, patches=1, state=1)
    costs = costs_of(layout, (2.0, 1.0, 1.0))

    apart = costs.between(np.array([[0, 10, 10, 0]], np.uint8), np.array([[1, 12, 8, 3]], np.uint8))

    assert apart * costs.unit == pytest.approx(1.75)


@pytest.mark.parametrize("queries", [1, 20], ids=["one", "many"])
def test_the_lowest_row_wins_a_tie(queries):
    """Alone and in a batch; rows 0 and 1 are both one code away."""
    flat = FlatSearch(table_of([[0, 5, 0], [0, 7, 0], [1, 6, 3]]), whole_costs([1, 1, 1], MOST))

    found = flat.nearest(np.tile(np.array([[0, 6, 0]], np.uint8), (queries, 1)), 0)

    assert found.rows[:, 0].tolist() == [0] * queries
    assert (found.distances * flat.costs.unit)[:, 0].tolist() == [1.0] * queries
    assert found.comparisons.tolist() == [3] * queries


def test_more_rows_than_there_are_end_in_minus_one():
    """k larger than the table is normal on the first day."""
    flat = FlatSearch(table_of([[0, 5, 0], [0, 9, 0]]), whole_costs([1, 1, 1], MOST))

    found = flat.nearest(np.array([[0, 8, 0]], np.uint8), 0, k=3)

    assert found.rows.tolist() == [[1, 0, -1]]
    assert (found.distances * flat.costs.unit).tolist()[0][:2] == [1.0, 3.0]
    assert found.distances[0, 2] == -1


def test_a_weight_of_zero_hides_its_group():
    """A single zero weight is allowed."""
    flat = FlatSearch(table_of([[0, 0, 3], [1, 28, 0]]), whole_costs([0, 0, 1], MOST))

    assert flat.nearest(np.array([[0, 0, 0]], np.uint8), 0).rows.tolist() == [[1]]


@given(
    keys=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 28), st.integers(0, 3)), min_size=1, max_size=12
    ),
    asked=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 28), st.integers(0, 3)), min_size=1, max_size=20
    ),
    k=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_bits_and_columns_agree(keys, asked, k):
    """The slow truth is the distance written out; bits must find the same rows."""
    table, costs = table_of(keys), whole_costs([1.0, 0.5, 2.0], MOST)
    queries = np.array(asked, np.uint8)
    truth = costs.between(queries, table.keys)
    order = np.argsort(truth, axis=1, kind="stable")[:, :k]

    whole = FlatSearch(table, costs).nearest(queries, 0, k)
    alone = [FlatSearch(table, costs).nearest(queries[i : i + 1], 0, k) for i in range(len(asked))]

    assert np.array_equal(whole.rows[:, : order.shape[1]], order)
    assert np.array_equal(np.concatenate([one.rows for one in alone]), whole.rows)
    assert np.array_equal(np.concatenate([one.distances for one in alone]), whole.distances)


@given(
    keys=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 28), st.integers(0, 3)), min_size=1, max_size=40
    ),
    asked=st.tuples(st.integers(0, 1), st.integers(0, 28), st.integers(0, 3)),
    k=st.integers(1, 4),
    how=st.sampled_from([{}, {"beam": 2}, {"beam": 50}, {"beam": 3, "slack": 150}]),
    centers=st.sampled_from(["rows", "medians"]),
)
@settings(max_examples=120, deadline=None)
def test_the_compiled_search_finds_what_numpy_finds(keys, asked, k, how, centers):
    """Flat and by tree: rows, distances and comparisons."""
    table, costs = table_of(keys), whole_costs([1.0, 0.5, 2.0], MOST)
    trees = grow_trees(table, costs, Growth(branches=3, leaf=2, centers=centers))
    query = np.array([asked], np.uint8)
    for search in (
        lambda compiled: FlatSearch(table, costs, compiled=compiled),
        lambda compiled: TreeSearch(
            table.keys, table.parts, trees, costs, compiled=compiled, **how
        ),
    ):  # fmt: skip
        by_library, by_numpy = search(True).nearest(query, 0, k), search(False).nearest(query, 0, k)

        assert by_library.rows.tolist() == by_numpy.rows.tolist()
        assert by_library.distances.tolist() == by_numpy.distances.tolist()
        assert by_library.comparisons.tolist() == by_numpy.comparisons.tolist()


def test_float_keys_are_compared_as_floats():
    """0.4 lies nearer to 0.5 than to 0.1; thresholds of one bit would not tell."""
    keys = np.array([[0.1], [0.5], [1.0]], np.float32)
    runs = Runs(np.arange(3), keys[:, None], keys[:, None], np.arange(3)[:, None])
    table, costs = make_table(runs), whole_costs([1.0], [1])
    query = np.array([[0.4]], np.float32)

    assert FlatSearch(table, costs).nearest(query, 0, 2).rows.tolist() == [[1, 0]]
    trees = grow_trees(table, costs, Growth(branches=2, leaf=1))
    assert TreeSearch(table.keys, table.parts, trees, costs).nearest(query, 0).rows.tolist() == [
        [1]
    ]


def tree_search(keys, *, beam=1, branches=2, leaf=1, centers="rows"):
    table, costs = table_of(keys), whole_costs([1, 1, 1], MOST)
    trees = grow_trees(table, costs, Growth(branches=branches, leaf=leaf, centers=centers))
    return TreeSearch(table.keys, table.parts, trees, costs, beam=beam)


def test_a_tree_of_two_clusters_finds_the_near_one():
    """Two centers, which are rows, then the other row of the near one; medians: two, two, one."""
    keys = [[0, 0, 0], [0, 2, 0], [0, 20, 0], [0, 22, 0]]
    found = tree_search(keys).nearest(np.array([[0, 20, 1], [0, 0, 1]], np.uint8), 0)

    assert found.rows[:, 0].tolist() == [2, 0]
    assert found.comparisons.tolist() == [3, 3]
    medians = tree_search(keys, centers="medians").nearest(np.array([[0, 20, 1]], np.uint8), 0)
    assert medians.comparisons.tolist() == [5]


def test_every_row_lies_in_one_leaf():
    """Nothing is lost, nothing is there twice."""
    random = np.random.default_rng(0)
    keys = np.unique(random.integers(0, [2, 29, 4], (200, 3)).astype(np.uint8), axis=0)
    tree = grow(keys, whole_costs([1, 1, 1], MOST), Growth())

    assert np.sort(tree.leaf_rows).tolist() == list(range(len(keys)))
    assert np.diff(tree.leaf_start).max() <= Growth().leaf


def test_equal_clusters_are_dealt_out():
    """Where the metric sees no difference between keys, the tree still ends."""
    keys = np.array([[0, place, 0] for place in range(29)], np.uint8)
    tree = grow(keys, whole_costs([1, 0, 1], MOST), Growth(branches=2, leaf=2))

    assert np.sort(tree.leaf_rows).tolist() == list(range(29))


def test_a_beam_that_keeps_everything_is_exact():
    """As many ways as leaves: the tree finds what comparing with all rows finds."""
    random = np.random.default_rng(1)
    keys = np.unique(random.integers(0, [2, 29, 4], (60, 3)).astype(np.uint8), axis=0)
    queries = random.integers(0, [2, 29, 4], (40, 3)).astype(np.uint8)
    flat = FlatSearch(table_of(keys), whole_costs([1, 1, 1], MOST)).nearest(queries, 0, 3)

    found = tree_search(keys, beam=64).nearest(queries, 0, 3)

    assert np.array_equal(found.rows, flat.rows)
    assert np.array_equal(found.distances, flat.distances)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_wide_cluster_is_entered_before_one_whose_center_is_a_little_nearer(compiled):
    """Asked at 15: 10 is 5 away but reaches 4 (half of 8), 19 is 4 away and reaches half of 1."""
    table = table_of([[0, place, 0] for place in (10, 18, 19, 20)])
    links = {"node_start": [0, 2], "child": [-1, -1], "leaf_start": [0, 2, 4],
             "leaf_rows": [0, 1, 2, 3], "pivots": [0, 2]}  # fmt: skip
    tree = Tree(table.keys[[0, 2]], **{name: np.array(link) for name, link in links.items()})
    costs = whole_costs([1, 1, 1], MOST)
    search = TreeSearch(table.keys, table.parts, [tree], costs, compiled=compiled)

    found = search.nearest(np.array([[0, 15, 0]], np.uint8), 0)

    assert search.reach[0].tolist() == [4 * costs.columns[1], costs.columns[1] // 2]
    assert found.rows.tolist() == [[1]]
    assert found.comparisons.tolist() == [3]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("place", "slack", "comparisons"), [(15, 350, 4), (15, 349, 3), (10, 999, 3)]
)
def test_a_way_is_given_up_by_what_it_counts(place, slack, comparisons, compiled):
    """Asked at 15: the clusters count 5 - 4 and 4 - 0.5, so 3.5 times; at 10: 0, and 8.5."""
    table = table_of([[0, row, 0] for row in (10, 18, 19, 20)])
    links = {"node_start": [0, 2], "child": [-1, -1], "leaf_start": [0, 2, 4],
             "leaf_rows": [0, 1, 2, 3], "pivots": [0, 2]}  # fmt: skip
    tree = Tree(table.keys[[0, 2]], **{name: np.array(link) for name, link in links.items()})
    search = TreeSearch(
        table.keys, table.parts, [tree], whole_costs([1, 1, 1], MOST), beam=2, slack=slack,
        compiled=compiled,
    )  # fmt: skip

    found = search.nearest(np.array([[0, place, 0]], np.uint8), 0)

    assert found.comparisons.tolist() == [comparisons]


def test_a_beam_wide_enough_compares_every_row_once():
    """Centers that are rows: as many comparisons as there are rows, and every row is found."""
    random = np.random.default_rng(1)
    keys = np.unique(random.integers(0, [2, 29, 4], (60, 3)).astype(np.uint8), axis=0)

    found = tree_search(keys, beam=64, branches=3).nearest(keys[:5], 0, len(keys))

    assert found.comparisons.tolist() == [len(keys)] * 5
    assert np.sort(found.rows, axis=1).tolist() == [list(range(len(keys)))] * 5


@pytest.mark.parametrize("beam", [1, 3])
def test_a_tree_answers_alone_as_in_a_batch(beam):
    """Same question, same rows."""
    random = np.random.default_rng(2)
    keys = random.integers(0, [2, 29, 4], (100, 3))
    queries = random.integers(0, [2, 29, 4], (20, 3)).astype(np.uint8)
    tree = tree_search(keys, beam=beam, branches=4, leaf=4)
    whole = tree.nearest(queries, 0, 2)

    alone = [tree.nearest(queries[i : i + 1], 0, 2) for i in range(20)]

    assert np.array_equal(np.concatenate([one.rows for one in alone]), whole.rows)
    assert np.array_equal(np.concatenate([one.comparisons for one in alone]), whole.comparisons)


@pytest.mark.parametrize(
    "weights", [(0, 0, 0), (-1, 2, 2), (1, 1), (1, 1, np.nan), (1, np.inf, 1), "abc", None]
)
def test_weights_that_measure_nothing_are_refused(weights):
    """A sum of zero, a negative one, NaN, or not three."""
    with pytest.raises(InvalidParameter, match="weights"):
        check_weights(weights)


def test_keys_of_another_width_are_refused():
    """The error names both widths."""
    flat = FlatSearch(table_of([[0, 0, 0]]), whole_costs([1, 1, 1], MOST))

    with pytest.raises(DimensionMismatch):
        flat.nearest(np.zeros((1, 4), np.uint8), 0)


@pytest.mark.parametrize(
    "wrong",
    [{"branches": 1}, {"leaf": 0}, {"starts": 0}, {"iterations": 0}, {"centers": "means"}],
    ids=str,
)
def test_a_tree_that_cannot_grow_is_refused(wrong):
    """One branch would never split anything."""
    with pytest.raises(InvalidParameter):
        Growth(**wrong)


def test_a_beam_of_nothing_is_refused():
    """At least one way down."""
    with pytest.raises(InvalidParameter, match="beam"):
        tree_search([[0, 0, 0]], beam=0)
