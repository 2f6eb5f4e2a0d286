"""The pelvis of a virtual patient: one hemipelvis as a sphere mesh about its hip centre, and the sacrum.

Landmarks are those of a mean adult female pelvis in supine position (hip centres at y = z = 0, x = 0 in the midline,
x lateral), set by hand from published breadths: bi-iliac 280 mm, ASIS to ASIS 235 mm, inter-hip 178 mm, symphysis
height 38 mm, pelvic height 205 mm (Schultz, Human Biology 1949; Fischer et al., Clin Biomech 2020; digits unverified),
pelvic incidence 52 deg (Legaye et al., Eur Spine J 1998) and acetabular inclination and anteversion 48 and 18 deg
(Jiang et al., Medicine 2015 for the anteversion). They are scaled per patient.
"""

from __future__ import annotations

import numpy as np

from hierbmd.simulation.morphometry import PelvisSize
from hierbmd.simulation.shapes import Group, Shape, chain, group

CARTILAGE_MM = 3.2
"""Gap between the bone of the head and of the socket: two layers of cartilage (joint space 3-5 mm on film)."""

WORN_MM = 2.9
"""What the worst arthritis takes of the joint space where the load passes: most of it."""

LOAD = np.array([0.31, -0.10, 0.945]) / np.linalg.norm([0.31, -0.10, 0.945])
"""Where the load passes from a left femoral head to its socket: up, a little lateral and forward."""

_MEAN_HALF_MM = 89.0


def hemipelvis_shape(size: PelvisSize, head_radius_mm: float, wall: float, arthritis: float = 0.0) -> Shape:
    """A left hemipelvis in pelvis coordinates (midline x = 0, hip centre at (half distance, 0, 0)), mm.

    `wall` scales the cortical thickness (ilium 1.2 mm, ischium 1.6, acetabular roof 1.8 at 1). `arthritis`, 0 to 1,
    brings the roof down on the head and grows spurs along the socket's upper rim.
    """
    groups = (_ilium(size), _column(), _rami(), _pubis())
    scaled = [_stretched(g, size, wall) for g in groups]
    socket = _socket(size.half_hip_distance_mm, head_radius_mm, wall, arthritis)
    return Shape((*scaled, *socket))


def _stretched(g: Group, size: PelvisSize, wall: float) -> Group:
    """Scale landmarks about the hip centre; the midline stays the midline whatever the hip distance."""
    vertices = g.vertices.copy()
    x = vertices[:, 0]
    medial = x < 0
    x[medial] *= size.half_hip_distance_mm / _MEAN_HALF_MM
    x[~medial] *= size.width
    vertices[:, 0] = x + size.half_hip_distance_mm
    vertices[:, 1] *= size.depth
    vertices[:, 2] *= size.height
    vertices[:, 4] *= wall
    high = np.clip(vertices[:, 2] / 120.0, 0.0, 1.0)
    vertices[:, 0] += np.where(medial, 0.0, size.wing_flare_mm * high)
    return Group(vertices, g.pieces, g.blend_mm, g.carve, g.planes)


def _ilium(size: PelvisSize) -> Group:
    m = -_MEAN_HALF_MM
    rows = [
        [2, 4, 30, 13, 1.8],  # 0 above the acetabulum
        [-20, 20, 30, 9, 1.6],  # 1 arcuate line
        [m + 45, 56, 40, 6.5, 1.2],  # 2 auricular surface, low
        [m + 51, 44, 80, 8, 1.2],  # 3 auricular surface, high
        [m + 38, 83, 74, 7.5, 1.2],  # 4 posterior superior spine
        [m + 40, 77, 48, 6.5, 1.2],  # 5 posterior inferior spine
        [9, -30, 33, 8, 1.4],  # 6 anterior inferior spine
        [29, -42, 84, 6.5, 1.3],  # 7 anterior superior spine
        [48, -14, 113, 6.2, 1.3],  # 8 crest, tubercle
        [41, 14, 130, 5.0, 1.2],  # 9 crest, top
        [6, 50, 122, 5.5, 1.2],  # 10 crest, back
        [22, 6, 86, 1.9, 0.9],  # 11 fossa, thin
        [9, 4, 54, 5.5, 1.3],  # 12 fossa, low
        [2, 34, 84, 4.0, 1.0],  # 13 fossa, back
        [33, -24, 88, 3.4, 1.0],  # 14 fossa, front
        [-20, 67, 108, 6.2, 1.2],  # 15 crest, towards the posterior spine
    ]
    faces = [
        (11, 8, 9),
        (11, 9, 10),
        (11, 10, 13),
        (13, 10, 15),
        (13, 15, 3),
        (13, 3, 1),
        (11, 13, 12),
        (13, 1, 12),
        (1, 0, 12),
    ]
    faces += [(0, 6, 12), (6, 14, 12), (6, 7, 14), (7, 8, 14), (14, 8, 11), (12, 14, 11)]
    faces += [(15, 4, 3), (4, 5, 2), (4, 3, 2), (1, 2, 3)]
    return group(rows, faces, blend_mm=6.0)


def _column() -> Group:
    rows = [[-20, 20, 30, 9, 1.6], [-10, 27, 8, 12, 1.6], [-17, 31, -20, 11.5, 1.6], [-23, 30, -46, 12, 1.6]]
    rows += [[-25, 23, -70, 12.5, 1.6], [-20, 34, -8, 8, 1.4], [-37, 45, -14, 2.6, 1.0]]
    return group(rows, [(0, 1), (1, 2), (2, 3), (3, 4), (5, 6), (2, 5)], blend_mm=7.0)


