"""A calibration phantom in the scan: its rods as made, what they read, where they lie, their share of each pixel."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from hierbmd.data.phantoms import Phantom, Rod
from hierbmd.physics.ct_beam import WATER_EQUIVALENT_HU, WATER_READS_MG_CM3, CtBeam
from hierbmd.rigid import Matrix, Vector, rigid_matrix, transform_points
from hierbmd.simulation.ct_sampling import Lattice
from hierbmd.simulation.shares import along_normal, slab_share

Image = NDArray[np.float32]

_DENSITY_SPREAD, _DENSITY_SPREAD_MG_CM3, _WATER_SPREAD_MG_CM3 = 0.01, 0.5, 1.0
"""How rods of different serials differ: 1 % and 0.5 mg/cm3 in mineral, 1 mg/cm3 in water (SD; of the order of what
certificates state, unverified)."""


def phantom_of_serial(phantom: Phantom, serial: int) -> Phantom:
    """The phantom with this serial's own rods, drawn about the nominal ones; serial 0 is nominal."""
    if serial == 0:
        return phantom
    rng = np.random.default_rng([serial, zlib.crc32(phantom.name.encode())])
    rods = []
    for rod in phantom.rods:
        relative, absolute, water = rng.standard_normal(3)
        density = rod.density_mg_cm3 * (1.0 + _DENSITY_SPREAD * relative) + _DENSITY_SPREAD_MG_CM3 * absolute
        if rod.water_mg_cm3 is None:
            rods.append(replace(rod, density_mg_cm3=round(float(density), 2)))
        else:
            own_water = rod.water_mg_cm3 + _WATER_SPREAD_MG_CM3 * water
            rods.append(replace(rod, density_mg_cm3=round(float(density), 2), water_mg_cm3=round(float(own_water), 2)))
    return replace(phantom, rods=tuple(rods))


def rod_hu(rod: Rod, beam: CtBeam) -> float:
    """What a rod reads on a scale without error, HU.

    HA displaces water-equivalent resin. K2HPO4 lies in so much water: HU = water + sigma_ref * K2HPO4 - 1000.
    """
    if rod.water_mg_cm3 is None:
        return WATER_EQUIVALENT_HU + beam.hydroxyapatite_hu_per_mg_cm3 * rod.density_mg_cm3
    return rod.water_mg_cm3 + beam.dipotassium_phosphate_over_water * rod.density_mg_cm3 - WATER_READS_MG_CM3


@dataclass(frozen=True)
class PlacedPhantom:
    """A phantom where it lies: `world_from_phantom` is a rigid 4x4, LPS mm; `rods_hu` what each rod reads."""

    phantom: Phantom
    world_from_phantom: Matrix
    rods_hu: tuple[float, ...]

    def axis_world_mm(self, rod: Rod) -> tuple[Vector, Vector]:
        """The two ends of a rod's axis, LPS mm."""
        half = self.phantom.plate_mm[2] / 2.0
        ends = np.array([[rod.x_mm, rod.y_mm, -half], [rod.x_mm, rod.y_mm, half]])
        first, last = transform_points(self.world_from_phantom, ends)
        return first, last

    def corners_world_mm(self) -> Matrix:
        """The plate's eight corners, (8, 3), LPS mm."""
        x, y, z = (0.5 * side for side in self.phantom.plate_mm)
        corners = [[a, b, c] for a in (-x, x) for b in (-y, y) for c in (-z, z)]
        return transform_points(self.world_from_phantom, np.array(corners))


def placed(
    phantom: Phantom, beam: CtBeam, top_centre_mm: Vector, angles_deg: Vector, z_range_mm: tuple[float, float]
) -> PlacedPhantom:
    """The phantom turned by `angles_deg` about x, y, z, then let down until it clears a plane.

    The middle of its top lies under `top_centre_mm` (x, y, z) and no part between the slices of `z_range_mm` rises
    above the y of that point.
    """
    rotation = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    half_x, half_y = phantom.plate_mm[0] / 2.0, phantom.plate_mm[1] / 2.0
    x, y, z = top_centre_mm
    # The highest points of the tilted top are on its long edges, at the ends of the scan.
    rises = []
    for across in (-half_x, half_x):
        for z_end in z_range_mm:
            along = np.clip((z_end - z) / rotation[2, 2], -phantom.plate_mm[2] / 2.0, phantom.plate_mm[2] / 2.0)
            rises.append(-(rotation @ [across, -half_y, along])[1])
    centre = np.array([x, y + max(rises), z])
    return PlacedPhantom(phantom, rigid_matrix(rotation, centre), tuple(rod_hu(rod, beam) for rod in phantom.rods))


