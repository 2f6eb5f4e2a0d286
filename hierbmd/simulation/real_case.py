"""A real CT as a subject: number 0 as it is, the others with its texture in another body."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.calibration.line import density_volume
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadConfig
from hierbmd.geometry import Grid
from hierbmd.rigid import Vector, transform_points
from hierbmd.simulation.bone_density import DensityChange, bones_in, with_changed_density
from hierbmd.simulation.cases import Case
from hierbmd.simulation.deform import (
    Displacement,
    Vectors,
    axial_axis,
    composed,
    exponential,
    lattice_around,
    node_points,
    smooth_velocity,
    warped,
    warped_labels,
)
from hierbmd.simulation.real_options import RealCtOptions
from hierbmd.simulation.real_original import Original, RealCt, hip_centres, original_of
from hierbmd.units import AIR_HU

JACOBIAN = (0.25, 4.0)
"""Between these the local change of volume stays; a warp that would leave them is made weaker until it does not."""

_LATTICE_MM, _MARGIN_MM = 10.0, 30.0
_VELOCITY_MM = 15.0
_REGION_MM = 70.0
_TEXTURE_MM = 12.0
_CORRELATION = 0.7
_REACH = 2.0
_CHECK_MM = 5.0
_WEAKER, _TRIES = 0.75, 12


@dataclass(frozen=True)
class Draw:
    """What one subject differs in from the original; zeros for number 0. Logarithms, mm and kg/m2."""

    density: DensityChange
    warp_mm: float
    size: tuple[float, float, float]
    side_size: tuple[float, float]
    bmi_change: float


def real_case(index: int, real_ct: RealCt, *, seed: int, options: RealCtOptions | None = None) -> Case:
    """A subject made from a real CT; the same (seed, index) and options give the same subject.

    Number 0 is the CT as it is. Without a calibration of its own the density line is nominal and says so. The truth is
    computed from what is written: after every change. LabelsMismatch when the label map has none of the hip's bones,
    SuspectedUnit or Uncalibrated for a calibration that cannot be this CT's.
    """
    options = options or RealCtOptions()
    original = original_of(real_ct)
    if index == 0:
        facts = {"kind": "real CT, as it is", "table_removed": False}
        return _case(f"ct{seed:03d}-00000", original, (original.scan, original.labels, original.metal), facts)
    draw = drawn(seed, index, options, original)
    base = original.scan if options.keep_table else original.body
    made, facts = transformed(replace(original, body=base), draw, options, np.random.default_rng([seed, index, 4]))
    told = {"kind": "real CT, changed", "table_removed": not options.keep_table, **facts}
    return _case(f"ct{seed:03d}-{index:05d}", original, made, told)


def drawn(seed: int, index: int, options: RealCtOptions, original: Original) -> Draw:
    """What a subject is to differ in, each part with random numbers of its own."""
    density, shape, fat = (np.random.default_rng([seed, index, part]) for part in (1, 2, 3))
    trabecular = _normal(density)
    cortical = _CORRELATION * trabecular + np.sqrt(1.0 - _CORRELATION**2) * _normal(density)
    left, right = (options.side_density_sd * _normal(density) for _ in range(2))
    change = DensityChange(options.density_sd * trabecular, options.cortex_sd * cortical, left, right)
    overall, single = options.size_sd * _normal(shape), [0.3 * options.size_sd * _normal(shape) for _ in range(3)]
    size = tuple(overall + one for one in single)
    side_size = tuple(options.side_size_sd * _normal(shape) for _ in range(2))
    bmi_change = options.bmi_sd * _normal(fat) if original.fat.thickness_mm > 0 else 0.0
    return Draw(change, options.warp_mm, (size[0], size[1], size[2]), (side_size[0], side_size[1]), bmi_change)


def transformed(
    original: Original, draw: Draw, options: RealCtOptions, rng: np.random.Generator
) -> tuple[tuple[Volume, LabelMap, NDArray[np.bool_]], dict[str, Any]]:
    """The CT in whole HU, labels and metal of a changed body, and what truth.json says of the change.

    Bones first, then fat and shape in one resampling, then size: the voxels of the whole patient grow, so that no
    texture is lost to it.
    """
    change = replace(draw.density, texture=_texture(rng, original.body.grid, options.texture_sd))
    changed = with_changed_density(original.body, original.labels, change)
    grid, stretch = original.body.grid, original.fat.stretch(draw.bmi_change) if draw.bmi_change else 1.0
    lattice = lattice_around(grid, step_mm=_LATTICE_MM, margin_mm=_MARGIN_MM)
    shape = _shape_velocity(rng, lattice, original, draw, options)
    grown = original.fat.velocity(stretch, lattice) if stretch != 1.0 else np.zeros_like(shape)
    field, strength, jacobian = _bounded(shape, grown, lattice, grid)
    onto = _wider(grid, max(original.fat.thickness_mm * (stretch - 1.0), 0.0) + 1.5 * draw.warp_mm)
    air = Volume(np.maximum(changed.values, np.float32(AIR_HU - 24.0)), grid, changed.unit)
    scan = warped(air, field, onto, nearest=(original.metal).astype(np.float32))
    labels = warped_labels(original.labels, field, onto)
    metal = warped(Volume(original.metal.astype(np.float32), grid, ""), field, onto, order=1).values > 0.5
    sized = _sized(onto, grid.centre_world_mm, draw.size)
    facts = {
        "trabecular_density_factor": round(float(np.exp(draw.density.trabecular)), 5),
        "cortical_density_factor": round(float(np.exp(draw.density.cortical)), 5),
        "side_density_factor": [round(float(np.exp(x)), 5) for x in (draw.density.left, draw.density.right)],
        "size_factor_by_axis": [round(float(np.exp(x)), 5) for x in draw.size],
        "side_size_factor": [round(float(np.exp(strength * x)), 5) for x in draw.side_size],
        "warp_rms_mm": round(strength * draw.warp_mm, 4),
        "bmi_change_kg_m2": round(draw.bmi_change, 3),
        "fat_thickness_mm": round(original.fat.thickness_mm, 2),
        "fat_stretch": round(float(stretch**strength), 4),
        "jacobian": [round(x, 4) for x in jacobian],
    }
    values = np.rint(scan.values).astype(np.float32)
    return (Volume(values, sized), LabelMap(labels.ids, sized, labels.scheme), metal), facts


def _shape_velocity(
    rng: np.random.Generator, lattice: Grid, original: Original, draw: Draw, options: RealCtOptions
) -> Vectors:
    """The velocity of the smooth warp, and of each hip region's own size about its head."""
    coarse = lattice_around(
        lattice, step_mm=max(_VELOCITY_MM, options.warp_scale_mm / 4.0), margin_mm=2 * options.warp_scale_mm
    )
    velocity = draw.warp_mm * smooth_velocity(rng, coarse, scale_mm=options.warp_scale_mm)
    field = Displacement(velocity, coarse)
    values = np.concatenate([part for _, part in field.slabs(lattice)])
    for side, log_size in zip(("left", "right"), draw.side_size, strict=True):
        if side in original.hip_centres_world_mm and log_size:
            offset = node_points(lattice) - original.hip_centres_world_mm[side]
            near = np.exp(-np.sum(offset**2, axis=-1, keepdims=True) / (2.0 * _REGION_MM**2))
            values = values - log_size * near * offset
    return values


