"""A torch module of one's own as encoder: its output, or what one of its layers gives.

Keys of one input may differ from batch to batch in their last bits, by about 1e-6 of their
length, because torch sums in another order. ``batch_size=1`` gives the same bits always.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from recollect.encoders.base import Modality
from recollect.encoders.batching import check_count, encode_each, invalid, prepared_batches
from recollect.encoders.identity import DECODING, fingerprint
from recollect.encoders.images import RGB
from recollect.encoders.pooling import Pooling, check_pooling, joined, pooled
from recollect.encoders.preprocessing import Preprocessing, Size, preprocessing
from recollect.errors import EncoderFault, MissingExtra
from recollect.types import Floats

if TYPE_CHECKING:
    from torch import Tensor, device
    from torch.nn import Module

Prepare: TypeAlias = Callable[[RGB], Any]

# Switching a module to evaluation and back must not be seen by another thread.
_RUNNING = threading.RLock()


class TorchEncoder:
    """An image encoder made of a torch module, which is left as it was found.

    Args:
        module: Takes float images ``(n, 3, H, W)``.
        layer: Name of the submodule whose output is the key, as in ``named_modules()``; None
            takes the module's own output. Vectors ``(n, dim)`` are taken as they are, tokens and
            maps are pooled; of a tuple the first entry.
        preprocess: What the network expects, see ``OnnxEncoder``; or a function from RGB uint8
            ``(H, W, 3)`` to floats ``(3, H, W)``, which needs a ``name``.
        size: Side of the input, (height, width), or ``"native"``; None takes the
            preprocessing's own.
        pooling: ``"mean"`` over positions or tokens, or ``"cls"``, the first token.
        maps: Names of the layers that ``encode_maps`` returns.
        device: Where to run; the module is moved there. None leaves it where it is.
        batch_size: Images in one run.
        name: Stands for a preprocessing function in the fingerprint.
        **changes: Other options of ``Preprocessing``: mean, scale, resize, crop, interpolation.

    Raises:
        EncoderFault: The module has no such layer, fails, or gives something else than vectors.
        InvalidParameter: An option outside its range.
        MissingExtra: torch is not installed.

    Example:
        >>> import torch
        >>> encoder = TorchEncoder(torch.nn.Conv2d(3, 5, 2), preprocess="unit", size=8)
        >>> encoder.encode([np.zeros((8, 8, 3), np.uint8)]).shape
        (1, 5)
    """

    modality: Modality = "image"

    def __init__(
        self,
        module: Module,
        layer: str | None = None,
        *,
        preprocess: str | Preprocessing | Prepare = "imagenet",
        size: Size | None = None,
        pooling: Pooling = "mean",
        maps: Sequence[str] = (),
        device: str | None = None,
        batch_size: int = 32,
        name: str | None = None,
        **changes: Any,
    ) -> None:
        load_torch()
        self.layer, self.maps = layer, tuple(maps)
        self._module = module if device is None else module.to(device)
        self._pooling = check_pooling(pooling)
        self._batch_size = check_count("batch_size", batch_size)
        for asked in (layer, *self.maps):
            _find_layer(module, asked)
        self._prepare, self._recipe = _chosen(preprocess, name, size, changes)
        if "size" in self._recipe and self._recipe["size"] is None:
            # Pictures of several sizes do not fit into one run.
            self._batch_size = 1
        self._state: tuple[Any, str] | None = None
        self._dim = self._width()

    def __repr__(self) -> str:
        kind = type(self._module).__name__
        return f"TorchEncoder({kind}, layer={self.layer!r}, dim={self._dim})"

    def __deepcopy__(self, memo: object) -> TorchEncoder:
        # It never changes; scikit-learn copies the parameters of its estimators.
        return self

    @property
    def dim(self) -> int:
        """Width of a key."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """Covers the module's class, structure and every tensor of its state, and all options.

        Training the module changes it.
        """
        settings = {
            "version": 1,
            "decoding": DECODING,
            "weights": self._weights(),
            "layer": self.layer,
            "pooling": self._pooling,
            "maps": list(self.maps),
            "preprocessing": self._recipe,
        }
        return fingerprint("torch", settings)

    @property
    def spec(self) -> None:
        """None: a module cannot be built from a description."""
        return

    def encode(self, inputs: Sequence[Any]) -> Floats:
        """Encode images to float32 ``(n, dim)``."""
        return encode_each(self, inputs, batch_size=self._batch_size)

    def encode_maps(
        self, inputs: Sequence[Any], names: Sequence[str] | None = None
    ) -> dict[str, Floats]:
        """Return what layers give, by name, each float32 ``(n, C, H, W)``; one run an image.

        Args:
            inputs: Images.
            names: Layers; None takes ``maps``.

        Raises:
            EncoderFault: A layer gives something else than maps.
            InvalidParameter: No layer was named.
        """
        wanted = self.maps if names is None else tuple(names)
        if not wanted:
            raise invalid("names", "at least one layer, here or as maps=", wanted)
        for each in wanted:
            _find_layer(self._module, each)
        parts: dict[str, list[Floats]] = {each: [] for each in wanted}
        for batch in prepared_batches(self.prepare, inputs, self._batch_size):
            found = self._run(batch, wanted)
            for each in wanted:
                parts[each].append(_checked_map(each, found[each]))
        return {each: joined(each, values) for each, values in parts.items()}

    def prepare(self, value: RGB) -> Any:
        """Make one picture an input."""
        return self._prepare(value)

    def encode_prepared(self, batch: Sequence[Any]) -> Floats:
        """Run the module and pool."""
        keys = []
        for start in range(0, len(batch), self._batch_size):
            part = batch[start : start + self._batch_size]
            keys.append(pooled(self._run(part, (self.layer,))[self.layer], self._pooling))
        return np.concatenate(keys)

    def _run(self, batch: Sequence[Any], layers: Iterable[str | None]) -> dict[str | None, Floats]:
        torch = load_torch()
        with evaluating(self._module), _hooks(self._module, layers) as caught:
            try:
                images = np.stack([np.asarray(each, np.float32) for each in batch])
                inputs = torch.from_numpy(images).to(device_of(self._module))
                caught[None] = self._module(inputs)
            except Exception as error:
                raise EncoderFault(
                    f"the module {type(self._module).__name__} failed",
                    expected=f"{len(batch)} inputs of shape {np.shape(batch[0])} to work",
                    got=f"{type(error).__name__}: {error}"[:300],
                    remedy="Check its input size and its device.",
                ) from error
        return {each: _array(each, caught.get(each)) for each in layers}

    def _weights(self) -> str:
        """Hash the state again only where a tensor was written or replaced since."""
        state = self._module.state_dict()
        mark = _versions(state.values())
        if self._state is None or mark is None or self._state[0] != mark:
            self._state = (mark, _hash_state(self._module, state))
        return self._state[1]

    def _width(self) -> int:
        sides = self._recipe.get("size") or (224, 224)
        grey = np.full((*sides, 3), 128, np.uint8)
        return int(self.encode_prepared([self._prepare(grey)]).shape[1])


@contextmanager
def evaluating(module: Module) -> Generator[None, None, None]:
    """Switch a module to evaluation without gradients; each submodule's mode is restored."""
    torch = load_torch()
    with _RUNNING:
        modes = [(each, each.training) for each in module.modules()]
        module.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            for each, training in modes:
                each.training = training


