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
from recollect.index.training import Trained
from recollect.memory.cached_lists import load, outdated, save
from recollect.memory.schema import Configuration
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
        self._saved: Trained | None = None
        self._kept: Ids | None = None  # rows in the lists when they were read
        self._encoding: int | None = None  # that of the keys in the lists
        self.closed = False
        if self.policy is not None:
            load_faiss()  # it is missed now, not in the middle of a search

    def exact_index(self, config: Configuration) -> ExactIndex:
        """Make an exact index without rows."""
        return ExactIndex(config.dim, config.metric, metric_weights=_weights(config))

    def index(
        self,
        store: Store,
        config: Configuration,
        encoding: int,
        exact: ExactIndex,
        vouch: Callable[[Ids | None], None],
    ) -> ExactIndex | ApproximateIndex:
        """Make the index of a version whose rows are in ``exact``.

        Args:
            store: May have lists of it in its cache.
            config: What the memory was in that version.
            encoding: Under one encoding an id has one key for good, so that lists can stay.
            exact: An index of all its rows.
            vouch: As for ``ApproximateIndex``.
        """
        if self.policy is None:
            vouch(None)
            return exact
        if self._keeper is None or self._encoding != encoding:
            if self._keeper is not None:
                self._keeper.stop()  # what it trains, nobody will use
            self._saved = load(store, self.policy)
            self._kept = None if self._saved is None else self._saved.ids
            self._keeper = Keeper(config.metric, self.policy, trained=self._saved)
            self._encoding = encoding
        return ApproximateIndex(
            config.dim, config.metric, metric_weights=_weights(config), exact=exact,
            vouch=vouch, keeper=self._keeper,
        )  # fmt: skip

    def close(self, *, wait: bool = True) -> None:
        """Let nothing go on in the background.

        Args:
            wait: Until that has ended; not for who holds what it may be waiting for.
        """
        self.closed = True
        if self._keeper is not None:
            (self._keeper.close if wait else self._keeper.stop)()

    @property
    def has_lists(self) -> bool:
        """Whether lists are trained."""
        return self._keeper is not None and self._keeper.trained is not None

    def keep(self, store: Store) -> None:
        """Write the lists to the cache if that would save time; nobody else may use them any more.

        Raises:
            OSError: The disk refused.
        """
        keeper = self._keeper
        if keeper is None or keeper.trained is None or self._encoding != store.encoding:
            return
        keeper.purge()
        with keeper.reading() as trained:
            if trained is not None and outdated(store, self._saved, self._kept, trained):
                save(store, trained)

    def status(self, index: ExactIndex | ApproximateIndex | None) -> dict[str, Any]:
        """Say how an index answers, as plain values for JSON."""
        if isinstance(index, ApproximateIndex):
            return index.status()
        wanted = {} if self.policy is None else {"wanted_recall": self.policy.recall}
        return {"engine": "exact", **wanted}


def _weights(config: Configuration) -> Any:
    return None if config.metric_weights is None else np.array(config.metric_weights)
