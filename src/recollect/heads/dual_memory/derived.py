"""What is derived from rows and settings, and kept until either changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any, Concatenate, ParamSpec, TypeVar

from numpy.typing import NDArray

from recollect.errors import DimensionMismatch, InvalidLabel, InvalidParameter
from recollect.heads.base import MemoryEstimator
from recollect.heads.dual_memory.bank import require_room
from recollect.heads.dual_memory.channels import channels_of, require_channels
from recollect.heads.dual_memory.names import (
    check_class_names,
    check_names,
    check_pair,
    check_width,
    content_of,
    embed_names,
    text_side,
)
from recollect.heads.dual_memory.offsets import Offsets
from recollect.heads.dual_memory.parts import Names, Parts, read_parts
from recollect.heads.dual_memory.settings import check_options
from recollect.heads.dual_memory.state import Options, State
from recollect.heads.dual_memory.training import (
    Training,
    lesson_of,
    lesson_with,
    require_torch,
    train_offsets,
)
from recollect.heads.inputs import check_labels
from recollect.memory.memory import Memory
from recollect.readout.attention import unit
from recollect.types import Codes, Floats, ValueKind

P = ParamSpec("P")
Result = TypeVar("Result")
Self_ = TypeVar("Self_", bound="Derived")


def one_at_a_time(
    verb: Callable[Concatenate[Self_, P], Result],
) -> Callable[Concatenate[Self_, P], Result]:
    """Let no other thread change the arrays that a call reads, nor read those it changes."""

    @wraps(verb)
    def alone(self: Self_, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call it while the estimator is held."""
        with self._alone():
            return verb(self, *args, **kwargs)

    return alone


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
    temperature: float
    seed: int

    @property
    def _kind(self) -> ValueKind:
        return "label"

    def _check_options(self) -> None:
        check_options(self)

    def _check_targets(self, X: Any, y: Any) -> NDArray[Any]:
        return check_labels(self, X, y)

    def _alone(self) -> RLock:
        """A lock of this estimator; copies get one of their own."""
        lock: RLock = self.__dict__.setdefault("_lock", RLock())
        return lock

    # -- the derived state ---------------------------------------------------------------------

    @one_at_a_time
    def _current(self) -> State:
        """The state of the rows as they are now; built again if anything else changed them."""
        options, memory = check_options(self), self._recall()
        kept = self.__dict__.get("_kept")
        # The version first: rows that come in between are noticed the next time.
        moment = self._moment(options, memory)
        if kept is not None and kept[0] == moment:
            state: State = kept[1]
            return state
        parts = read_parts(memory, self._given_names(), memory.dim)
        self._check_agreement(parts)
        require_room(len(parts.classes), options.length, memory.dim)
        state = State(parts, options, self._learned(parts, options))
        self._kept = (moment, state)
        return state

    def _stamp(self, state: State) -> None:
        """Keep a state that has followed a write of our own, unless others wrote beside it."""
        moment = self._kept[0]
        assert moment is not None
        memory, version, *others = moment
        own = (memory, version + 1, *others)
        self._kept = (own if own == self._moment(state.options, self.memory_) else None, state)

    def _moment(self, options: Options, memory: Memory) -> tuple[Any, ...]:
        names = tuple(id(each) for each in (self.text_features, self.class_names, self.prompts))
        return memory, memory.version, options, names, self._offsets_key()

    _kept: tuple[tuple[Any, ...] | None, State]

    def _offsets_key(self) -> Any:
        return self.offsets if isinstance(self.offsets, Training | None) else id(self.offsets)

    def _learned(self, parts: Parts, options: Options) -> Offsets | None:
        """The offsets that were given, or those that these shots teach."""
        offsets = self.offsets
        if isinstance(offsets, Training):
            if not len(parts.shots):
                return None
            told = channels_of(parts, options.channels, options.balance)
            lesson = lesson_of(parts, told)
            key = (offsets, options.beta, options.scale, lesson.digest())
            kept = self.__dict__.get("_trained")
            if kept is None or kept[0] != key:
                self._trained = (
                    key,
                    train_offsets(lesson, offsets, beta=options.beta, scale=options.scale)[0],
                )
            return self._trained[1]
        self._require_offsets(len(parts.classes), parts.shots.shape[1])
        return offsets

    def _learned_from(self, x: Floats, codes: Codes, state: State, how: Training) -> Offsets:
        """What other pictures of these classes teach, asked of names and shots as they are."""
        lesson = lesson_with(lesson_of(state.parts, state.bank.channels), x, codes)
        options = state.options
        return train_offsets(lesson, how, beta=options.beta, scale=options.scale)[0]

    def _require_offsets(self, classes: int, dim: int) -> None:
        """Refuse, before they are written, classes that the settings have no place for."""
        options = check_options(self)
        require_room(classes, options.length, dim)
        require_channels(options.channels, dim)
        if isinstance(self.offsets, Training):
            require_torch()
        if isinstance(self.offsets, Offsets) and self.offsets.shape != (classes, dim):
            raise DimensionMismatch(
                "the offsets belong to other classes",
                expected=f"offsets for {classes} classes of width {dim}",
                got=str(self.offsets.shape),
                remedy="Learn them again: offsets=Training().",
            )

    def _given_names(self) -> Names | None:
        """Names with vectors as they were given or are encoded; None if there are none."""
        source = (self.text_features, self.class_names, self.prompts, self.text_encoder)
        # What was given may have been changed in place since.
        content = tuple(map(content_of, source))
        kept = self.__dict__.get("_named")
        if kept is not None and kept[1] == content:
            found: Names | None = kept[2]
            return found
        if self.text_features is not None:
            names: Names | None = check_names(self.text_features, self.class_names)
        elif self.class_names is not None:
            labels = check_class_names(self.class_names)
            names = Names(labels, embed_names(labels, self.prompts, self._text_encoder()))
        else:
            names = None
        self._named = source, content, names
        return names

    def _text_encoder(self) -> Any:
        encoder = self.text_encoder if self.text_encoder is not None else text_side(self.encoder)
        if encoder is None:
            raise InvalidParameter(
                "names alone cannot be compared with pictures",
                expected="text_features, or a text encoder",
                got="neither",
                remedy="Pass text_features=, text_encoder=, --text-encoder, or an encoder of CLIP.",
            )
        check_pair(encoder, self.encoder)
        return encoder

    def _check_agreement(self, parts: Parts) -> None:
        """Refuse names and text features that are not those in the memory.

        The memory may hold more: names that were added later.
        """
        names = self._given_names()
        if names is None or parts.text is None or self._agreed():
            return
        check_width(names, parts.text.shape[1])
        stored = dict(zip(parts.classes, parts.text, strict=True))
        given = dict(zip(names.labels, unit(names.vectors), strict=True))
        missing = [each for each in given if each not in stored]
        if missing:
            raise InvalidLabel(
                "the memory holds other names",
                expected=f"names that it was taught, such as {parts.classes[0]!r}",
                got=f"{missing[0]!r}, which is not there",
                remedy="Leave names and text_features out, or teach anew with fit.",
            )
        other = [each for each in given if (given[each] != stored[each]).any()]
        if other:
            raise InvalidParameter(
                "the memory holds other text features",
                expected="those it was taught with",
                got=f"others for {other[0]!r}",
                remedy="Leave text_features out, or teach anew with fit.",
            )
        self._agreement = self._sides()

    def _agreed(self) -> bool:
        """True if these names were in this memory once: what changed since was meant to."""
        found: tuple[Any, ...] | None = self.__dict__.get("_agreement")
        if found is not None and not found:  # it travelled
            found = self._agreement = self._sides()
        return found is not None and all(
            one is other for one, other in zip(found, self._sides(), strict=True)
        )

    def _sides(self) -> tuple[Any, ...]:
        return self.memory, self.text_features, self.class_names, self.prompts, self.text_encoder

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if self._agreed():
            state["_agreement"] = ()
        for derived in ("_kept", "_named", "_trained", "_own", "_lock"):
            state.pop(derived, None)
        return state
