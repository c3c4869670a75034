"""What every index must do. A new one joins by a line in MAKERS."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from recollect.errors import (
    DimensionMismatch,
    DuplicateIds,
    InputError,
    InvalidParameter,
    LengthMismatch,
    NonFinite,
    UnknownIds,
    ZeroVector,
)
from recollect.index.approximate import ApproximateIndex, Switches
from recollect.index.exact import ExactIndex
from recollect.index.policy import Approximate

# Lists are trained with the first search and used for any question, however few rows there are.
ALWAYS = {
    "policy": Approximate(least=1, background=False),
    "switches": Switches(gain=0, few_allowed=-1, allowed_share=1 << 30),
}
FLAT = ALWAYS | {"policy": Approximate(least=1, background=False, storage="flat")}
MAKERS = {
    "exact": ExactIndex,
    "lists-not-yet-trained": ApproximateIndex,
    "lists-8bit": partial(ApproximateIndex, **ALWAYS),
    "lists-flat": partial(ApproximateIndex, **FLAT),
}


@pytest.fixture(params=sorted(MAKERS))
def make_index(request):
    return MAKERS[request.param]


@pytest.fixture
def square(make_index):
    """Four rows on the axes of the plane, ids 1 to 4, Euclidean."""
    index = make_index(2, "euclidean")
    index.add(np.array([1, 2, 3, 4]), np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32))
    return index


EAST = np.array([[1.0, 0.0]], np.float32)


def test_the_nearest_row_comes_first(square):
    """The point of it all."""
    ids, similarity = square.search(np.array([[3.0, 0.0]], np.float32), 1)

    assert ids.tolist() == [[1]]
    assert similarity.tolist() == [[-2.0]]


def test_answers_are_int64_and_float32(square):
    """Callers store and compare them."""
    ids, similarity = square.search(EAST, 2)

    assert (ids.dtype, similarity.dtype) == (np.int64, np.float32)


def test_cosine_is_the_cosine(make_index):
    """3-4-5 triangle: the cosine with an axis is 3/5."""
    index = make_index(2, "cosine")
    index.add(np.array([1, 2]), np.array([[3, 4], [-5, 0]], np.float32))

    ids, similarity = index.search(10 * EAST, 2)

    assert ids.tolist() == [[1, 2]]
    assert similarity.tolist() == [[np.float32(0.6), -1.0]]


def test_dot_is_the_dot_product(make_index):
    """Unlike cosine it grows with the length of the key."""
    index = make_index(2, "dot")
    index.add(np.array([1, 2]), np.array([[1, 0], [3, 4]], np.float32))

    ids, similarity = index.search(2 * EAST, 2)

    assert ids.tolist() == [[2, 1]]
    assert similarity.tolist() == [[6.0, 2.0]]


def test_euclidean_is_minus_the_distance(make_index):
    """Larger is nearer everywhere in the library."""
    index = make_index(2, "euclidean")
    index.add(np.array([1, 2]), np.array([[4, 4], [1, 1]], np.float32))

    ids, similarity = index.search(EAST, 2)

    assert ids.tolist() == [[2, 1]]
    assert similarity.tolist() == [[-1.0, -5.0]]


def test_manhattan_weighs_each_axis(make_index):
    """2 * |1 - 4| + 0.5 * |0 - 4| = 8; without the weights it would be 7."""
    index = make_index(2, "manhattan", metric_weights=np.array([2.0, 0.5]))
    index.add(np.array([1]), np.array([[4, 4]], np.float32))

    _, similarity = index.search(EAST, 1)

    assert similarity.tolist() == [[-8.0]]


def test_manhattan_without_weights_counts_all_axes_alike(make_index):
    """|1 - 4| + |0 - 4| = 7."""
    index = make_index(2, "manhattan")
    index.add(np.array([1]), np.array([[4, 4]], np.float32))

    _, similarity = index.search(EAST, 1)

    assert similarity.tolist() == [[-7.0]]


def test_equal_similarity_is_ordered_by_row_id(square):
    """The answer may not depend on the order in which rows were taught."""
    ids, similarity = square.search(np.array([[0.0, 0.0]], np.float32), 4)

    assert ids.tolist() == [[1, 2, 3, 4]]
    assert similarity.tolist() == [[-1.0, -1.0, -1.0, -1.0]]


def test_of_equal_rows_the_smallest_ids_are_kept(make_index):
    """More duplicates than k: which of them are recalled must be decided, too."""
    index = make_index(2)
    index.add(np.array([9, 2, 7, 4]), np.ones((4, 2), np.float32))

    ids, _ = index.search(EAST, 2)

    assert ids.tolist() == [[2, 4]]


def test_asking_for_more_rows_than_exist_pads_with_minus_one(make_index):
    """k larger than the memory is normal on day one; it must not invent ids."""
    index = make_index(2)
    index.add(np.array([4]), EAST)

    ids, similarity = index.search(EAST, 3)

    assert ids.tolist() == [[4, -1, -1]]
    assert similarity.tolist() == [[1.0, -np.inf, -np.inf]]


def test_an_empty_index_answers_with_nothing(make_index):
    """A memory may be asked before it was taught."""
    ids, similarity = make_index(2).search(EAST, 2)

    assert ids.tolist() == [[-1, -1]]
    assert similarity.tolist() == [[-np.inf, -np.inf]]


def test_no_query_gets_no_answer(square):
    """An empty batch has a shape."""
    ids, similarity = square.search(np.empty((0, 2), np.float32), 3)

    assert ids.shape == similarity.shape == (0, 3)


def test_adding_no_row_changes_nothing(square):
    """Pipelines produce empty batches."""
    square.add(np.empty(0, np.int64), np.empty((0, 2), np.float32))

    assert len(square) == 4


def test_a_removed_row_is_gone_from_the_next_answer(square):
    """Unlearning takes effect at once."""
    square.remove(np.array([1]))

    ids, _ = square.search(EAST, 4)

    assert ids.tolist() == [[2, 4, 3, -1]]
    assert len(square) == 3


def test_a_removed_row_may_come_back_with_another_key(square):
    """A memory that is restored to an earlier version brings rows back."""
    square.remove(np.array([1]))
    square.add(np.array([1]), np.array([[0.0, 9.0]], np.float32))

    ids, similarity = square.search(np.array([[0.0, 9.0]], np.float32), 2)

    assert ids.tolist() == [[1, 2]]
    assert similarity.tolist() == [[0.0, -8.0]]


def test_a_row_may_come_and_go_many_times(square):
    """Each time it is the last key that counts, and the last removal."""
    for length in (2.0, 3.0, 4.0):
        square.remove(np.array([2]))
        square.add(np.array([2]), np.array([[length, 0.0]]))

    ids, similarity = square.search(4 * EAST, 4)

    assert ids.tolist() == [[2, 1, 4, 3]]
    assert similarity[0, :2].tolist() == [0.0, -3.0]
    assert len(square) == 4


def test_removing_everything_leaves_an_empty_index(square):
    """Then teaching starts anew."""
    square.remove(np.array([1, 2, 3, 4]))

    ids, _ = square.search(EAST, 1)

    assert (len(square), ids.tolist()) == (0, [[-1]])


def test_an_excluded_row_is_left_out_for_its_query_only(square):
    """Leave-one-out asks every row for its neighbors but itself."""
    ids, _ = square.search(np.repeat(EAST, 2, axis=0), 2, exclude=np.array([1, -1]))

    assert ids.tolist() == [[2, 4], [1, 2]]


def test_several_rows_can_be_excluded_per_query(square):
    """One row of ids per query; -1 stands for nothing."""
    exclude = np.array([[1, 2], [4, -1]])

    ids, _ = square.search(np.repeat(EAST, 2, axis=0), 4, exclude=exclude)

    assert ids.tolist() == [[4, 3, -1, -1], [1, 2, 3, -1]]


def test_excluded_rows_can_come_in_arrays_of_different_length(square):
    """Groups to leave out have different sizes."""
    exclude = [np.array([1, 2, 3]), np.array([], np.int64)]

    ids, _ = square.search(np.repeat(EAST, 2, axis=0), 1, exclude=exclude)

    assert ids.tolist() == [[4], [1]]


def test_excluding_an_unknown_row_changes_nothing(square):
    """It may have been removed meanwhile."""
    ids, _ = square.search(EAST, 1, exclude=np.array([77]))

    assert ids.tolist() == [[1]]


def test_only_allowed_rows_take_part(square):
    """Filters by metadata arrive as row ids; those not in the index are ignored."""
    ids, _ = square.search(EAST, 3, allowed=np.array([4, 3, 99]))

    assert ids.tolist() == [[4, 3, -1]]


def test_nothing_allowed_finds_nothing(square):
    """A filter that no row passes."""
    ids, _ = square.search(EAST, 1, allowed=np.empty(0, np.int64))

    assert ids.tolist() == [[-1]]


def test_a_removed_row_is_not_brought_back_by_allowing_it(square):
    """The list of allowed rows may be older than the removal."""
    square.remove(np.array([1]))

    ids, _ = square.search(EAST, 1, allowed=np.array([1, 3]))

    assert ids.tolist() == [[3]]


def test_what_is_excluded_stays_out_though_it_is_allowed(square):
    """Both restrictions hold."""
    ids, _ = square.search(EAST, 2, allowed=np.array([1, 3]), exclude=np.array([1]))

    assert ids.tolist() == [[3, -1]]


def test_keys_are_copied(make_index):
    """The caller may use its buffer again."""
    index, keys = make_index(2), EAST.copy()
    index.add(np.array([1]), keys)
    keys[:] = -1

    _, similarity = index.search(EAST, 1)

    assert similarity.tolist() == [[1.0]]


@pytest.mark.parametrize("width", [1, 3])
def test_keys_of_another_width_are_refused(make_index, width):
    """Vectors of another encoder."""
    with pytest.raises(DimensionMismatch, match=r"expected .*2"):
        make_index(2).add(np.array([1]), np.ones((1, width), np.float32))


@pytest.mark.parametrize("shape", [(2,), (1, 3), (1, 1, 2)])
def test_queries_of_another_shape_are_refused(square, shape):
    """A single query is a batch of one, explicitly."""
    with pytest.raises(DimensionMismatch):
        square.search(np.ones(shape, np.float32), 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_keys_that_are_not_finite_are_refused(make_index, bad):
    """1e39 is finite, but not as float32."""
    index = make_index(2)

    with pytest.raises(NonFinite, match="the first 1"):
        index.add(np.array([1, 2]), np.array([[1.0, 1.0], [bad, 1.0]]))

    assert len(index) == 0


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_queries_that_are_not_finite_are_refused(make_index, metric, bad):
    """NaN compares with nothing, so no order would be right."""
    index = make_index(2, metric)

    with pytest.raises(NonFinite):
        index.search(np.array([[1.0, bad]]), 1)


def test_zero_vectors_have_no_cosine(make_index):
    """Neither as key nor as query."""
    index = make_index(2, "cosine")

    with pytest.raises(ZeroVector, match="the first 0"):
        index.add(np.array([1]), np.zeros((1, 2), np.float32))
    with pytest.raises(ZeroVector):
        index.search(np.zeros((1, 2), np.float32), 1)


@pytest.mark.parametrize("metric", ["dot", "euclidean", "manhattan"])
def test_zero_vectors_are_welcome_under_other_metrics(make_index, metric):
    """A black image is a key like any other."""
    index = make_index(2, metric)
    index.add(np.array([1]), np.zeros((1, 2), np.float32))

    ids, similarity = index.search(np.zeros((1, 2), np.float32), 1)

    assert (ids.tolist(), similarity.tolist()) == ([[1]], [[0.0]])


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
def test_k_must_be_a_whole_number_from_one(square, k):
    """k = True is a mistake, not one."""
    with pytest.raises(InvalidParameter, match="k is out of range"):
        square.search(EAST, k)


def test_an_id_cannot_be_given_twice(make_index):
    """Nothing of the batch is added."""
    index = make_index(2)

    with pytest.raises(DuplicateIds):
        index.add(np.array([1, 2, 1]), np.ones((3, 2), np.float32))

    assert len(index) == 0


def test_an_id_that_is_present_cannot_be_added(square):
    """Nothing of the batch is added."""
    with pytest.raises(DuplicateIds, match="the first 3"):
        square.add(np.array([8, 3]), np.ones((2, 2), np.float32))

    assert len(square) == 4


def test_ids_are_not_negative(make_index):
    """-1 says that there is no row."""
    with pytest.raises(InvalidParameter):
        make_index(2).add(np.array([-1]), EAST)


def test_ids_and_keys_must_agree_in_number(make_index):
    """Otherwise a key would get another's id."""
    with pytest.raises(LengthMismatch):
        make_index(2).add(np.array([1, 2]), EAST)


