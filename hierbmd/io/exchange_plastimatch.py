"""plastimatch's geometry: the options of `plastimatch drr`, and the text file that it writes beside each image.

Its world is ours, LPS mm, and so are its pixel centres, at integers. Its help calls pairs of numbers "row col"; version
1.9.4 takes them as columns, then rows, which a test asks the program itself.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierbmd.errors import BadConfig, GeometryMissing, NotRigid
from hierbmd.geometry import Camera
from hierbmd.io.exchange_common import require_cone
from hierbmd.io.exchange_matrix import geometry_from_matrix, matrix_from_geometry
from hierbmd.io.geometry_file import check_ranges
from hierbmd.rigid import Matrix, Vector, require_rigid, rigid_matrix

_OPTIONS = (
    ("--nrm", "-n", 3),
    ("--vup", "--vup", 3),
    ("--isocenter", "-o", 3),
    ("--sad", "--sad", 1),
    ("--sid", "--sid", 1),
    ("--dim", "-r", 2),
    ("--detector-size", "-z", 2),
    ("--image-center", "-c", 2),
)
"""Long and short name, and how many numbers the one argument holds."""

_DEFAULTS = {"--vup": (0.0, 0.0, 1.0), "--isocenter": (0.0, 0.0, 0.0), "--sad": (1000.0,), "--sid": (1500.0,)}


@dataclass(frozen=True)
class PlastimatchGeometry:
    """`plastimatch drr`'s options: `nrm` from the detector to the source, `vup` to its top row, `isocentre` in LPS mm.

    `sad` and `sid` are the source's distances from isocentre and detector, `dim` columns and rows, `detector_size`
    width and height in mm, `image_center` where the axis meets the detector in pixels.
    """

    nrm: tuple[float, ...]
    vup: tuple[float, ...]
    isocentre: tuple[float, ...]
    sad: float
    sid: float
    dim: tuple[int, int]
    detector_size: tuple[float, float]
    image_center: tuple[float, float]

    def arguments(self) -> list[str]:
        """The options as words, for a process or, joined by `shlex.join`, for a shell."""
        places: list[tuple[float, ...]] = [self.nrm, self.vup, self.isocentre, (self.sad,), (self.sid,)]
        pairs = zip(_OPTIONS, [*places, self.dim, self.detector_size, self.image_center], strict=True)
        return [word for (name, _, _), value in pairs for word in (name, " ".join(repr(x) for x in value))]


def plastimatch_from_geometry(
    camera: Camera, camera_from_world: Matrix, *, source_isocentre_mm: float | None = None
) -> PlastimatchGeometry:
    """What `plastimatch drr` 1.9.4 takes; where on the axis the isocentre is changes no image: the detector by default.

    BadConfig for a beam other than the cone, NotRigid.
    """
    require_cone(camera, "plastimatch")
    pose = require_rigid(camera_from_world)
    sad = camera.sdd_mm if source_isocentre_mm is None else source_isocentre_mm
    isocentre = pose[:3, :3].T @ (np.array([0.0, 0.0, sad]) - pose[:3, 3])
    (width, height), (du, dv) = camera.size_px, camera.pixel_mm
    return PlastimatchGeometry(
        nrm=_floats(-pose[2, :3]),
        vup=_floats(-pose[1, :3]),
        isocentre=_floats(isocentre),
        sad=float(sad),
        sid=camera.sdd_mm,
        dim=camera.size_px,
        detector_size=(width * du, height * dv),
        image_center=camera.centre_px,
    )


def geometry_from_plastimatch(given: PlastimatchGeometry, where: object = "") -> tuple[Camera, Matrix]:
    """The camera and pose of `plastimatch drr`'s options; NotRigid where `vup` lies along `nrm`."""
    to_detector = -_unit(np.array(given.nrm), where)
    right = _unit(np.cross(np.array(given.vup), -to_detector), where)
    rotation = np.stack([right, np.cross(to_detector, right), to_detector])
    shift = np.array([0.0, 0.0, given.sad]) - rotation @ np.array(given.isocentre)
    (width, height), (wide_mm, high_mm) = given.dim, given.detector_size
    if min(width, height) < 1:
        raise GeometryMissing(f"--dim {width} {height} is no image size", where=where, mend="columns rows")
    pixel_mm = (wide_mm / width, high_mm / height)
    check_ranges(given.sid, pixel_mm, where)
    return Camera(given.sid, given.dim, pixel_mm, given.image_center), require_rigid(rigid_matrix(rotation, shift))


