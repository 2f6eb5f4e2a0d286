"""The one reader of CT volumes: DICOM folder, NIfTI, NRRD, MHA/MHD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.volume import Volume
from hierbmd.errors import NotOrthogonal, SuspectedUnit
from hierbmd.geometry import Grid
from hierbmd.io import guards
from hierbmd.io.hounsfield import require_finite, require_hounsfield
from hierbmd.io.itk_image import is_itk_image, read_itk_volume
from hierbmd.io.nifti import is_nifti, read_nifti
from hierbmd.io.tilt import resample_upright

KIND = "CT"
_SMALLEST_SPACING_MM = 0.01


def read_volume(
    path: str | Path,
    *,
    resample_tilt: bool = False,
    unit: str = "HU",
    max_gib: float = guards.DEFAULT_MAX_GIB,
) -> Volume:
    """Read a CT as float32 HU on its own grid in LPS mm: axes in the order the file stores them, nothing resampled.

    A folder is a DICOM series (index axes: column, row, slice; slices sorted along their normal). `resample_tilt` puts
    a tilted or sheared volume on axes at right angles; without it NotOrthogonal names the angle. `unit` other than "HU"
    reads a derived volume, a density map say, without the check that values are HU. `max_gib` limits what a file may
    expand to.

    Raises UnreadableFile, OversizedFile, SliceGap, MixedSeries, NotOrthogonal, RescaleMissing, NotHounsfield,
    NonFiniteVoxels, BadAffine, AffineConflict, SuspectedUnit, MissingExtra.
    """
    values, grid = read_voxels(path, kind=KIND, max_gib=max_gib)
    require_finite(values, path)
    if unit == "HU":
        require_hounsfield(values, path)
    values = np.ascontiguousarray(values, dtype=np.float32)
    require_finite(values, path)
    _require_millimetres(grid, path)
    try:
        grid.require_orthogonal(path)
    except NotOrthogonal:
        if not resample_tilt:
            raise
        values, grid = resample_upright(values, grid)
    return Volume(values, grid, unit)


def read_voxels(path: str | Path, *, kind: str, max_gib: float = guards.DEFAULT_MAX_GIB) -> tuple[NDArray[Any], Grid]:
    """The voxels [i, j, k] as stored (scaling applied) and their grid in LPS mm, of any volume format."""
    file = Path(path)
    if file.is_dir():
        from hierbmd.io.dicom_series import read_series

        return read_series(file, max_gib=max_gib)
    guards.require_file(kind, file)
    if is_nifti(file):
        return read_nifti(file, kind=kind, max_gib=max_gib)
    if is_itk_image(file):
        return read_itk_volume(file, kind=kind, max_gib=max_gib)
    raise guards.unreadable(kind, path, "give a DICOM folder, or a .nii, .nii.gz, .mha, .mhd or .nrrd file")


def read_kvp(path: str | Path) -> float | None:
    """The tube voltage that a DICOM series states, kVp; None where it states none, and of any other format."""
    if not Path(path).is_dir():
        return None
    from hierbmd.io import dicom_file
    from hierbmd.io.dicom_series import find_series

    header = dicom_file.read_dataset(find_series(path).slices[0].path, kind=KIND, pixels=False)
    value = dicom_file.floats(header, "KVP", 1)
    return None if value is None or not value[0] > 0 else float(value[0])


def _require_millimetres(grid: Grid, path: str | Path) -> None:
    if float(np.max(grid.spacing_mm)) < _SMALLEST_SPACING_MM:
        raise SuspectedUnit(
            f"voxels of {float(np.max(grid.spacing_mm)):.4g} mm: metres?", where=path, mend="write the spacing in mm"
        )