def _rami() -> Group:
    m = -_MEAN_HALF_MM
    rows = [
        [-27, 14, -74, 8.5, 1.5],
        [m + 36, -8, -63, 5.6, 1.3],
        [m + 17, -27, -47, 5.6, 1.3],
        [m + 9.5, -36, -40, 6.8, 1.2],
    ]
    return chain(rows, blend_mm=7.0)


def _pubis() -> Group:
    m = -_MEAN_HALF_MM
    rows = [[-16, -16, 6, 12, 1.5], [-38, -32, 3, 7.5, 1.4], [m + 25, -43, -6, 7, 1.3], [m + 9.5, -40, -16, 7.2, 1.2]]
    rows += [[m + 9.5, -36, -40, 6.8, 1.2], [m + 22, -38, -24, 5.5, 1.1]]
    return group(rows, [(0, 1), (1, 2), (2, 3), (3, 4, 5), (2, 3, 5)], blend_mm=7.0)


def _socket(hip_x_mm: float, head_radius_mm: float, wall: float, arthritis: float) -> tuple[Group, ...]:
    inclination, version = np.radians(48.0), np.radians(18.0)
    normal = np.array(
        [np.sin(inclination) * np.cos(version), -np.sin(inclination) * np.sin(version), -np.cos(inclination)]
    )
    normal /= np.linalg.norm(normal)
    cavity = head_radius_mm + CARTILAGE_MM
    centre = np.array([hip_x_mm, 0.0, 0.0])
    # Worn cartilage: the hollow sits lower and more medial, so that its roof comes down on the head.
    worn = centre - arthritis * WORN_MM * LOAD
    rim = float(normal @ centre) - 1.0
    thick = 1.1 * wall + 2.2 * arthritis
    cup = group([[*centre, cavity + 4.6 + 1.5 * arthritis, thick]], [(0,)], blend_mm=6.0, planes=[[*normal, rim]])
    hollow = group([[*worn, cavity]], [(0,)], carve=True)
    if arthritis <= 0.0:
        return cup, hollow
    # Spurs: beads along the upper half of the rim, largest at the lateral roof.
    up = LOAD - (LOAD @ normal) * normal
    up /= np.linalg.norm(up)
    side = np.cross(normal, up)
    beads = []
    for angle in np.radians(np.linspace(-70.0, 70.0, 8)):
        at = centre + (cavity + 2.0) * (np.cos(angle) * up + np.sin(angle) * side) + 1.5 * normal
        beads.append([*at, 1.6 + 3.0 * arthritis * np.cos(angle), 1.2])
    return cup, chain(beads, blend_mm=4.0), hollow


def sacrum_shape(size: PelvisSize, wall: float) -> Shape:
    """Sacrum and coccyx in pelvis coordinates, mm, with the canal and four pairs of foramina."""
    rows = [[s * x, y, z, r, t] for x, y, z, r, t in _SACRUM_HALF for s in (1, -1)]
    faces = [tuple(2 * n + s for n in face) for face in _SACRUM_FACES for s in (0, 1)]
    bodies = group(rows, [*faces, *_SACRUM_MIDDLE], blend_mm=5.0)
    spine = chain([[0, 64, 92, 4, 1], [0, 82, 62, 5, 1], [0, 86, 34, 4, 1], [0, 80, 12, 4, 1]], blend_mm=8.0)
    laminae = group(
        [[16, 56, 88, 4, 1], [-16, 56, 88, 4, 1], [0, 70, 88, 4, 1], [14, 74, 50, 4, 1], [-14, 74, 50, 4, 1]],
        [(0, 2, 3), (1, 2, 4), (2, 3, 4)],
        blend_mm=6.0,
    )
    ends = ((20.0, 3.0, -9.0), (100.0, -3.0, 15.0))
    holes = [[s * (x + dx), y, z + dz, r] for x, z, r in _FORAMINA for s in (1, -1) for y, dx, dz in ends]
    foramina = group(holes, [(2 * n, 2 * n + 1) for n in range(len(holes) // 2)], carve=True)
    canal = chain([[0, 56, 106, 8.5], [0, 63, 74, 7.5], [0, 75, 46, 5.0], [0, 79, 22, 3.5]], carve=True)
    return Shape(tuple(scaled_midline(g, size, wall) for g in (bodies, spine, laminae, foramina, canal)))


_SACRUM_HALF = [
    [13, 32, 90, 15.5, 1.2],
    [14, 45, 82, 12, 1.0],
    [41, 48, 82, 8.5, 1.0],
    [40, 58, 46, 7.5, 1.0],
    [9, 54, 66, 11, 1.0],
    [22, 66, 40, 6.5, 1.0],
    [7, 66, 44, 8.5, 1.0],
    [14, 70, 22, 5.5, 1.0],
    [9, 68, 6, 5.0, 1.0],
]
_SACRUM_FACES = [(0, 1, 2), (1, 2, 3), (1, 3, 4), (4, 3, 5), (4, 5, 6), (6, 5, 7), (7, 8, 6)]
_SACRUM_MIDDLE = [(0, 1, 8), (0, 1, 9), (8, 9, 12), (9, 12, 13), (12, 13, 16), (13, 16, 17), (14, 16, 17)]
_FORAMINA = [(20.0, 66.0, 3.8), (17.5, 49.0, 3.5), (14.5, 33.0, 3.0), (12.0, 18.0, 2.6)]


def scaled_midline(g: Group, size: PelvisSize, wall: float) -> Group:
    """A group of midline bones stretched to the pelvis's size; `wall` scales its cortex."""
    scale = np.diag([size.half_hip_distance_mm / _MEAN_HALF_MM, size.depth, size.height, 1.0])
    scaled = g.transformed(scale)
    vertices = scaled.vertices.copy()
    vertices[:, 4] *= wall
    return Group(vertices, g.pieces, g.blend_mm, g.carve, scaled.planes)
