"""Encoders by recipe and by name. The registry is closed: a file can name no code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

from recollect.encoders.base import Encoder
from recollect.errors import EncoderFault, InputError, InvalidParameter

# Type of a recipe -> module and class.
_TYPES = {
    "hashing-text": ("recollect.encoders.builtin", "HashingTextEncoder"),
    "hog": ("recollect.encoders.builtin", "HogEncoder"),
    "huggingface": ("recollect.encoders.huggingface", "HuggingFaceEncoder"),
    "local-statistics": ("recollect.encoders.pyramids", "LocalStatistics"),
    "map-pyramids": ("recollect.encoders.pyramids", "MapPyramids"),
    "onnx": ("recollect.encoders.onnx", "OnnxEncoder"),
    "pixels": ("recollect.encoders.builtin", "PixelEncoder"),
    "text": ("recollect.encoders.text", "TextEncoder"),
}

# What stands before the colon of a name -> type, and whether a place must follow.
_NAMES = {
    "hashing-text": ("hashing-text", False),
    "hf": ("huggingface", True),
    "hog": ("hog", False),
    "onnx": ("onnx", True),
    "pixels": ("pixels", False),
    "text": ("text", True),
}


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _sides(text: str) -> Any:
    if text == "native":
        return text
    sides = [int(side) for side in text.split("x")]
    return sides[0] if len(sides) == 1 else tuple(sides)


def _numbers(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]


def _several(text: str) -> list[str]:
    return text.split(",")


# Options that a name may carry, and how each is read.
_OPTIONS: dict[str, dict[str, Callable[[str], Any]]] = {
    "hashing-text": {"dim": int, "shortest": int, "longest": int, "words": _flag},
    "hog": {"size": int, "cell": int, "orientations": int, "bins": int, "color": float},
    "huggingface": {
        "revision": str,
        "modality": str,
        "output": str,
        "size": _sides,
        "normalize": _flag,
        "allow_download": _flag,
        "device": str,
    },
    "onnx": {
        "output": str,
        "preprocess": str,
        "size": _sides,
        "mean": _numbers,
        "scale": _numbers,
        "layout": str,
        "resize": str,
        "crop": float,
        "interpolation": str,
        "pooling": str,
        "maps": _several,
    },
    "pixels": {"size": int, "color": _flag},
    "text": {
        "output": str,
        "pooling": str,
        "max_tokens": int,
        "normalize": _flag,
        "revision": str,
        "allow_download": _flag,
        "device": str,
    },
}


def from_spec(spec: Mapping[str, Any]) -> Encoder:
    """Build an encoder from its recipe, which may come from anyone's file.

    Only the types of this library are built, every field is checked, model files must have the
    SHA-256 that the recipe records, and nothing is fetched from a network.

    Args:
        spec: The ``spec`` of an encoder.

    Raises:
        EncoderFault: No such type, a field that cannot be, or a model that cannot be loaded.
        EncoderMismatch: The model's files are not those that the recipe was made with.
        MissingExtra: The library that runs it is not installed.

    Example:
        >>> from_spec({"type": "pixels", "size": 8, "color": True})
        PixelEncoder(size=8, color=True)
    """
    kind = spec.get("type") if isinstance(spec, Mapping) else None
    if not isinstance(kind, str) or kind not in _TYPES:
        raise EncoderFault(
            "this recipe names no encoder of this library",
            expected=f"a type out of {', '.join(_TYPES)}",
            got=f"{spec if kind is None else kind!r:.80}",
            remedy="Use the `spec` of an encoder as it was given.",
        )
    try:
        encoder: Encoder = _class(kind).from_spec(spec)
    except InputError as error:
        raise EncoderFault(
            f"the recipe of a {kind!r} encoder holds a value that cannot be: {error}",
            remedy="Use the `spec` of an encoder as it was given.",
        ) from error
    return encoder


def from_name(name: str) -> Encoder:
    """Build an encoder from one line of text, as on a command line.

    ``pixels``, ``hog`` and ``hashing-text`` need no files; ``onnx:PATH`` is an image model,
    ``text:PATH`` a sentence encoder, ``hf:ORG/NAME`` or ``hf:FOLDER`` a model of Hugging Face;
    ``ORG/NAME`` alone is one too.
    Options follow a question mark: ``onnx:model.onnx?output=pooled&size=160&preprocess=mobilenet``.
    Nothing is fetched from a network without ``allow_download=true``.

    Raises:
        InvalidParameter: An unknown name or option; the message lists those there are.
        EncoderFault: The model cannot be loaded.

    Example:
        >>> from_name("pixels?size=8&color=false")
        PixelEncoder(size=8, color=False)
    """
    head, place, options = _split(name)
    if not place and re.fullmatch(r"[\w.-]+/[\w.-]+", head, re.ASCII):
        head, place = "hf", head
    if head not in _NAMES:
        raise _unknown(name, ", ".join(_forms()))
    kind, needs_place = _NAMES[head]
    if needs_place != bool(place):
        form = next(form for form in _forms() if form.partition(":")[0] == head)
        raise _unknown(name, form)
    settings = _read_options(name, _OPTIONS[kind], options)
    build = _class(kind)
    encoder: Encoder = build(place, **settings) if needs_place else build(**settings)
    return encoder


def _split(name: Any) -> tuple[str, str, str]:
    """Kind, place and options; a question mark within a path is left alone."""
    if not isinstance(name, str):
        raise _unknown(name, ", ".join(_forms()))
    main, mark, options = name.rpartition("?")
    if not mark or "=" not in options:
        main, options = name, ""
    head, _, place = main.partition(":")
    return head, place, options


def _read_options(
    name: str, known: Mapping[str, Callable[[str], Any]], options: str
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for option, value in parse_qsl(options, keep_blank_values=True):
        if option not in known:
            raise _unknown(name, f"options out of {', '.join(known)}", option)
        try:
            settings[option] = known[option](value)
        except (ValueError, KeyError) as error:
            raise _unknown(name, f"another value for {option}", value) from error
    return settings


def _forms() -> list[str]:
    return [f"{head}:PLACE" if needs_place else head for head, (_, needs_place) in _NAMES.items()]


def _class(kind: str) -> Any:
    module, name = _TYPES[kind]
    return getattr(import_module(module), name)


def _unknown(name: Any, expected: str, got: Any = None) -> InvalidParameter:
    return InvalidParameter(
        f"no encoder is called {name!r:.200}"
        if got is None
        else f"the encoder {name!r:.200} has an option that cannot be",
        expected=expected,
        got=None if got is None else f"{got!r:.80}",
        remedy="Try pixels, or onnx:model.onnx?output=pooled&size=224&preprocess=imagenet.",
    )
