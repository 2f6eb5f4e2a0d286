"""From what a registration left behind to its outcome: only what nothing speaks against is called converged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hierbmd.registration.body import Body
from hierbmd.registration.level import Level
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import BoneRegistration, Outcome, StartResult, Uncertainty
from hierbmd.registration.refine import Refined
from hierbmd.registration.window import share_on_image
from hierbmd.rigid import Matrix

_RIVAL_COST = 1.1
"""A rival pose leaves at most this much more unexplained than the best: the image does not choose between them."""

_AGREEING_SHARE = 0.3
_DISPUTED_SHARE = 0.85
"""Few starts at the best pose and others nearly as similar elsewhere: stumbled upon. Far less similar: stuck."""


@dataclass(frozen=True)
class Evidence:
    """What is known at the end: the pose, how it was refined (None: not at all), the best rival, the starts."""

    body: Body
    levels: tuple[Level, ...]
    pose: Matrix
    refined: Refined | None
    at_edge: bool
    uncertainty: Uncertainty
    rival_similarity: float
    starts: tuple[StartResult, ...]


def judge(evidence: Evidence, options: RegistrationOptions) -> Outcome:
    """The first fault that applies, the gravest first; CONVERGED when none does."""
    return next((outcome for outcome, applies in _faults(evidence, options) if applies), Outcome.CONVERGED)


def _faults(evidence: Evidence, options: RegistrationOptions) -> Iterator[tuple[Outcome, bool]]:
    """Every fault with whether it applies; a later one may presume that those before it do not."""
    level, refined, errors = evidence.levels[-1], evidence.refined, evidence.uncertainty
    share = share_on_image(evidence.body.surface_world_mm, level.camera, evidence.pose)
    yield Outcome.OFF_IMAGE, share < options.min_on_image
    yield Outcome.FLAT, refined is None or not level.energy > 0
    assert refined is not None
    yield Outcome.AT_BOUNDS, evidence.at_edge
    yield Outcome.LOW_SIMILARITY, refined.fit.similarity < options.min_similarity
    yield Outcome.DIVERGED, not refined.settled
    yield Outcome.FLAT, not errors.in_plane_mm <= options.max_in_plane_mm
    yield Outcome.AMBIGUOUS, 1.0 - evidence.rival_similarity**2 < _RIVAL_COST * (1.0 - refined.fit.similarity**2)
    yield Outcome.DISAGREEING_STARTS, disputed(evidence.starts)


def disputed(starts: tuple[StartResult, ...]) -> bool:
    """Whether few starts are at the best pose while others ended elsewhere nearly as similar."""
    if not starts or np.mean([start.agrees for start in starts]) >= _AGREEING_SHARE:
        return False
    elsewhere = max(start.similarity for start in starts if not start.agrees)
    return elsewhere >= _DISPUTED_SHARE * max(start.similarity for start in starts)


def doubt(result: BoneRegistration, options: RegistrationOptions) -> float:
    """How near a registration is to its limits: 0 far from them, 1 at one, infinite when it did not converge.

    The larger of the similarity's shortfall from 1 and the standard error in plane, each over what is allowed. It is
    for an order, the worst first; it is no probability.
    """
    if not result.converged:
        return float(np.inf)
    shortfall = (1.0 - result.similarity) / max(1.0 - options.min_similarity, 1e-9)
    return float(max(shortfall, result.uncertainty.in_plane_mm / options.max_in_plane_mm))
