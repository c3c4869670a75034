"""Many inputs to keys: read and decoded by all cores, encoded in batches, each content once."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from recollect.encoders.base import Encoder
from recollect.encoders.cache import EncodingCache
from recollect.encoders.images import MAX_BYTES, MAX_PIXELS, decode_image, fetch
from recollect.errors import EmptyBatch, EncoderFault, InputError, InvalidParameter
from recollect.types import Floats, Ids

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")

# A batch of whole pictures is closed early when it holds this much.
_BATCH_BYTES = 256 * 2**20


@runtime_checkable
class StagedEncoder(Encoder, Protocol):
    """An encoder in two stages, the first of which runs in many threads at once."""

    def prepare(self, value: Any) -> Any:
        """Make one input, uint8 RGB ``(H, W, 3)`` or a text, small; or its key already."""
        ...

    def encode_prepared(self, batch: Sequence[Any]) -> Floats:
        """Encode what ``prepare`` returned, ``(len(batch), dim)``."""
        ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """The keys of many inputs, and which inputs could not be encoded.

    Attributes:
        keys: float32 ``(len(kept), dim)``, all finite, in the order of the inputs.
        kept: int64, sorted. Index of the input of each key.
        problems: Index and error of each input that was skipped, sorted by index.
    """

    keys: Floats
    kept: Ids
    problems: list[tuple[int, InputError]]


def encode_all(
    encoder: Encoder,
    inputs: Iterable[Any],
    *,
    batch_size: int = 64,
    on_error: Literal["raise", "skip"] = "raise",
    progress: Callable[[int, int], object] | None = None,
    cache: EncodingCache | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Encoded:
    """Encode many inputs.

    Args:
        encoder: Any encoder; those of one's own get uint8 RGB arrays, or texts.
        inputs: Images (see ``decode_image``; also one array ``(n, H, W)``, ``(n, H, W, 3)`` or
            ``(n, H, W, 4)``) or texts.
        batch_size: Inputs handed to the encoder at once.
        on_error: ``"raise"`` at the first input that cannot be read, or ``"skip"`` it and report
            it in ``problems``. Errors of the encoder itself are always raised.
        progress: Called as ``progress(done, total)`` after each batch.
        cache: Where keys are looked up by content before anything is decoded, and then kept.
        workers: Threads that read and decode; None takes every core.
        max_pixels: Larger pictures are bad inputs.
        max_bytes: Larger files are bad inputs.

    Raises:
        EmptyBatch: There are no inputs.
        BadImage: An image cannot be decoded, with ``on_error="raise"``.
        InputError: Something is no text, or a single input was given instead of several.
        InvalidParameter: An option outside its range.
        EncoderFault: The encoder failed, or gave something other than finite keys.

    Example:
        >>> from recollect.encoders import PixelEncoder
        >>> pictures = [np.zeros((4, 4), np.uint8), "no such file.png"]
        >>> encoded = encode_all(PixelEncoder(size=2), pictures, on_error="skip")
        >>> encoded.kept.tolist(), [index for index, _ in encoded.problems]
        ([0], [1])
    """
    check_count("batch_size", batch_size)
    if on_error not in {"raise", "skip"}:
        raise invalid("on_error", "'raise' or 'skip'", on_error)
    several = check_inputs(inputs, encoder.modality)
    cores = available_cores() if workers is None else check_count("workers", workers)
    # Asked once: an isinstance() of a protocol reads every property.
    staged = encoder if isinstance(encoder, StagedEncoder) else None
    name = encoder.fingerprint if cache is not None else ""
    reader = _Reader(encoder, staged, cache, name, max_pixels, max_bytes)
    run = _Run(reader, len(several), progress)
    # Whole pictures are large; what a first stage made of them is not.
    window = 2 * cores + (batch_size if staged else 0)
    with closing(ordered(reader.read, several, workers=cores, window=window)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, InputError) and on_error == "raise":
                raise outcome
            run.take(outcome)
            if run.waiting >= batch_size or run.waiting_bytes >= _BATCH_BYTES:
                run.flush()
    if run.waiting:
        run.flush()
    return run.encoded()


def encode_each(
    encoder: Encoder, inputs: Iterable[Any], *, batch_size: int, workers: int | None = None
) -> Floats:
    """What ``encode`` of a staged encoder does: read in threads, encode, raise at a bad input."""
    return encode_all(encoder, inputs, batch_size=batch_size, workers=workers).keys


def prepared_batches(
    prepare: Callable[[Any], Any], inputs: Iterable[Any], batch_size: int
) -> Iterator[list[Any]]:
    """Decode and prepare images by all cores; yields lists of at most ``batch_size``."""
    several = check_inputs(inputs, "image")
    cores = available_cores()

    def ready(source: Any) -> Any:
        """Decode and prepare in one go, so that no whole picture waits for its batch."""
        return prepare(decode_image(source))

    with closing(ordered(ready, several, workers=cores, window=2 * cores + batch_size)) as stream:
        while batch := list(islice(stream, batch_size)):
            yield batch


@dataclass(frozen=True, slots=True)
class _Ready:
    """One input that was read: its key if the cache had it, or what the encoder needs."""

    value: Any
    digest: bytes
    key: Floats | None = None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns one input into what the encoder needs; runs in many threads."""

    encoder: Encoder
    staged: StagedEncoder | None
    cache: EncodingCache | None
    fingerprint: str
    max_pixels: int
    max_bytes: int

    def read(self, source: Any) -> _Ready | InputError:
        """Return bad inputs as values: whether they stop the work is decided elsewhere."""
        try:
            return self._text(source) if self.encoder.modality == "text" else self._image(source)
        except InputError as error:
            return error

    def _image(self, source: Any) -> _Ready:
        picture = fetch(source, max_bytes=self.max_bytes).settled(max_pixels=self.max_pixels)
        digest = picture.digest() if self.cache is not None else b""
        key = self._known(digest)
        if key is not None:
            return _Ready(None, digest, key)
        return _Ready(self._prepared(picture.decode(max_pixels=self.max_pixels)), digest)

    def _text(self, source: Any) -> _Ready:
        content = utf8(source)
        digest = hashlib.sha256(content).digest() if self.cache is not None else b""
        key = self._known(digest)
        return _Ready(self._prepared(source) if key is None else None, digest, key)

    def _prepared(self, value: Any) -> Any:
        return value if self.staged is None else self.staged.prepare(value)

    def _known(self, digest: bytes) -> Floats | None:
        return self.look_up([digest]).get(digest)

    def look_up(self, digests: list[bytes]) -> dict[bytes, Floats]:
        """Keys that the cache holds, by digest; one of another width counts as not there."""
        if self.cache is None:
            return {}
        found = self.cache.get(self.fingerprint, digests)
        return {each: key for each, key in found.items() if key.shape == (self.encoder.dim,)}

    def encode(self, values: list[Any]) -> Floats:
        """Encode what :meth:`read` left to do, and judge what an encoder gives back."""
        encode = self.encoder.encode if self.staged is None else self.staged.encode_prepared
        return checked_keys(
            encode(values), len(values), self.encoder.dim, type(self.encoder).__name__
        )


