"""MetaImage (MHA/MHD) and NRRD in, by SimpleITK, once the header is known not to claim more than is there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import BadAffine
from hierbmd.geometry import Grid
from hierbmd.io import guards
from hierbmd.rigid import rigid_matrix

_HEADER_LIMIT = 1 << 16
_PACKED_ENCODINGS = {"gzip", "gz", "bzip2", "bz2"}
_COUNTED_ENCODINGS = {"gzip", "gz", "zlib"}


@dataclass(frozen=True)
class _Layout:
    """Where the voxels are and how they are packed, from the header's text: `encoding` is raw, zlib, gzip, bzip2..."""

    data_file: Path
    data_offset: int
    encoding: str


def is_itk_image(path: Path) -> bool:
    """Whether the name is a MetaImage's or an NRRD's."""
    return path.suffix.lower() in (".mha", ".mhd", ".nrrd", ".nhdr")


def read_itk_header(path: str | Path, kind: str = "CT", *, dimensions: tuple[int, ...] = (3,)) -> Any:
    """A SimpleITK reader that has read the header alone: GetSize, GetSpacing, GetDirection, GetPixelID, metadata.

    Raises UnreadableFile (damaged, several numbers a voxel, not of the `dimensions` asked for) and BadAffine (zero
    spacing or a singular direction, which ITK itself refuses).
    """
    import SimpleITK as sitk  # noqa: N813

    file = guards.require_file(kind, path)
    _layout(file, kind)
    reader = sitk.ImageFileReader()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader.SetImageIO("NrrdImageIO" if file.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _itk_refusal(error, path, kind) from None
    if reader.GetNumberOfComponents() != 1 or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise guards.unreadable(kind, path, "several numbers a voxel")
    if reader.GetDimension() not in dimensions:
        raise guards.unreadable(kind, path, f"{reader.GetDimension()} dimensions")
    return reader


def read_itk_image(
    path: str | Path,
    *,
    kind: str = "CT",
    max_gib: float = guards.DEFAULT_MAX_GIB,
    dimensions: tuple[int, ...] = (3,),
) -> Any:
    """The SimpleITK image of a MetaImage or NRRD; OversizedFile before memory is taken if it claims too much."""
    reader = read_itk_header(path, kind, dimensions=dimensions)
    _require_claim_held(reader, Path(path), kind, max_gib)
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise _itk_refusal(error, path, kind) from None


def read_itk_volume(
    path: str | Path, *, kind: str = "CT", max_gib: float = guards.DEFAULT_MAX_GIB
) -> tuple[NDArray[Any], Grid]:
    """The voxels of a MetaImage or NRRD, [i, j, k] as stored, and their grid in LPS mm (ITK's world is LPS already).

    Raises what `read_itk_image` raises, and BadAffine for an NRRD that names no anatomical space.
    """
    import SimpleITK as sitk  # noqa: N813

    image = read_itk_image(path, kind=kind, max_gib=max_gib)
    if Path(path).suffix.lower() in (".nrrd", ".nhdr"):
        _require_patient_space(image, path)
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), grid_of_itk(image, path)


def _require_patient_space(image: Any, path: str | Path) -> None:
    """ITK turns every anatomical NRRD space to LPS and says so; scanner-xyz or no space at all places no patient."""
    space = image.GetMetaData("NRRD_space") if image.HasMetaDataKey("NRRD_space") else "none"
    if space != "left-posterior-superior":
        raise BadAffine(
            f"the NRRD's space ({space}) does not say which side is left",
            where=path,
            mend="write it with an anatomical space",
        )


def grid_of_itk(image: Any, path: str | Path = "") -> Grid:
    """The grid in LPS mm of a 3D SimpleITK image or of a reader that has read its header."""
    direction = np.array(image.GetDirection(), dtype=np.float64).reshape(3, 3)
    scaled = direction * np.array(image.GetSpacing(), dtype=np.float64)
    try:
        return Grid(image.GetSize(), rigid_matrix(scaled, np.array(image.GetOrigin(), dtype=np.float64)))
    except BadAffine as error:
        raise BadAffine(error.what, where=path, mend=error.mend) from None