def _bounded(
    shape: Vectors, grown: Vectors, lattice: Grid, grid: Grid
) -> tuple[Displacement, float, tuple[float, float]]:
    """The displacement of both velocities, how much of them could be kept, and the range of its Jacobian."""
    stride = np.maximum(np.floor(_CHECK_MM / grid.spacing_mm), 1.0)
    points = np.ceil(np.array(grid.shape) / stride).astype(int)
    check = Grid((int(points[0]), int(points[1]), int(points[2])), grid.world_from_index @ np.diag([*stride, 1.0]))
    low, high = JACOBIAN
    for tried in range(_TRIES):
        strength = _WEAKER**tried
        field = exponential(strength * shape, lattice)
        if grown.any():
            field = composed(field, exponential(strength * grown, lattice))
        determinant = field.jacobian(check)
        found = float(determinant.min()), float(determinant.max())
        if low <= found[0] and found[1] <= high:
            return field, strength, found
    raise BadConfig(
        "no warp of this strength keeps tissue whole", where=f"Jacobian {found}", mend="a smaller --warp-mm"
    )


def _case(
    subject: str, original: Original, made: tuple[Volume, LabelMap, NDArray[np.bool_]], facts: dict[str, Any]
) -> Case:
    """A case with its truth, from the CT, labels and metal as they will be written."""
    scan, labels, metal = made
    density = density_volume(scan, original.calibration)
    names = bones_in(labels)
    bone = np.isin(labels.ids, [labels.id_of(name) for name in names])
    truth = np.where(bone & ~metal, density.values, np.float32(0.0)).astype(np.float32)
    centres = hip_centres(labels)
    held = {name: bool(np.any(metal & labels.mask(name))) for name in names}
    return Case(
        subject=subject,
        scan=scan,
        body=scan,
        labels=labels,
        density=Volume(truth, scan.grid, density.unit),
        calibration=original.calibration,
        hip_centres_world_mm=centres,
        person={},
        facts={**facts, **original.facts, "metal_in": [name for name in names if held[name]]},
        aims_world_mm=_aims(centres, labels),
    )


