"""Dense memories as their users meet them: teach, ask, correct, forget, explain."""

from __future__ import annotations

import pickle
from threading import Thread

import numpy as np
import pytest
from tiny_pyramids import EAST, NORTH, WEST, pair, random_mask, random_pyramid, signal

from recollect import Approximate, DenseMemoryRegressor, DenseMemorySegmenter, Memory
from recollect.errors import EmptyMemory

AXES = [1, 2, 3]


def samples(count, axes=2, start=0):
    pyramids = [random_pyramid(seed, axes) for seed in range(start, start + count)]
    masks = [random_mask(seed, (4,) * axes) for seed in range(start, start + count)]
    return pyramids, masks


def taught(count=3, axes=2, **options):
    return DenseMemorySegmenter(**{"k": 3} | options).fit(*samples(count, axes))


# -- answers -----------------------------------------------------------------------------------


def test_a_cell_takes_the_label_of_its_match():
    """The smallest memory there is: one signal of two cells."""
    head = DenseMemorySegmenter(k=1, message_passing=None).fit([signal(EAST, NORTH)], [[7, 9]])

    assert head.predict([signal(NORTH, EAST)]).tolist() == [[9, 7]]
    assert head.classes_.tolist() == [7, 9]


def test_the_coarse_level_decides_where_the_fine_level_looks():
    """North lies under both; the label of the one whose coarse cell matches is read."""
    head = DenseMemorySegmenter(k=1, message_passing=None)
    head.fit([pair(EAST, NORTH, EAST), pair(WEST, NORTH, EAST)], [[1, 0], [2, 0]])

    assert head.predict([pair(WEST, NORTH, NORTH)]).tolist() == [[2, 2]]


def test_the_path_remembers_how_well_the_coarse_level_matched():
    """Both fine cells match alike; by level the lower sample wins, by path the better parent."""
    head = DenseMemorySegmenter(k=(2, 1), message_passing=None)
    head.fit([pair(NORTH, EAST, EAST), pair([1.0, 1.0], EAST, EAST)], [[1, 1], [2, 2]])
    query = [pair(EAST, EAST, EAST)]

    assert head.predict(query).tolist() == [[1, 1]]
    assert head.set_params(score="path").predict(query).tolist() == [[2, 2]]


def test_shares_of_a_cell_are_those_of_its_pixels():
    """Four pixels to a cell, one of them to be ignored: two thirds and one third."""
    head = DenseMemorySegmenter(k=1, message_passing=None)
    head.fit([signal(EAST, NORTH)], [[5, 5, 6, 255, 6, 6, 6, 6]])

    shares = head.predict_proba([signal(EAST, NORTH)])

    assert shares[0] == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))


def test_an_unlabelled_cell_is_never_read():
    """The best match has no label; the next best answers."""
    head = DenseMemorySegmenter(k=1, message_passing=None)
    head.fit([signal(EAST, [1.0, 0.5])], [[255, 4]])

    assert head.predict([signal(EAST, EAST)]).tolist() == [[4, 4]]


def test_a_cell_whose_matches_lead_to_no_label_has_no_answer():
    """Never a silent first label: 255, and shares of zero."""
    head = DenseMemorySegmenter(k=1, message_passing=None)
    head.fit([[np.array([EAST, NORTH]), np.array([EAST] * 4)]], [[255, 255, 3, 3]])
    query = [pair(EAST, EAST, EAST)]

    answer = head.answer(query)[0]

    assert answer.valid.tolist() == [False, False]
    assert head.predict(query).tolist() == [[255, 255]]
    assert head.predict_proba(query).tolist() == [[[0.0], [0.0]]]


def test_messages_fill_a_cell_without_an_answer():
    """Its neighbor has one."""
    head = DenseMemorySegmenter(k=1)
    head.fit([[np.array([EAST, NORTH]), np.array([EAST] * 4)]], [[255, 255, 3, 3]])

    answered = head.predict([[np.array([EAST, NORTH]), np.array([EAST, EAST, EAST, EAST])]])

    assert answered.tolist() == [[255, 3, 3, 3]]


def test_answers_come_at_the_size_of_the_input_or_at_any_other():
    """Cells are interpolated; a mask of twice the grid asks for twice the grid."""
    head = DenseMemorySegmenter(k=1, message_passing=None).fit([signal(EAST, NORTH)], [[1, 2]])

    assert head.predict([signal(EAST, NORTH)], size=(4,)).tolist() == [[1, 1, 2, 2]]
    shares = head.predict_proba([signal(EAST, NORTH)], size=(4,))[0]
    assert shares[:, 0].tolist() == [1.0, 0.75, 0.25, 0.0]


