"""Picture files put into a page; light: a command's help imports it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

_JPEG_QUALITY = 82


def jpeg_file(path: Path, *, height_px: int = 440) -> str:
    """A picture file as a JPEG data URI, no higher than a page shows it."""
    from PIL import Image as Pillow

    with Pillow.open(path) as stored:
        picture = stored.convert("RGB")
        if picture.height > height_px:
            size = (round(picture.width * height_px / picture.height), height_px)
            picture = picture.resize(size, Pillow.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
