"""How the network is trained, and what its glimpses look like."""

from __future__ import annotations

from dataclasses import dataclass

from recollect.errors import InvalidParameter
from recollect.heads.lookup.settings import check_number, check_whole

# Larger rates and weights of losses train nothing.
_MOST = 1e6


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the network looks like and how it is trained.

    The defaults are made for the table: states are rounded during training, looks are spread over
    the image, and glimpses and states are disturbed as a neighbor's would differ.
    :meth:`published` is the paper's.

    Attributes:
        glimpse: Cells along one side of a patch.
        patches: Patches of a glimpse.
        cells: Pixels along one side of a cell, patch by patch; None for powers of ``scale``.
        scale: How much wider each patch is than the one before, where ``cells`` is None.
        state: Numbers in the state.
        bright: Share of the range of pixel values at which a cell counts as fully bright.
        rounded: Round states during training too (straight-through), not only for the table.
        epochs: Rounds over the training images.
        batch: Images per step of the optimizer.
        rate: Largest learning rate (Adam, one cycle).
        early: Weight of the classification loss after steps before the last.
        reinforce: Weight of REINFORCE (published: 0.01).
        spread: Standard deviation of locations that are drawn (published: 0.05).
        slope: Reach in pixels of the finite differences that tell the locator where a glimpse
            would help; 0 leaves it to REINFORCE alone, as published.
        flips: Share of state numbers flipped in training.
        jitter: Share of glimpse numbers moved by one code in training.
        shift: Most pixels by which images are moved in training.
        scan: Weight of the loss that keeps looks near a scan of the four corners around the
            center; 0 leaves the locator free, as published. A locator that stays in one place
            finds the same row again and again.
        reach: How far from the center the scan goes, as a share of the side.
        rehearsal: Share of the epochs, at the end, in which states are also looked up among
            recorded ones, so that the network meets the states of neighbors; each such epoch takes
            some four times as long.
        bank: Recorded images among which they are looked up.
        agreement: Weight of the loss that asks the network to agree with what was looked up.
    """

    glimpse: int = 4
    patches: int = 3
    cells: tuple[int, ...] | None = (2, 3, 4)
    scale: int = 4
    state: int = 64
    bright: float = 0.63
    rounded: bool = True
    epochs: int = 30
    batch: int = 512
    rate: float = 3e-3
    early: float = 0.3
    reinforce: float = 0.01
    spread: float = 0.05
    slope: int = 2
    flips: float = 0.06
    jitter: float = 0.02
    shift: int = 1
    scan: float = 1.0
    reach: float = 0.18
    rehearsal: float = 0.0
    bank: int = 8192
    agreement: float = 0.3

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "bank"):
            check_whole(name, getattr(self, name), 1)
        for name in ("slope", "shift"):
            check_whole(name, getattr(self, name), 0, 255)
        for name in ("flips", "jitter", "rehearsal", "reach"):
            check_number(name, getattr(self, name), 0, 1)
        for name in ("rate", "spread", "bright"):
            check_number(name, getattr(self, name), 0, _MOST, above=True)
        for name in ("early", "reinforce", "scan", "agreement"):
            check_number(name, getattr(self, name), 0, _MOST)
        if not isinstance(self.rounded, bool):
            raise InvalidParameter(
                "rounded cannot be used", expected="True or False", got=f"{self.rounded!r:.80}"
            )

    @classmethod
    def published(cls, *, epochs: int = 30) -> Recipe:
        """Return the published configuration: h is rounded after training, REINFORCE alone.

        Published: batches of 128, 200 epochs, rate 3e-4. The rate here is larger and falls, for
        fewer epochs.
        """
        return cls(
            cells=None, scale=4, bright=1.0, rounded=False, epochs=epochs, batch=128, rate=1e-3,
            early=0.0, slope=0, flips=0.0, jitter=0.0, shift=0, scan=0.0, rehearsal=0.0,
            agreement=0.0,
        )  # fmt: skip