class _Run:
    """Collects what was read into batches, and their keys in the order of the inputs."""

    def __init__(
        self, reader: _Reader, total: int, progress: Callable[[int, int], object] | None
    ) -> None:
        self._reader, self._total, self._progress = reader, total, progress
        self._batch: list[_Ready] = []
        self._keys: list[Floats] = []
        self._kept: list[int] = []
        self._problems: list[tuple[int, InputError]] = []
        self._taken = 0
        self.waiting = 0
        self.waiting_bytes = 0

    def take(self, outcome: _Ready | InputError) -> None:
        """Let an input wait for its batch, or note its error and place; both count as progress."""
        if isinstance(outcome, InputError):
            self._problems.append((self._taken, outcome))
        else:
            self._batch.append(outcome)
            self._kept.append(self._taken)
            self.waiting_bytes += getattr(outcome.value, "nbytes", 0)
        self._taken += 1
        self.waiting += 1

    def flush(self) -> None:
        """Encode what waits, and report how many inputs were taken."""
        if self._batch:
            self._keys.append(_encode_batch(self._reader, self._batch))
        self._batch, self.waiting, self.waiting_bytes = [], 0, 0
        if self._progress is not None:
            self._progress(self._taken, self._total)

    def encoded(self) -> Encoded:
        """What was flushed; without any key, no rows of the encoder's width."""
        empty = np.empty((0, self._reader.encoder.dim), np.float32)
        return Encoded(
            keys=np.concatenate(self._keys) if self._keys else empty,
            kept=np.asarray(self._kept, np.int64),
            problems=self._problems,
        )


