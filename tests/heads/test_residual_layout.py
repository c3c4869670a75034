"""How a row keeps what the base said of it: few numbers, from which the kept ones are exact."""

from __future__ import annotations

import numpy as np
import pytest

from recollect import Memory, ResidualMemoryClassifier, errors
from recollect.heads.residual_memory.layout import FORM, LADDER, Layout
from recollect.memory.schema import Recorded
from recollect.readout.kernel import soften

LOGITS = np.array([[0.0, 3.0, 2.0, 1.0, -1.0]])
CODES = np.array([0])


def plain(x):
    """A base of logits that are given."""
    return np.asarray(x)


def test_the_largest_logit_is_not_written_and_two_classes_share_a_number():
    """Behind nine sums: class 2 is one below class 1; then 1 * 5 + 2, and 0 * 5 + 0."""
    [row] = Layout(classes=5, entries=3).pack(LOGITS, CODES)

    assert row[len(LADDER) :].tolist() == [-1.0, -3.0, 7.0, 0.0]


@pytest.mark.parametrize("form", [1, FORM])
@pytest.mark.parametrize("entries", [1, 2, 3, 4])
@pytest.mark.parametrize("classes", [5, 4096, 4097])
def test_the_kept_probabilities_are_read_back_exactly(form, entries, classes):
    """However many classes there are; the last column is the largest number to be written."""
    logits = np.linspace(-4.0, 3.0, classes)[None].repeat(2, axis=0)
    layout = Layout(classes, entries, form)
    codes = np.array([0, classes - 1])

    rows = layout.pack(logits, codes)
    shares, columns = layout.unpack(rows, 2.0, np.arange(len(rows)))

    assert rows.shape == (2, layout.width)
    assert columns[0, -1] == 0
    assert columns[1].tolist() == list(range(classes - 1, classes - 1 - entries, -1))
    exact = np.take_along_axis(soften(logits, 2.0), columns, axis=1)
    np.testing.assert_allclose(shares, exact, rtol=2e-6, atol=0)


def test_a_thousand_classes_take_a_thirtieth_of_their_logits():
    """Nine sums, fifteen logits, sixteen classes in pairs: 32 numbers in place of 1,000."""
    assert Layout(classes=1000, entries=16).width == 32
    assert Layout(classes=8000, entries=16).width == 40
    assert Layout(classes=1000, entries=16, form=1).width == 41


@pytest.fixture
def earlier(tmp_path):
    """A folder whose rows were written in the first form: class 0 is right, the base says 1."""
    spec = {"head": "residual memory", "classes": 5, "entries": 2}
    layout = Layout(5, 2, form=1)
    memory = Memory.create(
        tmp_path / "rows", dim=1, metric="euclidean", value="vector", value_dim=layout.width,
        encoder=Recorded(None, spec),
    )  # fmt: skip
    memory.add([[0.0]], layout.pack(LOGITS, CODES), metadata={"truth": [0]})
    memory.close()
    return tmp_path / "rows"


def test_rows_of_the_first_form_are_still_answered_from(earlier):
    """What was taught stays of use."""
    head = ResidualMemoryClassifier(plain, k=1, entries=2, memory=earlier)

    assert head.predict(None, embedding=[[0.0]], outputs=LOGITS).tolist() == [0]


def test_rows_of_two_forms_are_not_mixed(earlier):
    """One memory's rows are read in one way."""
    head = ResidualMemoryClassifier(plain, k=1, entries=2, memory=earlier)

    with pytest.raises(errors.InvalidParameter, match="keep something else"):
        head.partial_fit(None, [0], embedding=[[1.0]], outputs=LOGITS)
    assert len(head.memory_) == 1


@pytest.mark.parametrize("form", [0, FORM + 1, "new"])
def test_a_form_of_a_later_version_is_refused(tmp_path, form):
    """Its numbers would be taken for others."""
    spec = {"head": "residual memory", "classes": 5, "entries": 2, "form": form}
    memory = Memory.create(
        tmp_path,
        dim=1,
        metric="euclidean",
        value="vector",
        value_dim=11,
        encoder=Recorded(None, spec),
    )
    memory.add([[0.0]], np.zeros((1, 11)), metadata={"truth": [0]})

    with pytest.raises(errors.InvalidParameter, match="later version"):
        ResidualMemoryClassifier(plain, memory=memory).predict(
            None, embedding=[[0.0]], outputs=LOGITS
        )
