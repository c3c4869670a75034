"""What dense memories are compared with, on the same features: flat search and trained heads.

A cell of the finest level is described by its own features and those of the coarser levels there,
each of length 1, interpolated linearly: a hypercolumn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.torch import load_torch
from recollect.evaluation.dense_data import Samples
from recollect.heads.dense_memory.masks import cell_counts, cell_means, enlarge
from recollect.index.exact import ExactIndex
from recollect.readout.grids import Shape
from recollect.readout.propagation import match_weights, unit_rows, weighted_mean
from recollect.types import Floats

K, TEMPERATURE = 30, 0.02  # of Hummingbird (arXiv 2306.01667)
CONVERGED, MOST_STEPS = 1e-6, 2000  # of L-BFGS: change of the loss in ten steps; steps
FAINT = 1e-5  # of the largest variance: axes with less count as noise
Head = Callable[[Sequence[NDArray[Any]]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Trained:
    """A head that was trained: it maps a pyramid to values of cells, and how long it took.

    Attributes:
        answer: Pyramid -> ``(cells, width)``.
        seconds: Time to train it, features given.
        rounds: Epochs, or steps of the optimizer.
        gradient: Length of the gradient in the end, as a share of that at the start; 0 where the
            answer has a closed form, None where it is not known.
    """

    answer: Head
    seconds: float
    rounds: int
    gradient: float | None = None


def hypercolumns(levels: Sequence[NDArray[Any]]) -> Floats:
    """Describe the finest cells of a pyramid: float32 ``(cells, sum of widths)``."""
    grid = levels[-1].shape[:-1]
    parts = []
    for level in levels:
        unit = unit_rows(level.reshape(-1, level.shape[-1]).astype(np.float32))
        parts.append(enlarge(unit, level.shape[:-1], grid).reshape(-1, unit.shape[1]))
    return np.concatenate(parts, axis=1)


def targets(truth: NDArray[Any], grid: Shape, labels: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What cells should answer, ``(cells, width)``, and which count; ``labels`` 0 means numbers."""
    if not labels:
        values = truth if truth.ndim > len(grid) else truth[..., None]
        return cell_means(values, grid)
    counts = cell_counts(np.minimum(truth, labels), labels, grid)
    total = counts.sum(axis=1)
    return counts / np.maximum(total, 1)[:, None], total > 0


def gather(samples: Samples, labels: int, *, most: int | None = None) -> tuple[Floats, Floats]:
    """Hypercolumns and targets of all cells that count, or of ``most`` drawn evenly with seed 0."""
    rng = np.random.default_rng(0)
    cells = sum(int(np.prod(levels[-1].shape[:-1])) for levels in samples.pyramids)
    share = 1.0 if most is None else min(1.0, most / cells)
    features, wanted = [], []
    for levels, truth in zip(samples.pyramids, samples.truth, strict=True):
        values, counts = targets(truth, levels[-1].shape[:-1], labels)
        chosen = np.flatnonzero(counts)
        if share < 1.0:
            chosen = chosen[rng.random(len(chosen)) < share]
        features.append(hypercolumns(levels)[chosen])
        wanted.append(values[chosen].astype(np.float32))
    return np.concatenate(features), np.concatenate(wanted)


