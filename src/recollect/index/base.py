"""What every index promises. An index finds rows; it holds no labels and no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from recollect.types import Floats, Ids


class Index(Protocol):
    """Finds stored vectors near a query; always rebuildable from the rows.

    The answer depends on the set of rows only, never on the order in which they came, on other
    queries of the batch, or on rows that were removed.
    """

    def add(self, ids: Ids, keys: NDArray[Any]) -> None:
        """Take rows in: int64 ``(n,)`` distinct new ids and their keys ``(n, dim)``."""
        ...

    def remove(self, ids: Ids) -> None:
        """Take rows out, in effect for the next search. Unknown ids raise ``UnknownIds``."""
        ...

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Ids | None = None,
        exclude: Sequence[Ids] | Ids | None = None,
    ) -> tuple[Ids, Floats]:
        """Return the k nearest rows of each query as ids and similarity, both ``(queries, k)``.

        Ordered by similarity (larger first), then by smaller id; padded with -1 / -inf.

        Args:
            queries: float32 ``(queries, dim)``, finite.
            k: At least 1; may exceed the number of rows.
            allowed: Only these rows take part; None means all.
            exclude: Per query the ids that must not be returned: one array per query, or an int64
                array ``(queries,)`` / ``(queries, m)`` in which -1 stands for nothing.
        """
        ...

    def __len__(self) -> int: ...
