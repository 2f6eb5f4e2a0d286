"""Frames and nothing else: where voxels, pixels and patients are.

World is DICOM patient coordinates, LPS, in millimetres, float64. The camera frame has its origin at the X-ray source,
x right along image columns, y down along rows, z from the source towards the detector. Pixel centres are at integers,
(0, 0) at the top left. A transform is named `a_from_b` and maps column vectors of b to a.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import numpy as np

from hierbmd.errors import BadAffine, GeometryMissing, NotOrthogonal
from hierbmd.rigid import Matrix, Vector, invert_rigid, require_rigid, rigid_matrix, transform_points

_ORTHOGONAL_TOLERANCE_DEG = 0.1


class Side(enum.StrEnum):
    """Which side of the patient an image shows."""

    LEFT = "left"
    RIGHT = "right"
    BOTH = "both"
    NONE = "none"


class View(enum.StrEnum):
    """A standard projection; its rotation puts the patient in front of the source, head up.

    AP: the patient's left is on the image's right. PA: the patient's left is on the image's left. LAT: left lateral,
    the patient's left side at the detector and anterior on the image's right.
    """

    AP = "AP"
    PA = "PA"
    LAT = "LAT"

    @property
    def camera_from_world_rotation(self) -> Matrix:
        """The 3x3 rotation whose rows are the camera's x, y and z axes in LPS."""
        return np.array(_VIEW_ROWS[self], dtype=np.float64)


class Beam(enum.StrEnum):
    """How an image's rays run: from one point, side by side, or as a slot scanner's fan that moves along rows' y.

    SLOT is a CT localizer or an upright slot scanner: rays diverge across the table, along the image's columns axis x,
    and are parallel along it, along y.
    """

    CONE = "cone"
    PARALLEL = "parallel"
    SLOT = "slot"

    @property
    def fans(self) -> tuple[bool, bool]:
        """Whether rays diverge along camera x and along camera y."""
        return self is not Beam.PARALLEL, self is Beam.CONE


