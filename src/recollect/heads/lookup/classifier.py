"""Classify images by replaying a recurrent attention model from a table of what it once did.

After Giacomini et al., "Towards model-size agnostic, compute-free, memorization-based inference of
deep learning" (arXiv 2307.07631).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin

from recollect.errors import InvalidParameter
from recollect.heads.inputs import check_labels
from recollect.heads.lookup.cluster import Growth
from recollect.heads.lookup.costs import check_weights
from recollect.heads.lookup.explanation import LookupExplanation, explain_trail
from recollect.heads.lookup.images import check_images
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.options import check_options, sorted_labels
from recollect.heads.lookup.predictor import LookupPredictor
from recollect.heads.lookup.readout import Readout, Vote, shares_of
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.recorder import RunEstimator
from recollect.heads.lookup.replay import Trail
from recollect.heads.lookup.rows import write_weights
from recollect.heads.lookup.table import Table
from recollect.heads.lookup.teaching import Progress, recorded_table, run_images
from recollect.heads.lookup.tuning import WeightReport, search_weights
from recollect.memory.memory import Memory
from recollect.types import Doubles, Ids, Mask, Metric

EQUAL = (1.0, 1.0, 1.0)
# Share of the images that is set aside to choose weights, at most so many, and at least so many.
_HELD_OUT, _MOST_HELD_OUT, _LEAST_HELD_OUT = 0.1, 1000, 20


class LookupClassifier(ClassifierMixin, RunEstimator):
    """Answer by look-ups in a table of what a recurrent attention model did with known images.

    Args:
        model: None: ``fit`` trains a network. A ``Network``, or the path of a saved one: it is
            recorded as it is.
        glimpses: Look-ups per image, if a network is trained.
        bits: Bits per number of a glimpse and of a state, if a network is trained; 0 keeps floats.
        weights: Weights of glimpse, state and location in the distance. None: ``fit`` chooses
            them on images set aside, if it has at least 200.
        tree: None compares with every row. A number walks down a tree of clusters and keeps that
            many ways (published: 1).
        fallback: Distance past which the network answers instead of the table; None never.
        seed: Of training, weight search and trees.
        k: How many rows of a step vote (published: 1).
        per_step: Each step has rows of its own; False keeps one table for all, as published.
        answers: ``"labels"``: a row answers with the label its image was taught with.
            ``"network"``: with the class that the network named, as published.
        recipe: How a network is trained; None for the defaults of ``Recipe``.
        growth: How the tree is grown; None for a branching of 6, leaves of 6 (published: 4 and 4)
            and centers that are rows.
        vote: ``"last"``: the rows of the last look vote by rank, as published. ``"all"``: those of
            every look do. ``"distance"``: at every look the nearest row of each class votes by how
            much nearer it is than the farthest of the k; best with k = 20 and more.
        slack: With a tree of several ways: a way that counts as farther (its distance less the
            reach of its cluster) than so many hundredths of the nearest is given up, which saves
            comparisons; None gives up none.
        readout: ``"row"``: a row answers as the runs that went through it. ``"state"``: as those
            that share its next state, the two-table form of the paper.
        memory: None: ``fit`` starts a memory that lives in the estimator. A path or a ``Memory``
            as in ``MemoryClassifier``; one that holds runs answers without ``fit`` and without a
            network.

    Attributes:
        classes_: Labels that can be answered now, sorted: those of the rows, or of the network with
            ``answers="network"``, and with ``fallback`` those of both.
        ids_: Ids of the recorded images, in the order given.
        memory_: One row per recorded image: its run through the network, and its label.
        network_: The network, or None where only its runs are there.
        weights_: The weights in use.
        table_: The table that the runs make; rebuilt when they change.

    Rows of the memory are the truth and the table follows from them, so that :meth:`forget` leaves
    the table that would have been recorded without these images. ``predict`` never writes.

    Example:
        >>> import recollect.heads.lookup.examples as examples
        >>> bars = LookupClassifier(examples.network(), weights=(1, 1, 1))
        >>> images, labels = examples.bars()
        >>> bars.fit(images, labels).predict(images[:2]).tolist()
        ['across', 'down']
    """

    metric: Metric = "manhattan"

    def __init__(
        self,
        model: Network | str | Path | None = None,
        glimpses: int = 5,
        bits: tuple[int, int] = (2, 1),
        weights: tuple[float, float, float] | None = None,
        tree: int | None = None,
        fallback: float | None = None,
        seed: int = 0,
        *,
        k: int = 1,
        per_step: bool = True,
        answers: Literal["labels", "network"] = "labels",
        recipe: Recipe | None = None,
        growth: Growth | None = None,
        vote: Vote = "last",
        slack: int | None = None,
        readout: Readout = "row",
        memory: Memory | str | Path | None = None,
    ) -> None:
        self.model = model
        self.glimpses = glimpses
        self.bits = bits
        self.weights = weights
        self.tree = tree
        self.fallback = fallback
        self.seed = seed
        self.k = k
        self.per_step = per_step
        self.answers = answers
        self.recipe = recipe
        self.growth = growth
        self.vote = vote
        self.slack = slack
        self.readout = readout
        self.memory = memory

    # -- teaching ------------------------------------------------------------------------------

    def fit(
        self,
        images: Any,
        y: Any,
        *,
        ids: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Train a network or take the one given, record these images and no others, tune.

        Args:
            images: ``(n, side, side)``, gray; uint8, or floats of any range.
            y: Labels ``(n,)``: all text or all integers.
            ids: Ids of the images, never used before in this memory; counted up when None.
            sources: Where each image came from, text or None.
            metadata: Column name -> one value per image, or one for all.
            progress: Called as ``progress(done, total)`` while a network is trained.

        Returns:
            The estimator.

        Raises:
            InputError: Something cannot be taught; nothing was.
            MissingExtra: torch or optuna is needed and not installed.
        """
        self._check_options()
        write_weights(metadata, EQUAL)
        pixels = check_images(images)
        labels = check_labels(self, pixels, y)
        held = self._set_aside(len(pixels))
        network = self._make_network(np.delete(pixels, held, 0), np.delete(labels, held), progress)
        weights = self._first_weights(network, pixels, labels, held)
        before = self.__dict__.get("_network")
        self._network = (self.model, network)
        try:
            self._teach(
                pixels, labels, anew=True, ids=ids, weights=None, sources=sources,
                metadata=write_weights(metadata, weights),
            )  # fmt: skip
        except BaseException:
            del self._network
            if before is not None:
                self._network = before
            raise
        return self

    def partial_fit(
        self,
        images: Any,
        y: Any,
        classes: Any = None,  # noqa: ARG002 - scikit-learn's signature
        *,
        ids: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Record more images; the network stays as it is. Arguments as in :meth:`fit`.

        A label that the network never saw is answered with ``answers="labels"``.

        Raises:
            NotFitted: There is no network to run the images through.
        """
        if self._known_network() is None:
            return self.fit(images, y, ids=ids, sources=sources, metadata=metadata)
        pixels = check_images(images, self.layout_.side)
        labels = check_labels(self, pixels, y)
        known = len(self._recall()) > 0
        weights = self.weights_ if known else check_weights(self.weights or EQUAL)
        self._teach(
            pixels, labels, anew=False, ids=ids, weights=None, sources=sources,
            metadata=write_weights(metadata, weights),
        )  # fmt: skip
        return self

    def observe(self, images: Any) -> NDArray[Any]:
        """Answer images, and record those for which the network had to answer.

        The table grows where it was too thin; recorded images carry the network's answer as label.

        Args:
            images: ``(n, side, side)``.

        Returns:
            The answers.

        Raises:
            InvalidParameter: There is no ``fallback``, so that nothing is ever too far.
        """
        if self.fallback is None:
            raise InvalidParameter(
                "nothing is ever too far", expected="a fallback distance", got=None,
                remedy="Set fallback= first.",
            )  # fmt: skip
        pixels = check_images(images, self.layout_.side)
        answers, far = self._answer(pixels)
        if far.any():
            self.partial_fit(pixels[far], answers[far])
        return answers

    # -- asking --------------------------------------------------------------------------------

    def predict(self, images: Any) -> NDArray[Any]:
        """Return the label of each image ``(n, side, side)``."""
        return self._answer(images)[0]

    def predict_proba(self, images: Any) -> Doubles:
        """Return the votes of the last step as shares: float64 ``(n, classes)``.

        Where the network answers instead, its class has all of them.
        """
        predictor = self.predictor()
        pixels = check_images(images, predictor.layout.side)
        trail = predictor.trail(pixels)
        columns = self._answerable(predictor.classes)
        shares = np.zeros((len(pixels), len(columns)))
        places = _places(columns, predictor.classes)
        shares[:, places] = shares_of(predictor.votes(trail))
        far = self._too_far(trail, predictor)
        if far.any():
            shares[far] = np.eye(len(columns))[_places(columns, self._by_network(pixels[far]))]
        return shares

    def fallback_share(self, images: Any) -> float:
        """Return the share of images for which the table is too far and the network answers."""
        predictor = self.predictor()
        pixels = check_images(images, predictor.layout.side)
        return float(self._too_far(predictor.trail(pixels), predictor).mean())

    def distances(self, images: Any) -> Doubles:
        """Return the largest distance of each image's look-ups, which ``fallback`` is held against.

        Returns:
            float64 ``(n,)``: 0 for an image that was recorded.
        """
        predictor = self.predictor()
        trail = predictor.trail(check_images(images, predictor.layout.side))
        return np.asarray(trail.distances.max(axis=1) * predictor.costs.unit)

    def explain(self, images: Any) -> list[LookupExplanation]:
        """Say for each image which rows were looked up, how far they are, and whose they are."""
        predictor = self.predictor()
        pixels = check_images(images, predictor.layout.side)
        trail = predictor.trail(pixels)
        far = self._too_far(trail, predictor)
        return [
            explain_trail(
                predictor, trail, query,
                self._by_network(pixels[query : query + 1])[0].item() if far[query] else None,
            )
            for query in range(len(pixels))
        ]  # fmt: skip

    def tune(
        self, images: Any, y: Any, *, evaluations: int = 25, oracle: bool = False,
        progress: Progress | None = None,
    ) -> WeightReport:  # fmt: skip
        """Choose the three weights on images set aside, and use them from now on.

        They are written beside the rows, so that the memory answers with them when it is opened
        again; weights that were passed give way.

        Args:
            images: Images that are not recorded, and not those an accuracy is reported on.
            y: Their labels.
            evaluations: Settings to try; the first is (1, 1, 1).
            oracle: Say so if these are the images that the accuracy is reported on, as the paper
                did; the report carries the mark.
            progress: Called as ``progress(done, total)``.

        Raises:
            MissingExtra: optuna is not installed.
        """
        made = self.predictor()
        pixels = check_images(images, made.layout.side)
        truth = check_labels(self, pixels, y)
        report = search_weights(
            self._accuracy_by_weights(made.table, made.classes, made.layout, pixels, truth),
            evaluations=evaluations, seed=self.seed, oracle=oracle, progress=progress,
        )  # fmt: skip
        memory = self._writable()
        memory.update(memory.ids, metadata=write_weights(None, report.weights))
        if self.weights is not None:
            self.weights = report.weights
        return report

    # -- what stands behind it -----------------------------------------------------------------

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels that can be answered now, sorted: the columns of :meth:`predict_proba`."""
        labels = self._recall().labels
        known = labels.astype(str) if labels.dtype == object else labels
        return self._answerable(self._network_names() if self.answers == "network" else known)

    @property
    def weights_(self) -> tuple[float, float, float]:
        """Weights of glimpse, state and location in use: given, or chosen, or equal."""
        if self.weights is not None:
            return check_weights(self.weights)
        return self._read().weights or EQUAL

    @property
    def table_(self) -> Table:
        """The table that the recorded runs make."""
        return self.predictor().table

    def predictor(self) -> LookupPredictor:
        """Return the table with everything an answer takes, for saving or exporting.

        Raises:
            NotFitted: Nothing is recorded.
        """
        self._check_options()
        recorded = self._read()
        weights = check_weights(self.weights or recorded.weights or EQUAL)
        growth = self.growth or Growth(seed=self.seed)
        trees = (id(recorded.table), weights, growth)
        wanted = (*trees, self.k, self.tree, self.vote, self.slack)
        held: tuple[tuple[Any, ...], LookupPredictor] | None = self.__dict__.get("_predictor")
        if held is None or held[0] != wanted:
            same = held is not None and held[0][:3] == trees and held[1].beam is not None
            made = LookupPredictor(
                self.layout_, recorded.table, recorded.names, weights, self.k, self.tree, growth,
                held[1].grown if held is not None and same else None, self.vote, self.slack,
            )  # fmt: skip
            self._predictor = held = (wanted, made)
        return held[1]

    def save(self, path: str | Path) -> int:
        """Write the table, packed, for ``LookupPredictor.load``; return the bytes."""
        return self.predictor().save(path)

    def export_c(self, path: str | Path) -> dict[str, int]:
        """Write a C99 header that answers alone; see ``recollect.heads.lookup.c_code``."""
        from recollect.heads.lookup.c_code import write_c

        return write_c(self.predictor(), path)

    def export_npz(self, path: str | Path) -> int:
        """Write plain arrays for ``recollect/heads/lookup/standalone.py``; return the bytes."""
        from recollect.heads.lookup.arrays import write_npz

        return write_npz(self.predictor(), path)

    # -- inside --------------------------------------------------------------------------------

    def _check_options(self) -> None:
        check_options(self)

    def _answerable(self, classes: Any) -> NDArray[Any]:
        """Return these labels, and those of the network where it may answer: each once, sorted."""
        wanted = list(np.asarray(classes).tolist())
        if self.fallback is not None and self._known_network() is not None:
            wanted += self._network_names()
        return sorted_labels(wanted)

    def _set_aside(self, n: int) -> Ids:
        """Places of the images that choose the weights; none if weights are given."""
        few = min(int(n * _HELD_OUT), _MOST_HELD_OUT)
        if self.weights is not None or few < _LEAST_HELD_OUT:
            return np.zeros(0, np.int64)
        return np.sort(np.random.default_rng(self.seed).permutation(n)[:few])

    def _first_weights(
        self, network: Network, pixels: NDArray[Any], labels: NDArray[Any], held: Ids
    ) -> tuple[float, float, float]:
        if not len(held):
            return check_weights(self.weights or EQUAL)
        rest = np.delete(np.arange(len(pixels)), held)
        runs = run_images(network, pixels[rest])
        names, codes = np.unique(labels, return_inverse=True)
        table = recorded_table(
            runs, codes[rest] if self.answers == "labels" else None, per_step=self.per_step,
            readout=self.readout,
        )  # fmt: skip
        score = self._accuracy_by_weights(
            table, names.tolist(), network.layout, pixels[held], labels[held]
        )
        return search_weights(score, seed=self.seed).weights

    def _accuracy_by_weights(
        self, table: Table, classes: Sequence[Any], layout: Layout, pixels: NDArray[Any],
        truth: NDArray[Any],
    ) -> Callable[[tuple[float, float, float]], float]:  # fmt: skip
        def score(weights: tuple[float, float, float]) -> float:
            """Share of the given images answered right by the same table under other weights."""
            made = LookupPredictor(layout, table, classes, weights, self.k, vote=self.vote)
            return float((made.predict(pixels) == truth).mean())

        return score

    def _answer(self, images: Any) -> tuple[NDArray[Any], Mask]:
        predictor = self.predictor()
        pixels = check_images(images, predictor.layout.side)
        trail = predictor.trail(pixels)
        answers = np.asarray(predictor.classes)[predictor.votes(trail).argmax(axis=1)]
        far = self._too_far(trail, predictor)
        if far.any():
            named = self._by_network(pixels[far])
            # Neither a longer name nor one of another type may be forced into the table's own.
            same = answers.dtype.kind == named.dtype.kind
            answers = answers.astype(np.result_type(answers, named) if same else object)
            answers[far] = named
        return answers, far

    def _too_far(self, trail: Trail, predictor: LookupPredictor) -> Mask:
        if self.fallback is None:
            return np.zeros(len(trail.rows), np.bool_)
        distance = trail.distances.max(axis=1) * predictor.costs.unit
        return np.asarray(distance > self.fallback)

    def _by_network(self, pixels: NDArray[Any]) -> NDArray[Any]:
        network = self._known_network()
        if network is None:
            raise InvalidParameter(
                "there is no network to fall back to",
                expected="model=",
                got=None,
                remedy="Pass the network that was recorded, or fallback=None.",
            )
        codes = run_images(network, pixels).answers[:, -1]
        return np.asarray(network.labels)[codes]

    def __getstate__(self) -> dict[str, Any]:
        """The table is left behind: it follows from the rows."""
        state = super().__getstate__()
        for name in ("_predictor", "_recorded_rows"):
            state.pop(name, None)
        return state


def _places(columns: NDArray[Any], labels: Any) -> Ids:
    """Return the column of each label."""
    place = {label: number for number, label in enumerate(columns.tolist())}
    return np.array([place[label] for label in np.asarray(labels).tolist()], np.int64)
