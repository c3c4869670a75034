"""Train the offsets of a dual memory on cached features, in torch (section 3.4 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter, MissingExtra
from recollect.heads.dual_memory.offsets import MAPPED, ROLES, Offsets
from recollect.heads.dual_memory.parts import Parts
from recollect.heads.dual_memory.ranges import (
    INT64,
    require_choice,
    require_flag,
    require_number,
    require_whole,
)
from recollect.readout.attention import POSITIONS, SCALE, Position
from recollect.types import Codes, Mask

if TYPE_CHECKING:
    import torch


_TINY = 1e-30  # below any length that is not zero
_KEPT = 2**26  # products of shots and slots, half a gigabyte


@dataclass(frozen=True, slots=True)
class Training:
    """How offsets are trained; checked when made. Defaults are those of the released code.

    Args:
        position: Which offsets act and are trained.
        epochs: Passes over the shots.
        rate: Learning rate of AdamW, at most 1, falling by a cosine to 1e-7.
        batch: Shots in a step.
        weight_decay: Of AdamW, at most 1.
        epsilon: Of AdamW, from 1e-15 to 1.
        leave_one_out: Mask each shot's own slot while it is the query. Without it every shot finds
            itself at cosine 1: at a scale of 100 the static logits have hardly anything left to
            learn, and little but the text's offset moves. The released code asks crops of the
            shots instead, which :meth:`DualMemoryClassifier.learn_offsets` does.
        affine: Learn a residual linear map for query, key and value too, as the paper writes.
        tied: One offset for query, key and value, and one for output and text.
        precision: Of the arithmetic; float32 takes half the time.
        seed: Of the order of the shots.

    Raises:
        InvalidParameter: One of them is out of range.
    """

    position: Position = "all"
    epochs: int = 20
    rate: float = 1e-4
    batch: int = 128
    weight_decay: float = 1e-4
    epsilon: float = 1e-8
    leave_one_out: bool = False
    affine: bool = False
    tied: bool = False
    precision: Literal["float64", "float32"] = "float64"
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("position", self.position, POSITIONS)
        require_choice("precision", self.precision, ("float64", "float32"))
        if self.position == "none":
            raise InvalidParameter(
                "there is nothing to train", expected="a position other than 'none'", got="none",
                remedy="Leave offsets at None to have none.",
            )  # fmt: skip
        require_whole("epochs", self.epochs, 1)
        require_whole("batch", self.batch, 1)
        require_whole("seed", self.seed, 0, INT64.max)
        # Within these bounds no step of AdamW, nor the decay of a step, leaves the finite numbers.
        require_number("rate", self.rate, 0.0, 1.0)
        require_number("weight_decay", self.weight_decay, 0.0, 1.0)
        require_number("epsilon", self.epsilon, 1e-15, 1.0)
        for name in ("leave_one_out", "affine", "tied"):
            require_flag(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class Lesson:
    """What offsets are trained on.

    Attributes:
        features: ``(shots, dim)``: queries, of length 1.
        codes: int64 ``(shots,)``: their classes.
        text: ``(classes, dim)`` of length 1, or None.
        memory: ``(classes, slots, dim)``: the static block, of length 1; zeros where empty.
        filled: bool ``(classes, slots)``.
        own: int64 ``(shots,)``: the slot in which each shot lies itself, -1 for none.
        channels: bool ``(dim,)``: those in which the static block meets the queries; None is all.
    """

    features: NDArray[Any]
    codes: Codes
    text: NDArray[Any] | None
    memory: NDArray[Any]
    filled: Mask
    own: Codes
    channels: Mask | None = None

    def digest(self) -> str:
        """Tell lessons apart."""
        told = np.ones(0, np.bool_) if self.channels is None else self.channels
        arrays = (self.features, self.codes, self.memory, told)
        parts = [sha256(np.ascontiguousarray(each).tobytes()).hexdigest() for each in arrays]
        return ".".join(parts)


def check_askable(training: Training | None) -> Training:
    """Return how offsets are learned from pictures that lie in no slot.

    Raises:
        InvalidParameter: It is no such setting.
    """
    how = Training() if training is None else training
    if not isinstance(how, Training) or how.leave_one_out:
        raise InvalidParameter(
            "training cannot be used here",
            expected="Training(...) that leaves nothing out",
            got=f"{how!r:.80}",
            remedy="These pictures lie in no slot; offsets=Training(leave_one_out=True) asks the "
            "shots themselves.",
        )
    return how


def train_offsets(
    lesson: Lesson, how: Training, *, beta: float, scale: float = SCALE
) -> tuple[Offsets, list[float]]:
    """Minimize the cross-entropy of static logits, and of text logits where text offsets act.

    Everything depends on the lesson and the seed alone.

    Args:
        lesson: Shots and the static block.
        how: Settings.
        beta: Sharpness of the read-out.
        scale: Of the logits.

    Returns:
        The offsets, and the loss before each step.

    Raises:
        MissingExtra: torch is not installed.
    """
    torch = require_torch()
    # Also for a caller that asks its own models without gradients.
    with torch.inference_mode(mode=False), torch.enable_grad():
        return _trained(torch, lesson, how, beta, scale)


def _trained(
    torch: Any, lesson: Lesson, how: Training, beta: float, scale: float
) -> tuple[Offsets, list[float]]:
    model = _Model(torch, lesson, how, beta, scale)
    shots, size = len(lesson.codes), min(how.batch, len(lesson.codes))
    steps = how.epochs * -(-shots // size)
    optimizer = torch.optim.AdamW(
        model.parameters, lr=how.rate, weight_decay=how.weight_decay, eps=how.epsilon
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-7)
    order = np.random.default_rng(how.seed)
    losses = []
    for _ in range(how.epochs):
        shuffled = order.permutation(shots) if size < shots else np.arange(shots)
        for start in range(0, shots, size):
            optimizer.zero_grad()
            loss = model.loss(torch.from_numpy(shuffled[start : start + size]))
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return model.offsets(), losses


def lesson_of(parts: Parts, channels: Mask | None = None) -> Lesson:
    """Lay out the static block of a memory, and the shots as its queries, in these channels."""
    lead = int(parts.text is not None)
    counts = np.bincount(parts.codes, minlength=len(parts.classes))
    order = np.argsort(parts.codes, kind="stable")
    codes = parts.codes[order]
    own = lead + np.arange(len(order)) - np.searchsorted(codes, codes)
    slots = lead + int(counts.max(initial=0))
    memory = np.zeros((len(parts.classes), slots, parts.shots.shape[1]))
    if parts.text is not None:
        memory[:, 0] = parts.text
    memory[codes, own] = parts.shots[order]
    filled = np.arange(slots) < lead + counts[:, None]
    return Lesson(parts.shots[order], codes, parts.text, memory, filled, own, channels)


def lesson_with(lesson: Lesson, features: NDArray[Any], codes: Codes) -> Lesson:
    """The same static block, asked about other pictures, none of which lies in it itself."""
    return replace(lesson, features=features, codes=codes, own=np.full(len(codes), -1))


@dataclass(frozen=True, slots=True)
class _Slots:
    """Slots of which only products are needed: an offset is added to these, not to the vectors.

    Attributes:
        base: ``(classes, slots, dim)``: before the offset; it stays as it is unless maps are
            learned, so that nothing has to be differentiated through the whole block.
        gram: ``(classes, slots, slots)``: its products.
        offset: ``(classes, dim)``.
        along: ``(classes, slots)``: products of both.
        size: ``(classes,)``: of the offset with itself.
        length: ``(classes, slots)``: of the sum.
    """

    base: Any
    gram: Any
    offset: Any
    along: Any
    size: Any
    length: Any

    def among(self) -> Any:
        """Cosines of the slots of each class with each other."""
        sums = self.gram + self.along[:, :, None] + self.along[:, None, :]
        sums = sums + self.size[:, None, None]
        return sums / (self.length[:, :, None] * self.length[:, None, :])


class _Model:
    """The read-out of the static block in torch, with offsets that can be learned."""

    def __init__(
        self, library: Any, lesson: Lesson, how: Training, beta: float, scale: float
    ) -> None:
        self._torch, self._how, self._beta, self._scale = library, how, beta, scale
        self._dtype = getattr(library, how.precision)
        self._x = self._tensor(lesson.features)
        told = lesson.features if lesson.channels is None else lesson.features * lesson.channels
        self._told = self._tensor(told)
        self._codes = library.from_numpy(np.asarray(lesson.codes, np.int64))
        self._text = None if lesson.text is None else self._tensor(lesson.text)
        self._memory = self._tensor(lesson.memory)
        self._gram = self._memory @ self._memory.transpose(1, 2)
        self._filled = library.from_numpy(np.asarray(lesson.filled))
        self._own = library.from_numpy(np.asarray(lesson.own, np.int64))
        classes, _, dim = lesson.memory.shape
        self._still = self._memory.new_zeros(classes, dim)
        self._roles = self._make_roles(classes, dim)
        nothing = np.zeros((1, 1))
        self._acting = Offsets(nothing, nothing, nothing, nothing, nothing, how.position)
        mapped = [role for role in MAPPED if how.affine and self._acting.acts(role)]
        self._maps = {role: self._zeros(dim, dim) for role in mapped}
        trained = [self._roles[role] for role in ROLES if self._acting.acts(role)]
        # What stays as it is need not be multiplied in every step, if there is room for it.
        self._near = self._told_near = None
        if not mapped and len(lesson.features) * lesson.filled.size <= _KEPT:
            self._near = self._products(self._x, self._memory)
            self._told_near = self._near
            if lesson.channels is not None:
                self._told_near = self._products(self._told, self._memory)
        # Of tied offsets each is named once.
        unique = {id(each): each for each in (*trained, *self._maps.values())}
        self.parameters = list(unique.values())

    def loss(self, chosen: torch.Tensor) -> Any:
        """Cross-entropy of some shots."""
        entropy = self._torch.nn.functional.cross_entropy
        truth = self._codes[chosen]
        total = entropy(self._static(chosen), truth)
        if self._acting.acts("text") and self._text is not None:
            total = total + entropy(self._text_logits(chosen), truth)
        return total

    def offsets(self) -> Offsets:
        """What was learned so far, copied out of torch."""
        arrays = {role: self._roles[role].detach().numpy().copy() for role in ROLES}
        maps = {role: each.detach().numpy().copy() for role, each in self._maps.items()}
        return Offsets(**arrays, position=self._how.position, maps=maps)

    def _static(self, chosen: Any) -> Any:
        x = self._told[chosen]
        keys, values = self._slots("key"), self._slots("value")
        weights = self._torch.exp(-self._beta * (1 - self._asked(chosen, keys)))
        weights = weights * self._seen(chosen)
        # The class vectors, (shots, classes, dim), are never formed: what is needed of them are
        # products with the picture, with the offset, and with themselves.
        through = self._torch.einsum("bcn,cnm->bcm", weights, values.among())
        length = (through * weights).sum(dim=-1).clamp_min(_TINY).sqrt()
        along = self._along(x, values, self._told_near, chosen) / values.length
        score = (weights * along).sum(dim=-1) / length
        if self._acting.acts("output"):
            offset = self._roles["output"]
            own = (values.offset * offset).sum(dim=-1)
            slots = self._torch.einsum("cnd,cd->cn", values.base, offset) + own[:, None]
            slots = slots / values.length
            along = self._torch.einsum("bcn,cn->bc", weights, slots) / length
            longer = (1 + 2 * along + (offset * offset).sum(dim=-1)).clamp_min(_TINY).sqrt()
            score = (score + x @ offset.T) / longer
        return self._scale * score

    def _slots(self, role: str) -> _Slots:
        """The static block as keys or values, without adding the offset to each slot."""
        base, gram = self._memory, self._gram
        if role in self._maps:
            base = base + base @ self._maps[role]
            gram = base @ base.transpose(1, 2)
        offset = self._roles[role] if self._acting.acts(role) else self._still
        along = self._torch.einsum("cnd,cd->cn", base, offset)
        size = (offset * offset).sum(dim=-1)
        squares = gram.diagonal(dim1=1, dim2=2) + 2 * along + size[:, None]
        return _Slots(base, gram, offset, along, size, squares.clamp_min(_TINY).sqrt())

    def _asked(self, chosen: Any, keys: _Slots) -> Any:
        """Cosines of queries and keys, (shots, classes, slots)."""
        x = self._x[chosen]
        if "query" in self._maps:
            x = x + x @ self._maps["query"]
        shift = self._roles["query"].mean(dim=0, keepdim=True)
        if not self._acting.acts("query"):
            shift = self._still[:1]
        length = (x + shift).norm(dim=-1).clamp_min(_TINY)[:, None, None]
        # Products with x and with the offset, not with their sum: those with x do not change.
        near = self._along(x, keys, self._near, chosen) + self._along(shift, keys)
        return near / length / keys.length

    def _along(self, x: Any, slots: _Slots, kept: Any = None, chosen: Any = None) -> Any:
        """Products of x and each slot, (rows, classes, slots)."""
        products = self._products(x, slots.base) if kept is None else kept[chosen]
        return products + (x @ slots.offset.T)[:, :, None]

    def _products(self, x: Any, base: Any) -> Any:
        return (x @ base.flatten(0, 1).T).unflatten(1, base.shape[:2])

    def _text_logits(self, chosen: Any) -> Any:
        x = self._x[chosen]
        return self._scale * x @ self._unit(self._text + self._roles["text"]).T

    def _seen(self, chosen: Any) -> Any:
        """Which slots each query may read, (shots, classes, slots)."""
        seen = self._filled[None].expand(len(chosen), -1, -1)
        if not self._how.leave_one_out:
            return seen
        own, seen = self._own[chosen], seen.clone()
        rows = self._torch.arange(len(chosen))[own >= 0]
        seen[rows, self._codes[chosen][own >= 0], own[own >= 0]] = False
        return seen

    def _make_roles(self, classes: int, dim: int) -> dict[str, Any]:
        if not self._how.tied:
            return {role: self._zeros(classes, dim) for role in ROLES}
        inner, outer = self._zeros(classes, dim), self._zeros(classes, dim)
        return {role: inner if role in MAPPED else outer for role in ROLES}

    def _zeros(self, *shape: int) -> Any:
        return self._torch.zeros(*shape, dtype=self._dtype, requires_grad=True)

    def _unit(self, vectors: Any) -> Any:
        return self._torch.nn.functional.normalize(vectors, dim=-1)

    def _tensor(self, values: NDArray[Any]) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(values, self._how.precision))


def require_torch() -> Any:
    """Return torch.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import torch
    except ImportError as missing:
        raise MissingExtra(
            "offsets are trained in torch, which is not installed",
            remedy="pip install 'recollect[torch]'",
        ) from missing
    return torch
