"""What an answer costs: look-ups and bits read, with every constant as an argument.

An estimate in software, by counting; not a measurement, and not the paper's circuit results.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from recollect.errors import InvalidParameter
from recollect.heads.lookup.layout import Layout


@dataclass(frozen=True, slots=True)
class Constants:
    """Picojoules per operation, and nanoseconds.

    The defaults are for 45 nm (Horowitz, "Computing's energy problem", ISSCC 2014), reads from
    SRAM banks of 32 kilobytes: 20 pJ for 64 bits.

    Attributes:
        read: Reading one bit of the table or of weights, in pJ.
        add: Adding two small integers.
        absolute: The absolute difference of two codes.
        multiply: Multiplying two small integers.
        row_time: Comparing one row, in ns.
        level_time: Going down one level of a tree, in ns.
        parallel_rows: Rows compared at the same time.
    """

    read: float = 0.3125
    add: float = 0.03
    absolute: float = 0.03
    multiply: float = 0.2
    row_time: float = 1.0
    level_time: float = 1.0
    parallel_rows: int = 1

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not value >= (1 if one.name == "parallel_rows" else 0):
                raise InvalidParameter(f"{one.name} is out of range", got=value)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one answer costs.

    Attributes:
        name: What answers.
        rows: Keys and centers compared; 0 for a network.
        bytes_touched: Bytes read.
        search: Comparing, in nJ.
        value: Reading values, in nJ.
        sense: Pooling glimpses, in nJ.
        dense: Arithmetic and weights of a network, in nJ.
        latency: In microseconds; 0 where it is not modeled.
    """

    name: str
    rows: int
    bytes_touched: float
    search: float = 0.0
    value: float = 0.0
    sense: float = 0.0
    dense: float = 0.0
    latency: float = 0.0
    constants: Constants = field(default_factory=Constants)

    @property
    def total(self) -> float:
        """All of it, in nJ."""
        return self.search + self.value + self.sense + self.dense

    def lines(self) -> list[str]:
        """Return the estimate and its constants as text."""
        parts = ", ".join(
            f"{name} {getattr(self, name):.3g} nJ"
            for name in ("search", "value", "sense", "dense")
            if getattr(self, name)
        )
        used = ", ".join(f"{name}={value}" for name, value in asdict(self.constants).items())
        read = f"{self.rows} rows, {self.bytes_touched:.0f} bytes read"
        return [f"{self.name}: {self.total:.4g} nJ ({parts}), {read}", f"constants: {used}"]


def estimate_lookup(
    layout: Layout,
    rows: int,
    *,
    name: str = "table",
    weighted: bool = True,
    depth: int = 0,
    constants: Constants | None = None,
) -> Estimate:
    """Estimate an answer by look-up.

    Args:
        layout: Sizes and bits.
        rows: Keys and centers that one answer is compared with, all steps together.
        name: What to call it.
        weighted: Whether differences are multiplied by weights.
        depth: Levels of a tree that one answer goes down, all steps together.
        constants: What operations cost.

    Example:
        >>> flat = estimate_lookup(Layout(side=28), 5 * 300_000)
        >>> round(flat.rows * 170 * 0.3125 / 1e6)
        80
    """
    c = constants or Constants()
    arithmetic = layout.key_width * (c.absolute + c.add + (c.multiply if weighted else 0.0))
    widest = min(layout.side, max(layout.cell_sides) * layout.glimpse)
    read_value = layout.glimpses * layout.value_bits
    return Estimate(
        name,
        rows,
        (rows * layout.key_bits + read_value) / 8,
        search=rows * (layout.key_bits * c.read + arithmetic) / 1000,
        value=read_value * c.read / 1000,
        sense=layout.glimpses * widest**2 * c.add / 1000,
        latency=(-(-rows // c.parallel_rows) * c.row_time + depth * c.level_time) / 1000,
        constants=c,
    )


def estimate_network(
    multiplications: int,
    weights: int,
    *,
    name: str = "network",
    weight_bits: int = 8,
    constants: Constants | None = None,
) -> Estimate:
    """Estimate an answer by a dense network whose weights are read once.

    Args:
        multiplications: Multiply-adds of one answer.
        weights: Numbers of the network that are read for one answer.
        name: What to call it.
        weight_bits: Bits per number.
        constants: What operations cost.

    Example:
        >>> round(estimate_network(234_752, 234_752, constants=Constants(add=0.03)).total)
        641
    """
    c = constants or Constants()
    bits = weights * weight_bits
    energy = multiplications * (c.multiply + c.add) + bits * c.read
    return Estimate(name, 0, bits / 8, dense=energy / 1000, constants=c)
