"""Input -> keys: encoders of images and texts, safe decoding, and a cache of what was encoded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recollect.encoders.base import Encoder
    from recollect.encoders.batching import Encoded, encode_all
    from recollect.encoders.builtin import HashingTextEncoder, HogEncoder, PixelEncoder
    from recollect.encoders.cache import EncodingCache
    from recollect.encoders.huggingface import HuggingFaceEncoder
    from recollect.encoders.images import decode_image, open_image
    from recollect.encoders.onnx import OnnxEncoder
    from recollect.encoders.preprocessing import Preprocessing
    from recollect.encoders.pyramids import LocalStatistics, MapPyramids, PyramidEncoder
    from recollect.encoders.registry import from_name, from_spec
    from recollect.encoders.text import TextEncoder
    from recollect.encoders.torch import TorchEncoder

# Public name -> module. Imported on first use: this package alone loads nothing but NumPy.
_HOME = {
    "Encoded": "batching",
    "Encoder": "base",
    "EncodingCache": "cache",
    "HashingTextEncoder": "builtin",
    "HogEncoder": "builtin",
    "HuggingFaceEncoder": "huggingface",
    "LocalStatistics": "pyramids",
    "MapPyramids": "pyramids",
    "OnnxEncoder": "onnx",
    "PixelEncoder": "builtin",
    "Preprocessing": "preprocessing",
    "PyramidEncoder": "pyramids",
    "TextEncoder": "text",
    "TorchEncoder": "torch",
    "decode_image": "images",
    "encode_all": "batching",
    "from_name": "registry",
    "from_spec": "registry",
    "open_image": "images",
}

__all__ = [
    "Encoded",
    "Encoder",
    "EncodingCache",
    "HashingTextEncoder",
    "HogEncoder",
    "HuggingFaceEncoder",
    "LocalStatistics",
    "MapPyramids",
    "OnnxEncoder",
    "PixelEncoder",
    "Preprocessing",
    "PyramidEncoder",
    "TextEncoder",
    "TorchEncoder",
    "decode_image",
    "encode_all",
    "from_name",
    "from_spec",
    "open_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'recollect.encoders' has no attribute {name!r}")
    return getattr(import_module(f"recollect.encoders.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
