"""Pictures of every allowed kind become the same RGB pixels, and what is refused says why."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from recollect.encoders import decode_image, open_image
from recollect.encoders.images import fetch
from recollect.errors import BadImage

RED_GREEN = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)


def encoded(image, kind, **options):
    """The bytes of an image file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def red_green():
    return Image.fromarray(RED_GREEN)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_their_exact_pixels(red_green, kind):
    """The truth the other formats approach."""
    assert decode_image(encoded(red_green, kind)).tolist() == RED_GREEN.tolist()


def test_a_lossless_webp_gives_its_exact_pixels(red_green):
    """WebP has a lossless form with a header of its own."""
    content = encoded(red_green, "WebP", lossless=True)

    assert decode_image(content).tolist() == RED_GREEN.tolist()


@pytest.mark.parametrize("kind", ["JPEG", "WebP"])
def test_lossy_formats_give_nearly_their_pixels(kind):
    """One color survives compression almost unchanged."""
    content = encoded(Image.new("RGB", (16, 16), (200, 100, 50)), kind, quality=95)

    pixels = decode_image(content)

    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - [200, 100, 50]).max() <= 4


def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path, red_green):
    """Names lie, and half of the world's .jpg files are something else."""
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(red_green, "PNG"))

    assert decode_image(path).tolist() == RED_GREEN.tolist()
    assert decode_image(str(path)).tolist() == RED_GREEN.tolist()


def test_arrays_of_bytes_are_taken_as_they_are():
    """Grey, RGB and RGBA, channels last."""
    assert decode_image(RED_GREEN).tolist() == RED_GREEN.tolist()
    assert decode_image(np.array([[7]], np.uint8)).tolist() == [[[7, 7, 7]]]
    assert decode_image(np.array([[[7]]], np.uint8)).tolist() == [[[7, 7, 7]]]


def test_floats_from_0_to_1_become_bytes():
    """0.5 lies between 127 and 128; the nearest even number is taken."""
    assert decode_image(np.array([[0.0, 0.2, 0.5, 1.0]])).tolist() == [
        [[0, 0, 0], [51, 51, 51], [128, 128, 128], [255, 255, 255]]
    ]


def test_transparent_parts_lie_over_white():
    """What stands behind a transparent pixel is arbitrary: often black, often garbage."""
    clear, half, opaque = [9, 9, 9, 0], [0, 0, 0, 51], [1, 2, 3, 255]
    rgba = np.array([[clear, half, opaque]], np.uint8)

    expected = [[[255, 255, 255], [204, 204, 204], [1, 2, 3]]]
    assert decode_image(rgba).tolist() == expected
    assert decode_image(Image.fromarray(rgba)).tolist() == expected
    assert decode_image(encoded(Image.fromarray(rgba), "PNG")).tolist() == expected


def test_a_palette_becomes_its_colors(red_green):
    """The numbers of a palette picture are no brightness."""
    content = encoded(red_green.convert("P", palette=Image.Palette.ADAPTIVE, colors=2), "PNG")

    assert decode_image(content).tolist() == RED_GREEN.tolist()


def test_a_palette_with_a_transparent_color_lies_over_white(red_green):
    """Logos are drawn so."""
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30])

    content = encoded(palette, "PNG", transparency=0)

    assert decode_image(content).tolist() == [[[255, 255, 255]]]


def test_grey_of_16_bits_is_scaled_and_not_cut():
    """Pillow alone would make everything above 255 white."""
    grey = Image.fromarray(np.array([[0, 257, 32_896, 65_535]], np.uint16))

    expected = [[[0] * 3, [1] * 3, [128] * 3, [255] * 3]]
    assert decode_image(encoded(grey, "PNG")).tolist() == expected
    assert decode_image(encoded(grey, "TIFF")).tolist() == expected


def test_grey_floats_in_a_tiff_are_taken_from_0_to_1():
    """Scientific cameras write them; other ranges have no agreed white."""
    grey = Image.fromarray(np.array([[0.0, 1.0]], np.float32))
    bright = Image.fromarray(np.array([[0.0, 900.0]], np.float32))

    assert decode_image(encoded(grey, "TIFF")).tolist() == [[[0, 0, 0], [255, 255, 255]]]
    with pytest.raises(BadImage, match=r"expected grey values from 0 to 1\.0, got .* 900\.0"):
        decode_image(encoded(bright, "TIFF"))


def test_black_and_white_becomes_0_and_255():
    """Scanned pages have one bit a pixel."""
    content = encoded(Image.fromarray(np.array([[False, True]])), "PNG")

    assert decode_image(content).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_a_cmyk_jpeg_becomes_rgb():
    """Print shops send these; ink 0 is white, full black ink is black."""
    content = encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")
    black = encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG")

    assert decode_image(content)[4, 4].tolist() == [255, 255, 255]
    assert decode_image(black)[4, 4].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
