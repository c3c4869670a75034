"""The residual heads: what they keep, answer, explain, forget and refuse."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from recollect import Memory, ResidualMemoryClassifier, ResidualMemoryRegressor, errors
from recollect.heads.residual_memory.layout import largest

# A line cannot put b between two a.
X, Y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array(["a", "b", "b", "a"])
# Logits 0 are probabilities of one half.
HALF = np.zeros((2, 2))
KEYS = np.array([[0.0], [10.0]])


@pytest.fixture
def base():
    return LogisticRegression().fit(X, Y)


@pytest.fixture
def undecided():
    """Two rows, labels 0 and 1, of a base that believes half in each."""
    head = ResidualMemoryClassifier(lambda x: np.zeros((len(x), 2)), k=1)
    return head.fit(KEYS, [0, 1])


def raw(head, queries, **given):
    return head.predict_proba(queries, output="score", **given).tolist()


def test_a_memory_of_one_neighbor_answers_its_training_rows_right(base):
    """The base gets two of four; what it got wrong is remembered."""
    head = ResidualMemoryClassifier(base, k=1).fit(X, Y)

    assert base.score(X, Y) == 0.5
    assert head.score(X, Y) == 1.0


def test_the_score_is_the_base_plus_the_weighed_residuals():
    """Distances 0 and log 3: shares 3/4 and 1/4 of (1/2, -1/2) and (-1/2, 1/2)."""
    head = ResidualMemoryClassifier(lambda x: x, k=2, sigma=1.0)
    head.fit(None, [0, 1], embedding=[[0.0], [np.log(3.0)]], outputs=HALF)

    np.testing.assert_allclose(
        raw(head, None, embedding=[[0.0]], outputs=HALF[:1]), [[0.75, 0.25]], rtol=1e-6
    )


def test_numbers_get_the_weighed_mean_of_what_was_missed():
    """The base says 0 everywhere; equal weights of 4 and 2."""
    head = ResidualMemoryRegressor(lambda x: np.zeros(len(x)), k=2, sigma=float("inf"))
    head.fit([[0.0], [1.0]], [4.0, 2.0])

    assert head.predict([[0.5]]).tolist() == [3.0]


def test_vectors_are_predicted_too():
    """Two targets a row."""
    head = ResidualMemoryRegressor(lambda x: np.zeros((len(x), 2)), k=1)
    head.fit([[0.0], [1.0]], [[4.0, 2.0], [8.0, -1.0]])

    assert head.predict([[0.9]]).tolist() == [[8.0, -1.0]]


def test_a_duplicate_with_another_label_gives_the_average(undecided):
    """Fact (b) for rows that contradict each other: half of each."""
    head = undecided.set_params(k=2, sigma=1.0).partial_fit([[0.0]], [1])

    assert raw(head, [[0.0]]) == [[0.5, 0.5]]


def test_a_new_class_is_answered_from_the_memory(undecided):
    """The base has no column for it; the memory has a row."""
    head = undecided.partial_fit([[20.0]], [7])

    assert head.classes_.tolist() == [0, 1, 7]
    assert raw(head, [[20.0]]) == [[0.0, 0.0, 1.0]]
    assert head.predict([[20.0], [0.0]]).tolist() == [7, 0]
    assert head.forget(head.ids_[-1:]).classes_.tolist() == [0, 1]


def test_new_classes_of_text_stand_behind_those_of_the_base(base):
    """Columns that exist keep their place."""
    head = ResidualMemoryClassifier(base, k=1).fit(X, Y).partial_fit([[9.0], [8.0]], ["c", "aa"])

    assert head.classes_.tolist() == ["a", "b", "aa", "c"]
    assert head.predict([[9.0]]).tolist() == ["c"]


def test_a_forgotten_row_corrects_no_more(base):
    """The row behind it, a b, is now the nearest one."""
    head = ResidualMemoryClassifier(base, k=1).fit(X, Y)

    assert head.predict([[3.0]]).tolist() == ["a"]
    assert head.forget(head.ids_[3:]).predict([[3.0]]).tolist() == ["b"]


def test_a_corrected_label_takes_effect_at_once(undecided):
    """The truth is a column of the row."""
    assert undecided.predict([[0.0]]).tolist() == [0]

    undecided.memory_.update(undecided.ids_[:1], metadata={"truth": 1})

    assert undecided.predict([[0.0]]).tolist() == [1]


def test_a_row_of_weight_zero_corrects_nothing(undecided):
    """Nor does it hide the row behind it."""
    undecided.memory_.update(undecided.ids_[:1], weights=[0.0])

    assert raw(undecided.set_params(k=2), [[0.0]]) == [[0.0, 1.0]]


def test_strength_scales_the_correction(undecided):
    """Half of (1/2, -1/2) on top of (1/2, 1/2); at 0 the base alone, and no search."""
    assert raw(undecided.set_params(strength=0.5), [[0.0]]) == [[0.75, 0.25]]
    assert raw(undecided.set_params(strength=0.0), [[0.0]]) == [[0.5, 0.5]]


def test_labels_alone_interpolate_as_a_nearest_neighbor_language_model_does():
    """kNN-LM: (1 - lambda) p + lambda p_knn; a quarter of (0, 1) and three quarters of p."""
    head = ResidualMemoryClassifier(lambda x: x, k=1, entries=0, strength=0.25)
    head.fit(None, [0, 1], embedding=KEYS, outputs=HALF)

    assert head.memory_.value == "label"
    assert raw(head, None, embedding=[[9.0]], outputs=HALF[:1]) == [[0.375, 0.625]]


def test_the_gate_skips_the_search_where_the_base_is_sure():
    """3 : 1 is 0.75; above the gate the base answers alone."""
    sure, unsure = [np.log(3.0), 0.0], [0.0, 0.0]
    head = ResidualMemoryClassifier(lambda x: x, k=1, gate=0.7)
    head.fit(None, [1, 1], embedding=KEYS, outputs=HALF)
    given = {"embedding": [[0.0], [0.0]], "outputs": [sure, unsure]}

    np.testing.assert_allclose(raw(head, None, **given), [[0.75, 0.25], [0.0, 1.0]], atol=1e-7)
    assert head.searches_saved(None, outputs=[sure, unsure]) == 0.5


def test_an_explanation_names_the_base_and_the_rows(undecided):
    """One half from the base, one half from row 0."""
    [why] = undecided.explain([[1.0]])

    assert (why.prediction, why.base, why.score) == (0, 0.5, 1.0)
    assert [(row.id, row.value, row.contribution) for row in why.evidence] == [(0, 0, 0.5)]
    assert why.shares == {0: 1.0, 1: 0.0}


def test_an_explanation_of_a_number_adds_up():
    """The base says 1, the row adds 3."""
    head = ResidualMemoryRegressor(lambda x: np.ones(len(x)), k=1).fit([[0.0]], [4.0])

    [why] = head.explain([[5.0]])

    assert (why.base, why.evidence[0].contribution, why.score) == (1.0, 3.0, 4.0)


def test_the_width_of_the_kernel_is_the_median_distance_to_the_kth_row():
    """Rows at 0, 1 and 3: nearest neighbors at 1, 1 and 2."""
    head = ResidualMemoryClassifier(lambda x: x, k=1)
    head.fit(None, [0, 1, 0], embedding=[[0.0], [1.0], [3.0]], outputs=np.zeros((3, 2)))

    assert head.sigma_ == 1.0
    assert head.forget([1]).sigma_ == 3.0


# -- bases -----------------------------------------------------------------------------------------


def test_a_pipeline_is_compared_behind_its_last_but_one_step():
    """The embedding is what the classifier sees: scaled features."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    head = ResidualMemoryClassifier(pipeline, k=1).fit(X, Y)

    np.testing.assert_allclose(
        head.memory_.rows().keys, pipeline[0].transform(X).astype(np.float32)
    )
    assert head.score(X, Y) == 1.0