def device_of(module: Module) -> device | str:
    """Where a module's first tensor lies."""
    first = next(iter([*module.parameters(), *module.buffers()]), None)
    return "cpu" if first is None else first.device


def load_torch() -> Any:
    """Import torch late; raises ``MissingExtra`` where it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra(
            "modules are run by torch, which is not installed",
            remedy="Install it with: pip install 'recollect[torch]'",
        ) from error
    return torch


def _chosen(
    preprocess: str | Preprocessing | Prepare,
    name: str | None,
    size: Size | None,
    changes: dict[str, Any],
) -> tuple[Prepare, dict[str, Any]]:
    """What makes a picture an input, and how the fingerprint tells of it."""
    if isinstance(preprocess, (str, Preprocessing)):
        unknown = changes.keys() - {"mean", "scale", "resize", "crop", "interpolation"}
        if unknown:
            raise invalid(min(unknown), "an option of TorchEncoder or Preprocessing", "it")
        ready = preprocessing(preprocess, size=size, **changes)
        return ready, ready.as_spec()
    if not callable(preprocess) or not name:
        raise invalid("preprocess", "a known name, or a function with a name=", preprocess)
    if size is not None or changes:
        raise invalid("size", "none beside a function, which does it all", size or changes)
    return preprocess, {"function": name}


@contextmanager
def _hooks(
    module: Module, layers: Iterable[str | None]
) -> Generator[dict[str | None, Any], None, None]:
    """Catch what layers give; the hooks are gone afterwards, whatever happened."""
    caught: dict[str | None, Any] = {}

    def catching(name: str) -> Callable[[Module, Any, Any], None]:
        """Make a hook that knows its layer's name; torch passes only the module."""

        def hook(_module: Module, _inputs: Any, output: Any) -> None:
            """Keep the output; of a layer that runs several times, the last."""
            caught[name] = output

        return hook

    handles = [
        _find_layer(module, name).register_forward_hook(catching(name))
        for name in layers
        if name is not None
    ]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def _find_layer(module: Module, name: str | None) -> Module:
    layers = dict(module.named_modules())
    if name is None or (name and name in layers):
        return module if name is None else layers[name]
    raise EncoderFault(
        f"the module {type(module).__name__} has no layer {name!r}",
        expected=", ".join(each for each in layers if each)[:500] or "no layer name",
        got=repr(name),
        remedy="Take a name from module.named_modules().",
    )


