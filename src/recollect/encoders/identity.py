"""Who an encoder is: fingerprints, hashes of model files, and recipes that are checked.

A fingerprint names the settings and the bytes of the weights that decide a key. It does not name
versions of libraries: a new release of a decoder or of a runtime may move the last bits of a key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from recollect.encoders.files import open_regular
from recollect.errors import EncoderFault, EncoderMismatch

# What a field of a recipe may hold: one of these types, and nothing that merely looks like it.
Fields: TypeAlias = Mapping[str, tuple[type, ...]]

# Raised when the way in which images are decoded changes the pixels that encoders see.
DECODING = 1


def fingerprint(kind: str, settings: Mapping[str, Any]) -> str:
    """Name an encoder: its kind and 32 hexadecimal digits over all its settings.

    Args:
        kind: Short name of the type of encoder.
        settings: JSON-able; the order of its entries does not matter.

    Example:
        >>> fingerprint("pixels", {"size": 16, "color": True})
        'pixels:2310b7128cc0e849f832ba0735b22f5b'
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{kind}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def read_model_file(path: Path, *, sha256: str | None = None) -> tuple[bytes, str]:
    """Read a model file once; returns its bytes and their SHA-256, which is checked if given.

    The caller builds from these bytes, so that what was checked is what runs.

    Raises:
        EncoderFault: No such file, or it cannot be read.
        EncoderMismatch: Its SHA-256 is not the one given.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
    except (OSError, MemoryError) as error:
        raise _unreadable(path, error) from error
    found = hashlib.sha256(content).hexdigest()
    check_hash(path, expected=sha256, got=found)
    return content, found


def check_hash(path: Path, *, expected: str | None, got: str) -> None:
    """Refuse files that are not those whose hash was recorded; None accepts any."""
    if expected is not None and expected != got:
        raise EncoderMismatch(
            f"the model at {str(path)!r} has changed",
            expected=f"SHA-256 {expected}",
            got=got,
            remedy="Put the original file back, or encode everything anew with this one.",
        )


def hash_files(folder: Path, names: Iterable[str]) -> str:
    """SHA-256 over the names and contents of files in a folder, wherever the folder lies."""
    total = hashlib.sha256()
    for name in sorted(names):
        try:
            with open_regular(folder / name) as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as error:
            raise _unreadable(folder / name, error) from error
        total.update(f"{name}\n{content}\n".encode())
    return total.hexdigest()


def _unreadable(path: Path, error: Exception) -> EncoderFault:
    return EncoderFault(
        f"the model file {str(path)!r} cannot be read",
        expected="a readable file",
        got=(getattr(error, "strerror", None) or str(error)).lower(),
        remedy="Give the path of the model, or of the folder that holds it.",
    )


def checked_fields(kind: str, spec: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the fields of a recipe without its type, after checking names and types.

    Raises:
        EncoderFault: A field is missing, unknown, or of another type.
    """
    given = {name: value for name, value in spec.items() if name != "type"}
    if given.keys() != fields.keys():
        raise EncoderFault(
            f"the recipe of a {kind!r} encoder has other fields than it should",
            expected=", ".join(sorted(fields)),
            got=", ".join(sorted(map(str, given))) or "none",
            remedy="Use the `spec` of an encoder as it was given.",
        )
    for name, value in given.items():
        # type() and not isinstance(): True is an int to Python, and no size.
        if type(value) not in fields[name]:
            raise EncoderFault(
                f"the field {name!r} of the recipe of a {kind!r} encoder is of another type",
                expected=" or ".join(each.__name__ for each in fields[name]),
                got=f"{value!r:.80}",
                remedy="Use the `spec` of an encoder as it was given.",
            )
    return given
