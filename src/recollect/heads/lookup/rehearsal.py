"""Training with looked-up states: the network meets the neighbors' states it will live with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from recollect.heads.lookup.recurrent_attention import Eye, RecurrentAttention

# A pixel of location weighs half as much as a code of the glimpse or a bit of the state.
_LOCATION = 0.5


@dataclass(frozen=True, slots=True)
class Bank:
    """Recorded steps of some images, as a small table that is thrown away again.

    Attributes:
        keys: For each step ``(bank, unary width)``.
        sizes: For each step ``(bank,)``: cost of all set bits of a key.
        states: For each step ``(bank, state)``: the next state.
        pixels: For each step ``(bank, 2)``: the next location.
        cost: ``(unary width,)``.
    """

    keys: list[Tensor]
    sizes: list[Tensor]
    states: list[Tensor]
    pixels: list[Tensor]
    cost: Tensor

    @classmethod
    @torch.no_grad()
    def record(cls, model: RecurrentAttention, eye: Eye, images: Tensor) -> Bank:
        """Record the mean path of these images, as a table would."""
        layout, device = model.layout, images.device
        state = torch.zeros(len(images), layout.state, device=device)
        pixel = torch.tensor(layout.start, device=device).repeat(len(images), 1)
        cost = _cost(model).to(device)
        bank = cls([], [], [], [], cost)
        for _ in range(layout.glimpses):
            phi = eye.look(images, pixel)
            key = _unary(model, state, pixel, phi)
            raw = model.step(state, 2 * pixel / layout.side - 1, phi)
            state = model.round_state(raw)
            pixel = model.pixel(model.locate(state))
            bank.keys.append(key)
            bank.sizes.append(key @ cost)
            bank.states.append(state)
            bank.pixels.append(pixel)
        return bank

    def nearest(self, step: int, key: Tensor) -> Tensor:
        """Return the nearest recorded step of each key."""
        apart = self.sizes[step] - 2 * (key * self.cost) @ self.keys[step].T
        return apart.argmin(1)


def rehearse(
    model: RecurrentAttention, eye: Eye, images: Tensor, bank: Bank
) -> tuple[Tensor, Tensor]:
    """Run images with every state replaced by the nearest recorded one.

    The gradient goes to the state that the network would have computed itself.

    Returns:
        Class scores ``(steps, n, classes)``, and how far the network's own states are from those
        looked up.
    """
    layout, n = model.layout, len(images)
    state = torch.zeros(n, layout.state, device=images.device)
    pixel = torch.tensor(layout.start, device=images.device).repeat(n, 1)
    scores, apart = [], []
    for step in range(layout.glimpses):
        phi = eye.look(images, pixel)
        with torch.no_grad():
            row = bank.nearest(step, _unary(model, state, pixel, phi))
        raw = model.step(state, 2 * pixel / layout.side - 1, phi)
        found, soft = bank.states[step][row], (4 * (raw - 0.5)).sigmoid()
        apart.append(functional.binary_cross_entropy(soft, found))
        state = found + soft - soft.detach()
        pixel = bank.pixels[step][row]
        scores.append(model.act(state))
    return torch.stack(scores), torch.stack(apart).mean()


def _unary(model: RecurrentAttention, state: Tensor, pixel: Tensor, phi: Tensor) -> Tensor:
    """Write codes in unary, in half precision: distances become one matrix product."""
    layout, device = model.layout, state.device
    parts = [
        _levels(state.detach(), layout.h_bits, device),
        (pixel[:, :, None] >= torch.arange(1, layout.side + 1, device=device)).flatten(1),
        _levels(phi, layout.phi_bits, device),
    ]
    return torch.cat(parts, 1).to(torch.bfloat16)


def _levels(x: Tensor, bits: int, device: torch.device) -> Tensor:
    most = (1 << bits) - 1
    codes = (x * most).round()
    return (codes[:, :, None] >= torch.arange(1, most + 1, device=device)).flatten(1)


def _cost(model: RecurrentAttention) -> Tensor:
    layout = model.layout
    states = layout.state * ((1 << layout.h_bits) - 1)
    glimpses = layout.phi * ((1 << layout.phi_bits) - 1)
    cost = torch.ones(states + 2 * layout.side + glimpses, dtype=torch.bfloat16)
    cost[states : states + 2 * layout.side] = _LOCATION
    return cost
