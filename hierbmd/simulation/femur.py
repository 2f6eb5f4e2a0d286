"""The proximal femur of a virtual patient: its shape, and how dense its trabeculae are where.

Local frame, millimetres: origin at the centre of the head, x lateral, y posterior, z up, for a left femur; a right one
is its mirror image in x. The shaft runs along -z before the femur is inclined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from hierbmd.rigid import Matrix
from hierbmd.simulation.morphometry import FemurSize
from hierbmd.simulation.pelvis import LOAD
from hierbmd.simulation.shapes import Group, Shape, chain, group

Floats = NDArray[np.float32]

_SHAFT_MM = 260.0


@dataclass(frozen=True)
class FemurFrame:
    """Landmarks in the local frame, mm: `neck` is the unit vector from the head to the shaft's axis at `junction`."""

    size: FemurSize
    neck: NDArray[np.float64]
    junction: NDArray[np.float64]
    up: NDArray[np.float64]

    @property
    def neck_mm(self) -> float:
        """Length of the neck's axis from the head's centre to the shaft's axis."""
        return float(np.linalg.norm(self.junction))


def femur_frame(size: FemurSize) -> FemurFrame:
    """The neck's axis by neck-shaft angle, anteversion and offset; the head lies medial, anterior and above."""
    angle, version = np.radians(size.neck_shaft_deg), np.radians(size.anteversion_deg)
    neck = np.array([np.sin(angle) * np.cos(version), np.sin(angle) * np.sin(version), np.cos(angle)])
    up = np.array([0.0, 0.0, 1.0]) - neck[2] * neck
    return FemurFrame(size, neck, neck * size.offset_mm / np.sin(angle), up / np.linalg.norm(up))


def femur_shape(frame: FemurFrame, wall: float, arthritis: float = 0.0) -> Shape:
    """The femur's outer surface and cortex in its local frame; `wall` scales the cortical thickness of a young woman.

    `arthritis`, 0 to 1, flattens the head where the load passes, grows a collar of osteophytes where the head ends and
    thickens the neck's cortex, the lower one most (buttress).

    Thicknesses (mm at `wall` 1): shaft 6.5, calcar 3.4, superior neck 1.2, trochanters 0.9, head 0.9; superior and
    inferior neck after Poole et al., PLoS One 2012 (cortical thickness maps) and Johannesdottir et al., JBMR 2013.
    """
    neck, head = _neck(frame, wall, arthritis), _head(frame, wall, arthritis)
    spurs = (_collar(frame, arthritis),) if arthritis > 0.0 else ()
    return Shape((neck, head, *spurs, _shaft(frame, wall), *_trochanters(frame, wall)))


def _head(frame: FemurFrame, wall: float, arthritis: float) -> Group:
    radius = frame.size.head_radius_mm
    flat = [[*LOAD, radius - 2.4 * arthritis]] if arthritis > 0.0 else []
    return group([[0, 0, 0, radius, 0.9 * wall + 0.8 * arthritis]], [(0,)], blend_mm=6.0, planes=flat)


def _collar(frame: FemurFrame, arthritis: float) -> Group:
    """Osteophytes: a ring of beads where the head meets the neck, largest below, as on films of worn hips."""
    head, third = frame.size.head_radius_mm, np.cross(frame.neck, frame.up)
    beads = []
    for angle in np.linspace(0.0, 2.0 * np.pi, 13):
        out = np.cos(angle) * frame.up + np.sin(angle) * third
        size = 1.2 + arthritis * (1.6 - 1.4 * np.cos(angle))
        beads.append([*(0.55 * head * frame.neck + 0.84 * head * out), size, 0.9])
    return chain(beads, blend_mm=4.0)


def _neck(frame: FemurFrame, wall: float, arthritis: float) -> Group:
    s, head = frame.size, frame.size.head_radius_mm
    rows = []
    for along, radius, half_height, upper_mm, lower_mm in (
        (0.20, 0.60, 0.14, 0.9, 1.2),
        (0.55, 0.53, 0.17, 1.2, 2.6),
        (0.85, 0.58, 0.30, 1.2, 3.4),
    ):
        at, r, e = along * frame.junction, radius * head * s.neck_width, half_height * head * s.neck_width
        rows.append([*(at + e * frame.up), r, upper_mm * wall * (1.0 + 0.2 * arthritis)])
        rows.append([*(at - e * frame.up), r, lower_mm * wall * (1.0 + 0.55 * arthritis)])
    return group(rows, [(0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5)], blend_mm=6.0)


def _shaft(frame: FemurFrame, wall: float) -> Group:
    j, r = frame.junction, frame.size.shaft_radius_mm / 13.4
    rows = [
        (4.0, 15.5, 1.2, 0.0),
        (-16.0, 16.6, 1.8, -0.5),
        (-34.0, 15.8, 3.1, -1.5),
        (-56.0, 14.4, 4.5, -3.0),
        (-85.0, 13.5, 6.2, -5.0),
        (-120.0, 13.3, 6.6, -6.5),
        (-_SHAFT_MM, 13.8, 6.6, -4.0),
    ]
    return chain([[j[0], j[1] + bow, j[2] + z, radius * r, t * wall] for z, radius, t, bow in rows], blend_mm=8.0)


