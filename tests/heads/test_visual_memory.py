"""The classifier, on two dimensions and round numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect import Memory, MemoryClassifier
from recollect.errors import (
    DimensionMismatch,
    DuplicateIds,
    EmptyBatch,
    EmptyMemory,
    EncoderFault,
    EncoderMismatch,
    InputError,
    InvalidLabel,
    InvalidParameter,
    InvalidType,
    LengthMismatch,
    NonFinite,
    UnknownIds,
    ZeroVector,
)

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


@pytest.fixture
def compass():
    return MemoryClassifier(k=2).fit([EAST, NORTH, WEST], ["east", "north", "west"])


def test_the_nearest_rows_vote_by_rank():
    """East weighs 1/2; north weighs 1/3 + 1/4 and wins."""
    head = MemoryClassifier(k=3).fit([EAST, NORTH, NORTH], ["east", "north", "north"])

    assert head.predict([[1.0, 0.9]]).tolist() == ["north"]
    assert head.predict_proba([[1.0, 0.9]]).tolist() == [[6 / 13, 4 / 13 + 3 / 13]]


def test_one_neighbor_is_the_nearest_row():
    """k = 1 is nearest-neighbor classification."""
    head = MemoryClassifier(k=1).fit([EAST, NORTH, NORTH], ["east", "north", "north"])

    assert head.predict([[1.0, 0.9]]).tolist() == ["east"]


def test_more_neighbors_than_rows_means_all_rows():
    """k = 20 is the default, also on day one."""
    head = MemoryClassifier(k=20).fit([EAST], ["east"])

    assert head.predict([WEST]).tolist() == ["east"]
    assert head.predict_proba([WEST]).tolist() == [[1.0]]


def test_every_k_from_one_search_equals_one_search_for_each_k():
    """East is nearest; two norths outvote it from k = 3 on."""
    head = MemoryClassifier().fit([EAST, NORTH, NORTH], ["east", "north", "north"])

    labels = head.predict_all_k([[1.0, 0.9]], ks=[1, 3, 2])

    assert labels.tolist() == [["east", "north", "east"]]


def test_every_k_up_to_the_own_k_is_the_default():
    """Curves over k need no list."""
    head = MemoryClassifier(k=3).fit([EAST, NORTH, NORTH], ["east", "north", "north"])

    assert head.predict_all_k([[1.0, 0.9]]).shape == (1, 3)


def test_row_weights_multiply_the_vote():
    """A row of weight 3 outvotes two nearer ones."""
    head = MemoryClassifier(k=3, vote="plurality")
    head.fit([EAST, EAST, NORTH], ["east", "east", "north"], weights=[1, 1, 3])

    assert head.predict([EAST]).tolist() == ["north"]
    assert head.predict_proba([EAST]).tolist() == [[0.4, 0.6]]


def test_a_silent_memory_answers_with_the_nearest_row():
    """All weights 0: nobody votes, yet there is a nearest row."""
    head = MemoryClassifier().fit([EAST, NORTH], ["east", "north"], weights=[0, 0])

    assert head.predict([[0.1, 1.0]]).tolist() == ["north"]
    assert head.predict_proba([[0.1, 1.0]]).tolist() == [[0.0, 1.0]]


def test_a_new_class_may_come_in_any_call(compass):
    """One example is enough, and the old answers stay."""
    compass.partial_fit([[0.0, -1.0]], ["south"])

    assert compass.classes_.tolist() == ["east", "north", "south", "west"]
    assert compass.predict([[0.1, -1.0], EAST]).tolist() == ["south", "east"]


def test_partial_fit_teaches_a_head_that_knows_nothing():
    """A stream has no first batch that must be special."""
    head = MemoryClassifier().partial_fit([EAST], ["east"]).partial_fit([NORTH], ["north"])

    assert head.predict([NORTH]).tolist() == ["north"]
    assert head.ids_.tolist() == [0, 1]


def test_fit_starts_anew(compass):
    """fit teaches these rows and no others; partial_fit adds."""
    compass.fit([EAST], ["sunrise"])

    assert compass.classes_.tolist() == ["sunrise"]
    assert compass.ids_.tolist() == [0]


def test_ids_come_in_the_order_given():
    """ids_[i] names the row of X[i], whatever the ids are."""
    head = MemoryClassifier().fit([EAST, NORTH, WEST], ["e", "n", "w"], ids=[30, 10, 20])

    assert head.ids_.tolist() == [30, 10, 20]
    assert head.forget([10]).ids_.tolist() == [30, 20]


def test_a_forgotten_class_is_gone(compass):
    """Its label is no longer a possible answer."""
    compass.forget([1])

    assert compass.classes_.tolist() == ["east", "west"]
    assert compass.predict_proba([NORTH]).shape == (1, 2)


def test_integer_labels_stay_integers():
    """Also 0, which the reference implementation mishandles."""
    head = MemoryClassifier(k=1).fit([EAST, NORTH], [0, 7])

    assert head.predict([EAST, NORTH]).tolist() == [0, 7]
    assert head.classes_.dtype == np.int64


@pytest.mark.parametrize("labels", [[True, False], [1.0, 0.0], np.array([1, 0], np.uint8)])
def test_booleans_and_whole_floats_are_integer_labels(labels):
    """`digits > 4` is a common target."""
    head = MemoryClassifier(k=1).fit([EAST, NORTH], labels)

    assert head.predict([EAST, NORTH]).tolist() == [1, 0]


def test_neighbors_come_in_the_form_of_scikit_learn(compass):
    """Distances first, then indices; here these are row ids."""
    distance, ids = compass.kneighbors([EAST], n_neighbors=3)

    assert distance.tolist() == [[0.0, 1.0, 2.0]]
    assert ids.tolist() == [[0, 1, 2]]
    assert compass.kneighbors([EAST], 2, return_distance=False).tolist() == [[0, 1]]


def test_neighbors_of_the_rows_themselves_leave_each_row_out(compass):
    """kneighbors() without queries is leave-one-out, at most all other rows."""
    ids = compass.kneighbors(n_neighbors=9, return_distance=False)

    assert ids.tolist() == [[1, 2], [0, 2], [1, 0]]


@pytest.mark.parametrize(
    ("metric", "distance"), [("euclidean", 5.0), ("manhattan", 7.0), ("cosine", 0.0)]
)
def test_distances_are_those_of_the_metric(metric, distance):
    """From (3, 4) to (6, 8)."""
    head = MemoryClassifier(metric=metric).fit([[6.0, 8.0]], ["far"])

    found, _ = head.kneighbors([[3.0, 4.0]])

    assert found.tolist() == [[pytest.approx(distance, abs=1e-7)]]


def test_the_score_is_the_accuracy(compass):
    """Two of three."""
    assert compass.score([EAST, NORTH, WEST], ["east", "north", "east"]) == pytest.approx(2 / 3)


def test_sources_and_metadata_reach_the_memory(compass):
    """They come back in explanations and can be filtered."""
    compass.fit([EAST, NORTH], ["e", "n"], sources=["a.png", None], metadata={"split": ["x", "y"]})

    rows = compass.memory_.rows(where="split = 'x'")

    assert rows.sources == ["a.png"]


class Lengths:
    """Encodes a text by its numbers of characters and of vowels."""

    dim, modality, spec = 2, "text", None

    def __init__(self, fingerprint="lengths:1"):
        self.fingerprint = fingerprint

    def encode(self, inputs):
        pairs = [(len(text), 1 + sum(c in "aeiou" for c in text)) for text in inputs]
        return np.array(pairs, np.float32)


def test_with_an_encoder_inputs_are_what_it_reads():
    """Texts in, labels out; the memory keeps the encoder's fingerprint."""
    head = MemoryClassifier(k=1, encoder=Lengths()).fit(["rhythm", "aeiou"], ["few", "many"])

    assert head.predict(["myth", "eau"]).tolist() == ["few", "many"]
    assert head.memory_.encoder == "lengths:1"
    assert head.score(["myth"], ["few"]) == 1.0


