"""More training pairs from one CT: the patient at other poses, the radiograph simulated, the targets projected.

The targets are exact at the new pose. The radiograph is a simulation from the patient's own CT, taken straight on the
half frame's pixels: other grey values, other noise, and no more of the body than the CT holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from hierbmd.anatomy.hip import Hip
from hierbmd.errors import HierbmdError
from hierbmd.geometry import ProjectionGeometry
from hierbmd.pairing.make import MadePair, Patient, Refused, pair_images
from hierbmd.pairing.options import JitterOptions
from hierbmd.rigid import Matrix, Vector, invert_rigid, rigid_matrix, transform_points
from hierbmd.simulation.bone_motion import Loose, loosened, with_bones_at
from hierbmd.simulation.options import RadiographSimulationOptions
from hierbmd.simulation.radiograph import expose, materials_of

_EXPOSURE = RadiographSimulationOptions(rays=2)


@dataclass(frozen=True)
class Jittered:
    """The pairs that jitter gave, each with the number of its pose, and those refused."""

    made: list[tuple[int, MadePair]]
    refused: list[Refused]


def jittered(patient: Patient, made: Sequence[MadePair], options: JitterOptions, *, name: str) -> Jittered:
    """`options.pairs` more pairs of each made one; `name` and the seed decide their poses.

    A pose that takes the region off the frame is refused, and the others go on.
    """
    given = Jittered([], [])
    if not options.pairs or not made:
        return given
    basis = materials_of(patient.volume, _EXPOSURE)
    for one in made:
        loose = loosened(basis, patient.labels, [f"femur_{one.measured.side}"])
        for number, rng in enumerate(_generators(options, f"{name} {one.measured.side}")):
            try:
                given.made.append((number, _moved(loose, one, options, rng)))
            except HierbmdError as error:
                given.refused.append(Refused(one.measured.side, "jitter", type(error).__name__, str(error)))
    return given


def _generators(options: JitterOptions, name: str) -> Iterator[np.random.Generator]:
    for number in range(options.pairs):
        yield np.random.default_rng([options.seed, number, *name.encode()])


def _moved(loose: Loose, made: MadePair, options: JitterOptions, rng: np.random.Generator) -> MadePair:
    femur = made.found["femur"].camera_from_world
    hip = made.found["hip"].camera_from_world
    assert isinstance(made.measured, Hip), "RowOptions refuses jitter of another site"
    head_world_mm = made.measured.axes.head.centre_world_mm
    body = turn_about(
        transform_points(femur, head_world_mm),
        rng.normal(0.0, options.rotate_deg, 3),
        shift_mm=rng.normal(0.0, options.shift_mm, 3),
    )
    joint = turn_about(head_world_mm, rng.normal(0.0, options.femur_deg, 3))
    poses = {"hip": body @ hip, "femur": body @ femur @ joint}
    # The volume is seen at the pelvis' pose; the femur is moved within it to where its own pose has it.
    motion = invert_rigid(poses["hip"]) @ poses["femur"]
    moved = with_bones_at(loose, {f"femur_{made.measured.side}": motion})
    view = made.half.geometry
    geometry = ProjectionGeometry(view.camera, poses["hip"], view.view, view.side)
    shot = expose(moved, geometry, options=_EXPOSURE, seed=int(rng.integers(2**31)))
    pixels = view.canonical(shot.pixels)
    half = replace(made.half, pixels=pixels, covered=np.ones(pixels.shape, dtype=np.bool_))
    return replace(made, half=half, images=pair_images(made.measured, half, poses, made.further))


def turn_about(centre_mm: Vector, angles_deg: Vector, *, shift_mm: Vector | None = None) -> Matrix:
    """The rigid motion (4x4) that turns about a point by extrinsic xyz angles and then shifts; one frame, mm."""
    turn = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    shift = np.zeros(3) if shift_mm is None else np.asarray(shift_mm)
    return rigid_matrix(turn, centre_mm - turn @ centre_mm + shift)
