# pyright: reportAttributeAccessIssue=false
import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from corridor.data.decode import decode, mean_and_std
from corridor.data.images import fit, pixels, random_crop
from corridor.data.jpeg import jpeg_quality
from corridor.data.source import ArrayRows
from corridor.data.table import TableRows


class Encoded:
    """Rows of one image file."""

    labels = torch.zeros(1, dtype=torch.int64)

    def __len__(self):
        return 1

    def __init__(self, array, form, **options):
        self.file = io.BytesIO()
        Image.fromarray(array).save(self.file, form, **options)

    def open(self, i):
        return Image.open(self.file)

    def where(self, i):
        return "image"


def test_the_quality_of_a_jpeg_is_read_off_exactly(pictures):
    image = pictures(1)[0]
    for quality in range(1, 101):
        assert jpeg_quality(Encoded(image, "JPEG", quality=quality)) == quality


def test_grey_jpegs_have_a_quality_and_other_formats_none(pictures):
    assert jpeg_quality(Encoded(pictures(1, grey=True)[0], "JPEG", quality=60)) == 60
    assert jpeg_quality(Encoded(pictures(1)[0], "PNG")) is None


def test_a_table_of_another_program_gives_the_nearest_quality(pictures):
    image = Image.fromarray(pictures(1)[0])
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    luminance = list(Image.open(buffer).quantization[0])
    luminance[5] += 3
    rows = Encoded(pictures(1)[0], "JPEG", qtables=[luminance, luminance])
    assert jpeg_quality(rows) == 75


def test_fit_keeps_the_centre_of_the_shorter_side():
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


def test_a_crop_that_never_fits_is_the_centre():
    thin = Image.fromarray(np.arange(0, 250, dtype=np.uint8)[:, None].repeat(2, 1))
    crop = np.asarray(random_crop(thin, 2, random.Random(1)))
    assert crop[0, 0] == pytest.approx(124, abs=1)


def test_large_images_are_decoded_by_several_threads_in_order(pictures):
    images = pictures(9, size=128)
    rows = ArrayRows(images, torch.zeros(9, dtype=torch.int64), "large")
    assert np.array_equal(decode(rows, 3, 128, resize=False).numpy(), images.transpose(0, 3, 1, 2))
    bad = ArrayRows(images[:, :, :100], torch.zeros(9, dtype=torch.int64), "large")
    with pytest.raises(ValueError, match=r"large, image 0: expected 128 x 128 .* got 100 x 128"):
        decode(bad, 3, 128, resize=False)


def test_pixels_put_channels_first(pictures):
    for grey in (True, False):
        image = pictures(1, grey=grey)[0]
        expected = image[None] if grey else image.transpose(2, 0, 1)
        assert np.array_equal(pixels(Image.fromarray(image)), expected)


def test_mean_and_std_of_many_images_and_of_a_constant_channel():
    images = torch.randint(0, 256, (5000, 2, 3, 3), dtype=torch.uint8)
    images[:, 1] = 51
    mean, std = mean_and_std(images)
    first = images[:, 0].double().numpy() / 255
    assert mean == pytest.approx((first.mean(), 0.2), rel=1e-12)
    assert std[0] == pytest.approx(first.std(), rel=1e-12)
    assert std[1] == 1.0


def test_rows_of_plain_bytes_and_of_paths(tmp_path, pictures, encoded):
    import datasets

    content = encoded(pictures(1)[0])
    (tmp_path / "x.png").write_bytes(content)
    at = {"bytes": None, "path": str(tmp_path / "x.png")}
    labels = torch.zeros(1, dtype=torch.int64)
    for cell in (content, {"bytes": content, "path": None}, at):
        table = datasets.Dataset.from_dict({"img": [cell]})
        assert TableRows(table, "img", labels, "t").encoded(0) == content
