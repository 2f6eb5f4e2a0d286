"""A real projection and a real CT in one frame: a head phantom's skull from many starts, and what sets its depth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import ndimage
from tasks import shared_data

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Beam, ProjectionGeometry
from hierbmd.io.ct import read_volume
from hierbmd.io.localizer import read_localizer_geometry
from hierbmd.io.radiograph import read_radiograph
from hierbmd.registration.body import surface_points
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import BoneRegistration
from hierbmd.registration.patient import register_bones
from hierbmd.registration.target import target_error
from hierbmd.rigid import Matrix, moved, rigid_matrix, rotation_angle_deg, transform_points

SKULL, HEAD = 200.0, -500.0
"""HU above which a voxel is the phantom's skull, or the phantom at all."""

START_DEG, START_MM = 10.0, 20.0
OPTIONS = RegistrationOptions(start_rotation_deg=10.0, start_in_plane_mm=25.0, start_depth_mm=20.0, around_hu=-1000.0)
WIDER = 1.011


@dataclass(frozen=True)
class Pair:
    """The CT, the largest thing in it above a threshold as "skull", the localizer, and where its header puts it."""

    volume: Volume
    labels: LabelMap
    radiograph: Radiograph
    header: ProjectionGeometry

    def register(self, start: ProjectionGeometry) -> BoneRegistration:
        """The skull from a start."""
        found = register_bones(self.volume, self.labels, self.radiograph, start, bones=("skull",), options=OPTIONS)
        return found["skull"]

    def row(self, found: BoneRegistration) -> dict[str, Any]:
        """How far a registration ends from the header's pose; `depth_mm` is signed, positive away from the source."""
        points = surface_points(self.labels, "skull")
        pose, header = found.camera_from_world, self.header.camera_from_world
        away = transform_points(pose, points).mean(axis=0) - transform_points(header, points).mean(axis=0)
        return {
            "in_plane_mm": target_error(pose, header, points, beam=Beam.SLOT).in_plane_mm,
            "turn_deg": rotation_angle_deg(pose[:3, :3] @ header[:3, :3].T),
            "depth_mm": float(away[2]),
            "depth_stated_mm": float(found.uncertainty.depth_mm),
            "similarity": found.similarity,
            "outcome": found.outcome.name.lower(),
        }


@lru_cache
def read_pair(above_hu: float = SKULL) -> Pair:
    """The head phantom's pair of the shared data."""
    folder = shared_data() / "head-phantom-pair"
    localizer = folder / "surview_lateral_localizer.dcm"
    volume = read_volume(folder / "ct_head_phantom_half_inplane_1mmz.nii.gz")
    things, _ = ndimage.label(volume.values > above_hu)
    sizes = np.bincount(things.ravel())
    sizes[0] = 0
    ids = np.where(things == sizes.argmax(), 91, 0).astype(np.uint8)
    labels = LabelMap(ids, volume.grid, {"skull": 91})
    return Pair(volume, labels, read_radiograph(localizer), read_localizer_geometry(localizer))


def _up_to(rng: np.random.Generator, largest: float) -> np.ndarray:
    direction = rng.normal(size=3)
    return direction / np.linalg.norm(direction) * rng.uniform(0, largest)


def start_of(pair: Pair, number: int) -> ProjectionGeometry:
    """The header's pose turned by up to 10 degrees and shifted by up to 20 mm."""
    rng = np.random.default_rng([5, number])
    twist = np.r_[np.radians(_up_to(rng, START_DEG)), _up_to(rng, START_MM)]
    centre = surface_points(pair.labels, "skull").mean(axis=0)
    return replace(pair.header, camera_from_world=moved(pair.header.camera_from_world, twist, centre))


def run_pair(number: int) -> dict[str, Any]:
    """The skull from one start."""
    pair = read_pair()
    cpu = time.process_time()
    found = pair.register(start_of(pair, number))
    return pair.row(found) | {"cpu_s": time.process_time() - cpu}


def run_depth(name: str) -> dict[str, Any]:
    """The skull from the header's pose, one thing about the header or the CT taken otherwise."""
    pair = _OTHERWISE[name]()
    return pair.row(pair.register(pair.header))


def _wider() -> Pair:
    pair = read_pair()
    camera = pair.header.camera
    wider = replace(camera, pixel_mm=(WIDER * camera.pixel_mm[0], camera.pixel_mm[1]))
    return replace(pair, header=replace(pair.header, camera=wider))


def _other_side() -> Pair:
    """The source on the other side of the table: the image seen from behind."""
    pair = read_pair()
    header = pair.header
    depth_mm = header.camera.sdd_mm * _width_at_isocentre_mm(pair) / header.camera.pixel_mm[0]
    isocentre = np.linalg.solve(header.camera_from_world, [0.0, 0.0, depth_mm, 1.0])[:3]
    rotation = np.diag([-1.0, 1.0, -1.0]) @ header.camera_from_world[:3, :3]
    pose: Matrix = rigid_matrix(rotation, np.array([0.0, 0.0, depth_mm]) - rotation @ isocentre)
    mirrored = pair.radiograph.with_pixels(np.ascontiguousarray(pair.radiograph.pixels[:, ::-1]))
    return replace(pair, radiograph=mirrored, header=replace(header, camera_from_world=pose))


def _curved() -> Pair:
    """Columns equally spaced in angle about the source, brought onto the flat detector that the camera has."""
    pair = read_pair()
    width = pair.radiograph.size_px[0]
    columns = np.arange(width) - (width - 1) / 2.0
    per_px = pair.header.camera.pixel_mm[0] / pair.header.camera.sdd_mm
    where = np.arctan(columns * per_px) / per_px + (width - 1) / 2.0
    rows = np.arange(pair.radiograph.size_px[1])
    flat = ndimage.map_coordinates(pair.radiograph.pixels, np.meshgrid(rows, where, indexing="ij"), order=3)
    return replace(pair, radiograph=pair.radiograph.with_pixels(flat.astype(np.float32)))


def _width_at_isocentre_mm(pair: Pair) -> float:
    """The header's pixel spacing, which holds at the isocentre, along the fan and along the table alike."""
    return float(pair.header.camera.pixel_mm[1])


_OTHERWISE: dict[str, Callable[[], Pair]] = {
    "as the header says": read_pair,
    "pixels 1.1 % wider across the fan": _wider,
    "the whole phantom, not its skull": lambda: read_pair(HEAD),
    "a curved detector": _curved,
    "the source on the other side": _other_side,
}
DEPTH_CASES = tuple(_OTHERWISE)