def test_removing_an_unknown_row_removes_nothing(square):
    """One unknown id, and the whole call is refused."""
    with pytest.raises(UnknownIds, match="the first 9"):
        square.remove(np.array([1, 9]))

    assert len(square) == 4


def test_a_row_cannot_be_removed_twice(square):
    """The second time it is unknown."""
    square.remove(np.array([2]))

    with pytest.raises(UnknownIds):
        square.remove(np.array([2]))


def test_exclude_must_have_an_entry_per_query(square):
    """One short, and every query would leave out another's row."""
    with pytest.raises(LengthMismatch):
        square.search(np.repeat(EAST, 3, axis=0), 1, exclude=np.array([1, 2]))


@pytest.mark.parametrize("exclude", [5, np.array(5), np.ones((1, 1, 1), int), [1.5], ["a"]])
def test_exclude_must_hold_row_ids(square, exclude):
    """With an error of our tree, not one of NumPy's."""
    with pytest.raises(InvalidParameter):
        square.search(EAST, 1, exclude=exclude)


@pytest.mark.parametrize(
    "arguments",
    [
        {"dim": 0},
        {"dim": 2.0},
        {"dim": 2, "metric": "hamming"},
        {"dim": 2, "metric": "cosine", "metric_weights": [1.0, 1.0]},
        {"dim": 2, "metric": "manhattan", "metric_weights": [1.0, -1.0]},
        {"dim": 2, "metric": "manhattan", "metric_weights": [1.0, np.nan]},
        {"dim": 2, "metric": "manhattan", "metric_weights": [1.0]},
    ],
)
def test_an_index_that_makes_no_sense_is_not_made(make_index, arguments):
    """At the edge, once, with the expected range."""
    with pytest.raises(InvalidParameter, match="expected"):
        make_index(**arguments)


@pytest.mark.parametrize(
    "queries", [[["a", "b"]], [[1.0, 2.0], [3.0]], [[1j, 0]], None, np.array([[None, 1.0]])]
)
def test_queries_that_are_no_matrix_of_numbers_are_refused(square, queries):
    """With an error of our tree, not one of NumPy's."""
    with pytest.raises(InputError):
        square.search(queries, 1)
