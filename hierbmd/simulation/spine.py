"""The lumbar spine of a virtual patient: T10 to L5 along a lordotic curve above the sacrum.

Sizes are those of a mean adult, scaled with the patient's pelvis: endplate width and depth, height of the body, span of
the transverse processes and length of the spinous process by level after Panjabi et al., Spine 1992 (digits from
memory, unverified; heights 3 mm more, as CT of living adults has: L5 26.3 mm at its back, its canal 28 mm wide, its
pedicles 16 mm, a table of 2021-22 in Int J Spine Surg). Discs of 8 to 11 mm. From L1 to L5 the bodies turn by 31 deg
(Bernhardt & Bridwell, Spine 1989; unverified).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from hierbmd.rigid import Matrix, rigid_matrix
from hierbmd.simulation.morphometry import PelvisSize
from hierbmd.simulation.pelvis import scaled_midline
from hierbmd.simulation.shapes import Group, Shape, chain, group


@dataclass(frozen=True)
class Level:
    """One vertebra, mm and degrees: its body's centre (y back, z up) and tilt, then its sizes."""

    y_mm: float
    z_mm: float
    tilt_deg: float
    wedge_deg: float
    width_mm: float
    depth_mm: float
    height_mm: float
    transverse_mm: float
    spinous_mm: float
    pedicle_mm: float


LEVELS = {
    "vertebrae_L5": Level(20.0, 122.0, 16.0, 7.0, 50.0, 35.0, 27.0, 92.0, 64.0, 8.0),
    "vertebrae_L4": Level(12.0, 158.0, 4.0, 3.0, 48.5, 35.5, 27.0, 80.0, 70.0, 6.6),
    "vertebrae_L3": Level(11.5, 195.0, -3.0, 2.0, 46.0, 35.0, 27.0, 86.0, 73.0, 5.2),
    "vertebrae_L2": Level(15.0, 231.0, -9.0, 1.0, 44.0, 34.5, 26.5, 77.0, 72.0, 4.4),
    "vertebrae_L1": Level(22.0, 265.5, -15.0, -1.0, 42.0, 34.0, 26.0, 71.0, 68.0, 4.2),
    "vertebrae_T12": Level(31.5, 298.0, -18.0, -2.0, 40.0, 33.0, 25.0, 46.0, 60.0, 4.4),
    "vertebrae_T11": Level(41.5, 328.0, -18.0, -2.0, 38.0, 32.0, 23.5, 50.0, 58.0, 4.2),
    "vertebrae_T10": Level(50.5, 357.0, -16.0, -2.0, 36.0, 31.0, 22.5, 56.0, 56.0, 4.0),
}
"""The levels from below; L1's upper endplate lies about 280 mm above the hip centres."""


def vertebra_shape(name: str, size: PelvisSize, wall: float) -> Shape:
    """A vertebra in pelvis coordinates, mm: a waisted body with endplates, pedicles, facets, laminae and processes.

    `wall` scales the cortex: 0.6 mm at the body's waist and endplates, 1.0 to 1.4 mm in the arch at 1.
    """
    level = LEVELS[name]
    turn = Rotation.from_euler("x", level.tilt_deg, degrees=True).as_matrix()
    place = rigid_matrix(turn, np.array([0.0, level.y_mm, level.z_mm]))
    groups = (*_body(level), *_arch(level))
    return Shape(tuple(scaled_midline(g.transformed(place), size, wall) for g in groups))


def spine_place(name: str, size: PelvisSize) -> Matrix:
    """The 4x4 from a vertebra's own axes (x left, y back, z up through its endplates) to pelvis coordinates, mm."""
    level = LEVELS[name]
    turn = Rotation.from_euler("x", level.tilt_deg, degrees=True).as_matrix()
    return rigid_matrix(turn, np.array([0.0, level.y_mm * size.depth, level.z_mm * size.height]))


def _body(level: Level) -> tuple[Group, ...]:
    """The body: a column narrower than its ends by the waist, and two rims with a plate across each."""
    half, rim = 0.5 * level.height_mm, 3.2
    planes = []
    for sign in (1.0, -1.0):
        wedge = np.radians(sign * 0.5 * level.wedge_deg)
        planes.append([0.0, sign * np.sin(wedge), sign * np.cos(wedge), half])
    column = _disc(level, 0.0, 15.0, waist_mm=3.2, wall_mm=0.6)
    ends = [_disc(level, sign * (half - rim), rim, waist_mm=0.0, wall_mm=0.7) for sign in (1.0, -1.0)]
    return tuple(
        Group(g.vertices, g.pieces, blend, planes=np.array(planes))
        for g, blend in zip((column, *ends), (4.0, 7.0, 7.0), strict=True)
    )


def _disc(level: Level, z_mm: float, radius_mm: float, *, waist_mm: float, wall_mm: float) -> Group:
    """A fan of triangles whose rounded edge has the body's outline at one height: an ellipse, flat at the back."""
    a = max(0.5 * level.width_mm - radius_mm - waist_mm, 1.0)
    b = max(0.5 * level.depth_mm - radius_mm - 0.7 * waist_mm, 1.0)
    rows = [[0.0, 0.0, z_mm, radius_mm, wall_mm]]
    for angle in np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False):
        y = b * np.sin(angle)
        rows.append([a * np.cos(angle), min(y, 0.72 * b), z_mm, radius_mm, wall_mm])
    return group(rows, [(0, n, n % 16 + 1) for n in range(1, 17)])


def _arch(level: Level) -> tuple[Group, ...]:
    """Pedicles, facets, laminae and processes about a canal that stays open."""
    back, canal = 0.5 * level.depth_mm, 12.5
    w, tip = level.pedicle_mm, back + level.spinous_mm * 0.66
    parts: list[Group] = []
    for s in (1.0, -1.0):
        x = s * (canal + 0.5 * w)
        facet = x + s * 3.0
        parts += [
            chain([[x, back - 5, 6, w, 1.2], [x, back + 9, 5, w, 1.2], [facet, back + 15, 4, 5.5, 1.1]], blend_mm=4.0),
            # The joint above (facing in) and below of each side, the part between them like a Scottie dog's neck.
            chain([[facet, back + 14, 17, 4.2, 1.2], [facet, back + 16, 2, 5.0, 1.4]], blend_mm=4.0),
            chain([[facet, back + 16, 2, 5.0, 1.4], [s * 11.5, back + 20, -19, 4.4, 1.2]], blend_mm=4.0),
            group(
                [
                    [facet, back + 17, 3, 3.4, 1.2],
                    [s * 10, back + 20, -14, 3.2, 1.2],
                    [0, back + 24, 0, 3.4, 1.2],
                    [0, back + 25, -12, 3.2, 1.2],
                ],
                [(0, 1, 2), (1, 2, 3)],
                blend_mm=4.0,
            ),
            chain(
                [
                    [x, back + 7, 5, 5.0, 1.0],
                    [s * 0.36 * level.transverse_mm, back + 11, 7, 4.0, 0.9],
                    [s * (0.5 * level.transverse_mm - 3.5), back + 13, 8, 3.4, 0.9],
                ],
                blend_mm=5.0,
            ),
        ]
    blade = [[0, back + 24, -2, 3.2, 1.0], [0, tip, -8, 3.0, 0.9], [0, tip - 2, -19, 4.0, 0.9]]
    blade.append([0, back + 25, -12, 3.0, 1.0])
    parts.append(group(blade, [(0, 1, 2), (0, 2, 3)], blend_mm=4.0))
    return tuple(parts)
