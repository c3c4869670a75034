"""The table: one row per distinct key, with the value most often seen and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import EmptyMemory, InvalidParameter
from recollect.heads.lookup.runs import Runs, Sense, StepFunction, each_step, record
from recollect.types import Codes, Ids


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a lookup table, in the order in which ties are decided.

    Rows are ordered by how many runs witnessed the key, then by which was seen first; in a table
    per step, step by step.

    Attributes:
        keys: ``(rows, key width)``.
        states: ``(rows, state width)``: the next state.
        answers: int64 ``(rows,)``: the answer after this step.
        counts: int64 ``(rows,)``: runs that witnessed the key.
        variants: int64 ``(rows,)``: different values that were seen with the key.
        parts: int64 ``(parts + 1,)``: rows of part p are ``parts[p]:parts[p + 1]``. One part
            serves all steps; otherwise there is one per step.
        ids: int64 ``(inputs,)``: the recorded inputs.
        row_of: int32 ``(inputs, steps)``: row that each step of each input witnessed, or -1.
    """

    keys: NDArray[Any]
    states: NDArray[Any]
    answers: NDArray[np.int64]
    counts: Codes
    variants: Codes
    parts: Codes
    ids: Ids
    row_of: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def per_step(self) -> bool:
        """True if each step has rows of its own."""
        return len(self.parts) > 2

    @property
    def values(self) -> NDArray[Any]:
        """``(rows, state width + 1)``: next state, then answer."""
        return np.concatenate([self.states, self.answers[:, None]], axis=1)

    def part(self, step: int) -> slice:
        """Rows that a query of this step is compared with."""
        place = step if self.per_step else 0
        return slice(int(self.parts[place]), int(self.parts[place + 1]))

    def witnesses(self, row: int) -> Ids:
        """Ids of the inputs whose run went through this row, in the order recorded."""
        return np.asarray(self.ids[(self.row_of == row).any(axis=1)])

    def first_rows(self, share: float) -> Table:
        """Return the table of the most witnessed rows of each part.

        Args:
            share: Share of the rows to keep, above 0 and at most 1; at least one row a part stays.
        """
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise InvalidParameter(
                "share is out of range", expected="0 < share <= 1", got=f"{share!r:.80}"
            )
        sizes = np.diff(self.parts)
        kept = np.maximum(1, np.floor(sizes * share)).astype(np.int64)
        chosen = np.concatenate(
            [np.arange(begin, begin + size) for begin, size in zip(self.parts, kept, strict=False)]
        )
        place = np.full(len(self), -1, np.int32)
        place[chosen] = np.arange(len(chosen), dtype=np.int32)
        return Table(
            self.keys[chosen],
            self.states[chosen],
            self.answers[chosen],
            self.counts[chosen],
            self.variants[chosen],
            np.concatenate([[0], np.cumsum(kept)]),
            self.ids,
            place[self.row_of],
        )


def build(
    step_function: StepFunction,
    inputs: Any,
    *,
    start: NDArray[Any],
    steps: int,
    sense: Sense = each_step,
    ids: ArrayLike | None = None,
    per_step: bool = False,
) -> Table:
    """Record any step function over inputs and make the table that replays it.

    Arguments as in :func:`recollect.heads.lookup.runs.record`.

    Args:
        step_function: State and what is seen -> next state and answer.
        inputs: What ``sense`` looks at.
        start: ``(s,)``: the state that every run begins with.
        steps: How many steps a run has.
        sense: What is seen in a state; by default the items of a sequence, one a step.
        ids: Names of the inputs; counted up when None.
        per_step: Whether each step gets rows of its own, which is faster and more accurate, or
            one table serves all steps, as published.

    Example:
        >>> parity = lambda state, bit: (state ^ bit, (state ^ bit)[:, 0].astype(np.int64))
        >>> bits = np.array([[[1], [0], [1]], [[0], [0], [0]]], np.uint8)
        >>> table = build(parity, bits, start=np.zeros(1, np.uint8), steps=3)
        >>> table.keys.tolist(), table.answers.tolist(), table.counts.tolist()
        ([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], [3, 1, 1, 1])
    """
    runs = record(step_function, inputs, start=start, steps=steps, sense=sense, ids=ids)
    return make_table(runs, per_step=per_step)


