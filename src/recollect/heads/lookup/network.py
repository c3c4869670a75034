"""A trained recurrent attention model as plain arrays: what the table is recorded from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import (
    CorruptMemory,
    InputError,
    InvalidParameter,
    MemoryNotFound,
    MissingExtra,
    UnsupportedFormat,
)
from recollect.heads.lookup.glimpse import glimpse, quantize
from recollect.heads.lookup.layout import Layout
from recollect.types import Doubles, Label

# Format 1 had neither the grid nor the names in its fingerprint.
FORMAT = 2
# Layers: name -> (inputs, outputs), where a number of the layout is named by its attribute.
_LAYERS = ("fc1", "fc2", "fc3", "fc4", "i2h", "h2h", "out", "act", "loc1", "loc2")
# Weights and activations are multiples of 2**-16, so that their products and sums are exact in
# float64 and do not depend on batch, order or machine.
_GRID = 16


@dataclass(frozen=True, slots=True)
class Network:
    """Glimpse in, next state, next location and class scores out; pure NumPy.

    Attributes:
        layout: Sizes.
        weights: Layer name with ``.weight`` ``(out, in)`` or ``.bias`` ``(out,)`` -> float64.
        grid: Bits behind the point to which weights and activations are rounded, so that every
            sum is exact; None computes as it comes.
        names: Label of each class; None where nobody said, and classes are numbers from 0.
    """

    layout: Layout
    weights: dict[str, Doubles]
    grid: int | None = _GRID
    names: tuple[Label, ...] | None = None
    _ready: dict[str, Doubles] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_weights(self.weights, self.layout)
        if self.grid is not None and (type(self.grid) is not int or not 1 <= self.grid <= 40):
            raise InvalidParameter(
                "grid is out of range", expected="1 to 40 bits, or None", got=f"{self.grid!r:.80}"
            )
        if self.names is not None and not any(
            all(isinstance(name, kind) for name in self.names) for kind in (str, int)
        ):
            raise InvalidParameter(
                "names must be all text or all whole numbers", got=f"{self.names!r:.80}"
            )
        if self.names is not None and len(set(self.names)) != self.layout.classes:
            raise InvalidParameter(
                "names do not fit the classes",
                expected=f"{self.layout.classes} different labels",
                got=len(set(self.names)),
            )
        for name, weight in self.weights.items():
            self._ready[name] = self._on_grid(np.asarray(weight, np.float64))

    @property
    def labels(self) -> list[Label]:
        """Label of each class."""
        return list(range(self.layout.classes)) if self.names is None else list(self.names)

    def named_after(self, labels: NDArray[Any]) -> Network:
        """Return the network with names, if it has none: its classes in order are these, sorted.

        Raises:
            InvalidParameter: There are neither as many labels as classes, nor are they numbers of
                classes.
        """
        if self.names is not None:
            return self
        names = np.unique(labels).tolist()
        if len(names) == self.layout.classes:
            return replace(self, names=tuple(names))
        if all(type(name) is int and 0 <= name < self.layout.classes for name in names):
            return self
        raise InvalidParameter(
            "nobody knows what the classes of the network are called",
            expected=f"{self.layout.classes} different labels",
            got=len(names),
            remedy="Pass Network(..., names=...).",
        )

    @property
    def start(self) -> NDArray[np.uint8]:
        """uint8 ``(state + 2,)``: no state, and where the first glimpse is."""
        begin = np.zeros(self.layout.state + 2, np.uint8)
        begin[-2:] = self.layout.start
        return begin

    @property
    def fingerprint(self) -> str:
        """Hash of sizes, weights, rounding and names: memories keep runs of one network apart."""
        return self._fingerprint({"grid": self.grid, "names": self.names})

    def _fingerprint(self, more: dict[str, Any] | None) -> str:
        digest = hashlib.sha256(json.dumps(self.layout.as_dict(), sort_keys=True).encode())
        if more is not None:
            digest.update(json.dumps(more, sort_keys=True).encode())
        for name in sorted(self._ready):
            digest.update(name.encode() + np.ascontiguousarray(self._ready[name]).tobytes())
        return f"recurrent-attention:{digest.hexdigest()[:32]}"

    def sense(self, sums: NDArray[np.float64], state: NDArray[Any], step: int) -> NDArray[Any]:
        """Look where the state says; ``sums`` as :func:`glimpse.integral` makes them."""
        del step
        return glimpse(sums, state[:, -2:], self.layout)

    def step(
        self, state: NDArray[Any], phi: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Compute one step.

        Args:
            state: Codes of the state, then column and row: ``(n, state + 2)``.
            phi: Codes of the glimpse, ``(n, phi)``.

        Returns:
            The next state in the same form, and the class, int64 ``(n,)``.
        """
        layout = self.layout
        h = self._hidden(state, phi)
        if layout.h_bits:
            kept: NDArray[Any] = quantize(h, layout.h_bits)
            h = kept / ((1 << layout.h_bits) - 1)
        else:
            kept = h = np.clip(h, 0.0, 1.0).astype(np.float32)
        scores = self._layer("act", h)
        mean = np.tanh(self._layer("loc2", _relu(self._layer("loc1", h))))
        place = np.floor(0.5 * (self._on_grid(mean) + 1.0) * layout.side)
        following = np.concatenate([kept, place.astype(kept.dtype)], axis=1)
        return following, scores.argmax(axis=1)

    def _hidden(self, state: NDArray[Any], phi: NDArray[Any]) -> Doubles:
        layout = self.layout
        h = state[:, :-2] / max(1, (1 << layout.h_bits) - 1)
        seen = phi / max(1, (1 << layout.phi_bits) - 1)
        place = 2.0 * state[:, -2:] / layout.side - 1.0
        what = self._layer("fc3", _relu(self._layer("fc1", seen)))
        where = self._layer("fc4", _relu(self._layer("fc2", place)))
        inner = self._layer("i2h", _relu(what + where)) + self._layer("h2h", h)
        return self._layer("out", _relu(inner))

    def _layer(self, name: str, x: Doubles) -> Doubles:
        out = self._on_grid(x) @ self._ready[f"{name}.weight"].T
        bias = self._ready.get(f"{name}.bias")
        return out if bias is None else out + bias

    def _on_grid(self, x: Doubles) -> Doubles:
        return x if self.grid is None else np.round(x * 2.0**self.grid) / 2.0**self.grid

    def multiplications(self) -> int:
        """Multiply-adds of one image through the network."""
        weights = (w.size for name, w in self.weights.items() if name.endswith(".weight"))
        return self.layout.glimpses * sum(weights)

    def save(self, path: str | Path) -> None:
        """Write sizes and weights as safetensors: numbers only, nothing that runs.

        Raises:
            MissingExtra: safetensors is not installed.
        """
        _require_safetensors()
        from safetensors.numpy import save_file

        about = {
            "format": str(FORMAT),
            "layout": json.dumps(self.layout.as_dict()),
            "fingerprint": self.fingerprint,
            "names": json.dumps(self.names),
            "grid": json.dumps(self.grid),
        }
        plain = {name: np.ascontiguousarray(self._ready[name]) for name in sorted(self._ready)}
        save_file(plain, str(path), about)

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Read what :meth:`save` wrote, compared with its checksum.

        Raises:
            MemoryNotFound: There is no such file.
            CorruptMemory: The file is damaged, or is no network.
            UnsupportedFormat: A newer version wrote it.
            MissingExtra: safetensors is not installed.
        """
        _require_safetensors()
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise MemoryNotFound(f"there is no file at {path}")
        try:
            with safe_open(str(path), framework="numpy") as file:
                about = file.metadata() or {}
                layout = _read_layout(about, str(path))
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            names = json.loads(about.get("names", "null"))
            grid = json.loads(about.get("grid", str(_GRID)))
            with np.errstate(over="ignore"):  # weights altered to 1e305 are refused below
                network = cls(layout, weights, grid, None if names is None else tuple(names))
        except UnsupportedFormat:  # a ValueError too, but it has a name of its own
            raise
        except (SafetensorError, InputError, TypeError, ValueError, RecursionError) as error:
            raise CorruptMemory(f"{path} holds no usable network: {error}") from error
        old = about["format"] == "1"
        if (network._fingerprint(None) if old else network.fingerprint) != about.get("fingerprint"):
            raise CorruptMemory(f"the weights in {path} are not those that were written")
        return network


def _require_safetensors() -> None:
    if find_spec("safetensors") is None:
        raise MissingExtra(
            "reading and writing networks needs safetensors",
            remedy="pip install 'recollect[lookup]'",
        )


def _read_layout(about: dict[str, str], path: str) -> Layout:
    version = about.get("format", "")
    if version.isdigit() and int(version) > FORMAT:
        raise UnsupportedFormat(
            "this network was written by a newer version",
            expected=f"format 1 to {FORMAT}",
            got=version,
            remedy="Install a newer version of this library.",
        )
    try:
        layout = Layout.from_dict(json.loads(about["layout"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CorruptMemory(f"{path} is no network of this library") from error
    if not version.isdigit() or not int(version) >= 1:
        raise CorruptMemory(f"{path} is no network of this library")
    return layout


def _check_weights(weights: dict[str, Doubles], layout: Layout) -> None:
    inputs = {"fc1": layout.phi, "fc2": 2, "h2h": layout.state, "act": layout.state,
              "loc1": layout.state}  # fmt: skip
    outputs = {"out": layout.state, "act": layout.classes, "loc2": 2}
    for name in _LAYERS:
        weight = weights.get(f"{name}.weight")
        if weight is None or weight.ndim != 2 or not np.isfinite(weight).all():
            raise InvalidParameter(f"layer {name} is missing or not a finite matrix")
        out, into = weight.shape
        bias = weights.get(f"{name}.bias", np.zeros(out))
        fits = inputs.get(name, into) == into and outputs.get(name, out) == out
        if not fits or bias.shape != (out,) or not np.isfinite(bias).all():
            raise InvalidParameter(
                f"layer {name} does not fit the layout",
                expected=f"{outputs.get(name, out)} x {inputs.get(name, into)}",
                got=f"{out} x {into}",
                remedy="Use the layout that the network was trained with.",
            )


def _relu(x: Doubles) -> Doubles:
    return np.maximum(x, 0.0)
