# pyright: reportAttributeAccessIssue=false
import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from corridor.data.decode import (
    decode,
    fit,
    jpeg_quality,
    mean_and_std,
    open_image,
    random_crop,
)
from corridor.data.types import Rows


def encoded_as(array, form, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return Image.open(file)


def test_the_quality_of_a_jpeg_is_read_off_exactly(pictures):
    image = pictures(1)[0]
    for quality in (1, 2, 24, 25, 49, 50, 51, 75, 90, 95, 99, 100):
        assert jpeg_quality(encoded_as(image, "JPEG", quality=quality)) == quality


def test_gray_jpegs_have_a_quality_and_other_formats_none(pictures):
    assert jpeg_quality(encoded_as(pictures(1, gray=True)[0], "JPEG", quality=60)) == 60
    assert jpeg_quality(encoded_as(pictures(1)[0], "PNG")) is None


def test_a_table_of_another_program_gives_the_nearest_quality(pictures):
    luminance = list(encoded_as(pictures(1)[0], "JPEG", quality=75).quantization[0])
    luminance[5] += 3
    assert jpeg_quality(encoded_as(pictures(1)[0], "JPEG", qtables=[luminance, luminance])) == 75


def test_fit_keeps_the_center_of_the_shorter_side():
    ramp = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (8, 1))  # 8 high, 20 wide
    kept = np.asarray(fit(Image.fromarray(ramp), 8))
    assert np.array_equal(kept, ramp[:, 6:14])
    half = np.asarray(fit(Image.fromarray(ramp), 4))
    assert np.array_equal(half, np.tile(ramp[0, 6:14].reshape(4, 2).mean(1), (4, 1)))
    middle = np.asarray(fit(Image.fromarray(ramp), 4, keep=0.5))
    assert np.array_equal(middle, np.tile(ramp[0, 8:12], (4, 1)))


def test_shrinking_is_antialiased():
    stripes = np.zeros((30, 30), np.uint8)
    stripes[:, ::2] = 255
    for size in (15, 7):
        inner = np.asarray(fit(Image.fromarray(stripes), size))[:, 1:-1].astype(int)
        assert np.abs(inner - 127.5).max() < 20


def test_random_crops_are_as_wide_and_high_as_claimed():
    x, y = np.meshgrid(np.arange(200), np.arange(100))
    image = Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))
    draw, shares, aspects = random.Random(0), [], []
    for _ in range(300):
        crop = np.asarray(random_crop(image, 40, draw)).astype(float)
        # Pixels carry their coordinates: 38/40 of a side lies between the outer pixels but one.
        width = (crop[:, -2, 0] - crop[:, 1, 0]).mean() * 40 / 37
        height = (crop[-2, :, 1] - crop[1, :, 1]).mean() * 40 / 37
        shares.append(width * height / 20_000)
        aspects.append(width / height)
    assert 0.07 < min(shares) < 0.2
    assert max(shares) < 0.72  # a square of the full height has half the area, 4/3 of it 2/3
    assert min(aspects) == pytest.approx(3 / 4, rel=0.1)
    assert max(aspects) == pytest.approx(4 / 3, rel=0.1)


def test_a_crop_that_never_fits_is_the_center():
    thin = Image.fromarray(np.arange(0, 250, dtype=np.uint8)[:, None].repeat(2, 1))
    crop = np.asarray(random_crop(thin, 2, random.Random(1)))
    assert crop[0, 0] == pytest.approx(124, abs=1)


@pytest.mark.parametrize("size", [8, 128])
@pytest.mark.parametrize("gray", [False, True])
def test_images_are_decoded_in_order_by_one_thread_or_several(pictures, size, gray):
    images = pictures(150, size=size, gray=gray)
    rows = Rows(images, torch.zeros(150, dtype=torch.int64), "made")
    channels = 1 if gray else 3
    expected = images.reshape(150, size, size, channels).transpose(0, 3, 1, 2)
    assert np.array_equal(decode(rows, channels, size, resize=False).numpy(), expected)


def test_a_wrong_size_among_large_images_is_named(pictures):
    bad = Rows(pictures(9, size=128)[:, :, :100], torch.zeros(9, dtype=torch.int64), "large")
    with pytest.raises(ValueError, match=r"large, row 0 must have 128 x 128 .* got 100 x 128"):
        decode(bad, 3, 128, resize=False)


def test_mean_and_std_of_many_images_and_of_a_constant_channel():
    images = torch.randint(0, 256, (5000, 2, 3, 3), dtype=torch.uint8)
    images[:, 1] = 51
    mean, std = mean_and_std(images)
    first = images[:, 0].double().numpy() / 255
    assert mean == pytest.approx((first.mean(), 0.2), rel=1e-12)
    assert std[0] == pytest.approx(first.std(), rel=1e-12)
    assert std[1] == 1.0


