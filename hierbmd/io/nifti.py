"""NIfTI in and out. Its RAS world is turned to LPS here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import AffineConflict, BadAffine
from hierbmd.geometry import Grid
from hierbmd.io import guards
from hierbmd.rigid import Matrix

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's world is RAS (nifti1.h, "+x = Right +y = Anterior +z = Superior"); the house's is LPS."""

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""NIfTI spatial unit codes: unknown (taken as mm, as everybody writes it), metre, mm, micron."""

_FORM_TOLERANCE_VOXELS = 0.1
_LONGEST_HEADER = 540
_LONGEST_EXTENSION = 1 << 20
_CARET_CODE = 30
_CARET_LABEL = re.compile(rb'<Label Key="(\d{1,9})"[^>]*>\s*<!\[CDATA\[([^\]]{1,200})\]\]>')


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI header says, checked: the grid in LPS mm, the stored type, and which form placed it."""

    grid: Grid
    dtype: np.dtype[Any]
    affine_source: str
    voxel_bytes: int
    data_offset: int


def is_nifti(path: Path) -> bool:
    """Whether the name is a NIfTI file's."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti_header(path: str | Path, kind: str = "CT") -> NiftiHeader:
    """Read and check a NIfTI header; no voxel is touched.

    Raises UnreadableFile (damaged, not 3D, colour), BadAffine (no orientation, singular, NaN) and AffineConflict (qform
    and sform disagree; both axis codes named).
    """
    file = guards.require_file(kind, path)
    with guards.decoding(kind, path):
        start = guards.gunzip(file, _LONGEST_HEADER) if _is_gzip(file) else _first_bytes(file, _LONGEST_HEADER)
    header = _parsed(start, path, kind)
    with guards.decoding(kind, path):
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header.get_data_offset())
    if dtype.kind not in "iuf":
        raise guards.unreadable(kind, path, f"voxels of type {dtype} are not one number each")
    if offset < 0 or min(shape, default=0) < 1:
        raise guards.unreadable(kind, path, f"shape {shape}, voxels from byte {offset}")
    shape_3d = _three_axes(tuple(int(n) for n in shape), path, kind)
    affine, source = _checked_affine(header, shape_3d, path)
    voxel_bytes = int(np.prod(shape_3d, dtype=object)) * dtype.itemsize
    return NiftiHeader(_grid(shape_3d, affine, path), dtype, source, voxel_bytes, offset)


def read_nifti(
    path: str | Path, *, kind: str = "CT", max_gib: float = guards.DEFAULT_MAX_GIB
) -> tuple[NDArray[Any], Grid]:
    """The voxels of a NIfTI file, [i, j, k] as stored with the header's scaling applied, and their grid in LPS mm.

    Raises what `read_nifti_header` raises, and OversizedFile before memory is taken when the header claims more than
    the file holds or more than `max_gib`.
    """
    import nibabel as nib

    header = read_nifti_header(path, kind)
    file = Path(path)
    packed = _is_gzip(file)
    size = file.stat().st_size
    held = size * guards.DEFLATE_MAX_RATIO if packed else size
    claimed = header.voxel_bytes + header.data_offset
    guards.require_held(kind, path, claimed_bytes=claimed, held_bytes=held)
    guards.require_within(claimed, max_gib, path)
    with guards.decoding(kind, path):
        content = guards.gunzip(file, claimed) if packed else _first_bytes(file, claimed)
    guards.require_held(kind, path, claimed_bytes=claimed, held_bytes=len(content))
    with guards.decoding(kind, path, nib.spatialimages.HeaderDataError, nib.filebasedimages.ImageFileError):
        image = _image_class(content).from_bytes(content)
        scaled = header.dtype.kind == "f" or image.dataobj.slope != 1 or image.dataobj.inter != 0
        values = np.asarray(image.dataobj, dtype=np.float32 if scaled else None)
        return values.reshape(header.grid.shape, order="F"), header.grid


def read_label_table(path: str | Path, kind: str = "label map") -> dict[str, int]:
    """The label names that a NIfTI carries in its Caret extension, as TotalSegmentator writes it; {} without one.

    Read by pattern, so that no XML entity of a stranger's file is ever expanded.
    """
    header = read_nifti_header(path, kind)
    file = Path(path)
    length = min(header.data_offset, _LONGEST_EXTENSION)
    with guards.decoding(kind, path):
        start = guards.gunzip(file, length) if _is_gzip(file) else _first_bytes(file, length)
    table = {name.decode("utf-8", "replace"): int(key) for key, name in _CARET_LABEL.findall(start)}
    return {name: i for name, i in table.items() if i > 0}


def add_label_table(image: Any, scheme: Mapping[str, int]) -> None:
    """Put label names into a NIfTI image as a Caret extension (code 30), where `read_label_table` finds them."""
    from xml.sax.saxutils import quoteattr

    import nibabel as nib

    labels = "".join(f"<Label Key={quoteattr(str(i))}><![CDATA[{name}]]></Label>" for name, i in scheme.items())
    table = f'<VolumeInformation Index="0"><LabelTable>{labels}</LabelTable></VolumeInformation>'
    xml = f'<?xml version="1.0" encoding="UTF-8"?><CaretExtension>{table}</CaretExtension>'
    image.header.extensions.append(nib.nifti1.Nifti1Extension(_CARET_CODE, xml.encode()))


def nifti_image(values: NDArray[Any], grid: Grid) -> Any:
    """A nibabel image of `values` [i, j, k] on a grid in LPS mm, its RAS affine as sform and qform.

    A quaternion cannot hold shear, so a sheared grid has its sform alone.
    """
    import nibabel as nib

    ras_from_index = LPS_FROM_RAS @ grid.world_from_index
    image = nib.Nifti1Image(np.asfortranarray(values), ras_from_index)
    image.header.set_xyzt_units("mm")
    image.set_sform(ras_from_index, code=1)
    directions = ras_from_index[:3, :3] / grid.spacing_mm
    rigid = np.allclose(directions.T @ directions, np.eye(3), atol=1e-4)
    image.set_qform(ras_from_index if rigid else None, code=1 if rigid else 0)
    return image


def _is_gzip(file: Path) -> bool:
    return _first_bytes(file, 2) == b"\x1f\x8b"


def _first_bytes(file: Path, count: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(count)


def _image_class(start: bytes) -> Any:
    import nibabel as nib

    return nib.Nifti2Image if b"n+2" in start[4:8] else nib.Nifti1Image


def _parsed(start: bytes, path: str | Path, kind: str) -> Any:
    """The header by nibabel, without its repairs and remarks: what is wrong is refused by us."""
    import nibabel as nib

    if start[344:348] != b"n+1\0" and start[4:8] != b"n+2\0":
        raise guards.unreadable(kind, path, "no NIfTI header")
    with guards.decoding(kind, path, nib.spatialimages.HeaderDataError):
        kind_of_header = _image_class(start).header_class
        return kind_of_header(start[: kind_of_header.template_dtype.itemsize], check=False)


def _three_axes(shape: tuple[int, ...], path: str | Path, kind: str) -> tuple[int, int, int]:
    kept = shape[:3] if all(n == 1 for n in shape[3:]) else shape
    if len(kept) != 3:
        raise guards.unreadable(kind, path, f"shape {shape} is not one 3D volume")
    return kept[0], kept[1], kept[2]


def _grid(shape: tuple[int, int, int], ras_from_index: Matrix, path: str | Path) -> Grid:
    try:
        return Grid(shape, LPS_FROM_RAS @ ras_from_index)
    except BadAffine as error:
        raise BadAffine(error.what, where=path, mend=error.mend) from None


def _checked_affine(header: Any, shape: tuple[int, int, int], path: str | Path) -> tuple[Matrix, str]:
    """The RAS mm affine and the name of the form it came from; where both are set they must agree."""
    forms = _forms(header, path)
    if not forms:
        raise BadAffine(
            "neither qform nor sform is set, so nothing says which side is left",
            where=path,
            mend="write the file again with its orientation",
        )
    if len(forms) == 2:
        _require_agreement(forms["sform"], forms["qform"], shape, path)
    source = " = ".join(forms)
    mm_per_unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    affine = next(iter(forms.values()))
    return np.diag([mm_per_unit, mm_per_unit, mm_per_unit, 1.0]) @ affine, source


def _forms(header: Any, path: str | Path) -> dict[str, Matrix]:
    """The affines that the header sets, sform first: it has no rounding of quaternions."""
    from nibabel.spatialimages import HeaderDataError

    forms: dict[str, Matrix] = {}
    try:
        if int(header["sform_code"]) > 0:
            forms["sform"] = np.asarray(header.get_sform(), dtype=np.float64)
        if int(header["qform_code"]) > 0:
            with np.errstate(all="ignore"):
                forms["qform"] = np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise BadAffine(f"the qform is not a rotation ({error})", where=path, mend="write the file again") from None
    for name, affine in forms.items():
        if not np.all(np.isfinite(affine)):
            raise BadAffine(f"the {name} has values that are not finite", where=path, mend="write the file again")
    return forms


def _require_agreement(sform: Matrix, qform: Matrix, shape: tuple[int, int, int], path: str | Path) -> None:
    grids = [_grid(shape, affine, path) for affine in (sform, qform)]
    apart_mm = float(np.max(np.linalg.norm(grids[0].corners_world_mm - grids[1].corners_world_mm, axis=1)))
    if apart_mm > _FORM_TOLERANCE_VOXELS * float(np.min(grids[0].spacing_mm)):
        ras_codes = [grid.axis_codes for grid in grids]
        raise AffineConflict(
            f"qform ({ras_codes[1]}) and sform ({ras_codes[0]}) disagree by up to {apart_mm:.1f} mm",
            where=path,
            mend="keep the right one: set the other's code to 0",
        )