_VIEW_ROWS: dict[View, list[list[float]]] = {
    View.AP: [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    View.PA: [[-1, 0, 0], [0, 0, -1], [0, -1, 0]],
    View.LAT: [[0, -1, 0], [0, 0, -1], [1, 0, 0]],
}


@dataclass(frozen=True)
class Grid:
    """A lattice of voxel centres: `shape` is (ni, nj, nk) and `world_from_index` (4x4) maps (i, j, k, 1) to LPS mm.

    Any axis order, any sign and any rotation are kept as they are; only singular or non-finite affines are refused
    (BadAffine). Shear is allowed here, and `require_orthogonal` refuses it where it matters.
    """

    shape: tuple[int, int, int]
    world_from_index: Matrix

    def __post_init__(self) -> None:
        matrix = np.array(self.world_from_index, dtype=np.float64)
        matrix.setflags(write=False)
        object.__setattr__(self, "world_from_index", matrix)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if matrix.shape != (4, 4) or not np.all(np.isfinite(matrix)):
            raise BadAffine("the image's affine has values that are not finite", mend="write the image again")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise BadAffine(f"the image is not three-dimensional, shape {self.shape}", mend="give one 3D volume")
        if np.min(self.spacing_mm) < 1e-6 or abs(np.linalg.det(matrix[:3, :3])) < 1e-9 * np.prod(self.spacing_mm):
            raise BadAffine("the image's affine is singular or has zero spacing", mend="write the image again")

    def __eq__(self, other: object) -> bool:
        """Whether the other grid has the same shape and places every voxel within a thousandth of a millimetre."""
        if not isinstance(other, Grid) or self.shape != other.shape:
            return NotImplemented if not isinstance(other, Grid) else False
        return bool(np.allclose(self.corners_world_mm, other.corners_world_mm, atol=1e-3, rtol=0))

    __hash__ = None  # type: ignore[assignment]

    @property
    def index_from_world(self) -> Matrix:
        """The 4x4 inverse of `world_from_index`."""
        return np.asarray(np.linalg.inv(self.world_from_index))

    @property
    def spacing_mm(self) -> Vector:
        """The distance between neighbouring voxel centres along i, j and k, in mm."""
        return np.asarray(np.linalg.norm(self.world_from_index[:3, :3], axis=0))

    @property
    def voxel_mm3(self) -> float:
        """The volume of one voxel in mm3."""
        return float(abs(np.linalg.det(self.world_from_index[:3, :3])))

    @property
    def centre_world_mm(self) -> Vector:
        """The centre of the lattice in LPS mm: the default isocentre."""
        middle = (np.array(self.shape, dtype=np.float64) - 1.0) / 2.0
        return transform_points(self.world_from_index, middle)

    @property
    def corners_world_mm(self) -> Matrix:
        """The eight outermost voxel centres, (8, 3), in LPS mm; the order is fixed by the index axes."""
        ends = [(0.0, n - 1.0) for n in self.shape]
        return transform_points(
            self.world_from_index, np.array([[i, j, k] for i in ends[0] for j in ends[1] for k in ends[2]])
        )

    @property
    def axis_codes(self) -> str:
        """The patient direction that each index axis grows towards, as in "LPS": one letter of LRPASI an axis."""
        directions = self.world_from_index[:3, :3] / self.spacing_mm
        codes = []
        for axis in directions.T:
            world_axis = int(np.argmax(np.abs(axis)))
            codes.append("LPS"[world_axis] if axis[world_axis] > 0 else "RAI"[world_axis])
        return "".join(codes)

    def require_orthogonal(self, where: object = "") -> None:
        """Raise NotOrthogonal, with the angle, when the index axes are not at right angles (gantry tilt, shear)."""
        directions = self.world_from_index[:3, :3] / self.spacing_mm
        off_diagonal = (directions.T @ directions)[np.triu_indices(3, 1)]
        off_deg = float(np.degrees(np.max(np.abs(np.arcsin(np.clip(off_diagonal, -1, 1))))))
        if off_deg > _ORTHOGONAL_TOLERANCE_DEG:
            raise NotOrthogonal(
                f"not orthogonal ({off_deg:.1f} deg)",
                where=where,
                mend="ask for resampling, or correct the gantry tilt",
            )


@dataclass(frozen=True)
class Camera:
    """An X-ray camera: a source in the plane z = 0 and a flat detector at z = `sdd_mm`.

    `size_px` is (W, H), columns then rows; `pixel_mm` is (du, dv) on the detector; `principal_px` is (u0, v0), where
    the z axis meets the detector, the image's centre by default. The source of a cone `beam` is the origin; where rays
    are parallel it moves along with the pixel.
    """

    sdd_mm: float
    size_px: tuple[int, int]
    pixel_mm: tuple[float, float]
    principal_px: tuple[float, float] | None = None
    beam: Beam = Beam.CONE

    def __post_init__(self) -> None:
        width, height = (int(n) for n in self.size_px)
        du, dv = (float(x) for x in self.pixel_mm)
        if not (
            np.isfinite(self.sdd_mm)
            and self.sdd_mm > 0
            and min(width, height) >= 1
            and np.isfinite(du + dv)
            and min(du, dv) > 0
        ):
            raise GeometryMissing(
                f"not a camera: sdd_mm {self.sdd_mm}, size_px {self.size_px}, pixel_mm {self.pixel_mm}",
                mend="all are finite and above zero",
            )
        object.__setattr__(self, "sdd_mm", float(self.sdd_mm))
        object.__setattr__(self, "beam", Beam(self.beam))
        object.__setattr__(self, "size_px", (width, height))
        object.__setattr__(self, "pixel_mm", (du, dv))
        principal = ((width - 1) / 2.0, (height - 1) / 2.0) if self.principal_px is None else self.principal_px
        if not np.all(np.isfinite(principal)):
            raise GeometryMissing(f"not a camera: principal_px {principal}", mend="two finite pixel coordinates")
        object.__setattr__(self, "principal_px", (float(principal[0]), float(principal[1])))

    @property
    def centre_px(self) -> tuple[float, float]:
        """Where the z axis meets the detector, (u0, v0) in pixels: `principal_px`, never None."""
        assert self.principal_px is not None
        return self.principal_px

    @property
    def intrinsics(self) -> Matrix:
        """The 3x3 matrix K: (u, v, 1) ~ K (x, y, z) for a point in camera mm; GeometryMissing unless a cone beam."""
        if self.beam is not Beam.CONE:
            raise GeometryMissing(f"a {self.beam} beam has no matrix K", mend="only a cone beam's camera is a pinhole")
        du, dv = self.pixel_mm
        u0, v0 = self.centre_px
        return np.array([[self.sdd_mm / du, 0, u0], [0, self.sdd_mm / dv, v0], [0, 0, 1.0]])

    def detector_points_mm(self) -> Matrix:
        """The pixel centres in the camera frame, (H, W, 3), mm."""
        width, height = self.size_px
        x = (np.arange(width) - self.centre_px[0]) * self.pixel_mm[0]
        y = (np.arange(height) - self.centre_px[1]) * self.pixel_mm[1]
        points = np.empty((height, width, 3))
        points[..., 0], points[..., 1], points[..., 2] = x[None, :], y[:, None], self.sdd_mm
        return points

    def source_points_mm(self) -> Matrix:
        """Where each pixel's ray starts in the camera frame, (H, W, 3), mm: the origin for a cone beam."""
        return self.detector_points_mm() * [not fans for fans in (*self.beam.fans, True)]

    def ray_lengths_mm(self) -> Matrix:
        """From each ray's start to its pixel, (H, W), mm."""
        return np.asarray(np.linalg.norm(self.detector_points_mm() - self.source_points_mm(), axis=-1))

    def pixels_from_camera(self, points_camera_mm: Matrix) -> Matrix:
        """Project points (..., 3) in camera mm to pixels (..., 2) as (u, v)."""
        magnification = self.sdd_mm / points_camera_mm[..., 2:]
        on_detector_mm = points_camera_mm[..., :2] * np.where(self.beam.fans, magnification, 1.0)
        return np.asarray(on_detector_mm / np.array(self.pixel_mm) + np.array(self.centre_px))

    def resized(self, factor: int) -> Camera:
        """The camera whose pixels are blocks of factor x factor of these; a rest at the end is dropped."""
        width, height = self.size_px
        shift = (factor - 1) / 2.0
        principal = ((self.centre_px[0] - shift) / factor, (self.centre_px[1] - shift) / factor)
        pixel_mm = (self.pixel_mm[0] * factor, self.pixel_mm[1] * factor)
        return replace(self, size_px=(width // factor, height // factor), pixel_mm=pixel_mm, principal_px=principal)

    def cropped(self, left_px: int, top_px: int, size_px: tuple[int, int]) -> Camera:
        """The camera of the sub-image of `size_px` (W, H) whose top left pixel is (left_px, top_px)."""
        principal = (self.centre_px[0] - left_px, self.centre_px[1] - top_px)
        return replace(self, size_px=size_px, principal_px=principal)


@dataclass(frozen=True)
class Motion:
    """A motion of the patient about the isocentre in camera axes, as a pose is written on the command line.

    Angles in degrees are extrinsic rotations about camera x, y, z in that order; translations are in mm.
    """

    rx_deg: float = 0.0
    ry_deg: float = 0.0
    rz_deg: float = 0.0
    tx_mm: float = 0.0
    ty_mm: float = 0.0
    tz_mm: float = 0.0

    @property
    def rotation(self) -> Matrix:
        """The 3x3 rotation of the motion, scipy's Rotation.from_euler("xyz", ..., degrees=True)."""
        from scipy.spatial.transform import Rotation

        return np.asarray(Rotation.from_euler("xyz", [self.rx_deg, self.ry_deg, self.rz_deg], degrees=True).as_matrix())

    @property
    def translation_mm(self) -> Vector:
        """(tx, ty, tz) in camera mm."""
        return np.array([self.tx_mm, self.ty_mm, self.tz_mm], dtype=np.float64)


@dataclass(frozen=True)
class Placement:
    """How a patient stands before the source: the view, the isocentre in LPS mm and its distance from the source."""

    view: View
    isocentre_world_mm: Vector
    source_isocentre_mm: float

    def camera_from_world(self, motion: Motion | None = None) -> Matrix:
        """X_cam = R R_view (X_world - isocentre) + (0, 0, source_isocentre_mm) + t, as a 4x4."""
        motion = motion or Motion()
        rotation = motion.rotation @ self.view.camera_from_world_rotation
        shift = np.array([0.0, 0.0, self.source_isocentre_mm]) + motion.translation_mm
        return rigid_matrix(rotation, shift - rotation @ np.asarray(self.isocentre_world_mm, dtype=np.float64))

    def motion_of(self, camera_from_world: Matrix) -> Motion:
        """The motion that gives this pose: the inverse of `camera_from_world`."""
        from scipy.spatial.transform import Rotation

        pose = require_rigid(camera_from_world)
        rotation = pose[:3, :3] @ self.view.camera_from_world_rotation.T
        isocentre_camera = transform_points(pose, np.asarray(self.isocentre_world_mm, dtype=np.float64))
        shift = isocentre_camera - np.array([0.0, 0.0, self.source_isocentre_mm])
        angles = Rotation.from_matrix(rotation).as_euler("xyz", degrees=True)
        return Motion(*(float(x) for x in (*angles, *shift)))


@dataclass(frozen=True)
class ProjectionGeometry:
    """Where things are for one image: the camera, its pose, and what the image shows. The geometry file holds one.

    `camera_from_world` is 4x4 and rigid with determinant +1 (NotRigid otherwise).
    """

    camera: Camera
    camera_from_world: Matrix
    view: View
    side: Side = Side.NONE

    def __post_init__(self) -> None:
        object.__setattr__(self, "camera_from_world", require_rigid(self.camera_from_world))
        object.__setattr__(self, "view", View(self.view))
        object.__setattr__(self, "side", Side(self.side))

    @property
    def source_world_mm(self) -> Vector:
        """The X-ray source in LPS mm."""
        return transform_points(invert_rigid(self.camera_from_world), np.zeros(3))
