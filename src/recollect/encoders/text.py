"""Sentence encoders: an ONNX model with its tokenizer, or a folder of Hugging Face.

An ONNX model reads each text alone, without padding, as many at once as there are cores: its key
is the same bits alone and in any batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recollect.encoders.base import Modality
from recollect.encoders.batching import available_cores, check_count, encode_each
from recollect.encoders.hub import find_folder, read_json
from recollect.encoders.huggingface import HuggingFaceEncoder
from recollect.encoders.identity import check_hash, checked_fields, fingerprint, read_model_file
from recollect.encoders.onnx import Session, not_an_encoder, vector_output
from recollect.encoders.pooling import Pooling, check_pooling, pooled
from recollect.errors import EncoderFault, MissingExtra
from recollect.types import Floats

# What models of sentences were trained on: longer texts are cut.
MAX_TOKENS = 256
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_FIELDS: dict[str, tuple[type, ...]] = {
    "path": (str,),
    "sha256": (str,),
    "output": (str,),
    "pooling": (str,),
    "max_tokens": (int,),
    "normalize": (bool,),
}


class TextEncoder:
    """A sentence encoder: texts that mean the same get keys that point the same way.

    Args:
        model: A folder with ``model.onnx`` and ``tokenizer.json``; or a folder of Hugging Face
            or a name like ``sentence-transformers/all-MiniLM-L6-v2``.
        output: ONNX: name of the output; None takes the only one, or one named ``embedding`` or
            the like. Hugging Face: ``"mean"``, ``"cls"``, ``"pooled"`` or ``"projection"``;
            None takes what the folder says of its pooling, else the mean.
        pooling: ONNX: ``"mean"`` over tokens or ``"cls"``, the first, where the output is tokens.
        max_tokens: Longer texts are cut; None takes 256, or less if the model allows less.
        normalize: Scale keys to length 1.
        revision: Of a model on the hub.
        allow_download: Fetch what is not here yet from the hub.
        device: Where torch runs; an ONNX model runs on the CPU.
        threads: ONNX: texts encoded at once; None takes every core. Does not change keys.
        sha256: ONNX: refuse files whose hash, as in ``spec``, is another.

    Raises:
        EncoderFault: No such model, or one that is broken or of another kind.
        EncoderMismatch: The files are not those whose hash was given.
        InvalidParameter: An option outside its range.
        MissingExtra: ONNX Runtime and tokenizers, or transformers, are not installed.
    """

    modality: Modality = "text"

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        output: str | None = None,
        pooling: Pooling = "mean",
        max_tokens: int | None = None,
        normalize: bool = True,
        revision: str | None = None,
        allow_download: bool = False,
        device: str = "cpu",
        threads: int | None = None,
        sha256: str | None = None,
    ) -> None:
        folder = Path(model).expanduser()
        self._inner: _OnnxText | HuggingFaceEncoder
        if (folder / "model.onnx").exists():
            self._inner = _OnnxText(
                folder.absolute(),
                output=output,
                pooling=pooling,
                max_tokens=max_tokens,
                normalize=normalize,
                threads=threads,
                sha256=sha256,
            )
            return
        found = find_folder(str(model), revision=revision, allow_download=allow_download)
        self._inner = HuggingFaceEncoder(
            str(model),
            revision=revision,
            modality="text",
            output=_sentence_output(found) if output is None else output,  # type: ignore[arg-type]
            normalize=normalize,
            max_tokens=MAX_TOKENS if max_tokens is None else max_tokens,
            device=device,
            sha256=sha256,
        )

    def __repr__(self) -> str:
        return f"TextEncoder({self._inner!r})"

    def __deepcopy__(self, memo: object) -> TextEncoder:
        # It never changes, and a session of the runtime cannot be copied.
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # For worker processes, which load the model again.
        return _rebuild, (self.spec,)

    @property
    def dim(self) -> int:
        """Width of a key."""
        return self._inner.dim

    @property
    def fingerprint(self) -> str:
        """Covers the model's and the tokenizer's bytes and every setting."""
        return self._inner.fingerprint

    @property
    def spec(self) -> dict[str, Any]:
        """Recipe for ``from_spec``; of a Hugging Face model, that of its own encoder."""
        return self._inner.spec

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> TextEncoder:
        """Build from ``spec`` of an ONNX model; the files must be the same."""
        fields = checked_fields("text", spec, _FIELDS)
        path = fields.pop("path")
        if not (Path(path) / "model.onnx").exists():
            raise EncoderFault(
                f"there is no sentence encoder at {path!r}",
                expected="a folder with model.onnx and tokenizer.json",
                got="none",
                remedy="Put the model back where it was.",
            )
        return cls(path, **fields)

    def encode(self, inputs: Sequence[str]) -> Floats:
        """Encode texts to float32 ``(n, dim)``."""
        workers = self._inner.threads if isinstance(self._inner, _OnnxText) else None
        return encode_each(self, inputs, batch_size=64, workers=workers)

    def prepare(self, value: str) -> Any:
        """Return the key of one text (ONNX), or the text as it is."""
        return self._inner.prepare(value)

    def encode_prepared(self, batch: Sequence[Any]) -> Floats:
        """Stack keys, or run the model."""
        return self._inner.encode_prepared(batch)


class _OnnxText:
    """Tokenizer and model of one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        output: str | None,
        pooling: Pooling,
        max_tokens: int | None,
        normalize: bool,
        threads: int | None,
        sha256: str | None,
    ) -> None:
        self._folder, self._normalize = folder, bool(normalize)
        self._pooling = check_pooling(pooling)
        self.threads = available_cores() if threads is None else check_count("threads", threads)
        self._max_tokens = check_count(
            "max_tokens", MAX_TOKENS if max_tokens is None else max_tokens
        )
        model, model_hash = read_model_file(folder / "model.onnx")
        words, words_hash = read_model_file(folder / "tokenizer.json")
        self._sha256 = f"{model_hash}+{words_hash}"
        check_hash(folder, expected=sha256, got=self._sha256)
        self._tokenizer = _tokenizer(folder, words, self._max_tokens)
        self._session = Session(folder / "model.onnx", model)
        self._check_inputs()
        self._output = vector_output(self._session, output)
        self.dim = len(self.prepare("a"))

    def __repr__(self) -> str:
        return f"{str(self._folder)!r}, output={self._output!r}, dim={self.dim}"

    @property
    def fingerprint(self) -> str:
        """Of settings and of the files' hash, not of where the folder lies."""
        settings = {name: value for name, value in self.spec.items() if name != "path"}
        return fingerprint("text", settings | {"version": 1})

    @property
    def spec(self) -> dict[str, Any]:
        """What opens it again; the hash is of both the model and the tokenizer."""
        return {
            "type": "text",
            "path": str(self._folder),
            "sha256": self._sha256,
            "output": self._output,
            "pooling": self._pooling,
            "max_tokens": self._max_tokens,
            "normalize": self._normalize,
        }

    def prepare(self, value: str) -> Floats:
        """Make the key itself, ``(dim,)``: run alone, a text's bits depend on no other text."""
        ids = np.asarray(self._tokenizer.encode(value).ids, np.int64)[None]
        values = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        feed = {name: values[name] for name in self._session.inputs}
        (states,) = self._session.run([self._output], feed, rows=1)
        key: Floats = pooled(states, self._pooling)[0]
        length = float(np.sqrt(np.sum(np.square(key, dtype=np.float64))))
        if not self._normalize or length == 0:
            return key
        unit: Floats = key / np.float32(length)
        return unit

    def encode_prepared(self, batch: Sequence[Floats]) -> Floats:
        """Put keys together: the model ran in :meth:`prepare`."""
        return np.stack(batch)

    def _check_inputs(self) -> None:
        inputs = self._session.inputs
        known = all(
            name in _INPUTS and kind == "tensor(int64)" for name, (kind, _) in inputs.items()
        )
        if "input_ids" not in inputs or not known:
            got = ", ".join(f"{name} {kind}" for name, (kind, _) in inputs.items())
            raise not_an_encoder(
                self._folder, f"tensor(int64) inputs out of {', '.join(_INPUTS)}", got or "none"
            )


