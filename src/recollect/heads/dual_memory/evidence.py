"""Which rows an answer came from: a class's slots, and what each adds."""

from __future__ import annotations

import numpy as np

from recollect.heads.dual_memory.bank import Slice
from recollect.heads.dual_memory.fusion import Members
from recollect.heads.dual_memory.parts import PART, TEXT
from recollect.heads.dual_memory.state import State
from recollect.memory.memory import Memory
from recollect.types import Doubles, Evidence, Explanation, Floats, Label, Rows

_LEAST = 1e-6
"""Labels below this probability are left out of `shares`."""


def explain_one(
    memory: Memory, state: State, x: Floats, members: Members, weights: Doubles,
    probability: Doubles,
) -> Explanation:  # fmt: skip
    """Explain the answer to one picture.

    Args:
        memory: Holds the rows.
        state: What the answer is computed from.
        x: float32 ``(1, dim)``, of length 1.
        members: What the members said about it.
        weights: float64 ``(3,)``: the members' shares.
        probability: float64 ``(classes,)``: what they come to together.
    """
    code = int(probability.argmax())
    found = state.bank.slots_of(code, state.bank.queries(x), state.options.beta)
    added = _contributions(found, members, weights, code)
    added *= probability[code] / added.sum()
    order = np.argsort(-found.similarity, kind="stable")
    there = found.ids[order] >= 0  # a name that was given for a memory of shots is no row of it
    rows = memory.rows(found.ids[order][there])
    place_of = np.cumsum(there) - 1
    evidence = tuple(
        _evidence(
            rows if there[turn] else None,
            int(place_of[turn]),
            value=state.parts.classes[code],
            similarity=float(found.similarity[at]),
            contribution=float(added[at]),
        )
        for turn, at in enumerate(order.tolist())
    )
    ranked = np.argsort(-probability, kind="stable")
    return Explanation(
        prediction=state.parts.classes[code],
        score=float(probability[code]),
        shares={
            state.parts.classes[each]: float(probability[each])
            for each in ranked.tolist()
            if probability[each] >= _LEAST
        },
        evidence=evidence,
        minimal=False,
    )


def _evidence(
    rows: Rows | None, place: int, *, value: Label, similarity: float, contribution: float
) -> Evidence:
    """A row of the memory, or, without rows, a name that was given and not written."""
    metadata = {PART: TEXT}
    if rows is not None:
        metadata = {name: column[place] for name, column in rows.metadata.items()}
    return Evidence(
        id=-1 if rows is None else int(rows.ids[place]),
        value=value,
        similarity=similarity,
        weight=1.0 if rows is None else float(rows.weights[place]),
        contribution=contribution,
        source=None if rows is None else rows.sources[place],
        metadata=metadata,
    )


def _contributions(found: Slice, members: Members, weights: Doubles, code: int) -> Doubles:
    """What each slot adds to the fused probability of the class."""
    text, dynamic, static = members.all()
    assert dynamic is not None
    total = weights[1] * dynamic[0, code] * _parts(found.dynamic, found.toward)
    if static is not None:
        total = total + weights[2] * static[0, code] * _parts(found.static, found.told)
    if text is not None:
        total[0] += weights[0] * text[0, code]
    return np.asarray(total)


def _parts(weights: Doubles, toward: Doubles) -> Doubles:
    """Parts of 1, in proportion to what each slot adds to the class's vector along the picture."""
    pull = weights * toward
    if abs(pull.sum()) < 1e-12:  # they cancel out, or there are none
        pull = weights
    total = pull.sum()
    return np.asarray(pull / total) if total else np.zeros_like(pull)
