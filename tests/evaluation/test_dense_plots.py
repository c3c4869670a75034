"""Pictures of dense answers: which panels, which outlines."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_pyramids import random_mask, random_pyramid

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


def test_a_signal_is_drawn_as_a_strip():
    """One row, the cell outlined in it."""
    encoder = LocalStatistics(1, levels=2, stride=2)
    rng = np.random.default_rng(0)
    signals = [rng.normal(size=(32, 2)) for _ in range(2)]
    head = DenseMemorySegmenter(encoder=encoder, k=2, message_passing=None)
    head.fit(signals, [rng.integers(0, 2, 32) for _ in signals])

    figure = plot_provenance(head, signals[0], (3,), shown=1, sources=lambda row: signals[row])

    assert [axes.get_images()[0].get_array().shape for axes in figure.axes] == [(1, 32)] * 3
    outline = figure.axes[0].patches[0]
    assert (outline.get_x(), outline.get_width(), outline.get_height()) == (5.5, 2, 1)


def test_a_volume_is_drawn_as_a_slice_through_the_cell():
    """Of the volume the one where the outlined cell lies."""
    volume = np.arange(8.0**3).reshape(8, 8, 8)
    head = DenseMemorySegmenter(encoder=LocalStatistics(3, levels=2, stride=2), k=1)
    head.fit([volume], [random_mask(0, (8, 8, 8))])

    figure = plot_provenance(head, volume, (0, 1, 3), shown=1)

    shown = figure.axes[0].get_images()[0].get_array()
    assert np.array_equal(shown, volume[:, :, 7])


def test_an_image_is_opened_where_there_is_an_encoder():
    """One call draws all."""
    image = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)
    head = DenseMemorySegmenter(encoder=LocalStatistics(2, levels=2), k=2)
    head.fit([image], [random_mask(0, (16, 16))])

    figure = plot_provenance(head, image, (0, 0), shown=1)

    assert figure.axes[0].get_title() == "asked"