def _array(name: str | None, output: Any) -> Floats:
    torch = load_torch()
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    if isinstance(first, torch.Tensor) and first.is_floating_point():
        values: Floats = first.to("cpu", torch.float32).numpy()
        return values
    raise EncoderFault(
        f"the layer {name!r} gave no tensor of floats" if name else "the module gave no tensor",
        expected="a float tensor",
        got="nothing: it did not run" if output is None else type(first).__name__,
        remedy="Choose another layer.",
    )


def _checked_map(name: str, values: Floats) -> Floats:
    if values.ndim == 4 and np.isfinite(values).all():
        return values
    raise EncoderFault(
        f"the layer {name!r} gave no feature maps",
        expected="finite floats of shape (n, C, H, W)",
        got=f"shape {values.shape}" if values.ndim != 4 else "NaN or infinity",
        remedy="Choose a convolutional layer.",
    )


def _versions(tensors: Iterable[Any]) -> list[tuple[int, int]] | None:
    """Where each tensor lies and how often it was written; None where torch does not count."""
    try:
        return [(each.data_ptr(), each._version) for each in tensors]  # noqa: SLF001 - no other way
    except (AttributeError, RuntimeError):
        return None


def _hash_state(module: Module, state: dict[str, Tensor]) -> str:
    """SHA-256 over class, structure, and each tensor's name, type, shape and bytes."""
    torch = load_torch()
    kind = type(module)
    total = hashlib.sha256(f"{kind.__module__}.{kind.__qualname__}\n{module!r}\n".encode())
    for name, each in sorted(state.items()):
        if not isinstance(each, torch.Tensor):
            total.update(f"{name} {each!r}\n".encode())
            continue
        total.update(f"{name} {each.dtype} {tuple(each.shape)}\n".encode())
        flat = each.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
