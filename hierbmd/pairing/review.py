"""What a person is shown of a pair before it is kept: each bone's overlay, and how its registration went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.site import SkeletalSite
from hierbmd.geometry import Camera, Side
from hierbmd.io.image import write_png
from hierbmd.pairing.make import Patient
from hierbmd.registration.body import make_body
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import BoneRegistration
from hierbmd.registration.overlay import overlay
from hierbmd.registration.review import review_of

FOLDER = "review"


@dataclass(frozen=True)
class Seen:
    """What the reviews of one radiograph are made of; `found` has every bone's registration by its name."""

    site: SkeletalSite
    patient: Patient
    radiograph: Radiograph
    camera: Camera
    found: Mapping[str, BoneRegistration]
    options: RegistrationOptions


def write_review(out: Path, pair_id: str, side: Side, seen: Seen) -> dict[str, Any]:
    """Write `review/PAIR_ID_BONE.png` for the bones of a side; what a page tells of them comes back.

    A radiograph that carries burned-in annotation is not drawn: a review leaves the room where patients have names.
    """
    bones = {}
    for bone in seen.site.bones:
        name = seen.site.label(bone, side)
        result, options = seen.found[name], seen.options
        volume, labels = seen.patient.volume, seen.patient.labels
        body = make_body(
            name, volume, labels, structures=(name,), metal_hu=options.metal_hu, around_hu=options.around_hu
        )
        bones[bone] = {**review_of(result, body.pivot_world_mm, options), "picture": None}
        if not seen.radiograph.burned_in_annotation:
            picture = overlay(seen.radiograph.pixels, seen.camera, body, result.camera_from_world)
            bones[bone]["picture"] = f"{FOLDER}/{pair_id}_{bone}.png"
            write_png(out / f"{FOLDER}/{pair_id}_{bone}.png", picture)
    return {"pair_id": pair_id, "side": side.value, "bones": bones}