def test_pasted_patches_keep_what_is_thinner_than_a_cell():
    """One pixel in four is a pole; interpolated shares lose it, the pasted patch does not."""
    mask = [1, 1, 2, 1, 3, 3, 3, 3]
    head = DenseMemorySegmenter(k=1, message_passing=None).fit([signal(EAST, NORTH)], [mask])
    query = [signal(EAST, NORTH)]

    assert 2 not in head.predict(query, size=(8,))[0]
    assert head.set_params(retrieve="patch").predict(query, size=(8,))[0].tolist() == mask


def test_balance_raises_a_rare_label():
    """Three matches in four say 1, but three pixels in four are 1 as well: even at balance 1."""
    head = DenseMemorySegmenter(k=4, temperature=np.inf, message_passing=None, balance=1.0)
    head.fit([signal(EAST, EAST, EAST, EAST)], [[1, 1, 1, 2]])

    shares = head.predict_proba([signal(EAST, EAST, EAST, EAST)])

    assert shares[0, 0] == pytest.approx([0.5, 0.5])


def test_position_tells_cells_apart_that_look_alike():
    """Left is 1, right is 2, and both look east."""
    head = DenseMemorySegmenter(k=1, message_passing=None, position=1.0)
    head.fit([signal(EAST, EAST)], [[1, 2]])

    assert head.predict([signal(EAST, EAST)]).tolist() == [[1, 2]]


def test_a_sample_of_twice_the_weight_counts_twice():
    """Two samples match alike: 2 to 1."""
    head = DenseMemorySegmenter(k=2, message_passing=None)
    head.fit([signal(EAST), signal(EAST)], [[1], [2]], weights=[2.0, 1.0])

    assert head.predict_proba([signal(EAST)])[0, 0] == pytest.approx([2 / 3, 1 / 3])


def test_numbers_are_read_as_mean_median_or_linear_fit():
    """Values 0, 0 and 9 at one place: 3 on average, 0 in the middle."""
    head = DenseMemoryRegressor(k=3, temperature=np.inf, message_passing=None)
    head.fit([signal(EAST), signal(EAST), signal(EAST)], [[0.0], [0.0], [9.0]])
    query = [signal(EAST)]

    assert head.predict(query).tolist() == [[3.0]]
    assert head.set_params(reading="median").predict(query).tolist() == [[0.0]]
    assert head.set_params(reading="linear").predict(query) == pytest.approx(3.0)


def test_vectors_of_numbers_keep_their_width():
    """Two numbers a pixel, as for flow."""
    head = DenseMemoryRegressor(k=1).fit([signal(EAST, NORTH)], [[[1.0, 2.0], [3.0, 4.0]]])

    assert head.predict([signal(NORTH, EAST)], size=(2,)).shape == (1, 2, 2)


def test_a_cell_far_from_all_that_is_known_says_so():
    """Novelty is 1 minus the best similarity: 0 for a twin, 1 at a right angle."""
    head = DenseMemorySegmenter(k=1, message_passing=None).fit([signal(EAST)], [[1]])

    answer = head.answer([signal(EAST, NORTH)])[0]

    assert answer.novelty.tolist() == [0.0, 1.0]
    assert answer.confidence.tolist() == [1.0, 1.0]


def test_samples_and_queries_may_have_grids_of_several_sizes():
    """The search never compares places."""
    head = DenseMemorySegmenter(k=2)
    head.fit([random_pyramid(0, side=2), random_pyramid(1, side=3)],
             [random_mask(0, (4, 4)), random_mask(1, (6, 6))])  # fmt: skip

    answers = head.predict([random_pyramid(2, side=1), random_pyramid(3, side=4)])

    assert [each.shape for each in answers] == [(2, 2), (8, 8)]


def test_a_zero_vector_is_similar_to_nothing_and_breaks_nothing():
    """Black corners of an image have features of zero."""
    head = DenseMemorySegmenter(k=2, message_passing=None)
    head.fit([signal([0.0, 0.0], EAST)], [[1, 2]])

    assert head.predict([signal([0.0, 0.0], EAST)]).tolist() == [[1, 2]]


