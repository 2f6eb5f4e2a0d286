"""What a person needs to judge a registration, as plain values: how it ended, how sure it is, and the way it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hierbmd.registration.judge import doubt
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import BoneRegistration
from hierbmd.registration.refine import Box
from hierbmd.rigid import Matrix, Vector


def review_of(result: BoneRegistration, pivot_world_mm: Vector, options: RegistrationOptions) -> dict[str, Any]:
    """Outcome, similarity, uncertainty, agreement of the starts, doubt and trajectory of one bone, fit for JSON.

    `pivot_world_mm` is the bone's centroid. `doubt` is null for a bone that did not converge.
    """
    doubtful = doubt(result, options)
    return {
        "outcome": result.outcome.value,
        "outcome_code": result.outcome.name.lower(),
        "similarity": round(result.similarity, 5),
        "doubt": round(doubtful, 4) if np.isfinite(doubtful) else None,
        "uncertainty": {
            name: None if value is None else round(value, 5) for name, value in result.uncertainty.as_dict().items()
        },
        "start_count": len(result.starts),
        "agreeing_starts": sum(start.agrees for start in result.starts),
        "trajectory": trajectory(result.path, result.camera_from_world, pivot_world_mm).round(4).tolist(),
    }


def trajectory(path: Sequence[Matrix], final: Matrix, pivot_world_mm: Vector) -> Matrix:
    """Each pose of a path less the final one, (n, 6) in degrees and mm: the columns are AXES."""
    about = Box(final, pivot_world_mm, np.full(6, np.inf))
    motions = np.array([about.coordinates(pose) for pose in path]).reshape(-1, 6)
    return motions * np.r_[np.full(3, 180.0 / np.pi), np.ones(3)]
