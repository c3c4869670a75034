"""Images from files, bytes, arrays and Pillow, decoded safely to 8-bit RGB.

Anyone can send us a picture. So the format is told by content, not by name; only five formats
are read; the size of the file and of the picture are checked before a pixel is decoded; and
whatever a decoder raises leaves here as one error, ``BadImage``, which names the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.encoders.files import open_regular
from recollect.errors import BadImage, MissingExtra

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageSource: TypeAlias = str | os.PathLike[str] | bytes | NDArray[Any] | Image
else:
    ImageSource: TypeAlias = Any

RGB: TypeAlias = NDArray[np.uint8]

MAX_PIXELS = 50_000_000
MAX_BYTES = 20 * 2**20
FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF")

_EXPECTED = "a JPEG, PNG, WebP, BMP or TIFF image"
_CONVERT = "Convert it to PNG or JPEG, or leave it out."
_ORIENTATION = 0x0112
_FILTERS = threading.Lock()


def decode_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> RGB:
    """Decode one image to RGB.

    Args:
        source: A path; the bytes of an image file; an array ``(H, W)``, ``(H, W, 1)``,
            ``(H, W, 3)`` or ``(H, W, 4)``, uint8 or float in [0, 1]; or a Pillow image. Files are
            JPEG, PNG, WebP, BMP or TIFF, told by their content. Of several frames or pages the
            first is taken.
        max_pixels: Larger pictures are refused before they are decoded. Arrays are not, since
            they are decoded already.
        max_bytes: Larger files are refused before they are read.

    Returns:
        uint8 ``(H, W, 3)``. The EXIF orientation is applied; grey, palette, CMYK and 16-bit
        pictures are converted; transparent parts are laid over white. Color profiles are ignored.

    Raises:
        BadImage: The source cannot be decoded safely.

    Example:
        >>> decode_image(np.array([[0.0, 1.0]])).tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    return fetch(source, max_bytes=max_bytes).decode(max_pixels=max_pixels)


def open_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Image:
    """Decode one image to a Pillow image in mode RGB. Arguments and errors: ``decode_image``.

    Example:
        >>> open_image(np.zeros((2, 3), np.uint8)).size
        (3, 2)
    """
    rgb = decode_image(source, max_pixels=max_pixels, max_bytes=max_bytes)
    image: Image = load_pillow().fromarray(rgb)
    return image


@dataclass(frozen=True, slots=True)
class Picture:
    """A source that was read and not yet decoded: what it is called and what it holds."""

    name: str
    content: Any

    def digest(self) -> bytes:
        """SHA-256, 32 bytes: of a file's bytes, or of an array with its shape and dtype."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).digest()
        head = f"{self.content.dtype.str} {self.content.shape}\n".encode()
        return hashlib.sha256(head + self.content.tobytes()).digest()

    def settled(self, *, max_pixels: int = MAX_PIXELS) -> Picture:
        """Make a Pillow image, which has no bytes of its own, an array; others stay."""
        if isinstance(self.content, (bytes, np.ndarray)):
            return self
        return Picture(self.name, self.decode(max_pixels=max_pixels))

    def decode(self, *, max_pixels: int = MAX_PIXELS) -> RGB:
        """Decode to uint8 ``(H, W, 3)``; raises ``BadImage``."""
        if isinstance(self.content, np.ndarray):
            return _from_array(self.name, self.content)
        try:
            return self._decode(max_pixels)
        except Warning:
            # Pillow warns of odd metadata, and this program makes warnings errors: what a picture
            # holds may not depend on that. The filters are one for all threads.
            with _FILTERS, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._decode(max_pixels)

    def _decode(self, max_pixels: int) -> RGB:
        if isinstance(self.content, bytes):
            return _from_pillow(self.name, _open_bytes(self.name, self.content, max_pixels))
        _check_size(self.name, self.content.size, max_pixels)
        return _from_pillow(self.name, self.content)


def fetch(source: ImageSource, *, max_bytes: int = MAX_BYTES) -> Picture:
    """Read a source without decoding it, so that its digest can be looked up first."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return Picture(repr(path), _read_file(path, max_bytes))
    if isinstance(source, (bytes, bytearray, memoryview)):
        content = bytes(source)
        name = "given as bytes"
        _check_bytes(name, len(content), max_bytes)
        return Picture(name, content)
    if isinstance(source, np.ndarray):
        return Picture("given as an array", source)
    if _is_pillow(source):
        return Picture("given as a Pillow image", source)
    raise BadImage(
        "cannot use this as an image",
        expected="a path, bytes, an array or a Pillow image",
        got=f"{type(source).__name__} {source!r:.80}",
        remedy="Give the path of the picture, or its pixels as an array.",
    )


