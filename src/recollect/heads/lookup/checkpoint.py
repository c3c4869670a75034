"""Where a training stands, kept in a file after every round, so that it can go on later."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recollect.errors import CorruptMemory
from recollect.heads.lookup.layout import Layout
from recollect.heads.lookup.recipe import Recipe
from recollect.heads.lookup.recurrent_attention import RecurrentAttention

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def training_mark(layout: Layout, recipe: Recipe, seed: int, classes: Tensor) -> str:
    """Hash of what a training depends on: a file of another one is not taken up."""
    about = json.dumps([layout.as_dict(), asdict(recipe), seed], sort_keys=True)
    digest = hashlib.sha256(about.encode())
    digest.update(classes.cpu().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(
    path: Path, mark: str, epoch: int, model: RecurrentAttention, optimizer: torch.optim.Adam,
    generator: torch.Generator,
) -> None:  # fmt: skip
    """Write weights, moments and the generator; the file is complete or as it was."""
    arrays = {"generator": generator.get_state()}
    for name, parameter in model.named_parameters():
        arrays[f"weight {name}"] = parameter.detach().contiguous()
        for moment in _MOMENTS:
            arrays[f"{moment} {name}"] = optimizer.state[parameter][moment].contiguous()
    beside = path.with_name(path.name + ".new")
    save_file(arrays, str(beside), {"mark": mark, "epoch": str(epoch)})
    beside.replace(path)


def load_checkpoint(
    path: Path, mark: str, model: RecurrentAttention, optimizer: torch.optim.Adam,
    generator: torch.Generator,
) -> int:  # fmt: skip
    """Take up a training; return the rounds that are done, 0 if the file is of another one.

    Raises:
        CorruptMemory: The file is damaged.
    """
    if not path.is_file():
        return 0
    try:
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
            if about.get("mark") != mark:
                return 0
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(arrays[f"weight {name}"])
                optimizer.state[parameter] = {
                    moment: arrays[f"{moment} {name}"].to(
                        "cpu" if moment == "step" else parameter.device
                    )
                    for moment in _MOMENTS
                }
        generator.set_state(arrays["generator"])
        return int(about["epoch"])
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise CorruptMemory(
            f"the training at {path} cannot go on: {error}", remedy="Delete the file to begin anew."
        ) from error
