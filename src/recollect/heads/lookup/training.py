"""How the recurrent attention model is trained: cross-entropy, REINFORCE with a baseline, look-ups.

Source of the loss: Giacomini et al., arXiv 2307.07631. Ours: the slope of a glimpse for the
locator, rounding during training, and the rehearsal with looked-up states.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recollect.heads.lookup.checkpoint import load_checkpoint, save_checkpoint, training_mark
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.recurrent_attention import Eye, Noise, RecurrentAttention, Trace
from recollect.heads.lookup.rehearsal import Bank, rehearse

Progress = Callable[[int, int], object]
# Batches after which the recorded states of the rehearsal are recorded anew.
_RECORD_EVERY = 25
_LARGEST_GRADIENT = 5.0
# Share of the training in which the rate rises.
_RISE = 0.2


def train(
    images: NDArray[Any],
    classes: NDArray[np.int64],
    layout: Layout,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Network:
    """Train a network.

    Args:
        images: ``(n, side, side)``.
        classes: int64 ``(n,)``, from 0 to ``layout.classes - 1``.
        layout: Sizes.
        recipe: How.
        seed: Of weights, batches and noise. The global generator is left as it was.
        device: Where torch computes; None takes a GPU where there is one.
        checkpoint: File that keeps where the training stands after every round; a call that finds
            it goes on from there, to the same weights.
        progress: Called as ``progress(done, total)`` with batches.

    Returns:
        The network as plain arrays.
    """
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RecurrentAttention(layout, rounded=recipe.rounded).to(where)
    lesson = _Lesson(
        model,
        Eye(images, layout, where),
        torch.as_tensor(classes).to(where),
        recipe,
        _corners(layout, recipe.reach).to(where),
    )
    generator = torch.Generator().manual_seed(seed)
    course = _Course.of(len(images), recipe)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    mark, done = training_mark(layout, recipe, seed, lesson.classes), 0
    if checkpoint is not None:
        done = load_checkpoint(checkpoint, mark, model, optimizer, generator)
    for epoch in range(done, recipe.epochs):
        _round(epoch, course, lesson, optimizer, generator, progress)
        if checkpoint is not None:
            save_checkpoint(checkpoint, mark, epoch + 1, model, optimizer, generator)
    return model.network()


@dataclass(frozen=True, slots=True)
class _Course:
    """How a training is divided: images, those recorded for the rehearsal, batches, rounds."""

    images: int
    bank: int
    batch: int
    batches: int
    rounds: int
    warm: int  # rounds before the rehearsal begins

    @classmethod
    def of(cls, images: int, recipe: Recipe) -> _Course:
        bank = min(recipe.bank, images // 4) if recipe.rehearsal else 0
        batch = min(recipe.batch, images - bank)
        warm = round(recipe.epochs * (1 - recipe.rehearsal))
        return cls(images, bank, batch, (images - bank) // batch, recipe.epochs, warm)


def _round(
    epoch: int, course: _Course, lesson: _Lesson, optimizer: torch.optim.Optimizer,
    generator: torch.Generator, progress: Progress | None,
) -> None:  # fmt: skip
    """Teach every image once."""
    model, bank, batch = lesson.model, course.bank, course.batch
    total = course.batches * course.rounds
    order = torch.randperm(course.images, generator=generator).to(lesson.classes.device)
    recorded = None
    for number in range(course.batches):
        if bank and epoch >= course.warm and number % _RECORD_EVERY == 0:
            recorded = Bank.record(model, lesson.eye, order[:bank])
        chosen = order[bank + number * batch : bank + (number + 1) * batch]
        loss = lesson.loss(chosen, recorded, generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
        done = epoch * course.batches + number
        _set_rate(optimizer, lesson.recipe.rate * _share(done, total))
        optimizer.step()
        if progress is not None:
            progress(done + 1, total)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What a batch teaches."""

    model: RecurrentAttention
    eye: Eye
    classes: Tensor
    recipe: Recipe
    corners: Tensor

    def loss(self, chosen: Tensor, bank: Bank | None, generator: torch.Generator) -> Tensor:
        """Naming and the reward of looking; scanning and a bank of rows where there are any."""
        recipe, truth = self.recipe, self.classes[chosen]
        noise = Noise(
            recipe.spread,
            recipe.flips,
            recipe.jitter,
            recipe.shift,
            recipe.slope,
            scan=recipe.scan > 0,
        )
        trace = self.model.run(self.eye, chosen, noise, sample=True, generator=generator)
        loss = _named(trace.scores, truth, recipe.early) + self._policy(trace, truth)
        if recipe.scan and len(trace.means):
            apart = trace.means - self.corners[: len(trace.means), None]
            loss = loss + recipe.scan * (apart**2).sum(2).mean()
        if bank is not None:
            scores, apart = rehearse(self.model, self.eye, chosen, bank)
            loss = loss + _named(scores, truth, recipe.early) + recipe.agreement * apart
        return loss

    def _policy(self, trace: Trace, truth: Tensor) -> Tensor:
        reward = (trace.scores[-1].argmax(1) == truth).float()
        baseline = functional.mse_loss(trace.baseline, reward.expand_as(trace.baseline))
        better = (reward - trace.baseline[:-1]).detach()
        return baseline - self.recipe.reinforce * (trace.log_pi * better).sum(0).mean()


def _named(scores: Tensor, truth: Tensor, early: float) -> Tensor:
    """Cross-entropy of the last step, and a share of that of the steps before."""
    loss = functional.cross_entropy(scores[-1], truth)
    if early and len(scores) > 1:
        before = [functional.cross_entropy(score, truth) for score in scores[:-1]]
        loss = loss + early * torch.stack(before).mean()
    return loss


def _corners(layout: Layout, reach: float) -> Tensor:
    """Where the scan looks after the center, in [-1, 1]: corner to corner, around and around."""
    signs = torch.tensor([(-1.0, -1.0), (1.0, 1.0), (1.0, -1.0), (-1.0, 1.0)])
    # The middle of the pixel where looks begin.
    center = (2 * torch.tensor(layout.start) + 1) / layout.side - 1
    return (center + 2 * reach * signs).clamp(-1, 1)[torch.arange(layout.glimpses) % 4]


def _share(step: int, total: int) -> float:
    """Share of the largest rate: up in a straight line, then down along a cosine."""
    rise = max(1.0, _RISE * total)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1.0, total - rise))))
