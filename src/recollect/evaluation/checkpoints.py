"""Training in pieces: weights and the optimizer's state as plain arrays, and where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from recollect.errors import InvalidParameter, MissingExtra


def keep(network: Any, teacher: Any, path: Path, recipe: Any, done: int) -> None:
    """Write what training goes on from.

    Args:
        network: A torch module.
        teacher: Its optimizer.
        path: An ``.npz`` file; the one before stays until this one is whole.
        recipe: A dataclass of plain values; only the same recipe may go on from here.
        done: Epochs done.
    """
    arrays = {f"weight/{name}": part.numpy() for name, part in network.state_dict().items()}
    for place, state in teacher.state_dict()["state"].items():
        for name, part in state.items():
            arrays[f"state/{place}/{name}"] = part.numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part.npz")
    np.savez(fresh, done=np.array(done), recipe=np.array(_described(recipe)), **arrays)
    fresh.replace(path)


def resume(network: Any, teacher: Any, path: Path, recipe: Any) -> int:
    """Load what :func:`keep` wrote, and return how many epochs are done; 0 without a file.

    Raises:
        InvalidParameter: The file is of another recipe.
    """
    torch = import_torch()
    if not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as kept:
        if kept["recipe"].tolist() != _described(recipe):
            raise InvalidParameter(
                "the checkpoint is of another recipe",
                expected=", ".join(_described(recipe)),
                got=", ".join(kept["recipe"].tolist()),
                remedy="Name another file, or delete this one.",
            )
        weights, states = {}, teacher.state_dict()
        states["state"] = {}
        for name in kept.files:
            kind, _, rest = name.partition("/")
            if kind == "weight":
                weights[rest] = torch.from_numpy(kept[name])
            elif kind == "state":
                place, _, part = rest.partition("/")
                states["state"].setdefault(int(place), {})[part] = torch.from_numpy(kept[name])
        network.load_state_dict(weights)
        teacher.load_state_dict(states)
        return int(kept["done"])


def train(
    network: Any,
    teacher: Any,
    path: Path,
    recipe: Any,
    epoch: Callable[[int], float],
    *,
    minutes: float,
    progress: Callable[[int, float, float], object] | None,
) -> Any:
    """Run the epochs that are still to do, each kept as soon as it is whole.

    Args:
        network: A torch module.
        teacher: Its optimizer.
        path: As for :func:`keep`; training goes on from what it holds.
        recipe: As for :func:`keep`; its ``epochs`` says how many there are.
        epoch: Trains for the epoch of that number, from 0, and returns the mean loss.
        minutes: After which no further epoch is begun, nor one that would end later if it took as
            long as the longest before it.
        progress: Called as ``progress(epochs done, mean loss, seconds)`` after every epoch.

    Returns:
        The network, ready to be asked; None if the time ran out before the last epoch.

    Raises:
        InvalidParameter: The file is of another recipe.
    """
    done = resume(network, teacher, path, recipe)
    begun, longest = time.monotonic(), 0.0
    while done < recipe.epochs:
        start = time.monotonic()
        if start - begun + longest > 60 * minutes:
            return None
        loss = epoch(done)
        done += 1
        keep(network, teacher, path, recipe, done)
        longest = max(longest, time.monotonic() - start)
        if progress is not None:
            progress(done, loss, time.monotonic() - start)
    return network.eval()


def import_torch() -> Any:
    """Return torch.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import torch
    except ImportError as missing:
        raise MissingExtra(
            "training a network needs torch", remedy="pip install 'recollect[torch]'"
        ) from missing
    return torch


def _described(recipe: Any) -> list[str]:
    return [f"{name}={value}" for name, value in asdict(recipe).items()]