def plastimatch_from_command(text: str, where: object = "") -> PlastimatchGeometry:
    """The geometry of a `plastimatch drr ...` command line, or of its options alone; its defaults where it has some.

    BadConfig for what is not numbers, GeometryMissing without --nrm, --dim and --detector-size (a gantry angle names no
    normal here).
    """
    values: dict[str, tuple[float, ...]] = dict(_DEFAULTS)
    try:
        words = iter(shlex.split(text, comments=True))
    except ValueError as error:
        raise BadConfig(f"not a command line ({error})", where=where, mend="plastimatch drr --help") from None
    for word in words:
        flag, equals, rest = word.partition("=")
        for name, short, count in _OPTIONS:
            if flag in (name, short):
                values[name] = _numbers(rest if equals else next(words, ""), count, f"{where} {flag}")
    missing = [name for name in ("--nrm", "--dim", "--detector-size") if name not in values]
    if missing:
        raise GeometryMissing("geometry missing: no " + ", ".join(missing), where=where, mend="add the options")
    dim = (int(values["--dim"][0]), int(values["--dim"][1]))
    centre = values.get("--image-center", ((dim[0] - 1) / 2, (dim[1] - 1) / 2))
    ends = (values["--sad"][0], values["--sid"][0])
    size, middle = (values["--detector-size"][0], values["--detector-size"][1]), (centre[0], centre[1])
    return PlastimatchGeometry(values["--nrm"], values["--vup"], values["--isocenter"], *ends, dim, size, middle)


def plastimatch_text(camera: Camera, camera_from_world: Matrix, *, source_isocentre_mm: float | None = None) -> str:
    """The file that `plastimatch drr` writes beside an image: centre, matrix, distances, axis, and the two factors.

    Its matrix is K[R|t] over the distance to the detector and without the centre, which its first line holds.
    """
    require_cone(camera, "plastimatch")
    pose = require_rigid(camera_from_world)
    (u0, v0), (du, dv), sid = camera.centre_px, camera.pixel_mm, camera.sdd_mm
    sad = sid if source_isocentre_mm is None else source_isocentre_mm
    intrinsic = np.zeros((3, 4))
    intrinsic[:, :3] = np.diag([1 / du, 1 / dv, 1 / sid])
    off_centre = np.array([[1, 0, -u0], [0, 1, -v0], [0, 0, 1]])
    blocks = [[[u0, v0]], off_centre @ matrix_from_geometry(camera, pose) / sid, [[sad]], [[sid]], [pose[2, :3]]]
    return _lines(*blocks) + "Extrinsic\n" + _lines(pose) + "Intrinsic\n" + _lines(intrinsic)


def geometry_from_plastimatch_text(text: str, size_px: tuple[int, int], where: object = "") -> tuple[Camera, Matrix]:
    """The camera and pose of such a file, which does not say the image's size; BadConfig unless it is one, NotRigid."""
    words = text.split("Extrinsic", maxsplit=1)[0].split()
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        numbers = np.zeros(0)
    if numbers.size != 19 or not np.all(np.isfinite(numbers)):
        raise BadConfig(
            "not a geometry file of plastimatch", where=where, mend="the .txt beside an image of plastimatch drr"
        )
    centred = np.array([[1, 0, numbers[0]], [0, 1, numbers[1]], [0, 0, 1]]) @ numbers[2:14].reshape(3, 4)
    return geometry_from_matrix(centred, size_px, sdd_mm=float(numbers[15]), where=where)


def _lines(*blocks: Any) -> str:
    rows = [row for block in blocks for row in np.asarray(block, dtype=np.float64)]
    return "".join(" ".join(f"{x:24.16e}" for x in row) + "\n" for row in rows)


def _floats(values: Vector) -> tuple[float, ...]:
    return tuple(float(x) for x in values)


def _unit(vector: Vector, where: object) -> Vector:
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < 1e-9:
        raise NotRigid("--nrm and --vup give no axes", where=where, mend="vup may not lie along nrm")
    return vector / length


def _numbers(text: str, count: int, where: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in text.split())
    except ValueError:
        found = ()
    if len(found) != count or not np.all(np.isfinite(found)):
        raise BadConfig(f"not {count} finite numbers: {text!r}", where=where, mend="quote them: --nrm '0 -1 0'")
    return found