def test_more_inputs_than_one_batch_are_all_encoded():
    """Encoders see inputs in batches; nothing may be lost between them."""
    head = MemoryClassifier(k=1, encoder=Lengths(), metric="euclidean")

    head.fit(["a" * (1 + n) for n in range(150)], list(range(150)))

    assert head.predict(["a" * 150]).tolist() == [149]


def test_keys_of_another_encoder_are_refused():
    """Their numbers would mean something else."""
    memory = Memory.create(":memory:", dim=2, encoder="lengths:2")

    with pytest.raises(EncoderMismatch, match="another encoder"):
        MemoryClassifier(encoder=Lengths(), memory=memory).fit(["a"], ["x"])


def test_a_single_text_is_no_sequence_of_texts():
    """It would be encoded letter by letter."""
    with pytest.raises(InputError, match="several inputs at once"):
        MemoryClassifier(encoder=Lengths()).fit("abc", ["x", "y", "z"])


def test_a_name_is_no_encoder():
    """`recollect init --encoder hog` takes one; the class takes the thing itself."""
    with pytest.raises(InvalidParameter, match="no encoder"):
        MemoryClassifier(encoder="hog").fit(["a"], ["x"])


def test_an_encoder_that_breaks_its_promise_is_named():
    """Two keys for one input."""
    encoder = Lengths()
    encoder.encode = lambda inputs: np.ones((len(inputs) + 1, 2), np.float32)

    with pytest.raises(EncoderFault, match="something other than keys"):
        MemoryClassifier(encoder=encoder).fit(["a"], ["x"])


