"""How a row keeps what the base said of it: all logits, or the few that matter.

Logits are kept, not residuals, so that the temperature may change afterwards. Of many classes only
the largest logits are kept, with the logarithm of the sum of all exponentials at each temperature
of a ladder: the probabilities of the kept classes are exact at these temperatures, and the mass of
the others is the bound on what leaving them out can change.

The largest logit is the zero the others are counted from, so it is not written; and of up to 4,096
classes two share a number, as float32 counts without gaps up to 2^24.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import CorruptMemory, InvalidParameter
from recollect.readout.kernel import soften
from recollect.types import Codes, Doubles, Floats, Ids

LADDER = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 8.0, 12.0)
ALL_UP_TO = 256
ENTRIES = 16
# How few logits are written: 1 wrote every logit and gave every class a number of its own.
FORM = 2
_PAIRED_UP_TO = 1 << 12
# Logits worked on at a time: 1 MiB, about a core's second-level cache.
_CELLS = 1 << 18
_GROUP = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands in the value of a row.

    Attributes:
        classes: Number of classes of the base.
        entries: How many logits are kept; None keeps all, 0 none, only the label.
        form: In which they are written; says nothing where all or none are kept.
    """

    classes: int
    entries: int | None
    form: int = FORM

    @property
    def width(self) -> int | None:
        """Width of the vector, or None where the value is the label."""
        if self.entries is None:
            return self.classes
        if not self.entries:
            return None
        columns = -(-self.entries // 2) if self._paired else self.entries
        return len(LADDER) + self.entries - self._implied + columns

    @property
    def _implied(self) -> int:
        """How many logits are not written. A single one may be that of the true class."""
        return int(self.form > 1 and (self.entries or 0) > 1)

    @property
    def _paired(self) -> bool:
        return self.form > 1 and self.classes <= _PAIRED_UP_TO

    def check_temperature(self, temperature: float) -> None:
        """Refuse a temperature at which the kept logits say nothing exact.

        Raises:
            InvalidParameter: Not on the ladder, while only some logits are kept.
        """
        if self.entries and temperature not in LADDER:
            raise InvalidParameter(
                "the rows keep their largest logits only, which suffice at some temperatures",
                expected=f"one of {', '.join(map(str, LADDER))}",
                got=temperature,
                remedy="Take one of these, or keep all logits with entries=None.",
            )

    def pack(self, logits: NDArray[Any], codes: Codes) -> Floats:
        """Write logits as vectors.

        Args:
            logits: ``(n, classes)``, finite as float32.
            codes: int64 ``(n,)``: the true class, kept in any case; -1 if the base has no such.

        Returns:
            float32 ``(n, width)``.
        """
        if self.entries is None:
            return logits.astype(np.float32)
        assert self.entries
        packed = np.empty((len(logits), int(self.width or 0)), np.float32)
        step = max(1, _CELLS // logits.shape[1])
        for start in range(0, len(logits), step):
            part = slice(start, start + step)
            self._pack_some(np.asarray(logits[part], np.float32), codes[part], packed[part])
        return packed

    def _pack_some(self, logits: Floats, codes: Codes, packed: Floats) -> None:
        assert self.entries
        start, middle = len(LADDER), len(LADDER) + self.entries - self._implied
        kept = largest(logits, codes, self.entries)
        logits = logits - logits.max(axis=1, keepdims=True)
        room = np.empty_like(logits)
        for place, temperature in enumerate(LADDER):
            np.multiply(logits, np.float32(1.0 / temperature), out=room)
            np.exp(room, out=room)
            packed[:, place] = np.log(room.sum(axis=1))
        packed[:, start:middle] = np.take_along_axis(logits, kept[:, self._implied :], axis=1)
        packed[:, middle:] = self._joined(kept) if self._paired else kept

    def _joined(self, columns: Codes) -> Codes:
        """Two columns as one number; behind the last of an odd number stands a 0."""
        even = np.pad(columns, ((0, 0), (0, columns.shape[1] % 2)))
        return even[:, ::2] * self.classes + even[:, 1::2]

    def _parted(self, numbers: Codes) -> Codes:
        """The columns again."""
        pairs = np.stack(np.divmod(numbers, self.classes), axis=2)
        return pairs.reshape(len(numbers), -1)[:, : self.entries]

    def unpack(
        self, vectors: NDArray[Any], temperature: float, ids: Ids
    ) -> tuple[Doubles, Codes | None]:
        """Read probabilities back.

        Args:
            vectors: float32 ``(n, width)``; anybody may have written them.
            temperature: Of the softmax.
            ids: int64 ``(n,)``: whose they are.

        Returns:
            float64 ``(n, classes)`` and None; or float64 ``(n, entries)`` and the class of each.

        Raises:
            CorruptMemory: A row keeps a logit of a class that the base does not have, or
                probabilities that are none; it is named.
        """
        if self.entries is None:
            return soften(vectors, temperature), None
        self.check_temperature(temperature)
        total = vectors[:, LADDER.index(temperature), None].astype(np.float64)
        start, middle = len(LADDER), len(LADDER) + self.entries - self._implied
        exponents = vectors[:, start:middle].astype(np.float64) / temperature
        exponents = np.pad(exponents, ((0, 0), (self._implied, 0)))
        # What float32 rounded off may not push the sum of probabilities above 1.
        with np.errstate(over="ignore", invalid="ignore"):
            shares = np.exp(exponents - total)
            shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1.0)
            columns = vectors[:, middle:].astype(np.int64)
        columns = self._parted(columns) if self._paired else columns
        self._refuse_foreign(shares, columns, ids)
        return shares, columns

    def _refuse_foreign(self, shares: Doubles, columns: Codes, ids: Ids) -> None:
        """A column too large would be written into the scores of the next query."""
        usable = ((columns >= 0) & (columns < self.classes)).all(axis=1)
        usable &= np.isfinite(shares).all(axis=1)
        if not usable.all():
            wrong = int(np.argmin(usable))
            raise CorruptMemory(
                f"row {int(ids[wrong])} does not hold logits as the base gives them",
                expected=f"finite logits of classes 0 to {self.classes - 1}",
                got=f"classes {', '.join(map(str, columns[wrong].tolist()[:8]))}",
                remedy="Forget the row, and teach it through the head.",
            )


def largest(logits: NDArray[Any], codes: Codes, entries: int) -> Codes:
    """Return the columns of the largest logits of each row, the true class among them.

    Example:
        >>> largest(np.array([[0.0, 3.0, 2.0, 1.0]]), np.array([0]), entries=2)
        array([[1, 0]])
    """
    top = _top(logits, entries)
    values = np.take_along_axis(logits, top, axis=1)
    top = np.take_along_axis(top, np.lexsort((top, -values), axis=1), axis=1)
    missing = (codes >= 0) & ~(top == codes[:, None]).any(axis=1)
    top[missing, -1] = codes[missing]
    return np.asarray(top, np.int64)


def _top(logits: NDArray[Any], entries: int) -> Codes:
    """Columns of the largest logits, in no order."""
    rows, width = logits.shape
    if width <= 2 * _GROUP * entries:
        return np.argpartition(-logits, entries - 1, axis=1)[:, :entries]
    # The largest entries lie in the groups with the largest maxima.
    padded = np.full((rows, -(-width // _GROUP) * _GROUP), -np.inf, np.float32)
    padded[:, :width] = logits
    groups = padded.reshape(rows, -1, _GROUP)
    best = np.argpartition(-groups.max(axis=2), entries - 1, axis=1)[:, :entries]
    few = np.take_along_axis(groups, best[:, :, None], axis=1).reshape(rows, -1)
    inside = np.argpartition(-few, entries - 1, axis=1)[:, :entries]
    group = np.take_along_axis(best, inside // _GROUP, axis=1)
    return np.asarray(group * _GROUP + inside % _GROUP)


def choose_entries(given: Any, classes: int) -> int | None:
    """Return how many logits a row keeps: what was asked for, or by the number of classes.

    Raises:
        InvalidParameter: Neither ``"auto"``, None, nor a whole number of 0 or more.
    """
    if isinstance(given, str) and given == "auto":
        return None if classes <= ALL_UP_TO else ENTRIES
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 0:
        raise InvalidParameter(
            "entries is out of range",
            expected="'auto', None for all, or a whole number of 0 or more",
            got=repr(given),
            remedy="'auto' keeps all up to 256 classes, then 16.",
        )
    return None if given >= classes else int(given)
