"""Search by lists: what it may miss, and what it may never do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recollect.errors import CorruptMemory, InvalidParameter
from recollect.index.approximate import ApproximateIndex, Switches
from recollect.index.exact import ExactIndex
from recollect.index.keeper import Keeper
from recollect.index.policy import Approximate, as_policy

ROWS, DIM = 4000, 16
POLICY = Approximate(recall=0.95, least=1000, lists=64, sample=200, background=False)


@pytest.fixture(scope="module")
def keys():
    """Clusters of unequal size, as encoders make them."""
    rng = np.random.default_rng(3)
    centers = rng.standard_normal((100, DIM))
    return (centers[rng.integers(0, 100, ROWS)] + 0.4 * rng.standard_normal((ROWS, DIM))).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def queries(keys):
    rng = np.random.default_rng(4)
    return keys[:300] + np.float32(0.1) * rng.standard_normal((300, DIM)).astype(np.float32)


def make(keys, metric="cosine", policy=POLICY, **options):
    index = ApproximateIndex(DIM, metric, policy=policy, **options)
    index.add(np.arange(len(keys)), keys)
    index.prepare()
    return index


def exact(keys, metric="cosine"):
    index = ExactIndex(DIM, metric)
    index.add(np.arange(len(keys)), keys)
    return index


@pytest.fixture(scope="module")
def trained(keys):
    """For tests that do not write."""
    return make(keys)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("storage", ["8bit", "flat"])
def test_the_recall_that_was_asked_for_is_held(keys, queries, metric, storage):
    """The only promise that differs from an exact search's; 3,000 neighbors are counted."""
    policy = Approximate(0.95, storage, least=1000, lists=64, sample=200, background=False)
    index = make(keys, metric, policy)

    _, similarity = index.search(queries, 10)

    _, truth = exact(keys, metric).search(queries, 10)
    assert index.status()["engine"] == "lists"
    assert index.status()["lists_searched"] < 32
    assert (similarity >= truth[:, -1:]).mean() >= 0.95


def test_what_is_found_has_the_bits_of_an_exact_search(trained, keys, queries):
    """Nearness is never approximate: the same row has the same similarity in both."""
    ids, similarity = trained.search(queries, 10)

    every, all_scores = exact(keys).search(queries, ROWS)
    place = np.argsort(every, axis=1)
    right = np.take_along_axis(all_scores, np.take_along_axis(place, ids, axis=1), axis=1)
    assert np.array_equal(similarity, right)
    assert (np.diff(similarity, axis=1) <= 0).all()


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_answers_are_the_same_with_the_kernel_and_without(keys, queries, metric):
    """Which of the two scores the candidates is a matter of speed alone."""
    rows = np.concatenate([keys, keys[:50]])
    made = [
        make(rows, metric, exact=ExactIndex(DIM, metric, path=path)) for path in ("numpy", "auto")
    ]
    for index in made:
        index.remove(np.arange(5))

    exclude = [np.arange(5, 5 + at % 4) for at in range(len(queries))]
    one, other = (index.search(queries, 10, exclude=exclude) for index in made)

    assert made[0].status()["engine"] == "lists"
    assert all(map(np.array_equal, one, other))


def test_a_query_has_the_same_answer_alone_and_in_any_batch(trained, queries):
    """Batches are scheduled by load; answers may not be."""
    together = trained.search(queries, 10)

    alone = [trained.search(query[None], 10) for query in queries]

    assert np.array_equal(together[0], np.concatenate([ids for ids, _ in alone]))
    assert np.array_equal(together[1], np.concatenate([scores for _, scores in alone]))


def test_the_same_rows_and_seed_give_the_same_answers(trained, keys, queries):
    """A run that cannot be repeated cannot be debugged."""
    again = make(keys)

    assert all(map(np.array_equal, trained.search(queries, 10), again.search(queries, 10)))


def test_of_many_equal_rows_the_smallest_ids_are_kept(keys):
    """500 rows of one key are more than candidates taken at first, and 7 is the last of them."""
    rows = keys.copy()
    rows[1000:1500] = rows[7]
    index = make(rows)
    index.remove(np.array([7]))
    index.add(np.array([7]), rows[7:8])

    ids, _ = index.search(rows[7:8], 5)

    assert index.status()["engine"] == "lists"
    assert ids.tolist() == [[7, 1000, 1001, 1002, 1003]]


