"""What looks wrong is found, proposed, carried out on request, and undone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recollect import Memory
from recollect.curation.curate import apply_report, inspect_rows
from recollect.curation.duplicates import find_duplicates
from recollect.curation.suspects import find_harmful, find_suspects
from recollect.errors import EmptyMemory, InvalidParameter
from recollect.heads.peers import Peers
from recollect.readout.voting import VoteRule


@pytest.fixture
def memory():
    """Five rows to the east, one of them mislabeled; three to the north, two of them the same."""
    memory = Memory.create(":memory:", dim=2)
    keys = [[1, 0], [1, 0.1], [1, 0.2], [1, 0.3], [1, 0.15], [0, 1], [0, 1], [0.1, 1]]
    memory.add(keys, ["e", "e", "e", "e", "n", "n", "n", "n"])
    return memory


def test_a_row_whose_neighbors_all_say_otherwise_is_a_suspect(memory):
    """Row 4 lies among the easts; asked of its four nearest, all of them are."""
    [suspect] = find_suspects(Peers(memory), neighbors=4)

    assert (suspect.id, suspect.label, suspect.suggested) == (4, "n", "e")
    assert (suspect.share, suspect.suggested_share) == (0.0, 1.0)


def test_twice_the_votes_make_a_suspect_and_fewer_do_not():
    """Row 0 is called a by one of three neighbors and b by two: twice as many."""
    memory = Memory.create(":memory:", dim=1, metric="euclidean")
    memory.add([[0.0], [1.0], [-1.1], [1.2]], ["a", "a", "b", "b"])
    peers = Peers(memory)

    assert 0 in [one.id for one in find_suspects(peers, neighbors=3, times=2.0)]
    assert 0 not in [one.id for one in find_suspects(peers, neighbors=3, times=2.1)]


def test_harm_is_the_share_in_wrong_answers(memory):
    """At k = 1 row 4 alone answers for rows 1 and 2, its nearest, and is right about nobody."""
    [worst] = find_harmful(Peers(memory), VoteRule("plurality"), 1, most=1)

    assert (worst.id, worst.label) == (4, "n")
    assert (worst.harm, worst.help) == (2.0, 0.0)
    assert sorted(worst.misled) == [1, 2]


def test_the_misled_are_named_those_it_swayed_most_first():
    """Row 0 alone answers for rows 1 and 4; for row 3 together with its own kind, row 2."""
    memory = Memory.create(":memory:", dim=1, metric="euclidean")
    memory.add([[0.0], [0.5], [10.0], [4.0], [-6.5]], ["a", "b", "a", "c", "b"])

    worst = {one.id: one for one in find_harmful(Peers(memory), VoteRule("plurality"), 3)}

    assert worst[0].misled == (1, 4, 3)
    assert worst[0].harm == pytest.approx(2.5)


def test_exact_duplicates_are_the_same_number_by_number(memory):
    """A key twice as long is as similar as can be, and still another key."""
    memory.add([[0, 2]], ["n"])

    first = find_duplicates(Peers(memory), near=0.99999)[0]

    assert (first.ids, first.exact, first.agree) == ((5, 6), True, True)


def test_near_duplicates_hang_together_in_chains(memory):
    """Neighbors in angle are linked from one end to the other."""
    groups = find_duplicates(Peers(memory), near=0.99)

    chain = next(group for group in groups if 0 in group.ids)
    assert chain.ids == (0, 1, 2, 3, 4)
    assert not chain.exact
    assert not chain.agree
    assert chain.similarity >= 0.99


@pytest.mark.parametrize("metric", ["euclidean", "dot", "manhattan"])
def test_under_another_metric_exact_duplicates_are_found(metric):
    """There is no cosine to compare with; equal bytes are equal bytes."""
    memory = Memory.create(":memory:", dim=2, metric=metric)
    memory.add([[1, 2], [3, 1], [1, 2], [0, 5]], ["a", "a", "b", "b"])

    assert [group.ids for group in find_duplicates(Peers(memory))] == [(0, 2)]


def test_of_duplicates_the_first_of_each_label_stays():
    """Conflicting labels are for a person to settle."""
    memory = Memory.create(":memory:", dim=2)
    memory.add([[1, 0]] * 4 + [[0, 1]], ["a", "b", "a", "b", "c"])

    assert inspect_rows(memory).redundant == (2, 3)


def test_small_classes_are_counted(memory):
    """Four rows are fewer than five and not fewer than four."""
    assert inspect_rows(memory, few=5).small_classes == {"e": 4, "n": 4}
    assert inspect_rows(memory, few=4).small_classes == {}


def suspects(memory):
    report = inspect_rows(memory)
    return replace(report, suspects=tuple(find_suspects(Peers(memory), neighbors=4)))


@pytest.mark.parametrize(
    ("remedy", "label", "weight", "rows"),
    [("relabel", ["e"], [1.0], 8), ("mute", ["n"], [0.0], 8), ("remove", [], [], 7)],
)
def test_a_remedy_is_carried_out_and_undone(memory, remedy, label, weight, rows):
    """One restore of the version before brings everything back."""
    before, report = memory.rows(), suspects(memory)

    assert apply_report(memory, report, remedy) == 1

    after = memory.rows(where="id = 4")
    assert (after.values.tolist(), after.weights.tolist(), len(memory)) == (label, weight, rows)
    memory.restore(report.version)
    assert memory.rows().values.tolist() == before.values.tolist()
    assert memory.rows().weights.tolist() == before.weights.tolist()


def test_duplicates_go_only_on_request(memory):
    """All but the first; in the same call as the suspects."""
    report = suspects(memory)

    assert apply_report(memory, report, "relabel", duplicates=True) == 2
    assert memory.ids.tolist() == [0, 1, 2, 3, 4, 5, 7]


def test_nothing_is_changed_by_looking(memory):
    """A report is a question."""
    version = memory.version

    inspect_rows(memory)

    assert memory.version == version


def test_a_report_on_another_version_is_refused(memory):
    """What was proposed may no longer be true."""
    report = suspects(memory)
    memory.add([[1, 1]], ["x"])

    with pytest.raises(InvalidParameter, match="changed since"):
        apply_report(memory, report, "remove")


def test_an_unknown_remedy_is_refused(memory):
    """Before anything is done."""
    with pytest.raises(InvalidParameter, match="remedy"):
        apply_report(memory, suspects(memory), "burn")
    assert len(memory) == 8


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 101}, {"near": 2}, {"few": -1}])
def test_options_out_of_range_are_refused(memory, options):
    """With what would be in range."""
    with pytest.raises(InvalidParameter):
        inspect_rows(memory, **options)


def test_one_row_has_nobody_to_be_asked_about():
    """The smallest memory that can be inspected has two."""
    memory = Memory.create(":memory:", dim=2)
    memory.add([[1, 0]], ["a"])

    with pytest.raises(EmptyMemory):
        inspect_rows(memory)


def test_numbers_are_not_curated():
    """There is no label to doubt."""
    memory = Memory.create(":memory:", dim=2, value="number")
    memory.add([[1, 0], [0, 1]], [1.0, 2.0])

    with pytest.raises(InvalidParameter, match="labels"):
        inspect_rows(memory)


def test_most_labels_flipped_at_random_are_found_and_few_others_accused():
    """A tenth of two clear classes."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    labels = np.where(rng.random(400) < 0.1, 1 - truth, truth)
    memory = Memory.create(":memory:", dim=3)
    memory.add(np.array([[3.0, 0, 0], [0, 3, 0]])[truth] + rng.normal(size=(400, 3)), labels)

    found = [one.id for one in find_suspects(Peers(memory))]

    wrong = np.flatnonzero(labels != truth)
    assert np.isin(wrong, found).mean() > 0.9
    assert np.isin(found, wrong).mean() > 0.75


@pytest.mark.parametrize("remedy", ["relabel", "mute", "remove"])
def test_a_report_is_carried_out_as_one_version(memory, remedy):
    """A kill between two versions would leave half of it; before, duplicates left in a second."""
    report = suspects(memory)

    assert apply_report(memory, report, remedy, duplicates=True) == 2

    assert memory.version == report.version + 1
    assert len(memory) == (6 if remedy == "remove" else 7)
    memory.restore(report.version)
    assert len(memory) == 8


def test_what_is_no_report_is_refused(memory):
    """Before, these ended in an error of Python's."""
    for memory_, report in ((memory, None), (None, inspect_rows(memory))):
        with pytest.raises(InvalidParameter, match="this is no"):
            apply_report(memory_, report, "mute")
    for options in ({"rule": "rank"}, {"progress": 5}, {"k": True}, {"near": "x"}):
        with pytest.raises(InvalidParameter) as told:
            inspect_rows(memory, **options)
        assert told.value.remedy
    assert inspect_rows(memory, k=np.int64(5), near=np.float32(0.9)).version == memory.version
