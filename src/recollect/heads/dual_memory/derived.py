"""What is derived from rows and settings, and kept until either changes."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from recollect.errors import DimensionMismatch, InvalidParameter
from recollect.heads.base import MemoryEstimator
from recollect.heads.dual_memory.names import (
    check_class_names,
    check_names,
    check_pair,
    check_width,
    embed_names,
    text_side,
)
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.parts import Names, Parts, read_parts
from recollect.heads.dual_memory.settings import check_options
from recollect.heads.dual_memory.state import Options, State
from recollect.heads.dual_memory.training import Training, lesson_of, train_offsets
from recollect.heads.inputs import check_labels
from recollect.memory.memory import Memory
from recollect.readout.attention import unit
from recollect.types import ValueKind


class Derived(MemoryEstimator):
    """A dual memory's names, offsets and state, as its rows and settings determine them."""

    text_features: Any
    class_names: Any
    prompts: Any
    text_encoder: Any
    offsets: Offsets | Training | None
    weights: tuple[float, float, float]
    fusion: Any
    views: int
    augmentation: str
    anchor: float
    seed: int

    @property
    def _kind(self) -> ValueKind:
        return "label"

    def _check_options(self) -> None:
        check_options(self)

    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        return check_labels(self, X, y)

    # -- the derived state ---------------------------------------------------------------------

    def _current(self) -> State:
        """The state of the rows as they are now; built again if anything else changed them."""
        options, memory = check_options(self), self._recall()
        kept = self.__dict__.get("_kept")
        if kept is not None and kept[0] == self._moment(options, memory):
            state: State = kept[1]
            return state
        # The version first: rows that come in between are noticed the next time.
        moment = self._moment(options, memory)
        parts = read_parts(memory, self._given_names(), memory.dim)
        self._check_agreement(parts)
        state = State(parts, options, self._learned(parts, options))
        self._kept = (moment, state)
        return state

    def _stamp(self, state: State) -> None:
        """Keep a state that has followed a write of our own."""
        self._kept = (self._moment(state.options, self.memory_), state)

    def _moment(self, options: Options, memory: Memory) -> tuple[Any, ...]:
        names = tuple(id(each) for each in (self.text_features, self.class_names, self.prompts))
        return memory, memory.version, options, names, self._offsets_key()

    def _offsets_key(self) -> Any:
        return self.offsets if isinstance(self.offsets, Training | None) else id(self.offsets)

    def _learned(self, parts: Parts, options: Options) -> Offsets | None:
        """The offsets that were given, or those that these shots teach."""
        offsets = self.offsets
        if isinstance(offsets, Training):
            if not len(parts.shots):
                return None
            lesson = lesson_of(parts)
            key = (offsets, options.beta, options.scale, lesson.digest())
            kept = self.__dict__.get("_trained")
            if kept is None or kept[0] != key:
                self._trained = (
                    key,
                    train_offsets(lesson, offsets, beta=options.beta, scale=options.scale)[0],
                )
            return self._trained[1]
        expected = (len(parts.classes), parts.shots.shape[1])
        if offsets is not None and offsets.shape != expected:
            raise DimensionMismatch(
                "the offsets belong to other classes",
                expected=f"offsets for {expected[0]} classes of width {expected[1]}",
                got=str(offsets.shape),
                remedy="Learn them again: offsets=Training().",
            )
        return offsets

    def _given_names(self) -> Names | None:
        """Names with vectors as they were given or are encoded; None if there are none."""
        source = (self.text_features, self.class_names, self.prompts, self.text_encoder)
        kept = self.__dict__.get("_named")
        if kept is not None and all(a is b for a, b in zip(kept[0], source, strict=True)):
            found: Names | None = kept[1]
            return found
        if self.text_features is not None:
            names: Names | None = check_names(self.text_features, self.class_names)
        elif self.class_names is not None:
            labels = check_class_names(self.class_names)
            names = Names(labels, embed_names(labels, self.prompts, self._text_encoder()))
        else:
            names = None
        self._named = source, names
        return names

    def _text_encoder(self) -> Any:
        encoder = self.text_encoder if self.text_encoder is not None else text_side(self.encoder)
        if encoder is None:
            raise InvalidParameter(
                "names alone cannot be compared with pictures",
                expected="text_features, or a text encoder",
                got="neither",
                remedy="Pass text_features=, text_encoder=, or an encoder of CLIP.",
            )
        check_pair(encoder, self.encoder)
        return encoder

    def _check_agreement(self, parts: Parts) -> None:
        """Refuse text features that are not those in the memory."""
        names = self._given_names()
        if names is None or parts.text is None:
            return
        check_width(names, parts.text.shape[1])
        stored = dict(zip(parts.classes, parts.text, strict=True))
        given = dict(zip(names.labels, unit(names.vectors), strict=True))
        other = [each for each in given if each in stored and (given[each] != stored[each]).any()]
        if other:
            raise InvalidParameter(
                "the memory holds other text features",
                expected="those it was taught with",
                got=f"others for {other[0]!r}",
                remedy="Leave text_features out, or teach anew with fit.",
            )

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for derived in ("_kept", "_named", "_trained"):
            state.pop(derived, None)
        return state
