"""What every encoder promises: the same input gives the same key, and it says who it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from recollect.types import Floats

Modality: TypeAlias = Literal["image", "text"]


@runtime_checkable
class Encoder(Protocol):
    """Turns inputs into keys. Knows no labels, no memory, and no files but its own weights."""

    @property
    def dim(self) -> int:
        """Width of a key."""
        ...

    @property
    def modality(self) -> Modality:
        """What it reads: ``"image"`` or ``"text"``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names model, revision, preprocessing and output.

        Equal fingerprints mean equal keys for equal inputs; a memory refuses keys of another one.
        """
        ...

    @property
    def spec(self) -> dict[str, Any] | None:
        """JSON-able recipe from which ``recollect.encoders.from_spec`` builds the encoder again.

        None if it cannot be described (a module of the user's own).
        """
        ...

    def encode(self, inputs: Sequence[Any]) -> Floats:
        """Encode one batch. Returns float32 ``(len(inputs), dim)``, all finite."""
        ...