def with_phantom(image: Image, phantom: PlacedPhantom, lattice: Lattice, k: int) -> Image:
    """The k-th slice, (nx, ny) in HU, with the phantom in it, by its share of each pixel and of the slice's profile."""
    corners = phantom.corners_world_mm()
    box = _pixels_of(corners[:, :2].min(axis=0), corners[:, :2].max(axis=0), lattice)
    share, content = np.zeros(image[box].shape), np.zeros(image[box].shape)
    for offset_mm, weight in zip(*lattice.slice_profile, strict=True):
        z_mm = float(lattice.z_mm[k] + offset_mm)
        plate = _plate_share(phantom, lattice, box, z_mm)
        share += weight * plate
        content += weight * plate * phantom.phantom.plate_hu
        for rod, hu in zip(phantom.phantom.rods, phantom.rods_hu, strict=True):
            inner = _rod_box(phantom, rod, lattice, z_mm)
            here = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(inner, box, strict=True))
            content[here] += weight * _rod_share(phantom, rod, lattice, inner, z_mm) * (hu - phantom.phantom.plate_hu)
    out = image.copy()
    out[box] = (1.0 - share) * image[box] + content
    return out


def _plate_share(phantom: PlacedPhantom, lattice: Lattice, box: tuple[slice, ...], z_mm: float) -> NDArray[np.float64]:
    points, rotation = _in_phantom(phantom, lattice, box, z_mm)
    share = np.ones(points.shape[:2])
    for axis, side in enumerate(phantom.phantom.plate_mm):
        share *= slab_share(points[..., axis], side / 2.0, lattice.pixel_mm * np.abs(rotation[axis, :2]))
    return share


def _rod_share(
    phantom: PlacedPhantom, rod: Rod, lattice: Lattice, box: tuple[slice, ...], z_mm: float
) -> NDArray[np.float64]:
    points, rotation = _in_phantom(phantom, lattice, box, z_mm)
    away = points[..., :2] - [rod.x_mm, rod.y_mm]
    distance = np.maximum(np.hypot(away[..., 0], away[..., 1]), 1e-9)
    gradient = (away / distance[..., None]) @ rotation[:2, :2]
    share = along_normal(rod.diameter_mm / 2.0 - distance, lattice.pixel_mm * np.abs(gradient))
    length = slab_share(points[..., 2], phantom.phantom.plate_mm[2] / 2.0, lattice.pixel_mm * np.abs(rotation[2, :2]))
    return share * length


def _in_phantom(phantom: PlacedPhantom, lattice: Lattice, box: tuple[slice, ...], z_mm: float) -> tuple[Matrix, Matrix]:
    """The pixels of a box in phantom coordinates, (nx, ny, 3), and the rotation phantom_from_world, 3x3."""
    x, y = np.meshgrid(lattice.x_mm[box[0]], lattice.y_mm[box[1]], indexing="ij")
    world = np.stack([x, y, np.full(x.shape, z_mm)], axis=-1)
    rotation = phantom.world_from_phantom[:3, :3].T
    return (world - phantom.world_from_phantom[:3, 3]) @ rotation.T, rotation


def _rod_box(phantom: PlacedPhantom, rod: Rod, lattice: Lattice, z_mm: float) -> tuple[slice, ...]:
    first, last = phantom.axis_world_mm(rod)
    centre = first + (last - first) * np.clip((z_mm - first[2]) / (last[2] - first[2]), 0.0, 1.0)
    reach = rod.diameter_mm / 2.0 * 1.05
    return _pixels_of(centre[:2] - reach, centre[:2] + reach, lattice)


def _pixels_of(low_mm: Vector, high_mm: Vector, lattice: Lattice) -> tuple[slice, ...]:
    """The pixels that a rectangle of the plane can touch."""
    ranges = []
    for n, centres in enumerate((lattice.x_mm, lattice.y_mm)):
        first = int(np.floor((low_mm[n] - centres[0]) / lattice.pixel_mm))
        last = int(np.ceil((high_mm[n] - centres[0]) / lattice.pixel_mm)) + 1
        ranges.append(slice(min(max(first, 0), len(centres)), min(max(last, 0), len(centres))))
    return tuple(ranges)
