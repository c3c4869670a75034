"""Segment by what matching cells of a memory of labelled pyramids hold.

After Winter et al., "PARMESAN: Parameter-Free Memory Search and Transduction for Dense Prediction
Tasks" (arXiv 2403.11743): nothing is trained, so samples, labels and classes come, change and go
with the next answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dense_memory.answers import DenseAnswer, Reading
from recollect.heads.dense_memory.base import DenseMemory
from recollect.heads.dense_memory.layout import LabelLayout
from recollect.heads.dense_memory.masks import cell_of_pixel, check_mask, coded, pixels_of
from recollect.heads.dense_memory.novelty import Novelty, Order
from recollect.heads.dense_memory.patches import paste
from recollect.heads.dense_memory.plan import Kernel, Score
from recollect.heads.dense_memory.pyramids import Precision
from recollect.heads.dense_memory.samples import Sample
from recollect.heads.dense_memory.settings import Settings
from recollect.index.policy import Approximate
from recollect.memory.memory import Memory
from recollect.readout.grids import Shape
from recollect.readout.propagation import Mode


class DenseMemorySegmenter(DenseMemory):
    """Label every pixel by the labels of the most similar cells that were taught.

    Args:
        encoder: None: inputs are pyramids, lists of arrays ``(*grid, width)``, coarsest first.
            Otherwise what makes pyramids of inputs: ``MapPyramids``, ``LocalStatistics``, or an
            image encoder with feature maps.
        k: Matches kept on each level, the last for all further levels; or one number, which is
            halved from level to level down to 4.
        temperature: Of the softmax over matches; infinity weighs them alike.
        sparse_levels: Finest levels on which a sample keeps only its most novel cells (the
            paper's nsp). Inputs that are asked about are always whole.
        kernel: ``"children"``: a cell is compared with the children of what its parent matched;
            ``"overlap"``: with those of the cells around them too.
        message_passing: ``"anchored"``, ``"step"`` or None; see
            ``recollect.readout.propagation.propagate``.
        ignore: Value in masks that stands for "no label", and in answers for "no match".
        memory: None: every ``fit`` starts a memory that lives in the estimator. A path, or a
            ``Memory`` of arrays: used as it is.
        labels: The labels that masks may hold, others are refused; None takes any, whenever it
            comes.
        score: ``"level"`` ranks matches by their similarity on the level alone, as the paper does;
            ``"path"`` by the weighted mean of the similarities from the coarsest level on.
        level_weights: Of ``"path"``, one a level; all alike when None.
        position: How much a cell's place in the grid counts beside its features.
        balance: Raises rare labels: shares are divided by the label's share of the memory to this
            power. 0 leaves them, 1 makes all labels equally likely.
        retrieve: ``"cell"`` interpolates the shares of cells; ``"patch"`` pastes the pixels of the
            matched cells, which keeps thin things.
        prefilter: Compare only with so many samples, those most alike as a whole.
        precision: How features are kept: ``"float32"``, ``"float16"`` or ``"int8"``.
        order: With sparse levels, ``"coarse_first"`` or ``"fine_first"``; see
            ``recollect.heads.dense_memory.novelty.kept_cells``.
        block_labels: With sparse levels, a kept cell answers with the labels of all the cells
            that it stands for, not with its own alone.
        sparse_keep: With sparse levels, the children that stay of each kept cell. The paper keeps
            1; 3 with ``precision="int8"`` costs a quarter of the bytes and hardly any quality.
        novelty: What makes a child novel: ``"mean"``, being unlike the cells around it on average;
            ``"max"``, being unlike even the most similar of them.
        radius: Cells of the query within this distance exchange messages.
        links: With how many of them, the most similar ones.
        link_temperature: Of the softmax over these.
        alpha: Share of a cell's state that comes from its neighbors, in [0, 1).
        tolerance: Messages stop when no share changes by this much.
        max_iterations: Messages stop after this many rounds in any case.
        memory_cap: Bytes of candidates that a search may lay out at a time, by blocks and threads
            in keeping; never fewer than those of one cell. The exact index that searches the
            coarsest level has bounds of its own. What is found is held besides, whatever the cap:
            24 bytes for each match of each of the query's cells, and the answer.
        search: None: the coarsest level is searched exactly. An ``Approximate``: by lists, whose
            recall is held, once there are cells enough; which cells are missed then depends on when
            the lists were made, so two histories may answer differently. Needs
            ``recollect[faiss]``.

    Attributes:
        classes_: Labels that samples hold now, sorted.
        ids_: Row ids in the order given, forgotten ones left out.
        memory_: The memory: one row a sample, its pyramid and mask.

    ``predict`` never writes. An answer depends on the samples that are there, never on the order
    in which they came, and has the same bits alone or in any batch.

    Example:
        >>> left, right = [1.0, 0.0], [0.0, 1.0]
        >>> signal = [np.array([left, right])], [np.array([right, right])]
        >>> head = DenseMemorySegmenter(k=1).fit(list(signal), [[5, 9], [9, 9]])
        >>> head.predict([[np.array([right, left])]]).tolist()
        [[9, 5]]
    """

    _keeps: ClassVar[str] = "mask"

    def __init__(
        self,
        encoder: Any = None,
        k: int | Sequence[int] = (32, 16, 8, 4),
        temperature: float = 0.02,
        sparse_levels: int = 0,
        kernel: Kernel = "children",
        message_passing: Mode | None = "anchored",
        ignore: int = 255,
        memory: Memory | str | Path | None = None,
        *,
        labels: Sequence[int] | None = None,
        score: Score = "level",
        level_weights: Sequence[float] | None = None,
        position: float = 0.0,
        balance: float = 0.0,
        retrieve: Literal["cell", "patch"] = "cell",
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
        tolerance: float = 1e-6, max_iterations: int = 100,
        memory_cap: int = 256 << 20, search: Approximate | None = None,
    ) -> None:  # fmt: skip
        self.encoder = encoder
        self.k = k
        self.temperature = temperature
        self.sparse_levels = sparse_levels
        self.kernel = kernel
        self.message_passing = message_passing
        self.ignore = ignore
        self.memory = memory
        self.labels = labels
        self.score = score
        self.level_weights = level_weights
        self.position = position
        self.balance = balance
        self.retrieve = retrieve
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

    @property
    def classes_(self) -> NDArray[np.int64]:
        """Labels that samples hold now, sorted."""
        layout = self._layout()
        assert isinstance(layout, LabelLayout)
        return layout.present()

    def predict_proba(self, X: Any, *, size: Shape | None = None) -> Any:
        """Return the share of every label, ``(inputs, *size, classes)``, or a list.

        Columns are in the order of ``classes_``. A pixel's shares sum to 1, or to 0 where nothing
        in the memory answers it.
        """
        return self._predicted(X, size, shares=True)

    # -- inside --------------------------------------------------------------------------------

    def _settings(self) -> Settings:
        names = set(Settings.__dataclass_fields__) - {"reading"}
        return Settings(**{name: getattr(self, name) for name in names})

    def _new_layout(self, options: dict[str, Any]) -> LabelLayout:
        return LabelLayout(**options)

    def _judge(self, given: Any, name: str, sample: Sample) -> dict[str, NDArray[Any]]:
        size, exact = sample.masked
        mask = check_mask(given, name, size, self.ignore, exact=exact, allowed=self.labels)
        return coded(mask, self.ignore)

    def _check_batch(
        self, values: Sequence[dict[str, NDArray[Any]]], beside: Mapping[str, NDArray[Any]] | None
    ) -> None:
        """Masks of any labels go together."""

    def _combine(
        self, layout: LabelLayout, sample: Sample, reading: Reading, settings: Settings
    ) -> Reading:
        del sample
        start, weights = layout.read(reading.matches[-1].cells, reading.weights, settings)
        return replace(reading, weights=weights, start=start, values=start)

    def _answer(self, layout: LabelLayout, sample: Sample, reading: Reading) -> DenseAnswer:
        grid = sample.pyramid.shapes[-1]
        labels = np.where(
            reading.valid, layout.present()[reading.values.argmax(axis=1)], self.ignore
        )
        best = reading.matches[-1].similarity[:, 0]
        return DenseAnswer(
            grid=grid,
            prediction=labels.reshape(grid),
            shares=reading.values.reshape(*grid, -1),
            valid=reading.valid.reshape(grid),
            confidence=reading.values.max(axis=1).reshape(grid),
            novelty=(1 - np.maximum(best, -1)).reshape(grid),
            alone=reading.start.reshape(*grid, -1),
            iterations=reading.iterations,
            converged=reading.converged,
        )

    def _at_size(
        self, layout: LabelLayout, sample: Sample, reading: Reading, size: Shape, *, shares: bool
    ) -> NDArray[Any]:
        grid, classes = sample.pyramid.shapes[-1], layout.present()
        if grid == size:
            values, valid = reading.values.reshape(*grid, -1), reading.valid.reshape(grid)
        elif self.retrieve == "patch":
            values, valid = self._pasted(layout, reading, grid, size)
        else:
            values, valid = pixels_of(reading.values, reading.valid, grid, size)
        if shares:
            return np.where(valid[..., None], values, 0.0)
        return np.where(valid, classes[values.argmax(axis=-1)], self.ignore)

    def _pasted(
        self, layout: LabelLayout, reading: Reading, grid: Shape, size: Shape
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Labels of the matched cells' own pixels, weighed as the matches are.

        Messages speak of cells: they fill in only where no match has a labelled pixel.
        """
        assert layout.cells is not None
        classes, matched = layout.present(), reading.matches[-1].cells
        total = np.zeros((int(np.prod(size)), len(classes)))
        cell = cell_of_pixel(size, grid)
        for rank in range(matched.shape[1]):
            best = np.where(reading.weights[:, rank] > 0, matched[:, rank], -1)
            if not (best >= 0).any():
                continue
            pixels, labels = paste(layout.cells, best, grid, size, layout.labels_at, layout.size_of)
            pixels, labels = pixels[labels >= 0], labels[labels >= 0]
            weight = reading.weights[cell[pixels], rank]
            total[pixels, np.searchsorted(classes, labels)] += weight
        smooth, valid = pixels_of(reading.values, reading.valid, grid, size)
        mass = total.sum(axis=1, keepdims=True)
        shares = smooth.reshape(total.shape).astype(np.float64)
        np.divide(total, mass, out=shares, where=mass > 0)
        return shares.reshape(*size, -1), valid