def flat_search(samples: Samples, labels: int, cells: int | None) -> Trained:
    """Exact nearest neighbors among so many cells of the memory, or all, read by softmax.

    All of them are held in float16, which leaves room for the memory they are compared with.
    """
    begun = time.perf_counter()
    if cells is None:
        each = [gather(samples.take([row]), labels) for row in range(len(samples))]
        features = np.concatenate([unit_rows(some).astype(np.float16) for some, _ in each])
        wanted = np.concatenate([truth for _, truth in each])
        del each
    else:
        features, wanted = gather(samples, labels, most=cells)
        features = unit_rows(features)
    index = ExactIndex(features.shape[1], "dot")
    index.attach(np.arange(len(features)), features)

    def answer(levels: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Mean truth of the ``K`` most similar cells, weighed by similarity."""
        ids, similarity = index.search(unit_rows(hypercolumns(levels)), K)
        return weighted_mean(wanted[ids], match_weights(similarity, TEMPERATURE))

    return Trained(answer, time.perf_counter() - begun, 0)


def linear_head(
    samples: Samples, labels: int, *, decay: float = 1e-6, most: int | None = None
) -> Trained:
    """One linear layer on every cell: softmax regression until it converges, or least squares."""
    features, wanted = gather(samples, labels, most=most)
    begun = time.perf_counter()
    center, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    features -= center
    features /= spread
    if labels:
        weights, offset, rounds, gradient = _softmax_regression(features, wanted, decay)
    else:
        offset = wanted.mean(axis=0)
        gram = features.T @ features + decay * len(features) * np.eye(features.shape[1], dtype="f")
        weights, rounds = np.linalg.solve(gram, features.T @ (wanted - offset)), 1
        gradient = 0.0

    def answer(levels: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Shares of the labels, one row a cell; the numbers themselves without labels."""
        scores = (hypercolumns(levels) - center) / spread @ weights + offset
        return _softmax(scores) if labels else scores

    return Trained(answer, time.perf_counter() - begun, rounds, gradient)


def _softmax_regression(
    features: Floats, wanted: Floats, decay: float
) -> tuple[Floats, Floats, int, float]:
    """L-BFGS until ten steps move the loss by less than one part in a million.

    It works on the principal axes of the features, each scaled to variance 1, so that steps need
    not creep along a narrow valley; the loss is that of the weights of the features themselves.

    Returns:
        Weights, offsets, steps, and the length of the gradient beside that at the start.
    """
    torch = load_torch()
    axes = _principal(features)
    inputs, truth = torch.from_numpy(features @ axes), torch.from_numpy(wanted)
    back = torch.from_numpy(axes)
    turned = torch.zeros(features.shape[1], wanted.shape[1], requires_grad=True)
    offset = torch.zeros(wanted.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS(
        [turned, offset], max_iter=10, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=0.0, tolerance_change=0.0,
    )  # fmt: skip

    def loss() -> Any:
        """Cross-entropy with decay, and its gradients: L-BFGS calls it at every trial step."""
        solver.zero_grad()
        scores = torch.log_softmax(inputs @ turned + offset, dim=1)
        value = -(truth * scores).sum(dim=1).mean() + decay * (back @ turned).square().sum()
        value.backward()
        return value

    def steepness() -> float:
        """Length of the gradient where the weights are now."""
        loss()
        return float(torch.cat([turned.grad.flatten(), offset.grad]).norm())

    first, before, rounds = steepness(), float("inf"), 0
    while rounds < MOST_STEPS:
        now = float(solver.step(loss).detach())
        rounds += 10
        if before - now < CONVERGED * abs(now) and rounds > 20:
            break
        before = now
    weights = axes @ turned.detach().numpy()
    return weights, offset.detach().numpy(), rounds, steepness() / max(first, 1e-30)


def _principal(features: Floats) -> Floats:
    """Axes on which the features have variance 1, ``(width, width)``; faint ones less."""
    variance, axes = np.linalg.eigh(features.T @ features / len(features))
    scaled: Floats = axes / np.sqrt(np.maximum(variance, FAINT * variance[-1]))
    return scaled


def conv_head(
    samples: Samples,
    labels: int,
    *,
    held: Samples,
    score: Callable[[Head, Samples], float],
    epochs: int = 8,
    hidden: int = 32,
) -> Trained:
    """Two layers, 1 and then 3 cells wide, trained by Adam; the epoch best on held-out samples.

    ``score`` is larger for better heads.
    """
    torch = load_torch()
    torch.manual_seed(0)
    width = sum(level.shape[-1] for level in samples.pyramids[0])
    axes = samples.pyramids[0][0].ndim - 1
    out = labels or 1
    conv = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[axes - 1]
    net = torch.nn.Sequential(
        conv(width, hidden, 1), torch.nn.ReLU(), conv(hidden, hidden, 3, padding=1),
        torch.nn.ReLU(), conv(hidden, out, 1),
    )  # fmt: skip
    solver = torch.optim.Adam(net.parameters(), lr=2e-3)
    steps = epochs * len(samples)
    schedule = torch.optim.lr_scheduler.OneCycleLR(solver, max_lr=4e-3, total_steps=steps)
    rng, begun, aside = np.random.default_rng(0), time.perf_counter(), 0.0
    best, kept, rounds = -np.inf, {}, 0

    def answer(levels: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Answer with the weights of the moment: it also judges the epochs in between."""
        with torch.inference_mode():
            scores = net(_as_map(levels))[0].reshape(out, -1).T.numpy()
        return _softmax(scores) if labels else scores * 1.0

    for epoch in range(epochs):
        for at in rng.permutation(len(samples)).tolist():
            _train_on(net, solver, samples, at, labels)
            schedule.step()
        pause = time.perf_counter()
        now = score(answer, held)
        aside += time.perf_counter() - pause
        if now > best:
            best, rounds = now, epoch + 1
            kept = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(kept)
    return Trained(answer, time.perf_counter() - begun - aside, rounds)


def _as_map(levels: Sequence[NDArray[Any]]) -> Any:
    grid = levels[-1].shape[:-1]
    columns = hypercolumns(levels) * 10.0  # about one each, where training is quick
    return load_torch().from_numpy(columns.T.reshape(1, -1, *grid).copy())


def _train_on(net: Any, solver: Any, samples: Samples, at: int, labels: int) -> None:
    torch = load_torch()
    levels = samples.pyramids[at]
    values, counts = targets(samples.truth[at], levels[-1].shape[:-1], labels)
    scores = net(_as_map(levels))[0].flatten(1).T[torch.from_numpy(counts)]
    truth = torch.from_numpy(values[counts].astype(np.float32))
    if labels:
        loss = -(truth * torch.log_softmax(scores, dim=1)).sum(dim=1).mean()
    else:
        loss = (scores - truth).square().mean()
    solver.zero_grad()
    loss.backward()
    solver.step()


def _softmax(scores: NDArray[Any]) -> NDArray[Any]:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[Any] = raised / raised.sum(axis=1, keepdims=True)
    return shares
