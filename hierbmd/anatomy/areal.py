"""Areal BMD of a region: its mineral over the area it covers in a projection, g/cm2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hierbmd.anatomy.shape import Mask, box_of, subgrid
from hierbmd.anatomy.silhouette import silhouette
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import Quantity, make_scene
from hierbmd.errors import BadRegion, Uncalibrated
from hierbmd.geometry import Camera, Grid, Side
from hierbmd.rigid import Matrix, Vector, rigid_matrix, transform_points

_REGION = "region"
_FAR_MM, _BEHIND_MM = 20_000.0, 500.0
_PIXEL_MM = 0.5
_MM2_PER_CM2 = 100.0


@dataclass(frozen=True)
class ArealBmd:
    """A region's areal BMD in g/cm2 with its parts: mineral in g and projected area in cm2."""

    bmd_g_cm2: float
    bmc_g: float
    area_cm2: float


class Positioned(Protocol):
    """What has a standard view of its own: unit vectors of its beam and of what is downwards on the image."""

    @property
    def down(self) -> Vector:
        """Along image rows, downwards."""

    @property
    def beam(self) -> Vector:
        """Along the rays, away from the source; square to `down`."""


@dataclass(frozen=True)
class MeasuredRegion:
    """A region of a CT with what it measures: its mask (ni, nj, nk), areal BMD at the standard view, volumetric BMD."""

    mask: Mask
    bmd: ArealBmd
    volumetric_mg_cm3: float


class MeasuredSite(Protocol):
    """One skeletal site of a patient, measured: its bones on a grid cut to them, everything in world LPS mm.

    `density` (mg/cm3) and the masks (ni, nj, nk) share `density.grid`. Metal and what touches it is in none of the
    masks; `metal_mm3` says how much there was. `regions` has every region of the site, and `target` names the one that
    is asked for.
    """

    @property
    def side(self) -> Side:
        """Which side it is; Side.NONE for a site without sides."""

    @property
    def density(self) -> Volume:
        """The calibrated volume."""

    @property
    def bones(self) -> Mapping[str, Mask]:
        """The bones that are registered, by the names of the site's density channels."""

    @property
    def regions(self) -> Mapping[str, MeasuredRegion]:
        """Every region by name."""

    @property
    def axes(self) -> Positioned:
        """The standard view that the regions are measured at."""

    @property
    def target(self) -> str:
        """The region that is asked for."""

    @property
    def metal_mm3(self) -> float:
        """The volume of metal in the bones."""

    def carried(self, region: Mask) -> dict[str, Mask]:
        """A region's parts by the bone that each moves with."""


def measured_region(density: Volume, mask: Mask, axes: Positioned) -> MeasuredRegion:
    """Measure a region of a volume in mg/cm3; errors as `areal_bmd`."""
    return MeasuredRegion(mask, areal_bmd(density, mask, axes), volumetric_bmd_mg_cm3(density, mask))


def cropped(volume: Volume, mask: Mask, *, margin: int = 2) -> tuple[Volume, Mask]:
    """A volume and a mask cut to the mask's box, every voxel where it was; projections of the mask do not change."""
    box = box_of(mask, margin=margin)
    return Volume(volume.values[box], subgrid(volume.grid, box), volume.unit), mask[box]