def test_a_step_of_a_pipeline_may_be_named():
    """As a layer of a network may."""
    pipeline = make_pipeline(StandardScaler(), StandardScaler(), LogisticRegression()).fit(X, Y)

    head = ResidualMemoryClassifier(pipeline, "standardscaler-1", k=1).fit(X, Y)

    assert head.memory_.dim == 1


def test_a_perceptron_is_compared_in_its_last_hidden_layer():
    """Seven hidden units, so keys of width 7."""
    from sklearn.neural_network import MLPClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge
        perceptron = MLPClassifier((5, 7), max_iter=2, random_state=0).fit(X, Y)

    assert ResidualMemoryClassifier(perceptron, k=1).fit(X, Y).memory_.dim == 7
    assert ResidualMemoryClassifier(perceptron, "hidden_0", k=1).fit(X, Y).memory_.dim == 5


def test_a_base_without_probabilities_is_asked_what_it_decides_by():
    """A margin m is a pair of logits (0, m)."""
    from sklearn.svm import LinearSVC

    margin = LinearSVC().fit(X, Y)
    head = ResidualMemoryClassifier(margin, k=1, strength=0.0).fit(X, Y)

    expected = 1.0 / (1.0 + np.exp(-margin.decision_function(X)))
    np.testing.assert_allclose(np.array(raw(head, X))[:, 1], expected, rtol=1e-6)


