"""The card beside a model's weights: what the model is, what it takes, what it gives, and what it learned from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.density import RESEARCH_USE_ONLY, Material
from hierbmd.data.halves import CANONICAL_SIDE, HalfFrame
from hierbmd.errors import WrongWeights
from hierbmd.geometry import View

if TYPE_CHECKING:
    from hierbmd.data.pairs import DatasetCard

CARD_VERSION = 1
"""The version of the card and of the networks' layout; other versions are refused."""

Stage = Literal["pretrain", "decompose", "synthesize", "regress"]
BASELINE: Literal["baseline"] = "baseline"
"""The `stage` of a card whose model is no stage of the hierarchy but a system compared with it."""


@dataclass(frozen=True)
class IntensityNormalisation:
    """Makes radiographs of any exposure alike: 0 at the low percentile of the pixels, 1 at the high, clipped beyond.

    `clip` is how far past 0 and 1 values may go. A linear change of the pixels' scale changes nothing.
    """

    low_percentile: float = 2.0
    high_percentile: float = 99.5
    clip: float = 0.5

    def apply(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The normalised image, (H, W) float32 without a unit; a flat image becomes zero."""
        low, high = np.percentile(pixels, [self.low_percentile, self.high_percentile])
        if high <= low:
            return np.zeros_like(pixels, dtype=np.float32)
        return np.clip((pixels - low) / (high - low), -self.clip, 1.0 + self.clip).astype(np.float32)


@dataclass(frozen=True)
class Readout:
    """BMD = slope * raw value + intercept, g/cm2, fitted on training patients; with the spread seen on validation.

    The raw value is the mean over `readings` of the image, of which all but the first are of moved copies.

    `interval_g_cm2` is the half-width of the split-conformal interval, None where no validation patient was there, and
    `interval_level` the coverage that it holds for a new patient like the validation patients.
    """

    slope: float = 1.0
    intercept: float = 0.0
    interval_g_cm2: float | None = None
    interval_level: float | None = None
    readings: int = 1

    def interval(self, value_g_cm2: float) -> tuple[float, float] | None:
        """(low, high) about a value in g/cm2, never below zero; None when it is not known."""
        if self.interval_g_cm2 is None:
            return None
        return max(value_g_cm2 - self.interval_g_cm2, 0.0), value_g_cm2 + self.interval_g_cm2


@dataclass(frozen=True)
class Novelty:
    """An image whose distance is above `limit` is unlike the training images; `level` of those like them are below."""

    limit: float
    level: float


@dataclass(frozen=True)
class ModelCard:
    """What weights are of: stage, anatomy, units, normalisation, frame and geometry, network, training data, hash.

    `structures` names the density channels in order; `network` says how to build the network (plain data); `sdd_mm`,
    `source_isocentre_mm` and `view` are those of the training radiographs, None where they differed. `training` is for
    readers: data hash, patients, seed, versions. `members` are the cards of the models that an ensemble averages, as
    JSON; its weights hold theirs. `baseline` names the system where `stage` is "baseline", and `network` is then its
    own. `sha256` is that of weights.safetensors.
    """

    stage: Stage | Literal["baseline"]
    structures: tuple[str, ...]
    network: Mapping[str, Any]
    frame: HalfFrame
    material: Material
    region: str
    normalisation: IntensityNormalisation = IntensityNormalisation()
    readout: Readout | None = None
    novelty: Novelty | None = None
    members: tuple[Mapping[str, Any], ...] = ()
    sdd_mm: float | None = None
    source_isocentre_mm: float | None = None
    view: View | None = None
    simulated: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)
    baseline: str = ""
    sha256: str = ""
    version: int = CARD_VERSION

    @property
    def name(self) -> str:
        """Stage or baseline, region and the first digits of the hash: enough to tell models apart in a result."""
        return f"{self.baseline or self.stage} {self.region} {self.sha256[:12]}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for card.json."""
        value = dataclasses.asdict(self)
        value["view"] = None if self.view is None else self.view.value
        value["material"] = self.material.value
        value["frame"] = {
            "size_px": list(self.frame.size_px),
            "pixel_mm": list(self.frame.pixel_mm),
            "canonical_side": CANONICAL_SIDE.value,
        }
        units = {"radiograph": "normalised", "density": "g/cm2", "bmd": "g/cm2"}
        return {**value, "units": units, "research_use_only": RESEARCH_USE_ONLY}

    @classmethod
    def from_json(cls, value: Any, *, where: object = "") -> ModelCard:
        """Read a card; WrongWeights when it is of another version or lacks something."""
        try:
            if value["version"] != CARD_VERSION:
                raise WrongWeights(
                    f"weights of version {value['version']}, not {CARD_VERSION}",
                    where=where,
                    mend="use the hierbmd release that wrote them, or train again",
                )
            return cls(**_fields_from(value))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WrongWeights(f"not a model card ({error!r})", where=where, mend="export the run again") from None


_OF_DATA = ("frame", "material", "region", "sdd_mm", "source_isocentre_mm", "view", "simulated")


def of_data(source: DatasetCard | ModelCard) -> dict[str, Any]:
    """What a model's card takes over from its training data, or from the card of a model trained on the same."""
    return {name: getattr(source, name) for name in _OF_DATA}


def require_matching(card: ModelCard, *, where: object = "", **wanted: object) -> None:
    """Raise WrongWeights, with both sides shown, when the card's named fields are not the wanted ones.

    A wanted tuple of stages accepts any of them.
    """
    wrong = {
        name: value
        for name, value in wanted.items()
        if getattr(card, name) not in (value if name == "stage" and isinstance(value, tuple) else (value,))
    }
    if wrong:
        found = ", ".join(f"{name} {_shown(getattr(card, name))}" for name in wrong)
        asked = ", ".join(f"{name} {_shown(value)}" for name, value in wrong.items())
        raise WrongWeights(f"the weights are of {found}; wanted {asked}", where=where, mend="give a matching model")


def _shown(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _fields_from(value: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name for f in dataclasses.fields(ModelCard)}
    fields = {name: v for name, v in value.items() if name in known}
    (width, height), (du, dv) = value["frame"]["size_px"], value["frame"]["pixel_mm"]
    readout, novelty = value["readout"], value.get("novelty")
    fields |= {
        "structures": tuple(value["structures"]),
        "frame": HalfFrame((int(width), int(height)), (float(du), float(dv))),
        "material": Material(value["material"]),
        "normalisation": IntensityNormalisation(**value["normalisation"]),
        "readout": None if readout is None else Readout(**readout),
        "novelty": None if novelty is None else Novelty(**novelty),
        "members": tuple(value.get("members", ())),
        "view": None if value["view"] is None else View(value["view"]),
    }
    if fields["stage"] not in (*get_args(Stage), BASELINE) or not math.isfinite(width * height * du * dv):
        raise ValueError(f"stage {fields['stage']}")
    return fields
