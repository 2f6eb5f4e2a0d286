"""What came of a registration: why it may be trusted, or why not."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from hierbmd.rigid import Matrix

AXES = ("rx_deg", "ry_deg", "rz_deg", "tx_mm", "ty_mm", "depth_mm")
"""The six axes of a pose, in camera axes about the bone's centroid."""


class Outcome(enum.Enum):
    """How a registration ended; the value is its explanation. Only CONVERGED poses become training targets."""

    CONVERGED = "converged"
    AT_BOUNDS = "at bounds: the pose ran to the edge of the search range; the start is too far off"
    FLAT = "flat: the image around the bone does not determine the pose in plane"
    AMBIGUOUS = "ambiguous: another pose explains the image about as well"
    DISAGREEING_STARTS = "disagreeing starts: few end at this pose, and others nearly as similar elsewhere"
    OFF_IMAGE = "off image: too little of the bone projects onto the image"
    LOW_SIMILARITY = "low similarity: what the image shows there is not this bone"
    DIVERGED = "diverged: the steps ran out before the pose settled"


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors of a pose, in camera axes about the bone's centroid: degrees and mm.

    `depth_mm` (along the beam) is weak in a single view, several times `tx_mm` and `ty_mm`, and stands apart from
    them. `in_plane_mm` is the root mean square over the bone's surface of the error across the beam that the whole
    6x6 covariance implies. Infinite where the image does not determine the axis. `starts_in_plane_mm` is the spread of
    the starts that agree, mean in plane over the surface, and `starts` their spread about the pose in the same six axes
    (degrees, mm), each a root mean square of where they settled at the coarsest level; zero where none is known.
    """

    rx_deg: float
    ry_deg: float
    rz_deg: float
    tx_mm: float
    ty_mm: float
    depth_mm: float
    in_plane_mm: float
    starts_in_plane_mm: float
    starts: tuple[float, ...] = (0.0,) * 6

    def as_dict(self) -> dict[str, float | None]:
        """For JSON: None where an axis is not determined, because JSON has no infinity; `starts` axis by axis."""
        spread = {f"starts_{axis}": x for axis, x in zip(AXES, self.starts, strict=True)}
        errors = {name: x for name, x in vars(self).items() if name != "starts"} | spread
        return {name: float(x) if np.isfinite(x) else None for name, x in errors.items()}


@dataclass(frozen=True)
class StartResult:
    """Where one start began and ended: its similarity after refinement, and whether it agrees with the best."""

    start_camera_from_world: Matrix
    camera_from_world: Matrix
    similarity: float
    agrees: bool


@dataclass(frozen=True)
class BoneRegistration:
    """The pose of one bone on one radiograph: `camera_from_world` (4x4) moves that bone's voxels into the camera.

    `similarity` is the partial correlation, 0 to 1, between the radiograph's gradients and the bone's, the other
    bones and the gain being accounted for. `metal_voxels` counts what was left out of the bone. `seconds` is wall
    time. `path` holds the poses that the search went through, from where it began to this one.
    """

    name: str
    camera_from_world: Matrix
    outcome: Outcome
    similarity: float
    uncertainty: Uncertainty
    starts: tuple[StartResult, ...]
    seconds: float
    metal_voxels: int = 0
    steps: int = 0
    path: tuple[Matrix, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether the pose may be used."""
        return self.outcome is Outcome.CONVERGED
