"""Pictures made to crash, to fill the memory, to hang, or to be something else.

Each must end as one BadImage that names the source, quickly and without a large allocation.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from recollect.encoders import PixelEncoder, decode_image, encode_all
from recollect.errors import BadImage


def encoded(kind, size=(32, 32), mode="RGB", **options):
    """A valid file to start from."""
    out = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(out, kind, **options)
    return out.getvalue()


def chunk(kind, body):
    """One chunk of a PNG file, with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *chunks, depth=8, color=2):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def webp(kind, body):
    """A WebP file of one chunk."""
    content = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


def bmp(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def tiff(width, height):
    """Width, height and an RGB strip that is not there."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1),
               (273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 100)]  # fmt: skip
    rows = b"".join(struct.pack("<HHII", *each) for each in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + rows + b"\0" * 4


HUGE = {
    "png of 2^31 - 1 pixels a side": png(2**31 - 1, 2**31 - 1),
    "png of one very long row": png(2**31 - 1, 1),
    "png of 100 million pixels": png(10_000, 10_000),
    "webp of 2^24 pixels a side": webp(b"VP8X", b"\0\0\0\0" + b"\xff" * 6),
    "lossless webp of 2^14 pixels a side": webp(b"VP8L", b"\x2f" + b"\xff\xff\xff\x0f" + b"\0" * 9),
    "lossy webp of 2^14 pixels a side": webp(
        b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + b"\xff\x3f" * 2 + b"\0" * 9
    ),
    "bmp of 2^31 - 1 pixels a side": bmp(2**31 - 1, 2**31 - 1),
    "bmp upside down": bmp(2**30, -(2**30)),
    "tiff of 2^32 - 1 pixels a side": tiff(2**32 - 1, 2**32 - 1),
    "jpeg of 65535 pixels a side": encoded("JPEG").replace(
        b"\xff\xc0\x00\x11\x08\x00\x20\x00\x20", b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_picture_that_says_it_is_huge_is_refused_by_its_header(name):
    """A few bytes must not become gigabytes."""
    with pytest.raises(BadImage, match=r"expected (at most 50000000 pixels|a complete)"):
        decode_image(HUGE[name])


SMALL_MEMORY = """
import resource, sys
from recollect.encoders import decode_image
from recollect.errors import BadImage
decode_image(open(sys.argv[2], "rb").read())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_image(sys.argv[1])
except BadImage as error:
    print(str(error)[-60:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs elsewhere")
@pytest.mark.parametrize("name", HUGE)
def test_a_picture_that_says_it_is_huge_costs_no_memory(name, tmp_path):
    """Measured in a process of its own, in KiB."""
    (tmp_path / "bomb").write_bytes(HUGE[name])
    (tmp_path / "warm").write_bytes(encoded("PNG"))

    done = subprocess.run(
        [sys.executable, "-c", SMALL_MEMORY, str(tmp_path / "bomb"), str(tmp_path / "warm")],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout.split()[-1]) < 30_000


def test_a_png_whose_pixels_unpack_to_far_more_than_it_says_stays_small():
    """The surplus is not unpacked."""
    bomb = png(1, 1, chunk(b"IDAT", zlib.compress(b"\0" * 100_000_000, 9)))

    assert decode_image(bomb).tolist() == [[[0, 0, 0]]]


def test_a_png_whose_text_unpacks_to_far_more_than_it_says_is_refused():
    """A hundred megabytes of comment in a hundred kilobytes."""
    text = b"Comment\0\0" + zlib.compress(b"a" * 100_000_000, 9)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 4))

    with pytest.raises(BadImage, match="expected a complete, undamaged image"):
        decode_image(png(1, 1, chunk(b"zTXt", text), pixels))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(kind, part, tmp_path):
    """Half a grey picture would be a wrong key."""
    content = encoded(kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(content[: int(len(content) * part)])

    with pytest.raises(BadImage, match=r"half\."):
        decode_image(path)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "an empty file"),
        (b"GIF89a\x01\x00\x01\x00\x80\x00\x00", "a GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><svg/>", "an XML file"),
        (b"%PDF-1.7", "a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "a file of another kind"),
        (b"\0\0\0\x1cftypheic", "an AVIF, HEIC or video file"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\0", "a file of another kind"),
        (b"\x89PNG", "a file of another kind"),
        (b"RIFF\0\0\0\0WEBP", "a WebP file with a broken header"),
        (b"#!/bin/sh\nrm -rf /", "a file of another kind"),
    ],
)
def test_something_else_that_is_named_png_is_refused(content, got, tmp_path):
    """No decoder beside the five is ever asked."""
    path = tmp_path / "innocent.png"
    path.write_bytes(content)

    with pytest.raises(BadImage, match=f"got {got}"):
        decode_image(path)


def test_a_folder_is_refused(tmp_path):
    """With a hint to the pictures in it."""
    with pytest.raises(BadImage, match="got a folder"):
        decode_image(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    """The message of the system, in one form."""
    with pytest.raises(BadImage, match="got no such file or directory"):
        decode_image(tmp_path / "nowhere.png")


def test_a_loop_of_links_is_refused(tmp_path):
    """Following it would never end."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    with pytest.raises(BadImage, match="got too many levels of symbolic links"):
        decode_image(tmp_path / "a")


def test_a_pipe_is_refused_at_once(tmp_path):
    """Opening one waits for a writer that never comes."""
    os.mkfifo(tmp_path / "pipe.png")

    with pytest.raises(BadImage, match="got something other than a file"):
        decode_image(tmp_path / "pipe.png")


def test_an_endless_device_is_refused():
    """/dev/zero has a size of 0 and no end."""
    with pytest.raises(BadImage, match="got something other than a file"):
        decode_image("/dev/zero")


@pytest.mark.parametrize(
    "name", ["a\0b.png", "x" * 5_000, "~/\ud800.png", "http://localhost/a.png"]
)
def test_a_name_that_no_file_can_have_is_refused(name):
    """Nothing is fetched either."""
    with pytest.raises(BadImage, match="cannot use the image"):
        decode_image(name)


def test_a_line_break_in_a_name_stays_within_its_message(tmp_path):
    """A log line must not be forged by a file's name."""
    path = tmp_path / "a\nERROR: all is lost.png"
    path.write_bytes(b"")

    with pytest.raises(BadImage) as caught:
        decode_image(path)

    assert "\n" not in str(caught.value)
    assert r"a\nERROR: all is lost.png" in str(caught.value)


def test_a_name_that_is_no_unicode_works(tmp_path):
    """Old disks have such names."""
    path = tmp_path / os.fsdecode(b"\xff\xfe.png")
    path.write_bytes(encoded("PNG"))

    assert decode_image(path).shape == (32, 32, 3)


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path):
    """A terabyte of zeros, which takes no space on the disk."""
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(2**40)

    with pytest.raises(BadImage, match=f"expected at most 20971520 bytes, got {2**40} bytes"):
        decode_image(path)


def test_a_broken_exif_note_does_not_spoil_the_picture():
    """Editors truncate it. Pillow warns of it, and these tests make warnings errors."""
    content = encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")

    assert decode_image(content).shape == (32, 32, 3)


def test_a_picture_after_a_picture_is_ignored():
    """Phones append a film to a JPEG; others append programs."""
    content = encoded("JPEG")

    assert (decode_image(content + b"MZ" * 1_000) == decode_image(content)).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_hostile_and_good_pictures_go_through_together(mode, tmp_path):
    """The good ones are encoded, the bad ones named, and nothing stops."""
    good = encoded("TIFF", mode=mode)
    hostile = list(HUGE.values())
    inputs = [each for bad in hostile for each in (bad, good)]

    result = encode_all(PixelEncoder(size=4), inputs, on_error="skip", batch_size=3)

    assert result.kept.tolist() == list(range(1, len(inputs), 2))
    assert [index for index, _ in result.problems] == list(range(0, len(inputs), 2))


def decoded_or_error(content):
    try:
        return decode_image(content)
    except BadImage as error:
        return error


SEEDS = {kind: encoded(kind, size=(8, 8)) for kind in ("JPEG", "PNG", "WebP", "BMP", "TIFF")}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(SEEDS)),
    changes=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_random_damage_ends_as_pixels_or_as_one_error(kind, changes):
    """Decoders leak many kinds of errors on broken files; none may pass through."""
    content = bytearray(SEEDS[kind])
    for place, byte in changes:
        content[place % len(content)] = byte

    outcome = decoded_or_error(bytes(content))

    assert isinstance(outcome, BadImage) or outcome.shape[2] == 3
