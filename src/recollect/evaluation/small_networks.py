"""CIFAR-style residual networks of any depth 6n + 2, trained here from a seed, in pieces.

The networks of He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section
4.2: three stages of 16, 32 and 64 channels, shortcuts without parameters. Training stops at a
time limit and goes on at the next call, so that a machine without an accelerator gets there too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.evaluation.checkpoints import import_torch, train
from recollect.types import Floats

BATCH = 128
ASKED = 500
PADDING = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained; two equal recipes on equal rows give one network.

    Attributes:
        depth: 6n + 2: 8, 14, 20, ...
        epochs: Passes over the training rows.
        seed: Of the weights, the order of the rows and the augmentation.
        rate: Highest learning rate of the one-cycle schedule.
        decay: Weight decay.
        crop: Side of the random crops it learns from; it is asked about whole images. Smaller
            crops cost less.
    """

    depth: int
    epochs: int
    seed: int = 0
    rate: float = 0.2
    decay: float = 5e-4
    crop: int = 24

    def __post_init__(self) -> None:
        if self.depth < 8 or (self.depth - 2) % 6:
            raise InvalidParameter(
                "there is no such depth",
                expected="8, 14, 20, 26, ...",
                got=self.depth,
                remedy="Three stages of n blocks have 6n + 2 layers.",
            )


def build_network(depth: int, classes: int) -> Any:
    """Return an untrained network: images ``(n, 3, h, w)`` to ``(embedding, logits)``.

    Raises:
        MissingExtra: torch is not installed.
    """
    torch = import_torch()
    functional = torch.nn.functional

    class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
        """Two convolutions and a short cut without weights: channels that are new in it are 0."""

        def __init__(self, narrow: int, wide: int) -> None:
            super().__init__()
            self.stride, self.extra = (1 if narrow == wide else 2), wide - narrow
            self.first = torch.nn.Conv2d(narrow, wide, 3, self.stride, 1, bias=False)
            self.first_norm = torch.nn.BatchNorm2d(wide)
            self.second = torch.nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
            self.second_norm = torch.nn.BatchNorm2d(wide)

        def forward(self, x: Any) -> Any:
            """Normalize after each convolution; add the short cut before the last ReLU."""
            inner = functional.relu(self.first_norm(self.first(x)))
            if self.extra:
                x = functional.pad(
                    x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra)
                )
            return functional.relu(self.second_norm(self.second(inner)) + x)

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
        """Three stages of 16, 32 and 64 channels; each halves the picture but the first."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.stem_norm = torch.nn.BatchNorm2d(16)
            blocks, narrow = (depth - 2) // 6, 16
            stages = []
            for wide in (16, 32, 64):
                stage = [Block(narrow if n == 0 else wide, wide) for n in range(blocks)]
                stages.append(torch.nn.Sequential(*stage))
                narrow = wide
            self.stages = torch.nn.ModuleList(stages)
            self.classify = torch.nn.Linear(64, classes)

        def forward(self, x: Any) -> tuple[Any, Any]:
            """Embedding, the mean of each channel, and logits."""
            x = functional.relu(self.stem_norm(self.stem(x)))
            for stage in self.stages:
                x = stage(x)
            pooled = x.mean((2, 3))
            return pooled, self.classify(pooled)

    return Network().to(memory_format=torch.channels_last)


def train_network(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    recipe: Recipe,
    checkpoint: Path,
    *,
    minutes: float = math.inf,
    progress: Callable[[int, float, float], object] | None = None,
) -> Any:
    """Train a network, or go on with one that was begun; None if the time ran out before the end.

    Args:
        images: uint8 ``(n, h, w, 3)``.
        labels: int64 ``(n,)`` in [0, classes).
        recipe: How.
        checkpoint: ``.npz`` file with the weights of the last whole epoch; plain arrays.
        minutes: After which no further epoch is begun.
        progress: Called as ``progress(epochs done, mean loss, seconds)`` after every epoch.

    Returns:
        The trained network, or None.
    """
    torch = import_torch()
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.depth, int(labels.max()) + 1)
    teacher = torch.optim.SGD(
        network.parameters(), recipe.rate, momentum=0.9, weight_decay=recipe.decay, nesterov=True
    )
    epoch = partial(_epoch, network, teacher, images, labels, recipe)
    return train(network, teacher, checkpoint, recipe, epoch, minutes=minutes, progress=progress)


def ask_network(network: Any, images: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Return embeddings ``(n, 64)`` and logits ``(n, classes)`` without augmentation."""
    torch = import_torch()
    network.eval()
    with torch.inference_mode():
        parts = [
            network(_as_input(images[start : start + ASKED]))
            for start in range(0, len(images), ASKED)
        ]
    return (
        np.concatenate([part[0].numpy() for part in parts]),
        np.concatenate([part[1].numpy() for part in parts]),
    )


def _epoch(
    network: Any,
    teacher: Any,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    recipe: Recipe,
    epoch: int,
) -> float:
    torch = import_torch()
    network.train()
    rng = np.random.default_rng((recipe.seed, epoch))
    order = rng.permutation(len(images))
    steps = len(order) // BATCH
    total = 0.0
    for step in range(steps):
        rate = _rate((epoch * steps + step) / (recipe.epochs * steps)) * recipe.rate
        for group in teacher.param_groups:
            group["lr"] = rate
        rows = order[step * BATCH : (step + 1) * BATCH]
        with torch.autocast("cpu", torch.bfloat16):
            _, logits = network(_as_input(_augment(images[rows], recipe.crop, rng)))
        loss = torch.nn.functional.cross_entropy(logits.float(), torch.from_numpy(labels[rows]))
        teacher.zero_grad(set_to_none=True)
        loss.backward()
        teacher.step()
        total += loss.item()
    return total / max(1, steps)


def _rate(share: float) -> float:
    """One cycle: a linear rise over the first quarter, then down to nothing."""
    return share / 0.25 if share < 0.25 else (1 - share) / 0.75


def _augment(images: NDArray[np.uint8], crop: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut out a square at a random place, and mirror every second image."""
    count, height, width = images.shape[:3]
    edge = max(0, PADDING - (height - crop) // 2)
    wide = np.pad(images, ((0, 0), (edge, edge), (edge, edge), (0, 0)), mode="reflect")
    top = rng.integers(0, height + 2 * edge - crop + 1, count)
    left = rng.integers(0, width + 2 * edge - crop + 1, count)
    rows = top[:, None] + np.arange(crop)
    columns = left[:, None] + np.arange(crop)
    mirrored = rng.random(count) < 0.5
    columns[mirrored] = columns[mirrored, ::-1]
    cut: NDArray[np.uint8] = wide[
        np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return cut


def _as_input(images: NDArray[np.uint8]) -> Any:
    torch = import_torch()
    # Seen by torch as (n, 3, h, w) in channels-last order without a copy.
    scaled = (images.astype(np.float32) - 120.0) / 64.0
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)