@pytest.mark.parametrize(
    ("rows", "labels", "error"),
    [
        ([EAST, NORTH], ["e"], LengthMismatch),
        ([], [], EmptyBatch),
        ([EAST, [np.nan, 0.0]], ["e", "n"], NonFinite),
        ([EAST, [np.inf, 0.0]], ["e", "n"], NonFinite),
        ([EAST, [0.0, 0.0]], ["e", "zero"], ZeroVector),
        ([EAST, NORTH], ["e", 1], InvalidLabel),
        ([EAST, NORTH], ["e", None], InvalidLabel),
        ([EAST, NORTH], [0.5, 1.0], InvalidLabel),
        ([EAST, NORTH], [np.nan, 1.0], NonFinite),
        ([EAST, NORTH], None, InputError),
        (EAST, ["e", "n"], DimensionMismatch),
        ("rows", ["e"], InputError),
    ],
)
def test_bad_rows_are_refused_with_one_error_and_nothing_is_taught(compass, rows, labels, error):
    """What was known before is still known, to the last bit."""
    before = compass.predict_proba([[1.0, 0.5]])

    with pytest.raises(error) as refused:
        compass.fit(rows, labels)

    assert refused.value.remedy
    assert compass.ids_.tolist() == [0, 1, 2]
    assert compass.predict_proba([[1.0, 0.5]]).tobytes() == before.tobytes()


def test_refused_rows_do_not_change_the_expected_width(compass):
    """n_features_in_ belongs to the rows that are there."""
    with pytest.raises(DuplicateIds):
        compass.fit([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], ["a", "b"], ids=[3, 3])

    assert compass.n_features_in_ == 2
    assert compass.predict([EAST]).tolist() == ["east"]


def test_labels_of_another_type_are_refused(compass):
    """One memory holds text or integers, not both."""
    with pytest.raises(InvalidLabel, match="all text or all integers"):
        compass.partial_fit([NORTH], [1])

    assert compass.classes_.tolist() == ["east", "north", "west"]


@pytest.mark.parametrize(
    ("queries", "error"),
    [
        ([[1.0, 0.0, 0.0]], DimensionMismatch),
        (np.ones((1, 3)), DimensionMismatch),
        (np.array([[np.nan, 1.0]]), NonFinite),
        (np.array([[np.inf, 1.0]], np.float32), NonFinite),
        (np.zeros((1, 2)), ZeroVector),
        (np.ones((0, 2)), EmptyBatch),
        ([1.0, 0.0], DimensionMismatch),
        ([["a", "b"]], InputError),
    ],
)
def test_bad_queries_are_refused(compass, queries, error):
    """One error of the tree, with what to do about it."""
    with pytest.raises(error) as refused:
        compass.predict(queries)

    assert refused.value.remedy


