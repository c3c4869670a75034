"""Encoders in ONNX files, run by ONNX Runtime.

On the CPU each image runs alone on one thread, as many at once as there are cores. That is as
fast as batches here, and an image's key is the same bits alone, in any batch and with any number
of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.base import Modality
from recollect.encoders.batching import (
    available_cores,
    check_count,
    check_inputs,
    encode_each,
    invalid,
    ordered,
    prepared_batches,
)
from recollect.encoders.identity import DECODING, checked_fields, fingerprint, read_model_file
from recollect.encoders.images import RGB, decode_image
from recollect.encoders.pooling import Pooling, check_pooling, joined, pooled, pooled_width
from recollect.encoders.preprocessing import Layout, Preprocessing, Resize, Size, preprocessing
from recollect.errors import EncoderFault, MissingExtra
from recollect.types import Floats

# Names that exporters give to the one vector of an input, best first.
_VECTORS = (
    "pooled",
    "embedding",
    "image_embeds",
    "text_embeds",
    "sentence_embedding",
    "pooler_output",
)
_FIELDS: dict[str, tuple[type, ...]] = {
    "path": (str,),
    "sha256": (str,),
    "output": (str,),
    "pooling": (str,),
    "maps": (list,),
    "preprocessing": (dict,),
}


class OnnxEncoder:
    """An image encoder in an ONNX file with one image input.

    Args:
        path: The file, or a folder that holds ``model.onnx``. Weights in files beside it are
            refused, because the fingerprint could not vouch for them.
        output: Name of the output that is the key; None takes the only one, or one named
            ``pooled``, ``embedding`` or the like. Outputs ``(n, dim)`` are taken as they are,
            others are pooled.
        preprocess: What the network expects: ``"imagenet"``, ``"mobilenet"``, ``"clip"``,
            ``"dinov2"``, ``"unit"``, ``"raw"``, or a ``Preprocessing``.
        size: Side of the input, (height, width), or ``"native"`` for each picture's own size.
            None takes what the model or else the preprocessing prescribes.
        mean: Other than the preprocessing's, in 0..255.
        scale: Other than the preprocessing's, in 0..255.
        layout: ``"NCHW"`` or ``"NHWC"``.
        resize: ``"crop"`` or ``"squash"``.
        crop: Share of the sides that ``"crop"`` keeps.
        interpolation: As in ``Preprocessing``.
        pooling: ``"mean"`` over positions or tokens, or ``"cls"``, the first token.
        maps: Outputs that ``encode_maps`` returns; None means all of shape ``(n, C, H, W)``.
        providers: Execution providers of ONNX Runtime; None means the CPU.
        threads: Images encoded at once on the CPU; None takes every core. Does not change keys.
        batch_size: Images in one run; None means 1 on the CPU, else 32. With more than 1, keys
            may differ in their last bits from one batch to another.
        sha256: Refuse a file with another SHA-256.

    Raises:
        EncoderFault: The file is missing, broken, or no encoder of images.
        EncoderMismatch: Its SHA-256 is another.
        InvalidParameter: An option outside its range.
        MissingExtra: ONNX Runtime or Pillow is not installed.
    """

    modality: Modality = "image"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        output: str | None = None,
        preprocess: str | Preprocessing = "imagenet",
        size: Size | None = None,
        mean: float | Sequence[float] | None = None,
        scale: float | Sequence[float] | None = None,
        layout: Layout | None = None,
        resize: Resize | None = None,
        crop: float | None = None,
        interpolation: str | None = None,
        pooling: Pooling = "mean",
        maps: Sequence[str] | None = None,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        batch_size: int | None = None,
        sha256: str | None = None,
    ) -> None:
        self.path = model_path(path)
        self._pooling = check_pooling(pooling)
        self._threads = available_cores() if threads is None else check_count("threads", threads)
        on_cpu = providers is None or tuple(providers[:1]) == ("CPUExecutionProvider",)
        self._batch_size = check_count("batch_size", batch_size or (1 if on_cpu else 32))
        content, self._sha256 = read_model_file(self.path, sha256=sha256)
        # Runs of one image each go side by side; one run of several uses all threads itself.
        threads_a_run = 1 if self._batch_size == 1 else self._threads
        self._session = Session(self.path, content, providers, threads=threads_a_run)
        self._input, shape = _image_input(self._session)
        self._preprocessing = preprocessing(
            preprocess,
            size=size,
            mean=mean,
            scale=scale,
            layout=layout,
            resize=resize,
            crop=crop,
            interpolation=interpolation,
        )
        self._fit_size_to(shape, chosen=size is not None)
        self._fit_batch_to(shape[0], chosen=batch_size is not None)
        self._output = vector_output(self._session, output)
        self._maps = _map_outputs(self._session, maps)
        self._dim = self._width()

    def __repr__(self) -> str:
        return f"OnnxEncoder({str(self.path)!r}, output={self._output!r}, dim={self._dim})"

    def __deepcopy__(self, memo: object) -> OnnxEncoder:
        # It never changes, and a session of the runtime cannot be copied.
        return self

    def __reduce__(self) -> tuple[Callable[..., OnnxEncoder], tuple[dict[str, Any]]]:
        # For worker processes, which load the model again.
        return OnnxEncoder.from_spec, (self.spec,)

    @property
    def dim(self) -> int:
        """Width of a key."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """Covers the file's SHA-256, outputs, pooling and preprocessing."""
        settings = {name: value for name, value in self.spec.items() if name != "path"}
        return fingerprint("onnx", settings | {"version": 1, "decoding": DECODING})

    @property
    def spec(self) -> dict[str, Any]:
        """Recipe for ``from_spec``: where the file is, its SHA-256, and every setting."""
        return {
            "type": "onnx",
            "path": str(self.path),
            "sha256": self._sha256,
            "output": self._output,
            "pooling": self._pooling,
            "maps": list(self._maps),
            "preprocessing": self._preprocessing.as_spec(),
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> OnnxEncoder:
        """Build from ``spec``; the file must be the same. Errors: as the class."""
        fields = checked_fields("onnx", spec, _FIELDS)
        ready = Preprocessing.from_spec(fields.pop("preprocessing"))
        size: Size = "native" if ready.size is None else ready.size
        return cls(fields.pop("path"), preprocess=ready, size=size, **fields)

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become inputs."""
        return self._preprocessing

    @property
    def outputs(self) -> dict[str, tuple[int | str | None, ...]]:
        """Name and shape of every output of the model; free sides have a name or None."""
        return dict(self._session.outputs)

    @property
    def maps(self) -> tuple[str, ...]:
        """Outputs that ``encode_maps`` returns."""
        return self._maps

    def encode(self, inputs: Sequence[Any]) -> Floats:
        """Encode images to float32 ``(n, dim)``."""
        workers = self._threads if self._batch_size == 1 else None
        return encode_each(self, inputs, batch_size=max(64, self._batch_size), workers=workers)

    def encode_outputs(self, inputs: Sequence[Any], names: Sequence[str]) -> dict[str, Floats]:
        """Run the model once and return several outputs, each float32 ``(n, ...)``.

        Raises:
            InvalidParameter: The model has no such output.
            InputError: Pictures of several sizes, where ``size="native"``, and outputs that
                depend on it.
            EncoderFault: The model failed, or gave NaN or infinity.
        """
        if not names or not set(names) <= self._session.outputs.keys():
            raise invalid("names", f"some of {', '.join(self._session.outputs)}", names)
        wanted = list(names)
        if self._batch_size == 1:
            several = check_inputs(inputs, "image")
            stream = ordered(
                lambda source: self._run([self._shrink(decode_image(source))], wanted),
                several,
                workers=self._threads,
                window=4 * self._threads,
            )
        else:
            batches = prepared_batches(self._shrink, inputs, self._batch_size)
            stream = (self._run(batch, wanted) for batch in batches)
        parts = list(stream)
        return {name: joined(name, [part[i] for part in parts]) for i, name in enumerate(names)}

    def encode_maps(
        self, inputs: Sequence[Any], names: Sequence[str] | None = None
    ) -> dict[str, Floats]:
        """Return feature maps by name, each float32 ``(n, C, H, W)``; None means ``maps``."""
        wanted = self._maps if names is None else tuple(names)
        if not wanted:
            raise EncoderFault(
                f"the model {str(self.path)!r} gives no feature maps",
                expected="an output of shape (n, C, H, W)",
                got=", ".join(self._session.outputs),
                remedy="Export the model with its feature maps as outputs.",
            )
        return self.encode_outputs(inputs, wanted)

    def prepare(self, value: RGB) -> Any:
        """Return the key of one picture; or the picture made small, where batches are run."""
        small = self._shrink(value)
        return self._keys([small])[0] if self._batch_size == 1 else small

    def encode_prepared(self, batch: Sequence[Any]) -> Floats:
        """Stack keys; or run the model on batches of small pictures."""
        if self._batch_size == 1:
            return np.stack(batch)
        starts = range(0, len(batch), self._batch_size)
        return np.concatenate([self._keys(batch[i : i + self._batch_size]) for i in starts])

    def _shrink(self, value: RGB) -> RGB:
        return self._preprocessing.shrink(value)

    def _keys(self, batch: Sequence[RGB]) -> Floats:
        (values,) = self._run(batch, [self._output])
        return pooled(values, self._pooling)

    def _run(self, batch: Sequence[RGB], names: list[str]) -> list[Floats]:
        """Run the model once on small pictures; one array an output."""
        images = np.stack([self._preprocessing.scaled(each) for each in batch])
        return self._session.run(names, {self._input: images}, rows=len(batch))

    def _fit_batch_to(self, fixed: Any, *, chosen: bool) -> None:
        """Run images one by one where the model or their sizes leave nothing else."""
        if isinstance(fixed, int) and fixed != 1:
            raise not_an_encoder(self.path, "a free number of images, or 1", f"always {fixed}")
        if self._batch_size == 1 or not (fixed == 1 or self._preprocessing.size is None):
            return
        if chosen:
            raise invalid("batch_size", "1 for this model, or for native sizes", self._batch_size)
        self._batch_size = 1

    def _fit_size_to(self, shape: tuple[Any, ...], *, chosen: bool) -> None:
        """Take the size that the model prescribes, or hold it against the size asked for."""
        sides = shape[2:] if self._preprocessing.layout == "NCHW" else shape[1:3]
        colors = shape[1] if self._preprocessing.layout == "NCHW" else shape[3]
        if isinstance(colors, int) and colors != 3:
            raise not_an_encoder(self.path, "3 color channels in this layout", f"shape {shape}")
        if not all(isinstance(side, int) for side in sides):
            return
        if not chosen:
            self._preprocessing = preprocessing(self._preprocessing, size=(sides[0], sides[1]))
        if self._preprocessing.size != tuple(sides):
            raise invalid(
                "size", f"{tuple(sides)}, which the model prescribes", self._preprocessing.size
            )

    def _width(self) -> int:
        width = pooled_width(self._session.outputs[self._output])
        if isinstance(width, int):
            return width
        grey = np.full((*(self._preprocessing.size or (64, 64)), 3), 128, np.uint8)
        return int(self._keys([grey]).shape[1])


class Session:
    """A model in ONNX Runtime; whatever goes wrong in it is an ``EncoderFault``."""

    def __init__(
        self,
        path: Path,
        content: bytes,
        providers: Sequence[str] | None = None,
        *,
        threads: int = 1,
    ) -> None:
        self.path = path
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        # The bytes are all there is: weights in other files would escape the fingerprint.
        options.add_session_config_entry(_EXTERNAL, os.devnull)
        chosen = ["CPUExecutionProvider"] if providers is None else list(providers)
        unknown = [each for each in chosen if each not in runtime.get_available_providers()]
        if unknown or not chosen:
            known = ", ".join(runtime.get_available_providers())
            raise invalid("providers", f"some of {known}", chosen)
        try:
            # Without its fallback, which prints to the standard output and changes providers.
            self._session = runtime.InferenceSession(
                content, options, providers=chosen, enable_fallback=0
            )
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            # Names may be no text at all.
            self.inputs = {each.name: (each.type, tuple(each.shape)) for each in inputs}
            self.outputs = {each.name: tuple(each.shape) for each in outputs}
        except Exception as error:
            raise self._fault("cannot be loaded", "a complete ONNX model", error) from error

    def run(self, names: list[str], feed: Mapping[str, NDArray[Any]], *, rows: int) -> list[Floats]:
        """Run once; each output is float32 with ``rows`` rows, all finite."""
        try:
            results = self._session.run(names, dict(feed))
        except Exception as error:
            shapes = ", ".join(str(each.shape) for each in feed.values())
            raise self._fault("failed", f"inputs of shape {shapes} to work", error) from error
        return [self._checked(name, each, rows) for name, each in zip(names, results, strict=True)]

    def _checked(self, name: str, values: Any, rows: int) -> Floats:
        problem = None
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
            problem = f"{getattr(values, 'dtype', type(values).__name__)}"
        elif values.ndim < 2 or len(values) != rows:
            problem = f"shape {values.shape}"
        elif not np.isfinite(values).all():
            problem = "NaN or infinity"
        else:
            return np.asarray(values, np.float32)
        raise EncoderFault(
            f"the output {name!r} of the model {str(self.path)!r} is no batch of vectors or maps",
            expected=f"finite floats with {rows} rows",
            got=problem,
            remedy="Choose another output, or check the model and its preprocessing.",
        )

    def _fault(self, what: str, expected: str, error: Exception) -> EncoderFault:
        return EncoderFault(
            f"the model {str(self.path)!r} {what}",
            expected=expected,
            got=f"{type(error).__name__}: {error}"[:300],
            remedy="Export the model again with its weights inside, or use another one.",
        )


_EXTERNAL = "session.model_external_initializers_file_folder_path"


def model_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of the model file; a folder stands for its ``model.onnx``."""
    try:
        given = Path(path).expanduser().absolute()
        return given / "model.onnx" if given.is_dir() else given
    except (TypeError, ValueError, RuntimeError) as error:
        raise invalid("path", "the path of a file", path) from error


def not_an_encoder(path: Path, expected: str, got: str) -> EncoderFault:
    """Return the error for a model of another form than ours."""
    return EncoderFault(
        f"the model {str(path)!r} is no encoder that can be used here",
        expected=expected,
        got=got,
        remedy="Check the model's inputs and outputs, or use another one.",
    )


def _image_input(session: Session) -> tuple[str, tuple[Any, ...]]:
    if len(session.inputs) == 1:
        ((name, (kind, shape)),) = session.inputs.items()
        if kind == "tensor(float)" and len(shape) == 4:
            return name, shape
    got = ", ".join(f"{name} {kind} {shape}" for name, (kind, shape) in session.inputs.items())
    raise not_an_encoder(session.path, "one input tensor(float) of rank 4", got or "no input")


def vector_output(session: Session, asked: str | None) -> str:
    """Return the output that is the key; raises ``InvalidParameter`` if none is likely."""
    names = tuple(session.outputs)
    if asked is None:
        likely = [name for name in _VECTORS if name in names]
        if len(names) == 1 or likely:
            return likely[0] if likely else names[0]
    elif asked in names:
        return asked
    raise invalid("output", f"one of {', '.join(names)}", asked)


def _map_outputs(session: Session, asked: Sequence[str] | None) -> tuple[str, ...]:
    maps = tuple(name for name, shape in session.outputs.items() if len(shape) == 4)
    if asked is None:
        return maps
    for name in asked:
        if name not in maps:
            raise invalid("maps", f"some of {', '.join(maps) or 'no outputs'}", name)
    return tuple(asked)


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            "ONNX models are run by ONNX Runtime, which is not installed",
            remedy="Install it with: pip install 'recollect[onnx]'",
        ) from error
    return onnxruntime
