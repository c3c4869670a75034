"""Which queries are better left unanswered; the memory's own rows set the threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from recollect.errors import InvalidParameter
from recollect.heads.members import OwnShares
from recollect.heads.peers import Peers
from recollect.readout.novelty import least_confidence, novelty_scores, p_values
from recollect.types import Doubles, Mask, Neighbors

Promise = Literal["coverage", "error"]


def check_promise(promise: object) -> None:
    """Refuse a promise that is not known."""
    if promise not in get_args(Promise):
        raise InvalidParameter(
            "promise is not known",
            expected="'coverage' or 'error'",
            got=repr(promise),
            remedy="`coverage` is the default.",
        )


def too_novel(found: Neighbors, peers: Peers, rate: float) -> Mask:
    """Mark queries farther from the rows than all but this share of the rows from the others.

    Args:
        found: Neighbors of the queries.
        peers: The memory's rows, asked about each other.
        rate: Share of queries like the rows that may be marked.
    """
    k = found.ids.shape[1]
    metric = peers.memory.metric

    def own() -> Doubles:
        """Novelty of the memory's own rows, each asked with itself left out, ascending."""
        scores = [novelty_scores(block.near, metric) for block in peers.blocks(k)]
        return np.sort(np.concatenate(scores))

    known = peers.derived(("novelty", k), own)
    return np.asarray(p_values(novelty_scores(found, metric), known) <= rate)


def too_unsure(
    confidence: Doubles, peers: Peers, rate: float, *, setting: Any, own: Callable[[], OwnShares]
) -> Mask:
    """Mark queries whose answer has too small a share for this few errors.

    Args:
        confidence: float64 ``(queries,)``. Share of the answer.
        peers: The memory's rows, asked about each other.
        rate: Most wrong answers among those given.
        setting: All that the shares depend on besides the rows.
        own: Gives the same shares for the memory's own rows.
    """

    def threshold() -> float:
        """Read from the memory's own rows, once for each version of it."""
        rows = own()
        return least_confidence(rows.confidence, rows.right, rate)

    return np.asarray(confidence < peers.derived(("confidence", setting, rate), threshold))