def _aims(centres: dict[str, Vector], labels: LabelMap) -> dict[str, Vector]:
    """Where an AP view is centred, as a virtual patient's: 25 mm above the line between the hips, and on L3."""
    found = {}
    if len(centres) == 2:
        found["hips"] = np.mean(list(centres.values()), axis=0) + np.array([0.0, 0.0, 25.0])
    if "vertebrae_L3" in labels.names_present:
        points = np.argwhere(labels.mask("vertebrae_L3")).astype(np.float64)
        found["lumbar"] = transform_points(labels.grid.world_from_index, points).mean(axis=0)
    return found


def _texture(rng: np.random.Generator, grid: Grid, sd: float) -> NDArray[np.float32] | None:
    """A smooth random field of a given SD over the grid, by a lattice of 12 mm."""
    lattice = lattice_around(grid, step_mm=_TEXTURE_MM, margin_mm=2.0 * _TEXTURE_MM)
    values = np.zeros((*lattice.shape, 3))
    values[..., 0] = sd * rng.standard_normal(lattice.shape)
    if sd == 0:
        return None
    parts = [part[..., 0].astype(np.float32) for _, part in Displacement(values, lattice).slabs(grid)]
    return np.clip(np.concatenate(parts), -3.0 * sd, 3.0 * sd)


def _wider(grid: Grid, by_mm: float) -> Grid:
    """The grid with room on all sides but along the body."""
    room = np.ceil(by_mm / grid.spacing_mm).astype(int)
    room[axial_axis(grid)] = 0
    shift = np.eye(4)
    shift[:3, 3] = -room
    ni, nj, nk = np.array(grid.shape) + 2 * room
    return Grid((int(ni), int(nj), int(nk)), grid.world_from_index @ shift)


def _sized(grid: Grid, centre_world_mm: Vector, log_size: tuple[float, float, float]) -> Grid:
    """The grid with each index axis stretched about a point: the patient in it grows without a resampling."""
    unit = grid.world_from_index[:3, :3] / grid.spacing_mm
    stretch = np.eye(4)
    stretch[:3, :3] = unit @ np.diag(np.exp(log_size)) @ unit.T
    stretch[:3, 3] = centre_world_mm - stretch[:3, :3] @ centre_world_mm
    return Grid(grid.shape, stretch @ grid.world_from_index)


def _normal(rng: np.random.Generator) -> float:
    """A standard normal number, drawn again beyond its reach."""
    while True:
        value = float(rng.standard_normal())
        if abs(value) <= _REACH:
            return value