def _require_claim_held(reader: Any, path: Path, kind: str, max_gib: float) -> None:
    import SimpleITK as sitk  # noqa: N813

    voxel_bytes = np.dtype(_DTYPES[sitk.GetPixelIDValueAsString(reader.GetPixelID())]).itemsize
    claimed = int(np.prod([int(n) for n in reader.GetSize()], dtype=object)) * voxel_bytes
    guards.require_within(claimed, max_gib, path)
    layout = _layout(path, kind)
    stored = guards.require_file(kind, layout.data_file).stat().st_size - max(layout.data_offset, 0)
    if layout.encoding in _COUNTED_ENCODINGS:
        guards.require_held(kind, path, claimed_bytes=claimed, held_bytes=stored * guards.DEFLATE_MAX_RATIO)
        with guards.decoding(kind, path), layout.data_file.open("rb") as stream:
            stream.seek(layout.data_offset)
            stored = guards.inflated_size(stream, claimed)
    elif layout.encoding in _PACKED_ENCODINGS:
        raise guards.unreadable(kind, path, f"encoding {layout.encoding}: write it raw or gzip")
    elif layout.encoding in ("ascii", "text", "txt", "hex"):
        claimed //= voxel_bytes  # at least one character a voxel
    guards.require_held(kind, path, claimed_bytes=claimed, held_bytes=stored)


_DTYPES = {
    f"{bits}-bit {sign} integer": f"{code}{bits // 8}"
    for bits in (8, 16, 32, 64)
    for sign, code in (("signed", "i"), ("unsigned", "u"))
} | {"32-bit float": "f4", "64-bit float": "f8"}


def _layout(file: Path, kind: str) -> _Layout:
    with file.open("rb") as stream:
        start = stream.read(_HEADER_LIMIT)
    if start.startswith(b"NRRD"):
        return _nrrd_layout(file, start, kind)
    return _meta_layout(file, start, kind)


def _meta_layout(file: Path, start: bytes, kind: str) -> _Layout:
    found = re.search(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]+?)[ \t]*\r?\n", start, re.MULTILINE)
    if found is None:
        raise guards.unreadable(kind, file, "no MetaImage header")
    head = start[: found.end()]
    packed = re.search(rb"^[ \t]*CompressedData[ \t]*=[ \t]*true", head, re.MULTILINE | re.IGNORECASE)
    size = re.search(rb"^[ \t]*HeaderSize[ \t]*=[ \t]*(-?\d+)", head, re.MULTILINE)
    name = found.group(1).decode("latin-1")
    offset = found.end() if name.upper() == "LOCAL" else int(size.group(1)) if size else 0
    return _Layout(_data_file(file, name, kind), max(offset, 0), "zlib" if packed else "raw")


def _nrrd_layout(file: Path, start: bytes, kind: str) -> _Layout:
    end = re.search(rb"\r?\n\r?\n", start)
    head = start if end is None else start[: end.start()]
    encoding = re.search(rb"^encoding:[ \t]*(\w+)", head, re.MULTILINE)
    if encoding is None:
        raise guards.unreadable(kind, file, "the NRRD header names no encoding")
    detached = re.search(rb"^data ?file:[ \t]*([^\r\n]+)", head, re.MULTILINE)
    name = detached.group(1).decode("latin-1").strip() if detached else "LOCAL"
    if detached is None and end is None:
        raise guards.unreadable(kind, file, "the NRRD header has no end")
    offset = 0 if detached or end is None else end.end()
    return _Layout(_data_file(file, name, kind), offset, encoding.group(1).decode().lower())


def _data_file(file: Path, name: str, kind: str) -> Path:
    """The file that holds the voxels: this one, or one beside it; a header cannot point out of its folder."""
    if name.upper() == "LOCAL":
        return file
    if name.upper().startswith("LIST") or "%" in name:
        raise guards.unreadable(kind, file, "voxels in several files: write it as one")
    if Path(name).name != name:
        raise guards.unreadable(kind, file, f"its data file {name} is not beside it")
    return file.with_name(name)


def _itk_refusal(error: RuntimeError, path: str | Path, kind: str) -> Exception:
    """ITK's long message as one of ours; it names zero spacing and singular directions itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = re.sub(r"^.*?\):\s*", "", lines[-1]) if lines else "ITK cannot read it"
    text = str(error).lower()
    if "spacing" in text or "determinant is 0" in text:
        return BadAffine("the image's affine is singular or has zero spacing", where=path, mend="write the image again")
    return guards.unreadable(kind, path, last)
