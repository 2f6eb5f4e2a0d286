"""From what a registration left behind to its outcome: only what nothing speaks against is called converged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hierbmd.geometry import Matrix
from hierbmd.registration.body import Body
from hierbmd.registration.level import Level
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import Outcome, Uncertainty
from hierbmd.registration.refine import Refined
from hierbmd.registration.window import share_on_image

_RIVAL_SHARE = 0.95


@dataclass(frozen=True)
class Evidence:
    """What is known at the end: the pose, how it was refined (None: not at all), and the best rival's similarity."""

    body: Body
    levels: tuple[Level, ...]
    pose: Matrix
    refined: Refined | None
    at_edge: bool
    uncertainty: Uncertainty
    rival_similarity: float


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
    yield Outcome.FLAT, not errors.in_plane_mm <= options.max_in_plane_mm
    yield Outcome.DIVERGED, not refined.settled
    yield Outcome.DISAGREEING_STARTS, evidence.rival_similarity > _RIVAL_SHARE * refined.fit.similarity
