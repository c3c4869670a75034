"""How a handle's searches are answered, from one version of the rows to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recollect.index.approximate import ApproximateIndex
from recollect.index.exact import ExactIndex
from recollect.index.keeper import Keeper
from recollect.index.lists import load_faiss
from recollect.index.policy import Approximate, as_policy
from recollect.memory.store import Store
from recollect.types import Ids


class Searching:
    """Makes the index of each version; what is trained outlives them all.

    Args:
        search: ``"exact"``, ``"approximate"`` or a policy.

    Raises:
        InvalidParameter: It is none of these.
        MissingExtra: faiss is not installed.
    """

    def __init__(self, search: object = "exact") -> None:
        self.policy: Approximate | None = as_policy(search)
        self._keeper: Keeper | None = None
        if self.policy is not None:
            load_faiss()  # it is missed now, not in the middle of a search

    def exact_index(self, store: Store) -> ExactIndex:
        """Make an exact index without rows."""
        weights = store.config.metric_weights
        return ExactIndex(
            store.config.dim,
            store.config.metric,
            metric_weights=None if weights is None else np.array(weights),
        )

    def index(
        self, store: Store, exact: ExactIndex, vouch: Callable[[Ids | None], None]
    ) -> ExactIndex | ApproximateIndex:
        """Make the index of a version whose rows are in ``exact``."""
        if self.policy is None:
            vouch(None)
            return exact
        metric, weights = store.config.metric, store.config.metric_weights
        if self._keeper is None:
            self._keeper = Keeper(metric, self.policy)
        return ApproximateIndex(
            store.config.dim,
            metric,
            metric_weights=None if weights is None else np.array(weights),
            exact=exact,
            vouch=vouch,
            keeper=self._keeper,
        )


def status(index: ExactIndex | ApproximateIndex) -> dict[str, Any]:
    """Say how an index answers, as plain values for JSON."""
    return {"engine": "exact"} if isinstance(index, ExactIndex) else index.status()
