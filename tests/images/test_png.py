"""PNGs of every color type and depth, of pixels that are known."""

import struct

import numpy as np
import pytest
from helpers.corpus import chunk, png

from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.records import Reason

WIDTH, HEIGHT = 13, 9
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
DEPTHS = [(color, 8) for color in CHANNELS]
DEPTHS += [(color, 16) for color in CHANNELS if color != PALETTE]
DEPTHS += [(color, bits) for color in (GRAY, PALETTE) for bits in (1, 2, 4)]


def lines(samples, bits):
    """Rows of samples ``[HEIGHT, WIDTH, channels]``, none of them filtered."""
    loose = samples.reshape(HEIGHT, -1, 1) >> np.arange(bits)[::-1] & 1
    packed = np.packbits(loose.reshape(HEIGHT, -1).astype(np.uint8), axis=1)
    return np.pad(packed, ((0, 0), (1, 0))).tobytes()


def case(color, bits, transparent):
    """A PNG, and its pixels on white."""
    rng = np.random.default_rng(bits)
    samples = rng.integers(0, 2**bits, (HEIGHT, WIDTH, CHANNELS[color]))
    samples[:4] = samples[0, 0]
    intensity, before = samples / (2**bits - 1), b""
    opaque = np.ones((HEIGHT, WIDTH, 1))
    if color == PALETTE:
        table = rng.integers(0, 256, (2**bits, 3)).astype(np.uint8)
        before = chunk(b"PLTE", table.tobytes())
        intensity = table[samples[..., 0]] / 255
        if transparent:
            alpha = rng.integers(0, 256, 2**bits).astype(np.uint8)
            before += chunk(b"tRNS", alpha.tobytes())
            opaque = alpha[samples] / 255
    elif color in (GRAY_ALPHA, RGBA):
        intensity, opaque = intensity[..., :-1], intensity[..., -1:]
    elif transparent:
        before = chunk(b"tRNS", struct.pack(f">{CHANNELS[color]}H", *samples[0, 0].tolist()))
        opaque = 1.0 - (samples == samples[0, 0]).all(-1, keepdims=True)
    data = png(WIDTH, HEIGHT, lines(samples, bits), bits, color, before=before)
    return data, (intensity * opaque + 1 - opaque) * 255


@pytest.mark.parametrize(("color", "bits"), DEPTHS)
@pytest.mark.parametrize("transparent", [False, True])
def test_every_kind(color, bits, transparent):
    if transparent and color in (GRAY_ALPHA, RGBA):
        pytest.skip("it has alpha")
    data, expected = case(color, bits, transparent)
    if transparent and (color, bits) == (RGB, 16):
        with pytest.raises(ImageError, match="16-bit RGB with a transparent color") as caught:
            decode(data, HEIGHT, WIDTH)
        assert caught.value.reason is Reason.UNSUPPORTED_FORMAT
        return
    assert np.abs(decode(data, HEIGHT, WIDTH).pixels - expected).max() <= 2
