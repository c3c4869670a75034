"""What every encoder promises: the same input gives the same key, and it says who it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from recollect.types import Floats

Modality: TypeAlias = Literal["image", "text"]


@runtime_checkable
class Encoder(Protocol):
    """Turns inputs into keys. Knows no labels, no memory, and no files but its own weights.

    Attributes:
        dim: Width of a key.
        modality: What it reads: ``"image"`` or ``"text"``.
        fingerprint: Names model, revision, preprocessing and output. Equal fingerprints mean equal
            keys for equal inputs; a memory refuses keys of another fingerprint.
        spec: JSON-able recipe from which :func:`recollect.encoders.from_spec` builds the same
            encoder again, or None if it cannot be described (a module of the user's own).
    """

    @property
    def dim(self) -> int: ...
    @property
    def modality(self) -> Modality: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def spec(self) -> dict[str, Any] | None: ...

    def encode(self, inputs: Sequence[Any]) -> Floats:
        """Encode one batch. Returns float32 ``(len(inputs), dim)``, all finite."""
        ...
