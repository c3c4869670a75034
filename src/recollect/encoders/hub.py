"""Folders in the form of Hugging Face: where they lie, what vouches for them, what they say.

Weights are read as safetensors only, never as pickle, and nothing is
fetched from a network unless that was asked for.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recollect.encoders.files import open_regular
from recollect.encoders.preprocessing import Preprocessing
from recollect.errors import EncoderFault, MissingExtra

_DOWNLOADED = ["*.json", "*.safetensors", "*.txt", "*.model"]
_WEIGHTS = "*.safetensors"
# The files that decide a key, by what is encoded.
_DECISIVE = {
    "image": ("config.json", "preprocessor_config.json", "processor_config.json", _WEIGHTS),
    "text": (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "*.model",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
        _WEIGHTS,
    ),
}
# The verbosity of transformers is one for the whole process.
_LOADING = threading.Lock()
_CONFIG_LIMIT = 16 * 2**20
# Pillow's numbers, which these files use.
_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


def find_folder(model: str, *, revision: str | None, allow_download: bool) -> Path:
    """Return the folder of a model: the one given, or the local copy of one on the hub.

    Raises:
        EncoderFault: There is no such folder, or no local copy; or the download failed.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model, re.ASCII) or ".." in model:
        raise _fault(model, "a folder, or a name such as org/model", "neither", "Check the path.")
    try:
        import huggingface_hub
    except ImportError as error:
        raise _missing() from error
    try:
        found = huggingface_hub.snapshot_download(
            model,
            revision=revision,
            local_files_only=not allow_download,
            allow_patterns=_DOWNLOADED,
        )
    except Exception as error:
        raise _fault(
            model,
            "a folder, or a model that was downloaded before",
            f"{type(error).__name__}: {error}"[:300],
            "Download it first, or allow it: allow_download=True, or ORG/NAME?allow_download=true.",
        ) from error
    return Path(found)


def decisive_files(folder: Path, modality: str) -> list[str]:
    """Names of the files that decide a key, relative to the folder.

    Raises:
        EncoderFault: There are no weights as safetensors.
    """
    if not any(folder.glob(_WEIGHTS)):
        pickles = sorted(each.name for each in folder.glob("*.bin"))
        raise _fault(
            str(folder),
            "weights as .safetensors files",
            f"{', '.join(pickles)}, which could run code when loaded" if pickles else "none",
            "Save the model again with save_pretrained(), which writes safetensors.",
        )
    found = (path for pattern in _DECISIVE[modality] for path in folder.glob(pattern))
    return sorted({path.relative_to(folder).as_posix() for path in found})


