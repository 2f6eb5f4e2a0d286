"""Pixel data of a DICOM radiograph, compressed: what was lost is said in the header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from hierbmd.errors import BadConfig
from hierbmd.io.codecs import jpeg_bytes

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

Compression = Literal["none", "rle", "jpeg2000", "jpeg2000-lossy", "jpeg"]

SYNTAX: dict[Compression, str] = {
    "none": "1.2.840.10008.1.2.1",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "jpeg2000-lossy": "1.2.840.10008.1.2.4.91",
    "jpeg": "1.2.840.10008.1.2.4.50",
}
"""Transfer syntaxes (PS3.6 A-1): explicit little endian, RLE, JPEG 2000 lossless and not, JPEG baseline (process 1)."""

_METHOD: dict[Compression, str] = {"jpeg2000-lossy": "ISO_15444_1", "jpeg": "ISO_10918_1"}
"""Lossy Image Compression Method (0028,2114), PS3.3 C.7.6.1.1.5."""


def compress(dataset: FileDataset, compression: Compression, *, jpeg_quality: int, jpeg2000_ratio: float) -> None:
    """Compress a data set's native pixels in place and set the tags that lossy compression asks for.

    BadConfig for baseline JPEG of more than 8 bits. The ratio that is written is the one that came out.
    """
    if compression == "none":
        return
    native = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    if compression == "jpeg":
        _to_jpeg(dataset, jpeg_quality)
    elif compression == "jpeg2000-lossy":
        dataset.compress(SYNTAX[compression], j2k_cr=[jpeg2000_ratio], generate_instance_uid=False)
    else:
        dataset.compress(SYNTAX[compression], generate_instance_uid=False)
    if compression in _METHOD:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = f"{native / len(_codestream(dataset)):.2f}"
        dataset.LossyImageCompressionMethod = _METHOD[compression]


def _to_jpeg(dataset: FileDataset, quality: int) -> None:
    """Baseline JPEG by Pillow, encapsulated: pydicom has no encoder of it."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    if dataset.BitsAllocated != 8 or dataset.BitsStored != 8:
        raise BadConfig(
            "baseline JPEG has 8 bits", where=f"{dataset.BitsStored} bits", mend="8 bits, or jpeg2000-lossy"
        )
    shape = (dataset.Rows, dataset.Columns)
    pixels = np.frombuffer(dataset.PixelData, np.uint8, count=shape[0] * shape[1]).reshape(shape)
    dataset.PixelData = encapsulate([jpeg_bytes(pixels, quality)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = UID(SYNTAX["jpeg"])


def _codestream(dataset: FileDataset) -> bytes:
    from pydicom.encaps import get_frame

    return get_frame(dataset.PixelData, 0, number_of_frames=1)
