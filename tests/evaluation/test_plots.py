"""Pictures hold the numbers they were given; that they look right was judged by eye."""

from __future__ import annotations

import io

import numpy as np
import pytest
from interpreter import run_python

from recollect import errors
from recollect.evaluation import metrics, plots
from recollect.types import Evidence, Explanation

PIXELS = np.zeros((8, 8), np.uint8)


def row(id_, value, contribution):
    return Evidence(id_, value, similarity=0.9, weight=1.0, contribution=contribution)


@pytest.fixture
def explanation():
    rows = (row(4, "cat", 0.5), row(7, "dog", 0.3), row(9, "cat", 0.2))
    return Explanation("cat", 0.7, {"cat": 0.7, "dog": 0.3}, rows, (4,), "dog")


def words(figure):
    return [text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text"))]


def test_the_bars_of_a_label_add_up_to_its_share(explanation):
    """The picture must show the same sum as the explanation."""
    figure = plots.plot_explanation(PIXELS, explanation, {4: PIXELS})

    widths = [bar.get_width() for bar in figure.axes[-1].patches]

    assert widths == pytest.approx([50.0, 20.0, 30.0])


def test_the_picture_names_every_row_its_label_and_its_vote(explanation):
    """A reader can look each row up in the memory."""
    figure = plots.plot_explanation(PIXELS, explanation, {})

    assert "#7   sim 0.90\nvote 30.0 %" in words(figure)
    assert "◆ cat" in words(figure)
    assert "Without #4 (◆, hatched) the answer is dog." in words(figure)


def test_rows_beyond_those_shown_are_counted_in_the_title(explanation):
    """A picture that hides rows says so."""
    figure = plots.plot_explanation(PIXELS, explanation, {}, shown=2)

    assert "Answer: cat, and the rows behind it  (2 of 3 rows shown)" in words(figure)


def test_a_regressor_shows_contributions_instead_of_shares():
    """Numbers have no share of a vote."""
    why = Explanation(2.5, 2.5, {}, (row(1, 2.0, 1.0), row(2, 3.0, 1.5)))

    figure = plots.plot_explanation(None, why, {})

    assert [bar.get_width() for bar in figure.axes[-1].patches] == [1.0, 1.5]


def test_a_label_that_looks_like_mathematics_is_drawn_as_it_is():
    """Dollar signs in a label must not start a formula, still less a failing one."""
    why = Explanation("$\\bad{", 1.0, {"$\\bad{": 1.0}, (row(1, "$\\bad{", 1.0),))
    figure = plots.plot_explanation(PIXELS, why, {})

    figure.savefig(io.BytesIO(), format="png")

    assert "$\\bad{" in words(figure)


def test_an_explanation_without_rows_has_no_picture():
    """An empty picture would look like a bug of the plot."""
    with pytest.raises(errors.EmptyBatch):
        plots.plot_explanation(PIXELS, Explanation("cat", 0.0, {}, ()), {})


def test_curves_are_drawn_in_percent_at_k_from_one():
    """Off by one in k is the classic mistake of this plot."""
    figure = plots.plot_accuracy_by_k({"rank": [0.5, 0.75]}, reference={"1-NN": 0.5})

    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1.0, 50.0], [2.0, 75.0]]


def test_error_bands_of_another_length_are_refused():
    """A band must belong to its curve."""
    with pytest.raises(errors.LengthMismatch, match="rank"):
        plots.plot_accuracy_by_k({"rank": [0.5, 0.75]}, errors={"rank": [0.1]})


def test_more_curves_than_colors_are_refused():
    """The eighth line could not be told from the first."""
    with pytest.raises(errors.InvalidParameter, match="number of curves"):
        plots.plot_accuracy_by_k({name: [0.5] for name in "abcdefgh"})


def test_a_confusion_matrix_writes_its_counts():
    """Colors give the impression, counts give the fact."""
    figure = plots.plot_confusion(metrics.confusion_matrix(["a", "a", "b"], ["a", "b", "b"]))

    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "0", "1"]


def test_a_reliability_diagram_leaves_out_empty_bins():
    """A bar of height zero would claim answers that are all wrong."""
    curve = metrics.reliability_curve([True, False], [0.9, 0.9], bins=10)

    figure = plots.plot_reliability(curve)

    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.5]


def test_no_global_state_of_matplotlib_is_touched():
    """A server draws pictures in many threads; pyplot keeps one current figure for all."""
    code = (
        "import sys, recollect.evaluation.plots as plots;"
        "figure = plots.plot_accuracy_by_k({'rank': [0.5]});"
        "print('matplotlib.pyplot' in sys.modules)"
    )

    assert run_python(code) == "False"