# -- laws --------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize(
    "options",
    [{}, {"score": "path", "position": 0.3, "balance": 0.5}, {"kernel": "overlap"},
     {"sparse_levels": 1, "precision": "int8"}],
    ids=["plain", "path", "overlap", "sparse"],
)  # fmt: skip
def test_forgetting_equals_never_having_been_taught_bit_for_bit(axes, options):
    """Unlearning is exact, in any dimension and with every option that looks at the memory."""
    pyramids, masks = samples(5, axes)
    ids = [3, 8, 9, 20, 21]
    without = [0, 2, 4]
    head = DenseMemorySegmenter(k=3, **options).fit(pyramids, masks, ids=ids)
    fresh = DenseMemorySegmenter(k=3, **options).fit(
        [pyramids[at] for at in without], [masks[at] for at in without],
        ids=[ids[at] for at in without],
    )  # fmt: skip
    query = [random_pyramid(77, axes)]
    head.predict(query)  # its cells are laid out before anything goes

    head.forget([8, 20])

    assert np.array_equal(head.predict_proba(query), fresh.predict_proba(query))


@pytest.mark.parametrize("axes", AXES)
def test_the_order_of_teaching_does_not_matter(axes):
    """Ids decide ties, not the order in which samples came."""
    pyramids, masks = samples(4, axes)
    order = [2, 0, 3, 1]
    head = DenseMemorySegmenter(k=3).fit(pyramids, masks, ids=[0, 1, 2, 3])
    other = DenseMemorySegmenter(k=3)
    query = [random_pyramid(77, axes)]
    for at in order:
        other.partial_fit([pyramids[at]], [masks[at]], ids=[at]).predict(query)

    assert np.array_equal(head.predict_proba(query), other.predict_proba(query))


def test_a_query_gets_the_same_bits_alone_and_in_any_batch():
    """What else is asked changes nothing."""
    head = taught()
    queries = [random_pyramid(seed) for seed in (50, 51, 52)]

    together = head.predict_proba(queries)

    assert np.array_equal(head.predict_proba(queries[1:2])[0], together[1])


def test_the_memory_cap_changes_no_answer():
    """It decides how much is gathered at once, nothing else."""
    query = [random_pyramid(50)]
    small, large = taught(memory_cap=1 << 20), taught(memory_cap=1 << 30)

    assert np.array_equal(small.predict_proba(query), large.predict_proba(query))


def test_asking_writes_nothing():
    """Neither a version nor a row."""
    head = taught()
    before = head.memory_.version

    head.predict([random_pyramid(9)])
    head.explain(random_pyramid(9), (0, 0))

    assert head.memory_.version == before


def test_new_labels_may_come_at_any_time():
    """A class taught later is answered, and answers about the others stay possible."""
    head = DenseMemorySegmenter(k=1, message_passing=None).fit([signal(EAST)], [[1]])
    assert head.predict([signal(NORTH)]).tolist() == [[1]]

    head.partial_fit([signal(NORTH)], [[40]])

    assert head.predict([signal(NORTH, EAST)]).tolist() == [[40, 1]]
    assert head.classes_.tolist() == [1, 40]


def test_a_forgotten_label_is_gone_from_the_columns():
    """As if it had never been taught."""
    head = DenseMemorySegmenter(k=1).fit([signal(EAST), signal(NORTH)], [[1], [40]])

    head.forget(head.ids_[1:])

    assert head.classes_.tolist() == [1]
    assert head.predict_proba([signal(EAST)]).shape == (1, 1, 1)


def test_relabelling_takes_effect_with_the_next_answer():
    """Features stay as they are; the row's mask is another."""
    head = DenseMemorySegmenter(k=1, message_passing=None).fit([signal(EAST, NORTH)], [[1, 2]])
    head.predict([signal(EAST)])

    head.relabel(head.ids_, [[1, 7]])

    assert head.predict([signal(NORTH, EAST)]).tolist() == [[7, 1]]


def test_numbers_are_relabelled_too():
    """The same verb for a regressor."""
    head = DenseMemoryRegressor(k=1).fit([signal(EAST)], [[1.0]])

    assert head.relabel(head.ids_, [[5.0]]).predict([signal(EAST)]).tolist() == [[5.0]]


def test_another_writer_of_the_memory_is_followed():
    """The cells are a cache of the rows, whoever wrote them."""
    memory = Memory.create(":memory:", dim=2, metric="dot", value="arrays")
    head = DenseMemorySegmenter(k=1, message_passing=None, memory=memory)
    head.fit([signal(EAST), signal(NORTH)], [[1], [2]])
    assert head.predict([signal(NORTH)]).tolist() == [[2]]

    memory.remove([1])
    assert head.predict([signal(NORTH)]).tolist() == [[1]]

    memory.restore(1)
    assert head.predict([signal(NORTH)]).tolist() == [[2]]

    memory.erase([1])
    assert head.predict([signal(NORTH)]).tolist() == [[1]]


