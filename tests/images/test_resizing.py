import platform
import resource
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pipeline.images import resizing
from pipeline.images.resizing import RESAMPLING, resize

# Without it there is nothing to compare: all is Pillow's.
if platform.machine() != "aarch64":
    assert resizing.Resizer is not None

SIZES = [(500, 375), (224, 224), (100, 900), (1, 1), (1, 5000), (5000, 1), (3, 2), (4000, 3000)]


def noise(width, height, mode="RGB"):
    rng = np.random.default_rng(width * 7919 + height)
    bands = len(Image.new(mode, (1, 1)).getbands())
    samples = rng.integers(0, 256, (height, width, bands), np.uint8)
    return Image.fromarray(samples.squeeze(2) if bands == 1 else samples, mode)


@pytest.mark.parametrize("resample", RESAMPLING)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])  # the last two by Pillow itself
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_pixels_are_those_of_pillow(size, mode, resample):
    image = noise(*size, mode)
    ours = np.asarray(resize(image, 224, 192, resample)).astype(int)
    pillows = np.asarray(image.resize((224, 192), RESAMPLING[resample])).astype(int)
    assert ours.shape == pillows.shape
    assert abs(ours - pillows).max() <= 2
    assert (ours != pillows).mean() < 0.02


def test_without_the_fast_resizer_pillow_does_it(monkeypatch):
    monkeypatch.setattr(resizing, "Resizer", None)
    image = noise(500, 375)
    expected = image.resize((224, 224), Image.Resampling.BICUBIC)
    assert resize(image, 224, 224, "bicubic") == expected


def test_threads_do_not_get_in_each_others_way():
    images = [noise(300 + n, 200) for n in range(64)]
    alone = [resize(image, 224, 224, "bicubic") for image in images]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda image: resize(image, 224, 224, "bicubic"), images))
    assert together == alone


def test_a_very_high_image_takes_no_gigabytes():
    image = Image.new("RGB", (1, 3_000_000), (9, 8, 7))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert np.asarray(resize(image, 224, 224, "bicubic")).max(axis=(0, 1)).tolist() == [9, 8, 7]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB on Linux
