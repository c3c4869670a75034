"""What both heads for dense prediction do: teach pyramids, follow the memory, search, read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.encoders.pyramids import MapEncoder, MapPyramids, PyramidEncoder
from recollect.errors import InvalidParameter, LengthMismatch
from recollect.heads.dense_memory import explanation
from recollect.heads.dense_memory.answers import DenseAnswer, DenseExplanation, Reading
from recollect.heads.dense_memory.diagnosis import Diagnosis, Query, diagnose
from recollect.heads.dense_memory.layout import Layout
from recollect.heads.dense_memory.novelty import Novelty, Order, kept_cells
from recollect.heads.dense_memory.plan import Kernel, Score
from recollect.heads.dense_memory.pyramids import (
    Precision,
    Pyramid,
    check_pyramid,
    check_same_axes,
    pack,
    whole,
)
from recollect.heads.dense_memory.samples import (
    Sample,
    as_objects,
    check_covered,
    checked_size,
    descriptor,
    opened_input,
    several,
)
from recollect.heads.dense_memory.search import coarse_to_fine
from recollect.heads.dense_memory.settings import Settings, at_least
from recollect.heads.dense_memory.stored import check_row
from recollect.heads.keeper import MemoryKeeper, empty_memory
from recollect.index.policy import Approximate
from recollect.memory.memory import Memory
from recollect.readout.grids import Shape
from recollect.readout.propagation import Mode, match_weights, message_graph, propagate
from recollect.types import Doubles, Floats, Ids

# Samples encoded and packed at a time: a long fit holds no more than the rows it writes.
AT_ONCE = 16


class DenseMemory(MemoryKeeper):
    """A memory of feature pyramids that answers cell by cell; its two final classes say what."""

    k: int | Sequence[int]
    temperature: float
    sparse_levels: int
    kernel: Kernel
    message_passing: Mode | None
    score: Score
    level_weights: Sequence[float] | None
    position: float
    prefilter: int | None
    precision: Precision
    order: Order
    block_labels: bool
    sparse_keep: int
    novelty: Novelty
    radius: int
    links: int
    link_temperature: float
    alpha: float
    tolerance: float
    max_iterations: int
    memory_cap: int
    search: Approximate | None
    _keeps: ClassVar[str]
    _layout_held: tuple[Any, Layout]

    @abstractmethod
    def _settings(self) -> Settings:
        """Judge the options."""

    @abstractmethod
    def _new_layout(self, options: dict[str, Any]) -> Layout:
        """An empty layout of the kind that this head reads."""

    @abstractmethod
    def _judge(self, given: Any, name: str, sample: Sample) -> dict[str, NDArray[Any]]:
        """Return what a sample's pixels answer with, as arrays to be kept."""

    @abstractmethod
    def _check_batch(
        self, values: Sequence[dict[str, NDArray[Any]]], beside: Mapping[str, NDArray[Any]] | None
    ) -> None:
        """Refuse samples that do not go together, or not with a row that stays beside them."""

    @abstractmethod
    def _combine(
        self, layout: Any, sample: Sample, reading: Reading, settings: Settings
    ) -> Reading:
        """Fill in weights and starting state, out of the matches."""

    @abstractmethod
    def _answer(self, layout: Any, sample: Sample, reading: Reading) -> DenseAnswer:
        """Put what was read in the caller's terms."""

    @abstractmethod
    def _at_size(
        self, layout: Any, sample: Sample, reading: Reading, size: Shape, *, shares: bool
    ) -> NDArray[Any]:
        """Predictions, or shares, of pixels."""

    # -- teaching ------------------------------------------------------------------------------

    def fit(
        self, X: Any, y: Any, *, ids: ArrayLike | None = None, weights: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None, metadata: Mapping[str, Any] | None = None,
    ) -> Self:  # fmt: skip
        """Forget everything and teach these samples, one row each.

        Args:
            X: Pyramids, each a list of arrays ``(*grid, width)``, coarsest first; or what the
                encoder reads.
            y: One mask a sample, of the size of its image; for pyramids of the size of its finest
                grid, or larger.
            ids: int64 ``(samples,)``; counted up when None.
            weights: Weight of each sample's matches; 1 when None.
            sources: Where each sample came from: text or None.
            metadata: Column name -> one value a sample.

        Returns:
            The estimator.

        Raises:
            InputError: Something cannot be used, with sample and level named; nothing was changed.
        """
        return self._teach(X, y, ids, weights, sources, metadata, anew=True)

    def partial_fit(
        self, X: Any, y: Any, *, ids: ArrayLike | None = None, weights: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None, metadata: Mapping[str, Any] | None = None,
    ) -> Self:  # fmt: skip
        """Teach these samples too. Arguments as in ``fit``."""
        return self._teach(X, y, ids, weights, sources, metadata, anew=False)

    def relabel(self, ids: ArrayLike, y: Any) -> Self:
        """Give samples other masks; their features are not computed again.

        Args:
            ids: Row ids.
            y: One mask a sample.

        Raises:
            UnknownIds: One of them is not there; nothing was changed.
            InputError: A mask cannot be used; nothing was changed.
        """
        self._recall()
        memory = self._writable()
        rows = memory.rows(several("ids", ids))
        masks = several("y", y)
        if len(masks) != len(rows):
            raise LengthMismatch(
                "ids and masks differ in length", expected=f"{len(rows)} masks", got=len(masks)
            )
        changed = []
        for at, (arrays, mask) in enumerate(zip(rows.values, masks, strict=True)):
            check_row(arrays, f"row {rows.ids[at]}", self._keeps)
            shapes = tuple(tuple(shape) for shape in arrays["shapes"].tolist())
            size = tuple(arrays["size"].tolist()) or None
            sample = Sample(Pyramid(shapes, ()), size)
            kept = {name: each for name, each in arrays.items() if name not in _ANSWERS}
            changed.append(kept | self._judge(mask, f"mask {at}", sample))
        others = np.setdiff1d(memory.ids, rows.ids)[:1]
        self._check_batch(changed, memory.rows(others).values[0] if len(others) else None)
        memory.update(rows.ids, values=as_objects(changed))
        return self

    def _teach(
        self, X: Any, y: Any, ids: Any, weights: Any, sources: Any, metadata: Any, *, anew: bool
    ) -> Self:
        settings = self._settings()
        columns = {"ids": ids, "weights": weights, "sources": sources, "metadata": metadata}
        known = not anew and self.__sklearn_is_fitted__()
        earlier = self._taught if known else []
        inputs, masks = several("X", X), several("y", y)
        if len(inputs) != len(masks):
            raise LengthMismatch(
                "samples and masks differ in number", expected=f"{len(inputs)} masks",
                got=len(masks), remedy="Give one mask for each sample.",
            )  # fmt: skip
        beside = self._first_row() if known else None
        taught = None if beside is None else _widths(beside)
        keys, values = [], []
        for at, sample in enumerate(self._samples(inputs, taught)):
            taught = taught or (sample.pyramid.widths, sample.pyramid.axes)
            settings.plan(len(sample.pyramid.shapes))
            check_covered(sample, f"sample {at}")
            key, value = self._row(sample, masks[at], at, settings)
            keys.append(key)
            values.append(value)
        self._check_batch(values, beside)
        rows, packed = np.stack(keys), as_objects(values)
        with self._memory_to_teach(rows, packed, columns, anew=anew) as memory:
            self._check_fits(memory)
            write = memory.replace if anew else memory.add
            given = write(rows, packed, **columns)
            self._adopt(memory)
        earlier.append(given)
        self._taught = earlier
        return self

    def _row(
        self, sample: Sample, mask: Any, at: int, settings: Settings
    ) -> tuple[Floats, dict[str, NDArray[Any]]]:
        pyramid = sample.pyramid
        answers = self._judge(mask, f"mask {at}", sample)
        # No grid has as many cells: more would only leave the range of integers.
        keep = min(settings.sparse_keep, len(pyramid.features[-1]))
        kept = kept_cells(
            pyramid, settings.sparse_levels, keep=keep, of=settings.novelty, order=settings.order
        )
        arrays = pack(pyramid, kept, settings.precision, f"sample {at}")
        arrays["size"] = np.array(sample.size or (), np.int64)
        return descriptor(pyramid), arrays | answers

    def _samples(
        self, inputs: Sequence[Any], taught: tuple[tuple[int, ...], int] | None
    ) -> Iterator[Sample]:
        """Open and encode inputs; each must go with those before it."""
        encoder = self._pyramid_encoder()
        for start in range(0, len(inputs), AT_ONCE):
            some = inputs[start : start + AT_ONCE]
            opened: Sequence[Any] = some
            sizes: list[Shape | None] = [None] * len(some)
            if encoder is not None:
                opened = [opened_input(encoder, each, start + at) for at, each in enumerate(some)]
                sizes = [each.shape[:-1] for each in opened]
                opened = list(encoder.encode_pyramids(opened))
            for at, (levels, size) in enumerate(zip(opened, sizes, strict=True), start=start):
                name = f"sample {at}"
                pyramid = check_pyramid(levels, name, widths=taught and taught[0])
                taught = taught or (pyramid.widths, pyramid.axes)
                check_same_axes(pyramid, name, taught[1])
                yield Sample(pyramid, size)

    def _pyramid_encoder(self) -> PyramidEncoder | None:
        if self.encoder is None or isinstance(self.encoder, PyramidEncoder):
            return self.encoder
        if isinstance(self.encoder, MapEncoder):
            return MapPyramids(self.encoder)
        raise InvalidParameter(
            "this encoder gives no pyramids",
            expected="MapPyramids, LocalStatistics, or an image encoder with feature maps",
            got=f"{self.encoder!r:.80}",
            remedy="See recollect.encoders.MapPyramids.",
        )

    def _first_row(self) -> Mapping[str, NDArray[Any]] | None:
        """What one row of the memory holds; None where there is none."""
        frozen = self.memory_.at(self.memory_.version)
        ids = frozen.ids[:1]
        found: Mapping[str, NDArray[Any]] | None = None
        if len(ids):
            found = frozen.rows(ids).values[0]
            check_row(found, f"row {ids[0]}", self._keeps)
        return found

    # -- asking --------------------------------------------------------------------------------

    def predict(self, X: Any, *, size: Shape | None = None) -> Any:
        """Answer every pixel of each input, or every finest cell of each pyramid.

        Args:
            X: As in ``fit``.
            size: Size of the answers instead; cells are interpolated linearly.

        Returns:
            An array ``(inputs, *size)`` where all have one size, else a list. See the class for
            what stands where there is no answer.
        """
        return self._predicted(X, size, shares=False)

    def _predicted(self, X: Any, size: Shape | None, *, shares: bool) -> Any:
        found = []
        with self._asking() as (settings, layout):
            for sample in self._samples(several("X", X), (layout.widths, layout.axes)):
                wanted = checked_size(size, sample)
                reading = self._read(layout, sample, settings)
                found.append(self._at_size(layout, sample, reading, wanted, shares=shares))
        same = len({each.shape for each in found}) == 1
        return np.stack(found) if same else found

    def answer(self, X: Any) -> list[DenseAnswer]:
        """Answer every finest cell of each input, with how sure and how new it is."""
        with self._asking() as (settings, layout):
            return [
                self._answer(layout, sample, self._read(layout, sample, settings))
                for sample in self._samples(several("X", X), (layout.widths, layout.axes))
            ]

    def explain(self, x: Any, cell: Sequence[int]) -> DenseExplanation:
        """Say which cells of the memory made the answer of one cell.

        Args:
            x: One input.
            cell: Place in its finest grid, one number an axis.

        Raises:
            InvalidParameter: There is no such cell.
        """
        with self._asking() as (settings, layout):
            [sample] = self._samples([x], (layout.widths, layout.axes))
            grid = sample.pyramid.shapes[-1]
            place = explanation.checked_cell(cell, grid)
            return explanation.explain(
                layout, self._read(layout, sample, settings), grid, place, settings
            )

    def diagnose(self, X: Any = None, *, samples: int = 8, k: int | None = None) -> Diagnosis:
        """Compare coarse-to-fine search with search among all cells by the same score.

        Args:
            X: Inputs to ask about; None takes samples of the memory, each left out itself.
            samples: How many samples of the memory, spread evenly over it.
            k: Matches compared on the finest level; as many as the search keeps when None.

        Raises:
            InvalidParameter: An option is below 1; or X is None and the memory holds one sample, or
                samples that are sparse.
        """
        for name, value in (("samples", samples), ("k", 1 if k is None else k)):
            at_least(name, value, 1)
        with self._asking() as (settings, layout):
            if X is None:
                queries = self._at_once(lambda: self._own_queries(layout, settings, samples))
            else:
                queries = [
                    Query(each.pyramid, self._prefiltered(layout, each.pyramid, settings), None)
                    for each in self._samples(several("X", X), (layout.widths, layout.axes))
                ]
            plan = settings.plan(len(queries[0].pyramid.shapes))
            return diagnose(layout, queries, plan, k)

    def _own_queries(self, layout: Layout, settings: Settings, samples: int) -> list[Query]:
        # Rows are read again: by then another process may have erased what the layout holds.
        layout.follow(self.memory_)
        ids = layout.ids
        if len(ids) < 2:
            raise InvalidParameter(
                "leaving one sample out leaves nothing to ask", expected="at least two samples",
                got=len(ids), remedy="Teach more samples, or pass X.",
            )  # fmt: skip
        spread = np.linspace(0, len(ids) - 1, min(samples, len(ids))).astype(np.int64)
        queries = []
        for row in [ids[at] for at in np.unique(spread).tolist()]:
            pyramid = whole(layout.row(row), row)
            others = np.sort(layout.position_of([each for each in ids if each != row]))
            near = self._prefiltered(layout, pyramid, settings, leave_out=row)
            queries.append(Query(pyramid, others if near is None else near, others))
        return queries

    @contextmanager
    def _asking(self) -> Iterator[tuple[Settings, Layout]]:
        """Options and cells for one question: one version of the memory, whoever writes."""
        settings, layout = self._settings(), self._layout()
        with layout.lock:
            layout.follow(self.memory_)
            if not layout.ids:
                raise empty_memory()
            yield settings, layout

    def _layout(self) -> Layout:
        """The cells of the memory as it is now.

        Raises:
            NotFitted: There are none.
        """
        memory = self._recall()
        if not len(memory):
            raise empty_memory()
        options = {
            "position": float(self.position), "kernel": self.kernel,
            "block_labels": bool(self.block_labels), "search": self.search,
            "dtype": np.float16 if self.precision == "float16" else np.float32,
        }  # fmt: skip
        held = self.__dict__.get("_layout_held")
        if held is None or held[0] != (id(memory), options):
            held = (id(memory), options), self._new_layout(options)
        with held[1].lock:
            held[1].follow(memory)
        self._layout_held = held
        return held[1]

    def _read(self, layout: Layout, sample: Sample, settings: Settings) -> Reading:
        pyramid = sample.pyramid
        assert layout.cells is not None
        allowed = self._prefiltered(layout, pyramid, settings)
        matches = coarse_to_fine(
            layout.cells, pyramid.shapes, layout.query(pyramid),
            settings.plan(len(pyramid.shapes)), allowed=allowed,
        )  # fmt: skip
        finest = matches[-1]
        weights = match_weights(finest.score, settings.temperature)
        weights = weighed(weights, finest.cells, layout)
        empty = np.zeros((len(weights), 0))
        found = weights.sum(axis=1) > 0
        reading = Reading(matches, weights, empty, found, empty, found)
        return self._messages(self._combine(layout, sample, reading, settings), pyramid, settings)

    def _messages(self, reading: Reading, pyramid: Pyramid, settings: Settings) -> Reading:
        if settings.message_passing is None:
            return reading
        around = (2 * settings.radius + 1) ** pyramid.axes - 1
        links, weights = message_graph(
            pyramid.features[-1], pyramid.shapes[-1], radius=settings.radius,
            k=min(settings.links, around), temperature=settings.link_temperature,
        )  # fmt: skip
        done = propagate(
            reading.start, links, weights, valid=reading.found, mode=settings.message_passing,
            alpha=settings.alpha, tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
        )  # fmt: skip
        return Reading(
            reading.matches, reading.weights, reading.start, reading.found, done.values, done.valid,
            links, weights, done.iterations, done.converged,
        )  # fmt: skip

    def _prefiltered(
        self, layout: Layout, pyramid: Pyramid, settings: Settings, leave_out: int | None = None
    ) -> Ids | None:
        """Samples whose mean of the coarsest level is nearest, as positions in the layout."""
        if settings.prefilter is None or settings.prefilter >= len(layout.ids):
            return None
        own = None if leave_out is None else layout.position_of([leave_out])
        return layout.near(descriptor(pyramid), int(settings.prefilter), leave_out=own)

    # -- the memory ----------------------------------------------------------------------------

    @property
    def _in_use(self) -> PyramidEncoder | None:
        return self._pyramid_encoder()

    def _check_fits(self, memory: Memory) -> None:
        if memory.value != "arrays":
            raise InvalidParameter(
                f"the memory does not hold what {type(self).__name__} reads",
                expected="value='arrays'", got=f"value={memory.value!r}",
                remedy="Give a memory that was taught by this estimator.",
            )  # fmt: skip
        memory.check_encoder(self._pyramid_encoder())
        if len(memory):
            held = memory.rows(memory.ids[:1]).values[0]
            if self._keeps not in held:
                raise InvalidParameter(
                    f"the memory does not hold what {type(self).__name__} reads",
                    expected=f"rows with {self._keeps!r}", got=", ".join(sorted(held)),
                    remedy="A segmenter reads labels, a regressor numbers.",
                )  # fmt: skip

    def _creation_options(self, keys: NDArray[Any], values: Any) -> dict[str, Any]:
        del values
        return {"dim": keys.shape[1], "metric": "dot", "value": "arrays"}

    def __getstate__(self) -> dict[str, Any]:
        """As of every keeper of a memory; what is derived from the rows does not travel."""
        state = super().__getstate__()
        state.pop("_layout_held", None)
        return state


_ANSWERS = ("labels", "mask", "target")


def _widths(arrays: Mapping[str, NDArray[Any]]) -> tuple[tuple[int, ...], int]:
    """Widths of the levels, and number of axes, of a row."""
    levels, axes = arrays["shapes"].shape
    return tuple(arrays[f"features_{at}"].shape[1] for at in range(levels)), axes


def weighed(weights: Doubles, places: Ids, layout: Layout) -> Doubles:
    """Let the rows' own weights count; rows of matches still sum to 1, or to 0."""
    assert layout.cells is not None
    own = layout.weights
    # Of samples that are there: one that was forgotten must not have the others rounded anew.
    if (own[np.array(layout.cells.alive)] == 1.0).all():
        return weights
    samples = layout.cells.levels[-1].sample[np.maximum(places, 0)]
    scaled = weights * own[samples]
    total = scaled.sum(axis=1, keepdims=True)
    np.divide(scaled, total, out=scaled, where=total > 0)
    return scaled
