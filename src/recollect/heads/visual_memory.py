"""Classify by what the nearest rows of a memory vote for.

After Geirhos et al., "Towards flexible perception with visual memory" (ICML 2025): nothing is
trained, so rows, labels and whole classes come, change and go with the next answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin

from recollect.encoders.base import Encoder
from recollect.errors import InvalidParameter
from recollect.heads.abstention import Promise, check_promise
from recollect.heads.explanation import Reading, answers_of, explain_votes
from recollect.heads.inputs import as_text, in_our_words
from recollect.heads.members import choose_means
from recollect.heads.neighbors import within
from recollect.heads.selection import RELIABILITIES, TuningReport, make_grid
from recollect.heads.voting_classifier import VotingClassifier, codes_of, labels_of
from recollect.heads.what_if import WhatIf, chosen_rows
from recollect.memory.memory import Memory
from recollect.readout.novelty import NoveltyScore, check_rate, novelty_scores
from recollect.readout.reliability import Reliability, ReliabilityName, as_reliability
from recollect.readout.voting import (
    LEAST_ALPHA,
    Rule,
    check_k,
    vote_all_k,
)
from recollect.types import Doubles, Explanation, Metric


class MemoryClassifier(ClassifierMixin, VotingClassifier):
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
        reliability: None: every row votes with the weight it was taught with. ``"soft"`` and
            ``"hard"``: rows that mislead others weigh less, or nothing, as in the paper;
            ``"rate"``: by how often they are right, compared with their class. The rows tell it,
            each asked with itself left out; a ``readout.reliability.Reliability`` sets more.
        metric: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"``; that of the memory if
            one is given.
        encoder: None: X holds features ``(rows, dim)``. Otherwise X holds what the encoder reads,
            images or texts, and the memory keeps its fingerprint.
        memory: None: every ``fit`` starts a memory that lives in the estimator. A path: the
            memory there is opened, or created when first taught. A ``Memory``: used as it is. One
            that holds rows answers without ``fit``.
        class_means: Part that the distance to each class' mean has in the answer, 0 to 1; the vote
            has the rest. Cosine metric only. Nothing is trained: the means and the scatter within
            classes follow every row that comes, goes or is relabeled.
        shrinkage: Of the class means: how far the scatter is drawn towards a sphere, in (0, 1].
        mean_temperature: Of the class means: of the softmax over the classes, above 0.

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
        reliability: ReliabilityName | Reliability | None = None,
        metric: Metric = "cosine",
        encoder: Encoder | None = None,
        memory: Memory | str | Path | None = None,
        *,
        class_means: float = 0.0,
        shrinkage: float = 0.3,
        mean_temperature: float = 5.0,
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
        self.class_means = class_means
        self.shrinkage = shrinkage
        self.mean_temperature = mean_temperature

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

    def predict(
        self,
        X: Any,
        *,
        abstain: float | None = None,
        promise: Promise = "coverage",
    ) -> NDArray[Any]:
        """Return the label of each query, ``(queries,)``.

        Of labels with equal votes the one that first reached the winning total wins, walking from
        the nearest row. Rows of weight 0 vote nothing; where no neighbor votes the nearest row
        answers.

        Args:
            X: Queries.
            abstain: None answers everything. A number in (0, 1), such as 0.05, leaves queries
                unanswered: the result then holds objects, None where there is no answer.
            promise: What ``abstain`` promises of queries like the memory's rows. ``"coverage"``: at
                most this share stays unanswered, those farthest from the rows. ``"error"``: of
                those answered at most this share is wrong, at 95 % confidence over memories; those
                whose answer has too small a share stay unanswered, all if need be.
        """
        keys = self._asked(X)
        rate = None if abstain is None else check_rate(abstain)
        check_promise(promise)

        def ask() -> NDArray[Any]:
            """Vote and refusal read one version; refused answers are None, so of type object."""
            read = self._read_keys(keys, self.k)
            answers = labels_of(read.near, self._winners(read))
            if rate is None:
                return answers
            some = answers.astype(object)
            some[self._refused(read, rate, promise)] = None
            return some

        return self._at_once(ask)

    def predict_proba(self, X: Any) -> Doubles:
        """Return the share of the vote of every label, ``(queries, classes)``; rows sum to 1.

        Columns are in the order of ``classes_``. Where two labels have equal shares, ``predict``
        follows the order of the neighbors, not that of the columns.
        """
        keys = self._asked(X)
        return self._at_once(lambda: self._shares(self._read_keys(keys, self.k)))

    def novelty(
        self,
        X: Any,
        *,
        score: NoveltyScore = "mean",
        neighbors: int = 100,
    ) -> Doubles:
        """Say how unlike the rows each query is, float64 ``(queries,)``; larger is more novel.

        Args:
            X: Queries.
            score: ``"mean"`` or ``"median"`` distance to the nearest rows (the paper, appendix G),
                or the distance to the ``"nearest"`` alone.
            neighbors: How many rows; the paper takes 100. Where there are fewer, all.

        Example:
            >>> head = MemoryClassifier().fit([[1, 0], [1, 0.1], [0.9, 0.1]], ["a", "a", "b"])
            >>> near, far = head.novelty([[1, 0.05], [-1, 0]])
            >>> bool(near < far)
            True
        """
        return novelty_scores(self._search(X, neighbors), self.metric, score)

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
        given = range(1, check_k(self.k) + 1) if ks is None else ks
        several = isinstance(given, Iterable) and not isinstance(given, str | bytes)
        sizes = [check_k(k) for k in given] if several else []
        if not sizes:
            raise InvalidParameter(
                "there is no neighborhood size to answer for",
                expected="ks such as [1, 10]",
                got=repr(ks),
                remedy="Leave ks out for every size from 1 to k.",
            )
        keys = self._asked(X)
        return self._at_once(lambda: self._answers_for(keys, sizes))

    def _answers_for(self, keys: NDArray[Any], sizes: list[int]) -> NDArray[Any]:
        read = self._read_keys(keys, max(sizes))
        most = read.near.ids.shape[1]
        columns = [min(size, most) - 1 for size in sizes]
        if self.class_means == 0:
            winners = vote_all_k(codes_of(read.near), read.weights)[:, columns]
            return labels_of(read.near, answers_of(read.found, winners))
        base = self._base(read.keys)
        best = [self._blend(base, read, column + 1).argmax(axis=1) for column in columns]
        return labels_of(read.near, np.stack(best, axis=1))

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

        With ``reliability`` the weight of a row is its own times its reliability, and a removal is
        sought with the reliability that all rows have now. With ``class_means`` their part of each
        share is ``base``, to which the contributions are added. With those, and with
        ``reliability="hard"``, no removal is sought: ``counterfactual`` is empty.

        Example:
            >>> head = MemoryClassifier(k=2).fit([[1, 0], [0, 1], [0, 1]], ["a", "b", "b"])
            >>> why = head.explain([[1, 0.5]])[0]
            >>> why.prediction, why.counterfactual, why.changed_to
            ('a', (0,), 'b')
        """
        keys = self._asked(X)
        return self._at_once(lambda: self._explained(keys))

    def _explained(self, keys: NDArray[Any]) -> list[Explanation]:
        memory = self._with_rows()
        k = within(check_k(self.k), memory)
        trust = as_reliability(self.reliability)
        voted = self.class_means == 0
        reading = Reading(
            self._rule(),
            self.metric,
            k,
            judge=lambda near: self._judged(near, trust),
            base=None if voted else self._base,
            removable=voted and (trust is None or trust.name != "hard"),
        )
        return explain_votes(memory, keys, reading)

    def tune(
        self,
        X: Any = None,
        y: Any = None,
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        scoring: Literal["accuracy", "log_loss"] = "accuracy",
        means: bool = False,
    ) -> TuningReport:
        """Choose the vote, k, the vote's parameter and reliability, and set them.

        Every row of the memory is asked for its label with itself left out; duplicates of it stay
        in. All settings are scored from one search with the largest k. Of a memory of more than
        65,536 rows a sample is asked.

        Args:
            X: Queries set aside for this purpose, to be used instead of the memory's own rows.
            y: Their labels.
            grid: Values to try for ``vote``, ``k``, ``alpha``, ``temperature``, ``sharpness``,
                ``reliability``; what is left out is swept as in the paper, reliability over None,
                ``"soft"`` and ``"rate"``.
            scoring: ``"accuracy"``, or ``"log_loss"`` of the shares (cut off at 2.2e-16).
            means: Choose also the part of the class means, their shrinkage and temperature, for the
                vote that was chosen; on the memory's own rows.

        Returns:
            All settings with their scores. Which one is chosen, and why not simply the first, is
            said in ``recollect.heads.selection.choose``.

        Raises:
            InvalidParameter: The grid or the scoring cannot be used, or there is only one row.
        """
        tried = make_grid(
            grid, rule_name="vote", least_alpha=LEAST_ALPHA, reliabilities=RELIABILITIES
        )
        report = self._tuned(X, y, tried, scoring, ("accuracy", "log_loss"), rule_name="vote")
        if not means:
            return report
        found = self._at_once(lambda: choose_means(self._own_votes(), self._statistics()))
        self.set_params(
            class_means=found.class_means,
            shrinkage=found.shrinkage,
            mean_temperature=found.mean_temperature,
        )
        return replace(report, means=found)

    def what_if(
        self, X: Any = None, *, remove: ArrayLike | None = None, where: str | None = None
    ) -> WhatIf:
        """Show which answers would change if rows were removed; nothing is written.

        With ``reliability`` or ``class_means`` a removal reaches every answer: the rows that stay
        are copied into RAM and asked.

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
        keys = None if X is None else self._keys(X)
        return self._at_once(lambda: self._previewed(keys, chosen_rows(memory, remove, where)))

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels that rows have now, sorted."""
        return as_text(self._recall().labels)
