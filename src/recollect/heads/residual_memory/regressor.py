"""Predict numbers with a trained model and a memory of what it got wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin

from recollect.errors import DimensionMismatch, InvalidParameter
from recollect.heads.inputs import check_numbers, in_our_words
from recollect.heads.residual_memory.bases import Base, Embedding, wrap
from recollect.heads.residual_memory.estimator import (
    Asked,
    Found,
    ResidualEstimator,
    Source,
    taught_columns,
)
from recollect.heads.residual_memory.explanation import Behind, explain_numbers
from recollect.heads.residual_memory.folds import numbers_out_of_fold
from recollect.heads.residual_memory.recalled import Recalled, Residuals
from recollect.heads.residual_memory.tuning import (
    Grid,
    ResidualTuning,
    by_squared_error,
    check_asked,
    choose,
    lay_out,
    not_taught,
    spread,
    warn_if_off,
)
from recollect.memory.memory import Memory
from recollect.types import Doubles, Explanation, Floats, ValueKind


class ResidualMemoryRegressor(RegressorMixin, ResidualEstimator):
    """Add to a trained regressor what the rows near a query say it gets wrong.

    A row keeps r = y - f(x); a prediction is f(x) plus the mean of the r of the k nearest rows,
    weighed by exp(-distance / sigma). Yang et al., "ResMem" (NeurIPS 2023).

    Args:
        base: A fitted scikit-learn regressor, a torch module, or a function of X.
        embedding: As in ``ResidualMemoryClassifier``.
        k: As there.
        sigma: As there.
        residuals: As there.
        memory: As there; of numbers, or of vectors.
        strength: As there.
        folds: As there.

    Attributes:
        ids_: Row ids in the order in which the rows were given, forgotten ones left out.
        sigma_: Width of the kernel in use.
        memory_: The memory.

    Example:
        >>> from sklearn.linear_model import LinearRegression
        >>> X, y = [[0.0], [1.0], [2.0]], [0.0, 3.0, 0.0]
        >>> head = ResidualMemoryRegressor(LinearRegression().fit(X, y), k=1).fit(X, y)
        >>> head.predict([[1.0]]).round(6).tolist()
        [3.0]
    """

    _task = "regress"
    gate = None

    def __init__(
        self,
        base: Any,
        embedding: Embedding = None,
        k: int = 50,
        sigma: float | Literal["median"] = "median",
        residuals: Source = "in-sample",
        memory: Memory | str | Path | None = None,
        *,
        strength: float = 1.0,
        folds: int = 5,
    ) -> None:
        self.base = base
        self.embedding = embedding
        self.k = k
        self.sigma = sigma
        self.residuals = residuals
        self.memory = memory
        self.strength = strength
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
            X: What the base reads; None where both ``embedding`` and ``outputs`` are given.
            y: Numbers ``(rows,)`` or ``(rows, width)``, as the base predicts them.
            embedding: ``(rows, dim)``, if known; else the base is asked.
            outputs: What the base predicts, if known; else it is asked.
            ids: As in ``ResidualMemoryClassifier.fit``.
            weights: As there.
            sources: As there.
            metadata: As there.

        Returns:
            The estimator.

        Raises:
            NotFitted: The base was not trained.
            InputError: Something cannot be taught; nothing was.
        """
        columns = taught_columns(ids, weights, sources, metadata)
        given = (embedding, outputs)
        return self._teach_residuals(X, y, anew=True, given=given, columns=columns)

    def partial_fit(
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
        """Keep these rows too. Arguments as in ``fit``."""
        columns = taught_columns(ids, weights, sources, metadata)
        given = (embedding, outputs)
        return self._teach_residuals(X, y, anew=False, given=given, columns=columns)

    # -- asking --------------------------------------------------------------------------------

    def predict(self, X: Any, *, embedding: Any = None, outputs: Any = None) -> Doubles:
        """Return numbers, ``(queries,)`` or ``(queries, width)``."""
        asked = self._queries(X, embedding, outputs)
        scores = _as_table(asked.outputs).copy()
        behind = self._behind(asked)
        if behind is not None:
            behind.table.add(scores, behind.shares, behind.near.places)
        return scores[:, 0] if self._single else scores

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the coefficient of determination on these queries, at most 1."""
        with in_our_words():
            return float(super().score(X, y, sample_weight=sample_weight))

    def explain(self, X: Any, *, embedding: Any = None, outputs: Any = None) -> list[Explanation]:
        """Say for each query what the base and which rows added to the prediction.

        ``base`` and the contributions of the rows, added to it from the nearest on, are the
        prediction to the last bit.
        """
        asked = self._queries(X, embedding, outputs)
        base, single = _as_table(asked.outputs), self._single
        return self._steady(lambda: explain_numbers(base, self._behind(asked), single=single))

    def tune(
        self,
        X: Any = None,
        y: Any = None,
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        guard: float = 1.0,
        embedding: Any = None,
        outputs: Any = None,
    ) -> ResidualTuning:
        """Choose k, sigma and strength by the squared error, and set them; one search for all.

        Args:
            X: Rows set aside for this purpose; those that are in the memory are left out, with a
                warning. None asks every row of the memory with itself left
                out: the base's error is then its error on its training rows.
            y: Their numbers.
            grid: Values to try for ``k``, ``sigma`` (factors of the median distance to the
                largest k-th neighbor) and ``strength``.
            guard: How many standard errors of the paired difference a gain must exceed, else the
                memory is turned off (``strength = 0``), with a warning.
            embedding: Of X, if known.
            outputs: Of X, if known.

        Returns:
            All settings with their scores (minus the mean squared error), and what was decided.
        """
        self._check_options()
        own = check_asked((X, embedding), (y, outputs))
        asked = None if own else self._asked_of(X, embedding, outputs)
        near, truth, base, tried = self._steady(lambda: self._to_choose_by(asked, y, grid))
        report, _, _ = choose(
            near,
            lambda _: (base, self._table(near.rows)),
            by_squared_error(truth),
            base,
            tried,
            "squared_error",
            guard,
        )
        warn_if_off(report)
        best = report.best
        chosen = {"k": best.k, "sigma": best.sigma, "strength": best.strength}
        self.set_params(**(chosen if report.active else {"strength": 0.0}))
        return report

    # -- inside --------------------------------------------------------------------------------

    def _behind(self, asked: Asked) -> Behind | None:
        """The rows that correct these queries; None where the memory is turned off."""
        if not self.strength:
            return None

        def find() -> Behind:
            """Neighbors, shares and residuals of one version of the rows."""
            near = self._find(asked.embedding)
            return Behind(near, self._shares(near), self._table(near.rows), None, self.memory_)

        return self._steady(find)

    def _to_choose_by(
        self, asked: Asked | None, y: Any, grid: Mapping[str, Sequence[Any]] | None
    ) -> tuple[Found, Doubles, Doubles, Grid]:
        """Neighbors, truth, what the base says, and what to try; None asks the rows."""
        memory, rows = self._recall(), self._rows()
        tried = lay_out(memory, grid, left_out=asked is None, names=("k", "sigma", "strength"))
        if asked is None:
            places = spread(rows.ids)
            ids = rows.ids[places]
            near = self._find(memory.keys(ids), tried.ks[-1], exclude=ids)
            # The base says 0 and the truth is the residual: only their difference counts.
            truth = _as_table(np.asarray(rows.values, np.float64)[places])
            return near, truth, np.zeros(truth.shape), tried
        base = self._check_answers(asked)
        truth = _as_table(self._check_targets(asked.embedding, y))
        if truth.shape != base.shape:
            raise DimensionMismatch(
                "the base predicts other numbers than those given",
                expected=str(base.shape),
                got=str(truth.shape),
                remedy="Give y in the form that the base was trained with.",
            )
        near = self._find(asked.embedding, tried.ks[-1])
        kept = self._table(rows).parts[near.places[:, 0]]
        same = np.asarray(np.isclose(kept, truth - base, rtol=1e-5).all(axis=1))
        new = not_taught(near, same)
        return near.only(new), truth[new], base[new], tried

    def _check_answers(self, asked: Asked) -> Doubles:
        """What the base says as a table, as wide as what the rows hold."""
        outputs, width = _as_table(asked.outputs), 1 if self._single else self.memory_.value_dim
        if outputs.ndim != 2 or outputs.shape[1] != width:
            raise DimensionMismatch(
                "the base predicts other numbers than the rows hold",
                expected=f"(rows, {width})",
                got=str(asked.outputs.shape),
                remedy="Use the base that the memory was taught with.",
            )
        return outputs

    @property
    def _base(self) -> Base:
        return wrap(self.base, self.embedding, "regress")

    @property
    def _kind(self) -> ValueKind:
        return "number"

    @property
    def _single(self) -> bool:
        return self.memory_.value == "number"

    def _facts(self, outputs: NDArray[Any]) -> dict[str, Any]:
        width = 1 if outputs.ndim == 1 else outputs.shape[1]
        return {"head": "residual memory", "numbers": width}

    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        return check_numbers(self, X, y)

    def _columns(self, asked: Asked, y: Any, *, anew: bool) -> tuple[NDArray[Any], dict[str, Any]]:
        del anew
        targets = self._check_targets(asked.embedding, y)
        outputs = _as_table(asked.outputs)
        wide = targets if targets.ndim == 2 else targets[:, None]
        if wide.shape != outputs.shape:
            raise DimensionMismatch(
                "the base predicts other numbers than those given",
                expected=str(wide.shape),
                got=str(outputs.shape),
                remedy="Give y in the form that the base was trained with.",
            )
        residuals = wide - outputs
        return (residuals[:, 0] if targets.ndim == 1 else residuals), {}

    def _check_fits(self, memory: Memory) -> None:
        if memory.value not in {"number", "vector"} or memory.metric != self.metric:
            raise InvalidParameter(
                "the memory does not hold what a residual memory of numbers reads",
                expected="value='number' or 'vector', metric='euclidean'",
                got=f"value={memory.value!r}, metric={memory.metric!r}",
                remedy="Start a new memory: pass a path where there is none yet.",
            )
        if "classes" in (memory.encoder_spec or {}):
            raise InvalidParameter(
                "the rows are of a classifier",
                expected="the memory of a ResidualMemoryRegressor",
                got="that of a ResidualMemoryClassifier",
                remedy="Start a new memory: pass a path where there is none yet.",
            )

    @property
    def _reserved(self) -> frozenset[str]:
        return frozenset()

    def _form_of_others(self, memory: Memory) -> dict[str, Any]:
        width = 1 if memory.value == "number" else memory.value_dim
        return self._recording | {"numbers": width}

    def _out_of_fold(self, X: Any, y: Any, keys: Floats) -> Doubles:
        self._check_targets(keys, y)
        return numbers_out_of_fold(self.base, X, y, self.folds)

    def _queries(self, X: Any, embedding: Any, outputs: Any) -> Asked:
        self._check_options()
        self._recall()
        asked = self._asked_of(X, embedding, outputs, keys=self.strength != 0)
        self._check_answers(asked)
        return asked

    def _table(self, rows: Recalled) -> Residuals:
        known: Residuals | None = self._cache.get("table")
        if known is None or known.version != rows.version:
            parts = _as_table(np.asarray(rows.values, np.float64))
            known = Residuals(rows.version, 1.0, parts, None, np.zeros(len(parts)))
            self._cache["table"] = known
        return known


def _as_table(numbers: NDArray[Any]) -> Doubles:
    return numbers[:, None] if numbers.ndim == 1 else numbers
