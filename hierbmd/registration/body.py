"""A bone ready to be projected: its attenuation alone on a cropped grid, metal taken out, and its surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.metal import metal_near
from hierbmd.anatomy.shape import box_of, subgrid
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import LabelsMismatch, RaysMissVolume
from hierbmd.geometry import Camera, Grid
from hierbmd.registration.options import SOFT_TISSUE_HU
from hierbmd.rigid import Matrix, Vector, transform_points
from hierbmd.units import attenuation_per_mm_from_hu

if TYPE_CHECKING:
    from hierbmd.drr.projector import Projector

_SURFACE_POINTS = 400
_RIM_EXCESS_HU = 100.0
"""A voxel beside a label holds bone where it is denser by this than what lies around: muscle, tendon and most vessels
with contrast are not. With them in it the bone projects too large and seems to lie deeper."""
_MIN_VOXELS = 50
BONE, METAL = "bone", "metal"

_BONE_NAMES = (
    "femur",
    "hip",
    "sacrum",
    "vertebrae",
    "rib",
    "sternum",
    "costal",
    "scapula",
    "clavicula",
    "humerus",
    "skull",
)


@dataclass(frozen=True)
class Body:
    """One bone, or several that move as one: what projects it, its centroid and points on its surface, LPS mm.

    `projector` has the channel "bone" and, where there is any, "metal". `surface_world_mm` is (n, 3), n at most 400;
    `cut_world_mm` (m, 3) is where the CT ends within the bone: an edge of the CT, which no bone has.
    """

    name: str
    projector: Projector
    has_metal: bool
    pivot_world_mm: Vector
    surface_world_mm: Matrix
    cut_world_mm: Matrix
    metal_voxels: int

    @property
    def radius_mm(self) -> float:
        """The root-mean-square distance of the surface from the centroid."""
        return float(np.sqrt(np.mean(np.sum((self.surface_world_mm - self.pivot_world_mm) ** 2, axis=1))))

    def image(self, camera: Camera, pose: Matrix) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The bone's projection (H, W) and the metal's, if any; zeros where no ray meets it."""
        try:
            stack = self.projector.image(camera, pose)
        except RaysMissVolume:
            stack = np.zeros((2, camera.size_px[1], camera.size_px[0]), dtype=np.float32)
        return stack[0], (stack[1] if self.has_metal else None)


def make_body(
    name: str,
    volume: Volume,
    labels: LabelMap,
    *,
    structures: tuple[str, ...],
    metal_hu: float,
    around_hu: float = SOFT_TISSUE_HU,
) -> Body:
    """The bone (or the named structures as one rigid body) of a CT in HU and its label map on the same grid.

    What is projected is the attenuation in excess of what lies around it (1/mm), soft tissue's unless `around_hu` says
    otherwise: that is the contrast that a bone has on a radiograph. With the whole attenuation the mask's outline
    would be an edge that no image shows. A dry bone or a phantom lies in air, -1000 HU. LabelsMismatch when the grids
    differ, a structure is not in the map, or it has fewer than 50 voxels.
    """
    from hierbmd.drr.projector import make_projector
    from hierbmd.drr.scene import Quantity, Scene

    if labels.grid != volume.grid:
        raise LabelsMismatch("the label map is not on the CT's grid", mend="resample it with read_labels(onto=...)")
    mask = _mask_of(labels, structures)
    if np.count_nonzero(mask) < _MIN_VOXELS:
        raise LabelsMismatch(f"{name} has {np.count_nonzero(mask)} voxels", mend="check the label map")
    box = box_of(mask)
    grid, mask = subgrid(volume.grid, box), mask[box]
    values = volume.values[box]
    metal = metal_near(values, mask, metal_hu)
    dense = values > around_hu + _RIM_EXCESS_HU
    whole = mask | _rim(dense, mask, np.isin(labels.ids[box], _bone_ids(labels)))
    ids = whole.astype(np.uint8)
    ids[metal] = 2
    has_metal = bool(metal.any())
    names = (BONE, METAL) if has_metal else (BONE,)
    excess = attenuation_per_mm_from_hu(values) - attenuation_per_mm_from_hu(around_hu)
    scene = Scene(excess.astype(np.float32), grid, ids, names, Quantity.ATTENUATION, Quantity.ATTENUATION.unit)
    surface = _surface(mask, grid)
    pivot = transform_points(grid.world_from_index, np.argwhere(mask).mean(axis=0))
    cut = _cut_points(mask, box, volume.grid)
    return Body(name, make_projector(scene), has_metal, pivot, surface, cut, int(np.count_nonzero(metal)))


def _mask_of(labels: LabelMap, structures: tuple[str, ...]) -> NDArray[np.bool_]:
    """The structures' voxels; LabelsMismatch when one is not in the scheme or none is in the map.

    LabelMap.mask looks for every name in the whole map at each call, which on a large CT costs more than the bone.
    """
    ids = [labels.scheme[name] if name in labels.scheme else labels.id_of(name) for name in structures]
    mask = np.isin(labels.ids, ids)
    return mask if mask.any() else labels.mask(structures[0])


def surface_points(labels: LabelMap, name: str) -> Matrix:
    """At most 400 points (n, 3), LPS mm, spread evenly over the surface voxels of a structure."""
    mask = labels.mask(name)
    box = box_of(mask)
    return _surface(mask[box], subgrid(labels.grid, box))


def is_bone(name: str) -> bool:
    """Whether a structure of that name (TotalSegmentator v2) is bone."""
    return name.startswith(_BONE_NAMES)


def _bone_ids(labels: LabelMap) -> list[int]:
    return [identifier for name, identifier in labels.scheme.items() if is_bone(name)]


def _rim(dense: NDArray[np.bool_], mask: NDArray[np.bool_], bones: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The voxels around the bone that no bone's label claims and that are too dense to hold none: partial volume.

    A label ends where a voxel is half bone; without the rest the bone projects too small and seems to lie nearer the
    source.
    """
    around = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 3))
    return np.asarray(around & ~bones & dense)


def _cut_points(mask: NDArray[np.bool_], box: tuple[slice, slice, slice], grid: Grid) -> Matrix:
    """The mask's voxels on the outermost layers of the whole volume, at most 400, LPS mm (m, 3)."""
    index = np.argwhere(mask) + np.array([s.start for s in box])
    outermost = np.any((index == 0) | (index == np.array(grid.shape) - 1), axis=1)
    return _thinned(transform_points(grid.world_from_index, index[outermost].astype(np.float64)))


def _thinned(points: Matrix) -> Matrix:
    if len(points) <= _SURFACE_POINTS:
        return points
    return points[np.unique(np.linspace(0, len(points) - 1, _SURFACE_POINTS).round().astype(int))]


def _surface(mask: NDArray[np.bool_], grid: Grid) -> Matrix:
    shell = mask & ~ndimage.binary_erosion(mask)
    return _thinned(transform_points(grid.world_from_index, np.argwhere(shell).astype(np.float64)))
