"""One DICOM file: its header, its pixels; by pydicom's own decoders, never GDCM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import MissingExtra
from hierbmd.io import guards

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_DEFLATED_UID = b"1.2.840.10008.1.2.1.99"
_META_END_WITHIN = 4096
_DECODER_ORDER = ("pydicom", "pylibjpeg", "pyjpegls", "pillow")
"""pydicom's own RLE first, for pylibjpeg-rle panics on damaged data; pylibjpeg before Pillow, which rounds JPEG 2000 of
odd depths; GDCM is left out on purpose."""

_EXTRA_FOR = {
    "1.2.840.10008.1.2.4.57": "pylibjpeg-libjpeg (GPL)",
    "1.2.840.10008.1.2.4.70": "pylibjpeg-libjpeg (GPL)",
    "1.2.840.10008.1.2.4.51": "pylibjpeg-libjpeg (GPL)",
}


def has_dicom_magic(path: Path) -> bool:
    """Whether the file carries DICM after its preamble (PS3.10 section 7.1)."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_dataset(
    path: str | Path, *, kind: str, pixels: bool = True, max_gib: float = guards.DEFAULT_MAX_GIB
) -> FileDataset:
    """The data set of a DICOM file, without its pixels on request.

    Raises UnreadableFile (empty, truncated, not DICOM) and OversizedFile (a deflated data set that expands past the
    limit; counted before it is kept).
    """
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError

    file = guards.require_file(kind, path)
    with guards.decoding(kind, path, InvalidDicomError, BytesLengthException):
        if not has_dicom_magic(file):
            raise guards.unreadable(kind, path, "no DICOM prefix after 128 bytes")
        _require_deflated_within(file, max_gib)
        return pydicom.dcmread(file, stop_before_pixels=not pixels)


def transfer_syntax_name(dataset: FileDataset) -> str:
    """The transfer syntax in words, as PS3.6 names it."""
    return str(getattr(dataset.file_meta.get("TransferSyntaxUID", ""), "name", "") or "not stated")


def decode_pixels(
    dataset: FileDataset, *, kind: str, path: str | Path, max_gib: float = guards.DEFAULT_MAX_GIB
) -> NDArray[Any]:
    """The stored values of one grey frame, (rows, columns), with unused high bits cleared or sign-extended.

    Raises UnreadableFile, OversizedFile (rows and columns claim more than the file holds, or than `max_gib`) and
    MissingExtra (the transfer syntax needs a decoder that is not installed).
    """
    from pydicom.pixels import pixel_array

    with guards.decoding(kind, path):
        claimed = _claimed_bytes(dataset, kind, path)
        guards.require_within(claimed, max_gib, path)
        plugin = _decoder_name(dataset, path)
        if not plugin:
            guards.require_held(kind, path, claimed_bytes=claimed, held_bytes=len(dataset.PixelData))
        options = {"decoding_plugin": plugin} if plugin else {}
        values = pixel_array(dataset, **options)  # type: ignore[arg-type]
    if values.ndim != 2:
        raise guards.unreadable(kind, path, f"pixels of shape {values.shape} are not one grey image")
    return values


def _claimed_bytes(dataset: FileDataset, kind: str, path: str | Path) -> int:
    """Rows times columns in bytes, once the image is known to be one grey frame of whole bytes."""
    if "PixelData" not in dataset:
        raise guards.unreadable(kind, path, "no pixel data")
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise guards.unreadable(kind, path, "a colour image")
    if int(dataset.get("NumberOfFrames", 1) or 1) != 1:
        raise guards.unreadable(kind, path, "several frames in one file: split it into single frames")
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if allocated not in (8, 16, 32) or int(dataset.get("HighBit", stored - 1)) != stored - 1:
        raise guards.unreadable(kind, path, f"{stored} bits in {allocated}, high bit {dataset.get('HighBit')}")
    return int(dataset.Rows) * int(dataset.Columns) * allocated // 8


def _decoder_name(dataset: FileDataset, path: str | Path) -> str:
    """The decoder to use for a compressed image, "" for a native one."""
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    if not decoder.is_encapsulated:
        return ""
    for name in _DECODER_ORDER:
        if name in decoder.available_plugins:
            return name
    extra = _EXTRA_FOR.get(str(syntax), "a pylibjpeg plugin")
    raise MissingExtra(
        f"no decoder for {syntax.name}", where=path, mend=f"install {extra}, or decompress the file first"
    )


def _require_deflated_within(file: Path, max_gib: float) -> None:
    """Count what a deflated data set expands to, since pydicom expands it in one go."""
    from pydicom.filereader import read_file_meta_info

    with file.open("rb") as stream:
        if _DEFLATED_UID not in stream.read(_META_END_WITHIN):
            return
        meta_length = int(read_file_meta_info(str(file)).FileMetaInformationGroupLength)
        stream.seek(132 + 12 + meta_length)
        limit = int(max_gib * 2**30)
        guards.require_within(guards.inflated_size(stream, limit, window_bits=-15), max_gib, file)


def floats(dataset: FileDataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    """The `count` finite numbers of an attribute, or None when it is absent, empty, short or not numbers."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    try:
        numbers = np.array([float(x) for x in (value if isinstance(value, (list, tuple)) or count > 1 else [value])])
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.all(np.isfinite(numbers)) else None


def text(dataset: FileDataset, keyword: str) -> str:
    """An attribute as trimmed upper-case text, several values with a backslash between, "" when absent."""
    value = dataset.get(keyword) or ""
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    return "\\".join(str(part) for part in parts).strip().upper()
