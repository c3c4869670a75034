"""The slots of all classes as arrays that are read fast: derived from rows, never the truth.

A class's slots lie side by side: its text vector, its shots, then its dynamic slots. So one matrix
product serves the static read-out, which reads the first two, and the dynamic one, which reads
all. Classes with like numbers of shots share one array, so that a class of many shots does not
blow up the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recollect.errors import InvalidParameter
from recollect.heads.dual_memory.offsets import Offsets
from recollect.readout.attention import (
    attention,
    cosines,
    gram,
    mapped,
    on_grid,
    slot_weights,
    softmax,
    unit,
)
from recollect.types import Codes, Doubles, Floats, Ids, Mask

# Slots, and queries, that are worked on at once; which ones share a block changes no bit.
SLOTS, QUERIES = 2048, 128


@dataclass(frozen=True, slots=True)
class Queries:
    """Pictures that are asked about, as the read-out needs them.

    Attributes:
        x: float32 ``(queries, dim)``, of length 1.
        moved: The same with the query offset, of length 1; the same array without one.
        told: The same with zeros in the channels that the static memory leaves out; the same array
            where it leaves out none.
    """

    x: Floats
    moved: Floats
    told: Floats

    def __len__(self) -> int:
        return len(self.x)

    def part(self, start: int, stop: int) -> Queries:
        """Return some of them."""
        x = self.x[start:stop]
        moved, told = (
            x if each is self.x else each[start:stop] for each in (self.moved, self.told)
        )
        return Queries(x, moved, told)

    def blocks(self, size: int) -> Iterator[tuple[slice, Queries]]:
        """Yield some hundred at a time, and where they stand."""
        for start in range(0, len(self), size):
            yield slice(start, start + size), self.part(start, start + size)


@dataclass(slots=True)
class Group:
    """Classes with like numbers of static slots.

    Attributes:
        codes: int64 ``(classes,)``: which classes.
        first: Place of the first dynamic slot; the static slots before it may be empty.
        keys: float32 ``(classes, slots, dim)``.
        values: The same, or the same array without offsets.
        among: float32 ``(classes, slots (slots + 1) / 2)``: products of the values, each pair once.
        pairs: int64 ``(slots, slots)``: where the product of two slots stands in a row of it.
        filled: bool ``(classes, slots)``.
        trust: float32 ``(classes, slots)``.
        ids: int64 ``(classes, slots)``: row ids, -1 where empty or where no row is behind it.
    """

    codes: Codes
    first: int
    keys: Floats
    values: Floats
    among: Floats
    pairs: Ids
    filled: Mask
    trust: Floats
    ids: Ids

    @property
    def used(self) -> int:
        """Places up to the last that is filled in any class."""
        return int(np.flatnonzero(self.filled.any(axis=0))[-1]) + 1 if self.filled.any() else 0


@dataclass(frozen=True, slots=True)
class Slice:
    """The filled slots of one class as one picture sees them.

    Attributes:
        ids: int64 ``(slots,)``: rows, -1 where none is behind a slot.
        similarity: float64 ``(slots,)``: cosine of query and key.
        toward: float64 ``(slots,)``: cosine of picture and value.
        told: float64 ``(slots,)``: the same in the channels that the static memory is read in.
        static: float64 ``(slots,)``: weights in the static read-out, 0 for dynamic slots.
        dynamic: float64 ``(slots,)``: weights in the dynamic read-out.
    """

    ids: Ids
    similarity: Doubles
    toward: Doubles
    told: Doubles
    static: Doubles
    dynamic: Doubles


class Bank:
    """Text, shots and dynamic slots of all classes.

    Args:
        text: float32 ``(classes, dim)`` of length 1, or None.
        text_ids: int64 ``(classes,)``: rows of the text vectors, -1 where there is none.
        shots: float32 ``(shots, dim)`` of length 1.
        codes: int64 ``(shots,)``: their classes.
        ids: int64 ``(shots,)``: their rows.
        length: Dynamic slots of each class.
        offsets: Learned offsets, or None.
        trusting: True if dynamic slots are trusted unequally.
        channels: bool ``(dim,)``: channels in which the static memory meets the picture; None is
            all of them.
    """

    def __init__(
        self,
        text: Floats | None,
        text_ids: Ids,
        shots: Floats,
        codes: Codes,
        ids: Ids,
        *,
        length: int,
        offsets: Offsets | None = None,
        trusting: bool = False,
        channels: Mask | None = None,
    ) -> None:
        self.classes, self.dim, self.length = len(text_ids), shots.shape[1], length
        self.shots = np.bincount(codes, minlength=self.classes)
        self.offsets, self._trusting, self.channels = offsets, trusting, channels
        self._apart = offsets is not None and (offsets.acts("key") or offsets.acts("value"))
        self.text = text
        self._text = text
        if text is not None and offsets is not None and offsets.acts("text"):
            self._text = unit(offsets.moved("text", text))
        self.groups = [
            self._new_group(members, text, text_ids, shots, codes, ids)
            for members in _like_counts(self.shots + (text is not None))
        ]
        if text is not None and len(self.groups) == 1 and text is self._text and not self._apart:
            # The first slots are the text vectors: there is no need to hold them twice.
            self.text = self._text = self.groups[0].keys[:, 0]
        self._home = np.empty((self.classes, 2), np.int64)
        for number, group in enumerate(self.groups):
            self._home[group.codes, 0] = number
            self._home[group.codes, 1] = np.arange(len(group.codes))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = [
            each
            for group in self.groups
            for each in (
                group.keys,
                group.values,
                group.among,
                group.filled,
                group.trust,
                group.ids,
            )
        ]
        arrays += [
            each for each in (self.text, self._text) if each is not None and each.base is None
        ]
        return sum(each.nbytes for each in {id(each): each for each in arrays}.values())

    # -- writing -------------------------------------------------------------------------------

    def put(self, code: int, slot: int, x: Floats, row: int, trust: float = 1.0) -> None:
        """Write one vector of length 1 into a dynamic slot."""
        group, place = self._find(code)
        at = group.first + slot
        self._fill(group, np.array([place]), np.array([at]), x[None], np.array([row]))
        if self._trusting:
            group.trust[place, at] = trust
        used = group.used
        values = group.values[place, :used]
        products = on_grid(cosines(group.values[place, at][None], values)[0])
        group.among[place, group.pairs[at, :used]] = products

    def refill(self, code: int, xs: Floats, rows: Ids, trust: Floats) -> None:
        """Set all dynamic slots of a class: the first ``len(rows)`` are filled, the others not."""
        group, place = self._find(code)
        start, stop = group.first, group.first + len(rows)
        for arrays in (group.keys, group.values):
            arrays[place, start:] = 0
        group.filled[place, start:] = False
        group.ids[place, start:] = -1
        if len(rows):
            at = np.arange(start, stop)
            self._fill(group, np.full(len(rows), place), at, xs, rows)
            if self._trusting:
                group.trust[place, start:stop] = trust
        products = gram(group.values[place : place + 1, :stop])[0]
        group.among[place, group.pairs[:stop, :stop]] = products

    def _find(self, code: int) -> tuple[Group, int]:
        number, place = self._home[code]
        return self.groups[number], int(place)

    def _fill(self, group: Group, places: Codes, at: Codes, xs: Floats, rows: Ids) -> None:
        """Write vectors and their moved copies; the Gram matrix follows later."""
        group.filled[places, at], group.ids[places, at] = True, rows
        group.keys[places, at] = self._moved("key", xs, group.codes[places])
        if group.values is not group.keys:
            group.values[places, at] = self._moved("value", xs, group.codes[places])

    def _moved(self, role: str, xs: Floats, codes: Codes) -> Floats:
        if self.offsets is None or not self.offsets.acts(role):
            return xs
        assert self.offsets.maps is not None
        maps = self.offsets.maps
        along = mapped(xs, maps[role]) if role in maps else 0.0
        return unit(xs + along + getattr(self.offsets, role)[codes])

    def _new_group(
        self, members: Codes, text: Floats | None, text_ids: Ids, shots: Floats, codes: Codes,
        ids: Ids,
    ) -> Group:  # fmt: skip
        lead = int(text is not None)
        first = lead + int(self.shots[members].max(initial=0))
        shape = (len(members), first + self.length)
        keys = np.zeros((*shape, self.dim), np.float32)
        group = Group(
            members, first, keys, np.zeros_like(keys) if self._apart else keys,
            np.zeros((shape[0], shape[1] * (shape[1] + 1) // 2), np.float32), _pairs(shape[1]),
            np.zeros(shape, np.bool_), np.ones(shape if self._trusting else (1, 1), np.float32),
            np.full(shape, -1, np.int64),
        )  # fmt: skip
        if text is not None:
            everyone = np.arange(len(members))
            self._fill(group, everyone, np.zeros_like(everyone), text[members], text_ids[members])
        place_of = np.full(self.classes, -1, np.int64)
        place_of[members] = np.arange(len(members))
        mine = np.flatnonzero(place_of[codes] >= 0)
        mine = mine[np.argsort(codes[mine], kind="stable")]
        if len(mine):
            rank = np.arange(len(mine)) - np.searchsorted(codes[mine], codes[mine])
            self._fill(group, place_of[codes[mine]], lead + rank, shots[mine], ids[mine])
        group.among[:, group.pairs[:first, :first]] = gram(group.values[:, :first])
        return group

    # -- reading -------------------------------------------------------------------------------

    def queries(self, x: Floats) -> Queries:
        """Prepare vectors of length 1 for the read-out."""
        # Zeros instead of numbers on the grid: products and sums stay exact.
        told = x if self.channels is None else x * self.channels
        if self.offsets is None or not self.offsets.acts("query"):
            return Queries(x, x, told)
        return Queries(x, unit(self.offsets.moved("query", x)), told)

    def text_probability(self, x: Floats, scale: float) -> Doubles | None:
        """Probabilities of the text alone, ``(queries, classes)``; None without text."""
        return None if self._text is None else softmax(scale * cosines(x, self._text))

    def scores(
        self, queries: Queries, beta: float, *, static: bool = True, dynamic: bool = True
    ) -> tuple[Doubles | None, Doubles | None]:
        """Read both memories: cosines of x and each class's vector, ``(queries, classes)``."""
        found = [
            np.zeros((len(queries), self.classes)) if wanted else None
            for wanted in (static, dynamic)
        ]
        for group in self.groups:
            places = np.arange(len(group.codes))
            step = max(1, SLOTS // max(1, group.used))
            for start in range(0, len(places), step):
                chosen = places[start : start + step]
                for where, some in queries.blocks(QUERIES):
                    parts = self._read(group, chosen, some, beta, static=static, dynamic=dynamic)
                    for table, part in zip(found, parts, strict=True):
                        if table is not None and part is not None:
                            table[where, group.codes[chosen]] = part.T
        return found[0], found[1]

    def dynamic_of(
        self, code: int, queries: Queries, beta: float, without: int | None = None
    ) -> Doubles:
        """Read the dynamic memory of one class, float64 ``(queries,)``, as if a slot were empty."""
        group, place = self._find(code)
        hidden = None if without is None else group.first + without
        chosen = np.array([place])
        _, part = self._read(
            group, chosen, queries, beta, static=False, dynamic=True, hidden=hidden
        )
        assert part is not None
        return np.asarray(part[0])

    def slots_of(self, code: int, query: Queries, beta: float) -> Slice:
        """Return the filled slots of one class, for one picture."""
        group, place = self._find(code)
        used, chosen = group.used, np.array([place])
        similarity, toward = self._products(group, chosen, query, used)
        told = toward if query.told is query.x else self._along(query.told, group, chosen, used)
        filled = group.filled[chosen, :used]
        trust = group.trust[chosen, :used] if self._trusting else None
        dynamic = slot_weights(similarity, filled, beta=beta, trust=trust)[0, 0]
        static = np.zeros_like(dynamic)
        lead = similarity[..., : group.first]
        static[: group.first] = slot_weights(lead, filled[:, : group.first], beta=beta)[0, 0]
        there = filled[0]
        near, along, own = (
            each[0, 0, there].astype(np.float64) for each in (similarity, toward, told)
        )
        return Slice(
            group.ids[place, :used][there], near, along, own, static[there], dynamic[there]
        )

    def _read(
        self, group: Group, chosen: Codes, queries: Queries, beta: float, *, static: bool,
        dynamic: bool, hidden: int | None = None,
    ) -> tuple[Doubles | None, Doubles | None]:  # fmt: skip
        used = group.used if dynamic else group.first
        similarity, toward = self._products(group, chosen, queries, used)
        filled = group.filled[chosen, :used]
        among = group.among[chosen][:, group.pairs[:used, :used]]
        if hidden is not None and hidden < used:
            filled[:, hidden] = False

        def read(stop: int, x: Floats, toward: Floats) -> Doubles:
            """Read the first slots, and compare what is read with x."""
            trust = group.trust[chosen, :stop] if self._trusting and stop > group.first else None
            near = similarity[..., :stop]
            return attention(
                near,
                near if toward is similarity else toward[..., :stop],
                among[:, :stop, :stop],
                filled[:, :stop],
                beta=beta,
                trust=trust,
                output=self._output(group, chosen, x, stop),
            )

        own = None
        if static:
            some = queries.told is not queries.x
            told = self._along(queries.told, group, chosen, group.first) if some else toward
            own = read(group.first, queries.told, told)
        return own, read(used, queries.x, toward) if dynamic else None

    def _products(
        self, group: Group, chosen: Codes, queries: Queries, used: int
    ) -> tuple[Floats, Floats]:
        """Cosines of queries and keys, and of pictures and values, ``(classes, queries, slots)``.

        float32: what was exact is rounded once.
        """
        similarity = self._shaped(queries.moved, group.keys, chosen, used)
        if group.values is group.keys and queries.moved is queries.x:
            return similarity, similarity
        return similarity, self._along(queries.x, group, chosen, used)

    def _along(self, x: Floats, group: Group, chosen: Codes, used: int) -> Floats:
        return self._shaped(x, group.values, chosen, used)

    def _shaped(self, x: Floats, slots: Floats, chosen: Codes, used: int) -> Floats:
        """Cosines with the slots of the chosen classes, one block a class."""
        flat = slots[chosen, :used].reshape(-1, self.dim)
        near = cosines(x, flat).reshape(len(x), len(chosen), used)
        return np.ascontiguousarray(near.transpose(1, 0, 2), np.float32)

    def _output(
        self, group: Group, chosen: Codes, x: Floats, used: int
    ) -> tuple[Doubles, Doubles, Doubles] | None:
        if self.offsets is None or not self.offsets.acts("output"):
            return None
        offset = self.offsets.output[group.codes[chosen]]
        values = group.values[chosen, :used].astype(np.float64)
        slots = np.add.reduce(values * offset[:, None, :], axis=-1)
        size = np.add.reduce(offset * offset, axis=-1)
        own = np.empty((len(chosen), len(x)))
        for row, vector in enumerate(offset):
            own[row] = np.add.reduce(x * vector, axis=-1)
        return slots, size, own


def require_room(classes: int, length: int, dim: int) -> None:
    """Refuse dynamic slots for which the machine has no memory.

    Raises:
        InvalidParameter: There is none.
    """
    size = 4 * classes * length * (dim + (length + 1) // 2)
    try:
        np.empty(size, np.uint8)
    except (MemoryError, ValueError) as error:
        raise InvalidParameter(
            "there is no room for so many slots",
            expected="a memory_length that fits into the machine's memory",
            got=f"{length} slots for each of {classes} classes, {size / 1e9:,.0f} GB",
            remedy="Pass a smaller memory_length.",
        ) from error


def _pairs(slots: int) -> Ids:
    """Number the pairs of slots, in either order, from 0."""
    place = np.arange(slots)
    larger, smaller = np.maximum.outer(place, place), np.minimum.outer(place, place)
    return np.asarray(larger * (larger + 1) // 2 + smaller)


def _like_counts(counts: Codes) -> list[Codes]:
    """Split classes so that within a part the largest count is at most twice the smallest."""
    level = np.ceil(np.log2(np.maximum(counts, 1))).astype(np.int64)
    if counts.max(initial=0) <= 2 * max(int(counts.min(initial=1)), 1) or counts.max() <= 8:
        level[:] = 0
    return [np.flatnonzero(level == each) for each in np.unique(level)]
