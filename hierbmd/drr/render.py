"""Many poses of one scene as files: projected one after the other, written by threads behind; resumable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hierbmd.drr.files import head_of, is_done, scene_digest, stem_of, write_pose
from hierbmd.drr.projector import Projector
from hierbmd.errors import RaysMissVolume
from hierbmd.geometry import ProjectionGeometry
from hierbmd.parallel import behind

_MOST_WRITERS = 8
_MOST_WAITING = 16
_MOST_WAITING_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Rendered:
    """One pose's result: its number, the seconds that its projection took, and whether it was there already.

    `missed` says why there is no image: no ray of this pose meets the volume.
    """

    index: int
    seconds: float = 0.0
    resumed: bool = False
    missed: RaysMissVolume | None = None


def render(projector: Projector, geometries: Sequence[ProjectionGeometry], out: str | Path) -> Iterator[Rendered]:
    """Project each geometry into `out`: `drr_0000.mha`, or one `drr_0000_STRUCTURE.mha` a structure, .png and .json.

    Images are float32 in the scene's unit, bone bright. The JSON is written last, so that what it stands beside is
    whole; a pose whose JSON says that it is of the same scene, geometry and backend is not projected again. Numbers
    have five digits when there are more than 10,000 poses, so that names always sort.

    Yields the poses that were there, then the others in their order, each once its files are whole. A pose whose rays
    miss the volume yields the reason and writes nothing; the others go on. Threads write behind the projector; at most
    16 poses and, beyond one pose, 256 MiB wait for them. OutputUnwritable ends the run.
    """
    plan = _plan(projector, geometries, Path(out))
    missing: list[int] = []
    for index in range(len(geometries)):
        if is_done(*plan(index)):
            yield Rendered(index, resumed=True)
        else:
            missing.append(index)
    work = (_projected(projector, geometries[index], index, plan(index)) for index in missing)
    writers = min(_MOST_WRITERS, len(os.sched_getaffinity(0)))
    yield from behind(work, workers=writers, waiting=_waiting(projector, geometries))


def _plan(
    projector: Projector, geometries: Sequence[ProjectionGeometry], folder: Path
) -> Callable[[int], tuple[Path, dict[str, Any]]]:
    """For a pose's number the stem of its files and the head of its JSON."""
    scene_id = scene_digest(projector.scene)
    return lambda index: (
        stem_of(folder, index, len(geometries)),
        head_of(projector, geometries[index], scene_id),
    )


def _projected(
    projector: Projector, geometry: ProjectionGeometry, index: int, plan: tuple[Path, dict[str, Any]]
) -> Callable[[], Rendered]:
    """What is left to do for a pose once it is projected: to write it, or to say that its rays miss."""
    start = time.perf_counter()
    try:
        image = projector.image(geometry.camera, geometry.camera_from_world)
    except RaysMissVolume as error:
        return partial(Rendered, index, missed=error)
    seconds = time.perf_counter() - start
    stem, head = plan
    write = partial(write_pose, stem, projector.scene, image, head, seconds=seconds)
    return partial(_written, write, Rendered(index, seconds))


def _written(write: Callable[[], None], rendered: Rendered) -> Rendered:
    write()
    return rendered


def _waiting(projector: Projector, geometries: Sequence[ProjectionGeometry]) -> int:
    pixels = max((geometry.camera.size_px[0] * geometry.camera.size_px[1] for geometry in geometries), default=1)
    return max(1, min(_MOST_WAITING, _MOST_WAITING_BYTES // (4 * pixels * len(projector.scene.structures))))
