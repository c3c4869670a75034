"""Predict numbers, such as depth, for every pixel from matching cells of a memory of pyramids.

After Winter et al., "PARMESAN: Parameter-Free Memory Search and Transduction for Dense Prediction
Tasks" (arXiv 2403.11743).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.dense_memory.answers import DenseAnswer, Reading
from recollect.heads.dense_memory.base import DenseMemory
from recollect.heads.dense_memory.layout import NumberLayout
from recollect.heads.dense_memory.masks import check_target, pixels_of
from recollect.heads.dense_memory.novelty import Novelty, Order
from recollect.heads.dense_memory.plan import Kernel, Score
from recollect.heads.dense_memory.pyramids import Precision
from recollect.heads.dense_memory.samples import Sample
from recollect.heads.dense_memory.search import path_vectors
from recollect.heads.dense_memory.settings import Settings
from recollect.index.policy import Approximate
from recollect.memory.memory import Memory
from recollect.readout.grids import Shape
from recollect.readout.propagation import Mode, linear_weights, median_weights, weighted_mean
from recollect.types import Doubles


class DenseMemoryRegressor(DenseMemory):
    """Predict every pixel's values from those of the most similar cells that were taught.

    Targets are ``(*size)`` or ``(*size, width)``, NaN where there is no value; so are answers where
    nothing matches.

    Args:
        encoder: As of ``DenseMemorySegmenter``, as are all options but ``reading``.
        k: Likewise.
        temperature: Likewise.
        sparse_levels: Likewise.
        kernel: Likewise.
        message_passing: Likewise.
        memory: Likewise.
        score: Likewise.
        level_weights: Likewise.
        position: Likewise.
        reading: ``"mean"`` of the matches' values; their ``"median"``, for one number a pixel; or
            ``"linear"``, a local linear fit through them, which may go beyond the values it read.
        prefilter: Likewise.
        precision: Likewise.
        order: Likewise.
        block_labels: Likewise.
        sparse_keep: Likewise.
        novelty: Likewise.
        radius: Likewise.
        links: Likewise.
        link_temperature: Likewise.
        alpha: Likewise.
        tolerance: Likewise.
        max_iterations: Likewise.
        memory_cap: Likewise.
        search: Likewise.

    Attributes:
        ids_: Row ids in the order given, forgotten ones left out.
        memory_: The memory: one row a sample, its pyramid and target.

    Example:
        >>> near, far = [1.0, 0.0], [0.0, 1.0]
        >>> head = DenseMemoryRegressor(k=1, message_passing=None)
        >>> _ = head.fit([[np.array([near, far])]], [[0.5, 8.0]])
        >>> head.predict([[np.array([far, near])]]).round(2).tolist()
        [[8.0, 0.5]]
    """

    _keeps: ClassVar[str] = "target"

    def __init__(
        self,
        encoder: Any = None,
        k: int | Sequence[int] = (32, 16, 8, 4),
        temperature: float = 0.02,
        sparse_levels: int = 0,
        kernel: Kernel = "children",
        message_passing: Mode | None = "anchored",
        memory: Memory | str | Path | None = None,
        *,
        score: Score = "level",
        level_weights: Sequence[float] | None = None,
        position: float = 0.0,
        reading: Literal["mean", "median", "linear"] = "mean",
        prefilter: int | None = None,
        precision: Precision = "float32",
        order: Order = "coarse_first",
        block_labels: bool = False,
        sparse_keep: int = 1,
        novelty: Novelty = "mean",
        radius: int = 1,
        links: int = 4,
        link_temperature: float = 0.1,
        alpha: float = 0.5,
        tolerance: float = 1e-6,
        max_iterations: int = 100,
        memory_cap: int = 256 << 20,
        search: Approximate | None = None,
    ) -> None:
        self.encoder = encoder
        self.k = k
        self.temperature = temperature
        self.sparse_levels = sparse_levels
        self.kernel = kernel
        self.message_passing = message_passing
        self.memory = memory
        self.score = score
        self.level_weights = level_weights
        self.position = position
        self.reading = reading
        self.prefilter = prefilter
        self.precision = precision
        self.order = order
        self.block_labels = block_labels
        self.sparse_keep = sparse_keep
        self.novelty = novelty
        self.radius = radius
        self.links = links
        self.link_temperature = link_temperature
        self.alpha = alpha
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.memory_cap = memory_cap
        self.search = search

    # -- inside --------------------------------------------------------------------------------

    def _settings(self) -> Settings:
        names = set(Settings.__dataclass_fields__) - {"retrieve", "balance", "ignore", "labels"}
        return Settings(**{name: getattr(self, name) for name in names})

    def _new_layout(self, options: dict[str, Any]) -> NumberLayout:
        return NumberLayout(**options)

    def _judge(self, given: Any, name: str, sample: Sample) -> dict[str, NDArray[Any]]:
        size, exact = sample.masked
        return {"target": check_target(given, name, size, exact=exact)}

    def _check_batch(
        self, values: Sequence[dict[str, NDArray[Any]]], beside: Mapping[str, NDArray[Any]] | None
    ) -> None:
        widths = {each["target"].shape[-1] for each in values}
        if beside is not None:
            widths.add(beside["target"].shape[-1])
        if len(widths) > 1:
            raise InvalidParameter(
                "targets hold several widths", expected="one width in all samples",
                got=", ".join(map(str, sorted(widths))), remedy="Keep them in several memories.",
            )  # fmt: skip
        if self.reading == "median":
            _check_one_number(max(widths))

    def _combine(
        self, layout: NumberLayout, sample: Sample, reading: Reading, settings: Settings
    ) -> Reading:
        matches = reading.matches[-1].cells
        values, weights = layout.values(matches), reading.weights
        if settings.reading == "median":
            _check_one_number(layout.width)
            weights = median_weights(values[..., 0], weights)
        elif settings.reading == "linear":
            weights = self._linear(layout, sample, matches, weights, settings)
        start = weighted_mean(values, weights)
        return replace(reading, weights=weights, start=start, values=start)

    def _linear(
        self, layout: NumberLayout, sample: Sample, matches: Any, weights: Doubles,
        settings: Settings,
    ) -> Doubles:  # fmt: skip
        """Weights of a local fit over what the matches were ranked by."""
        assert layout.cells is not None
        shapes = sample.pyramid.shapes
        plan = settings.plan(len(shapes))
        own, known = path_vectors(layout.cells, shapes, layout.query(sample.pyramid), plan)
        fitted = np.empty(weights.shape)
        step = max(1, plan.block_bytes // (8 * own.shape[1] * matches.shape[1] * 3))
        for start in range(0, len(own), step):
            part = slice(start, start + step)
            fitted[part] = linear_weights(own[part], known(matches[part]), weights[part])
        return fitted

    def _answer(self, layout: NumberLayout, sample: Sample, reading: Reading) -> DenseAnswer:
        grid = sample.pyramid.shapes[-1]
        held = layout.values(reading.matches[-1].cells)
        spread = np.square(held - reading.start[:, None]).mean(axis=2)
        spread = np.sqrt((np.abs(reading.weights) * spread).sum(axis=1))
        best = reading.matches[-1].similarity[:, 0]
        values = np.where(reading.valid[:, None], reading.values, np.nan)
        return DenseAnswer(
            grid=grid,
            prediction=values.reshape(*grid, -1),
            shares=None,
            valid=reading.valid.reshape(grid),
            confidence=spread.reshape(grid),
            novelty=(1 - np.maximum(best, -1)).reshape(grid),
            alone=reading.start.reshape(*grid, -1),
            iterations=reading.iterations,
            converged=reading.converged,
        )

    def _at_size(
        self, layout: NumberLayout, sample: Sample, reading: Reading, size: Shape, *, shares: bool
    ) -> NDArray[Any]:
        del shares
        grid = sample.pyramid.shapes[-1]
        if grid == size:
            values, valid = reading.values.reshape(*grid, -1), reading.valid.reshape(grid)
        else:
            values, valid = pixels_of(reading.values, reading.valid, grid, size)
        found = np.where(valid[..., None], values, np.nan)
        return found[..., 0] if layout.width == 1 else found


def _check_one_number(width: int) -> None:
    """Refuse a median of several numbers: each would have weights of its own."""
    if width != 1:
        raise InvalidParameter(
            "a median is of one number a pixel", expected="targets of width 1",
            got=f"width {width}", remedy="Set reading='mean' or 'linear'.",
        )  # fmt: skip
