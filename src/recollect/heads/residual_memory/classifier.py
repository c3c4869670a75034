"""Classify with a trained model and a memory of what it got wrong.

After Yang et al., "ResMem: Learn what you can and memorize the rest" (NeurIPS 2023): the base
stays as it is; what its training rows show it got wrong is added, from the rows nearest to a query
in the base's own embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin

from recollect.errors import DimensionMismatch, InvalidLabel, InvalidParameter
from recollect.heads.inputs import check_labels, in_our_words
from recollect.heads.residual_memory.bases import Base, Embedding, wrap
from recollect.heads.residual_memory.estimator import (
    Asked,
    ResidualEstimator,
    Source,
    taught_columns,
)
from recollect.heads.residual_memory.explanation import Behind, explain_scores
from recollect.heads.residual_memory.folds import logits_out_of_fold
from recollect.heads.residual_memory.layout import Layout, choose_entries
from recollect.heads.residual_memory.recalled import (
    TRUTH,
    Recalled,
    Residuals,
    class_table,
    lowered,
    to_codes,
)
from recollect.heads.residual_memory.tuning import (
    ResidualTuning,
    by_accuracy,
    by_log_loss,
    check_scoring,
    choose,
    choose_gate,
    lay_out,
    spread,
    warn_if_off,
)
from recollect.memory.memory import Memory
from recollect.readout.kernel import (
    check_above_zero,
    clip_to_probabilities,
    project_to_simplex,
    soften,
)
from recollect.types import Codes, Doubles, Explanation, Mask, ValueKind

Output: TypeAlias = Literal["simplex", "score", "clip"]

# Below this largest residual nothing that is added can change an answer.
FITTED = 0.01


class ResidualMemoryClassifier(ClassifierMixin, ResidualEstimator):
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
        strength: What the correction is multiplied by; 1 as published, 0 leaves the base alone.
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

    # -- asking --------------------------------------------------------------------------------

    def predict(self, X: Any, *, embedding: Any = None, outputs: Any = None) -> NDArray[Any]:
        """Return the label with the largest score, ``(queries,)``; of equal ones the first."""
        scores = self._scores(self._queries(X, embedding, outputs))
        return np.asarray(self.classes_[scores.argmax(axis=1)])

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
        if output != "score" and output not in shapes:
            raise InvalidParameter(
                "output is not known",
                expected="'simplex', 'score' or 'clip'",
                got=repr(output),
                remedy="Leave it out for valid probabilities.",
            )
        scores = self._scores(self._queries(X, embedding, outputs))
        return scores if output == "score" else shapes[output](scores)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on these queries, in [0, 1]."""
        with in_our_words():
            return float(super().score(X, y, sample_weight=sample_weight))

    def searches_saved(self, X: Any, *, outputs: Any = None) -> float:
        """Return the share of these queries for which the gate skips the search."""
        asked = self._asked_of(X, None, outputs, keys=False)
        return float(np.mean(~self._uncertain(soften(asked.outputs, self._heat()))))

    def error_bound(self, X: Any, *, embedding: Any = None, outputs: Any = None) -> Doubles:
        """Return how far a score can be off because rows keep some logits only, ``(queries,)``.

        The weighted mean of the probability that was left out of the rows read; 0 where all are
        kept.
        """
        asked = self._queries(X, embedding, outputs)
        near = self._find(asked.embedding)
        return np.asarray(
            (self._table(near.rows).left_out[near.places] * self._shares(near)).sum(axis=1)
        )

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
        scores, wanted = self._start(asked)
        if not wanted.any():
            return explain_scores(scores, self.classes_)
        near = self._find(asked.embedding[wanted])
        shares, table = self._shares(near), self._table(near.rows)
        scores[wanted] = lowered(scores[wanted], shares, table)
        behind = Behind(near, shares, table, self._cache["codes"], self.memory_)
        return explain_scores(scores, self.classes_, behind, wanted)

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
                rows. None asks every row of the memory with itself left out; as the base was
                trained on them, that understates the gain, unless residuals are out of fold.
            y: Their labels.
            grid: Values to try for ``k``, ``sigma`` (factors of the median distance to the
                largest k-th neighbor), ``temperature`` and ``strength``; what is left out keeps
                the default.
            scoring: ``"accuracy"``, or ``"log_loss"`` of the clipped scores.
            guard: How many standard errors of the paired difference a gain must exceed.
            gate: Whether to choose the gate too: the smallest that costs no right answer.
            embedding: Of X, if known.
            outputs: Of X, if known.

        Returns:
            All settings with their scores, what the base scores, and what was decided.

        Raises:
            InvalidParameter: The grid or the scoring cannot be used, or there is only one row.
        """
        check_scoring(scoring)
        memory = self._recall()
        own = X is None and embedding is None
        tried = lay_out(memory, grid, left_out=own)
        if own:
            rows = self._rows()
            places = spread(rows.ids)
            ids, keys = rows.ids[places], memory.rows(rows.ids[places]).keys
            truth = to_codes(rows.truth[places], self._labels())
            base: Callable[[float], Doubles] = lambda heat: self._own_base(rows, places, heat)  # noqa: E731
        else:
            ids, asked = None, self._asked_of(X, embedding, outputs)
            self._check_outputs(asked.outputs)
            keys, truth = asked.embedding, self._truth(asked.embedding, y)
            base = lambda heat: self._widened(soften(asked.outputs, heat))  # noqa: E731
        near = self._find(keys, tried.ks[-1], exclude=ids)
        judge = by_accuracy(truth) if scoring == "accuracy" else by_log_loss(truth)
        report, corrected, plain = choose(
            near,
            lambda heat: (base(heat), self._table(near.rows, heat)),
            judge,
            base(1.0),
            tried,
            scoring,
            guard,
        )
        best = report.best
        if gate and scoring == "accuracy":
            sure = base(best.temperature).max(axis=1)
            report = choose_gate(report, sure, corrected, plain)
        warn_if_off(report)
        chosen = {"k": best.k, "sigma": best.sigma, "temperature": best.temperature}
        self.set_params(
            **(chosen | {"strength": best.strength, "gate": report.gate} if report.active
               else {"strength": 0.0})
        )  # fmt: skip
        return report

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels of the base in its order, then labels that only rows have, sorted."""
        classes = self._labels()
        return classes.astype(str) if classes.dtype == object else classes.copy()

    # -- inside --------------------------------------------------------------------------------

    @property
    def _base(self) -> Base:
        return wrap(self.base, self.embedding, "classify")

    @property
    def _kind(self) -> ValueKind:
        return "label" if self.entries == 0 and self.entries is not False else "vector"

    def _check_options(self) -> None:
        super()._check_options()
        check_above_zero("temperature", self.temperature)
        choose_entries(self.entries, 2)

    def _heat(self) -> float:
        return check_above_zero("temperature", self.temperature)

    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        return check_labels(self, X, y)

    def _known_classes(self, width: int | None) -> NDArray[Any]:
        """Labels of the base's columns, int64 or an object array of str."""
        named = self._base.classes if self.classes is None else self.classes
        if named is None:
            return np.arange(self._width() if width is None else width)
        column = np.asarray(named)
        return check_labels(self, column, column)

    def _width(self) -> int:
        """Number of columns of the base, as the memory records it."""
        recorded = (self._recall().encoder_spec or {}).get("classes")
        if recorded is not None:
            return len(recorded) if isinstance(recorded, list) else int(recorded)
        return int(self.memory_.value_dim or len(self.memory_.labels))

    def _facts(self, outputs: Doubles) -> dict[str, Any]:
        classes = self._known_classes(outputs.shape[1])
        counted = np.array_equal(classes, np.arange(len(classes)))
        layout = Layout(len(classes), choose_entries(self.entries, len(classes)))
        return {
            "head": "residual memory",
            "classes": len(classes) if counted else classes.tolist(),
            "entries": layout.entries,
        }

    def _layout(self, memory: Memory) -> Layout:
        """How the rows of a memory keep logits: as it records, else by what they hold."""
        spec = memory.encoder_spec or {}
        if "classes" in spec:
            count = spec["classes"]
            return Layout(len(count) if isinstance(count, list) else int(count), spec["entries"])
        if memory.value == "label":
            return Layout(len(memory.labels), 0)
        return Layout(int(memory.value_dim or 0), None)

    def _columns(self, asked: Asked, y: Any, *, anew: bool) -> tuple[NDArray[Any], dict[str, Any]]:
        labels = self._check_targets(asked.embedding, y)
        self._check_outputs(asked.outputs)
        known = self._known_classes(asked.outputs.shape[1])
        self._check_same_kind(labels, known)
        codes = to_codes(labels, known)
        if anew and (codes < 0).any():
            raise InvalidLabel(
                "the base and the rows have different classes",
                expected=f"labels among the {len(known)} of the base",
                got=", ".join(map(str, np.unique(labels[codes < 0])[:5].tolist())),
                remedy="Teach new classes with partial_fit, after fit.",
            )
        layout = Layout(len(known), choose_entries(self.entries, len(known)))
        if layout.entries == 0:
            return labels, {}
        layout.check_temperature(self._heat())
        if anew:
            self._warn_if_fitted(asked.outputs, codes)
        return layout.pack(asked.outputs, codes), {TRUTH: labels.tolist()}

    def _check_same_kind(self, labels: NDArray[Any], known: NDArray[Any]) -> None:
        if (labels.dtype == object) != (known.dtype == object):
            raise InvalidLabel(
                "the base and the rows name their classes in different ways",
                expected=f"labels such as {known[0]!r}",
                got=f"{labels[0]!r}",
                remedy="Give the labels that the base was trained with.",
            )

    def _check_outputs(self, outputs: Doubles) -> None:
        named = self._base.classes if self.classes is None else self.classes
        expected = None if named is None else len(np.asarray(named))
        if expected is None and "memory_" in self.__dict__ and not self._is_stale():
            expected = self._layout(self.memory_).classes
        if outputs.ndim != 2 or outputs.shape[1] != (expected or outputs.shape[1]):
            raise DimensionMismatch(
                "the base does not give one logit for each class",
                expected=f"(rows, {expected or 'classes'})",
                got=str(outputs.shape),
                remedy="Name the classes of its columns with classes=.",
            )

    def _warn_if_fitted(self, outputs: Doubles, codes: Codes) -> None:
        right = soften(outputs, self._heat())[np.arange(len(codes)), codes]
        if 1.0 - float(right.min()) < FITTED:
            warnings.warn(
                "the base gets nothing wrong on these rows, so the memory will change nothing; "
                "residuals='oof' keeps what it gets wrong on rows it has not seen",
                stacklevel=5,
            )

    def _check_fits(self, memory: Memory) -> None:
        if memory.value not in {"label", "vector"} or memory.metric != self.metric:
            raise InvalidParameter(
                "the memory does not hold what a residual memory reads",
                expected="value='vector' (or 'label' for entries=0), metric='euclidean'",
                got=f"value={memory.value!r}, metric={memory.metric!r}",
                remedy="Start a new memory: pass a path where there is none yet.",
            )
        recorded = (memory.encoder_spec or {}).get("classes")
        named = self._base.classes if self.classes is None else self.classes
        if recorded is None or named is None:
            return
        known = self._known_classes(None).tolist()
        if known != (recorded if isinstance(recorded, list) else list(range(recorded))):
            raise InvalidParameter(
                "the rows are of a base with other classes",
                expected=f"the {len(known)} classes of this base",
                got=f"a memory of {recorded if isinstance(recorded, int) else len(recorded)}",
                remedy="Use the base that the memory was taught with, or start a new one.",
            )

    def _labels(self) -> NDArray[Any]:
        """``classes_``, text as objects."""
        self._recall()
        rows = self._rows()
        if self._cache.get("labels_of") != rows.version:
            known = self._known_classes(None)
            new = np.unique(rows.truth[to_codes(rows.truth, known) < 0])
            joined = np.concatenate([known, new.astype(known.dtype)])
            codes = to_codes(rows.truth, joined)
            self._cache.update(labels_of=rows.version, labels=joined, codes=codes)
        labels: NDArray[Any] = self._cache["labels"]
        return labels

    def _truth(self, keys: Any, y: Any) -> Codes:
        labels, classes = self._check_targets(keys, y), self._labels()
        self._check_same_kind(labels, classes)
        return to_codes(labels, classes)

    def _own_base(self, rows: Recalled, places: NDArray[np.intp], heat: float) -> Doubles:
        """What the base said of rows of the memory, as far as they keep it."""
        layout = self._layout(self.memory_)
        if layout.entries == 0:
            raise InvalidParameter(
                "the rows keep labels only, not what the base said of them",
                expected="X and y set aside for tuning",
                got="none",
                remedy="Pass rows that are neither in the memory nor the base's training rows.",
            )
        shares, columns = layout.unpack(rows.values[places], heat)
        if columns is not None:
            full = np.zeros((len(shares), layout.classes))
            np.put_along_axis(full, columns, shares, axis=1)
            shares = full
        return self._widened(shares)

    def _out_of_fold(self, X: Any, y: Any) -> Doubles:
        return logits_out_of_fold(self.base, X, y, self.folds)

    def _queries(self, X: Any, embedding: Any, outputs: Any) -> Asked:
        self._check_options()
        self._recall()
        asked = self._asked_of(X, embedding, outputs, keys=self.strength != 0)
        self._check_outputs(asked.outputs)
        return asked

    def _uncertain(self, base: Doubles) -> Mask:
        """Which queries the memory is searched for."""
        if self.strength == 0:
            return np.zeros(len(base), bool)
        return np.ones(len(base), bool) if self.gate is None else base.max(axis=1) < self.gate

    def _scores(self, asked: Asked) -> Doubles:
        """Scores of every class, ``(queries, classes)``."""
        scores, wanted = self._start(asked)
        if wanted.any():
            near = self._find(asked.embedding[wanted])
            shares, table = self._shares(near), self._table(near.rows)
            some = lowered(scores[wanted], shares, table)
            table.add(some, shares, near.places)
            scores[wanted] = some
        return scores

    def _start(self, asked: Asked) -> tuple[Doubles, Mask]:
        """The base's probabilities, with a 0 for every new class; and who asks the memory."""
        base = soften(asked.outputs, self._heat())
        return self._widened(base), self._uncertain(base)

    def _widened(self, base: Doubles) -> Doubles:
        wide = np.zeros((len(base), len(self._labels())))
        wide[:, : base.shape[1]] = base
        return wide

    def _table(self, rows: Recalled, temperature: float | None = None) -> Residuals:
        """What each row adds, at the head's temperature or at another."""
        heat = self._heat() if temperature is None else temperature
        width = len(self._labels())
        known: Residuals | None = self._cache.get("table")
        if known is None or (known.version, known.temperature) != (rows.version, heat):
            layout = self._layout(self.memory_)
            known = class_table(rows, layout, heat, self._cache["codes"], width)
            self._cache["table"] = known
        return known