def test_a_sparse_matrix_is_refused(compass):
    """It is no array; the error is a TypeError too."""
    from scipy.sparse import csr_array

    with pytest.raises(InvalidType, match=r"[Ss]parse"):
        compass.predict(csr_array([[1.0, 0.0]]))


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"k": 1.5},
        {"k": True},
        {"vote": "majority"},
        {"alpha": 0.05},
        {"temperature": 0},
        {"sharpness": -1},
        {"metric": "hamming"},
        {"reliability": "often"},
        {"reliability": 1},
        {"class_means": 1.5},
        {"class_means": True},
        {"shrinkage": 0},
        {"mean_temperature": 0},
    ],
)
def test_an_option_out_of_range_is_refused_by_fit(options):
    """scikit-learn's constructors check nothing, so fit does."""
    with pytest.raises(InvalidParameter) as refused:
        MemoryClassifier(**options).fit([EAST], ["e"])

    assert refused.value.expected is not None
    assert refused.value.remedy


def test_an_option_set_later_is_checked_when_used(compass):
    """set_params comes after fit as often as before."""
    compass.set_params(vote="rank", alpha=0.0)

    with pytest.raises(InvalidParameter, match="alpha"):
        compass.predict([EAST])


def test_no_neighborhood_size_is_an_error(compass):
    """An empty curve is a mistake of the caller."""
    with pytest.raises(InvalidParameter, match="neighborhood size"):
        compass.predict_all_k([EAST], ks=[])


def test_unknown_ids_are_refused_and_nothing_is_forgotten(compass):
    """Half a removal would be worse than none."""
    with pytest.raises(UnknownIds):
        compass.forget([0, 99])

    assert compass.ids_.tolist() == [0, 1, 2]


def test_a_head_that_forgot_everything_says_so(compass):
    """There is no answer; a guess would be made up."""
    compass.forget([0, 1, 2])

    with pytest.raises(EmptyMemory, match="empty"):
        compass.predict([EAST])
    with pytest.raises(EmptyMemory, match="empty"):
        compass.explain([EAST])
    with pytest.raises(EmptyMemory, match="empty"):
        compass.kneighbors()


def test_a_head_that_forgot_everything_can_be_taught_again(compass):
    """Even with labels of another type: none of the old ones is left."""
    compass.forget([0, 1, 2]).partial_fit([EAST], [5])

    assert compass.predict([EAST]).tolist() == [5]


KEYS = st.tuples(st.integers(-4, 4), st.integers(-4, 4)).filter(any)
ROWS = st.lists(st.tuples(KEYS, st.sampled_from("abc")), min_size=2, max_size=14)
VOTES = st.sampled_from(["rank", "plurality", "softmax", "distance"])


def answers(head, queries):
    """Everything a head can be asked, as bytes where it is numbers."""
    distance, ids = head.kneighbors(queries)
    return (
        head.predict(queries).tolist(),
        head.predict_proba(queries).tobytes(),
        head.predict_all_k(queries).tolist(),
        distance.tobytes(),
        ids.tolist(),
        head.classes_.tolist(),
        head.explain(queries),
    )


@settings(deadline=None)
@given(ROWS, st.lists(KEYS, min_size=1, max_size=4), VOTES, st.integers(1, 6), st.data())
def test_forgetting_equals_never_having_taught(rows, queries, vote, k, draws):
    """The promise of the library, bit for bit, for any rows and any part of them."""
    forgotten = draws.draw(st.sets(st.sampled_from(range(len(rows))), max_size=len(rows) - 1))
    kept = [row for row in range(len(rows)) if row not in forgotten]
    keys, labels = [np.array(column) for column in zip(*rows, strict=True)]
    head = MemoryClassifier(k=k, vote=vote).fit(keys, labels)
    never = MemoryClassifier(k=k, vote=vote).fit(keys[kept], labels[kept], ids=kept)

    head.forget(sorted(forgotten))

    assert answers(head, queries) == answers(never, queries)
    assert head.ids_.tolist() == never.ids_.tolist()


