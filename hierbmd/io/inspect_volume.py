"""The facts of a CT and of a label map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.volume import LabelMap
from hierbmd.geometry import Grid
from hierbmd.io import dicom_file
from hierbmd.io.hounsfield import require_hounsfield
from hierbmd.rigid import transform_points
from hierbmd.units import METAL_HU

_SPECK_MM3 = 100.0
_PADDING_SHARE = 1e-3
_AIR_AT_MOST_HU = -1000.0
_BONES = ("femur_left", "femur_right", "hip_left", "hip_right")


@dataclass(frozen=True)
class Metal:
    """Where a CT reaches beyond METAL_HU: `index` (n, 3) of those voxels on `grid`; the CT itself is let go."""

    grid: Grid
    index: NDArray[np.float64]

    def by_label(self, labels: LabelMap) -> dict[str, int]:
        """How many of the voxels each structure of a label map holds, the most first, looked up in physical space."""
        if not len(self.index):
            return {}
        index_from_index = labels.grid.index_from_world @ self.grid.world_from_index
        index = np.rint(transform_points(index_from_index, self.index)).astype(np.int64)
        inside = np.all((index >= 0) & (index < labels.ids.shape), axis=1)
        ids, counts = np.unique(labels.ids[tuple(index[inside].T)], return_counts=True)
        names = {i: name for name, i in labels.scheme.items()}
        named = {names.get(int(i), f"id {i}"): int(n) for i, n in zip(ids, counts, strict=True) if i}
        return dict(sorted(named.items(), key=lambda item: -item[1]))


def inspect_ct(
    path: Path, values: NDArray[Any], grid: Grid, placed_by: str
) -> tuple[dict[str, Any], tuple[str, ...], Metal]:
    """The facts of a CT (ni, nj, nk) in HU, what is missing before density images can be made of it, and its metal.

    Raises NotHounsfield and NotOrthogonal, as reading it would.
    """
    require_hounsfield(values, path)
    grid.require_orthogonal(path)
    low, high = float(values.min()), float(values.max())
    metal = Metal(grid, np.argwhere(values > METAL_HU).astype(np.float64))
    facts = _grid_facts(grid, placed_by)
    facts["hu_range"] = [low, high]
    facts["padding"] = _padding(values, low)
    facts["metal"] = _metal_facts(metal, int(np.count_nonzero(values == high)))
    if path.is_dir():
        facts |= _series_facts(path)
    else:
        facts["stored_as"] = str(values.dtype)
    missing = (
        "label map: give the bones with --labels, or make one with hierbmd segment",
        "calibration: no file says how HU become mg/cm3; give one, or --slope and --intercept, before any density",
    )
    return facts, missing, metal


def inspect_labels(labels: LabelMap, placed_by: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The facts of a label map: its structures with their volume in ml, and the hip bones that it lacks."""
    facts = _grid_facts(labels.grid, placed_by)
    facts["stored_as"] = str(labels.ids.dtype)
    ids, counts = np.unique(labels.ids, return_counts=True)
    names = {i: name for name, i in labels.scheme.items()}
    ml_per_voxel = labels.grid.voxel_mm3 / 1000.0
    found = {int(i): round(int(n) * ml_per_voxel, 3) for i, n in zip(ids, counts, strict=True) if i}
    facts["structures_ml"] = {names[i]: ml for i, ml in found.items() if i in names}
    facts["ids_without_name"] = [i for i in found if i not in names]
    facts["touching_the_edge"] = [name for name in facts["structures_ml"] if _touches_edge(labels, name)]
    absent = [bone for bone in _BONES if bone not in facts["structures_ml"]]
    missing = (f"bones: no {', '.join(absent)}",) if absent else ()
    return facts, missing


def _grid_facts(grid: Grid, placed_by: str) -> dict[str, Any]:
    spacing_mm = [round(float(x), 4) for x in grid.spacing_mm]
    extent_mm = [round(n * s, 1) for n, s in zip(grid.shape, spacing_mm, strict=True)]
    return {
        "size": list(grid.shape),
        "spacing_mm": spacing_mm,
        "spacing_source": placed_by,
        "axis_codes": grid.axis_codes,
        "extent_mm": extent_mm,
        "centre_lps_mm": [round(float(x), 2) for x in grid.centre_world_mm],
    }


def _padding(values: NDArray[Any], low: float) -> dict[str, float] | None:
    """The value that fills what the scanner did not see: the lowest one, when it is repeated and no more than air."""
    share = float(np.mean(values == low))
    return {"hu": low, "share": round(share, 4)} if low <= _AIR_AT_MOST_HU and share > _PADDING_SHARE else None


def _metal_facts(metal: Metal, at_ceiling: int) -> dict[str, Any]:
    above = len(metal.index)
    volume_mm3 = above * metal.grid.voxel_mm3
    return {
        "voxels": above,
        "ml": round(volume_mm3 / 1000.0, 3),
        "speck": volume_mm3 < _SPECK_MM3,
        "saturated_voxels": at_ceiling if above and at_ceiling > 1 else 0,
    }


def _touches_edge(labels: LabelMap, name: str) -> bool:
    """Whether a structure reaches the last layer of any axis, so that part of it may lie outside the scan."""
    wanted = labels.scheme[name]
    ids = labels.ids
    return any(bool(np.any(np.take(ids, end, axis=axis) == wanted)) for axis in range(3) for end in (0, -1))


def _series_facts(folder: Path) -> dict[str, Any]:
    from hierbmd.io.dicom_series import KIND, find_series

    series = find_series(folder)
    header = dicom_file.read_dataset(series.slices[0].path, kind=KIND, pixels=False)
    rescales = {(one.slope, one.intercept) for one in series.slices}
    facts: dict[str, Any] = {
        "slices": len(series.slices),
        "transfer_syntax": dicom_file.transfer_syntax_name(header),
        "bits_stored": int(header.get("BitsStored", 0)),
        "rescale": "one for all slices" if len(rescales) == 1 else f"{len(rescales)} different ones",
    }
    for name, keyword in (("kvp", "KVP"), ("slice_thickness_mm", "SliceThickness"), ("tilt_deg", "GantryDetectorTilt")):
        value = dicom_file.floats(header, keyword, 1)
        facts[name] = None if value is None else float(value[0])
    facts["kernel"] = dicom_file.text(header, "ConvolutionKernel") or None
    return facts