def test_a_removed_row_is_never_found_again(keys, queries):
    """Whether it has left the lists yet or not."""
    index = make(keys)
    gone = np.unique(index.search(queries, 3)[0])

    index.remove(gone)
    before = index.search(queries, 10)[0]
    index.keeper.purge()
    after = index.search(queries, 10)[0]

    assert not np.isin(before, gone).any()
    assert np.array_equal(before, after)
    assert index.keeper.trained.lists.rows == ROWS - len(gone)


def test_an_id_that_comes_back_is_found_by_its_new_key_only(keys):
    """Its old place in the lists is gone before the new one is taken."""
    index = make(keys)
    index.remove(np.array([5]))
    index.add(np.array([5]), -keys[9:10])

    assert index.search(-keys[9:10], 1)[0].tolist() == [[5]]
    assert 5 not in index.search(keys[5:6], 20)[0]
    assert index.keeper.trained.lists.rows == ROWS


def test_new_rows_are_found_at_once(keys):
    """Teaching takes effect on the next answer, in lists too."""
    index = make(keys)
    new = 3 * np.eye(DIM, dtype=np.float32)

    index.add(np.arange(9000, 9000 + DIM), new)

    assert index.search(new, 1)[0].ravel().tolist() == list(range(9000, 9000 + DIM))


def test_a_filter_that_few_rows_pass_is_answered_exactly(trained, keys, queries):
    """Of 40 rows in 64 lists most would be missed."""
    allowed = np.arange(0, ROWS, 100)

    answer = trained.search(queries, 10, allowed=allowed)

    assert all(map(np.array_equal, answer, exact(keys).search(queries, 10, allowed=allowed)))


def test_a_filter_that_many_rows_pass_holds_the_recall(keys, queries):
    """The lists hold fewer rows that qualify, so more of them are searched."""
    index = make(keys, switches=Switches(few_allowed=100))
    allowed = np.arange(0, ROWS, 10)

    ids, similarity = index.search(queries, 10, allowed=allowed)

    _, truth = exact(keys).search(queries, 10, allowed=allowed)
    assert (ids % 10 == 0).all()
    assert (similarity >= truth[:, -1:]).mean() >= 0.95


def test_excluded_rows_make_room_for_the_next(trained, keys):
    """Leave-one-out asks each row without itself, and still gets k neighbors."""
    rows = np.arange(50)

    ids, _ = trained.search(keys[:50], 10, exclude=rows)

    assert not (ids == rows[:, None]).any()
    assert (ids >= 0).all()


def test_a_query_has_one_answer_whatever_its_neighbors_leave_out(keys, queries):
    """How many rows others leave out may not widen its own search, nor make it exact."""
    index = make(keys, policy=Approximate(0.6, least=1, lists=64, sample=200, background=False))
    mine = np.array([3, 5])

    alone = [index.search(query[None], 10, exclude=[mine]) for query in queries[:60]]
    for others in (800, 2000):
        exclude = [mine] * 60 + [np.arange(others)]
        batch = index.search(queries[:61], 10, exclude=exclude)

        assert np.array_equal(batch[0][:60], np.concatenate([ids for ids, _ in alone]))
        assert np.array_equal(batch[1][:60], np.concatenate([near for _, near in alone]))
        assert not np.isin(batch[0][60], np.arange(others)).any()


def test_a_k_of_a_large_share_of_the_rows_is_answered_exactly(trained, keys, queries):
    """The lists would be read nearly whole."""
    answer = trained.search(queries[:5], 1000)

    assert all(map(np.array_equal, answer, exact(keys).search(queries[:5], 1000)))


def test_rows_that_float32_cannot_multiply_are_compared_all_the_same(keys):
    """Their products overflow in faiss; they are candidates for every query instead."""
    index = make(keys, "dot")
    index.add(np.array([9000]), np.full((1, DIM), 3e18))

    ids, similarity = index.search(np.full((1, DIM), 1.0), 1)

    assert ids.tolist() == [[9000]]
    assert similarity.tolist() == [[np.float32(3e18 * DIM)]]


