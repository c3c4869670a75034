"""Classify by what the nearest rows of a memory vote for.

After Geirhos et al., "Towards flexible perception with visual memory" (ICML 2025): nothing is
trained, so rows, labels and whole classes come, change and go with the next answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin

from recollect.encoders.base import Encoder
from recollect.errors import InvalidParameter
from recollect.heads.explanation import explain_votes
from recollect.heads.inputs import check_labels, in_our_words
from recollect.heads.neighbors import NeighborEstimator, within
from recollect.heads.selection import TuningReport, make_grid
from recollect.heads.what_if import WhatIf, chosen_rows, preview_removal
from recollect.memory.memory import Memory
from recollect.readout.voting import (
    LEAST_ALPHA,
    Rule,
    VoteRule,
    check_k,
    label_shares,
    vote,
    vote_all_k,
    vote_shares,
    weigh,
)
from recollect.types import Codes, Doubles, Explanation, Metric, Neighbors, ValueKind


class MemoryClassifier(ClassifierMixin, NeighborEstimator):
    """Name what the nearest rows vote for.

    Args:
        k: How many rows vote; where the memory holds fewer, all of them.
        vote: How much a neighbor's vote weighs, times the row's own weight. ``"rank"``:
            1 / (alpha + rank), rank from 0. ``"plurality"``: 1. ``"softmax"``: exp((1 - distance)
            / temperature). ``"distance"``: exp(-sharpness * distance). The paper's best is
            ``"rank"`` (table 1).
        alpha: Of ``"rank"``, at least 0.1. The paper's default.
        temperature: Of ``"softmax"``, above 0. The paper's default.
        sharpness: Of ``"distance"``, at least 0. The paper's default.
        reliability: None: every row votes with the weight it was taught with.
        metric: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"``; that of the memory if
            one is given.
        encoder: None: X holds features ``(rows, dim)``. Otherwise X holds what the encoder reads,
            images or texts, and the memory keeps its fingerprint.
        memory: None: every ``fit`` starts a memory that lives in the estimator. A path: the
            memory there is opened, or created when first taught. A ``Memory``: used as it is. One
            that holds rows answers without ``fit``.

    Attributes:
        classes_: Labels that rows have now, sorted.
        ids_: Row ids in the order in which the rows were given, forgotten ones left out.
        memory_: The memory. One opened from a path is held for writing from the first write until
            ``memory_.close()``.
        n_features_in_: Width of a key.

    ``predict`` never writes. The answer to one query has the same bits alone or in any batch, and
    depends on the rows that are there, never on the order in which they came. For
    cross-validation leave ``memory=None``: clones share a memory that is given, and would replace
    each other's rows.

    Example:
        >>> pets = MemoryClassifier(k=3).fit([[1, 0], [0.9, 0.1], [0, 1]], ["cat", "cat", "dog"])
        >>> pets.predict([[0.8, 0.3]]).tolist()
        ['cat']
        >>> pets.partial_fit([[-1, 0.1]], ["fish"]).predict([[-1, 0]]).tolist()
        ['fish']
        >>> pets.forget(pets.ids_[:2]).classes_.tolist()
        ['dog', 'fish']
    """

    def __init__(
        self,
        k: int = 20,
        vote: Rule = "rank",
        alpha: float = 2.0,
        temperature: float = 0.07,
        sharpness: float = 1.0,
        reliability: None = None,
        metric: Metric = "cosine",
        encoder: Encoder | None = None,
        memory: Memory | str | Path | None = None,
    ) -> None:
        self.k = k
        self.vote = vote
        self.alpha = alpha
        self.temperature = temperature
        self.sharpness = sharpness
        self.reliability = reliability
        self.metric = metric
        self.encoder = encoder
        self.memory = memory

    # -- teaching ------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        ids: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Teach these rows and no others.

        In a memory that is given, all rows are replaced in one version: ``memory_.restore`` of
        the version before brings them back.

        Args:
            X: Features ``(rows, dim)``, or with an encoder a sequence of its inputs.
            y: Labels ``(rows,)``: all text or all integers. Booleans and floats without a
                fraction are taken as integers.
            ids: Row ids, int64 ``(rows,)``, never used before in this memory; counted up when
                None.
            weights: Weight of each row's vote, finite and >= 0; 1 when None.
            sources: Where each row came from, text or None.
            metadata: Column name -> one value per row, or one for all.

        Returns:
            The estimator.

        Raises:
            InputError: Something cannot be taught; nothing was.
            EncoderMismatch: The memory's keys come from another encoder.
        """
        return self._teach(
            X, y, anew=True, ids=ids, weights=weights, sources=sources, metadata=metadata
        )

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: ArrayLike | None = None,  # noqa: ARG002 - scikit-learn's wrappers pass it
        *,
        ids: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Teach these rows too. Labels never seen before may come in any call.

        Args:
            X: As in ``fit``.
            y: As in ``fit``.
            classes: Not read; there is no need to know labels in advance.
            ids: As in ``fit``.
            weights: As in ``fit``.
            sources: As in ``fit``.
            metadata: As in ``fit``.

        Returns:
            The estimator.
        """
        return self._teach(
            X, y, anew=False, ids=ids, weights=weights, sources=sources, metadata=metadata
        )

    # -- asking --------------------------------------------------------------------------------

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of each query, ``(queries,)``.

        Of labels with equal votes the one that first reached the winning total wins, walking from
        the nearest row. Rows of weight 0 vote nothing; where no neighbor votes the nearest row
        answers.
        """
        near, weights = self._votes(X, self.k)
        return _labels(near, vote(_codes(near), weights))

    def predict_proba(self, X: Any) -> Doubles:
        """Return the share of the vote of every label, ``(queries, classes)``; rows sum to 1.

        Columns are in the order of ``classes_``. Where two labels have equal shares, ``predict``
        follows the order of the neighbors, not that of the columns.
        """
        near, weights = self._votes(X, self.k)
        assert near.classes is not None
        return label_shares(_codes(near), vote_shares(weights), len(near.classes))

    def predict_all_k(self, X: Any, ks: Sequence[int] | None = None) -> NDArray[Any]:
        """Return the labels for several neighborhood sizes from one search.

        Args:
            X: Queries.
            ks: Neighborhood sizes, each at least 1; 1 to ``k`` when None.

        Returns:
            ``(queries, len(ks))``: column j is what ``predict`` answers with k = ks[j].

        Example:
            >>> head = MemoryClassifier().fit([[1, 0], [0, 1], [0, 1]], ["a", "b", "b"])
            >>> head.predict_all_k([[1, 0.5]], ks=[1, 3]).tolist()
            [['a', 'b']]
        """
        sizes = [check_k(k) for k in (range(1, check_k(self.k) + 1) if ks is None else ks)]
        if not sizes:
            raise InvalidParameter(
                "there is no neighborhood size to answer for",
                expected="ks such as [1, 10]",
                got=repr(ks),
                remedy="Leave ks out for every size from 1 to k.",
            )
        near, weights = self._votes(X, max(sizes))
        most = near.ids.shape[1]
        columns = [min(size, most) - 1 for size in sizes]
        return _labels(near, vote_all_k(_codes(near), weights)[:, columns])

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on these queries, in [0, 1]."""
        with in_our_words():
            return float(super().score(X, y, sample_weight=sample_weight))

    def explain(self, X: Any) -> list[Explanation]:
        """Say for each query which rows answered, and which removal would change the answer.

        The contributions of the rows of one label, added from the nearest on, are that label's
        share in ``predict_proba`` to the last bit. Forgetting the rows of ``counterfactual``
        changes the answer to ``changed_to``: the next nearest rows have then moved up. All sets
        of one row are tried, then of two and so on, up to 12,000 sets; beyond that the search is
        greedy, and ``minimal`` is False unless a smaller set is ruled out.

        Example:
            >>> head = MemoryClassifier(k=2).fit([[1, 0], [0, 1], [0, 1]], ["a", "b", "b"])
            >>> why = head.explain([[1, 0.5]])[0]
            >>> why.prediction, why.counterfactual, why.changed_to
            ('a', (0,), 'b')
        """
        memory, keys = self._asked(X)
        k = within(check_k(self.k), memory)
        return explain_votes(memory, keys, self._rule(), self.metric, k)

    def tune(
        self,
        X: Any = None,
        y: Any = None,
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        scoring: Literal["accuracy", "log_loss"] = "accuracy",
    ) -> TuningReport:
        """Choose the vote, k and the vote's parameter, and set them.

        Every row of the memory is asked for its label with itself left out; duplicates of it stay
        in. All settings are scored from one search with the largest k.

        Args:
            X: Queries set aside for this purpose, to be used instead of the memory's own rows.
            y: Their labels.
            grid: Values to try for ``vote``, ``k``, ``alpha``, ``temperature``, ``sharpness``;
                what is left out is swept as in the paper.
            scoring: ``"accuracy"``, or ``"log_loss"`` of the shares (cut off at 2.2e-16).

        Returns:
            All settings with their scores.

        Raises:
            InvalidParameter: The grid or the scoring cannot be used, or there is only one row.
        """
        return self._tuned(
            X,
            y,
            make_grid(grid, rule_name="vote", least_alpha=LEAST_ALPHA),
            scoring,
            ("accuracy", "log_loss"),
            rule_name="vote",
        )

    def keys(self, X: Any) -> NDArray[Any]:
        """Return the keys of queries, ``(queries, dim)``: what the encoder makes of them."""
        self._recall()
        return self._keys(X)

    def votes(self, X: Any = None) -> tuple[Neighbors, Doubles]:
        """Return the rows that vote on each query, and what each vote weighs.

        Args:
            X: Queries; None asks about every row in ``ids_``, itself excluded.

        Returns:
            Neighbors ``(queries, k)`` and float64 weights ``(queries, k)``, 0 where empty.
        """
        if X is not None:
            return self._votes(X, self.k)
        near = self._around(self.ids_, within(check_k(self.k), self._recall()))
        return near, weigh(near, self._rule(), self.metric)

    def what_if(
        self, X: Any = None, *, remove: ArrayLike | None = None, where: str | None = None
    ) -> WhatIf:
        """Show which answers would change if rows were removed; nothing is written.

        Args:
            X: Queries; None asks about every row that would stay, itself excluded.
            remove: Ids of the rows; or
            where: a filter, such as ``"label = 'cat'"``.

        Returns:
            The answers before and after, exactly as ``forget`` would leave them.

        Example:
            >>> pets = MemoryClassifier(k=1).fit([[1, 0], [0.9, 0.1], [0, 1]], ["a", "b", "c"])
            >>> preview = pets.what_if([[1, 0], [0, 1]], remove=[0])
            >>> preview.flipped.tolist(), preview.after.tolist()
            ([True, False], ['b', 'c'])
        """
        self._check_options()
        memory = self._recall()
        gone = chosen_rows(memory, remove, where)
        own = np.setdiff1d(memory.ids, gone) if X is None else None
        keys = memory.rows(own).keys if own is not None else self._keys(X)
        return preview_removal(memory, gone, keys, own, self._rule(), self.metric, check_k(self.k))

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels that rows have now, sorted."""
        return _as_text(self._recall().labels)

    # -- inside --------------------------------------------------------------------------------

    @property
    def _kind(self) -> ValueKind:
        return "label"

    def _check_options(self) -> None:
        self._rule()
        if self.reliability is not None:
            raise InvalidParameter(
                "reliability is not known",
                expected="None",
                got=repr(self.reliability),
                remedy="Weigh single rows with fit(..., weights=) or memory_.update.",
            )

    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        return check_labels(self, X, y)

    def _rule(self) -> VoteRule:
        return VoteRule(self.vote, self.alpha, self.temperature, self.sharpness)

    def _votes(self, X: Any, k: int) -> tuple[Neighbors, Doubles]:
        self._check_options()
        near = self._search(X, k)
        return near, weigh(near, self._rule(), self.metric)

    def _truth(self, values: NDArray[Any]) -> NDArray[Any]:
        code = {label: code for code, label in enumerate(self.memory_.labels.tolist())}
        return np.array([code.get(label, -2) for label in values.tolist()], np.int64)


def _codes(near: Neighbors) -> Codes:
    assert near.codes is not None
    return near.codes


def _labels(near: Neighbors, codes: Codes) -> NDArray[Any]:
    assert near.classes is not None
    return _as_text(near.classes[codes])


def _as_text(labels: NDArray[Any]) -> NDArray[Any]:
    return labels.astype(str) if labels.dtype == object else labels