def test_masks_that_changed_before_a_compaction_are_read():
    """Compaction hides what happened before it; the cells held may not be taken for the rows."""
    head = DenseMemorySegmenter(k=1, message_passing=None).fit([signal(EAST, NORTH)], [[1, 2]])
    assert head.predict([signal(EAST, NORTH)]).tolist() == [[1, 2]]

    head.relabel([0], [[3, 4]])
    head.memory_.compact()

    assert head.predict([signal(EAST, NORTH)]).tolist() == [[3, 4]]


@pytest.mark.parametrize("way", ["forget", "erase", "compact", "relabel"])
def test_questions_beside_a_writer_see_one_version_each(way):
    """Of every version one label fills all masks: a mixture of two would show both."""
    query, memory = (
        [signal(EAST, NORTH)],
        Memory.create(":memory:", dim=2, value="arrays", metric="dot"),
    )
    head = DenseMemorySegmenter(k=1, memory=memory, prefilter=1, message_passing=None)
    head.fit([signal(EAST, NORTH)] * 2, [[0, 0]] * 2)
    asking, failures, odd = [True], [], []

    def ask():
        own = DenseMemorySegmenter(k=1, memory=memory, prefilter=1, message_passing=None)
        while asking:
            try:
                shares = own.predict_proba(query)
                why = own.explain(query[0], (0,))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
                failures.append(error)
                return
            if not np.allclose(shares.sum(axis=-1), 1) or len(why.evidence) != 1:
                odd.append(shares)

    threads = [Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for label in range(1, 40):
        _rewrite(head, way, label)
    asking.clear()
    for thread in threads:
        thread.join()

    assert (failures, odd) == ([], [])


def _rewrite(head, way, label):
    if way == "relabel":
        head.relabel(head.ids_, [[label, label]] * 2)
        return
    before = head.ids_
    head.partial_fit([signal(EAST, NORTH)] * 2, [[label, label]] * 2)
    if way == "erase":
        head.memory_.erase(before)
        return
    head.forget(before)
    if way == "compact":
        head.memory_.compact()


def test_a_memory_on_disk_answers_after_it_was_closed(tmp_path):
    """Rows last; the cells are laid out again."""
    head = DenseMemorySegmenter(k=2, memory=tmp_path / "scenes").fit(*samples(3))
    query = [random_pyramid(9)]
    before = head.predict_proba(query)
    head.memory_.close()

    again = DenseMemorySegmenter(k=2, memory=tmp_path / "scenes")

    assert np.array_equal(again.predict_proba(query), before)


def test_a_copy_in_another_process_answers_alike():
    """What travels are the rows, not the cells."""
    head = taught()
    query = [random_pyramid(9)]

    copy = pickle.loads(pickle.dumps(head))  # noqa: S301 - our own bytes

    assert np.array_equal(copy.predict_proba(query), head.predict_proba(query))


def test_fit_forgets_what_was_taught_before():
    """As scikit-learn's estimators do."""
    head = taught().fit([signal(EAST)], [[9]])

    assert head.classes_.tolist() == [9]


def test_an_empty_memory_says_so():
    """Asked before anything was taught, or after everything was forgotten."""
    head = taught()
    head.forget(head.ids_)

    with pytest.raises(EmptyMemory):
        head.predict([random_pyramid(1)])
    with pytest.raises(EmptyMemory):
        DenseMemorySegmenter().predict([random_pyramid(1)])


# -- sparse memories, precision, pre-filter ----------------------------------------------------


def test_a_sparse_memory_keeps_one_child_of_each_cell():
    """2 x 2 coarse cells: 4 of the 16 fine ones stay."""
    head = taught(count=1, sparse_levels=1)

    row = head.memory_.rows().values[0]

    assert row["features_0"].shape == (4, 5)
    assert row["features_1"].shape == (4, 4)
    assert sorted((row["cells_1"] // 8 * 2 + row["cells_1"] % 4 // 2).tolist()) == [0, 1, 2, 3]


FOUR = [np.array([[1.0, 1.0]]), np.array([EAST, [1.0, 0.2], NORTH, WEST])]


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, [3]), ({"sparse_keep": 2}, [2, 3]), ({"sparse_keep": 3}, [1, 2, 3]),
     ({"sparse_keep": 9}, [0, 1, 2, 3]), ({"sparse_keep": 2, "order": "fine_first"}, [2, 3]),
     ({"novelty": "max"}, [3]), ({"novelty": "max", "sparse_keep": 3}, [0, 2, 3])],
    ids=str,
)  # fmt: skip
def test_a_sparse_memory_keeps_as_many_of_the_most_novel_children_as_asked(options, kept):
    """West is beside North alone (novelty 1), North beside West and the slant one (.90), East
    beside the slant one (.02), and that beside East and North: .41, or .02 by the most similar."""
    head = DenseMemorySegmenter(k=1, sparse_levels=1, **options).fit([FOUR], [[0, 1, 2, 3]])

    cells = head.memory_.rows([0]).values[0]["cells_1"].tolist()

    assert cells == kept