def _encode_batch(reader: _Reader, batch: list[_Ready]) -> Floats:
    if reader.cache is None:
        return reader.encode([each.value for each in batch])
    known = {each.digest: each.key for each in batch if each.key is not None}
    # The same content may stand twice in this batch, or have been encoded since it was read.
    missing = {each.digest: each.value for each in batch if each.digest not in known}
    known |= reader.look_up(list(missing))
    fresh = {digest: value for digest, value in missing.items() if digest not in known}
    if fresh:
        keys = dict(zip(fresh, reader.encode(list(fresh.values())), strict=True))
        reader.cache.put(reader.fingerprint, keys)
        known |= keys
    return np.stack([known[each.digest] for each in batch])


def ordered(
    work: Callable[[_Input], _Output], inputs: Iterable[_Input], *, workers: int, window: int
) -> Generator[_Output, None, None]:
    """Apply ``work`` in threads; yields in order, at most ``window`` results ahead.

    What ``work`` raises is raised here, at its place; the rest is then abandoned.
    """
    waiting = iter(inputs)
    first = list(islice(waiting, 2))
    if workers == 1 or len(first) < 2:
        yield from map(work, first)
        yield from map(work, waiting)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="recollect-encode")
    try:
        futures: deque[Future[_Output]] = deque()
        for value in (*first, *islice(waiting, max(window - 2, 0))):
            futures.append(pool.submit(work, value))
        while futures:
            done = futures.popleft().result()
            futures.extend(pool.submit(work, value) for value in islice(waiting, 1))
            yield done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_inputs(inputs: Any, modality: str) -> Sequence[Any]:
    """Return the inputs as a sequence that is not empty, and surely not one single input."""
    single = isinstance(inputs, (str, bytes, os.PathLike)) or not isinstance(inputs, Iterable)
    if isinstance(inputs, np.ndarray) and modality == "image":
        # Three dimensions are several grey pictures, unless the last one looks like colors.
        single = inputs.ndim == 2 or (inputs.ndim == 3 and inputs.shape[2] in {3, 4})
    if single:
        raise InputError(
            "an encoder takes several inputs at once",
            expected=f"a list of {modality}s",
            got=type(inputs).__name__,
            remedy="Put a single input into a list: [x].",
        )
    several: Any = inputs if isinstance(inputs, np.ndarray) else list(inputs)
    if len(several) == 0:
        raise EmptyBatch(
            "there is nothing to encode",
            expected=f"at least one {modality}",
            got="none",
            remedy="Check that the folder or the list is not empty.",
        )
    checked: Sequence[Any] = several
    return checked


def utf8(text: Any) -> bytes:
    """Return a text's bytes; raises ``InputError`` for what is no text."""
    try:
        if isinstance(text, str):
            return text.encode()
        got = f"{type(text).__name__} {text!r:.80}"
    except UnicodeEncodeError as error:
        got = f"half a character at position {error.start}"
    raise InputError(
        "cannot use this as a text",
        expected="a str of whole characters",
        got=got,
        remedy="Decode bytes with .decode(), and leave out what is missing.",
    )


def checked_keys(keys: Any, rows: int, dim: int, name: str) -> Floats:
    """Return keys as float32 ``(rows, dim)``; raises ``EncoderFault`` for anything else."""
    given = np.asarray(keys)
    if given.shape != (rows, dim) or given.dtype.kind != "f":
        got = f"{given.dtype} of shape {given.shape}"
    else:
        with np.errstate(over="ignore"):
            found = np.ascontiguousarray(given, np.float32)
        if np.isfinite(found).all():
            return found
        got = "NaN or infinity"
    raise EncoderFault(
        f"{name} gave something other than keys",
        expected=f"finite float32 of shape ({rows}, {dim})",
        got=got,
        remedy="Check the model, its output and its preprocessing.",
    )


def check_count(name: str, value: Any) -> int:
    """Return a count that is at least 1; raises ``InvalidParameter``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise invalid(name, "an integer of at least 1", value)
    return int(value)


def invalid(name: str, expected: str, got: Any) -> InvalidParameter:
    """Return the error for an option outside its range."""
    return InvalidParameter(
        f"the option {name!r} cannot be used",
        expected=expected,
        got=f"{got!r:.80}",
        remedy=f"Give {expected}.",
    )
