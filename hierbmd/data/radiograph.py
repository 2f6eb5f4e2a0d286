"""A radiograph as the rest of the library sees it: bone bright, geometry beside the pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import GeometryMissing
from hierbmd.geometry import Beam, Camera, Side, View


@dataclass(frozen=True)
class Radiograph:
    """A radiograph: `pixels` (H, W) float32, larger where more was absorbed (bone is bright), in arbitrary units.

    `pixel_mm` is (du, dv) on the detector and `sdd_mm` the source-detector distance; None where neither the file nor an
    option says. `source_isocentre_mm` is the source-patient distance where known. `view` and `side` likewise.
    `beam` is a slot scanner's for a CT localizer, whose `pixel_mm[1]` is then the patient's.
    `burned_in_annotation`: the file says that its pixels carry writing, which may name the patient.
    """

    pixels: NDArray[np.float32]
    pixel_mm: tuple[float, float] | None = None
    sdd_mm: float | None = None
    source_isocentre_mm: float | None = None
    view: View | None = None
    side: Side | None = None
    burned_in_annotation: bool = False
    beam: Beam = Beam.CONE

    @property
    def size_px(self) -> tuple[int, int]:
        """(W, H)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def camera(self) -> Camera:
        """The camera, principal point at the image's centre; GeometryMissing without spacing or distance."""
        if self.pixel_mm is None or self.sdd_mm is None:
            missing = " and ".join(
                n for n, v in (("--pixel-mm", self.pixel_mm), ("--sdd-mm", self.sdd_mm)) if v is None
            )
            raise GeometryMissing("geometry missing", mend=f"give {missing}")
        return Camera(self.sdd_mm, self.size_px, self.pixel_mm, beam=self.beam)

    def with_pixels(self, pixels: NDArray[np.float32]) -> Radiograph:
        """The same radiograph with other pixels of the same size."""
        return replace(self, pixels=pixels)
