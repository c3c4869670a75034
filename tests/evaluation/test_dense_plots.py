"""Pictures of dense answers: which panels, which outlines."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_pyramids import random_mask, random_pyramid, signal

from recollect import DenseMemorySegmenter
from recollect.encoders import LocalStatistics
from recollect.errors import InvalidParameter
from recollect.evaluation.dense_plots import plot_provenance


@pytest.fixture
def head():
    """A memory of two made-up pyramids."""
    return DenseMemorySegmenter(k=2, message_passing=None).fit(
        [random_pyramid(0), random_pyramid(1)],
        [random_mask(0, (8, 8)), random_mask(1, (8, 8))],
        sources=["a.png", "b.png"],
    )


def test_the_answer_and_the_cells_behind_it_are_drawn(head, tmp_path):
    """One panel for the answer, one for each cell, the rest left empty."""
    figure = plot_provenance(head, random_pyramid(9), (1, 2), shown=3)

    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0].startswith("answer: ")
    assert titles[1].split("\n")[0] in {"a.png", "b.png"}
    assert len(figure.axes) == 4
    figure.savefig(tmp_path / "why.png")


def test_pictures_of_the_samples_are_drawn_where_they_can_be_opened(head):
    """With the patch outlined in red."""
    asked = []

    def opened(row):
        asked.append(row)
        return np.zeros((8, 8, 3), np.uint8)

    figure = plot_provenance(
        head, random_pyramid(9), (1, 2), sources=opened, shown=1,
        picture=np.zeros((8, 8, 3), np.uint8),
    )  # fmt: skip

    assert len(asked) == 1
    assert figure.axes[0].get_title() == "asked"
    outline = figure.axes[0].patches[0]
    assert (outline.get_x(), outline.get_y(), outline.get_width()) == (3.5, 1.5, 2)


@pytest.mark.parametrize("shown", [0, 13])
def test_too_few_or_too_many_panels_are_refused(head, shown):
    """A figure has its limits."""
    with pytest.raises(InvalidParameter):
        plot_provenance(head, random_pyramid(9), (1, 2), shown=shown)


def test_a_signal_is_not_drawn():
    """Pictures have two axes."""
    head = DenseMemorySegmenter(k=1).fit([signal([1.0], [2.0])], [[1, 2]])

    with pytest.raises(InvalidParameter, match="two axes"):
        plot_provenance(head, signal([1.0], [2.0]), (0,))


def test_an_image_is_opened_where_there_is_an_encoder():
    """One call draws all."""
    image = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)
    head = DenseMemorySegmenter(encoder=LocalStatistics(2, levels=2), k=2)
    head.fit([image], [random_mask(0, (16, 16))])

    figure = plot_provenance(head, image, (0, 0), shown=1)

    assert figure.axes[0].get_title() == "asked"