def test_manhattan_is_always_answered_exactly(keys, queries):
    """faiss has no such lists."""
    index = make(keys, "manhattan")

    assert index.status()["engine"] == "exact"
    assert all(
        map(np.array_equal, index.search(queries, 5), exact(keys, "manhattan").search(queries, 5))
    )


def test_lists_are_trained_anew_when_the_rows_have_doubled(keys):
    """Centers of the first rows say little of many others."""
    index = make(keys[:1500])
    before = index.keeper.trained

    index.add(np.arange(1500, ROWS), keys[1500:])
    index.search(keys[:1], 1)

    assert index.keeper.trained.lists is not before.lists
    assert index.keeper.trained.rows_trained == ROWS


def test_recall_is_measured_anew_when_a_fifth_of_the_rows_has_changed(keys):
    """The lists stay; how deep they are searched follows."""
    index = make(keys[:3000])
    before = index.keeper.trained

    index.add(np.arange(3000, ROWS), keys[3000:])
    index.search(keys[:1], 1)

    assert index.keeper.trained.lists is before.lists
    assert index.keeper.trained.rows_measured == ROWS


def test_rows_that_replace_others_are_noticed_although_their_number_stays(keys):
    """Recall fell to 0.76 with 0.95 wanted: lists knew nothing of the new rows' place."""
    rng = np.random.default_rng(8)
    new = (rng.standard_normal((ROWS, DIM)) - 3).astype(np.float32)
    index = make(keys)
    before = index.keeper.trained

    index.remove(np.arange(ROWS))
    index.add(np.arange(ROWS), new)
    _, similarity = index.search(new[:300], 10)

    _, truth = exact(new).search(new[:300], 10)
    assert index.keeper.trained.lists is not before.lists
    assert (similarity >= truth[:, -1:]).mean() >= 0.95


def test_a_quarter_of_the_rows_replaced_is_measured_anew(keys):
    """More than a fifth, and too few to train for."""
    index = make(keys)
    before = index.keeper.trained

    index.remove(np.arange(1000))
    index.add(np.arange(1000), -keys[:1000])
    index.search(keys[:1], 1)
    after = index.keeper.trained
    index.search(keys[:1], 1)

    assert after is not before
    assert after.lists is before.lists
    assert index.keeper.trained is after


def test_a_recall_that_is_not_held_is_never_shown_as_that_of_lists(keys, queries):
    """Where nothing that was tried reaches the recall, every search is exact, and says so."""
    index = make(keys)
    index.keeper.trained = replace(index.keeper.trained, measured=0.9)

    answer = index.search(queries, 10)

    assert index.status() == {"engine": "exact", "wanted_recall": 0.95, "training": False}
    assert all(map(np.array_equal, answer, exact(keys).search(queries, 10)))


def test_a_few_rows_far_out_cost_no_recall(keys):
    """Eight bits have nothing left to tell the others apart: more candidates are taken."""
    rows = keys.copy()
    rows[:8] *= 1e6 * np.array([1, -1] * 4)[:, None]
    index = make(rows, "euclidean")

    _, similarity = index.search(rows[100:400], 10)

    _, truth = exact(rows, "euclidean").search(rows[100:400], 10)
    assert index.status().get("measured_recall", 1.0) >= 0.95
    assert (similarity >= truth[:, -1:]).mean() >= 0.95


def test_a_training_ends_soon_after_its_keeper_was_closed(keys):
    """A handle that is closed leaves no thread behind that works for nobody."""
    index = ApproximateIndex(DIM, policy=Approximate(least=1000, lists=64, sample=500))
    index.add(np.arange(ROWS), keys)

    index.search(keys[:1], 1)
    index.keeper.close()

    assert not index.status()["training"]
    assert index.search(keys[:1], 1)[0].tolist() == [[0]]
    assert not index.status()["training"]
    assert "failure" not in index.status()


def test_searches_are_exact_while_lists_are_trained(keys, queries):
    """Nobody waits for lists, and nobody gets a worse answer for their absence."""
    index = ApproximateIndex(DIM, policy=Approximate(least=1000, lists=64, sample=50))
    index.add(np.arange(ROWS), keys)

    first = index.search(queries, 10)
    index.prepare()

    assert all(map(np.array_equal, first, exact(keys).search(queries, 10)))
    assert index.status()["engine"] == "lists"
    assert not index.status()["training"]