def test_children_that_stay_answer_with_labels_of_their_own():
    """Two of four: the query's cells that match them read them, the others the next best."""
    head = DenseMemorySegmenter(k=(1, 1), sparse_levels=1, sparse_keep=2, message_passing=None)
    head.fit([FOUR], [[5, 6, 7, 8]])

    assert head.predict([FOUR]).tolist() == [[7, 7, 7, 8]]


def test_keeping_the_finest_first_keeps_as_many():
    """The other order gives other cells of the same number."""
    head = taught(count=1, sparse_levels=1, order="fine_first")

    assert head.memory_.rows().values[0]["features_1"].shape == (4, 4)


@pytest.mark.parametrize(("precision", "size"), [("float32", 4), ("float16", 2), ("int8", 1)])
def test_features_take_the_room_that_was_asked_for(precision, size):
    """One, two or four bytes a number."""
    head = taught(count=1, precision=precision)

    assert head.memory_.rows().values[0]["features_1"].itemsize == size


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_coarse_numbers_change_shares_a_little(precision):
    """A match is a match in eight bits too."""
    pyramids, masks = samples(3)
    head = DenseMemorySegmenter(k=1, precision=precision, message_passing=None)

    assert np.array_equal(head.fit(pyramids, masks).predict(pyramids), masks)


def test_the_pre_filter_compares_with_the_samples_most_alike_as_a_whole():
    """Only the sample that looks west on average is searched for a western scene."""
    head = DenseMemorySegmenter(k=1, message_passing=None, prefilter=1)
    head.fit([signal(EAST, NORTH), signal(WEST, [-1.0, 0.1])], [[1, 1], [2, 2]])

    assert head.predict([signal(WEST, NORTH, WEST)]).tolist() == [[2, 2, 2]]


def test_few_cells_are_searched_exactly_whatever_was_asked_for():
    """Lists are made from 50,000 cells on, or as many as asked."""
    queries = [random_pyramid(7)]

    exact, lists = taught(), taught(search=Approximate(background=False))

    assert exact.predict_proba(queries).tobytes() == lists.predict_proba(queries).tobytes()


def test_lists_on_the_coarsest_level_name_cells_that_are_there_and_score_them_truly():
    """They may miss a cell; what they find is scored as an exact search scores it."""
    pytest.importorskip("faiss")
    lists = Approximate(recall=0.9, least=500, background=False, lists=32)
    several = [random_pyramid(seed, widths=(4, 4), side=8) for seed in range(60)]
    masks = [random_mask(seed, (16, 16)) for seed in range(60)]
    exact = DenseMemorySegmenter(k=1, message_passing=None).fit(several, masks)
    head = DenseMemorySegmenter(k=1, message_passing=None, search=lists).fit(several, masks)
    query = [random_pyramid(99, widths=(4, 4), side=8)]

    found, wanted = (each.forget([3]).answer(query)[0] for each in (head, exact))

    assert head._layout().cells.index.status()["engine"] == "lists"
    assert (found.novelty == wanted.novelty).mean() > 0.8


def test_diagnosis_of_a_search_that_misses_nothing():
    """One level is flat search: it finds what flat search finds."""
    head = DenseMemorySegmenter(k=2).fit(
        [signal(EAST), signal(NORTH), signal(WEST)], [[1], [2], [3]]
    )

    report = head.diagnose()

    assert (report.samples, report.k, report.recall, report.top) == (3, 2, 1.0, 1.0)


