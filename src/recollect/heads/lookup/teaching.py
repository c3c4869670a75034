"""From images to a network, and from a network to recorded runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import LengthMismatch, MissingExtra
from recollect.heads.lookup.glimpse import integral
from recollect.heads.lookup.images import check_images
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.network import Network
from recollect.heads.lookup.readout import Readout
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.runs import Runs, record
from recollect.heads.lookup.table import Table, answers_of_states, make_table

Progress = Callable[[int, int], object]
_BLOCK = 1000


def run_images(network: Network, pixels: NDArray[Any]) -> Runs:
    """Record what a network does with images, some at a time; ids are counted up."""
    layout = network.layout
    parts = [
        record(
            network.step, integral(pixels[at : at + _BLOCK]), start=network.start,
            steps=layout.glimpses, sense=network.sense,
        )
        for at in range(0, len(pixels), _BLOCK)
    ]  # fmt: skip
    return Runs(
        np.arange(len(pixels)),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("keys", "states", "answers")
        ),
    )


def train_network(
    images: NDArray[Any],
    labels: NDArray[Any],
    *,
    glimpses: int = 5,
    bits: tuple[int, int] = (2, 1),
    recipe: Recipe | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Network:
    """Train a recurrent attention model on gray images.

    Args:
        images: ``(n, side, side)``.
        labels: ``(n,)``; the network's classes are these, sorted.
        glimpses: Steps per image.
        bits: Bits per number of a glimpse and of a state.
        recipe: How; None for the defaults.
        seed: Of weights, batches and noise.
        checkpoint: File that keeps where the training stands after every round; None keeps none.
        progress: Called as ``progress(done, total)`` with batches.

    Raises:
        InvalidParameter: All pixels are alike, or a size is out of range.
        MissingExtra: torch is not installed.
    """
    try:
        from recollect.heads.lookup.training import train
    except ImportError as missing:
        raise MissingExtra(
            "training a network needs torch", remedy="pip install 'recollect[lookup]'"
        ) from missing
    pixels, how = check_images(images), recipe or Recipe()
    names, codes = np.unique(labels, return_inverse=True)
    if len(codes) != len(pixels):
        raise LengthMismatch("one label per image", expected=len(pixels), got=len(codes))
    low, high = float(pixels.min()), float(pixels.max())
    phi_bits, h_bits = bits
    layout = Layout(
        side=pixels.shape[1], glimpse=how.glimpse, scale=how.scale, patches=how.patches,
        glimpses=glimpses, state=how.state, classes=len(names), phi_bits=phi_bits, h_bits=h_bits,
        low=low, high=_bright(low, high, how.bright), cells=how.cells,
    )  # fmt: skip
    network = train(pixels, codes, layout, how, seed=seed, checkpoint=checkpoint, progress=progress)
    return replace(network, names=tuple(names.tolist()))


def _bright(low: float, high: float, share: float) -> float:
    """Pixel value of the highest code; whole where the pixels are bytes."""
    value = low + share * (high - low)
    return float(round(value)) if high > 1 else value


def recorded_table(
    runs: Runs, codes: NDArray[Any] | None, *, per_step: bool, readout: Readout = "row"
) -> Table:
    """Make the table of runs of a recurrent attention model.

    Args:
        runs: What was recorded.
        codes: Codes of their labels, to answer with; None for the network's own answers.
        per_step: Whether each step has rows of its own.
        readout: ``"row"``: a row answers as its runs do. ``"state"``: as the runs that share its
            next state do, the location aside.
    """
    answered = answering(runs, codes)
    if readout == "state":
        width = runs.states.shape[2] - 2
        answered = answers_of_states(answered, width=width, per_step=per_step)
    return make_table(answered, per_step=per_step)


def answering(runs: Runs, codes: NDArray[Any] | None) -> Runs:
    """Let runs answer with the code of their label at every step, or as the network did."""
    if codes is None:
        return runs
    answers = np.repeat(codes.astype(np.int64)[:, None], runs.steps, axis=1)
    return Runs(runs.ids, runs.keys, runs.states, answers)
