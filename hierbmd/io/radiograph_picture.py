"""What a PNG, TIFF, JPEG or MHA radiograph says of itself, which is little: pixels, and in an MHA their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.io import guards
from hierbmd.io.radiograph import KIND, StatedRadiograph, StatedSpacing

_FORMATS = ("PNG", "TIFF", "JPEG")
_BITS = {"1": 1, "L": 8, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16, "I": 32, "F": 32}
_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0


def read_stated_picture(path: Path, *, max_gib: float = guards.DEFAULT_MAX_GIB) -> StatedRadiograph:
    """Read a picture file at its full depth, as a viewer would show it; polarity, spacing and view are left unsaid.

    A resolution in dots per inch is that of a print, so it is not taken for a spacing. Colour is refused unless every
    pixel is grey. An MHA of `hierbmd drr` carries its pixel size and grows with absorption.
    """
    if path.suffix.lower() == ".mha":
        return _read_mha(path, max_gib)
    from PIL import Image

    with guards.decoding(KIND, path, Image.DecompressionBombError), Image.open(path, formats=_FORMATS) as picture:
        _require_claim(picture, path, max_gib)
        file_format = str(picture.format)
        values, bits = _grey(picture, path)
    ends = (float(values.min()), float(values.max())) if bits == 32 else (0.0, 2.0**bits - 1)
    return StatedRadiograph(values.astype(np.float32), ends, file_format=file_format, bits_stored=bits)


def _read_mha(path: Path, max_gib: float) -> StatedRadiograph:
    from hierbmd.io.image import read_mha_image

    image = read_mha_image(path, max_gib=max_gib)
    if image.pixels.ndim != 2:
        raise guards.unreadable(KIND, path, f"an image of shape {image.pixels.shape} is no radiograph")
    values = np.asarray(image.pixels, dtype=np.float32)
    quantity = image.metadata.get("quantity", image.metadata.get("hierbmd_quantity", ""))
    return StatedRadiograph(
        values,
        (float(values.min()), float(values.max())),
        file_format="MHA",
        bits_stored=32,
        bone_bright=True if quantity else None,
        polarity_source=f"quantity {quantity}" if quantity else "",
        spacings=(StatedSpacing("ElementSpacing", image.pixel_mm),),
    )


def _require_claim(picture: Any, path: Path, max_gib: float) -> None:
    width, height = picture.size
    claimed = width * height * max(_BITS.get(picture.mode, 8) // 8, 1) * len(picture.getbands())
    guards.require_within(claimed, max_gib, path)
    held = path.stat().st_size * guards.DEFLATE_MAX_RATIO * 8  # eight one-bit pixels to a byte
    guards.require_held(KIND, path, claimed_bytes=claimed, held_bytes=held)
    if getattr(picture, "n_frames", 1) != 1:
        raise guards.unreadable(KIND, path, f"{picture.n_frames} images in one file")


def _grey(picture: Any, path: Path) -> tuple[NDArray[Any], int]:
    from PIL import ImageOps

    white_is_zero = (
        picture.format == "TIFF"
        and picture.mode.startswith("I;16")
        and picture.tag_v2.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO
    )
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in _BITS:
        bits = _BITS[upright.mode]
        values = np.asarray(upright).astype(np.float64)
        # Pillow turns 8-bit white-is-zero TIFFs over by itself and leaves 16-bit ones.
        return (2.0**bits - 1 - values if white_is_zero else values), bits
    colours = np.asarray(upright.convert("RGBA")).astype(np.int16)
    if np.any(colours[..., :3] != colours[..., :1]) or np.any(colours[..., 3] != 255):
        raise guards.unreadable(KIND, path, "a colour or transparent picture: write it as grey")
    return colours[..., 0].astype(np.float64), 8