def test_exif_orientation_6_is_turned_upright(kind):
    """A phone held upright writes a lying picture and a note; the left side belongs on top."""
    lying = np.zeros((16, 32, 3), np.uint8)
    lying[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6

    pixels = decode_image(encoded(Image.fromarray(lying), kind, exif=exif.tobytes()))

    assert pixels.shape == (32, 16, 3)
    assert pixels[4].max() < 30
    assert pixels[28].min() > 225


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, 1), (2, 2), (3, 4), (4, 3), (5, 1), (6, 3), (7, 4), (8, 2)]
)
def test_every_orientation_puts_the_right_corner_first(orientation, corner):
    """Corners 1 2 / 3 4: which of them the upright picture begins with, by the EXIF standard."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.array([[1, 2], [3, 4]], np.uint8))

    pixels = decode_image(encoded(picture, "PNG", exif=exif.tobytes()))

    assert pixels[0, 0].tolist() == [corner] * 3


def test_an_orientation_that_does_not_exist_is_ignored(red_green):
    """A broken note about the camera does not spoil the pixels."""
    exif = Image.Exif()
    exif[0x0112] = 77

    content = encoded(red_green, "PNG", exif=exif.tobytes())

    assert decode_image(content).tolist() == RED_GREEN.tolist()


@pytest.mark.parametrize("kind", ["PNG", "WebP", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind):
    """An animation or a scan of many pages is still one input."""
    first, second = (Image.new("RGB", (4, 4), color) for color in ("red", "blue"))

    content = encoded(first, kind, save_all=True, append_images=[second])

    red, _, blue = decode_image(content)[0, 0].tolist()
    assert (red > 200, blue < 50) == (True, True)


def test_a_pillow_image_is_taken_and_left_as_it_is():
    """It belongs to the caller."""
    picture = Image.new("L", (3, 2), 5)

    assert decode_image(picture).shape == (2, 3, 3)
    assert (picture.mode, picture.size) == ("L", (3, 2))


def test_open_image_gives_a_pillow_image_in_rgb(red_green):
    """For thumbnails and plots."""
    opened = open_image(encoded(red_green.convert("CMYK"), "TIFF"))

    assert (opened.mode, opened.size) == ("RGB", (2, 1))


def test_the_error_names_the_path_what_was_expected_and_what_to_do(tmp_path):
    """Among ten thousand files, somebody has to find this one."""
    path = tmp_path / "broken.png"
    path.write_bytes(b"GIF89a and so on")

    with pytest.raises(BadImage) as caught:
        decode_image(path)

    assert str(caught.value) == (
        f"cannot use the image {str(path)!r}: "
        "expected a JPEG, PNG, WebP, BMP or TIFF image, got a GIF"
    )
    assert caught.value.remedy == "Convert it to PNG or JPEG, or leave it out."


def test_the_error_survives_a_trip_between_processes():
    """Worker processes send it home."""
    with pytest.raises(BadImage) as caught:
        decode_image(b"")

    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes

    assert (
        str(again) == "cannot use the image given as bytes: " + str(caught.value).partition(": ")[2]
    )


@pytest.mark.parametrize(
    ("source", "got"),
    [
        (np.zeros((2, 2, 2), np.uint8), "(2, 2, 2)"),
        (np.zeros(4, np.uint8), "(4,)"),
        (np.zeros((0, 4), np.uint8), "(0, 4, 1)"),
        (np.zeros((2, 2), np.int64), "int64"),
        (np.zeros((2, 2), np.uint16), "uint16"),
        (np.array([[0.0, 255.0]]), "0.0 to 255.0"),
        (np.array([[np.nan]]), "nan"),
        (np.array([[-0.1]]), "-0.1"),
        (3.14, "float 3.14"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(source, got):
    """A guess about the range or the channels would make wrong keys in silence."""
    with pytest.raises(BadImage) as caught:
        decode_image(source)

    assert got in str(caught.value)
    assert caught.value.remedy


def test_the_limit_of_pixels_is_an_argument(red_green):
    """Medicine and maps have larger pictures; the caller may know better."""
    content = encoded(red_green, "PNG")

    assert decode_image(content, max_pixels=2).shape == (1, 2, 3)
    with pytest.raises(BadImage, match="expected at most 1 pixels, got 2 x 1 = 2"):
        decode_image(content, max_pixels=1)
    with pytest.raises(BadImage, match="expected at most 1 pixels, got 2 x 1 = 2"):
        decode_image(red_green, max_pixels=1)


def test_the_limit_of_bytes_is_an_argument(tmp_path, red_green):
    """Checked before the file is read."""
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(red_green, "PNG"))
    size = path.stat().st_size

    assert decode_image(path, max_bytes=size).shape == (1, 2, 3)
    with pytest.raises(BadImage, match=rf"expected at most {size - 1} bytes, got {size} bytes"):
        decode_image(path, max_bytes=size - 1)
    with pytest.raises(BadImage, match=rf"expected at most {size - 1} bytes, got {size} bytes"):
        decode_image(path.read_bytes(), max_bytes=size - 1)


def test_a_file_and_its_bytes_have_one_digest(tmp_path, red_green):
    """The cache knows content, not names."""
    content = encoded(red_green, "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(content)

    assert fetch(path).digest() == fetch(content).digest()


def test_the_digest_of_an_array_covers_its_shape_and_type():
    """The same bytes mean another picture in another shape."""
    flat, tall = np.zeros((1, 4), np.uint8), np.zeros((4, 1), np.uint8)
    shifted = np.zeros((1, 4), np.float16)

    digests = {fetch(each).digest() for each in (flat, tall, shifted)}

    assert len(digests) == 3
    assert fetch(np.asfortranarray(tall)).digest() == fetch(tall).digest()
