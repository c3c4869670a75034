"""Recorded runs of a step function: what went in and what came out, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recollect.errors import EmptyBatch, InvalidParameter, UnknownIds
from recollect.types import Ids

# State (n, s) and what is seen (n, p) -> next state (n, s) and answer (n,).
StepFunction = Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[np.int64]]]
# Inputs, state and number of the step -> what is seen.
Sense = Callable[[Any, NDArray[Any], int], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Runs:
    """What a step function did with each input, the inputs one after the other.

    Attributes:
        ids: int64 ``(n,)``: names of the inputs, each once.
        keys: ``(n, steps, key width)``: state before the step, then what was seen.
        states: ``(n, steps, state width)``: state after the step.
        answers: int64 ``(n, steps)``: answer of each step.
    """

    ids: Ids
    keys: NDArray[Any]
    states: NDArray[Any]
    answers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def steps(self) -> int:
        """Steps per input."""
        return int(self.keys.shape[1])

    def take(self, places: ArrayLike | slice) -> Runs:
        """Return the runs at these places."""
        chosen = places if isinstance(places, slice) else np.asarray(places)
        return Runs(self.ids[chosen], self.keys[chosen], self.states[chosen], self.answers[chosen])

    def without(self, ids: ArrayLike) -> Runs:
        """Return all runs but those of these inputs.

        Raises:
            UnknownIds: One of them is not there.
        """
        gone = np.atleast_1d(np.asarray(ids, np.int64))
        missing = np.setdiff1d(gone, self.ids)
        if len(missing):
            raise UnknownIds("no run with this id", got=missing[:5].tolist())
        return self.take(np.flatnonzero(~np.isin(self.ids, gone)))

    def join(self, more: Runs) -> Runs:
        """Return these runs, then those."""
        return Runs(
            np.concatenate([self.ids, more.ids]),
            np.concatenate([self.keys, more.keys]),
            np.concatenate([self.states, more.states]),
            np.concatenate([self.answers, more.answers]),
        )


def each_step(inputs: Any, state: NDArray[Any], step: int) -> NDArray[Any]:
    """Sense a sequence: what is seen at a step is its item there. Inputs: ``(n, steps, p)``."""
    del state
    return np.asarray(inputs[:, step])


def record(
    step: StepFunction,
    inputs: Any,
    *,
    start: NDArray[Any],
    steps: int,
    sense: Sense = each_step,
    ids: ArrayLike | None = None,
) -> Runs:
    """Run a step function over inputs and write down every step.

    Args:
        step: State ``(n, s)`` and what is seen ``(n, p)`` -> next state and answer ``(n,)``.
        inputs: What ``sense`` looks at.
        start: ``(s,)``: the state that every run begins with.
        steps: How many steps a run has.
        sense: What is seen in a state; by default the items of a sequence, one a step.
        ids: Names of the inputs; counted up when None.

    Example:
        >>> parity = lambda state, bit: (state ^ bit, (state ^ bit)[:, 0].astype(np.int64))
        >>> bits = np.array([[[1], [0], [1]]], np.uint8)
        >>> record(parity, bits, start=np.zeros(1, np.uint8), steps=3).answers.tolist()
        [[1, 1, 0]]
    """
    n = len(inputs)
    if not n:
        raise EmptyBatch("there is nothing to record", expected="at least one input", got=0)
    state = np.tile(start, (n, 1))
    keys, states, answers = [], [], []
    for number in range(steps):
        seen = sense(inputs, state, number)
        if seen.ndim != 2 or len(seen) != n:
            raise InvalidParameter(
                "what is seen has no form", expected=f"({n}, width)", got=str(seen.shape)
            )
        keys.append(np.concatenate([state, seen], axis=1))
        state, answer = step(state, seen)
        states.append(state)
        answers.append(answer)
    named = np.arange(n) if ids is None else np.asarray(ids, np.int64)
    return Runs(named, np.stack(keys, 1), np.stack(states, 1), np.stack(answers, 1))
