"""Lossy image codecs as a round trip: what pixels come back from JPEG and JPEG 2000."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray


def jpeg_bytes(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """A baseline JPEG stream (ISO 10918-1, by Pillow) of an 8-bit grey image (H, W); quality 1 to 100."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality)
    return stream.getvalue()


def through_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """What a baseline JPEG of an 8-bit grey image (H, W) gives back."""
    from PIL import Image

    with Image.open(io.BytesIO(jpeg_bytes(pixels, quality)), formats=("JPEG",)) as picture:
        return np.asarray(picture)


def through_jpeg2000(pixels: NDArray[np.uint16], ratio: float, *, bits: int) -> NDArray[np.uint16]:
    """What a JPEG 2000 stream (ISO 15444-1, by OpenJPEG) of a grey image (H, W) of `bits` gives back.

    `ratio` to one is the rate asked of the coder, of the stored bits; an image that needs fewer is smaller.
    """
    from openjpeg.utils import decode, encode_array

    stream = encode_array(pixels, bits_stored=bits, photometric_interpretation=_GREY, compression_ratios=[ratio])
    given: Any = decode(stream)
    return np.asarray(given, dtype=np.uint16).reshape(pixels.shape)


_GREY = 2
"""OpenJPEG's number of a grey colour space."""
