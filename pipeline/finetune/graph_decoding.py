"""Image file → pixels, as ``images.decode`` does it, in operations of TensorFlow's graph.

Whoever serves an export through tf.Examples has no Python, so this is what the export carries. Like
there, transparent pixels of PNGs are composited on white, JPEGs are turned as their EXIF data say,
and of an animation the first frame counts. What differs is in ``docs/serving.md``.
"""

from __future__ import annotations

from pipeline.models.tensorflow_import import tf

# EXIF data come first in a file, in one segment, which holds at most 64 KiB.
_HEADER_BYTES = 1 << 17

_ORIENTATION_TAG = 0x0112
_SHORT = 3  # the type of a directory's entry whose value has two bytes

_EXIF_SEGMENT = 0xE1
# With these, the pixels begin, or the file ends.
_PIXELS = (0xDA, 0xD9)


def decode(data: tf.Tensor, height: int, width: int, resample: str) -> tf.Tensor:
    """Decode and resize one image file.

    Args:
      data: a file, string ``[]``.
      height: of the result, in pixels.
      width: of the result, in pixels.
      resample: a key of ``resizing.RESAMPLING``.

    Returns:
      Whole numbers from 0 to 255, float32 ``[height, width, 3]``.
    """
    is_png = tf.strings.substr(data, 0, 4) == b"\x89PNG"
    is_jpeg = tf.strings.substr(data, 0, 2) == b"\xff\xd8"
    image = tf.case(
        [(is_png, lambda: _decode_png(data)), (is_jpeg, lambda: _decode_jpeg(data))],
        default=lambda: _decode_other(data),
    )
    image = tf.ensure_shape(image, [None, None, 3])
    resized = tf.image.resize(image, [height, width], resample, antialias=True)
    return tf.clip_by_value(tf.round(resized), 0.0, 255.0)


def _decode_png(data: tf.Tensor) -> tf.Tensor:
    """On white."""
    image = tf.cast(tf.io.decode_png(data, channels=4), tf.float32)
    # Where a file with less than 8 bits a sample has no alpha, TensorFlow 2.21 fills in the most
    # that a sample can be, 15 for example, in place of 255.
    bits = tf.io.decode_raw(tf.strings.substr(data, 24, 1), tf.uint8)[0]
    filled = tf.cast(tf.bitwise.left_shift(1, tf.cast(bits, tf.int32)) - 1, tf.float32)
    is_opaque = tf.reduce_all(image[..., 3] == filled)
    opacity = tf.where(is_opaque, 1.0, image[..., 3:] / 255.0)
    return tf.round(image[..., :3] * opacity + 255.0 * (1.0 - opacity))


def _decode_other(data: tf.Tensor) -> tf.Tensor:
    """As it is. BMPs with a palette are refused: TensorFlow takes its indices for gray."""
    is_bmp = tf.strings.substr(data, 0, 2) == b"BM"
    bits = tf.io.decode_raw(tf.strings.substr(data, 28, 1), tf.uint8)
    has_palette = is_bmp & tf.reduce_any(bits < 16)
    refused = tf.debugging.Assert(~has_palette, ["TensorFlow reads no BMP file with a palette"])
    with tf.control_dependencies([refused] if refused is not None else []):
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
    return tf.cast(image, tf.float32)


def _decode_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Upright."""
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    orientation = jpeg_orientation(data)
    sideways = (orientation >= 5) & (orientation <= 8)
    image = tf.cond(sideways, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    # Of each orientation, what is left to do then (Exif 2.32, 4.6.4 A).
    upside_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
    image = tf.cond(upside_down, lambda: image[::-1], lambda: image)
    image = tf.cond(mirrored, lambda: image[:, ::-1], lambda: image)
    return tf.cast(image, tf.float32)


def jpeg_orientation(data: tf.Tensor) -> tf.Tensor:
    """The orientation that a JPEG's EXIF data give, int32 ``[]``; 1 (upright) if they give none.

    Whatever the bytes are, reading them does not fail: behind the end there are zeros.
    """
    header = tf.strings.substr(data, 0, _HEADER_BYTES)
    values = tf.cast(tf.io.decode_raw(header, tf.uint8), tf.int32)
    size = tf.size(values)

    def at(place: tf.Tensor, count: int) -> tf.Tensor:
        places = place + tf.range(count)
        inside = (places >= 0) & (places < size)
        return tf.where(inside, tf.gather(values, tf.clip_by_value(places, 0, size - 1)), 0)

    def number(place: tf.Tensor, count: int, little: tf.Tensor) -> tf.Tensor:
        read = at(place, count)
        read = tf.cond(little, lambda: read[::-1], lambda: read)
        return tf.reduce_sum(tf.bitwise.left_shift(read, 8 * tf.range(count)[::-1]))

    def goes_on(place: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        marker = at(place, 2)
        ends = tf.reduce_any(marker[1] == _PIXELS)
        return ~found & (place < size) & (marker[0] == 0xFF) & ~ends

    def go_on(place: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_exif = tf.reduce_all(at(place + 4, 6) == list(b"Exif\0\0"))
        found = (at(place, 2)[1] == _EXIF_SEGMENT) & is_exif
        length = tf.maximum(number(place + 2, 2, tf.constant(False)), 2)
        padding = at(place, 2)[1] == 0xFF
        step = tf.where(padding, 1, 2 + length)
        return tf.where(found, place, place + step), found

    place, found = tf.while_loop(goes_on, go_on, [tf.constant(2), tf.constant(False)])
    start = place + 10
    little = tf.reduce_all(at(start, 2) == list(b"II"))
    known = little | tf.reduce_all(at(start, 2) == list(b"MM"))
    directory = start + number(start + 4, 4, little)
    count = number(directory, 2, little)
    entries = tf.minimum(count, (size - directory) // 12 + 1)

    def is_other(entry: tf.Tensor) -> tf.Tensor:
        tag = number(directory + 2 + 12 * entry, 2, little)
        return (entry < entries) & (tag != _ORIENTATION_TAG)

    entry = tf.while_loop(is_other, lambda entry: (entry + 1,), [tf.constant(0)])[0]
    place = directory + 2 + 12 * entry
    has_it = found & known & (entry < entries) & (number(place + 2, 2, little) == _SHORT)
    return tf.where(has_it, number(place + 8, 2, little), 1)