def _read_file(path: str, max_bytes: int) -> bytes:
    name = repr(path)
    try:
        with open_regular(path) as file:
            _check_bytes(name, os.fstat(file.fileno()).st_size, max_bytes)
            content = file.read(max_bytes + 1)
    except OSError as error:
        got = (error.strerror or str(error)).lower()
        remedy = "Give the path of the picture itself; nothing is fetched from a network."
        raise _bad(name, "an image file that can be read", got, remedy) from error
    # The file may have grown since it was measured.
    _check_bytes(name, len(content), max_bytes)
    return content


def _check_bytes(name: str, size: int, max_bytes: int) -> None:
    if size == 0:
        raise _bad(name, _EXPECTED, "an empty file", "Leave it out.")
    if size > max_bytes:
        remedy = "Make the picture smaller, or raise max_bytes."
        raise _bad(name, f"at most {max_bytes} bytes", f"{size} bytes or more", remedy)


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise _bad(name, "a picture of at least one pixel", f"{width} x {height}", _CONVERT)
    if width * height > max_pixels:
        remedy = "Make the picture smaller, or raise max_pixels."
        got = f"{width} x {height} = {width * height}"
        raise _bad(name, f"at most {max_pixels} pixels", got, remedy)


def _open_bytes(name: str, content: bytes, max_pixels: int) -> Image:
    """Parse the header with the one decoder that the first bytes call for; check the size."""
    factory = _decoder(name, content)
    if content[8:12] == b"WEBP":
        # This decoder sets its whole canvas aside while it reads the header.
        _check_size(name, _webp_size(name, content), max_pixels)
    try:
        image: Image = factory(io.BytesIO(content))
    except Warning:
        raise
    except Exception as error:
        raise _undecodable(name, error) from error
    _check_size(name, image.size, max_pixels)
    return image