TURNED = {  # what a viewer shows of the stored pixels, by EXIF orientation
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_images_are_turned_as_their_exif_orientation_says(form, orientation):
    stored = np.random.default_rng(0).integers(0, 256, (5, 8), dtype=np.uint8)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image = Image.fromarray(stored).convert("RGB") if form == "WEBP" else Image.fromarray(stored)
    image.save(file, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    rows = Rows([file.getvalue()], torch.zeros(1, dtype=torch.int64), "made")
    shown = np.asarray(open_image(rows, 0).convert("L"))
    assert np.array_equal(shown, TURNED[orientation](stored))


def test_a_turned_jpeg_keeps_its_quality_and_damaged_exif_data_do_no_harm(pictures):
    image, exif = Image.fromarray(pictures(1)[0][:, :5]), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    for tag in (0x0F, 0x00):  # 0x0100 is a width, and a text is none
        content = bytearray(exif.tobytes())
        content[17] = tag
        file = io.BytesIO()
        image.save(file, "JPEG", quality=40, exif=bytes(content))
        opened = open_image(Rows([file.getvalue()], torch.zeros(1), "made"), 0)
        assert (jpeg_quality(opened), opened.size) == (40, (8, 5))


def test_transparent_pixels_are_refused_and_an_opaque_alpha_channel_is_not(pictures, encoded):
    opaque = np.concatenate([pictures(1)[0], np.full((8, 8, 1), 255, np.uint8)], -1)
    clear = opaque.copy()
    clear[3, 4, 3] = 254
    gray = np.stack([opaque[..., 0], clear[..., 3]], -1)
    palette, file = Image.fromarray(clear).convert("P"), io.BytesIO()
    palette.save(file, "PNG", transparency=palette.getpixel((0, 0)))
    keyed = encoded(opaque[..., :3], transparency=tuple(opaque[0, 0, :3].tolist()))
    cells = [encoded(opaque), encoded(clear), encoded(gray), file.getvalue(), keyed]
    rows = Rows(cells, torch.zeros(5, dtype=torch.int64), "made")
    assert np.array_equal(np.asarray(open_image(rows, 0)), opaque)
    for i in range(1, 5):
        with pytest.raises(OSError, match=f"row {i} must be opaque, got transparent pixels; paste"):
            open_image(rows, i)


@pytest.mark.parametrize(
    ("cell", "got"),
    [
        (bytes(192), "no known image format"),
        (None, "NoneType, not the bytes of an image file"),
        ([[0, 255]], "list, not the bytes of an image file"),
        ({"bytes": None, "path": None}, "NoneType, not"),
        ({"bytes": None}, "NoneType, not"),
    ],
)
def test_a_cell_that_holds_no_image_file_is_named(cell, got):
    with pytest.raises(OSError, match=f"made, row 0 must be an image, got: {got}"):
        open_image(Rows([cell], torch.zeros(1), "made"), 0)


def test_rows_of_bytes_paths_and_pixels(tmp_path, pictures, encoded):
    image = pictures(1)[0]
    content, path = encoded(image), tmp_path / "x.png"
    path.write_bytes(content)
    cells = [content, str(path), image]
    cells += [{"bytes": content, "path": None}, {"bytes": None, "path": str(path)}]
    rows = Rows(cells, torch.zeros(5, dtype=torch.int64), "made")
    for i in range(5):
        assert np.array_equal(np.asarray(rows.open(i)), image)
    assert [rows.where(1), rows.where(2)] == [str(path), "made, row 2"]


def png(pixels, color):
    """Encode uint16 pixels as a PNG file of 16 bits per channel, which Pillow cannot write."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_per_channel_are_refused(color, channels):
    content = png(np.full((8, 8, channels), 4000), color)
    rows = Rows([content], torch.zeros(1, dtype=torch.int64), "deep")
    with pytest.raises(OSError, match="row 0 must have 8 bits per channel, got 16 bits"):
        open_image(rows, 0)


@pytest.mark.parametrize(("levels", "refused"), [(255, False), (100, False), (65535, True)])
def test_portable_pixmaps_of_more_levels_are_refused(levels, refused):
    content = f"P6 2 1 {levels}\n".encode() + bytes(12 if levels > 255 else 6)
    rows = Rows([content], torch.zeros(1, dtype=torch.int64), "deep")
    if refused:
        with pytest.raises(OSError, match="must have 8 bits per channel, got 16 bits"):
            open_image(rows, 0)
    else:
        assert open_image(rows, 0).mode == "RGB"
