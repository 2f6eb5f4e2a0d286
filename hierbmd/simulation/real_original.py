"""A real CT read once, with what all subjects made from it share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.anatomy.femur import femoral_head
from hierbmd.anatomy.metal import metal_near
from hierbmd.anatomy.shape import box_of, subgrid
from hierbmd.calibration.line import require_plausible
from hierbmd.data.calibration import Calibration
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import HierbmdError, LabelsMismatch, UnreadableFile
from hierbmd.io.calibration_file import read_calibration
from hierbmd.io.ct import read_volume
from hierbmd.io.labels import read_labels
from hierbmd.rigid import Vector
from hierbmd.simulation.basis import METAL_HU, without_table
from hierbmd.simulation.bone_density import bones_in
from hierbmd.simulation.cases import BONES
from hierbmd.simulation.deform import axial_axis
from hierbmd.simulation.fat_layer import FatLayer, fat_layer
from hierbmd.simulation.patient import NOMINAL_SLOPE


@dataclass(frozen=True)
class RealCt:
    """A real CT, its label map, and its calibration where it has one, to build subjects on."""

    ct: Path
    labels: Path
    calibration: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What the subjects depend on."""
        return (self.ct, self.labels, *([self.calibration] if self.calibration else []))

    def sha256(self) -> list[str]:
        """The hash of each file, of a folder its files' in their order; UnreadableFile where there is none."""
        return [_sha256(path) for path in self.files]


@dataclass(frozen=True)
class Original:
    """What all subjects of one CT share: as it was read, without its table, what is metal, its fat and its joints."""

    scan: Volume
    body: Volume
    labels: LabelMap
    metal: NDArray[np.bool_]
    calibration: Calibration
    fat: FatLayer
    hip_centres_world_mm: dict[str, Vector]
    facts: dict[str, Any]


def _sha256(path: Path) -> str:
    whole = hashlib.sha256()
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            whole.update(file.read_bytes())
    except OSError as error:
        raise UnreadableFile(f"cannot be read ({error.strerror})", where=path, mend="check the path") from None
    return whole.hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size


def original_of(real_ct: RealCt) -> Original:
    """What subjects of a real CT share, read once a process.

    Errors: those of reading; LabelsMismatch when the label map has none of the hip's bones; SuspectedUnit or
    Uncalibrated for a calibration that cannot be this CT's.
    """
    return _read(real_ct, tuple(_stamp(path) for path in real_ct.files))


@lru_cache(maxsize=1)
def _read(real_ct: RealCt, stamps: tuple[tuple[int, int], ...]) -> Original:
    """Read once a process; `stamps` are the files' times and sizes, so that another file is read again."""
    scan = read_volume(real_ct.ct)
    labels = read_labels(real_ct.labels, onto=scan.grid)
    if not any(name in labels.names_present for name in BONES):
        raise LabelsMismatch(
            "no bone of the hip in the label map", where=real_ct.labels, mend="names: " + ", ".join(BONES)
        )
    line = Calibration(round(NOMINAL_SLOPE, 4), 0.0, method="given")
    if real_ct.calibration is not None:
        line = read_calibration(real_ct.calibration)
        require_plausible(line, real_ct.calibration)
    bone = np.isin(labels.ids, [labels.id_of(name) for name in bones_in(labels)])
    body = without_table(scan)
    facts = {
        "source_ct": real_ct.ct.name,
        "density_line": "nominal" if real_ct.calibration is None else "given",
        **_field_of_view(body, labels),
    }
    metal = metal_near(scan.values, bone, METAL_HU)
    return Original(scan, body, labels, metal, line, fat_layer(body), hip_centres(labels), facts)


def _field_of_view(body: Volume, labels: LabelMap) -> dict[str, Any]:
    """What the scan cuts: bones at its ends or sides, and whether the body goes on beside it."""
    axial = axial_axis(body.grid)
    faces = [np.take(labels.ids, end, axis=axis) for axis in range(3) for end in (0, -1)]
    cut = {int(i) for face in faces for i in np.unique(face)}
    beside = [np.take(body.values, end, axis=a) > -300.0 for a in range(3) if a != axial for end in (0, -1)]
    return {
        "bones_cut_by_the_scan": [name for name in bones_in(labels) if labels.id_of(name) in cut],
        "body_cut_beside_the_scan": bool(max(side.mean() for side in beside) > 0.02),
    }


def hip_centres(labels: LabelMap) -> dict[str, Vector]:
    """The centre of each femoral head that can be found; a femur without one is not moved."""
    centres = {}
    for side in ("left", "right"):
        name = f"femur_{side}"
        if name not in labels.names_present:
            continue
        mask = labels.mask(name)
        box = box_of(mask)
        try:
            centres[side] = femoral_head(mask[box], subgrid(labels.grid, box)).centre_world_mm
        except HierbmdError:
            continue
    return centres
