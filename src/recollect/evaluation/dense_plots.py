"""Pictures of dense answers: what was said where, and which places of the memory said it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.pyramids import MapPyramids, PyramidEncoder
from recollect.errors import InvalidParameter
from recollect.evaluation.plots import new_figure
from recollect.heads.dense_memory.explanation import patch_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 12
Patch = tuple[tuple[int, int], ...]


def plot_provenance(
    head: Any,
    image: Any,
    cell: Sequence[int],
    *,
    picture: NDArray[Any] | None = None,
    sources: Any = None,
    shown: int = 4,
) -> Figure:
    """Draw the prediction for an input, one of its cells, and the cells of the memory behind it.

    A signal is drawn as a strip, a volume as the slice through the middle of each patch.

    Args:
        head: A ``DenseMemorySegmenter`` or ``DenseMemoryRegressor``.
        image: What the head reads: an image, signal or volume, or a pyramid.
        cell: Place in the finest grid, one number an axis.
        picture: ``(*size)`` or ``(*size, channels)`` to draw; None draws what the head's encoder
            opens, and the prediction alone where there is no encoder.
        sources: Opens the picture of a sample: a function of row id -> array
            ``(*size[, channels])``; None draws its outline only.
        shown: How many cells of the memory, 1 to 12.

    Raises:
        InvalidParameter: ``shown`` is out of range.
        MissingExtra: matplotlib is not installed.
    """
    if not 1 <= shown <= SHOWN:
        raise InvalidParameter("shown is out of range", expected=f"1 to {SHOWN}", got=shown)
    why = head.explain(image, cell)
    [answer] = head.answer([image])
    said = np.asarray(head.predict([image])[0])
    if picture is None and head.encoder is not None:
        picture = _opened(head.encoder, image)
    figure = new_figure(2.0 * (2 + shown), 2.6)
    axes = figure.subplots(1, (2 if picture is not None else 1) + shown, squeeze=False)[0]
    panels = list(axes)
    if picture is not None:
        _draw(
            panels.pop(0),
            picture,
            "asked",
            patch_of(why.cell, answer.grid, picture.shape[: len(answer.grid)]),
        )
    title = "answer" if why.shares == {} else f"answer: {why.prediction}, {why.score:.0%}"
    patch = patch_of(why.cell, answer.grid, said.shape[: len(answer.grid)])
    _draw(panels.pop(0), said, title, patch)
    for panel, each in zip(panels, why.evidence, strict=False):
        known = None if sources is None else np.asarray(sources(each.id))
        label = each.source or f"row {each.id}"
        _draw(panel, known, f"{label}\n{each.weight:.0%}", each.patch)
    for panel in panels[len(why.evidence) :]:
        panel.set_axis_off()
    return figure


def _opened(encoder: Any, source: Any) -> NDArray[Any]:
    """The input as the encoder of this head reads it."""
    pyramids = encoder if isinstance(encoder, PyramidEncoder) else MapPyramids(encoder)
    found: NDArray[Any] = pyramids.open(source)
    return found


def _plane(picture: NDArray[Any], patch: Patch) -> NDArray[Any]:
    """Two axes of a picture, and its colors where it has three bytes a pixel."""
    axes = len(patch)
    colored = picture.ndim == axes + 1 and picture.shape[-1] == 3 and picture.dtype == np.uint8
    shown = picture if picture.ndim == axes or colored else picture[..., 0]
    if axes == 1:
        return shown[None]
    return shown if axes == 2 else shown[:, :, sum(patch[2]) // 2]


def _draw(axes: Any, picture: NDArray[Any] | None, title: str, patch: Patch) -> None:
    from matplotlib.patches import Rectangle

    (top, bottom), (left, right) = ((0, 1), *patch) if len(patch) == 1 else patch[:2]
    if picture is None:
        axes.set_facecolor("0.95")
        axes.set_xlim(left - 40, right + 40)
        axes.set_ylim(bottom + 40, top - 40)
        axes.set_aspect("equal")
    else:
        shown = _plane(picture, patch)
        cmap = "tab20" if shown.ndim == 2 else None
        aspect = "auto" if len(patch) == 1 else "equal"
        axes.imshow(shown, interpolation="nearest", cmap=cmap, aspect=aspect)
    axes.add_patch(
        Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec="red", lw=2)
    )
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