@pytest.fixture
def network():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = (torch.nn.Linear(1, 6), torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    return torch.nn.Sequential(*layers)


def test_a_torch_module_is_asked_in_evaluation_mode_and_left_as_it_was(network):
    """Residuals must be those of the deployed function: no dropout."""
    network.train()
    head = ResidualMemoryClassifier(network, k=1, classes=["a", "b"]).fit(X, Y)

    assert head.memory_.dim == 6
    assert head.score(X, Y) == 1.0
    assert head.predict_proba(X).tolist() == head.predict_proba(X).tolist()
    assert network.training


def test_a_layer_of_a_torch_module_may_be_named(network):
    """Before the last layer by default, or what any other gives."""
    assert ResidualMemoryClassifier(network, "3", k=1).fit(X, [0, 1, 1, 0]).memory_.dim == 2


@pytest.mark.parametrize(
    "make",
    [
        LogisticRegression,
        lambda: GradientBoostingClassifier(n_estimators=5, random_state=0),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=["linear", "trees", "pipeline"],
)
def test_a_real_base_answers_with_the_same_bits_alone_and_in_a_batch(make):
    """A matrix product has other last bits for one row than for many; a head does not."""
    rows, labels = make_classification(150, 12, n_informative=6, n_classes=3, random_state=0)
    head = ResidualMemoryClassifier(make().fit(rows, labels), k=7).fit(rows, labels)

    together = head.predict_proba(rows[:20])
    alone = [head.predict_proba(rows[[at]]) for at in range(20)]

    assert np.concatenate(alone).tobytes() == together.tobytes()


def test_out_of_fold_residuals_cure_a_base_that_knows_its_rows_by_heart():
    """A tree is right on every training row; asked by folds it is not."""
    rows, labels = make_classification(200, 8, n_informative=3, flip_y=0.2, random_state=0)
    tree = DecisionTreeClassifier(random_state=0).fit(rows, labels)

    with pytest.warns(UserWarning, match="nothing wrong"):
        inside = ResidualMemoryClassifier(tree).fit(rows, labels)
    outside = ResidualMemoryClassifier(tree, residuals="oof").fit(rows, labels)

    assert (inside.memory_.rows().values.argmax(axis=1) == labels).all()
    right = (outside.memory_.rows().values.argmax(axis=1) == labels).mean()
    assert 0.5 < right < 0.9


def test_out_of_fold_numbers_come_from_bases_that_did_not_see_them():
    """A line through the other two of three points, at each."""
    rows, truth = [[0.0], [1.0], [2.0]], [0.0, 1.0, 4.0]
    line = LinearRegression().fit(rows, truth)

    head = ResidualMemoryRegressor(line, residuals="oof", folds=3).fit(rows, truth)

    np.testing.assert_allclose(head.memory_.rows().values, [2.0, -1.0, 2.0], atol=1e-6)


def test_rows_taught_later_are_asked_of_the_base_itself():
    """It was not trained on them: folds would only make it worse."""
    rows, truth = [[0.0], [1.0], [2.0]], [0.0, 1.0, 4.0]
    line = LinearRegression().fit(rows, truth)
    head = ResidualMemoryRegressor(line, residuals="oof", folds=3).fit(rows, truth)

    head.partial_fit([[5.0]], [0.0])

    missed = head.memory_.rows(head.ids_[-1:]).values
    np.testing.assert_allclose(missed, -line.predict([[5.0]]), rtol=1e-12)


def test_a_clone_keeps_the_trained_base(base):
    """A copy of the base that was not trained would be of no use."""
    head = ResidualMemoryClassifier(base, k=1).fit(X, Y)

    twin = clone(head)

    assert twin.base is base
    assert twin.fit(X, Y).score(X, Y) == 1.0


def test_cross_validation_teaches_each_fold_a_memory_of_its_own(base):
    """Heads are scikit-learn estimators."""
    rows, labels = np.tile(X, (3, 1)), np.tile(Y, 3)

    scores = cross_val_score(ResidualMemoryClassifier(base, k=1), rows, labels, cv=3)

    assert scores.tolist() == [1.0, 1.0, 1.0]


# -- many classes ----------------------------------------------------------------------------------


def test_of_many_classes_the_largest_logits_and_the_true_one_are_kept():
    """Sixteen of a thousand: far fewer bytes, and the label is always among them."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(20, 1000)) * 4, rng.integers(0, 1000, 20)
    head = ResidualMemoryClassifier(lambda x: x, k=1)

    head.fit(None, labels, embedding=np.arange(20.0)[:, None], outputs=logits)

    assert head.memory_.value_dim == 9 + 15 + 16 // 2
    given = {"embedding": np.arange(20.0)[:, None], "outputs": logits}
    assert head.predict(None, **given).tolist() == labels.tolist()


def test_few_logits_are_of_no_use_at_a_temperature_that_was_not_foreseen():
    """Their normalization is kept at some temperatures only; others would be guesses."""
    with pytest.raises(errors.InvalidParameter, match="suffice at some temperatures"):
        ResidualMemoryClassifier(lambda x: x, temperature=1.3, entries=1).fit(
            None, [0, 1], embedding=KEYS, outputs=HALF
        )


# -- lasting ---------------------------------------------------------------------------------------


def test_a_durable_memory_answers_without_fit(base, tmp_path):
    """The base is the user's to keep; what it got wrong is on the disk."""
    ResidualMemoryClassifier(base, k=1, memory=tmp_path / "rows").fit(X, Y).memory_.close()

    again = ResidualMemoryClassifier(base, k=1, memory=tmp_path / "rows")

    assert again.score(X, Y) == 1.0
    assert again.classes_.tolist() == ["a", "b"]


def test_a_copy_answers_as_the_original_and_forgets_on_its_own(base):
    """Estimators travel to worker processes."""
    head = ResidualMemoryClassifier(base, k=1).fit(X, Y)

    for twin in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):  # noqa: S301 - our bytes
        assert raw(twin, X) == raw(head, X)
        twin.forget(twin.ids_[3:])
    assert head.score(X, Y) == 1.0


def test_rows_taught_later_are_read_without_reading_all_again(undecided):
    """And give the same scores as all of them taught at once."""
    undecided.predict(KEYS)

    undecided.partial_fit([[20.0], [5.0]], [0, 1])
    undecided.forget(undecided.ids_[:1])

    anew = ResidualMemoryClassifier(undecided.base, k=1).fit([[10.0], [20.0], [5.0]], [1, 0, 1])
    assert raw(undecided, [[4.0], [19.0]]) == raw(anew, [[4.0], [19.0]])


def test_a_given_memory_may_be_used_by_several_heads(base):
    """Rows live once; k and strength are the head's own."""
    memory = Memory.create(":memory:", dim=1, metric="euclidean", value="vector", value_dim=2)
    ResidualMemoryClassifier(base, k=1, memory=memory).fit(X, Y)

    other = ResidualMemoryClassifier(base, k=1, strength=0.0, memory=memory)

    assert other.score(X, Y) == 0.5


# -- bad input -------------------------------------------------------------------------------------


def taught(**parameters):
    head = ResidualMemoryClassifier(lambda x: np.zeros((len(x), 2)), **parameters)
    return head.fit(KEYS, [0, 1])


def test_a_base_that_was_not_trained_is_refused():
    """There is nothing it gets wrong yet."""
    with pytest.raises(errors.EmptyMemory, match="the base is not fitted"):
        ResidualMemoryClassifier(LogisticRegression()).fit(X, Y)


def test_a_base_that_is_no_model_is_refused():
    """Neither an estimator, nor a module, nor a function."""
    with pytest.raises(errors.InvalidParameter, match="this is no base"):
        ResidualMemoryClassifier(3).fit(X, Y)


def test_labels_that_the_base_does_not_know_are_refused_by_fit(base):
    """Another class set is a mistake there; partial_fit takes new ones."""
    with pytest.raises(errors.InvalidLabel, match="different classes") as caught:
        ResidualMemoryClassifier(base).fit(X, ["a", "b", "b", "c"])
    assert "partial_fit" in caught.value.remedy


def test_labels_of_another_type_than_the_classes_are_refused(base):
    """Class 0 is not class "a"."""
    with pytest.raises(errors.InvalidLabel, match="different ways"):
        ResidualMemoryClassifier(base).fit(X, [0, 1, 1, 0])


def test_a_memory_of_another_base_is_refused(base, tmp_path):
    """Three classes on the disk, two in the base."""
    three = LogisticRegression().fit(X, ["a", "b", "c", "a"])
    ResidualMemoryClassifier(three, memory=tmp_path / "rows").fit(X, list("abca")).memory_.close()

    with pytest.raises(errors.InvalidParameter, match="base with other classes"):
        ResidualMemoryClassifier(base, memory=tmp_path / "rows").predict(X)


def test_logits_of_another_number_of_classes_are_refused():
    """Taught with two columns, asked with three."""
    with pytest.raises(errors.DimensionMismatch, match="one logit for each class"):
        taught().predict(None, embedding=KEYS, outputs=np.zeros((2, 3)))


@pytest.mark.parametrize("what", ["embedding", "outputs"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_a_row_that_is_not_finite_is_named(what, bad):
    """So that it can be found among fifty thousand."""
    given = {"embedding": KEYS.copy(), "outputs": HALF.copy()}
    given[what][1, 0] = bad

    with pytest.raises(errors.NonFinite, match="of row 1 is not finite"):
        taught().predict(None, **given)
    head = ResidualMemoryClassifier(lambda x: x)
    with pytest.raises(errors.NonFinite, match="of row 1 is not finite"):
        head.fit(None, [0, 1], **given)
    assert not hasattr(head, "memory_")


@pytest.mark.parametrize(
    "parameters",
    [
        {"k": 0}, {"k": 1.5}, {"sigma": 0}, {"sigma": -1.0}, {"sigma": "wide"},
        {"temperature": 0}, {"temperature": -1}, {"temperature": float("nan")},
        {"gate": 0.0}, {"gate": 1.5}, {"strength": -1.0}, {"residuals": "all"},
        {"entries": -1}, {"entries": "few"}, {"folds": 1}, {"embedding": 5},
    ],
    ids=str,
)  # fmt: skip
def test_an_option_out_of_range_is_refused(parameters):
    """When it is used, with what would have been right."""
    with pytest.raises(errors.InvalidParameter) as caught:
        taught(**parameters)
    assert caught.value.expected is not None


def test_an_empty_memory_is_refused():
    """Before teaching, and after all was forgotten."""
    with pytest.raises(errors.EmptyMemory, match="not fitted yet"):
        ResidualMemoryClassifier(lambda x: x).predict(KEYS)
    head = taught()
    with pytest.raises(errors.EmptyMemory):
        head.forget(head.ids_).predict(KEYS)


def test_an_embedding_that_changes_its_width_is_refused():
    """Other layer, other base, or an input of another size."""
    head = taught()

    with pytest.raises(errors.DimensionMismatch, match="changed its width"):
        head.partial_fit(None, [0], embedding=[[1.0, 2.0]], outputs=[[0.0, 0.0]])
    with pytest.raises(errors.DimensionMismatch):
        head.predict(None, embedding=[[1.0, 2.0]], outputs=[[0.0, 0.0]])
    assert len(head.memory_) == 2


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ((None, [0, 1]), errors.InvalidType),
        ((KEYS, [0]), errors.LengthMismatch),
        ((KEYS[:0], []), errors.EmptyBatch),
        ((KEYS, [0.5, 1.5]), errors.InvalidLabel),
        ((KEYS, None), errors.InputError),
    ],
    ids=["no rows", "too few labels", "empty", "fractions", "no labels"],
)
def test_rows_and_labels_that_do_not_fit_are_refused(given, kind):
    """One error of ours, and nothing taught."""
    head = ResidualMemoryClassifier(lambda x: np.zeros((len(x), 2)))

    with pytest.raises(kind):
        head.fit(*given)
    assert not hasattr(head, "memory_")


def test_a_function_that_answers_for_too_few_rows_is_refused():
    """One output a row."""
    with pytest.raises(errors.LengthMismatch, match="not one output for each row"):
        ResidualMemoryClassifier(lambda _: np.zeros((1, 2))).fit(KEYS, [0, 1])


def test_a_memory_of_another_metric_is_refused():
    """The kernel is one of Euclidean distances."""
    memory = Memory.create(":memory:", dim=1, value="vector", value_dim=2)

    with pytest.raises(errors.InvalidParameter, match="residual memory reads"):
        ResidualMemoryClassifier(lambda x: np.zeros((len(x), 2)), memory=memory).fit(KEYS, [0, 1])


def test_out_of_fold_residuals_need_a_base_that_can_be_trained_again():
    """A function cannot; its user can pass outputs."""
    with pytest.raises(errors.InvalidParameter, match="out-of-fold"):
        taught(residuals="oof")


def test_an_unknown_layer_is_refused(base, network):
    """With the names there are."""
    with pytest.raises(errors.InvalidParameter, match="no layer 'last'"):
        ResidualMemoryClassifier(base, "last").fit(X, Y)
    with pytest.raises(errors.InvalidParameter, match="no layer 'last'"):
        ResidualMemoryClassifier(network, "last").fit(X, [0, 1, 1, 0])


def test_the_largest_of_very_many_logits_are_found_in_groups():
    """A vocabulary of ten thousand: the same columns as sorting would give."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 10_000)).astype(np.float32)
    unknown = np.full(50, -1)

    assert np.array_equal(largest(logits, unknown, 16), np.argsort(-logits, axis=1)[:, :16])


def test_numbers_are_followed_through_removals_and_additions_between_questions():
    """What was read of the rows is brought up to date, not read anew."""
    points, y = np.random.default_rng(3).normal(size=(30, 2)), np.arange(30.0)
    base = LinearRegression().fit(points, y)
    head = ResidualMemoryRegressor(base, k=3).fit(points, y)
    head.predict(points)
    head.forget(head.ids_[:5])
    shorter = head.predict(points)
    head.partial_fit(points[:5], y[:5], ids=np.arange(100, 105))
    longer = head.predict(points)
    fresh = ResidualMemoryRegressor(base, k=3).fit(points[5:], y[5:], ids=np.arange(5, 30))

    np.testing.assert_array_equal(shorter, fresh.predict(points))
    np.testing.assert_array_equal(
        longer, fresh.partial_fit(points[:5], y[:5], ids=np.arange(100, 105)).predict(points)
    )


def test_rows_that_came_in_another_way_are_listed_behind_those_given(base, tmp_path):
    """They answer too, so they must be seen; they used to be left out."""
    head = ResidualMemoryClassifier(base, k=1, memory=tmp_path).fit(X, Y, ids=[7, 3, 9, 5])
    assert head.ids_.tolist() == [7, 3, 9, 5]
    head.memory_.add([[4.0]], [[0.0, 0.0]], ids=[1], metadata={"truth": "b"})

    assert head.ids_.tolist() == [7, 3, 9, 5, 1]
    assert head.forget([3]).ids_.tolist() == [7, 9, 5, 1]


def test_a_memory_that_is_opened_again_lists_its_rows_by_id(base, tmp_path):
    """It does not keep in which order they were given; ids that were counted up stand so anyhow."""
    first = ResidualMemoryClassifier(base, k=1, memory=tmp_path).fit(X, Y, ids=[7, 3, 9, 5])
    first.memory_.close()

    again = ResidualMemoryClassifier(base, k=1, memory=tmp_path)

    assert again.ids_.tolist() == [3, 5, 7, 9]
    assert again.predict(X).tolist() == Y.tolist()