def _rebuild(spec: Mapping[str, Any]) -> Any:
    from recollect.encoders.registry import from_spec

    return from_spec(spec)


def _tokenizer(folder: Path, content: bytes, max_tokens: int) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra(
            "texts are cut into tokens by the library tokenizers, which is not installed",
            remedy="Install it with: pip install 'recollect[onnx]'",
        ) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode())
        # Padding that the file asks for would change the key of a text that is encoded alone.
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        tokenizer.encode("a")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of that library is no Exception
        raise EncoderFault(
            f"the tokenizer in {str(folder)!r} cannot be loaded",
            expected="a tokenizer.json",
            got=f"{type(error).__name__}: {error}"[:300],
            remedy="Fetch the model's folder again.",
        ) from error
    return tokenizer


def _sentence_output(folder: Path) -> str:
    """How a folder of sentence-transformers pools: the mean or the first token."""
    modules = read_json(folder / "modules.json")
    if modules is None:
        config = read_json(folder / "config.json")
        is_clip = isinstance(config, dict) and config.get("model_type") == "clip"
        return "projection" if is_clip else "mean"
    kinds = [str(each.get("type", "")).rpartition(".")[2] for each in modules]
    settings = read_json(folder / "1_Pooling" / "config.json") or {}
    ways = {
        name for name, chosen in settings.items() if name.startswith("pooling_mode_") and chosen
    }
    if set(kinds) <= {"Transformer", "Pooling", "Normalize"}:
        if ways == {"pooling_mode_mean_tokens"}:
            return "mean"
        if ways == {"pooling_mode_cls_token"}:
            return "cls"
    raise EncoderFault(
        f"the sentence encoder in {str(folder)!r} is put together in a way not known here",
        expected="a transformer, then the mean or the first token",
        got=f"{', '.join(kinds)}; {', '.join(sorted(ways)) or 'no pooling'}",
        remedy="Export it to ONNX with its pooling inside, or say output= yourself.",
    )
