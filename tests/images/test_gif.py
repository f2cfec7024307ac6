"""GIFs whose first frame does not cover the screen."""

import struct

import imagecodecs
import numpy as np
import pytest
from helpers.corpus import encoded
from PIL import Image

from pipeline.images.decode import decode

COLORS = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [90, 90, 90]], np.uint8)
INDICES = np.array([[2, 1, 2, 3], [1, 3, 3, 1], [2, 2, 1, 1]], np.uint8)


def gif(place, screen, transparent=None):
    """A frame of four by three pixels at a place of a screen, whose background is green."""
    image = Image.fromarray(INDICES, "P")
    image.putpalette(COLORS.tobytes())
    options = {} if transparent is None else {"transparency": transparent}
    data = encoded(image, "GIF", optimize=False, interlace=False, **options)
    at = data.index(struct.pack("<HHHH", 0, 0, 4, 3)) if b"," in data else 0
    moved = data[:at] + struct.pack("<HH", *place) + data[at + 4 :]
    return moved[:6] + struct.pack("<HH", *screen) + moved[10:11] + b"\1" + moved[12:]


@pytest.mark.parametrize("place", [(0, 0), (2, 1), (4, 5), (7, 7)])
@pytest.mark.parametrize("transparent", [None, 1])
def test_what_is_around_the_first_frame_is_transparent(place, transparent):
    decoded = decode(gif(place, (8, 8), transparent), 10, 11)
    width, height = max(8, place[0] + 4), max(8, place[1] + 3)
    assert (decoded.width, decoded.height) == (width, height)
    expected = np.full((height, width, 3), 255, np.uint8)
    frame = COLORS[INDICES]
    if transparent is not None:
        frame[transparent == INDICES] = 255
    expected[place[1] : place[1] + 3, place[0] : place[0] + 4] = frame
    assert (decode(gif(place, (8, 8), transparent), height, width).pixels == expected).all()


def test_a_frame_that_covers_the_screen():
    data = gif((0, 0), (4, 3))
    assert (decode(data, 3, 4).pixels == COLORS[INDICES]).all()
    assert (imagecodecs.gif_decode(data)[..., :3].reshape(3, 4, 3) == COLORS[INDICES]).all()
