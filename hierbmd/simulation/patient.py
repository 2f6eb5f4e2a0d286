"""Virtual patients: a pelvis with both hips as a CT, its label map and its true density, drawn from (seed, index)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.data.calibration import Calibration
from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid
from hierbmd.physics.attenuation import phantom_hu_per_mg_cm3
from hierbmd.rigid import Vector
from hierbmd.simulation.bones import Bone, hip_centre_mm, lumbar_aim_mm, make_bones
from hierbmd.simulation.implant import METAL_IN_CT_HU, with_implants
from hierbmd.simulation.morphometry import SIDES, Anatomy, draw_anatomy
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.soft_tissue import THIGH_WIDTH, body_outline, gas_share, soft_tissue_hu

Floats = NDArray[np.float32]

NOMINAL_SLOPE = 1.0 / phantom_hu_per_mg_cm3()
"""mg/cm3 HA per HU of a scanner at 70 keV (0.765), on whose scale `VirtualPatient.body` is given."""

_COVERAGE_MM = {"hips": (-208.0, 164.0), "lumbar": (40.0, 352.0), "torso": (-208.0, 352.0)}
"""The lowest and highest slice above the hip centres; those above the pelvis follow its height."""

_MARGIN_MM = 8.0
_YELLOW_MARROW_HU = -65.0
_PADDING_HU, _HIGHEST_HU = -1024.0, 3071.0


@dataclass(frozen=True)
class VirtualPatient:
    """A patient with known truth. Simulated; research use only.

    `volume` is the CT scan in HU (noise, scanner's own calibration line), `labels` on its grid with TotalSegmentator
    names, `density` the true bone mineral density in mg/cm3 HA (zero outside bone, partial volume at edges),
    `calibration` the true line of this scanner. `body` is the patient without a scanner: noise-free, HU on a nominal
    scale; radiographs are made of it. `hip_centres_world_mm` holds the heads' centres by side, LPS mm;
    `aims_world_mm` the points that a radiograph may be centred on: "hips", "lumbar" (L3), where the CT covers them.
    """

    subject: str
    sex: str
    age: float
    height_cm: float
    weight_kg: float
    volume: Volume
    labels: LabelMap
    density: Volume
    calibration: Calibration
    body: Volume
    anatomy: Anatomy
    hip_centres_world_mm: dict[str, Vector]
    aims_world_mm: dict[str, Vector]


def virtual_patient(index: int, options: PatientOptions | None = None) -> VirtualPatient:
    """The patient of number `index`; the same (seed, index) and options give the same patient whatever else is made."""
    options = options or PatientOptions()
    rng = np.random.default_rng([options.seed, index])
    anatomy = draw_anatomy(rng, options)
    grid, offset_mm = _local_grid(anatomy, options), np.round(rng.uniform(-40, 40, 3), 1)
    tissue, _ = soft_tissue_hu(grid, body_outline(anatomy), anatomy, rng)
    gas = gas_share(grid, anatomy, rng)
    bones, metals = with_implants(grid, anatomy, make_bones(grid, anatomy, rng))
    occupied, density, ids = _merged(grid, bones)
    tissue += gas * np.clip(1.0 - 1.5 * occupied, 0.0, 1.0) * (-1000.0 - tissue)
    marrow = _YELLOW_MARROW_HU * occupied * np.clip(1.0 - density / 40.0, 0.0, 1.0)
    soft = (1.0 - occupied) * tissue + marrow
    calibration = _draw_calibration(rng)
    scan = soft + (density - np.float32(calibration.intercept) * occupied) / np.float32(calibration.slope)
    body = soft + density / np.float32(NOMINAL_SLOPE)
    for metal in metals:
        for image in (scan, body):
            image[metal.box] += metal.share * (np.float32(METAL_IN_CT_HU) - image[metal.box])
    world = _shifted(grid, offset_mm)
    return VirtualPatient(
        subject=f"sim{options.seed:03d}-{index:05d}",
        sex=anatomy.body.sex,
        age=round(anatomy.body.age_years, 1),
        height_cm=round(anatomy.body.height_cm, 1),
        weight_kg=round(anatomy.body.weight_kg, 1),
        volume=Volume(_scanned(scan, options.ct_noise_hu, rng), world),
        labels=LabelMap(ids, world, {b.name: TOTALSEGMENTATOR_V2[b.name] for b in bones}),
        density=Volume(density, world, "mg/cm3 HA"),
        calibration=calibration,
        body=Volume(body, world),
        anatomy=anatomy,
        hip_centres_world_mm={side: hip_centre_mm(anatomy, side) + offset_mm for side in SIDES},
        aims_world_mm=_aims(anatomy, grid, offset_mm),
    )


def _local_grid(anatomy: Anatomy, options: PatientOptions) -> Grid:
    """An axis-aligned LPS grid around the body in pelvis coordinates, mm."""
    outline, spacing_mm = body_outline(anatomy), options.spacing_mm
    bottom, top = _COVERAGE_MM[options.coverage]
    if options.coverage != "hips":
        top *= anatomy.pelvis.height
    half_x = max(outline.half_width_mm, outline.thigh_x_mm + THIGH_WIDTH * outline.thigh_mm) + _MARGIN_MM
    half_y = max(outline.half_depth_mm, outline.thigh_mm) + _MARGIN_MM
    low = np.array([-half_x, outline.centre_y_mm - half_y, bottom])
    high = np.array([half_x, outline.centre_y_mm + half_y, top])
    shape = np.ceil((high - low) / spacing_mm).astype(int) + 1
    matrix = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    matrix[:3, 3] = low
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), matrix)


def _aims(anatomy: Anatomy, grid: Grid, offset_mm: Vector) -> dict[str, Vector]:
    """Where an AP view is centred: 25 mm above the line between the hip centres, and on the body of L3."""
    lumbar = lumbar_aim_mm(anatomy)
    low, top = (grid.world_from_index[2, 3] + n * grid.spacing_mm[2] for n in (0, grid.shape[2] - 1))
    found = {"hips": np.array([0.0, 0.0, 25.0]), "lumbar": lumbar}
    reach = {"hips": (-90.0, 90.0), "lumbar": (lumbar[2] - 80.0, lumbar[2] + 80.0)}
    return {name: at + offset_mm for name, at in found.items() if low <= reach[name][0] and top >= reach[name][1]}


def _shifted(grid: Grid, offset_mm: Vector) -> Grid:
    matrix = grid.world_from_index.copy()
    matrix[:3, 3] += offset_mm
    return Grid(grid.shape, matrix)


def _merged(grid: Grid, bones: list[Bone]) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Occupancy, density and ids of all bones; where two share a voxel the sum of their shares is kept at most 1."""
    occupied = np.zeros(grid.shape, dtype=np.float32)
    density = np.zeros(grid.shape, dtype=np.float32)
    ids = np.zeros(grid.shape, dtype=np.uint8)
    for bone in bones:
        free = 1.0 - occupied[bone.box]
        share = np.minimum(1.0, free / np.maximum(bone.occupancy, 1e-6))
        occupied[bone.box] += bone.occupancy * share
        density[bone.box] += bone.density * share
        ids[bone.box][bone.occupancy * share > 0.5] = TOTALSEGMENTATOR_V2[bone.name]
    return occupied, density, ids


def _draw_calibration(rng: np.random.Generator) -> Calibration:
    """A scanner's line: about 0.8 mg/cm3 HA per HU at 120 kVp, a few per cent between scanners and beams."""
    slope, intercept = float(rng.normal(0.80, 0.035)), float(rng.normal(0.0, 5.0))
    return Calibration(round(slope, 4), round(intercept, 2), method="given")


def _scanned(hu: Floats, noise_hu: float, rng: np.random.Generator) -> Floats:
    """The scan: noise of a soft kernel (correlated over about a voxel), rounded to whole HU, clipped to 12 bits."""
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, 0.55, truncate=2.0)
    noise *= np.float32(noise_hu / max(float(noise.std()), 1e-6))
    return np.clip(np.rint(hu + noise), np.float32(_PADDING_HU), np.float32(_HIGHEST_HU)).astype(np.float32)