@settings(deadline=None)
@given(ROWS, st.lists(KEYS, min_size=1, max_size=4), VOTES, st.data())
def test_the_order_of_teaching_changes_no_answer(rows, queries, vote, draws):
    """With ids that go with the rows, in one call or in many."""
    order = draws.draw(st.permutations(range(len(rows))))
    keys, labels = [np.array(column) for column in zip(*rows, strict=True)]
    head = MemoryClassifier(k=5, vote=vote).fit(keys, labels)
    shuffled = MemoryClassifier(k=5, vote=vote)
    for row in order:
        shuffled.partial_fit(keys[[row]], labels[[row]], ids=[row])

    assert answers(shuffled, queries) == answers(head, queries)


@settings(deadline=None)
@given(ROWS, st.lists(KEYS, min_size=2, max_size=40), VOTES)
def test_a_query_is_answered_alone_as_in_a_batch(rows, queries, vote):
    """To the last bit, so that predict agrees with explain and a service with its tests."""
    keys, labels = [np.array(column) for column in zip(*rows, strict=True)]
    head = MemoryClassifier(k=4, vote=vote).fit(keys, labels)

    together = head.predict_proba(queries)

    alone = [head.predict_proba([query])[0] for query in queries]
    assert np.array(alone).tobytes() == together.tobytes()
    assert head.predict(queries).tolist() == [head.predict([query])[0] for query in queries]


def test_predict_writes_nothing(compass):
    """Asking is free of side effects, in the memory and in the estimator."""
    before, version = dict(compass.__dict__), compass.memory_.version

    compass.predict([EAST])
    compass.explain([EAST])
    compass.kneighbors()

    assert compass.__dict__ == before
    assert compass.memory_.version == version


@pytest.mark.parametrize("vote", ["rank", "plurality", "softmax", "distance"])
def test_a_number_of_neighbors_beyond_all_rows_costs_no_memory(vote):
    """A billion neighbors of three rows are three rows, not arrays of a billion places."""
    rows = [EAST, NORTH, WEST, [1.0, 0.5]], ["east", "north", "west", "north"]
    vast = MemoryClassifier(k=10**15, vote=vote).fit(*rows)
    wide = MemoryClassifier(k=20, vote=vote).fit(*rows)
    asked = [[1.0, 0.9], WEST]

    assert vast.predict(asked).tolist() == wide.predict(asked).tolist()
    assert vast.predict_proba(asked).tobytes() == wide.predict_proba(asked).tobytes()
    assert vast.explain(asked) == wide.explain(asked)
    assert vast.predict_all_k(asked, ks=[1, 10**15]).tolist() == (
        wide.predict_all_k(asked, ks=[1, 20]).tolist()
    )
    assert vast.tune(grid={"k": [1, 10**15]}).settings[0].score == (
        wide.tune(grid={"k": [1, 20]}).settings[0].score
    )


@pytest.mark.parametrize("place", [5, 1.5, True, b"folder"])
def test_a_memory_that_is_neither_memory_nor_path_is_refused(place, tmp_path, monkeypatch):
    """The number 5 would otherwise become a folder named 5."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidParameter):
        MemoryClassifier(memory=place).fit([EAST], ["east"])

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reliability", ["soft", "hard", "rate"])
def test_the_only_row_answers_whatever_the_reliability(reliability):
    """Nobody can say anything of it; it is believed."""
    head = MemoryClassifier(reliability=reliability).fit([[1, 0], [0, 1]], ["a", "b"])
    head.forget([0])

    assert head.predict([[1, 1]]).tolist() == ["b"]
    assert head.predict_proba([[1, 1]]).tolist() == [[1.0]]


@pytest.mark.parametrize("ks", [5, "12", [], [0]], ids=repr)
def test_neighborhood_sizes_are_a_sequence(ks):
    """Before, a number ended in an error of Python's."""
    head = MemoryClassifier(k=1).fit([[1, 0], [0, 1]], ["a", "b"])

    with pytest.raises(InvalidParameter):
        head.predict_all_k([[1, 0]], ks)


def test_a_promise_that_is_not_known_is_refused_even_where_none_is_asked_for():
    """A typo must not wait for `abstain` to be found."""
    head = MemoryClassifier(k=1).fit([[1, 0], [0, 1]], ["a", "b"])

    with pytest.raises(InvalidParameter, match="promise is not known"):
        head.predict([[1, 0]], promise="bogus")
