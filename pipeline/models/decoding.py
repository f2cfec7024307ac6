"""Makes of an image what a model takes: pixels of its size, a file, or a tf.Example."""

from __future__ import annotations

import functools

import numpy as np

from pipeline.images.loading import DECODING, Decode, as_ref, read_and_decode, read_image, room_for
from pipeline.limits import DEFAULT_LIMITS, Limits
from pipeline.models.spec import ExtractorSpec, ModelSpec, Takes
from pipeline.records import DecodedImage, ImageRef


def pixel_decoder_for(spec: ExtractorSpec, limits: Limits) -> Decode:
    """Make the function from an image to pixels as a model of images takes them."""
    return functools.partial(
        read_and_decode,
        height=spec.height,
        width=spec.width,
        resample=spec.resample,
        limits=limits,
        checksum=isinstance(spec, ModelSpec) and spec.lists_images,
    )


def decoder_for(spec: ModelSpec, limits: Limits) -> Decode:
    """Make the function from an image to what a classifier takes."""
    decode = pixel_decoder_for(spec, limits)
    if spec.takes is Takes.IMAGES:
        return decode
    return functools.partial(
        read_encoded, decode=decode, takes=spec.takes, decodes=spec.decodes, limits=limits
    )


def read_encoded(
    ref: str | ImageRef,
    *,
    decode: Decode,
    takes: Takes,
    decodes: bool,
    limits: Limits = DEFAULT_LIMITS,
) -> DecodedImage:
    """Read one image for a model of files, or of tf.Examples with files.

    It is decoded here in any case, so that a bad one fails alone and not with its batch.

    Args:
      ref: the image.
      decode: see ``pixel_decoder_for``.
      takes: files or tf.Examples.
      decodes: whether the model is given the file as it is, or one with the decoded pixels.
      limits: for reading.

    Returns:
      What is known of the image, and a file or a serialized tf.Example.

    Raises:
      ImageError: it cannot be read, or decoded here or, where the model decodes, by the model.
    """
    from pipeline.models import examples  # TensorFlow takes seconds to import

    ref = as_ref(ref)
    with room_for(ref, limits) as claim:
        data, ref = read_image(ref, limits, claim)
        info, pixels = decode(ref._replace(data=data))
    if decodes:
        with DECODING:
            examples.check_decodable(data)
    else:
        data = examples.to_file(np.asarray(pixels))
    return DecodedImage(info, examples.to_example(data) if takes is Takes.EXAMPLES else data)
