"""The options of every command that reads radiographs: what a file does not say, said once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.io.radiograph import RadiographOptions


@dataclass(frozen=True, kw_only=True)
class RadiographFlags:
    """What a radiograph's file may leave open. Nothing is guessed: what is needed and not said is refused."""

    polarity: Literal["bright-bone", "dark-bone"] | None = option("where the file does not say", None)
    response: Literal["log", "linear"] | None = option("log (also display images) or linear intensity", None)
    pixel_mm: tuple[float, float] | None = option("pixel size on the detector, du,dv", None)
    sdd_mm: float | None = option("distance from the source to the detector", None)
    source_isocenter_mm: float | None = option("distance from the source to the patient", None)
    view: Literal["AP", "PA", "LAT"] | None = option("where the file does not say", None)
    side: Literal["left", "right", "both", "none"] | None = option("where the file does not say", None)
    patient_orientation: str | None = option("which way a PA or lateral image hangs: L,F, R,F ...", None)

    @property
    def stated(self) -> RadiographOptions:
        """The reader's options of these flags."""
        from hierbmd.geometry import Side, View
        from hierbmd.io.radiograph import RadiographOptions

        return RadiographOptions(
            polarity=self.polarity,
            response=self.response,
            pixel_mm=self.pixel_mm,
            sdd_mm=self.sdd_mm,
            source_isocentre_mm=self.source_isocenter_mm,
            view=None if self.view is None else View(self.view),
            side=None if self.side is None else Side(self.side),
            patient_orientation=self.patient_orientation,
        )