def _decoder(name: str, content: bytes) -> Callable[[io.BytesIO], Image]:
    # The classes are called, not Image.open: it would warn about large pictures before our own
    # check speaks, and would try every format that is installed.
    load_pillow()
    from PIL import (
        BmpImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    if content.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if content.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    if content.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return TiffImagePlugin.TiffImageFile
    raise _bad(name, _EXPECTED, _described(content), _CONVERT)


def _described(content: bytes) -> str:
    """Say in words what the first bytes look like, for people who see a picture in their viewer."""
    known = (
        (b"GIF8", "a GIF"),
        (b"%PDF", "a PDF"),
        (b"<svg", "an SVG drawing"),
        (b"<?xml", "an XML file, perhaps an SVG drawing"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\0\0\1\0", "an icon file"),
    )
    if content[4:8] == b"ftyp":
        return "an AVIF, HEIC or video file"
    start = content[:64].lstrip()
    found = (words for magic, words in known if start.startswith(magic))
    return next(found, "a file of another kind")


def _webp_size(name: str, content: bytes) -> tuple[int, int]:
    """Width and height from the first chunk of a WebP file (RFC 9649, section 2)."""
    kind, body = content[12:16], content[20:30]
    if len(body) == 10 and kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if len(body) == 10 and kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if len(body) == 10 and kind == b"VP8 ":
        sides = int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")
        return sides[0] & 0x3FFF, sides[1] & 0x3FFF
    raise _bad(name, _EXPECTED, "a WebP file with a broken header", _CONVERT)


def _from_pillow(name: str, image: Image) -> RGB:
    try:
        image.load()
        return _to_rgb(name, _upright(image))
    except (BadImage, Warning):
        raise
    except Exception as error:
        # Decoders leak errors of many kinds on broken files: each means the same to a caller.
        raise _undecodable(name, error) from error


def _upright(image: Image) -> Image:
    """Apply the EXIF orientation; metadata that cannot be read means there is none."""
    turn = load_pillow().Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Warning:
        raise
    except Exception:  # noqa: BLE001 - a broken note about the camera does not spoil the pixels
        return image
    if not isinstance(orientation, int) or orientation not in turns:
        return image
    return image.transpose(turns[orientation])


def _to_rgb(name: str, image: Image) -> RGB:
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _from_deep(name, np.asarray(image))
    if image.has_transparency_data:
        return _over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _from_deep(name: str, values: NDArray[Any]) -> RGB:
    """Grey of more than 8 bits: 16-bit integers, or floats in [0, 1]."""
    top = 1.0 if values.dtype.kind == "f" else 65_535
    # Written so that NaN fails too.
    if not (values.min() >= 0 and values.max() <= top):
        got = f"values from {values.min()} to {values.max()}"
        raise _bad(name, f"grey values from 0 to {top}", got, "Scale it to 8 bits per pixel.")
    grey = np.rint(values.astype(np.float32) * np.float32(255 / top)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _from_array(name: str, values: NDArray[Any]) -> RGB:
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in {1, 3, 4} or 0 in values.shape:
        remedy = "Give one picture at a time, channels last."
        raise _bad(name, "shape (H, W), (H, W, 3) or (H, W, 4)", f"{values.shape}", remedy)
    if values.dtype.kind == "f":
        values = _bytes_of_floats(name, values)
    if values.dtype != np.uint8:
        remedy = "Convert with .astype(numpy.uint8), or divide floats to lie in [0, 1]."
        raise _bad(name, "uint8, or floats in [0, 1]", f"{values.dtype}", remedy)
    if values.shape[2] == 4:
        return _over_white(values)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def _bytes_of_floats(name: str, values: NDArray[Any]) -> RGB:
    # Written so that NaN fails too.
    if not (values.min() >= 0 and values.max() <= 1):
        got = f"values from {values.min()} to {values.max()}"
        raise _bad(name, "floats in [0, 1]", got, "Divide 0..255 values by 255.")
    scaled: RGB = np.rint(values.astype(np.float64) * 255.0).astype(np.uint8)
    return scaled


def _over_white(rgba: NDArray[np.uint8]) -> RGB:
    """Lay a transparent picture over white; opaque pixels stay as they are."""
    # 255 * 255 + 127 still fits in 16 bits, which halves the memory of a large picture.
    alpha = rgba[:, :, 3:].astype(np.uint16)
    mixed = rgba[:, :, :3] * alpha + 255 * (255 - alpha)
    over: RGB = ((mixed + 127) // 255).astype(np.uint8)
    return over


def _bad(name: str, expected: str, got: str, remedy: str) -> BadImage:
    return BadImage(f"cannot use the image {name}", expected=expected, got=got, remedy=remedy)


def _undecodable(name: str, error: Exception) -> BadImage:
    got = f"{type(error).__name__}: {error}"[:200]
    return _bad(name, "a complete, undamaged image", got, "Fetch or export the file again.")


def _is_pillow(source: object) -> bool:
    # An image of Pillow cannot exist before Pillow was imported.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(source, module.Image)


def load_pillow() -> ModuleType:
    """Import Pillow late; raises ``MissingExtra`` where it is not installed."""
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingExtra(
            "images are read and resized by Pillow, which is not installed",
            remedy="Install it with: pip install 'recollect[images]'",
        ) from error
    return PIL.Image
