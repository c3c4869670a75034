"""Predict numbers and vectors as the weighted mean of what the nearest rows of a memory hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from recollect.encoders.base import Encoder
from recollect.heads.explanation import explain_means
from recollect.heads.inputs import check_numbers, in_our_words
from recollect.heads.neighbors import NeighborEstimator, within
from recollect.heads.selection import TuningReport, make_grid
from recollect.memory.memory import Memory
from recollect.readout.regression import weighted_mean
from recollect.readout.voting import Rule, VoteRule, check_k, vote_shares, weigh
from recollect.types import Doubles, Explanation, Metric, ValueKind

# The reference keeps alpha of a vote at 0.1 or more; a mean may lean on the nearest row alone.
_LEAST_MEAN_ALPHA = 0.001


class MemoryRegressor(RegressorMixin, NeighborEstimator):
    """Predict the weighted mean of what the nearest rows hold.

    Args:
        k: How many rows are averaged; where the memory holds fewer, all of them.
        weighting: ``"rank"``, ``"plurality"`` (equal weights), ``"softmax"`` or ``"distance"``, as
            the votes of ``MemoryClassifier``.
        alpha: Of ``"rank"``, at least 0.001.
        temperature: Of ``"softmax"``, above 0.
        sharpness: Of ``"distance"``, at least 0.
        metric: As in ``MemoryClassifier``.
        encoder: As in ``MemoryClassifier``.
        memory: As in ``MemoryClassifier``; of numbers or of vectors.

    Attributes:
        ids_: Row ids in the order in which the rows were given, forgotten ones left out.
        memory_: The memory.
        n_features_in_: Width of a key.

    Example:
        >>> head = MemoryRegressor(k=2, weighting="plurality")
        >>> head.fit([[1, 0], [1, 0.1], [0, 1]], [10, 20, 90]).predict([[1, 0.05]]).tolist()
        [15.0]
    """

    def __init__(
        self,
        k: int = 20,
        weighting: Rule = "rank",
        alpha: float = 2.0,
        temperature: float = 0.07,
        sharpness: float = 1.0,
        metric: Metric = "cosine",
        encoder: Encoder | None = None,
        memory: Memory | str | Path | None = None,
    ) -> None:
        self.k = k
        self.weighting = weighting
        self.alpha = alpha
        self.temperature = temperature
        self.sharpness = sharpness
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
        """Teach these rows and no others; see ``MemoryClassifier.fit``.

        Args:
            X: Features ``(rows, dim)``, or with an encoder a sequence of its inputs.
            y: Numbers ``(rows,)``, kept as float64, or vectors ``(rows, width)``, kept as float32.
            ids: Row ids, never used before in this memory; counted up when None.
            weights: Weight of each row in the mean, finite and >= 0; 1 when None.
            sources: Where each row came from, text or None.
            metadata: Column name -> one value per row, or one for all.

        Returns:
            The estimator.
        """
        return self._teach(
            X, y, anew=True, ids=ids, weights=weights, sources=sources, metadata=metadata
        )

    def partial_fit(
        self,
        X: Any,
        y: Any,
        *,
        ids: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        sources: Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Teach these rows too. Arguments as in ``fit``."""
        return self._teach(
            X, y, anew=False, ids=ids, weights=weights, sources=sources, metadata=metadata
        )

    # -- asking --------------------------------------------------------------------------------

    def predict(self, X: Any) -> Doubles:
        """Return float64 ``(queries,)``, or ``(queries, width)`` where the rows hold vectors.

        Where all neighbors weigh 0 the nearest row's value is the answer.
        """
        self._check_options()
        near = self._search(X, self.k)
        return weighted_mean(near.values, vote_shares(weigh(near, self._rule(), self.metric)))

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return R squared on these queries; 1 is perfect, 0 no better than the mean."""
        with in_our_words():
            return float(super().score(X, y, sample_weight=sample_weight))

    def explain(self, X: Any) -> list[Explanation]:
        """Say for each query which rows answered; their contributions add up to the prediction.

        A number has no removal that "changes" it, so ``counterfactual`` is empty.
        """
        keys = self._asked(X)

        def ask() -> list[Explanation]:
            """Cut k to the rows of the very version that is explained."""
            memory = self._with_rows()
            k = within(check_k(self.k), memory)
            return explain_means(memory, keys, self._rule(), self.metric, k)

        return self._at_once(ask)

    def tune(
        self,
        X: Any = None,
        y: Any = None,
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        scoring: Literal["squared_error", "absolute_error"] = "squared_error",
    ) -> TuningReport:
        """Choose weighting, k and the weighting's parameter, and set them.

        As ``MemoryClassifier.tune``; the score is minus the mean error, so larger is better.
        """
        return self._tuned(
            X,
            y,
            make_grid(grid, rule_name="weighting", least_alpha=_LEAST_MEAN_ALPHA),
            scoring,
            ("squared_error", "absolute_error"),
            rule_name="weighting",
        )

    # -- inside --------------------------------------------------------------------------------

    @property
    def _kind(self) -> ValueKind:
        return "number"

    def _check_options(self) -> None:
        self._rule()

    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        return check_numbers(self, X, y)

    def _rule(self) -> VoteRule:
        return VoteRule(
            self.weighting,
            self.alpha,
            self.temperature,
            self.sharpness,
            least_alpha=_LEAST_MEAN_ALPHA,
        )

    def _truth(self, values: NDArray[Any]) -> NDArray[Any]:
        return values

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
