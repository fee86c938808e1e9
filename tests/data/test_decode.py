# pyright: reportAttributeAccessIssue=false
import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from corridor.data.decode import decode, fit, jpeg_quality, mean_and_std, random_crop
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
