"""One pose's files: an image a structure, a picture to look at, and the JSON that says what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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

_EMPTY_SHARE = 0.75
"""A bone in an image of zeros packs tenfold in no time; a body's float pixels take long and hardly shrink."""


def stem_of(folder: Path, index: int, count: int) -> Path:
    """The name, without suffix, of the files of pose `index` of `count`: drr_0000, of five digits beyond 10,000."""
    digits = max(4, len(str(count - 1)))
    return folder / f"drr_{index:0{digits}d}"


def head_of(projector: Projector, geometry: ProjectionGeometry, scene_id: str) -> dict[str, Any]:
    """What a pose's result depends on, as its JSON says it."""
    scene = projector.scene
    return {
        "geometry": geometry_to_json(geometry),
        "quantity": scene.quantity.value,
        "unit": scene.unit,
        "material": None if scene.material is None else scene.material.value,
        **({"calibrated_by": scene.calibrated_by} if scene.calibrated_by else {}),
        "structures": list(scene.structures),
        "backend": projector.backend,
        "scene": scene_id,
        "research_use_only": RESEARCH_USE_ONLY,
    }


def is_done(stem: Path, head: Mapping[str, Any]) -> bool:
    """Whether an earlier run left this pose: its JSON has the same head, and its images stand beside it."""
    path = _with(stem, ".json")
    if not path.is_file():
        return False
    try:
        found = read_json(path)
    except BadConfig:
        return False
    if not isinstance(found, dict) or any(found.get(key) != value for key, value in head.items()):
        return False
    names = (f"{name}.mha" for name in _names(stem, head["structures"]))
    return all(path.with_name(name).is_file() for name in (*names, f"{stem.name}.png"))


def write_pose(
    stem: Path, scene: Scene, image: NDArray[np.float32], head: Mapping[str, Any], *, seconds: float
) -> None:
    """Write a projection (S, H, W) float32 in the scene's unit under `stem`; the JSON last, once the rest is whole.

    `seconds` is what projecting took. OutputUnwritable when the folder cannot be written.
    """
    text = {"quantity": scene.quantity.value, "unit": scene.unit, "research_use_only": RESEARCH_USE_ONLY}
    if scene.material is not None:
        text["material"] = scene.material.value
    names = _names(stem, scene.structures)
    pixel_mm = tuple(head["geometry"]["pixel_mm"])
    for name, structure, pixels in zip(names, scene.structures, image, strict=True):
        empty = bool(np.mean(pixels == 0) > _EMPTY_SHARE)
        path, metadata = stem.with_name(f"{name}.mha"), text | {"structure": structure}
        write_mha_image(path, pixels, pixel_mm=pixel_mm, metadata=metadata, compress=empty)
    picture = image.sum(axis=0)
    write_png(_with(stem, ".png"), picture, window=_window(scene, picture))
    files = {structure: f"{name}.mha" for name, structure in zip(names, scene.structures, strict=True)}
    write_json(_with(stem, ".json"), {**head, "files": files, "seconds": round(seconds, 6)})


def scene_digest(scene: Scene) -> str:
    """A short fingerprint of what is projected: values, structures and grid."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(np.ascontiguousarray(scene.values).data)
    digest.update(scene.grid.world_from_index.tobytes())
    if scene.channels is not None:
        digest.update(np.ascontiguousarray(scene.channels).data)
    if scene.memberships is not None:
        digest.update(np.ascontiguousarray(scene.memberships).data)
    return digest.hexdigest()


def _names(stem: Path, structures: tuple[str, ...] | list[str]) -> list[str]:
    return [stem.name if name == WHOLE else f"{stem.name}_{name}" for name in structures]


def _with(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


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
