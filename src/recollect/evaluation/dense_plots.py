"""Pictures of dense answers: what was said where, and which places of the memory said it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.evaluation.plots import new_figure
from recollect.heads.dense_memory.explanation import patch_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 12


def plot_provenance(
    head: Any,
    image: Any,
    cell: Sequence[int],
    *,
    picture: NDArray[Any] | None = None,
    sources: Any = None,
    shown: int = 4,
) -> Figure:
    """Draw the prediction for an image, one of its cells, and the cells of the memory behind it.

    Args:
        head: A ``DenseMemorySegmenter`` or ``DenseMemoryRegressor``.
        image: What the head reads: an image, or a pyramid of two axes.
        cell: Place in the finest grid, row and column.
        picture: ``(H, W)`` or ``(H, W, 3)`` to draw; None draws the image where there is an
            encoder, and the prediction alone where there is none.
        sources: Opens the picture of a sample: a function of row id -> array ``(H, W[, 3])``;
            None draws its outline only.
        shown: How many cells of the memory, 1 to 12.

    Raises:
        InvalidParameter: ``shown`` is out of range, or the grid has other than two axes.
        MissingExtra: matplotlib is not installed.
    """
    if not 1 <= shown <= SHOWN:
        raise InvalidParameter("shown is out of range", expected=f"1 to {SHOWN}", got=shown)
    why = head.explain(image, cell)
    if len(why.cell) != 2:
        raise InvalidParameter(
            "pictures are drawn of grids of two axes", expected=2, got=len(why.cell),
            remedy="Read explain() for signals and volumes.",
        )  # fmt: skip
    [answer] = head.answer([image])
    said = np.asarray(head.predict([image])[0])
    encoder = head.encoder
    if picture is None and encoder is not None:
        picture = _opened(image)
    figure = new_figure(2.0 * (2 + shown), 2.6)
    axes = figure.subplots(1, (2 if picture is not None else 1) + shown, squeeze=False)[0]
    panels = list(axes)
    if picture is not None:
        _draw(panels.pop(0), picture, "asked", patch_of(why.cell, answer.grid, picture.shape[:2]))
    title = "answer" if why.shares == {} else f"answer: {why.prediction}, {why.score:.0%}"
    _draw(panels.pop(0), _flat(said), title, patch_of(why.cell, answer.grid, said.shape[:2]))
    for panel, each in zip(panels, why.evidence, strict=False):
        known = None if sources is None else np.asarray(sources(each.id))
        label = each.source or f"row {each.id}"
        _draw(panel, known, f"{label}\n{each.weight:.0%}", each.patch)
    for panel in panels[len(why.evidence) :]:
        panel.set_axis_off()
    return figure


def _opened(image: Any) -> NDArray[Any]:
    from recollect.encoders.images import decode_image

    return decode_image(image)


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.ndim == 2 else values[..., 0]


def _draw(
    axes: Any, picture: NDArray[Any] | None, title: str, patch: tuple[tuple[int, int], ...]
) -> None:
    from matplotlib.patches import Rectangle

    (top, bottom), (left, right) = patch
    if picture is None:
        axes.set_facecolor("0.95")
        axes.set_xlim(left - 40, right + 40)
        axes.set_ylim(bottom + 40, top - 40)
        axes.set_aspect("equal")
    else:
        axes.imshow(picture, interpolation="nearest", cmap="tab20" if picture.ndim == 2 else None)
    axes.add_patch(
        Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec="red", lw=2)
    )
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