def project_region(
    density: Volume, region: Mask, camera: Camera, camera_from_world: Matrix
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A region's areal density, (H, W) g/cm2, and where it is seen, (H, W) uint8.

    A pixel sees the region when its ray meets the region's surface (`silhouette`). `density` is in mg/cm3 of a material
    (Uncalibrated otherwise). RaysMissVolume when no ray meets it.
    """
    density, region = cropped(density, region)
    areal = project_density(density, region, camera, camera_from_world)
    return areal, silhouette(region, density.grid, camera, camera_from_world)


def project_density(density: Volume, mask: Mask, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
    """The areal density of a mask, (H, W) g/cm2, from a volume in mg/cm3. Errors as `project_region`."""
    if not density.unit.startswith("mg/cm3"):
        raise Uncalibrated(f"uncalibrated: a volume in {density.unit} is no density", mend="calibrate it first")
    return _project(density, mask, Quantity.DENSITY, camera, camera_from_world)


def project_length_mm(volume: Volume, mask: Mask, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
    """How far each pixel's ray runs inside a mask, (H, W) mm. Errors as `project_region`."""
    return _project(volume, mask, Quantity.THICKNESS, camera, camera_from_world)


def _project(
    density: Volume, mask: Mask, quantity: Quantity, camera: Camera, camera_from_world: Matrix
) -> NDArray[np.float32]:
    volume, inside = cropped(density, mask)
    labels = LabelMap(inside.astype(np.uint8), volume.grid, {_REGION: 1})
    scene = make_scene(volume, labels, quantity=quantity, structures=(_REGION,))
    return np.asarray(make_projector(scene).image(camera, camera_from_world)[0])


def areal_bmd(density: Volume, region: Mask, axes: Positioned) -> ArealBmd:
    """A region's areal BMD at the standard view: BMC / projected area, with rays that are all but parallel.

    The standard view is the bone's own, as DXA positions it: a femur's beam is along the normal of the plane that neck
    and shaft span, a spine's from front to back. So how the patient lay in the CT does not matter.
    """
    density, region = cropped(density, region)
    camera, pose = standard_view(density.grid, region, axes)
    areal, seen = project_region(density, region, camera, pose)
    area_cm2 = float(np.count_nonzero(seen)) * _PIXEL_MM**2 / _MM2_PER_CM2
    if area_cm2 <= 0:
        raise BadRegion("the region covers no area in the standard view", mend="check the bone's label")
    bmc_g = float(areal.sum(dtype=np.float64)) * _PIXEL_MM**2 / _MM2_PER_CM2
    return ArealBmd(bmc_g / area_cm2, bmc_g, area_cm2)


def mean_bmd_g_cm2(areal_g_cm2: NDArray[np.floating], seen: NDArray[np.uint8]) -> float:
    """The mean areal density over the pixels that see the region, g/cm2; BadRegion when there are none."""
    if not seen.any():
        raise BadRegion("the region is not on the image", mend="is the hip inside the radiograph?")
    return float(np.mean(areal_g_cm2[seen > 0], dtype=np.float64))


def standard_view(grid: Grid, region: Mask, axes: Positioned) -> tuple[Camera, Matrix]:
    """The camera and `camera_from_world` of the standard view: 0.5 mm pixels at the region, the source 20 m away.

    The region's middle lies between pixels, so that whole millimetres about it are whole pixels. Counting pixels is
    right to 0.3 % for a region as small as the neck (`tests/simulation/test_truth.py`).
    """
    down, beam = axes.down, axes.beam
    across = np.cross(down, beam)
    rotation = np.stack([across / np.linalg.norm(across), down, beam])
    points = transform_points(grid.world_from_index, np.argwhere(region).astype(np.float64))
    centre = points.mean(axis=0)
    reach_mm = np.abs((points - centre) @ rotation[:2].T).max(axis=0) + 2.0 * grid.spacing_mm.max()
    width, height = (2 * int(np.ceil(reach / _PIXEL_MM)) for reach in reach_mm)
    pose = rigid_matrix(rotation, np.array([0.0, 0.0, _FAR_MM]) - rotation @ centre)
    # The detector is behind the bone: a projection ends at the detector.
    pixel_mm = _PIXEL_MM * (_FAR_MM + _BEHIND_MM) / _FAR_MM
    return Camera(_FAR_MM + _BEHIND_MM, (width, height), (pixel_mm, pixel_mm)), pose


def volumetric_bmd_mg_cm3(density: Volume, region: Mask) -> float:
    """The mean density of a region's voxels, mg/cm3."""
    return float(density.values[region].mean(dtype=np.float64))