def make_table(runs: Runs, *, per_step: bool = False) -> Table:
    """Make the table of recorded runs: the same runs always give the same table, row for row.

    A key seen with different values keeps the one seen most often; ties go to the one seen first.

    Raises:
        EmptyMemory: There are no runs.
    """
    if not len(runs):
        raise EmptyMemory("a table needs at least one run", remedy="Record some inputs first.")
    n, steps = runs.answers.shape
    keys = runs.keys.reshape(n * steps, -1)
    states = runs.states.reshape(n * steps, -1)
    answers = runs.answers.reshape(-1)
    step = np.tile(np.arange(steps), n) if per_step else np.zeros(n * steps, np.int64)
    first, group = _distinct(np.concatenate([_as_bytes(keys), _as_bytes(step[:, None])], axis=1))
    counts = np.bincount(group)
    chosen, variants = _favorites(group, states, answers)
    order = np.lexsort((first, -counts, step[first]))
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    parts = np.bincount(step[first], minlength=steps if per_step else 1)
    return Table(
        keys[first[order]],
        states[chosen[order]],
        answers[chosen[order]],
        counts[order],
        variants[order],
        np.concatenate([[0], np.cumsum(parts)]),
        runs.ids,
        place[group].reshape(n, steps),
    )


def answers_of_states(runs: Runs, *, width: int, per_step: bool = False) -> Runs:
    """Let every step answer with the class that its next state is seen with most often.

    The two-table form: a second table says which class a state means. A state that is recorded is
    found in it exactly, so that its answer can be written beside the row. Where the class follows
    from the state, as a network's does, this changes nothing.

    Args:
        runs: What was recorded.
        width: How many numbers of a state count, from the first.
        per_step: Whether each step has states of its own, as the table has rows.

    Returns:
        The runs with these answers; ties go to the class seen first.

    Example:
        >>> states = np.array([[[0]], [[0]], [[0]], [[1]]], np.uint8)
        >>> runs = Runs(np.arange(4), states, states, np.array([[7], [5], [5], [7]]))
        >>> answers_of_states(runs, width=1).answers.tolist()
        [[5], [5], [5], [7]]
    """
    n, steps = runs.answers.shape
    answers = runs.answers.reshape(-1)
    step = np.tile(np.arange(steps), n) if per_step else np.zeros(n * steps, np.int64)
    states = runs.states.reshape(n * steps, -1)[:, :width]
    _, group = _distinct(np.concatenate([_as_bytes(states), _as_bytes(step[:, None])], axis=1))
    chosen, _ = _favorites(group, answers[:, None], answers)
    return Runs(runs.ids, runs.keys, runs.states, answers[chosen][group].reshape(n, steps))


def _favorites(
    group: Codes, states: NDArray[Any], answers: NDArray[np.int64]
) -> tuple[Codes, Codes]:
    """Return for each group a place that holds its most frequent value, and how many it has."""
    columns = [_as_bytes(group[:, None]), _as_bytes(states), _as_bytes(answers[:, None])]
    first, variant = _distinct(np.concatenate(columns, axis=1))
    often = np.bincount(variant)
    owner = group[first]
    order = np.lexsort((first, -often, owner))
    best = np.flatnonzero(np.diff(owner[order], prepend=-1))
    return first[order[best]], np.bincount(owner)


def _distinct(rows: NDArray[np.uint8]) -> tuple[Codes, Codes]:
    """Group equal rows: where each is first seen, and the group of every row."""
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1])))[:, 0]
    _, first, group = np.unique(whole, return_index=True, return_inverse=True)
    return first, group


def _as_bytes(columns: NDArray[Any]) -> NDArray[np.uint8]:
    # 0.0 and -0.0 are one key.
    plain = columns + 0.0 if columns.dtype.kind == "f" else columns
    return np.ascontiguousarray(plain).view(np.uint8).reshape(len(columns), -1)
