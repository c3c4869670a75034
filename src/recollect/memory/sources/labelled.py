"""What every reader returns: inputs with labels, sources and metadata, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from recollect.encoders.base import Modality
from recollect.errors import InvalidParameter, LengthMismatch
from recollect.types import Label


@dataclass(frozen=True, slots=True)
class LabelledInputs:
    """Inputs for an encoder and what is known about them, in columns of equal length.

    Attributes:
        inputs: Image paths (str), undecoded image bytes, or texts. May read lazily: iterate over
            it in order, and an item is read only when it is reached. An image that is missing in
            its file is empty bytes, which an encoder reports as a bad image.
        labels: One label per input (all str or all int; float for numbers), or None where none
            were asked for and none were found.
        sources: Where each input came from, such as ``"animals/cat/1.png"`` or
            ``"train.parquet#17"`` (rows count from 0).
        metadata: Column name -> one value per input (str, int, float, bool or None).
        modality: ``"image"`` or ``"text"``.
    """

    inputs: Sequence[Any]
    labels: list[Label] | list[float] | None
    sources: list[str]
    metadata: dict[str, list[Any]] = field(default_factory=dict)
    modality: Modality = "image"

    def __post_init__(self) -> None:
        columns = {"sources": self.sources, **self.metadata}
        if self.labels is not None:
            columns["labels"] = self.labels
        for name, column in columns.items():
            if len(column) != len(self.inputs):
                raise LengthMismatch(
                    f"column {name!r} and the inputs differ in length",
                    expected=len(self.inputs),
                    got=len(column),
                    remedy="Give one value per input.",
                )

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, positions: Sequence[int]) -> LabelledInputs:
        """The inputs at these positions, in this order, still lazy where they were."""
        chosen = [int(position) for position in positions]
        inputs: Sequence[Any] = (
            [self.inputs[at] for at in chosen]
            if isinstance(self.inputs, list)
            else _Selection(self.inputs, chosen)
        )
        labels: Any = None if self.labels is None else [self.labels[at] for at in chosen]
        return LabelledInputs(
            inputs,
            labels,
            [self.sources[at] for at in chosen],
            {name: [column[at] for at in chosen] for name, column in self.metadata.items()},
            self.modality,
        )

    def sample(
        self, *, limit: int | None = None, per_class: int | None = None, seed: int = 0
    ) -> LabelledInputs:
        """A random subset with the classes as even as the counts allow, in the original order.

        Args:
            limit: At most so many inputs in all; the classes share them evenly.
            per_class: At most so many inputs of each class.
            seed: Seed of the choice; the same seed gives the same subset.

        Example:
            >>> inputs = LabelledInputs(["a", "b", "c", "d"], ["x", "x", "x", "y"], list("abcd"))
            >>> sorted(inputs.sample(limit=2).labels)
            ['x', 'y']
        """
        for name, number in (("limit", limit), ("per_class", per_class)):
            if number is not None and number < 1:
                raise InvalidParameter(
                    f"{name} is out of range", expected=f"{name} >= 1", got=number,
                    remedy="Leave it out to take all inputs.",
                )  # fmt: skip
        if limit is None and per_class is None:
            return self
        random = np.random.default_rng(seed)
        # Row by row of a table whose columns are the classes, each class shuffled.
        shuffled = random.permutation(len(self))
        seen: dict[Any, int] = {}
        turn = np.empty(len(self), np.int64)
        for position in shuffled:
            label = None if self.labels is None else self.labels[position]
            turn[position] = seen.get(label, 0)
            seen[label] = seen.get(label, 0) + 1
        order = shuffled[np.argsort(turn[shuffled], kind="stable")]
        # Without labels there are no classes to be even about.
        if per_class is not None and self.labels is not None:
            order = order[turn[order] < per_class]
        return self.take(np.sort(order[:limit]).tolist())


class _Selection(Sequence[Any]):
    """Some items of a lazy sequence, read when they are asked for."""

    def __init__(self, inputs: Sequence[Any], positions: list[int]) -> None:
        self._inputs, self._positions = inputs, positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return [self._inputs[position] for position in self._positions[at]]
        return self._inputs[self._positions[at]]
