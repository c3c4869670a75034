"""The recurrent attention model, in torch: what is trained, and later replayed from a table.

Mnih et al., "Recurrent models of visual attention" (2014), in the form of Giacomini et al. (arXiv
2307.07631): a glimpse, a state of few bits, a next location, a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recollect.heads.lookup.glimpse import integral, pool_everywhere
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.network import Network


class Eye:
    """The glimpse of :mod:`recollect.heads.lookup.glimpse`, on the device of the network.

    Every cell at every place is pooled and rounded once, so that a look is a gather.

    Args:
        images: ``(n, side, side)``.
        layout: Sizes, and the range of pixel values.
        device: Where to look.
    """

    def __init__(self, images: NDArray[Any], layout: Layout, device: str = "cpu") -> None:
        self.layout = layout
        self._patches = []
        sums = integral(images)
        for cell in layout.cell_sides:
            size = layout.glimpse * cell
            # A cell may begin this far outside of the image, and still touch a location's patch.
            starts = np.arange(-(size // 2), layout.side + size - size // 2 - cell + 1)
            pooled = pool_everywhere(sums, starts, cell, layout)
            cells = torch.arange(layout.glimpse) * cell
            within = (cells[:, None] * len(starts) + cells).flatten()
            self._patches.append(
                (torch.from_numpy(pooled).to(device).reshape(-1), within.to(device), len(starts))
            )

    def look(self, images: Tensor, locations: Tensor) -> Tensor:
        """Return the glimpses of some images.

        Args:
            images: int64 ``(n,)``: which ones.
            locations: int64 ``(n, 2)``: column and row, from 0 to the side of the images.

        Returns:
            float32 ``(n, phi)`` in [0, 1], rounded to the bits of the layout.
        """
        parts = []
        for pooled, within, width in self._patches:
            corner = (images * width + locations[:, 1]) * width + locations[:, 0]
            parts.append(pooled[corner[:, None] + within])
        phi = torch.cat(parts, 1).float()
        return phi / ((1 << self.layout.phi_bits) - 1) if self.layout.phi_bits else phi

    def slope(self, images: Tensor, locations: Tensor, moved: Tensor, reach: int) -> Tensor:
        """Return 0, with the gradient that moving a glimpse has, from its neighbors."""
        total = torch.zeros((), device=moved.device)
        for axis in range(2):
            offset = torch.zeros_like(locations)
            offset[:, axis] = reach
            after = self.look(images, (locations + offset).clamp(0, self.layout.side))
            before = self.look(images, (locations - offset).clamp(0, self.layout.side))
            total = total + (after - before) / (2 * reach) * (moved - moved.detach())[:, axis, None]
        return total


@dataclass(slots=True)
class Trace:
    """What one run over a batch leaves for the loss.

    Attributes:
        scores: ``(steps, n, classes)``: unnormalized class scores after each step.
        log_pi: ``(steps - 1, n)``: log probability of each location that was drawn.
        means: ``(steps - 1, n, 2)``: where the locator wanted to look, in [-1, 1].
        baseline: ``(steps, n)``: expected reward.
    """

    scores: Tensor
    log_pi: Tensor
    means: Tensor
    baseline: Tensor


@dataclass(frozen=True, slots=True)
class Noise:
    """What training adds so that neighboring keys come to behave alike.

    Attributes:
        location: Standard deviation of a location, which runs from -1 to 1.
        state: Share of state numbers replaced by another code between steps.
        glimpse: Share of glimpse numbers moved by one code.
        shift: Most pixels by which an image is moved.
        slope: Reach in pixels of the differences that tell the locator where a glimpse would help;
            0 leaves it to REINFORCE.
        scan: Whether the locator's gradient reaches the state.
    """

    location: float = 0.05
    state: float = 0.0
    glimpse: float = 0.0
    shift: int = 0
    slope: int = 0
    scan: bool = False


class RecurrentAttention(nn.Module):
    """Glimpse sensor, core, locator, classifier and baseline.

    Args:
        layout: Sizes.
        rounded: Whether states are rounded during training too (straight-through), not only for
            the table.
    """

    def __init__(self, layout: Layout, *, rounded: bool = True) -> None:
        super().__init__()
        self.layout, self.rounded = layout, rounded
        state = layout.state
        self.fc1 = nn.Linear(layout.phi, 128)
        self.fc2 = nn.Linear(2, 128)
        self.fc3 = nn.Linear(128, 256)
        self.fc4 = nn.Linear(128, 256)
        self.i2h = nn.Linear(256, 256)
        self.h2h = nn.Linear(state, 256)
        self.out = nn.Linear(256, state)
        self.act = nn.Linear(state, layout.classes)
        self.loc1 = nn.Linear(state, 128)
        self.loc2 = nn.Linear(128, 2)
        self.base = nn.Linear(state, 1)
        with torch.no_grad():
            self.out.bias.add_(0.5)  # states live in [0, 1]

    def step(self, state: Tensor, location: Tensor, phi: Tensor) -> Tensor:
        """Return the next state before rounding; location in [-1, 1], the rest in [0, 1]."""
        seen = self.fc3(self.fc1(phi).relu()) + self.fc4(self.fc2(location).relu())
        following: Tensor = self.out((self.i2h(seen.relu()) + self.h2h(state)).relu())
        return following

    def locate(self, state: Tensor) -> Tensor:
        """Return where to look next, in [-1, 1]."""
        location: Tensor = self.loc2(self.loc1(state).relu()).tanh()
        return location

    def round_state(self, x: Tensor) -> Tensor:
        """Round to the codes of the table, with the gradient of a soft step."""
        bits = self.layout.h_bits
        if not bits:
            return x.clamp(0, 1)
        levels = (1 << bits) - 1
        hard = (x.detach().clamp(0, 1) * levels + 0.5).floor() / levels
        soft = (4 * (x - 0.5)).sigmoid()
        return hard + soft - soft.detach()

    def pixel(self, location: Tensor) -> Tensor:
        """Return the whole column and row of a location in [-1, 1]."""
        return (0.5 * (location + 1) * self.layout.side).floor().long()

    def network(self) -> Network:
        """Return the trained weights as plain arrays, from which tables are recorded."""
        weights = {
            name: parameter.detach().cpu().double().numpy()
            for name, parameter in self.named_parameters()
            if not name.startswith("base.")
        }
        return Network(self.layout, weights)

    def run(
        self, eye: Eye, images: Tensor, noise: Noise, *, sample: bool, generator: torch.Generator
    ) -> Trace:
        """Look at each image ``glimpses`` times.

        Args:
            eye: The images.
            images: int64 ``(n,)``: which ones.
            noise: What to add; locations are drawn only if ``sample``.
            sample: Draw locations, as REINFORCE needs it, or take the mean.
            generator: Draws them.
        """
        layout, n = self.layout, len(images)
        device = self.out.weight.device
        shift = torch.zeros(n, 2, dtype=torch.long, device=device)
        if noise.shift:
            drawn = torch.randint(-noise.shift, noise.shift + 1, (n, 2), generator=generator)
            shift = drawn.to(device)
        state = torch.zeros(n, layout.state, device=device)
        pixel = torch.tensor(layout.start, device=device).repeat(n, 1)
        location = torch.zeros(n, 2, device=device)
        scores, log_pi, means, baseline = [], [], [], []
        for step in range(layout.glimpses):
            place = (pixel + shift).clamp(0, layout.side)
            phi = _jitter(eye.look(images, place), layout.phi_bits, noise, generator)
            if noise.slope and step:
                phi = phi + eye.slope(images, place, location * layout.side / 2, noise.slope)
            here = 2 * pixel / layout.side - 1
            if noise.slope and step:
                here = here + location - location.detach()
            raw = self.step(state, here, phi)
            state = self.round_state(raw) if self.rounded else raw.clamp(0, 1)
            scores.append(self.act(state))
            baseline.append(self.base(state.detach())[:, 0])
            if step == layout.glimpses - 1:
                break
            state = _flip(state, layout.h_bits, noise, generator)
            # Published: the locator does not shape the state. A scan must: the state has to say
            # which look comes next.
            location = mean = self.locate(state if noise.scan else state.detach())
            means.append(mean)
            if sample:
                drawn = torch.randn(mean.shape, generator=generator).to(device)
                location = (mean + noise.location * drawn).clamp(-1, 1)
                log_pi.append(-((location.detach() - mean) ** 2).sum(1) / (2 * noise.location**2))
            pixel = self.pixel(location.detach())
        return Trace(
            torch.stack(scores),
            _stacked(log_pi, (n,), device),
            _stacked(means, (n, 2), device),
            torch.stack(baseline),
        )


def _stacked(parts: list[Tensor], shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.stack(parts) if parts else torch.zeros(0, *shape, device=device)


def _jitter(phi: Tensor, bits: int, noise: Noise, generator: torch.Generator) -> Tensor:
    if not noise.glimpse or not bits:
        return phi
    drawn = torch.rand(phi.shape, generator=generator).to(phi.device)
    step = (drawn < noise.glimpse / 2).float() - (drawn > 1 - noise.glimpse / 2).float()
    return (phi + step / ((1 << bits) - 1)).clamp(0, 1)


def _flip(state: Tensor, bits: int, noise: Noise, generator: torch.Generator) -> Tensor:
    if not noise.state or not bits:
        return state
    drawn = torch.rand(state.shape, generator=generator).to(state.device)
    levels = (1 << bits) - 1
    other = torch.randint(0, levels + 1, state.shape, generator=generator).to(state.device)
    other = 1 - state.detach() if bits == 1 else other / levels
    return torch.where(drawn < noise.state, state + (other - state).detach(), state)
