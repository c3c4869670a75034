"""Classify with a trained model and a memory of what it got wrong.

After Yang et al., "ResMem: Learn what you can and memorize the rest" (NeurIPS 2023): the base
stays as it is; what its training rows show it got wrong is added, from the rows nearest to a query
in the base's own embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin

from recollect.errors import EmptyBatch, InvalidParameter
from recollect.heads.inputs import in_our_words
from recollect.heads.residual_memory.bases import Embedding
from recollect.heads.residual_memory.classes import ClassEstimator
from recollect.heads.residual_memory.estimator import Asked, Found, Source, taught_columns
from recollect.heads.residual_memory.explanation import Behind, explain_scores
from recollect.heads.residual_memory.recalled import TRUTH, lowered
from recollect.heads.residual_memory.tuning import (
    Grid,
    ResidualTuning,
    by_accuracy,
    by_log_loss,
    check_asked,
    check_scoring,
    choose,
    choose_gate,
    lay_out,
    not_taught,
    spread,
    warn_if_off,
)
from recollect.memory.memory import Memory
from recollect.readout.kernel import (
    clip_to_probabilities,
    project_to_simplex,
    soften,
)
from recollect.types import Codes, Doubles, Explanation, Floats

Output: TypeAlias = Literal["simplex", "score", "clip"]


class ResidualMemoryClassifier(ClassifierMixin, ClassEstimator):
    """Add to a trained classifier what the rows near a query say it gets wrong.

    With p = softmax(logits / temperature), a row keeps r = onehot(label) - p. A query's scores are
    its own p plus the mean of the r of its k nearest rows, weighed by exp(-distance / sigma).

    Args:
        base: A fitted scikit-learn classifier, a torch module that gives logits, or a function of
            X that does. It is asked, never trained. Of a scikit-learn classifier the logarithms
            of its probabilities are the logits.
        embedding: Where rows are compared: a function of X; the name of a layer (of a torch
            module, of a step of a pipeline, ``"hidden_0"`` and so on of a multilayer perceptron);
            None for the input of the last layer where the base has layers, else X itself.
        k: How many rows are read; where the memory holds fewer, all of them.
        sigma: Width of the kernel, above 0; or ``"median"``, the median distance of a row to its
            k-th neighbor.
        temperature: Of the softmax, above 0.
        residuals: ``"in-sample"``: of the base on the rows it was trained on, as published.
            ``"oof"``: of copies of the base, each trained without the fold it is asked about;
            honest about how wrong the base is on rows it never saw.
        gate: None, or a probability in (0, 1]: where the base is at least that sure, the memory is
            not searched.
        memory: None: every ``fit`` starts a memory that lives in the estimator. A path: the memory
            there is opened, or created when first taught. A ``Memory`` of the Euclidean metric.
        strength: What the correction is multiplied by, up to 1e6; 1 as published, 0 leaves the
            base alone, at a temperature of 1.
        entries: How many logits a row keeps: ``"auto"`` all up to 256 classes, then 16; None all;
            0 none, so that the query's own probabilities stand for the row's (then
            ``strength`` interpolates between base and neighbors, as kNN-LM does).
        classes: Labels of the base's logits, where it does not name them; 0, 1, ... when None.
        folds: Of ``residuals="oof"``.

    Attributes:
        classes_: Labels of the base in its order, then labels that only rows have, sorted.
        ids_: Row ids in the order in which the rows were given, forgotten ones left out.
        sigma_: Width of the kernel in use.
        memory_: The memory.

    ``predict`` never writes. What was forgotten is gone from the memory; the base that was trained
    on it still remembers it.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["a", "b", "b", "a"]
        >>> base = LogisticRegression().fit(X, y)
        >>> head = ResidualMemoryClassifier(base, k=1).fit(X, y)
        >>> base.score(X, y), head.score(X, y)
        (0.5, 1.0)
        >>> head.forget(head.ids_[3:]).predict([[3.0]]).tolist()
        ['b']
    """

    def __init__(
        self,
        base: Any,
        embedding: Embedding = None,
        k: int = 50,
        sigma: float | Literal["median"] = "median",
        temperature: float = 1.0,
        residuals: Source = "in-sample",
        gate: float | None = None,
        memory: Memory | str | Path | None = None,
        *,
        strength: float = 1.0,
        entries: int | Literal["auto"] | None = "auto",
        classes: ArrayLike | None = None,
        folds: int = 5,
    ) -> None:
        self.base = base
        self.embedding = embedding
        self.k = k
        self.sigma = sigma
        self.temperature = temperature
        self.residuals = residuals
        self.gate = gate
        self.memory = memory
        self.strength = strength
        self.entries = entries
        self.classes = classes
        self.folds = folds

    # -- teaching ------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        embedding: Any = None,
        outputs: Any = None,
        ids: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Keep what the base gets wrong on these rows, and on no others.

        Args:
            X: What the base reads, usually the rows it was trained on; None where both
                ``embedding`` and ``outputs`` are given.
            y: Labels ``(rows,)`` that the base knows.
            embedding: ``(rows, dim)``, if known; else the base is asked.
            outputs: Logits ``(rows, classes)``, if known; else the base is asked.
            ids: Row ids, int64 ``(rows,)``, never used before; counted up when None.
            weights: Weight of each row, which multiplies its kernel; 1 when None.
            sources: Where each row came from, text or None.
            metadata: Column name -> one value per row, or one for all; ``truth`` is taken.

        Returns:
            The estimator.

        Raises:
            NotFitted: The base was not trained.
            InvalidLabel: Labels that the base does not know; ``partial_fit`` takes them.
            InputError: Something cannot be taught; nothing was.
        """
        columns = taught_columns(ids, weights, sources, metadata)
        given = (embedding, outputs)
        return self._teach_residuals(X, y, anew=True, given=given, columns=columns)

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: ArrayLike | None = None,  # noqa: ARG002 - scikit-learn's wrappers pass it
        *,
        embedding: Any = None,
        outputs: Any = None,
        ids: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Keep these rows too: new ones, of another domain, of classes the base never saw.

        Arguments as in ``fit``; ``classes`` is not read. A class the base does not know can be
        answered from the memory alone.
        """
        columns = taught_columns(ids, weights, sources, metadata)
        given = (embedding, outputs)
        return self._teach_residuals(X, y, anew=False, given=given, columns=columns)

    def teach_pieces(
        self, pieces: Iterable[tuple[Any, Any, Any]], *, source: str | None = None
    ) -> Self:
        """Keep rows whose logits are too many to be held at once: all in one version, or none.

        Args:
            pieces: Labels ``(n,)``, embedding ``(n, dim)`` and logits ``(n, classes)`` of some
                rows after the other; of the logits only what a row keeps is held.
            source: Where the rows came from.

        Raises:
            InputError: Something cannot be taught; nothing was.
        """
        self._check_options()
        known = self.__sklearn_is_fitted__()
        kept: list[tuple[Floats, NDArray[Any], list[Any]]] = []
        for y, embedding, outputs in pieces:
            asked = self._asked_of(None, embedding, outputs)
            self._check_width(asked.embedding, known=known)
            values, extra = self._columns(asked, y, anew=False)
            self._recording = self._facts(asked.outputs)
            if known and not kept:
                self._check_same_form(self.memory_)  # before hours of reading
            kept.append((asked.embedding, values, extra.get(TRUTH, [])))
        if not kept:
            raise EmptyBatch("there are no pieces", remedy="Leave the call out.")
        with in_our_words():
            keys = np.concatenate([piece[0] for piece in kept])
            together = np.concatenate([piece[1] for piece in kept])
        truth = [label for piece in kept for label in piece[2]]
        columns = taught_columns(
            None, None, None if source is None else [source] * len(keys),
            {TRUTH: truth} if truth else {},
        )  # fmt: skip
        return self._keep(keys, together, columns, anew=False)

    # -- asking --------------------------------------------------------------------------------

    def predict(self, X: Any, *, embedding: Any = None, outputs: Any = None) -> NDArray[Any]:
        """Return the label with the largest score, ``(queries,)``; of equal ones the first."""
        asked = self._queries(X, embedding, outputs)
        scores, classes = self._steady(lambda: (self._scores(asked), self.classes_))
        return np.asarray(classes[scores.argmax(axis=1)])

    def predict_proba(
        self,
        X: Any,
        *,
        output: Output = "simplex",
        embedding: Any = None,
        outputs: Any = None,
    ) -> Doubles:
        """Return the score of every class, ``(queries, classes)``, in the order of ``classes_``.

        Args:
            X: Queries; None where both ``embedding`` and ``outputs`` are given.
            output: ``"score"``: as they are; they sum to 1 (where all logits are kept) and may
                leave [0, 1]. ``"simplex"``: the nearest valid probabilities, same largest class.
                ``"clip"``: cut off at 1e-6 and scaled, so that no class is impossible.
            embedding: ``(queries, dim)``, if known.
            outputs: Logits ``(queries, classes)``, if known.
        """
        shapes = {"simplex": project_to_simplex, "clip": clip_to_probabilities}
        if not isinstance(output, str) or output not in ("score", *shapes):
            raise InvalidParameter(
                "output is not known",
                expected="'simplex', 'score' or 'clip'",
                got=repr(output),
                remedy="Leave it out for valid probabilities.",
            )
        asked = self._queries(X, embedding, outputs)
        scores = self._steady(lambda: self._scores(asked))
        return scores if output == "score" else shapes[output](scores)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on these queries, in [0, 1]."""
        with in_our_words():
            return float(super().score(X, y, sample_weight=sample_weight))

    def searches_saved(self, X: Any, *, outputs: Any = None) -> float:
        """Return the share of these queries for which the gate skips the search, in [0, 1]."""
        self._check_options()
        asked = self._asked_of(X, None, outputs, keys=False)
        self._check_outputs(asked.outputs)
        return float(np.mean(~self._uncertain(soften(asked.outputs, self._heat()))))

    def error_bound(self, X: Any, *, embedding: Any = None, outputs: Any = None) -> Doubles:
        """Return how far a score can be off because rows keep some logits only, ``(queries,)``.

        The weighted mean of the probability that was left out of the rows read; 0 where all are
        kept, and where no row is read: behind the gate, or with the memory turned off.
        """
        asked = self._queries(X, embedding, outputs)

        def bound() -> Doubles:
            """Weigh by its share what each neighbor's row left out of its probabilities."""
            wanted = self._uncertain(soften(asked.outputs, self._heat()))
            off = np.zeros(len(wanted))
            if wanted.any():
                near = self._find(asked.embedding[wanted])
                left_out = self._table(near.rows).left_out[near.places]
                off[wanted] = (left_out * self._shares(near)).sum(axis=1)
            return off

        return self._steady(bound)

    def explain(self, X: Any, *, embedding: Any = None, outputs: Any = None) -> list[Explanation]:
        """Say for each query what the base and which rows added to the answer's score.

        ``base`` and the contributions of the rows, added to it from the nearest on, are the score
        of ``predict_proba(output="score")`` to the last bit. ``shares`` holds the ten largest
        scores.

        Example:
            >>> from sklearn.linear_model import LogisticRegression
            >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["a", "b", "b", "a"]
            >>> head = ResidualMemoryClassifier(LogisticRegression().fit(X, y), k=1).fit(X, y)
            >>> why = head.explain([[3.0]])[0]
            >>> why.prediction, why.base + why.evidence[0].contribution == why.score
            ('a', True)
        """
        asked = self._queries(X, embedding, outputs)
        return self._steady(lambda: self._explained(asked))

    def _explained(self, asked: Asked) -> list[Explanation]:
        base, named = soften(asked.outputs, self._heat()), self._named(self._rows())
        scores, wanted = self._widened(base, named), self._uncertain(base)
        if not wanted.any():
            return explain_scores(scores, named.labels)
        near = self._find(asked.embedding[wanted])
        shares, table = self._shares(near), self._table(near.rows)
        scores[wanted] = lowered(scores[wanted], shares, table)
        behind = Behind(near, shares, table, named.codes, self.memory_)
        return explain_scores(scores, named.labels, behind, wanted)

    def tune(
        self,
        X: Any = None,
        y: Any = None,
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        scoring: Literal["accuracy", "log_loss"] = "accuracy",
        guard: float = 1.0,
        gate: bool = False,
        embedding: Any = None,
        outputs: Any = None,
    ) -> ResidualTuning:
        """Choose k, sigma, temperature and strength, and set them; one search for all.

        If nothing beats the base, the memory is turned off (``strength = 0``), with a warning.

        Args:
            X: Rows set aside for this purpose: neither in the memory nor in the base's training
                rows; those that are in the memory are left out, with a warning. None asks every
                row of the memory with itself left out; as the base was trained on them, that
                understates the gain, unless residuals are out of fold.
            y: Their labels.
            grid: Values to try for ``k``, ``sigma`` (factors of the median distance to the
                largest k-th neighbor), ``temperature`` and ``strength``; what is left out keeps
                the default.
            scoring: ``"accuracy"``, or ``"log_loss"`` of the clipped scores.
            guard: How many standard errors of the paired difference a gain must exceed.
            gate: Whether to choose the gate too: the smallest that costs no right answer on
                balance, or None if every one does. Otherwise the head's own gate stays as it is,
                and everything is measured with it.
            embedding: Of X, if known.
            outputs: Of X, if known.

        Returns:
            All settings with their scores, what the base scores, and what was decided.

        Raises:
            InvalidParameter: The grid or the scoring cannot be used, there is only one row, or all
                rows given are in the memory.
        """
        check_scoring(scoring)
        self._check_options()
        own = check_asked((X, embedding), (y, outputs))
        asked = None if own else self._asked_of(X, embedding, outputs)
        if asked is not None:
            self._check_outputs(asked.outputs)
        report = self._chosen(asked, y, grid, scoring, guard, gate=gate)
        warn_if_off(report)
        self.set_params(**_to_set(report))
        return report

    def _chosen(
        self,
        asked: Asked | None,
        y: Any,
        grid: Mapping[str, Sequence[Any]] | None,
        scoring: Literal["accuracy", "log_loss"],
        guard: float,
        *,
        gate: bool,
    ) -> ResidualTuning:
        """Score the grid; None asks the rows themselves."""
        if gate and scoring != "accuracy":
            raise InvalidParameter("a gate is chosen by right answers", expected="'accuracy'",
                                   got=scoring, remedy="Leave gate=True out.")  # fmt: skip
        near, truth, base, tried = self._steady(lambda: self._to_choose_by(asked, y, grid))
        report, corrected, plain = choose(
            near,
            lambda heat: (base(heat), self._table(near.rows, heat)),
            by_accuracy(truth) if scoring == "accuracy" else by_log_loss(truth),
            base(1.0),
            tried,
            scoring,
            guard,
            None if gate else self.gate,
        )
        if not gate:
            return report
        sure = base(report.best.temperature).max(axis=1)
        return choose_gate(report, sure, corrected, plain)

    def _to_choose_by(
        self, asked: Asked | None, y: Any, grid: Mapping[str, Sequence[Any]] | None
    ) -> tuple[Found, Codes, Callable[[float], Doubles], Grid]:
        """Neighbors, truth, the base at a temperature, and what to try; None asks the rows."""
        memory, rows = self._recall(), self._rows()
        tried = lay_out(memory, grid, left_out=asked is None)
        named = self._named(rows)
        if asked is None:
            places = spread(rows.ids)
            ids = rows.ids[places]
            near = self._find(memory.keys(ids), tried.ks[-1], exclude=ids)
            truth = named.codes[places]
            return near, truth, lambda heat: self._own_base(rows, places, heat), tried
        near = self._find(asked.embedding, tried.ks[-1])
        truth = self._truth(asked.embedding, y, named.labels)
        new = not_taught(near, named.codes[near.places[:, 0]] == truth)
        outputs = asked.outputs[new]
        near = near.only(new)
        return near, truth[new], lambda heat: self._widened(soften(outputs, heat), named), tried

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels of the base in its order, then labels that only rows have, sorted."""
        classes = self._labels()
        return classes.astype(str) if classes.dtype == object else classes.copy()


def _to_set(report: ResidualTuning) -> dict[str, Any]:
    """The parameters that a tuned head gets."""
    if not report.active:
        return {"strength": 0.0}
    best = report.best
    chosen = {"k": best.k, "sigma": best.sigma, "temperature": best.temperature}
    return chosen | {"strength": best.strength, "gate": report.gate}
