"""What a residual memory cannot use is refused in one error of ours, whoever made it fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from sklearn.linear_model import LinearRegression, LogisticRegression

from recollect import ResidualMemoryClassifier, ResidualMemoryRegressor, errors

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 3)), np.arange(30) % 3
BASE = LogisticRegression().fit(X, Y)
LINE = LinearRegression().fit(X, Y)


def plain(x):
    """A base whose logits are given."""
    return np.asarray(x)


def narrow(x):
    """Fails as NumPy does: its weights are for one number a row."""
    return x @ np.zeros((1, 2))


def packed(entries=4, k=1):
    """A head over 30 rows that keep the largest logits of 20 classes."""
    logits, labels = 3 * RNG.normal(size=(30, 20)), RNG.integers(0, 20, 30)
    head = ResidualMemoryClassifier(plain, k=k, entries=entries)
    return head.fit(None, labels, embedding=X, outputs=logits), logits, labels


def out_of_fold(x, y):
    return ResidualMemoryClassifier(BASE, residuals="oof").fit(x, y)


def of_numbers(y):
    return ResidualMemoryRegressor(LINE, residuals="oof").fit(X, y)


@pytest.mark.parametrize(
    "labels",
    [np.where(np.arange(30) < 5, 11, Y), np.where(np.arange(30) < 5, -1, Y), Y.astype(str)],
)
def test_out_of_fold_residuals_need_the_classes_of_the_base(labels):
    """A label above the base's was an IndexError of scikit-learn's arrays."""
    with pytest.raises(errors.InvalidLabel):
        out_of_fold(X, labels)


@pytest.mark.parametrize("numbers", [Y[:20], [*Y, 0, 0], [[1], [2, 3], *[[1]] * 28]])
def test_out_of_fold_residuals_need_one_number_a_row(numbers):
    """Too few, too many, or lists of other lengths."""
    with pytest.raises(errors.InputError):
        of_numbers(numbers)


@pytest.mark.parametrize("rows", [{"a": [1]}, {1, 2}, frozenset({1})])
def test_rows_without_an_order_are_refused(rows):
    """A dictionary and a set have a length, but no first row."""
    head = ResidualMemoryClassifier(BASE).fit(X, Y)

    with pytest.raises(errors.InvalidType):
        head.predict(rows)


def test_sparse_rows_of_any_form_are_answered_alike():
    """A matrix of coordinates has no rows to be picked, until it is written in another form."""
    head = ResidualMemoryClassifier(BASE, embedding=lambda x: x.toarray())
    head.fit(coo_matrix(X), Y)

    assert head.predict(coo_matrix(X)).tolist() == head.predict(coo_matrix(X).tocsr()).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"strength": np.array([1.0, 2.0])},
        {"entries": np.array([1, 2])},
        {"residuals": np.array([1.0, 2.0])},
        {"classes": []},
        {"embedding": narrow},
    ],
)
def test_options_that_are_no_single_value_are_refused(options):
    """An array for a number, no classes at all, and an embedding that fails."""
    with pytest.raises(errors.InputError) as raised:
        ResidualMemoryClassifier(plain if "classes" in options else BASE, **options).fit(X, Y)

    assert raised.value.remedy


def test_logits_of_no_class_are_refused():
    """There is nothing to correct."""
    with pytest.raises(errors.DimensionMismatch, match="one logit for each class"):
        ResidualMemoryClassifier(plain).fit(None, [0], embedding=[[1.0]], outputs=np.zeros((1, 0)))


@pytest.mark.parametrize("scoring", [["accuracy"], np.array(["accuracy", "log_loss"])])
def test_a_list_of_scorings_is_refused(scoring):
    """Settings are chosen by one."""
    with pytest.raises(errors.InvalidParameter, match="scoring"):
        ResidualMemoryClassifier(BASE).fit(X, Y).tune(X + 1, Y, scoring=scoring)


@pytest.mark.parametrize("last", [20 * 20 + 5.0, 1e6, -1.0])
def test_a_row_with_a_class_that_the_base_does_not_have_is_named(last):
    """Its entry was written into the scores of the next query of the batch."""
    head, logits, labels = packed()
    foreign = head.memory_.rows(head.ids_[:1]).values.copy()
    foreign[0, -2:] = last
    head.memory_.add(np.full((1, 3), 50.0), foreign, metadata={"truth": [int(labels[0])]})

    with pytest.raises(errors.CorruptMemory, match="row 30 "):
        head.predict_proba(None, embedding=X[:2], outputs=logits[:2])


def test_a_memory_that_is_off_has_no_error_to_bound():
    """No row is read; neither is one behind the gate."""
    head, logits, _ = packed(k=5)
    asked = {"embedding": X + 0.1, "outputs": logits}
    bound = head.error_bound(None, **asked)
    sure = head.set_params(strength=0.0).predict_proba(None, **asked).max(axis=1)
    off = head.error_bound(None, **asked)
    gate = float(np.median(sure))
    gated = head.set_params(strength=1.0, gate=gate).error_bound(None, **asked)

    assert (bound > 0).all()
    assert not off.any()
    assert gated.tolist() == np.where(sure >= gate, 0.0, bound).tolist()


@pytest.mark.parametrize("kind", ["float64", "float32", "bfloat16", "float16"])
def test_a_torch_base_computes_in_its_own_floats(kind):
    """Rows come as it takes them; NumPy has no bfloat16."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    net = net.to(getattr(torch, kind))
    head = ResidualMemoryClassifier(net, k=3).fit(X, Y)
    with torch.no_grad():
        said = torch.softmax(net(torch.as_tensor(X).to(getattr(torch, kind))).double(), 1)

    alone = head.set_params(strength=0.0).predict_proba(torch.as_tensor(X))

    np.testing.assert_allclose(alone, said.numpy(), atol=1e-6)


def test_a_torch_base_that_fails_is_told_in_our_words():
    """Rows of another width, and a module of two arguments."""
    torch = pytest.importorskip("torch")

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(3, 3)

        def forward(self, rows, others):
            return self.line(rows) + others

    head = ResidualMemoryClassifier(torch.nn.Sequential(torch.nn.Linear(3, 3)), k=3).fit(X, Y)

    for broken in (
        lambda: head.predict(X[:, :2]),
        lambda: ResidualMemoryClassifier(Two()).fit(X, Y),
    ):
        with pytest.raises(errors.InputError, match="the base does not answer") as raised:
            broken()
        assert raised.value.remedy
