"""What a recurrent attention model sees and keeps: the sizes that everything else follows from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from recollect.errors import InvalidParameter

# Codes are stored in one byte.
_MOST_BITS = 8
# Sums of so large pixels over the largest image, times the levels, stay far below 2**63.
MOST_PIXEL = 1e9
_RANGES: dict[str, tuple[int, int]] = {
    "side": (1, 255),
    "glimpse": (1, 64),
    "scale": (1, 16),
    "patches": (1, 8),
    "glimpses": (1, 64),
    "state": (1, 1024),
    "classes": (1, 65_535),
    "phi_bits": (0, _MOST_BITS),
    "h_bits": (0, _MOST_BITS),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of glimpses, state and location; the defaults are the published ones.

    Source: Giacomini et al., arXiv 2307.07631, baseline configuration.

    Attributes:
        side: Side of the square images, in pixels (``T``).
        glimpse: Cells along one side of a patch (``g``).
        scale: How much wider each patch is than the one before (``s``).
        patches: Squares per glimpse; patch ``p`` is ``g * s**p`` pixels wide.
        cells: Pixels along one side of a cell, patch by patch, where they do not grow by one
            factor; None for ``s**p``.
        glimpses: Steps per image (``G``).
        state: Numbers in the state (``H``).
        classes: Classes the network tells apart.
        phi_bits: Bits per number of a glimpse; 0 keeps floats.
        h_bits: Bits per number of the state; 0 keeps floats.
        low: Pixel value of the lowest glimpse code.
        high: Pixel value of the highest glimpse code.
        begin: Column and row of the first glimpse; None for the center.

    Example:
        >>> layout = Layout(side=28, classes=10)
        >>> layout.phi, layout.key_bits, layout.value_bits
        (48, 170, 78)
    """

    side: int
    glimpse: int = 4
    scale: int = 4
    patches: int = 3
    glimpses: int = 5
    state: int = 64
    classes: int = 10
    phi_bits: int = 2
    h_bits: int = 1
    low: float = 0.0
    high: float = 255.0
    cells: tuple[int, ...] | None = None
    begin: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise InvalidParameter(
                    f"{name} is out of range",
                    expected=f"a whole number from {least} to {most}",
                    got=repr(value),
                )
        if self.cells is not None and (
            not isinstance(self.cells, tuple | list)
            or len(self.cells) != self.patches
            or any(type(cell) is not int or not 1 <= cell <= 255 for cell in self.cells)
        ):
            raise InvalidParameter(
                "cells do not fit the patches",
                expected=f"{self.patches} whole numbers from 1 to 255",
                got=repr(self.cells),
            )
        if self.begin is not None and not _is_place(self.begin, self.side):
            raise InvalidParameter(
                "no glimpse can begin there", expected=f"two whole numbers from 0 to {self.side}",
                got=f"{self.begin!r:.80}",
            )  # fmt: skip
        _check_range(self.low, self.high)

    @property
    def cell_sides(self) -> tuple[int, ...]:
        """Pixels along one side of a cell, patch by patch."""
        return self.cells or tuple(self.scale**patch for patch in range(self.patches))

    @property
    def phi(self) -> int:
        """Numbers in a glimpse: all patches, one after the other."""
        return self.patches * self.glimpse**2

    @property
    def key_width(self) -> int:
        """Numbers in a key: state, column, row, glimpse."""
        return self.state + 2 + self.phi

    @property
    def value_width(self) -> int:
        """Numbers in a value: next state, next column, next row, class."""
        return self.state + 3

    @property
    def location_bits(self) -> int:
        """Bits of one coordinate, 0 to ``side``."""
        return self.side.bit_length()

    @property
    def key_bits(self) -> int:
        """Bits of a packed key; floats count 32."""
        state = self.state * (self.h_bits or 32)
        return state + 2 * self.location_bits + self.phi * (self.phi_bits or 32)

    @property
    def value_bits(self) -> int:
        """Bits of a packed value; the class takes as few as it can."""
        state = self.state * (self.h_bits or 32)
        return state + 2 * self.location_bits + (self.classes - 1).bit_length()

    @property
    def start(self) -> tuple[int, int]:
        """Column and row of the first glimpse: the center where nothing else is said."""
        return self.begin or (self.side // 2, self.side // 2)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; where glimpses begin only if it is not the center.

        So layouts that know no other beginning keep their fingerprint.
        """
        fields = asdict(self)
        if self.begin is None:
            del fields["begin"]
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Layout:
        """Make a layout from what :meth:`as_dict` returned, possibly through JSON."""
        pairs = {name: fields.get(name) for name in ("cells", "begin")}
        return cls(
            **{**fields, **{n: None if pair is None else tuple(pair) for n, pair in pairs.items()}}
        )


def _check_range(low: Any, high: Any) -> None:
    """Refuse pixel values in whose sums the pixels would be lost."""
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or not max(abs(low), abs(high)) <= MOST_PIXEL:
        raise InvalidParameter(
            "the range of pixel values cannot be used",
            expected=f"two numbers from -{MOST_PIXEL:g} to {MOST_PIXEL:g}",
            got=f"low={low!r:.40}, high={high!r:.40}",
            remedy="Scale the images, for example to 0 to 255.",
        )
    if not low < high:
        raise InvalidParameter(
            "the range of pixel values is empty",
            expected="low < high",
            got=f"low={low!r}, high={high!r}",
            remedy="Images of one gray value cannot be told apart.",
        )


def _is_place(begin: Any, side: int) -> bool:
    pair = isinstance(begin, tuple) and len(begin) == 2
    return pair and all(type(one) is int and 0 <= one <= side for one in begin)