def _trochanters(frame: FemurFrame, wall: float) -> tuple[Group, ...]:
    j, f, r = frame.junction, frame.size.trochanter, frame.size.shaft_radius_mm / 13.4
    tip = max(-j[2] - 6.0 * f, 12.0)

    def at(x: float, y: float, z: float, radius: float, t: float) -> list[float]:
        return [j[0] + x * r, j[1] + y * r, j[2] + z, radius * f, t * wall]

    greater = group(
        [
            at(7, -9, -4, 13, 0.9),
            at(8, 7, -4, 13.5, 0.9),
            at(10, 3, 9, 11, 0.9),
            at(5, 12, tip - 2, 7, 0.9),
            at(9, -6, 8, 8.5, 0.9),
        ],
        [(0, 1, 2), (1, 2, 3), (0, 2, 4)],
        blend_mm=8.0,
    )
    lesser = chain([at(-3, 5, -27, 12, 1.8), at(-11, 11, -29, 7.5, 1.4), at(-14.5, 14, -30, 4.5, 1.2)], blend_mm=9.0)
    crest = chain([at(4, 15, tip - 12, 5.5, 1.2), at(-6, 16, -14, 4.5, 1.4), at(-11, 12, -27, 4.5, 1.4)], blend_mm=8.0)
    return greater, lesser, crest


def local_from_hip(size: FemurSize, *, left: bool) -> Matrix:
    """The 4x4 that places a femur about its head: local mm to LPS mm from the head's centre, mirrored for the right.

    Applied about the head: leg rotation about the shaft, flexion, then the inclination of the shaft towards the knee.
    """
    turn = Rotation.from_euler("zxy", [size.rotation_deg, size.flexion_deg, size.inclination_deg], degrees=True)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([1.0 if left else -1.0, 1.0, 1.0]) @ turn.as_matrix()
    return matrix


def trabecular_mg_cm3(frame: FemurFrame, local_mm: NDArray[np.floating], level: float) -> Floats:
    """Trabecular density in mg/cm3 HA at points (..., 3) of the local frame, for a bone of `level` (young woman 1).

    Singh's groups as smooth bands: principal compressive from calcar to the head's dome, principal tensile under the
    superior neck into the lateral cortex, Ward's triangle between them, the greater trochanter, and a marrow canal
    below. Levels (young): head 280, compressive 350, tensile 240, intertrochanteric 190, trochanter 170, Ward 90, after
    QCT of the proximal femur (Lang et al., Bone 1997; Sigurdsson et al., Bone 2006; digits unverified). Bone of a low
    level loses the compressive group last: the exponent of each part differs.
    """
    p, head = np.asarray(local_mm, dtype=np.float32), frame.size.head_radius_mm
    along = p @ frame.neck.astype(np.float32)
    height = p @ frame.up.astype(np.float32)
    radius2 = np.einsum("...i,...i->...", p, p)
    length = np.float32(frame.neck_mm)
    s = along / length

    density = 190.0 * level**1.1 * np.ones_like(along)
    in_head = _soft_step((1.02 * head - np.sqrt(radius2)) / 3.0)
    density += in_head * (280.0 * level**0.85 - density)
    # The compressive group runs from the inferior neck (s = 0.85, low) to the dome above the head's centre.
    bend = height - (-0.45 * s - 0.02) * head
    compressive = np.exp(-((bend / (0.36 * head)) ** 2)) * _soft_step((0.95 - s) / 0.12)
    density += 0.9 * compressive * np.maximum(350.0 * level**0.7 - density, 0.0)
    arc = height - (0.42 - 0.9 * (s - 0.62) ** 2) * head
    tensile = np.exp(-((arc / (0.17 * head)) ** 2)) * _soft_step((s - 0.2) / 0.1)
    density += 0.8 * tensile * np.maximum(240.0 * level - density, 0.0)
    ward = np.exp(-(((s - 0.72) / 0.20) ** 2) - ((height - 0.02 * head) / (0.30 * head)) ** 2)
    density *= 1.0 - ward * (1.0 - 0.45 * level**0.8)
    from_junction = p - frame.junction.astype(np.float32)
    lateral = _soft_step((from_junction[..., 0] - 4.0) / 4.0) * _soft_step((from_junction[..., 2] + 12.0) / 8.0)
    density += 0.7 * lateral * (1 - in_head) * (170.0 * level**1.2 - density)
    canal = _soft_step((from_junction[..., 2] + 42.0) / 12.0)
    return np.asarray(density * (0.02 + 0.98 * canal), dtype=np.float32)


def sclerosis_mg_cm3(frame: FemurFrame, local_mm: NDArray[np.floating]) -> Floats:
    """What the worst arthritis adds to the trabeculae at points (..., 3) of the local frame, mg/cm3: under the worn
    surface of the head, and in the neck."""
    p, head = np.asarray(local_mm, dtype=np.float32), frame.size.head_radius_mm
    radius = np.sqrt(np.einsum("...i,...i->...", p, p))
    loaded = np.clip((p @ LOAD.astype(np.float32) / np.maximum(radius, 1e-3) - 0.6) / 0.3, 0.0, 1.0)
    surface = 380.0 * loaded * np.clip(1.0 - (head - radius) / 9.0, 0.0, 1.0) * (radius < 1.1 * head)
    along = (p @ frame.neck.astype(np.float32)) / frame.neck_mm
    neck = 155.0 * np.exp(-(((along - 0.62) / 0.22) ** 2))
    return np.asarray(surface + neck, dtype=np.float32)


def _soft_step(x: Floats) -> Floats:
    """0 far below zero, 1 far above, smooth between."""
    return np.asarray(0.5 * (1.0 + np.tanh(x)), dtype=np.float32)