def test_diagnosis_beside_a_process_that_erases_is_of_one_version(tmp_path):
    """The cells were laid out with a row that another process erases before it is read again."""
    writer = DenseMemorySegmenter(k=3, memory=tmp_path / "scenes").fit(*samples(4)).memory_
    head = DenseMemorySegmenter(k=3, memory=Memory.open(tmp_path / "scenes", read_only=True))
    layout = head._layout()
    read = layout.row

    def row(id_):
        if len(writer) == 4:
            writer.erase(writer.ids[-2:])
        return read(id_)

    layout.row = row

    assert head.diagnose().samples == 2


def test_diagnosis_of_a_search_that_is_led_astray():
    """The coarse level leads to the wrong sample; flat search finds the twin."""
    head = DenseMemorySegmenter(k=1)
    head.fit([pair(EAST, NORTH, NORTH), pair(WEST, EAST, EAST)], [[1, 1], [2, 2]])

    report = head.diagnose([pair(EAST, EAST, EAST)])

    assert (report.recall, report.score, report.flat_score) == (0.0, 0.0, 1.0)


def test_diagnosis_by_path_compares_paths():
    """Flat search by the same score; it is never worse."""
    report = taught(count=4, score="path").diagnose(samples=2)

    assert report.samples == 2
    assert report.flat_score >= report.score


# -- explanations ------------------------------------------------------------------------------


def test_an_explanation_names_the_cell_that_was_read():
    """Sample, place, pixels, weight and source."""
    head = DenseMemorySegmenter(k=1, message_passing=None)
    head.fit([signal(EAST, NORTH)], [[1, 1, 2, 2]], ids=[17], sources=["scene.png"])

    why = head.explain(signal(NORTH, EAST), (0,))

    assert (why.prediction, why.score) == (2, 1.0)
    [cell] = why.evidence
    assert (cell.id, cell.cell, cell.patch, cell.source) == (17, (1,), ((2, 4),), "scene.png")
    assert (cell.weight, cell.contribution, cell.value) == (1.0, 1.0, {2: 1.0})


@pytest.mark.parametrize("mode", [None, "anchored", "step"])
@pytest.mark.parametrize("balance", [0.0, 0.7])
@pytest.mark.parametrize("axes", AXES)
def test_contributions_add_up_to_the_score(mode, balance, axes):
    """Whatever the messages did, and however rare labels were raised."""
    head = taught(axes=axes, message_passing=mode, balance=balance, max_iterations=9)
    query, cell = random_pyramid(9, axes), (1,) * axes

    why = head.explain(query, cell)

    shares = head.predict_proba([query])[0][cell]
    assert sum(each.contribution for each in why.evidence) == pytest.approx(why.score)
    assert sum(each.weight for each in why.evidence) == pytest.approx(1.0)
    assert why.score == pytest.approx(shares.max())
    assert why.prediction == head.predict([query])[0][cell]


@pytest.mark.parametrize("reading", ["mean", "median", "linear"])
def test_contributions_of_numbers_add_up_to_the_prediction(reading):
    """Negative weights of a linear fit included."""
    pyramids, masks = samples(3)
    head = DenseMemoryRegressor(k=4, reading=reading).fit(pyramids, [m * 1.5 for m in masks])
    query = random_pyramid(9)

    why = head.explain(query, (2, 1))

    assert sum(each.contribution for each in why.evidence) == pytest.approx(why.prediction)
    assert why.prediction == pytest.approx(head.predict([query])[0][2, 1])


def test_a_kept_cell_may_answer_for_all_the_cells_it_stands_for():
    """Of two cells the novel one stays, labelled 2; together they are half 1 and half 2."""
    sample = [np.array([EAST, EAST]), np.array([[1.0, 0.5], EAST, WEST, WEST])]
    head = DenseMemorySegmenter(k=1, message_passing=None, sparse_levels=1)
    query = [pair(EAST, EAST, EAST)]

    alone = head.fit([sample], [[1, 2, 1, 1]]).predict_proba(query)
    together = head.set_params(block_labels=True).predict_proba(query)

    assert alone[0, 0].tolist() == [0.0, 1.0]
    assert together[0, 0].tolist() == [0.5, 0.5]


def test_a_kept_cell_may_hold_the_mean_of_all_the_numbers_it_stands_for():
    """1 and 3 together are 2."""
    sample = [np.array([EAST]), np.array([EAST, NORTH])]
    head = DenseMemoryRegressor(k=1, message_passing=None, sparse_levels=1, block_labels=True)

    assert head.fit([sample], [[1.0, 3.0]]).predict([pair(EAST, NORTH, NORTH)]).tolist() == [[2, 2]]