def test_rows_that_come_and_go_while_lists_are_trained_are_in_them_after(keys):
    """Training works on the rows as they were when it began."""
    index = ApproximateIndex(DIM, policy=Approximate(least=1000, lists=64, sample=50))
    index.add(np.arange(3500), keys[:3500])

    index.search(keys[:1], 1)
    index.add(np.arange(3500, ROWS), keys[3500:])
    index.remove(np.arange(100))
    index.prepare()

    assert np.array_equal(index.keeper.trained.ids, np.arange(100, ROWS))


def test_a_training_that_fails_leaves_exact_answers_and_says_why(keys, queries):
    """An answer is owed in any case."""

    def doubt(ids):
        if ids is None and not np.array_equal(seen, [True]):
            seen.append(True)
            raise CorruptMemory("the key of row 3 was altered on disk")

    seen = []
    index = ApproximateIndex(DIM, policy=POLICY, vouch=doubt)
    index.add(np.arange(ROWS), keys)

    answer = index.search(queries, 5)

    assert all(map(np.array_equal, answer, exact(keys).search(queries, 5)))
    assert index.status()["failure"].startswith("the key of row 3 was altered")


def test_every_candidate_is_vouched_for_before_it_is_scored(keys):
    """A damaged key could otherwise push a better row out of the answer unnoticed."""

    def vouch(ids):
        seen.append(ids)

    seen = []
    index = make(keys, vouch=vouch)
    seen.clear()

    ids, _ = index.search(keys[:1], 5)

    assert len(seen) == 1
    assert len(seen[0]) > 5
    assert np.isin(ids, seen[0]).all()


def test_rows_read_anew_keep_their_lists(keys, queries):
    """A reader follows a writer elsewhere: only what differs goes into the lists."""
    first = make(keys)
    lists = first.keeper.trained.lists
    rows = ExactIndex(DIM)
    rows.add(np.arange(10, ROWS), keys[10:])
    rows.add(np.array([9000]), keys[:1])

    second = ApproximateIndex(DIM, exact=rows, keeper=first.keeper)

    assert second.keeper.trained.lists is lists
    assert second.search(keys[:1], 1)[0].tolist() == [[9000]]
    assert np.array_equal(second.keeper.trained.ids, [*range(10, ROWS), 9000])


def test_an_old_index_never_names_a_row_that_only_a_new_one_has(keys):
    """Two views may share one set of lists; each answers from its own rows."""
    old = make(keys)
    rows = ExactIndex(DIM)
    rows.add(np.arange(ROWS), keys)
    rows.add(np.array([9000]), keys[:1])
    new = ApproximateIndex(DIM, exact=rows, keeper=old.keeper)

    assert new.search(keys[:1], 2)[0].tolist() == [[0, 9000]]
    assert old.search(keys[:1], 1)[0].tolist() == [[0]]
    assert 9000 not in old.search(keys[:1], 20)[0]


def test_a_keeper_says_what_it_holds(trained):
    """`Memory.stats` passes this on."""
    status = trained.status()

    assert status["engine"] == "lists"
    assert status["lists"] == 64
    assert status["wanted_recall"] == 0.95
    assert status["measured_recall"] >= 0.95
    assert Keeper("cosine", POLICY).status() == {"wanted_recall": 0.95, "training": False}


@pytest.mark.parametrize(
    "options",
    [
        {"recall": 1.0},
        {"recall": 0.4},
        {"recall": True},
        {"recall": "high"},
        {"storage": "4bit"},
        {"least": 0},
        {"lists": 0},
        {"sample": 1.5},
        {"seed": -1},
        {"background": 1},
    ],
)
def test_a_policy_that_makes_no_sense_is_not_made(options):
    """When it is made, not when it is used."""
    with pytest.raises(InvalidParameter, match="expected"):
        Approximate(**options)


@pytest.mark.parametrize("search", ["fast", None, 0.99, Approximate])
def test_a_search_that_is_not_known_is_refused(search):
    """With the words that are known."""
    with pytest.raises(InvalidParameter, match="'exact', 'approximate'"):
        as_policy(search)