def read_json(path: Path) -> Any:
    """Read a small JSON file; None if there is none.

    Raises:
        EncoderFault: It is too large or is not JSON.
    """
    if not path.exists():
        return None
    try:
        with open_regular(path) as file:
            content = file.read(_CONFIG_LIMIT + 1)
    except OSError as error:
        raise _fault(str(path), "a file that can be read", str(error), "Fetch it again.") from error
    if len(content) > _CONFIG_LIMIT:
        got = f"more than {_CONFIG_LIMIT} bytes"
        raise _fault(str(path), "a small JSON file", got, "Fetch it again.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _fault(str(path), "a JSON file", str(error), "Fetch it again.") from error


def read_preprocessing(folder: Path) -> Preprocessing | None:
    """What the folder says about the input of its image model; None if it says nothing.

    Raises:
        EncoderFault: It says something that is not understood here.
    """
    settings = read_json(folder / "preprocessor_config.json")
    if settings is None:
        whole = read_json(folder / "processor_config.json")
        settings = whole.get("image_processor") if isinstance(whole, dict) else None
    if settings is None:
        return None
    try:
        return _preprocessing(settings)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _fault(
            str(folder),
            "an image processor that resizes, crops, rescales and normalizes",
            f"{type(error).__name__}: {error}"[:200],
            "Say it yourself: preprocess= and size=.",
        ) from error


def _preprocessing(settings: Mapping[str, Any]) -> Preprocessing:
    size, resize, crop = _geometry(settings)
    rescale = float(settings.get("rescale_factor", 1 / 255))
    unit = 1 / rescale if settings.get("do_rescale", True) else 1.0
    mean, scale = (0.0, 0.0, 0.0), (unit, unit, unit)
    if settings.get("do_normalize", True):
        red, green, blue = (float(each) * unit for each in settings["image_mean"])
        mean = (red, green, blue)
        red, green, blue = (float(each) * unit for each in settings["image_std"])
        scale = (red, green, blue)
    interpolation = _RESAMPLING[int(settings.get("resample", 2))]
    return Preprocessing(size, mean, scale, resize, crop, interpolation)


def _geometry(settings: Mapping[str, Any]) -> tuple[tuple[int, int] | None, Any, float]:
    """Size, way and crop share; (224, "crop", 0.875) means shorter side to 256, center 224."""
    resized = _sides(settings.get("size")) if settings.get("do_resize", True) else None
    cropped = _sides(settings.get("crop_size")) if settings.get("do_center_crop") else None
    if resized is None:
        if cropped is not None:
            raise ValueError("a crop without resizing")
        return None, "crop", 1.0
    if cropped is None:
        return _without_crop(settings, resized)
    sides = (cropped[0], cropped[-1])
    share = max(sides[0] / resized[0], sides[1] / resized[-1])
    if share > 1:
        raise ValueError(f"a crop of {sides} out of {resized}")
    if len(resized) == 2 and (sides[0] != sides[1] or resized[0] != resized[1]):
        raise ValueError(f"a crop of {sides} out of a picture squashed to {resized}")
    return sides, "crop", share


def _without_crop(
    settings: Mapping[str, Any], resized: tuple[int, ...]
) -> tuple[tuple[int, int], Any, float]:
    sides = (resized[0], resized[-1])
    # ConvNeXt: below 384 the share that is kept is written down, from 384 on it squashes.
    share = settings.get("crop_pct")
    if share is not None and sides[0] < 384:
        return sides, "crop", float(share)
    old_style = type(settings["size"]) is int
    squashed = share is not None or len(resized) == 2 or old_style
    return sides, "squash" if squashed else "crop", 1.0


def _sides(size: Any) -> tuple[int, ...] | None:
    """One number is the shorter side, two are height and width."""
    if size is None or type(size) is int:
        return None if size is None else (size,)
    if "shortest_edge" in size and size["shortest_edge"] is not None:
        return (int(size["shortest_edge"]),)
    return int(size["height"]), int(size["width"])


def load_pretrained(folder: Path, kind: Any, **options: Any) -> Any:
    """Call ``from_pretrained`` of a class, or of one named, on a folder; no code, no network.

    Raises:
        EncoderFault: Whatever goes wrong in it.
    """
    transformers = _transformers()
    factory = getattr(transformers, kind) if isinstance(kind, str) else kind
    # Only the Auto classes know of code in folders; the others never run any.
    if isinstance(kind, str):
        options["trust_remote_code"] = False
    try:
        with _quietly(transformers.utils.logging):
            return factory.from_pretrained(str(folder), local_files_only=True, **options)
    except Exception as error:
        raise EncoderFault(
            f"the model in {str(folder)!r} cannot be loaded",
            expected="a model that transformers knows, complete, as safetensors",
            got=f"{type(error).__name__}: {error}"[:300],
            remedy="Save it again with save_pretrained(), or update transformers.",
        ) from error


@contextmanager
def _quietly(logging: Any) -> Generator[None, None, None]:
    """Hold back the report of a load, which is checked and told as an error if need be."""
    with _LOADING:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise _missing() from error
    return transformers


def backbones() -> Any:
    """Return the mapping from configurations to models that give feature maps."""
    return _transformers().MODEL_FOR_BACKBONE_MAPPING


def _missing() -> MissingExtra:
    """Return the error for a machine without transformers."""
    return MissingExtra(
        "models of Hugging Face are loaded by transformers, which is not installed",
        remedy="Install it with: pip install 'recollect[hf]'",
    )


def _fault(model: str, expected: str, got: str, remedy: str) -> EncoderFault:
    return EncoderFault(
        f"the model {model!r} cannot be loaded", expected=expected, got=got, remedy=remedy
    )
