"""Projections as files: images, a picture and the geometry of each pose; resumable."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.drr.projector import Projector
from hierbmd.drr.scene import WHOLE, Quantity, Scene
from hierbmd.errors import BadConfig
from hierbmd.geometry import ProjectionGeometry
from hierbmd.io.atomic import read_json, write_json
from hierbmd.io.geometry_file import geometry_to_json
from hierbmd.io.image import write_mha_image, write_png


@dataclass(frozen=True)
class Rendered:
    """One pose's result: its number, the seconds that its projection took, and whether it was there already."""

    index: int
    seconds: float
    resumed: bool


def render(projector: Projector, geometries: Sequence[ProjectionGeometry], out: str | Path) -> Iterator[Rendered]:
    """Project each geometry into `out`: `drr_0000.mha`, or one `drr_0000_STRUCTURE.mha` a structure, .png and .json.

    Images are float32 in the scene's unit, bone bright. The JSON is written last, so that what it stands beside is
    whole; a pose whose JSON says that it is of the same scene, geometry and backend is not projected again. Yields
    after each pose. Raises RaysMissVolume and OutputUnwritable.
    """
    folder = Path(out)
    scene_id = _digest(projector.scene)
    for index, geometry in enumerate(geometries):
        head = _head(projector, geometry, scene_id)
        seconds = _done(folder / f"drr_{index:04d}.json", head)
        if seconds is not None:
            yield Rendered(index, seconds, resumed=True)
            continue
        yield Rendered(index, _render_one(projector, geometry, folder / f"drr_{index:04d}", head), resumed=False)


def _render_one(projector: Projector, geometry: ProjectionGeometry, stem: Path, head: dict[str, Any]) -> float:
    start = time.perf_counter()
    image = projector.image(geometry.camera, geometry.camera_from_world)
    seconds = time.perf_counter() - start
    scene = projector.scene
    names = [stem.name if name == WHOLE else f"{stem.name}_{name}" for name in scene.structures]
    text = {"quantity": scene.quantity.value, "unit": scene.unit, "research_use_only": RESEARCH_USE_ONLY}
    if scene.material is not None:
        text["material"] = scene.material.value
    for name, structure, pixels in zip(names, scene.structures, image, strict=True):
        path, pixel_mm = stem.with_name(f"{name}.mha"), geometry.camera.pixel_mm
        write_mha_image(path, pixels, pixel_mm=pixel_mm, metadata=text | {"structure": structure})
    picture = image.sum(axis=0)
    write_png(stem.with_name(f"{stem.name}.png"), picture, window=_window(scene, picture))
    files = {structure: f"{name}.mha" for name, structure in zip(names, scene.structures, strict=True)}
    write_json(stem.with_name(f"{stem.name}.json"), head | {"files": files, "seconds": round(seconds, 6)})
    return seconds


def _window(scene: Scene, picture: NDArray[np.float32]) -> tuple[float, float]:
    """What a picture shows as black and white: nothing and dense bone, or for a whole body its inner range."""
    filled = picture[picture > 0]
    if not filled.size:
        return 0.0, 1.0
    if scene.quantity is not Quantity.ATTENUATION or scene.structures != (WHOLE,):
        # Metal in a bone must not turn the bone itself black.
        return 0.0, float(np.percentile(filled, 98))
    high = float(np.percentile(filled, 99.8))
    # Skin, air and corners would take most of the grey values from the bones within.
    return float(np.percentile(picture[picture > 0.3 * high], 5)), high


def _head(projector: Projector, geometry: ProjectionGeometry, scene_id: str) -> dict[str, Any]:
    """What a pose's result depends on, as its JSON says it."""
    scene = projector.scene
    return {
        "geometry": geometry_to_json(geometry),
        "quantity": scene.quantity.value,
        "unit": scene.unit,
        "material": None if scene.material is None else scene.material.value,
        "structures": list(scene.structures),
        "backend": projector.backend,
        "scene": scene_id,
        "research_use_only": RESEARCH_USE_ONLY,
    }


def _done(path: Path, head: dict[str, Any]) -> float | None:
    """The seconds of an earlier run when its JSON has the same head and its images stand beside it."""
    if not path.is_file():
        return None
    try:
        found = read_json(path)
    except BadConfig:
        return None
    same = isinstance(found, dict) and all(found.get(key) == value for key, value in head.items())
    if not same or not all(path.with_name(name).is_file() for name in found["files"].values()):
        return None
    return float(found["seconds"])


def _digest(scene: Scene) -> str:
    """A short fingerprint of what is projected: values, channels and grid."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(np.ascontiguousarray(scene.values).data)
    digest.update(scene.grid.world_from_index.tobytes())
    if scene.channels is not None:
        digest.update(np.ascontiguousarray(scene.channels).data)
    return digest.hexdigest()
